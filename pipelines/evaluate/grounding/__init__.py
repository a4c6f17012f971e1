"""Parts of the task `grounding`."""
