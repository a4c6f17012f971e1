"""MedKLIP (Wu et al. 2023): entities are queries to the image: whether they are in it, and where."""
