from pipelines.stage import command

command("pipelines.audit.commands")
