"""`open_image`: one way to every image, whatever holds it.

PNG, JPEG, BMP, GIF, WebP and JPEG 2000 through Pillow, TIFF through Pillow and tifffile, DICOM through pydicom, slices
of volumes (NIfTI, NRRD, MetaImage), each from a folder or from inside an archive (`pipelines.archives`); a file of
several slices is read once (`pipelines.opened`). The kind is told by the first bytes, never by the name. What comes out
is 8 bit, in Pillow's mode 'L' or 'RGB':

- 8-bit values stay as stored; colour profiles (ICC) are ignored. Transparent pixels are laid on white. Colour of 16
  bits keeps its upper 8.
- Grey of more than 8 bits goes linearly from its 0.5th percentile (0) to its 99.5th (255), per image.
- DICOM (also without its preamble): in the order of PS3.4 N.2, from the frame's functional group where it has one.
  Modality LUT or rescale; then the first valid VOI LUT, or else window, whose whole output range becomes 0 to 255;
  without one, grey of 8 bits stays and the percentile rule above holds for more. MONOCHROME1 and INVERSE are turned,
  so that dense is always bright. Padding counts in no percentile and is black. A window or table that makes one level
  of values that differ is `flat_picture`: it is wrong, or the frame holds nothing of what it is meant for. Palettes
  and YBR become RGB. Overlays are not drawn; ICC profiles and supplemental palettes are not applied. Which decoder
  reads which transfer syntax is a table (`pipelines.formats.dicom_codecs`), whatever other plug-ins are installed.
- Volumes (NIfTI, NRRD, MetaImage, DICOM series): `frame` counts slices along an axis, axial ones from the feet, coronal
  ones from the back, sagittal ones from the patient's left; shown as radiologists do, the front or the head at the top,
  the patient's left (in sagittal slices the back) on the right; in square pixels of the smaller spacing where the
  spacings differ by more than 1 %, linearly between voxels; percentile rule per slice, and of a DICOM series the rules
  above, as its middle slice asks. Values of colour stay as stored.
- Pages of a TIFF, without overviews and transparency masks, and frames of a GIF or WebP are pictures by themselves and
  no slices: the first is the image where no frame is named. Grey TIFFs of MinIsWhite are inverted.
- Pixels are turned by their EXIF orientation (`models.orientation`), as viewers do; DICOM and volumes have none.

Reason codes of `Rejected`: those of `pipelines.archives`, and unsupported_type, corrupt, truncated, too_many_pixels,
missing_frame, flat_picture, missing_volume (a file of several volumes, and none is named), file_too_large, and of a
DICOM series uneven_slices and unplaced (`pipelines.formats.dicom_volume`). Of masks that are volumes also unplaced (the
mask or the picture does not say where it lies) and no_overlap.
"""

import hashlib
import warnings
from collections.abc import Callable, Collection
from typing import Any, NamedTuple, TypeVar

import imagehash
import numpy as np
from PIL import Image

from models.orientation import AS_STORED
from pipelines.cuts import Axis, Cut
from pipelines.errors import Rejected, item_boundary
from pipelines.formats import raster
from pipelines.formats.dicom import dicom_frames, dicom_pixels, states_burned_in
from pipelines.formats.dicom_header import HeaderIds, dicom_ids, is_dicom
from pipelines.formats.raster import RasterPicture
from pipelines.opened import OpenedFile, open_file, opened
from pipelines.sources import MAX_PIXELS
from pipelines.storage import Root

T = TypeVar("T")

# (x0, y0, x1, y1) in pixels of an image, x1 and y1 exclusive.
PixelBox = tuple[int, int, int, int]

# Columns and rows of a thumbnail.
THUMBNAIL = (32, 32)

# A picture of one value, or one that rounding and JPEG leave beside it, shows nothing.
_BLANK_RANGE = 2
# None of 10,021 images of four public sets is near-uniform (the nearest known has 75 % of its thumbnail that near to
# one value); end slices of a volume and pages that say "no image" are.
_NEAR, _NEAR_UNIFORM = 4, 0.9


def open_image(
    root: Root, path: str, member: str | None = None, frame: int | None = None, max_pixels: int = MAX_PIXELS
) -> Image.Image:
    """Read an image.

    Args:
        root: The source's folder, or the archive that is the source.
        path: File relative to the root; '' where the root is the archive.
        member: Name inside the archive that `path` names.
        frame: Slice, page or frame from 0; of a volume it may be None only where there is just one.
        max_pixels: Largest width times height, checked before anything is decoded.

    Returns:
        8-bit image of mode 'L' or 'RGB'.

    Raises:
        Rejected: The image cannot be used; the module's docstring lists the reason codes.
    """
    return picture(open_file(root, path, member), Cut(frame=frame), max_pixels)


