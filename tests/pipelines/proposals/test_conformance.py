"""What every proposer and every segmenter must hold, those with weights on small random checkpoints."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from models.geometry import Box, Mask, box_ious, mask_iou
from models.lite_medsam import WEIGHTS, empty_model, save_weights
from pipelines.errors import UserError
from pipelines.proposals.protocols import Proposal, Query, Segment, SourceAnnotation
from pipelines.registry import PLUGINS, plugin
from tests import tiny_checkpoints
from tests.pipelines.proposals.seeing import detecting, of_dino, of_owl, of_sam3, segmenting

# Wide, tall, larger and smaller than the models' own squares.
PICTURES = pytest.mark.parametrize(
    ("size", "mode"), [((90, 60), "RGB"), ((60, 90), "L"), ((300, 200), "L"), ((40, 100), "RGB")]
)
ODD = pytest.mark.parametrize("size", [(300, 3), (3, 300), (1, 1)])
DETECTOR = {"box_threshold": 0.0, "overlap": 1.0}
# Difference in bfloat16, whose steps are 1/256: of scores, of a box's edges as a fraction of the image.
COARSE = 0.03
# Least IoU of half a rectangle with its mask, whose cells are 1/32 of the image or smaller.
HALF = 0.8


@dataclass(frozen=True, kw_only=True)
class Case:
    """A plug-in and how it is tested.

    Attributes:
        make: Writes a checkpoint into a folder; None: a plug-in without weights.
        sees: The plug-in, made to answer with what it sees.
        options: Those with which random weights answer anything.
        least: IoU with a rectangle that is seen.
    """

    make: Callable[[Path], Path] | None = None
    sees: Callable[[Any], AbstractContextManager[None]] = lambda plugin: nullcontext()
    options: dict[str, Any]
    least: float = 0.9


def lite_medsam(folder: Path) -> Path:
    torch.manual_seed(0)
    folder.mkdir(parents=True)
    save_weights(empty_model(), folder / WEIGHTS)
    return folder


def detector(make: Callable[[Path], Path], answer: Any) -> Case:
    return Case(make=make, sees=lambda found: detecting(found.model, answer), options=DETECTOR)


def masks(make: Callable[[Path], Path]) -> Case:
    return Case(make=make, sees=lambda found: segmenting(found.model), options={})


small = {"shorter_side": 160, "longest_side": 320}
PROPOSERS = {
    "annotations": Case(options={}, least=1.0),
    "grounding_dino": detector(partial(tiny_checkpoints.grounding_dino, **small), of_dino),
    "mm_grounding_dino": detector(partial(tiny_checkpoints.mm_grounding_dino, **small), of_dino),
    "owlv2": detector(tiny_checkpoints.owlv2, of_owl),
    "saliency": Case(options={}, least=0.5),
    "sam3_phrases": detector(tiny_checkpoints.sam3, of_sam3),
}
SEGMENTERS = {
    "lite_medsam": masks(lite_medsam),
    "medsam": masks(tiny_checkpoints.sam),
    "sam2": masks(tiny_checkpoints.sam2),
    "sam3": masks(tiny_checkpoints.sam3),
    "threshold": Case(options={}),
}
all_proposers = pytest.mark.parametrize("name", PROPOSERS)
all_segmenters = pytest.mark.parametrize("name", SEGMENTERS)


class Plugins:
    """Plug-ins by kind and name; each checkpoint is written once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.made: dict[tuple[str, str, str], Any] = {}

    def __call__(self, kind: str, name: str, precision: str = "float32") -> Any:
        case = (PROPOSERS if kind == "proposers" else SEGMENTERS)[name]
        key = kind, name, precision
        if key not in self.made:
            options = dict(case.options)
            if case.make is not None:
                folder = self.folder / kind / name
                options |= {"model": str(folder if folder.exists() else case.make(folder)), "precision": precision}
            self.made[key] = plugin(kind, name)(options)
        return self.made[key]


@pytest.fixture(scope="module")
def plugins(tmp_path_factory: pytest.TempPathFactory) -> Plugins:
    return Plugins(tmp_path_factory.mktemp("conformance"))


def rectangle(size: tuple[int, int]) -> Box:
    """Off the middle, and its sides unlike the image's, so that no exchange of axes or corners goes unseen."""
    width, height = size
    return tuple(
        float(round(share * side)) for share, side in ((0.1, width), (0.3, height), (0.4, width), (0.9, height))
    )


