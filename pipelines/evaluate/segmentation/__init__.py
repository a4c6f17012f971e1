"""The parts of the task `segmentation`: the texts of each setting, the predicted masks, laterality, figure and cost."""
