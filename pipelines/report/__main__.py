from pipelines.stage import command

command("pipelines.report.stage")
