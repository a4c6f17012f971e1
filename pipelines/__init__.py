"""What each stage does: plain functions from configuration and paths to tables, shards, checkpoints and figures."""
