"""TransUNet, a baseline that sees the image alone: a transformer between a ResNet and a convolutional decoder."""
