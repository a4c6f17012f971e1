"""U-Net, the baseline that sees the image alone."""
