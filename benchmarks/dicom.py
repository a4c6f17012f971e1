"""Every DICOM file that installed packages ship: what we show of it, beside DCMTK and SimpleITK.

Reads   the DICOM files of the packages pydicom, pydicom-data and nibabel, as they are installed here
Writes  benchmarks/results/dicom.csv, a row a file, and dicom.md, counts and the reason of each difference
Run     PYTHONPATH=. python benchmarks/dicom.py

DCMTK (Debian's package `dcmtk`: dcm2pnm, dcmj2pnm, dcml2pnm) draws the file's own window or table, or all its values
where it has none; there its picture is compared with our values drawn likewise, for our percentiles are another rule.
SimpleITK gives values after the rescale, or colours. Three frames of a file are compared: first, middle, last.
"""

import csv
import gzip
import importlib.util
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import SimpleITK
from header import header, last_commit
from PIL import Image

from models.preparation import scaled_linearly
from pipelines.errors import Rejected, item_boundary
from pipelines.formats.dicom_display import VoiTable, Window, inverted, modality_values, voi
from pipelines.formats.dicom_file import DicomFile, read
from pipelines.formats.dicom_values import stored_values
from pipelines.images import decode

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
COMMAND = "PYTHONPATH=. python benchmarks/dicom.py"
PACKAGES = {"pydicom": "pydicom", "pydicom-data": "data_store", "nibabel": "nibabel"}
# DCMTK parts its decoders between three programs.
TOOLS = ("dcm2pnm", "dcmj2pnm", "dcml2pnm")
ABSENT = "absent"
SHOWN = "shown"
# Why a picture differs, or is not shown: by file name, as each was looked at.
_RLE = "SimpleITK reads its own other values from the uncompressed twin, which ours equal"
_SWAPPED = "DCMTK and SimpleITK exchange bytes within words of 16 bits, not of 32; ours equal the little-endian twin"
_WHITE = "all values lie above the file's window, so that DCMTK's picture is white throughout; ours is flagged"
REASONS = {
    "SC_rgb_rle_16bit.dcm": _RLE,
    "SC_rgb_rle_16bit_2frame.dcm": _RLE,
    "SC_rgb_rle_32bit.dcm": _RLE,
    "SC_rgb_rle_32bit_2frame.dcm": _RLE,
    "rtdose_expb.dcm": _SWAPPED,
    "rtdose_expb_1frame.dcm": _SWAPPED,
    "17166": _WHITE,
    "17196": _WHITE,
    "SC_ybr_full_uncompressed.dcm": "DCMTK rounds otherwise from YBR to RGB; SimpleITK's colours are ours",
    "mlut_18.dcm": "SimpleITK applies no modality table; DCMTK does",
}


@dataclass
class Row:
    """A file and what each program makes of it.

    Attributes:
        ours: `shown`, or the reason code.
        rule: Which display rule holds: window, table, none, stored (8 bits), colour, palette.
        dcmtk: `shown`, `refused`, or `absent` where the program is not installed; likewise simpleitk.
        dcmtk_difference: Largest difference of a pixel in grey levels of 256, over the frames compared.
        simpleitk_difference: Likewise, of values after the rescale for grey, of levels for colours.
    """

    package: str
    file: str
    syntax: str = ""
    photometric: str = ""
    bits: int | None = None
    frames: int | None = None
    ours: str = ""
    rule: str = ""
    dcmtk: str = ABSENT
    dcmtk_difference: float | None = None
    simpleitk: str = ""
    simpleitk_difference: float | None = None
    reason: str = ""


def files() -> Iterator[tuple[str, str, bytes]]:
    """Package, name below the package's folder, bytes: once for files with the same bytes and name."""
    for package, module in PACKAGES.items():
        spec = importlib.util.find_spec(module)
        if spec is None or not spec.submodule_search_locations:
            print(f"skipped: the package {package} is not installed", file=sys.stderr)
            continue
        root = Path(spec.submodule_search_locations[0])
        for path in sorted(root.rglob("*")):
            if not path.is_file() or path.suffix in (".py", ".pyc"):
                continue
            data = path.read_bytes()
            if data[:2] == b"\x1f\x8b":
                data = gzip.decompress(data)
            if data[128:132] == b"DICM" or path.suffix == ".dcm":
                yield package, path.relative_to(root).as_posix(), data


