from pipelines.regions.stage import main
from pipelines.stage import command

command(main)
