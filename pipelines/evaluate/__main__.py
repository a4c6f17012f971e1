from pipelines.stage import command

command("pipelines.evaluate.stage")
