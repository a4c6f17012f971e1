"""The parts of the task `probe`: what each source's heads tell apart, draws of shots, heads, scores and figure."""
