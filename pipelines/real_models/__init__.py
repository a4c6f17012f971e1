"""Whether the published models of a study can run on this host, and whether they answer as a right set-up does."""