class StoredMask(NamedTuple):
    """The grey values of a mask's file.

    Attributes:
        values: Integers, (height, width). 1-bit masks give 0 and 255, palette images the palette's indices, but GIF
            and BMP with a palette of greys these greys.
        lossy: JPEG, lossy WebP or JPEG 2000, which do not keep grey values apart.
    """

    values: np.ndarray
    lossy: bool


def decode_mask(data: bytes, frame: int | None = None, max_pixels: int = MAX_PIXELS) -> StoredMask:
    """`mask_of` a picture without a place, for bytes that are already read."""
    return mask_of(opened(data), Cut(frame=frame), None, max_pixels)


def mask_of(
    file: OpenedFile,
    cut: Cut,
    image: OpenedFile | None,
    max_pixels: int = MAX_PIXELS,
    orientation: int = AS_STORED,
) -> StoredMask:
    """Read a mask or label map with its grey values as stored; `pipelines.ingest.masks` says what they mean.

    A mask that is a volume is sampled at the picture's pixels, wherever its own voxels lie: each gets the value of the
    nearest voxel, and 0 outside of the mask.

    Args:
        file: The mask's file.
        cut: Of the picture: its frame or volume is the mask's, where that has more than one.
        image: The picture's file; None where there is none.
        max_pixels: As for `open_image`.
        orientation: By which a picture is turned that has no EXIF orientation of its own, or says "as stored".

    Raises:
        Rejected: As `open_image`; unsupported_type for a mask in colour, with fractions or beyond 32 bits.
    """
    return _guard(_stored_mask, file, cut, image, max_pixels, orientation)


