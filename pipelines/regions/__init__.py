"""The stage `regions`: which proposals become regions of the dataset, and with what probability."""
