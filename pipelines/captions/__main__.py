import sys

from pipelines.stage import command

command("pipelines.captions.estimate" if sys.argv[1:] else "pipelines.captions.stage")
