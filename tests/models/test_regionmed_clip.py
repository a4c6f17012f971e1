"""The four losses of RegionMed-CLIP against loops written from paper 001, and what images without regions change."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from models.data.batches import Batch, Collate, Tokenise
from models.data.shards import Sample, ShardSet
from models.regionmed_clip.model import RegionMedClip
from tests.models.small import make_model

TEMPERATURE = 0.07


@pytest.fixture
def samples(shards: Path) -> list[Sample]:
    stored = ShardSet(shards / "images", shards / "captions", "train").samples()
    return [sample for sample in stored if sample.captions.report is not None][:8]


def batch_of(samples: Sequence[Sample], tokenizer) -> Batch:
    batch = Collate(Tokenise(tokenizer, 32), 4)(samples)
    images = batch.images
    doubled = dataclasses.replace(images, pixels=images.pixels.double(), crops=images.crops.double())
    return dataclasses.replace(batch, images=doubled)


def alignment(left: Tensor, right: Tensor) -> float:
    """Eqs. 5 and 7 by loops, divided by the number of rows."""
    total = 0.0
    for i in range(len(left)):
        scores = [math.exp(float(left[i] @ right[j]) / TEMPERATURE) for j in range(len(right))]
        total -= math.log(scores[i] / sum(scores))
    return total / len(left)


def test_the_losses_as_printed(samples: list[Sample], tokenizer) -> None:
    model = make_model(tokenizer, symmetric=False).double().eval()
    batch = batch_of(samples, tokenizer)
    with torch.no_grad():
        found = model(batch, RegionMedClip.losses)
        images, reports = model.embed_pixels(batch.images.pixels), model.embed_text(batch.report)
        summaries, regions = model.embed_text(batch.summary), model.embed_regions(batch.images)
        phrases = model.embed_text(batch.phrases)
    assert float(found["report"]) == pytest.approx(alignment(images, reports), rel=1e-9)
    there = batch.has_summary.nonzero().flatten().tolist()
    assert 0 < len(there) < len(samples)
    assert float(found["summary"]) == pytest.approx(alignment(images[there], summaries[there]), rel=1e-9)
    assert float(found["region"]) == pytest.approx(alignment(regions, phrases[batch.region]), rel=1e-9)
    # Eqs. 4 and 6: the mean over regions and their five altered captions.
    total = 0.0
    for i, altered in enumerate(batch.negatives.tolist()):
        for k in altered:
            total -= math.log(1 - 1 / (1 + math.exp(-float(regions[i] @ phrases[k]))))
    assert float(found["negatives"]) == pytest.approx(total / (5 * len(regions)), rel=1e-9)


def test_both_directions_are_their_mean(samples: list[Sample], tokenizer) -> None:
    model = make_model(tokenizer).double().eval()
    batch = batch_of(samples, tokenizer)
    with torch.no_grad():
        found = model(batch, ("region",))["region"]
        regions, captions = model.embed_regions(batch.images), model.embed_text(batch.phrases)[batch.region]
    expected = (alignment(regions, captions) + alignment(captions, regions)) / 2
    assert float(found) == pytest.approx(expected, rel=1e-9)


def test_images_without_regions_take_part_in_the_losses_of_whole_images_alone(samples: list[Sample], tokenizer) -> None:
    model = make_model(tokenizer).double().eval()
    with_regions = [sample for sample in samples if sample.meta.regions]
    assert len(with_regions) < len(samples)
    with torch.no_grad():
        every, some = (model(batch_of(part, tokenizer), RegionMedClip.losses) for part in (samples, with_regions))
    for name in ("region", "negatives"):
        assert float(every[name]) == pytest.approx(float(some[name]), rel=1e-9)
    assert float(every["report"]) != pytest.approx(float(some["report"]), rel=1e-3)
    without = [sample for sample in samples if not sample.meta.regions]
    with torch.no_grad():
        nothing = model(batch_of([*without, *without], tokenizer), ("region", "negatives"))
    assert [float(value) for value in nothing.values()] == [0.0, 0.0]
