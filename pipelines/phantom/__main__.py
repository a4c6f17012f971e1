from pipelines.phantom.stage import main
from pipelines.stage import command

command(main)
