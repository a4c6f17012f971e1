"""The libraries that decode, hash, pack and encode pixels: their versions are part of what is kept from run to run."""

from importlib import metadata

# A test compares them with what `ingest` and the image shards import.
LIBRARIES = (
    *("pillow", "tifffile", "pydicom", "python-gdcm", "pylibjpeg", "pylibjpeg-openjpeg", "nibabel", "pynrrd"),
    *("numpy", "scipy", "ImageHash", "pycocotools"),
)


def library_versions() -> list[str]:
    """Of each of `LIBRARIES`."""
    return [f"{name} {metadata.version(name)}" for name in LIBRARIES]
