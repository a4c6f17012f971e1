"""OWLv2, SAM 2 and SAM 3 against `transformers`' own way from pixels and phrases to boxes and masks."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import interpolate
from transformers import AutoTokenizer, Owlv2ForObjectDetection, Owlv2ImageProcessorPil, Sam2Model, Sam3Model

from pipelines.errors import UserError
from pipelines.proposals.proposers.grounding_dino import GroundingDino
from pipelines.proposals.proposers.owlv2 import Owlv2
from pipelines.proposals.proposers.sam3_phrases import Sam3Phrases
from pipelines.proposals.protocols import Proposal, Query
from pipelines.proposals.segmenters.sam2 import Sam2
from pipelines.proposals.segmenters.sam3 import Sam3
from pipelines.proposals.square import Square
from tests import tiny_checkpoints

SIZE = (90, 60)
PHRASES = ("Effusion", "mass")
EVERYTHING = {"box_threshold": 0.0, "overlap": 1.0}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("own_code")
    return {
        name: getattr(tiny_checkpoints, name)(root / name) for name in ("owlv2", "sam2", "sam3", "mm_grounding_dino")
    }


@pytest.fixture
def image() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (*SIZE[::-1], 3), dtype=np.uint8))


def propose(found: Any, image: Image.Image, *phrases: str) -> list[Proposal]:
    (proposals,) = found.propose([image], [Query(modality="other", phrases=phrases)])
    return proposals


def by_hand(image: Image.Image, side: int, mean: list[float], deviation: list[float]) -> torch.Tensor:
    values = np.asarray(image.resize((side, side), Image.Resampling.BILINEAR), dtype=np.float64) / 255
    return torch.from_numpy((values - mean) / deviation).permute(2, 0, 1)[None].float()


def test_owlv2_answers_as_its_own_code(folders: dict[str, Path], image: Image.Image) -> None:
    found = propose(Owlv2({"model": str(folders["owlv2"]), **EVERYTHING}), image, *PHRASES)
    processor = Owlv2ImageProcessorPil.from_pretrained(folders["owlv2"])
    text = AutoTokenizer.from_pretrained(folders["owlv2"])(
        list(PHRASES), padding="max_length", max_length=16, return_tensors="pt"
    )
    with torch.no_grad():
        answer = Owlv2ForObjectDetection.from_pretrained(folders["owlv2"]).eval()(
            pixel_values=processor(images=image, return_tensors="pt")["pixel_values"].float(), **text
        )
    (own,) = processor.post_process_object_detection(answer, threshold=0.0, target_sizes=[SIZE[::-1]])
    assert 1 < len(found) <= len(own["boxes"])  # suppression drops boxes that are equal
    rows = np.column_stack([own["boxes"].numpy(), own["scores"].numpy()])
    for proposal in found:
        differences = np.abs(rows - [*proposal.box, proposal.score]) <= [0.02] * 4 + [2e-4]
        assert differences.all(axis=1).any()


def test_sam3_answers_phrases_as_its_own_code(folders: dict[str, Path], image: Image.Image) -> None:
    """Scores and boxes as `Sam3ImageProcessor.post_process_object_detection` has them, which needs torchvision."""
    found = propose(Sam3Phrases({"model": str(folders["sam3"]), **EVERYTHING}), image, "mass")
    text = AutoTokenizer.from_pretrained(folders["sam3"])(
        ["mass"], padding="max_length", max_length=32, return_tensors="pt"
    )
    with torch.no_grad():
        answer = Sam3Model.from_pretrained(folders["sam3"]).eval()(
            pixel_values=by_hand(image, 112, [0.5] * 3, [0.5] * 3),
            input_ids=text["input_ids"],
            attention_mask=text["attention_mask"],
        )
    scores = (answer.pred_logits.sigmoid() * answer.presence_logits.sigmoid())[0]
    boxes = answer.pred_boxes[0] * torch.tensor([*SIZE, *SIZE])
    assert len(found) == 20
    order = scores.argsort(descending=True)
    assert [p.score for p in found] == pytest.approx(scores[order].tolist(), abs=1e-4)
    nearest = [min(np.abs(np.subtract(p.box, box)).max() for box in boxes.tolist()) for p in found]
    assert max(nearest) < 0.01


def test_sam2_answers_boxes_as_its_own_code(folders: dict[str, Path], image: Image.Image) -> None:
    box = (9.0, 12.0, 63.0, 54.0)
    with torch.no_grad():
        answer = Sam2Model.from_pretrained(folders["sam2"]).eval()(
            pixel_values=by_hand(image, 256, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
            input_boxes=torch.tensor([[[25.6, 51.2, 179.2, 230.4]]]),  # 256 / 90 across, 256 / 60 down
            multimask_output=False,
        )
    logits = interpolate(answer.pred_masks[0], SIZE[::-1], mode="bilinear", align_corners=False)[0, 0].numpy()
    (segments,) = Sam2({"model": str(folders["sam2"])}).segment([image], [[box]])
    (found,) = segments
    assert 0 < (logits > 0).mean() < 1
    assert (found.mask == (logits > 0)).mean() > 0.999
    assert found.quality == pytest.approx(answer.iou_scores.item(), abs=1e-5)


def test_more_boxes_than_the_decoder_takes_at_once(folders: dict[str, Path], image: Image.Image) -> None:
    segmenter = Sam3({"model": str(folders["sam3"])})
    encoded: list[int] = []
    hook = segmenter.model.vision_encoder.register_forward_hook(lambda module, inputs, output: encoded.append(1))
    boxes = [(float(n), 2.0, 40.0 + n, 50.0) for n in range(34)]
    (found,) = segmenter.segment([image], [boxes])
    qualities = [one.quality for one in found]
    hook.remove()
    assert encoded == [1]
    (last,) = segmenter.segment([image], [boxes[33:]])
    assert len(qualities) == 34
    assert next(iter(last)).quality == pytest.approx(qualities[33], abs=1e-5)


@pytest.mark.parametrize(("kind", "name", "length"), [(Owlv2, "owlv2", 16), (Sam3Phrases, "sam3", 32)])
def test_a_phrase_beyond_the_text_encoder_is_refused(
    folders: dict[str, Path], image: Image.Image, kind: Any, name: str, length: int
) -> None:
    with pytest.raises(ValueError, match=f"has 302 tokens, more than {length}"):
        propose(kind({"model": str(folders[name])}), image, "x " * 300)


def ask(found: Any, image: Image.Image) -> list[Any]:
    if hasattr(found, "propose"):
        return propose(found, image, "mass")
    return list(next(iter(found.segment([image], [[(1.0, 1.0, 20.0, 20.0)]]))))


@pytest.mark.parametrize(("kind", "name"), [(Owlv2, "owlv2"), (Sam3Phrases, "sam3"), (Sam2, "sam2")])
def test_a_model_that_answers_nan_is_no_silent_nothing(
    folders: dict[str, Path], image: Image.Image, kind: Any, name: str
) -> None:
    broken = kind({"model": str(folders[name])})
    with torch.no_grad():
        for weights in broken.model.parameters():
            weights.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="answered NaN"):
        ask(broken, image)


@pytest.mark.parametrize(
    ("kind", "name", "reason"),
    [
        (Sam3, "sam2", "it is of type sam2, not sam3_video or sam3_tracker"),
        (Sam2, "owlv2", "it is of type owlv2, not sam2_video or sam2"),
        (Sam3Phrases, "owlv2", "it is of type owlv2, not sam3_video or sam3"),
        # Its weights fit, and only its bias would go missing.
        (GroundingDino, "mm_grounding_dino", "it is of type mm-grounding-dino, not grounding-dino"),
    ],
)
def test_a_checkpoint_of_another_model_is_one_line(folders: dict[str, Path], kind: Any, name: str, reason: str) -> None:
    with pytest.raises(UserError, match=f"is no checkpoint for .*: {reason}$"):
        _ = kind({"model": str(folders[name])}).model


def test_a_checkpoint_without_pixel_statistics_is_one_line(folders: dict[str, Path], tmp_path: Path) -> None:
    found = Sam2({"model": str(folders["sam2"])})
    (tmp_path / "model.safetensors").touch()
    (tmp_path / "preprocessor_config.json").write_text('{"image_mean": [0.5, 0.5, 0.5]}')
    without = Sam2({"model": str(tmp_path)}).options
    with pytest.raises(UserError, match=r"preprocessor_config\.json of .* has no image_std"):
        Square.of(without, found.model.config.prompt_encoder_config.image_size)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "float16"}, "precision 'float16': choose from float32, bfloat16"),
        ({"box_threshold": 25}, "choose a number from 0 to 1"),
        ({"text_threshold": 0.1}, "text_threshold"),
    ],
)
def test_mistakes_in_options_are_one_line(folders: dict[str, Path], options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        Owlv2({"model": str(folders["owlv2"]), **options})
    assert str(caught.value).startswith("proposals.options.owlv2")
    assert "\n" not in str(caught.value)


def test_precision_is_part_of_the_identity(folders: dict[str, Path]) -> None:
    plain, same, coarse = (
        Sam2({"model": str(folders["sam2"]), **options}).identity
        for options in ({}, {"precision": "float32"}, {"precision": "bfloat16"})
    )
    assert plain == same != coarse
    assert plain != Sam3({"model": str(folders["sam2"])}).identity
