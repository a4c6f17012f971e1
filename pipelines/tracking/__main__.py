from pipelines.stage import command

command("pipelines.tracking.sync")
