from pipelines.shards.stage import main
from pipelines.stage import command

command(main)
