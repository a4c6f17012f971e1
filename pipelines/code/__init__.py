"""The code that decides each stage's result, found through its imports and written down as fingerprints."""
