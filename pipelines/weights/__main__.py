from pipelines.stage import command

command("pipelines.weights.stage")
