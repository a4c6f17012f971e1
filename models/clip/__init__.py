"""CLIP: one contrastive loss between whole images and their reports. Row B of paper 001's ablation."""
