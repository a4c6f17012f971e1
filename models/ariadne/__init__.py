"""Ariadne's Thread (Zhong et al. 2023, arXiv:2307.03942): a decoder that reads the text at every size."""
