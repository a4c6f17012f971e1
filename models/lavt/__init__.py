"""LAVT (Yang et al. 2022, arXiv:2112.02244): a Swin transformer that reads the words after each of its stages."""
