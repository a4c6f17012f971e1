"""A recipe: all but the raw data that the shards of a study are rebuilt from, with the same bytes and no model."""
