"""What the task `segmentation` is made of: texts to ask with, masks, their scores, pictures and cost."""
