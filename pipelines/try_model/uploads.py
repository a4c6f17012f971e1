"""An uploaded file -> an image, by the readers of `pipelines.images`; what cannot be used is one line."""

from PIL import Image

from pipelines.errors import Rejected, UserError, text_fault
from pipelines.images import decode, frame_count_of, is_blank
from pipelines.sources import MAX_PIXELS

MAX_MEGABYTES = 200
MAX_SENTENCE, MAX_TEXTS = 500, 200


def slices(data: bytes) -> int:
    """Number of slices or frames of a file; 1 for ordinary images.

    Raises:
        UserError: It is no image that can be read.
    """
    if not data:
        raise UserError("This file is empty. Choose another one.")
    try:
        return frame_count_of(data)
    except Rejected as error:
        raise UserError(_line(error)) from None


def open_upload(data: bytes, number: int | None) -> Image.Image:
    """The image: mode 'L' or 'RGB'.

    Args:
        data: Bytes of the file.
        number: The slice, from 0; None where there is one alone.

    Raises:
        UserError: It cannot be used; one line that says why.
    """
    try:
        image = decode(data, number, MAX_PIXELS)
    except Rejected as error:
        raise UserError(_line(error)) from None
    if is_blank(image):
        raise UserError("This image is blank: all of its pixels have one value, or next to it. Choose another one.")
    return image


def check_sentence(sentence: str) -> str:
    """A sentence without space around it.

    Raises:
        UserError: It is empty or too long, or no text.
    """
    text = sentence.strip()
    if not text:
        raise UserError("The sentence is empty: write what to look for, such as: opacity in the left lower lung")
    if len(text) > MAX_SENTENCE:
        raise UserError(f"The sentence has {len(text):,} characters: write at most {MAX_SENTENCE}.")
    if fault := text_fault(text):
        raise UserError(f"The sentence cannot be used ({fault}): write it again.")
    return text


def own_texts(lines: str) -> list[str]:
    """The texts that a person typed, one a line, each once; empty: none were typed.

    Raises:
        UserError: There are too many, or one is too long or no text.
    """
    texts = list(dict.fromkeys(check_sentence(line) for line in lines.splitlines() if line.strip()))
    if len(texts) > MAX_TEXTS:
        raise UserError(f"{len(texts):,} texts are too many: write at most {MAX_TEXTS}, one a line.")
    return texts


def _line(error: Rejected) -> str:
    return f"This file cannot be used: {error.detail or error.reason} ({error.reason}). Choose another one."