def compared(file: DicomFile) -> list[int]:
    return sorted({0, file.frames // 2, file.frames - 1})


def rule_of(file: DicomFile, values: np.ndarray, index: int) -> str:
    if values.ndim == 3:
        return "colour"
    if file.header.get("PhotometricInterpretation") == "PALETTE COLOR":
        return "palette"
    asked = voi(file.header, index)
    if asked is not None:
        return "table" if isinstance(asked, VoiTable) else "window"
    changed = modality_values(values, file.header, index)
    return "stored" if changed.dtype == np.uint8 and file.header.get("BitsStored") == 8 else "none"


def flags_of(file: DicomFile, index: int, rule: str) -> list[str]:
    """DCMTK's options for the rule by which we show a frame."""
    asked = voi(file.header, index)
    if rule == "window" and isinstance(asked, Window):
        # DCMTK does not look into functional groups.
        own = file.header.get("WindowCenter") is not None
        return ["+Wi", "1"] if own else ["+Ww", str(asked.center), str(asked.width)]
    return {"table": ["+Wl", "1"], "none": ["+Wm"]}.get(rule, [])


def picture_by_dcmtk(path: Path, index: int, flags: list[str]) -> np.ndarray | None:
    """DCMTK's picture of a frame, by whichever of its programs has the decoder; None where none shows one."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "picture.pnm")
        for tool in filter(shutil.which, TOOLS):
            command = [tool, "-O", "+F", str(index + 1), *flags, "+op", str(path), str(target)]
            if subprocess.run(command, capture_output=True, check=False).returncode == 0 and target.exists():
                with Image.open(target) as picture:
                    return np.asarray(picture)
    return None


def values_by_simpleitk(path: Path) -> np.ndarray | None:
    """(frames, height, width) or (frames, height, width, 3); None where it reads none."""
    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO("GDCMImageIO")
    try:
        image = reader.Execute()
    except RuntimeError:
        return None
    values = SimpleITK.GetArrayFromImage(image)
    return values if image.GetDimension() == 3 else values[None]


def compare(row: Row, data: bytes, path: Path) -> None:
    """Fill a row."""
    file = None
    try:
        with item_boundary():
            file = read(data)
            row.frames, row.bits = file.frames, file.header.get("BitsStored")
            decode(data, 0)
        row.ours = SHOWN
    except Rejected as error:
        row.ours = error.reason
    volume = values_by_simpleitk(path)
    row.simpleitk = SHOWN if volume is not None else "refused"
    if shutil.which(TOOLS[0]):
        row.dcmtk = "refused" if picture_by_dcmtk(path, 0, []) is None else SHOWN
    if file is None:
        return
    row.syntax, row.photometric = file.syntax.name, str(file.header.get("PhotometricInterpretation") or "")
    if row.ours == SHOWN:
        found = [beside(file, data, path, volume, index, row) for index in compared(file)]
        row.dcmtk_difference = largest(by_dcmtk for by_dcmtk, _ in found)
        row.simpleitk_difference = largest(by_simpleitk for _, by_simpleitk in found)


def beside(
    file: DicomFile, data: bytes, path: Path, volume: np.ndarray | None, index: int, row: Row
) -> tuple[float | None, float | None]:
    """The largest difference of a frame from DCMTK's picture and from SimpleITK's values."""
    values, shown = stored_values(file, index), np.asarray(decode(data, index))
    row.rule = rule_of(file, values, index)
    grey = row.rule not in ("colour", "palette")
    unit = modality_values(values, file.header, index) if grey else shown
    by_dcmtk = by_simpleitk = None
    if row.dcmtk == SHOWN and (picture := picture_by_dcmtk(path, index, flags_of(file, index, row.rule))) is not None:
        if row.rule == "none":
            shown = scaled_linearly(unit.astype(np.float64), unit.min(), unit.max())
            shown = 255 - shown if inverted(file.header) else shown
        by_dcmtk = difference(shown, picture)
    if volume is not None:
        frame = volume[index]
        if not grey and frame.dtype.itemsize > 1:
            frame = frame >> (8 * frame.dtype.itemsize - 8)
        if row.photometric == "MONOCHROME1":  # SimpleITK turns the stored values
            unit = modality_values(2 ** int(file.header.BitsStored) - 1 - values, file.header, index)
        elif row.bits == 1:
            unit = unit * 255
        by_simpleitk = difference(unit, frame)
    return by_dcmtk, by_simpleitk


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """Largest difference of two pictures; infinite where their sizes differ."""
    return float(np.abs(a.astype(np.float64) - b).max()) if a.shape == b.shape else float("inf")


def largest(differences: Iterable[float | None]) -> float | None:
    """None where nothing was compared."""
    return max((round(value, 3) for value in differences if value is not None), default=None)


def is_equal(row: Row) -> bool:
    """Within one grey level of DCMTK's picture, and with SimpleITK's values, where they show one."""
    return all(value is None or value <= 1 for value in (row.dcmtk_difference, row.simpleitk_difference))


def page(rows: list[Row]) -> str:
    """dicom.md."""
    others = [row for row in rows if SHOWN in (row.dcmtk, row.simpleitk)]
    ours = [row for row in others if row.ours == SHOWN]
    equal = [row for row in ours if is_equal(row)]
    differing = [row for row in others if row not in equal]
    lines = [
        f"<!-- {COMMAND} writes this page. -->",
        "# DICOM files of public packages: ours, DCMTK's and SimpleITK's pictures",
        "",
        "| package | files | shown by DCMTK or SimpleITK | of these by us | of these equal | shown by us alone |",
        "|---|---|---|---|---|---|",
    ]
    for package in (*PACKAGES, "all"):
        of = [[row for row in some if package in (row.package, "all")] for some in (rows, others, ours, equal)]
        alone = [row for row in of[0] if row.ours == SHOWN and row not in of[1]]
        lines.append(f"| {package} | " + " | ".join(str(len(some)) for some in (*of, alone)) + " |")
    lines += [
        "",
        f"{versions()}. Each difference, and each file that only others show:",
        "",
        "| file | ours | rule | DCMTK | SimpleITK | reason |",
        "|---|---|---|---|---|---|",
    ]
    for row in differing:
        dcmtk = row.dcmtk if row.dcmtk_difference is None else f"{row.dcmtk_difference:g}"
        simpleitk = row.simpleitk if row.simpleitk_difference is None else f"{row.simpleitk_difference:g}"
        lines.append(f"| {row.file} | {row.ours} | {row.rule} | {dcmtk} | {simpleitk} | {row.reason} |")
    reasons = Counter(row.ours for row in rows if row.ours != SHOWN and row not in others)
    lines += ["", "Shown by none of the three, by our reason code: "]
    lines[-1] += ", ".join(f"{code} {count}" for code, count in sorted(reasons.items())) + "."
    return "\n".join(lines) + "\n"


def versions() -> str:
    """The programs that ours is compared with."""
    dcmtk = "DCMTK is not installed"
    if shutil.which(TOOLS[0]):
        words = subprocess.run([TOOLS[0], "--version"], capture_output=True, text=True, check=True).stdout.split()
        dcmtk = f"DCMTK {words[2]}"
    return f"{dcmtk}, SimpleITK {SimpleITK.__version__} (GDCM)"


def main() -> None:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for package, name, data in files():
            row = Row(package, name, reason=REASONS.get(Path(name).name, ""))
            path = Path(folder, "file.dcm")
            path.write_bytes(data)
            compare(row, data, path)
            rows.append(row)
    if any(row.dcmtk == ABSENT for row in rows):
        print("DCMTK is not installed: its columns say `absent`", file=sys.stderr)
    for row in rows:
        if SHOWN in (row.dcmtk, row.simpleitk) and not row.reason and not (row.ours == SHOWN and is_equal(row)):
            print(f"no reason is given for {row}", file=sys.stderr)
    RESULTS.joinpath("dicom.md").write_text(page(rows), encoding="utf-8")
    with (RESULTS / "dicom.csv").open("w", newline="", encoding="utf-8") as file:
        file.write(header(COMMAND, last_commit(ROOT)))
        writer = csv.DictWriter(file, list(asdict(rows[0])), lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)


if __name__ == "__main__":
    main()
