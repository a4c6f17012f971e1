"""The process that decodes compressed frames of DICOM files with code that damaged bytes can crash.

`pipelines.formats.dicom_codecs` starts it as a program and asks it. Of 2,720 frames of JPEG-LS and JPEG Lossless with
bytes changed or cut off, 30 ended GDCM 3.2.6, and the process with it, by an abort or a segmentation fault; of 1,549
of JPEG 2000 none ended OpenJPEG, whose headers may claim any amount of memory.

It imports nothing of the project: a crash, or a header that claims too much memory, ends nothing but itself.
"""

import io
import os
import resource
import struct
import sys
import warnings

# A frame of 100 million pixels in three colours of 16 bits has 600 MB, in OpenJPEG's samples of 32 bits 1.2 GB.
_MEMORY = 8 * 2**30
DECODED, REFUSED = b"+", b"-"


def main() -> None:
    """Answer requests from standard input on standard output until the input ends.

    A request is its length (8 bytes, little endian), the name of a plug-in in a line, and a DICOM file of one frame. An
    answer is `DECODED` or `REFUSED`, a length, and an array in NumPy's format or the reason in words.
    """
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())  # the libraries print to both
    os.dup2(nowhere, sys.stderr.fileno())
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("ignore")
    while length := sys.stdin.buffer.read(8):
        outcome, content = _decoded(sys.stdin.buffer.read(struct.unpack("<Q", length)[0]))
        answers.write(outcome + struct.pack("<Q", len(content)) + content)
        answers.flush()


def _decoded(request: bytes) -> tuple[bytes, bytes]:
    import numpy as np
    import pydicom
    from pydicom.pixels import pixel_array
    from pydicom.uid import JPEGExtended12Bit, JPEGLossless

    plugin, file = request.split(b"\n", 1)
    try:
        dataset = pydicom.dcmread(io.BytesIO(file))
        if plugin == b"gdcm" and dataset.file_meta.TransferSyntaxUID == JPEGExtended12Bit:
            # pydicom refuses 12 bits of this syntax for the sake of older versions of GDCM, which chooses its decoder
            # by the frame's own header.
            dataset.file_meta.TransferSyntaxUID = JPEGLossless
        values = pixel_array(dataset, index=0, decoding_plugin=plugin.decode())
    except Exception as error:  # noqa: BLE001
        text = " ".join(str(error).split())[:500]
        # What pydicom finds in place of GDCM's pixels where it decodes none.
        text = text.replace("'NoneType' object has no attribute 'encode'", "the frame cannot be decoded")
        return REFUSED, text.encode("utf-8", "replace")
    array = io.BytesIO()
    np.save(array, values, allow_pickle=False)
    return DECODED, array.getvalue()


if __name__ == "__main__":
    main()
