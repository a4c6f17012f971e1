from pipelines.stage import command
from pipelines.train.stage import main

command(main)
