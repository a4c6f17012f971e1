from pipelines.stage import command

command("pipelines.phantom.stage")
