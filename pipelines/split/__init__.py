"""The stage `split`: who is in training, validation and test, and the gate against leaks."""
