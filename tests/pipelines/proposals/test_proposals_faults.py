"""What the stage does about unreadable files, interruptions, failing plug-ins and mistakes of the user."""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from PIL import Image

from pipelines.config import parse
from pipelines.errors import UserError
from pipelines.proposals.config import ProposalsConfig
from pipelines.proposals.protocols import Proposal, Query
from pipelines.registry import PLUGINS
from tests.pipelines.proposals.proposals_world import (
    CONFIG,
    FIRST,
    SIDE,
    Plain,
    World,
    image_id,
)


def test_images_that_cannot_be_read_are_counted(world: World) -> None:
    ids = [world.image("train") for _ in range(4)]
    (world.root / "0.png").unlink()
    (world.root / "1.png").write_bytes(b"not a picture")
    (world.root / "2.png").write_bytes((world.root / "3.png").read_bytes())
    summary, rows = world.run(max_failed_fraction=1.0)
    assert (summary["failed"], summary["ok"]) == (3, 1)
    assert summary["reasons"]["failed"] == {
        "missing_file": 1,
        "changed_since_ingest": 2,
    }
    assert {row.image_id for row in rows} == {ids[3]}
    with pytest.raises(UserError, match="max_failed_fraction"):
        world.run()


def test_started_again_only_what_is_missing_is_asked(world: World) -> None:
    """What was asked, after each change of one thing."""
    for split in ("train", "train", "validation", "test"):
        world.box(world.image(split), *FIRST)
    (world.root / "3.png").rename(world.root / "away.png")
    summary, _ = world.run()
    # Two training images have boxes without masks, for which the segmenter was asked.
    assert (summary["answered"], summary["reused"]) == ({"saliency": 3, "annotations": 2}, {})
    (world.root / "away.png").rename(world.root / "3.png")
    summary, _ = world.run()
    assert (summary["answered"], summary["reused"]) == ({"saliency": 1}, {"saliency": 3, "annotations": 2})
    whole = world.output.read_bytes()
    summary, _ = world.run(phrases={}, batch_size=1, labelled_images=4)
    assert (summary["answered"], summary["reused"]) == ({}, {"saliency": 4, "annotations": 2})
    assert world.output.read_bytes() == whole
    world.cache.unlink()
    world.run()
    assert world.output.read_bytes() == whole  # the cache never shows in the table

    world.replace(2, Image.new("L", (SIDE, SIDE), 100))
    assert world.run()[0]["answered"] == {"saliency": 1}
    world.annotations[0] = dataclasses.replace(world.annotations[0], x1=30.0)
    assert world.run()[0]["answered"] == {"annotations": 1}
    assert world.run(options={"saliency": {"overlap": 0.2}})[0]["answered"] == {"saliency": 4}
    assert world.run(options={"threshold": {"margin": 0.2}})[0]["answered"] == {"saliency": 4, "annotations": 2}
    assert world.run(max_proposals=2)[0]["answered"] == {"saliency": 4, "annotations": 2}
    assert world.run()[0]["answered"] == {}


def test_a_swapped_file_poisons_no_answer(world: World) -> None:
    for _ in range(3):
        world.image("test")
    world.run()
    whole = world.output.read_bytes()
    world.cache.unlink()
    kept = (world.root / "1.png").read_bytes()
    Image.new("L", (SIDE, SIDE), 30).save(world.root / "1.png")
    summary, _ = world.run()
    assert summary["reasons"]["failed"] == {"changed_since_ingest": 1}
    (world.root / "1.png").write_bytes(kept)
    world.run()
    assert world.output.read_bytes() == whole


