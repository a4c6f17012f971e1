"""Uploaded files and typed sentences: what can be used, and one line for what cannot."""

import io

import nibabel
import numpy as np
import pytest
from PIL import Image

from pipelines.errors import UserError
from pipelines.try_model.uploads import MAX_SENTENCE, MAX_TEXTS, check_sentence, open_upload, own_texts, slices
from tests.pipelines.test_images import dicom, encoded

NOISE = np.random.default_rng(0).integers(0, 256, (24, 40), dtype=np.uint8)


def volume() -> bytes:
    return nibabel.Nifti1Image(np.stack([NOISE] * 3, axis=-1).astype(np.float32), np.eye(4)).to_bytes()


@pytest.mark.parametrize(
    ("data", "count"),
    [
        (encoded(NOISE, "PNG"), 1),
        (encoded(NOISE, "JPEG"), 1),
        (encoded(NOISE, "TIFF"), 1),
        (dicom(NOISE.astype(np.uint16)), 1),
        (dicom(np.stack([NOISE, 255 - NOISE])), 2),
        (volume(), 3),
    ],
    ids=["png", "jpeg", "tiff", "dicom", "frames", "nifti"],
)
def test_every_kind_of_file_is_read(data: bytes, count: int) -> None:
    assert slices(data) == count
    image = open_upload(data, None if count == 1 else count - 1)
    assert sorted(image.size) == [24, 40]


def huge() -> bytes:
    """The header of a TIFF of 300 million pixels, with one strip of zeros."""
    stream = io.BytesIO()
    Image.new("L", (20, 15)).save(stream, "TIFF")
    data = bytearray(stream.getvalue())
    for tag, value in ((256, 20_000), (257, 15_000)):
        at = data.index(tag.to_bytes(2, "little") + (4).to_bytes(2, "little"))
        data[at + 8 : at + 12] = value.to_bytes(4, "little")
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b"", "This file is empty"),
        (
            b"this is no image",
            r"not PNG, JPEG, .* DICOM, NIfTI, NRRD or MetaImage \(unsupported_type\)",
        ),
        (encoded(NOISE, "PNG")[:300], r"\(truncated\)"),
        (encoded(np.full((24, 40), 7, np.uint8), "PNG"), "This image is blank"),
        (huge(), r"20000 x 15000.*\(too_many_pixels\)"),
    ],
    ids=["empty", "text", "cut off", "blank", "too large"],
)
def test_what_cannot_be_used_is_one_line(data: bytes, line: str) -> None:
    with pytest.raises(UserError, match=line) as told:
        open_upload(data, None if slices(data) == 1 else 0)
    assert "\n" not in str(told.value)
    assert str(told.value).endswith("Choose another one.")


def test_a_sentence_loses_the_space_around_it() -> None:
    assert check_sentence("  a nodule \n") == "a nodule"


@pytest.mark.parametrize(
    ("sentence", "line"),
    [
        ("", "The sentence is empty"),
        (" \t\n", "The sentence is empty"),
        ("a" * (MAX_SENTENCE + 1), "501 characters: write at most 500"),
        ("a\0b", "NUL in the text"),
        ("a\ud800", "half a surrogate pair"),
    ],
)
def test_a_sentence_that_cannot_be_used_is_one_line(sentence: str, line: str) -> None:
    with pytest.raises(UserError, match=line):
        check_sentence(sentence)


def test_own_texts_are_lines_each_once() -> None:
    assert own_texts(" a nodule\n\nno nodule\na nodule \n") == ["a nodule", "no nodule"]
    assert own_texts("\n \n") == []
    with pytest.raises(UserError, match="201 texts are too many: write at most 200"):
        own_texts("\n".join(map(str, range(MAX_TEXTS + 1))))
