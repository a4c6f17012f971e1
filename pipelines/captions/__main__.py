from pipelines.captions.stage import main
from pipelines.stage import command

command(main)