def filled(size: tuple[int, int], box: Box) -> Mask:
    mask = np.zeros(size[::-1], dtype=bool)
    x0, y0, x1, y1 = (round(edge) for edge in box)
    mask[y0:y1, x0:x1] = True
    return mask


def picture(size: tuple[int, int], mode: str) -> Image.Image:
    """A bright rectangle on a dark image."""
    return Image.fromarray(np.where(filled(size, rectangle(size)), 220, 40).astype(np.uint8)).convert(mode)


def noise(size: tuple[int, int], mode: str) -> Image.Image:
    width, height = size
    return Image.fromarray(np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)).convert(
        mode
    )


def query(size: tuple[int, int], *phrases: str) -> Query:
    mask = filled(size, rectangle(size))
    known = [SourceAnnotation(label="mass", adjective=None, box=rectangle(size), mask=mask)] if mask.any() else []
    return Query(modality="other", annotations=known, phrases=phrases)


def propose(found: Any, image: Image.Image, *phrases: str) -> list[Proposal]:
    (proposals,) = found.propose([image], [query(image.size, *phrases)])
    return list(proposals)


def segment(found: Any, image: Image.Image, *boxes: Box) -> list[Segment]:
    (segments,) = found.segment([image], [boxes])
    return list(segments)


def test_every_plugin_is_here() -> None:
    assert PROPOSERS.keys() == PLUGINS["proposers"].keys()
    assert SEGMENTERS.keys() == PLUGINS["segmenters"].keys()


@PICTURES
@all_proposers
def test_boxes_are_corners_in_pixels_of_the_image(plugins: Plugins, name: str, size: Any, mode: str) -> None:
    """Box convention and image frame: the rectangle that the model sees is where it is on the image."""
    found = plugins("proposers", name)
    with PROPOSERS[name].sees(found):
        proposals = propose(found, picture(size, mode), "mass")
    best = max(proposals, key=lambda proposal: box_ious([proposal.box], [rectangle(size)])[0, 0])
    assert box_ious([best.box], [rectangle(size)])[0, 0] >= PROPOSERS[name].least
    if PROPOSERS[name].make:
        # The others have a score of 0.
        assert best == max(proposals, key=lambda proposal: proposal.score)
        assert (best.score, best.label) == (pytest.approx(0.8808, abs=1e-4), "mass")


@ODD
@all_proposers
def test_proposals_of_any_image(plugins: Plugins, name: str, size: Any) -> None:
    """Mask frame: a proposer's own mask has the size of the image."""
    for proposal in propose(plugins("proposers", name), noise(size, "L"), "mass", "polyp"):
        x0, y0, x1, y1 = proposal.box
        assert x0 <= x1
        assert y0 <= y1
        assert 0 <= proposal.score <= 1
        assert proposal.label in ("mass", "polyp", None)
        assert proposal.mask is None or proposal.mask.shape == size[::-1]


@PICTURES
@all_segmenters
def test_masks_are_where_image_and_box_say(plugins: Plugins, name: str, size: Any, mode: str) -> None:
    """Box convention, image frame and mask frame: the part of a rectangle that each box holds."""
    found = plugins("segmenters", name)
    x0, y0, x1, y1 = whole = rectangle(size)
    boxes = [whole, (x0, y0, (x0 + x1) / 2, y1), (x0, (y0 + y1) / 2, x1, y1)]
    with SEGMENTERS[name].sees(found):
        segments = segment(found, picture(size, mode), *boxes)
    for box, one in zip(boxes, segments, strict=True):
        assert one.mask.dtype == bool
        assert mask_iou(one.mask, filled(size, box)) >= HALF
        if SEGMENTERS[name].make:
            assert one.quality == pytest.approx(0.75)
            assert one.stability > 0.8


@ODD
@all_segmenters
def test_masks_of_any_image(plugins: Plugins, name: str, size: Any) -> None:
    width, height = size
    boxes = [(0.0, 0.0, float(width), float(height)), (0.2, 0.3, 0.7 * width + 0.2, 0.6 * height + 0.3)]
    segments = segment(plugins("segmenters", name), noise(size, "RGB"), *boxes)
    assert len(segments) == 2
    for one in segments:
        assert one.mask.shape == (height, width)
        assert 0 <= one.quality <= 1
        assert 0 <= one.stability <= 1


IMAGES = [((90, 60), "RGB"), ((60, 90), "L"), ((90, 60), "RGB"), ((40, 100), "RGB")]


