"""SigLIP (Zhai et al. 2023): every image with every text is a yes or no of its own, instead of a softmax."""
