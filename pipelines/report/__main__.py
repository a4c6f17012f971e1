from pipelines.report.stage import main
from pipelines.stage import command

command(main)
