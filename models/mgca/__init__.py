"""MGCA (Wang et al. 2022): alignment of images and reports as wholes, of patches and words, and of prototypes."""
