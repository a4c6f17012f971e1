"""Swin UNETR, a baseline that sees the image alone; it needs MONAI."""
