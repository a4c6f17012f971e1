"""ConVIRT (Zhang et al. 2020): CLIP's contrast with non-linear projections and unequal weights of its directions."""
