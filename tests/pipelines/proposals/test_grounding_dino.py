"""Grounding DINO's way from pixels and phrases to boxes, on the real architecture with random weights."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoTokenizer, GroundingDinoForObjectDetection, GroundingDinoImageProcessorPil
from transformers.models.grounding_dino.processing_grounding_dino import GroundingDinoProcessor

from pipelines.errors import UserError
from pipelines.images import open_image
from pipelines.proposals.proposers.grounding_dino import GroundingDino
from pipelines.proposals.protocols import Proposal, Query
from tests import tiny_checkpoints

PHRASES = ("Pleural effusion", "mass")


@pytest.fixture(scope="module")
def dino(dino_folder: Path) -> GroundingDino:
    return GroundingDino({"model": str(dino_folder), "box_threshold": 0.0})


def propose(dino: GroundingDino, image: Image.Image, *phrases: str) -> list[Proposal]:
    (found,) = dino.propose([image], [Query(modality="other", phrases=phrases)])
    return found


@contextmanager
def answering(dino: GroundingDino, boxes: list[Any], scores: dict[tuple[int, int], float]) -> Iterator[list[Any]]:
    """The real model, whose last layer's output is replaced; yields the sizes of what it was given.

    Args:
        dino: The proposer.
        boxes: (cx, cy, width, height) of the first queries, 0 to 1.
        scores: (query, token) -> score; all others are 0.
    """
    given: list[Any] = []

    def note(module: Any, arguments: Any, keywords: dict[str, Any]) -> None:
        given.append((tuple(keywords["pixel_values"].shape), keywords["pixel_values"]))

    def replace(module: Any, inputs: Any, output: Any) -> Any:
        output.logits.fill_(-math.inf)
        for (query, token), score in scores.items():
            output.logits[:, query, token] = math.log(score / (1 - score))
        output.pred_boxes[:, : len(boxes)] = torch.tensor(boxes)
        return output

    model = dino.model
    hooks = [model.register_forward_pre_hook(note, with_kwargs=True), model.register_forward_hook(replace)]
    try:
        yield given
    finally:
        for hook in hooks:
            hook.remove()


@pytest.mark.parametrize(
    ("size", "resized", "box"),  # (width, height), (height, width), the middle of the upper left quarter
    [
        ((32, 32), (800, 800), (4, 4, 12, 12)),
        ((400, 300), (800, 1066), (50, 37.5, 150, 112.5)),
        ((4000, 4000), (800, 800), (500, 500, 1500, 1500)),
        ((1000, 4000), (1333, 333), (125, 500, 375, 1500)),
        ((333, 77), (308, 1333), (41.62, 9.62, 124.88, 28.88)),  # 1333 * 77 / 333 = 308.2
    ],
)
def test_resized_by_the_shorter_side_and_boxes_scaled_back(
    dino: GroundingDino, size: tuple[int, int], resized: tuple[int, int], box: tuple[float, ...]
) -> None:
    with answering(dino, [(0.25, 0.25, 0.25, 0.25)], {(0, 1): 0.75}) as given:
        (found,) = propose(dino, Image.new("L", size, 51), "mass")
    assert found.box == pytest.approx(box, abs=0.011)
    assert (found.score, found.label) == (0.75, "mass")
    ((shape, pixels),) = given
    assert shape == (1, 3, *resized)
    # 51 of 255 is 0.2; mean and deviation of ImageNet.
    expected = [(0.2 - mean) / deviation for mean, deviation in ((0.485, 0.229), (0.456, 0.224), (0.406, 0.225))]
    assert pixels.mean(dim=(0, 2, 3)).tolist() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("size", "resized", "box"),
    [((4000, 32), (83, 1333), (500, 31.25, 1500, 93.75)), ((32, 4000), (1333, 83), (31.25, 500, 93.75, 1500))],
)
def test_a_strip_is_extended_to_sixteen_times_its_width(
    dino: GroundingDino, size: tuple[int, int], resized: tuple[int, int], box: tuple[float, ...]
) -> None:
    """Boxes are shares of 4000 x 250; the stage clips them to the image."""
    with answering(dino, [(0.25, 0.25, 0.25, 0.25)], {(0, 1): 0.75}) as given:
        (found,) = propose(dino, Image.new("RGB", size, (124, 116, 104)), "mass")
    assert found.box == pytest.approx(box, abs=0.01)
    ((shape, pixels),) = given
    assert shape == (1, 3, *resized)
    assert pixels.abs().max() < 0.01  # the extension has the colour that becomes 0


def test_label_is_the_phrase_with_the_best_token(dino: GroundingDino) -> None:
    """[CLS] co - lesion ( round ) . st . mass . [SEP]: places 1 to 6 and 8 to 11 (s, ##t, ., mass)."""
    phrases = ("Co-lesion (Round)", "St. Mass")
    apart = [(0.1 + 0.2 * n, 0.5, 0.1, 0.1) for n in range(4)]
    scores = {(0, 3): 0.6, (0, 11): 0.5, (1, 6): 0.3, (1, 10): 0.4, (2, 1): 0.22}
    scores |= {(2, 7): 0.9, (2, 12): 0.9, (3, 0): 0.9}
    with answering(dino, apart, scores):
        found = propose(dino, Image.new("L", (100, 100)), *phrases)
        few = GroundingDino({"model": dino.options.model, "text_threshold": 0.5})
        few.model = dino.model
        named = propose(few, Image.new("L", (100, 100)), *phrases)
    # The separators' and [CLS]'s scores count for nobody.
    assert [(proposal.score, proposal.label) for proposal in found] == [
        (0.6, phrases[0]),
        (0.4, phrases[1]),
        (0.22, phrases[0]),
    ]
    # The default box threshold of 0.25 drops the third; text_threshold leaves the second without a name.
    assert [(proposal.score, proposal.label) for proposal in named] == [(0.6, phrases[0]), (0.4, None)]


def test_overlapping_boxes_are_suppressed_whatever_their_phrase(dino: GroundingDino) -> None:
    boxes = [(0.5, 0.5, 0.4, 0.4), (0.5, 0.5, 0.4, 0.3), (0.5, 0.5, 0.4, 0.1)]  # IoU 0.75 and 0.25 with the first
    with answering(dino, boxes, {(0, 1): 0.5, (1, 3): 0.8, (2, 1): 0.3}):
        found = propose(dino, Image.new("L", (100, 100)), "mass", "polyp")
    assert [proposal.score for proposal in found] == [0.8, 0.3]


def test_scores_and_boxes_are_those_of_transformers(dino: GroundingDino, dino_folder: Path, shared_data: Path) -> None:
    root = shared_data / "kvasir_seg" / "validation"
    image = open_image(root, f"images/{sorted(file.name for file in (root / 'images').iterdir())[0]}")
    # An overlap of 1 suppresses nothing but equal boxes.
    whole = GroundingDino({"model": str(dino_folder), "box_threshold": 0.3, "overlap": 1.0})
    found = propose(whole, image, "polyp")
    processor = GroundingDinoProcessor(
        GroundingDinoImageProcessorPil.from_pretrained(dino_folder), AutoTokenizer.from_pretrained(dino_folder)
    )
    inputs = processor(images=image, text="polyp.", return_tensors="pt")
    with torch.no_grad():
        answer = GroundingDinoForObjectDetection.from_pretrained(dino_folder).eval()(**inputs)
    answer.logits[..., 0] = answer.logits[..., 2:] = -math.inf  # theirs counts [CLS], the full stop and [SEP] too
    (expected,) = processor.post_process_grounded_object_detection(
        answer, inputs["input_ids"], threshold=0.3, target_sizes=[(image.height, image.width)]
    )
    order = expected["scores"].argsort(descending=True)
    assert len(found) == len(order) > 3
    assert [p.score for p in found] == pytest.approx(expected["scores"][order].tolist(), abs=1e-4)
    boxes = {tuple(round(edge) for edge in box) for box in expected["boxes"].tolist()}
    assert {tuple(round(edge) for edge in p.box) for p in found} == boxes


def test_what_fits_together_goes_through_the_model_at_once(tmp_path: Path) -> None:
    """Images of two sizes, grey and in colour, and two prompts."""
    folder = tiny_checkpoints.grounding_dino(tmp_path, shorter_side=96, longest_side=160)
    dino = GroundingDino({"model": str(folder), "box_threshold": 0.1})
    noise = np.random.default_rng(0).integers(0, 255, (4, 64, 80, 3), dtype=np.uint8)
    images = [Image.fromarray(values) for values in noise]
    images[1] = images[1].convert("L")
    images[2] = images[2].resize((64, 80))
    queries = [Query(modality="other", phrases=PHRASES)] * 3 + [Query(modality="other", phrases=PHRASES[:1])]
    sizes: list[int] = []
    hook = dino.model.register_forward_pre_hook(
        lambda module, arguments, keywords: sizes.append(len(keywords["pixel_values"])), with_kwargs=True
    )
    dino.propose(images, queries)
    hook.remove()
    assert sizes == [2, 1, 1]


def test_phrases_beyond_one_prompt_are_asked_in_another(dino: GroundingDino) -> None:
    """A prompt has 254 places; "pleural effusion ." takes three."""
    prompts = dino.prompts(["pleural effusion"] * 100)
    assert [len(prompt.phrases) for prompt in prompts] == [84, 16]
    assert prompts[0].spans[0] == (1, 2)
    assert prompts[0].spans[83] == (250, 251)
    assert dino.prompts([]) == []
    with pytest.raises(ValueError, match="has 301 tokens, more than 254"):
        dino.prompts(["x " * 300])


def test_a_model_that_answers_nan_is_no_silent_nothing(dino_folder: Path) -> None:
    broken = GroundingDino({"model": str(dino_folder)})
    with torch.no_grad():
        broken.model.model.text_projection.weight.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="NaN"):
        propose(broken, Image.new("L", (32, 32), 9), "mass")