def images() -> list[Image.Image]:
    found = [noise(size, mode) for size, mode in IMAGES]
    found[2] = found[2].rotate(180)
    return found


@all_proposers
def test_a_batch_answers_as_each_image_alone(plugins: Plugins, name: str) -> None:
    found = plugins("proposers", name)
    asked = [("mass", "polyp"), ("mass",), ("mass", "polyp"), ()]
    queries = [query(image.size, *phrases) for image, phrases in zip(images(), asked, strict=True)]
    together = [list(proposals) for proposals in found.propose(images(), queries)]
    for image, one, proposals in zip(images(), queries, together, strict=True):
        (alone,) = found.propose([image], [one])
        same(list(alone), proposals, 2e-4, 0.03)
    assert sum(map(len, together)) or not PROPOSERS[name].make
    assert not (PROPOSERS[name].make and together[3])


def same(ones: Sequence[Proposal], others: Sequence[Proposal], score: float, pixels: float) -> None:
    """Equal but for rounding, which may exchange neighbours that score alike."""
    assert len(ones) == len(others)
    assert [p.score for p in ones] == pytest.approx([p.score for p in others], abs=score)
    for one in ones:
        assert any(near(one, other, score, pixels) for other in others)


def near(one: Proposal, other: Proposal, score: float, pixels: float) -> bool:
    """Whether two proposals are equal but for that much; of phrases that score alike either may name it."""
    return abs(one.score - other.score) <= score and np.abs(np.subtract(one.box, other.box)).max() <= pixels


@all_segmenters
def test_a_batch_is_segmented_as_each_image_alone(plugins: Plugins, name: str) -> None:
    found = plugins("segmenters", name)
    boxes = [[(5.0, 5.0, 40.0, 50.0)], [(0.0, 10.0, 30.0, 60.0), (3.0, 3.0, 20.0, 20.0)]]
    together = [list(segments) for segments in found.segment(images()[:2], boxes)]
    for image, own, segments in zip(images(), boxes, together, strict=False):
        for one, other in zip(segment(found, image, *own), segments, strict=True):
            assert one.quality == pytest.approx(other.quality, abs=1e-5)
            # A logit near 0 may fall on either side.
            assert (one.mask != other.mask).mean() < 1e-3


@all_proposers
def test_bfloat16_proposes_as_float32(plugins: Plugins, name: str) -> None:
    """Of random weights: a score that hangs on a sum of large terms may change, the scores as a whole do not."""
    case, image = PROPOSERS[name], noise((90, 60), "RGB")
    if case.make is None:
        refuses_precision("proposers", name)
        return
    ones, others = (propose(plugins("proposers", name, kind), image, "mass") for kind in ("float32", "bfloat16"))
    assert len(ones) == len(others)
    near = [min(np.abs(np.subtract(one.box, other.box)).max() for other in others) <= COARSE * 90 for one in ones]
    assert np.mean(near) >= 0.9
    scores, in_bfloat16 = (np.array([proposal.score for proposal in found]) for found in (ones, others))
    assert not np.array_equal(scores, in_bfloat16)
    assert np.abs(scores - in_bfloat16).mean() <= 2 * COARSE


@all_segmenters
def test_bfloat16_segments_as_float32(plugins: Plugins, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The logits are compared: those of random weights are so near 0 that their signs say little."""
    case, image = SEGMENTERS[name], noise((90, 60), "RGB")
    if case.make is None:
        refuses_precision("segmenters", name)
        return
    logits, qualities = [], []
    for precision in ("float32", "bfloat16"):
        found = plugins("segmenters", name, precision)
        decoder = found.model.mask_decoder
        # SAM 2 would choose between masks by their stability, which random weights give all alike.
        monkeypatch.setattr(decoder, "dynamic_multimask_via_stability", False, raising=False)
        hook = decoder.register_forward_hook(lambda module, inputs, output: logits.append(output[0].float().numpy()))
        (one,) = segment(found, image, (5.0, 5.0, 60.0, 50.0))
        hook.remove()
        qualities.append(one.quality)
    assert qualities[0] == pytest.approx(qualities[1], abs=COARSE)
    assert not np.array_equal(*logits)
    assert np.corrcoef(logits[0].ravel(), logits[1].ravel())[0, 1] > 0.9


def refuses_precision(kind: str, name: str) -> None:
    """A plug-in without weights has no such choice."""
    with pytest.raises(UserError, match="precision"):
        plugin(kind, name)({"precision": "bfloat16"})
