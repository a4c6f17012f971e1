"""What the task `zero_shot` needs beside its scores: sets of prompts, classes, and classes that exclude each other."""
