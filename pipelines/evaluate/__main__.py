from pipelines.evaluate.stage import main
from pipelines.stage import command

command(main)
