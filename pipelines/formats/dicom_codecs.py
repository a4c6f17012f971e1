"""Which decoder reads which compressed DICOM frames, and the process in which native ones run."""

import io
import os
import struct
import subprocess
import sys
import threading

import numpy as np
import pydicom
from pydicom.pixels import pixel_array
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from pipelines.errors import Rejected, item_boundary
from pipelines.formats import dicom_decoder

# pydicom's plug-in for each transfer syntax (PS3.5 A.4), whatever other plug-ins are installed.
PLUGINS = {
    RLELossless: "pydicom",
    JPEGBaseline8Bit: "pillow",
    JPEGExtended12Bit: "gdcm",
    JPEGLossless: "gdcm",
    JPEGLosslessSV1: "gdcm",
    JPEGLSLossless: "gdcm",
    JPEGLSNearLossless: "gdcm",
    JPEG2000Lossless: "pylibjpeg",
    JPEG2000: "pylibjpeg",
    HTJ2KLossless: "pylibjpeg",
    HTJ2KLosslessRPCL: "pylibjpeg",
    HTJ2K: "pylibjpeg",
}
_IN_A_PROCESS = ("gdcm", "pylibjpeg")
# OpenJPEG needs about 20 s for 100 million pixels.
_SECONDS = 120


def plugin(syntax: UID) -> str:
    """The declared decoder of a transfer syntax.

    Raises:
        Rejected: unsupported_type where none is declared, as for video.
    """
    if syntax not in PLUGINS:
        raise Rejected("unsupported_type", f"no decoder for {syntax.name}")
    return PLUGINS[syntax]


def decoded(frame: pydicom.Dataset) -> np.ndarray:
    """Decode a compressed frame.

    Args:
        frame: A DICOM file of one frame, with its file meta information.

    Returns:
        Values of the pixels, (height, width) or (height, width, 3); YBR as RGB (PS3.3 C.7.6.3.1.2).

    Raises:
        Rejected: unsupported_type without a declared decoder; corrupt where a decoder in a process ends by itself or
            needs more than two minutes.
        Exception: Whatever a decoder says of the bytes.
    """
    name = plugin(frame.file_meta.TransferSyntaxUID)
    if name not in _IN_A_PROCESS:
        return pixel_array(frame, index=0, decoding_plugin=name)
    stream = io.BytesIO()
    frame.save_as(stream, enforce_file_format=True)
    return _process.ask(name.encode() + b"\n" + stream.getvalue())


class _Process:
    """`pipelines.formats.dicom_decoder`, started when it is first needed and after each end."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: subprocess.Popen[bytes] | None = None

    def ask(self, request: bytes) -> np.ndarray:
        with self._lock:
            if self._running is None or self._running.poll() is not None:
                # -P: the folder of the program holds no packages.
                command = [sys.executable, "-P", dicom_decoder.__file__]
                self._running = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
                )
            process = self._running
            too_long = threading.Timer(_SECONDS, process.kill)
            too_long.start()
            try:
                outcome, content = _answer(process, request)
            except BaseException:  # what is left in the pipe would be the answer to the next request
                process.kill()
                process.wait()
                raise
            finally:
                too_long.cancel()
        if outcome == dicom_decoder.REFUSED:
            raise ValueError(content.decode())
        return np.load(io.BytesIO(content), allow_pickle=False)


def _answer(process: subprocess.Popen[bytes], request: bytes) -> tuple[bytes, bytes]:
    assert process.stdin is not None
    assert process.stdout is not None
    with item_boundary("corrupt", "the decoder ended, or needed too long"):
        process.stdin.write(struct.pack("<Q", len(request)) + request)
        process.stdin.flush()
        outcome, length = process.stdout.read(1), struct.unpack("<Q", process.stdout.read(8))[0]
        content = process.stdout.read(length)
        if len(content) < length:
            raise EOFError("no answer")
    return outcome, content


_process = _Process()


def _forget() -> None:
    """A forked process starts a decoder of its own: two would read each other's answers."""
    global _process
    _process = _Process()


os.register_at_fork(after_in_child=_forget)
