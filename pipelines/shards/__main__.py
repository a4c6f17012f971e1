from pipelines.stage import command

command("pipelines.shards.stage")
