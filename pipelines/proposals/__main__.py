from pipelines.stage import command

command("pipelines.proposals.stage")
