"""Vision-language methods in torch: encoders, losses, the training loop and one folder a method."""
