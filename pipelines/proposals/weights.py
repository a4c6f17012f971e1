"""What identifies weights in a folder; without torch, for those who only compare them."""

from pathlib import Path

from pipelines.files import sha256_files

# Files that decide what a model answers.
_SUFFIXES = (".json", ".safetensors", ".txt")


def weights_sha256(folder: Path) -> str:
    """One digest over these files of a folder."""
    return sha256_files(folder, [file for file in folder.iterdir() if file.suffix in _SUFFIXES])
