"""Recompress QaTa-COV19 into one file that can travel to a borrowed host, and measure what is lost.

Reads   RAW, the folder of the data set in LViT's layout: {Train,Test}_Folder/{img,labelcol}/ and the texts as CSV
Writes  OUT, the packed file (benchmarks/gpu_parts/packed.py); it is data, and never committed
        benchmarks/results/gpu_packing.csv, the loss: mean absolute difference in grey levels, PSNR, masks
Run     python benchmarks/pack_qata.py RAW OUT [--limit-mb 45] [--results FILE]

Images become grey JPEGs of 224 pixels, of the highest quality with which all fit; masks become PNGs of one bit a pixel.
The validation images stay behind: nothing is chosen by them. The figures compare images as they are trained on: the
packed one with the original, scaled to 224 pixels if it is larger.
"""

import argparse
import csv
import io
import logging
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from gpu_parts import packed
from gpu_parts.random_shards import png
from header import header, last_commit
from PIL import Image

logger = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parent.parent
SIDE = 224
FOLDERS = {"Train_Folder": "train", "Test_Folder": "test"}
# An estimate from every 20th image; the whole file is measured afterwards.
SAMPLED = 20
COLUMNS = ("split", "measure", "value", "unit")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("raw", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--limit-mb", type=float, default=45.0)
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results" / "gpu_packing.csv")
    arguments = parser.parse_args()
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.INFO)
    originals = [(split, path) for folder, split in FOLDERS.items() for path in images(arguments.raw / folder)]
    if not originals:
        sys.exit(f"error: {arguments.raw} has no images in {' and '.join(f'{folder}/img' for folder in FOLDERS)}")
    limit = arguments.limit_mb * 1e6
    quality = highest_quality([path for _, path in originals], limit)
    samples, losses = pack(originals, texts(arguments.raw), quality)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    packed.write(arguments.out, samples, SIDE)
    size = arguments.out.stat().st_size
    if size > limit:
        sys.exit(f"error: {arguments.out} has {size / 1e6:.1f} MB, more than --limit-mb {arguments.limit_mb}")
    write_results(arguments.results, quality, size, losses)


def images(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / "img").glob("*") if path.is_file())


def texts(raw: Path) -> dict[str, str]:
    """The sentence of each mask, by the mask's name; a file in Train_Folder holds those of Val_Folder too."""
    found: dict[str, str] = {}
    for path in sorted(raw.glob("*_Folder/*.csv")):
        with path.open(encoding="utf-8-sig", newline="") as stream:
            found |= {row["Image"]: row["Description"] for row in csv.DictReader(stream)}
    return found


def grey(path: Path) -> Image.Image:
    image = Image.open(path).convert("L")
    return image if image.size == (SIDE, SIDE) else image.resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def mask_of(image: Path) -> Path:
    return image.parent.parent / "labelcol" / f"mask_{image.stem}.png"


def mask_pixels(data: Path | io.BytesIO) -> np.ndarray:
    """(224, 224) bool."""
    mask = Image.open(data).convert("L")
    return np.asarray(mask if mask.size == (SIDE, SIDE) else mask.resize((SIDE, SIDE), Image.Resampling.NEAREST)) > 127


def jpeg(image: Image.Image, quality: int) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality, optimize=True, progressive=True)
    return stream.getvalue()


def highest_quality(paths: Sequence[Path], limit: float) -> int:
    """The highest JPEG quality with which the file stays below the limit, as far as a sample of the images tells."""
    step = max(1, len(paths) // 300) if len(paths) > SAMPLED else 1
    chosen = [(grey(path), len(png(mask_pixels(mask_of(path))))) for path in paths[::step]]
    # The table, and what the sample misjudges.
    overhead = 300 * len(paths) + 0.01 * limit
    for quality in range(95, 29, -1):
        size = sum(len(jpeg(image, quality)) + mask for image, mask in chosen) / len(chosen) * len(paths) + overhead
        if size <= limit:
            logger.info("quality %d: about %.1f MB", quality, size / 1e6)
            return quality
    sys.exit(f"error: not even quality 30 fits into {limit / 1e6:.0f} MB")


def pack(
    originals: Sequence[tuple[str, Path]], sentences: dict[str, str], quality: int
) -> tuple[list[packed.PackedSample], dict[str, list[tuple[float, float, bool]]]]:
    """The samples, and for each split the mean absolute and squared difference and whether the mask is the same."""
    samples = []
    losses: dict[str, list[tuple[float, float, bool]]] = {split: [] for split in FOLDERS.values()}
    for split, path in originals:
        image, mask = grey(path), mask_pixels(mask_of(path))
        sample = packed.PackedSample(
            key=path.stem.replace(".", "_"),
            split=split,
            group=subject(path.stem),
            text=sentences.get(mask_of(path).name),
            image=jpeg(image, quality),
            mask=png(mask),
        )
        samples.append(sample)
        difference = np.asarray(image, float) - np.asarray(Image.open(io.BytesIO(sample.image)), float)
        same = bool((mask_pixels(io.BytesIO(sample.mask)) == mask).all())
        losses[split].append((float(np.abs(difference).mean()), float((difference**2).mean()), same))
    return samples, losses


def subject(stem: str) -> str:
    found = re.match(r"sub-[^_]+", stem)
    return found.group() if found else stem


def psnr(squared: float) -> float:
    """Peak signal-to-noise ratio in dB of 8-bit images with a mean squared difference."""
    return float(10 * np.log10(255**2 / max(squared, 1e-9)))


def write_results(path: Path, quality: int, size: int, losses: dict[str, list[tuple[float, float, bool]]]) -> None:
    rows = [("all", "jpeg_quality", quality, ""), ("all", "packed_file", round(size / 1e6, 2), "MB")]
    for split, values in losses.items():
        if not values:
            continue
        absolute, squared, same = (np.array(column) for column in zip(*values, strict=True))
        ratios = [psnr(value) for value in squared]
        rows += [
            (split, "images", len(values), ""),
            (split, "mean_absolute_difference", round(float(absolute.mean()), 3), "grey levels of 256"),
            (split, "psnr_mean", round(float(np.mean(ratios)), 2), "dB"),
            (split, "psnr_min", round(min(ratios), 2), "dB"),
            (split, "masks_equal", int(same.sum()), ""),
        ]
    with path.open("w", encoding="utf-8", newline="") as stream:
        stream.write(header("python benchmarks/pack_qata.py RAW OUT", last_commit(ROOT, "benchmarks")))
        csv.writer(stream, lineterminator="\n").writerows([COLUMNS, *rows])
    for row in rows:
        logger.info("%s %s %s %s", *row)


if __name__ == "__main__":
    main()
