from pipelines.stage import command

command("pipelines.code.stage")
