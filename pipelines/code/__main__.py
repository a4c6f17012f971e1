from pipelines.code.stage import main
from pipelines.stage import command

command(main)
