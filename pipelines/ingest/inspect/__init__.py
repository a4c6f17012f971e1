"""A look at a source before anything runs: `python -m pipelines.ingest.inspect SOURCE`."""
