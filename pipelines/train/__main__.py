from pipelines.stage import command

command("pipelines.train.stage")
