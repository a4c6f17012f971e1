from pipelines.stage import command

command("pipelines.ingest.inspect.look")
