"""RecLMIS (Huang et al., paper 003): image and text interact once, and reconstruct each other in training alone."""