def test_identity_depends_on_weights_and_options_but_not_on_the_device(dino_folder: Path, tmp_path: Path) -> None:
    def identity(**options: Any) -> str:
        return GroundingDino({"model": str(dino_folder), **options}).identity

    copy = tiny_checkpoints.grounding_dino(tmp_path / "other")
    hub = {"model": "IDEA-Research/grounding-dino-tiny"}
    assert identity() == identity(device="cuda") == identity(model=str(copy))
    (copy / "preprocessor_config.json").write_text('{"size": {"shortest_edge": 600, "longest_edge": 1000}}')
    revisions = [identity(**hub, revision=digit * 40) for digit in "ab"]
    assert len({identity(), identity(model=str(copy)), identity(overlap=0.4), *revisions}) == 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "IDEA-Research/grounding-dino-tiny"}, "pin 'revision' to a commit"),
        ({"model": "IDEA-Research/grounding-dino-tiny", "revision": "main"}, "pin 'revision' to a commit"),
        ({"box_treshold": 0.1}, "did you mean 'box_threshold'?"),
        ({"box_threshold": 25}, "choose a number from 0 to 1"),
    ],
)
def test_mistakes_in_options_are_one_line(dino_folder: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        GroundingDino({"model": str(dino_folder), **options})
    assert str(caught.value).startswith("proposals.options.grounding_dino")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_weights_that_can_run_code_are_refused(dino_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(UserError, match=r"has no \*\.safetensors"):
        GroundingDino({"model": str(tmp_path)})


def test_files_that_cannot_be_loaded_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    (tmp_path / "config.json").write_text('{"model_type": "grounding-dino"}')
    with pytest.raises(UserError, match="GroundingDinoForObjectDetection cannot be loaded from"):
        _ = GroundingDino({"model": str(tmp_path)}).model


def test_absent_gpu_is_said(dino_folder: Path) -> None:
    if torch.cuda.is_available():
        assert propose(GroundingDino({"model": str(dino_folder), "device": "cuda"}), Image.new("L", (9, 9)), "mass")
        return
    with pytest.raises(UserError, match="no CUDA device, choose cpu"):
        propose(GroundingDino({"model": str(dino_folder), "device": "cuda"}), Image.new("L", (32, 32)), "mass")
