"""The proposers and the segmenter on images whose answer is known."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.geometry import Box, Mask, box_of_mask, mask_iou
from pipelines.errors import UserError
from pipelines.images import decode_mask, open_image
from pipelines.proposals.proposers.annotations import Annotations
from pipelines.proposals.proposers.saliency import Saliency
from pipelines.proposals.protocols import Proposal, Query, Segment, SourceAnnotation
from pipelines.proposals.segmenters.threshold import Threshold, separability

NOTHING = Query(modality="other")


def disc(size: int, x: float, y: float, radius: float) -> Mask:
    rows, columns = np.mgrid[:size, :size]
    return (columns + 0.5 - x) ** 2 + (rows + 0.5 - y) ** 2 <= radius**2


def picture(base: int, *blobs: tuple[Mask, int]) -> Image.Image:
    values = np.full(blobs[0][0].shape, base, dtype=np.float64)
    for mask, value in blobs:
        values[mask] = value
    values += np.random.default_rng(0).normal(0, 4, values.shape)
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))


def propose(*annotations: SourceAnnotation) -> list[Proposal]:
    (proposals,) = Annotations({}).propose([Image.new("L", (8, 6))], [Query(modality="other", annotations=annotations)])
    return list(proposals)


def salient(image: Image.Image) -> list[Proposal]:
    (proposals,) = Saliency({}).propose([image], [NOTHING])
    return proposals


def segments(image: Image.Image, *boxes: Box) -> list[Segment]:
    (found,) = Threshold({}).segment([image], [boxes])
    return list(found)


def test_mask_without_box_gives_one_region_a_component() -> None:
    mask = np.zeros((6, 8), dtype=bool)
    mask[0, 0] = mask[1, 1] = True  # touch at a corner: one component
    mask[4:6, 5:8] = True
    first, second = propose(SourceAnnotation(label="nodule", adjective="round", box=None, mask=mask))
    assert (first.box, second.box) == ((0, 0, 2, 2), (5, 4, 8, 6))
    assert first.mask.sum() == 2
    assert np.array_equal(first.mask | second.mask, mask)
    assert {(p.label, p.adjective, p.score) for p in (first, second)} == {("nodule", "round", 1.0)}


def test_box_with_mask_is_one_region_cut_to_the_box() -> None:
    mask = np.ones((6, 8), dtype=bool)
    (proposal,) = propose(SourceAnnotation(label=None, adjective=None, box=(1.5, 2, 4, 5), mask=mask))
    assert proposal.box == (1.5, 2, 4, 5)
    assert proposal.mask.sum() == 3 * 3  # columns 1 to 3: a pixel that the box cuts belongs to it
    assert proposal.mask[2:5, 1:4].all()


def test_box_alone_has_no_mask() -> None:
    (proposal,) = propose(SourceAnnotation(label=None, adjective=None, box=(1, 2, 4, 5), mask=None))
    assert proposal.mask is None


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("size", [96, 500])
def test_saliency_finds_bright_and_dark_discs(sign: int, size: int) -> None:
    small, large = disc(size, size * 0.3, size * 0.3, size * 0.06), disc(size, size * 0.65, size * 0.6, size * 0.15)
    image = picture(128, (small, 128 + sign * 60), (large, 128 + sign * 60))
    proposals = salient(image)
    for x, y, radius in ((0.3, 0.3, 0.06), (0.65, 0.6, 0.15)):
        truth = Image.new("L", (size, size))
        truth.paste(255, tuple(round(v * size) for v in (x - radius, y - radius, x + radius, y + radius)))
        best = max(mask_iou(np.asarray(truth) > 0, boxed(p.box, size)) for p in proposals)
        assert best > 0.5
    assert all(0 < p.score <= 1 and p.label is None and p.mask is None for p in proposals)


def boxed(box: tuple[float, ...], size: int) -> Mask:
    mask = np.zeros((size, size), dtype=bool)
    x0, y0, x1, y1 = (round(edge) for edge in box)
    mask[y0:y1, x0:x1] = True
    return mask


def test_saliency_says_nothing_of_an_even_picture() -> None:
    assert salient(Image.new("L", (64, 64), 100)) == []
    assert salient(Image.new("RGB", (64, 64))) == []


def test_black_frame_is_no_dark_region() -> None:
    field = disc(128, 64, 64, 55)
    image = Image.fromarray(np.where(field, 120 + 2 * (np.indices((128, 128)).sum(0) % 2), 0).astype(np.uint8))
    assert all(p.box[0] > 5 and p.box[2] < 123 for p in salient(image))


@pytest.mark.parametrize("sign", [1, -1])
def test_threshold_recovers_a_disc(sign: int) -> None:
    mask = disc(96, 40, 50, 14)
    (segment,) = segments(picture(128, (mask, 128 + sign * 70)), (24.0, 34.0, 56.0, 66.0))
    assert mask_iou(segment.mask, mask) > 0.9
    assert segment.stability > 0.9
    assert segment.quality > 0.9


def test_quality_of_a_threshold_is_the_share_of_variance_between_its_classes() -> None:
    """Half of the window 0, half of it 100 with a deviation of 20 either way: 2500 of 2500 + 400 / 2."""
    values = np.zeros((8, 8), dtype=np.float32)
    values[:, 4:] = np.where(np.indices((8, 4)).sum(0) % 2, 120, 80)
    assert separability(values, 40.0) == pytest.approx(2500 / 2700)
    assert separability(values, 500.0) == 0


def test_quality_and_stability_fall_with_contrast() -> None:
    mask = disc(96, 40, 50, 14)
    box = (24.0, 34.0, 56.0, 66.0)
    (clear,), (faint,) = (segments(picture(128, (mask, 128 + step)), box) for step in (70, 6))
    assert faint.quality < clear.quality
    assert faint.stability < clear.stability


def test_threshold_of_an_even_picture_has_no_quality() -> None:
    (segment,) = segments(Image.new("L", (32, 32), 7), (4.0, 4.0, 20.0, 20.0))
    assert (segment.quality, segment.stability) == (0, 0)
    assert not segment.mask.any()


def test_threshold_answers_every_box_in_order_and_inside_it() -> None:
    mask = disc(96, 48, 48, 20)
    boxes = [(30.0, 30.0, 66.0, 66.0), (0.0, 0.0, 96.0, 96.0), (94.2, 94.2, 95.9, 96.0)]
    found = segments(picture(100, (mask, 200)), *boxes)
    assert len(found) == 3
    for segment, (x0, y0, x1, y1) in zip(found, boxes, strict=True):
        rows, columns = np.nonzero(segment.mask)
        assert ((columns >= int(x0)) & (columns < x1) & (rows >= int(y0)) & (rows < y1)).all()


@pytest.mark.parametrize("cls", [Saliency, Threshold, Annotations])
def test_unknown_option_is_named(cls: type) -> None:
    with pytest.raises(UserError, match="scalse"):
        cls({"scalse": [0.1]})


def test_on_real_polyps(shared_data: Path) -> None:
    """A floor, not a claim: the box of a polyp alone has an IoU of 0.71 with it, the threshold in that box 0.73."""
    root = shared_data / "kvasir_seg" / "validation"
    names = sorted(file.stem for file in (root / "masks").iterdir())[:20]
    of_mask, best = [], []
    for name in names:
        truth = decode_mask((root / "masks" / f"{name}.png").read_bytes()).values >= 128
        image = open_image(root, f"images/{name}.jpg")
        (whole,) = segments(image, box_of_mask(truth))
        of_mask.append(mask_iou(whole.mask, truth))
        proposals = sorted(salient(image), key=lambda p: -p.score)[:20]
        best.append(max(mask_iou(segment.mask, truth) for segment in segments(image, *(p.box for p in proposals))))
        annotation = SourceAnnotation(label="polyp", adjective=None, box=None, mask=truth)
        (parts,) = Annotations({}).propose([image], [Query(modality="endoscopy", annotations=[annotation])])
        assert np.array_equal(np.logical_or.reduce([part.mask for part in parts]), truth)
    assert np.mean(of_mask) > 0.6
    assert np.mean(best) > 0.3


@pytest.mark.parametrize("cls", [Saliency, Threshold])
def test_identity_tells_options_apart(cls: type) -> None:
    option = {"overlap": 0.4} if cls is Saliency else {"margin": 0.4}
    assert cls({}).identity == cls({}).identity != cls(option).identity
