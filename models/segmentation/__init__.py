"""What the methods that segment share: their base, batches, losses and blocks."""
