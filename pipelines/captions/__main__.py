from pipelines.stage import command

command("pipelines.captions.stage")
