from pipelines.split.stage import main
from pipelines.stage import command

command(main)
