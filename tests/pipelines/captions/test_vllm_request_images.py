"""What is sent of the pixels, against sizes and colours worked out by hand."""

import base64
import hashlib
import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines.captions.captioners.vllm.options import Options
from pipelines.captions.captioners.vllm.request_images import RequestImages
from pipelines.captions.evidence import image_item, region_items
from pipelines.captions.protocols import Item, Settings
from pipelines.errors import Rejected
from tests.pipelines.captions.world import CONFIG, image_row, region_row


def request_images(folder: Path, **options: Any) -> RequestImages:
    settings = Settings(
        prompts=folder,
        seed=0,
        options={},
        sizes=CONFIG.sizes,
        roots={"toy": folder},
        max_pixels=10**7,
        cache=folder / "results.sqlite",
    )
    return RequestImages(settings, Options(base_urls=["http://x/v1"], model="toy", **options))


def items(folder: Path, pixels: np.ndarray, *boxes: tuple[float, float, float, float]) -> list[Item]:
    """The image, written to a file, and a region for each box."""
    file = folder / "a.png"
    Image.fromarray(pixels).save(file)
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    height, width = pixels.shape[:2]
    row = image_row(path="a.png", sha256=sha256, width=width, height=height, modality="ct", view=None, labels=())
    edges = [dict(zip(("x0", "y0", "x1", "y1"), map(float, box), strict=True)) for box in boxes]
    regions = [
        region_row(row.image_id, n, proposer="saliency", area_fraction=0.1, **box) for n, box in enumerate(edges)
    ]
    described = region_items(row, regions, CONFIG)
    image = image_item(row, described, CONFIG, sees_pixels=True)
    assert image is not None
    return [image, *described]


def decoded(url: str) -> Image.Image:
    assert url.startswith("data:image/jpeg;base64,")
    return Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))


@pytest.mark.parametrize(
    ("width", "height", "size"),
    [
        (4000, 3000, (896, 672)),
        (3000, 4000, (672, 896)),
        (896, 100, (896, 100)),
        (897, 100, (896, 100)),
        (32, 32, (32, 32)),
        (4000, 1, (896, 1)),
    ],
)
def test_the_longer_side_is_limited_and_small_images_stay(
    tmp_path: Path, width: int, height: int, size: tuple[int, int]
) -> None:
    assert request_images(tmp_path, image_size=896).sent_size(image_row(width=width, height=height)) == size


def test_image_is_sent_resized_and_otherwise_unchanged(tmp_path: Path) -> None:
    pixels = np.zeros((60, 120, 3), dtype=np.uint8)
    pixels[:, 60:] = (200, 40, 40)
    image, region = items(tmp_path, pixels, (10, 10, 50, 50))
    sent = request_images(tmp_path, image_size=64)
    (url,) = sent.urls(image)
    assert sent.urls(region)[0] == url  # the same bytes, which the server has seen: nothing is drawn on them
    sent_image = decoded(url)
    assert (sent_image.size, sent_image.mode) == ((64, 32), "RGB")
    assert sent.sent_size(image.image) == sent_image.size
    colours = np.asarray(sent_image, dtype=int)
    assert np.abs(colours[:, :28] - 0).max() <= 12
    assert np.abs(colours[:, 36:] - (200, 40, 40)).max() <= 12


@pytest.mark.parametrize(
    ("box", "size", "bright"),
    [
        # 40 x 40 with a margin of 10: (30, 10) to (90, 70), clipped at 60 rows; 30 of 60 columns are bright.
        ((40, 20, 80, 60), (48, 40), 0.5),
        # At the corner the margin is cut off on two sides: (0, 0) to (50, 50), all dark.
        ((0, 0, 40, 40), (48, 48), 0.0),
        # One pixel, at the far corner: a margin of a quarter of a pixel takes the neighbours in.
        ((119, 59, 120, 60), (48, 48), 1.0),
        # A line: (0, 0) to (120, 60), the whole image, for the margin goes by the longer side.
        ((0, 30, 120, 31), (48, 24), 0.5),
    ],
)
def test_crop_has_a_margin_and_full_resolution(
    tmp_path: Path, box: tuple[float, float, float, float], size: tuple[int, int], bright: float
) -> None:
    pixels = np.zeros((60, 120), dtype=np.uint8)
    pixels[:, 60:] = 250
    _, region = items(tmp_path, pixels, box)
    whole, crop = request_images(tmp_path, image_size=32, crop_size=48, crop_margin=0.25).urls(region)
    assert decoded(whole).size == (32, 16)
    assert (decoded(crop).size, decoded(crop).mode) == (size, "L")
    assert np.asarray(decoded(crop)).mean() / 250 == pytest.approx(bright, abs=0.03)


def test_threads_that_need_one_image_get_the_same_bytes(tmp_path: Path) -> None:
    everything = items(tmp_path, np.zeros((500, 700, 3), dtype=np.uint8), *[(n, n, n + 9, n + 9) for n in range(30)])
    sent = request_images(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        urls = list(pool.map(sent.urls, everything))
    assert len({pair[0] for pair in urls}) == 1
    assert [len(pair) for pair in urls] == [1] + [2] * 30


def test_changed_file_is_rejected_in_every_thread(tmp_path: Path) -> None:
    everything = items(tmp_path, np.zeros((50, 70, 3), dtype=np.uint8), *[(n, n, n + 9, n + 9) for n in range(9)])
    (tmp_path / "a.png").write_bytes(b"other")
    sent = request_images(tmp_path)
    with ThreadPoolExecutor(4) as pool:
        faults = [future.exception(20) for future in [pool.submit(sent.urls, item) for item in everything]]
    assert {type(fault) for fault in faults} == {Rejected}
    assert {fault.reason for fault in faults if isinstance(fault, Rejected)} == {"changed_since_ingest"}
