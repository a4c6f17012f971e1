from pipelines.stage import command

command("pipelines.split.stage")
