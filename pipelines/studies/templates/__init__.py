"""Templates of the pages of studies."""
