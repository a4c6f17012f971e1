from pipelines.ingest.stage import main
from pipelines.stage import command

command(main)
