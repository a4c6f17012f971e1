"""What a message holds that comes from data: an image as a data URL, and text that can be no instruction."""

import base64
import re

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def as_data(text: str) -> str:
    """Text from outside, unable to close a fence or to spell a control token such as <|im_end|>."""
    return _CONTROL.sub(" ", text).replace("<", "‹").replace(">", "›").strip()


def jpeg_url(data: bytes) -> str:
    """The bytes of a JPEG file as a data URL."""
    return "data:image/jpeg;base64," + base64.b64encode(data).decode("ascii")
