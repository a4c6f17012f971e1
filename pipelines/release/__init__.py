"""A data set that leaves the house, in the formats that others load; called by flows/release.py, no stage."""