def decode(data: bytes, frame: int | None = None, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """`open_image` for bytes that are already read."""
    return picture(opened(data), Cut(frame=frame), max_pixels)


def picture(file: OpenedFile, cut: Cut, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """`open_image` for a file that is already opened."""
    return shown_picture(file, cut, max_pixels).image


def shown_picture(file: OpenedFile, cut: Cut, max_pixels: int = MAX_PIXELS) -> RasterPicture:
    """`picture`, and by which EXIF orientation it was turned and how many pages beside it nobody named."""
    return _guard(_decoded, file, cut, max_pixels)


def frame_count(root: Root, path: str, member: str | None = None) -> int:
    """Number of slices (of a volume: axial ones), pages or frames; 1 for ordinary images."""
    return frames(open_file(root, path, member))


def frame_count_of(data: bytes) -> int:
    """`frame_count` for bytes that are already read."""
    return frames(opened(data))


def frames(file: OpenedFile, axis: Axis | None = None, *, pages: bool = True) -> int:
    """`frame_count` for a file that is already opened.

    Args:
        file: The file.
        axis: Of a volume: along which slices are counted; None: axial.
        pages: Whether pages of a TIFF and frames of a GIF or WebP count; else these files have one picture.
    """
    # A DICOM file may begin as a TIFF does, for programs that know no other (PS3.10 7.1); its frames are frames.
    if file.volume is None and not pages and raster.has_pages(file.data) and not is_dicom(file.data):
        return 1
    return _guard(_frame_count, file, axis)


def header_ids(data: bytes) -> HeaderIds:
    """What a file's header says of patient and study; only DICOM says anything.

    Raises:
        Rejected: The header cannot be read.
    """
    return _guard(dicom_ids, data) if is_dicom(data) else HeaderIds()


def states_text(data: bytes) -> bool:
    """Whether a file's header says that text is burned into its pixels; only DICOM says anything.

    Raises:
        Rejected: The header cannot be read.
    """
    return is_dicom(data) and _guard(states_burned_in, data)


def image_identity(file: OpenedFile, member: str | None, cut: Cut) -> str:
    """`image_id`: first 16 hex digits of SHA-256 over the bytes, the member's name and the frame.

    An axis other than the axial one, and the number of a volume, follow where they are named.
    """
    digest = file.digest.copy()
    parts = [member or "", *("" if part is None else str(part) for part in cut.key)]
    digest.update("".join(f"\0{part}" for part in parts).encode())
    return digest.hexdigest()[:16]


def pixel_sha256(image: Image.Image) -> str:
    """SHA-256 over size and RGB values, so that a grey image stored in colour equals the grey one."""
    digest = hashlib.sha256(f"{image.width}x{image.height}\0".encode())
    digest.update(image.convert("RGB").tobytes())
    return digest.hexdigest()


def painted_over(image: Image.Image, boxes: Collection[PixelBox]) -> Image.Image:
    """The image with black in place of some boxes.

    Args:
        image: It is left as it is.
        boxes: What reaches over an edge is clipped.
    """
    if not boxes:
        return image
    painted = image.copy()
    for box in boxes:
        painted.paste(0, box)
    return painted


def perceptual_hash(image: Image.Image) -> str:
    """256-bit DCT hash (ImageHash's phash, 16 x 16), 64 hex digits."""
    return str(imagehash.phash(image, hash_size=16))


def thumbnail(image: Image.Image) -> bytes:
    """1,024 grey bytes: the image averaged down to 32 x 32 (`THUMBNAIL`), row by row."""
    return image.convert("L").resize(THUMBNAIL, Image.Resampling.BOX).tobytes()


def is_blank(image: Image.Image) -> bool:
    """Whether all pixels have one value or next to it: nothing can be learned from such an image."""
    bands = np.array(image.histogram()).reshape(-1, 256)
    levels = [np.flatnonzero(counts) for counts in bands]
    return all(found[-1] - found[0] <= _BLANK_RANGE for found in levels)


def is_near_uniform(thumbnail: bytes) -> bool:
    """Whether an image holds too little to tell who is in it: empty slices, end slices, placeholders.

    Pixels of such an image join no two rows, for those of any other patient may be the same.

    Args:
        thumbnail: What `thumbnail` returns.

    Returns:
        Whether 9 of 10 values lie within 4 grey levels of one value.
    """
    counts = np.bincount(np.frombuffer(thumbnail, dtype=np.uint8), minlength=256)
    near = np.convolve(counts, np.ones(2 * _NEAR + 1, dtype=np.int64), mode="same")
    return bool(near.max() >= _NEAR_UNIFORM * len(thumbnail))


def _guard(read: Callable[..., T], *arguments: Any) -> T:
    """Call a decoder; whatever it trips over in the bytes becomes `Rejected`."""
    with item_boundary(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Libraries warn about odd headers; what matters raises.
        try:
            return read(*arguments)
        except Image.DecompressionBombError as error:
            raise Rejected("too_many_pixels", str(error)) from None
        except Image.UnidentifiedImageError:
            raise Rejected("corrupt", "the header cannot be read") from None


def _decoded(file: OpenedFile, cut: Cut, max_pixels: int) -> RasterPicture:
    if file.volume is not None:
        values = file.volume.picture(cut, max_pixels)
        return RasterPicture(Image.fromarray(values if values.ndim == 3 else file.volume.grey(values)))
    _check_no_volume(cut)
    if is_dicom(file.data):
        return RasterPicture(Image.fromarray(dicom_pixels(file.data, cut.frame, max_pixels)))
    return raster.picture(file.data, cut.frame, max_pixels)


def _check_no_volume(cut: Cut) -> None:
    """Refuse what only a volume has."""
    if cut.volume:
        raise Rejected("missing_volume", f"volume {cut.volume} of a file that is none")
    if cut.axis is not None:
        raise Rejected("missing_frame", f"{cut.axis} slices of a file that is no volume")


def _stored_mask(file: OpenedFile, cut: Cut, image: OpenedFile | None, max_pixels: int, orientation: int) -> StoredMask:
    if file.volume is None:
        values, lossy = raster.stored_values(file.data, cut.frame, max_pixels, orientation)
    else:
        plane = None if image is None else image.plane(cut)
        if plane is None:
            raise Rejected("unplaced", "a volume, and the image does not say where in the patient it lies")
        values, lossy = file.volume.sampled(plane, cut.volume if file.volume.volumes > 1 else None), False
    if not np.array_equal(values, np.rint(values)):
        raise Rejected("unsupported_type", "a mask with fractions")
    if max(float(values.max()), -float(values.min())) > np.iinfo(np.int32).max:
        raise Rejected("unsupported_type", "a mask with values of more than 32 bits")
    grey = values.astype(np.uint8 if values.min() >= 0 and values.max() <= 255 else np.int32)
    return StoredMask(grey, lossy=lossy)


def _frame_count(file: OpenedFile, axis: Axis | None) -> int:
    if file.volume is not None:
        return file.volume.slices(axis)
    return dicom_frames(file.data) if is_dicom(file.data) else raster.frames(file.data)
