"""LViT: a U-Net beside a U-shaped transformer that reads the text."""
