from pipelines.stage import command

command("pipelines.real_models.run")
