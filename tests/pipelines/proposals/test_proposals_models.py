"""The whole path with Grounding DINO and MedSAM, in this process, in local processes and in Ray actors."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.geometry import Mask, mask_iou
from pipelines.errors import UserError
from pipelines.images import decode_mask, open_image
from pipelines.masks import decode
from pipelines.proposals import stage
from pipelines.registry import plugin
from tests import tiny_checkpoints
from tests.pipelines.proposals.proposals_world import World, of
from tests.workers import few_are_worth_a_worker


@pytest.fixture
def polyps(world: World, shared_data: Path) -> World:
    """Six real images of several sizes, two a split, with their masks."""
    world.root = shared_data / "kvasir_seg" / "validation"
    for n, file in enumerate(sorted((world.root / "images").iterdir())[:6]):
        width, height = open_image(world.root, f"images/{file.name}").size
        split = ("train", "validation", "test")[n % 3]
        mask = f"masks/{file.stem}.png"
        item = world.row(split, width, height, f"images/{file.name}", modality="endoscopy", mask_path=mask)
        world.mask(item, polyp(world.root, file.stem))
    return world


def polyp(root: Path, stem: str) -> Mask:
    return decode_mask((root / "masks" / f"{stem}.png").read_bytes()).values >= 128


def models(folder: Path) -> dict[str, Any]:
    """Params of the two models, with thresholds that random weights reach."""
    dino = tiny_checkpoints.grounding_dino(folder / "grounding_dino", shorter_side=160, longest_side=320)
    return {
        "proposers": ["grounding_dino", "saliency"],
        "segmenter": "medsam",
        "max_proposals": 4,
        "options": {
            "grounding_dino": {"model": str(dino), "box_threshold": 0.01},
            "medsam": {"model": str(tiny_checkpoints.sam(folder / "sam"))},
        },
    }


def test_the_whole_path_with_grounding_dino_and_medsam(polyps: World, tmp_path: Path) -> None:
    settings = models(tmp_path)
    summary, rows = polyps.run(**settings)
    assert (summary["inputs"], summary["ok"]) == (6, 6)
    assert summary["answered"] == {"grounding_dino": 6, "saliency": 6}
    counts = Counter((row.image_id, row.proposer) for row in rows if row.reason is None)
    for image in polyps.images:
        assert counts[image.image_id, "grounding_dino"] == 4
        shape = image.height, image.width
        truth = polyp(polyps.root, Path(image.path).stem)
        drawn = [decode(row.mask, *shape) for row in of(rows, image.image_id, "annotations")]
        assert np.array_equal(np.logical_or.reduce(drawn), truth)
        found = of(rows, image.image_id, "grounding_dino")
        assert {row.label for row in found} <= {"polyp", None}
        for row in found:
            assert 0 <= row.x0 < row.x1 <= image.width
            assert 0 <= row.y0 < row.y1 <= image.height
            if row.reason is None:
                assert (row.segmenter, row.own_phrases) == ("medsam", False)
                assert row.mask_quality is not None
            if row.mask:
                mask = decode(row.mask, *shape)
                assert row.truth_iou == pytest.approx(max(mask_iou(mask, part) for part in drawn))
    assert any(row.mask for row in rows if row.proposer == "grounding_dino")
    before = polyps.output.read_bytes()
    summary, _ = polyps.run(**settings)
    assert summary["answered"] == {}
    assert polyps.output.read_bytes() == before


@pytest.mark.slow
def test_local_processes_and_ray_actors_give_the_bytes_of_one_process(
    polyps: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few_are_worth_a_worker(monkeypatch, stage)
    settings = models(tmp_path) | {"batch_size": 1}
    polyps.run(**settings)
    one = polyps.output.read_bytes()
    for address in (None, "local"):
        if address:
            monkeypatch.setenv("RAY_ADDRESS", address)
        polyps.cache.unlink()
        here = Path.cwd()
        summary, _ = polyps.run(**settings, processes=2)
        assert summary["answered"] == {"grounding_dino": 6, "saliency": 6}
        assert polyps.output.read_bytes() == one
        assert Path.cwd() == here
    monkeypatch.delenv("RAY_ADDRESS")
    with pytest.raises(UserError, match=r"need 2000 GPUs, this machine has"):
        polyps.run(**settings, processes=2, gpus_per_worker=1000)
    settings["options"]["grounding_dino"]["model"] = str(tmp_path / "sam")
    with pytest.raises(UserError, match="GroundingDinoImageProcessorPil cannot be loaded") as caught:
        polyps.run(**settings, processes=2)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["grounding_dino", "mm_grounding_dino", "owlv2", "sam3_phrases"])
def test_a_detector_without_its_tokenizer_is_refused(name: str, tmp_path: Path) -> None:
    make = tiny_checkpoints.sam3 if name == "sam3_phrases" else getattr(tiny_checkpoints, name)
    folder = make(tmp_path / "model")
    # Else transformers makes one to which all phrases are the same.
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (folder / file).unlink()
    detector: Any = plugin("proposers", name)({"model": str(folder)})
    with pytest.raises(UserError, match=r"gives no tokenizer that knows a word: copy its tokenizer\.json there"):
        _ = detector.tokenizer
