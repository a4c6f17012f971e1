"""nnU-Net's planned two-dimensional network, a baseline that sees the image alone; it needs MONAI."""
