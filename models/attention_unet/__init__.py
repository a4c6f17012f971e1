"""Attention U-Net, a baseline that sees the image alone; it needs MONAI."""
