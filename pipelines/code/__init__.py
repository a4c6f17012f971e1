"""The code that decides each stage's result, found through its imports and written down as fingerprints."""

from pathlib import Path

# The folder that holds the packages; a study runs in a copy of it (`make workspace`).
PROJECT = Path(__file__).resolve().parents[2]
