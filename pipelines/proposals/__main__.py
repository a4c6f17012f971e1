from pipelines.proposals.stage import main
from pipelines.stage import command

command(main)
