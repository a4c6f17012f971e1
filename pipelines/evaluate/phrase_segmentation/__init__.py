"""Parts of the task `phrase_segmentation`."""
