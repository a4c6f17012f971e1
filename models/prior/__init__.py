"""PRIOR (Cheng et al. 2023): alignment with sentences and patches, a memory of sentence prototypes, reconstruction."""
