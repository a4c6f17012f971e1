"""Parts of the task `detection`."""
