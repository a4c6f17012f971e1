from pipelines.stage import command

command("pipelines.regions.stage")
