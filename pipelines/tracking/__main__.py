from pipelines.stage import command
from pipelines.tracking.sync import main

command(main)
