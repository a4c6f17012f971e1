"""GLoRIA (Huang et al. 2021): global contrast, and a local one in which each word attends to the patches."""