def test_interrupted_run_resumes_behind_the_last_batch(
    world: World, plain: type[Plain], monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(8):
        world.image("test")

    def stop(images: Any) -> None:
        if len(plain.calls) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(Plain, "fault", staticmethod(stop))
    with pytest.raises(KeyboardInterrupt):
        world.run(proposers=["plain"], batch_size=2)
    assert not world.output.exists()
    summary, rows = world.run(proposers=["plain"], batch_size=2)
    assert (summary["answered"], summary["reused"]) == ({"plain": 4}, {"plain": 4})
    assert len(rows) == 8
    assert sum(map(len, plain.calls)) == 8 + 2  # the interrupted batch is asked twice


def test_failing_batch_is_asked_image_by_image(
    world: World, plain: type[Plain], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(5):
        world.image("test")
    world.replace(1, Image.new("RGB", (SIDE, SIDE)))

    def fail(images: Sequence[Image.Image]) -> None:
        if any(image.mode == "RGB" for image in images):
            raise RuntimeError("no colours,\nplease")

    monkeypatch.setattr(Plain, "fault", staticmethod(fail))
    summary, rows = world.run(proposers=["plain"])
    assert [len(call) for call in plain.calls] == [3, 1, 1, 1, 2]
    assert (summary["ok"], summary["reasons"]) == (4, {"failed": {"RuntimeError: no colours, please": 1}})
    assert {row.image_id for row in rows} == {image_id(n) for n in (0, 2, 3, 4)}
    assert "Traceback" in capsys.readouterr().err
    # Failed answers are not kept: another run asks again.
    assert world.run(proposers=["plain"])[0]["answered"] == {}
    monkeypatch.setattr(Plain, "fault", None)
    assert world.run(proposers=["plain"])[0]["answered"] == {"plain": 1}


@pytest.mark.parametrize("error", [MemoryError, torch.OutOfMemoryError])
def test_full_memory_has_a_code_of_its_own(
    world: World, plain: type[Plain], monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    for _ in range(3):
        world.image("test")

    def fill(images: Sequence[Image.Image]) -> None:
        if len(images) > 1 or len(plain.calls) == 4:
            raise error

    monkeypatch.setattr(Plain, "fault", staticmethod(fill))
    summary, _ = world.run(proposers=["plain"])
    assert (summary["ok"], summary["reasons"]) == (2, {"failed": {"out_of_memory": 1}})


def test_stage_stops_as_soon_as_too_many_images_failed(
    world: World, plain: type[Plain], monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(20):
        world.image("test")

    def fail(images: Sequence[Image.Image]) -> None:
        raise RuntimeError("the GPU has gone")

    monkeypatch.setattr(Plain, "fault", staticmethod(fail))
    with pytest.raises(UserError, match="RuntimeError: the GPU has gone"):
        world.run(proposers=["plain"], max_failed_fraction=0.2, batch_size=1)
    assert len(plain.calls) == 5  # the first beyond a fifth of 20


class Nonsense(Plain):
    """Boxes and scores that are no numbers."""

    def propose(self, images: Sequence[Image.Image], queries: Sequence[Query]) -> Iterator[list[Proposal]]:
        box = (10.0, 10.0, 30.0, 30.0)
        nonsense = [Proposal(box=(math.nan, 0.0, 5.0, 5.0), score=0.5), Proposal(box=box, score=math.nan)]
        return iter([nonsense] * len(images))


def test_bad_answers_of_a_plug_in_are_rejected_not_lost(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PLUGINS["proposers"], "nonsense", f"{__name__}:Nonsense")
    world.box(world.image("test"), 8, 8, 24, 24)
    _, rows = world.run(proposers=["nonsense"])
    assert [(row.proposer, row.reason, row.mask) for row in rows] == [
        ("nonsense", "box_not_finite", None),
        ("nonsense", "score_not_finite", None),
        ("annotations", None, None),
    ]


def test_mistakes_of_the_user(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.image("test")
    monkeypatch.setitem(PLUGINS["proposers"], "cheat", "pipelines.proposals.proposers.annotations:Annotations")
    for changes, message in (
        ({"proposers": ["cheat"]}, "never sees them"),
        (
            {"proposers": ["salience"]},
            "choose from annotations, cheat, grounding_dino, mm_grounding_dino, owlv2, saliency, sam3_phrases",
        ),
        ({"segmenter": "treshold"}, "choose from lite_medsam, medsam, sam2, sam3, threshold"),
        ({"options": {"salience": {}}}, "salience"),
        ({"options": {"saliency": {"scale": 1}}}, r"proposals\.options\.saliency\.scale: unknown key"),
    ):
        with pytest.raises(UserError, match=message):
            world.run(**changes)
    monkeypatch.setitem(PLUGINS["proposers"], "plain", f"{Plain.__module__}:Plain")
    with pytest.raises(UserError, match=r"proposals\.phrases\.radiograph: name what plain should look for"):
        world.run(proposers=["plain"], phrases={})
    world.images[0] = dataclasses.replace(world.images[0], source="elsewhere")
    with pytest.raises(UserError, match="elsewhere"):
        world.run()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"proposers": ["saliency", "saliency"]}, "name each once"),
        ({"proposers": ["annotations"]}, "remove 'annotations'"),
        ({"phrases": {"xray": ["mass"]}}, "is no modality"),
        ({"phrases": {"ct": [" . "]}}, "names nothing"),
        ({"terms": [""]}, "names nothing"),
        ({"batch_size": 0}, "at least 1"),
        ({"gpus_per_worker": -1}, "at least 0"),
        ({"max_failed_fraction": 2}, "from 0 to 1"),
        ({"threads": 2}, "unknown key"),
    ],
)
def test_mistakes_in_params(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse(ProposalsConfig, dataclasses.asdict(CONFIG) | change, "params.yaml: proposals")
