"""Altered captions, and which of an image's regions an epoch trains with."""

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.data.batches import Collate, Tokenise
from models.data.format import CROPS, IMAGE, pack
from models.data.negatives import NegativeCounts, altered_captions
from models.data.shards import Sample, ShardSet
from models.data.texts import region_phrase, regions_of_epoch
from models.geometry import POSITIONS
from models.regionmed_clip.config import RegionMedClipConfig
from models.regionmed_clip.model import RegionMedClip
from pipelines.config import parse
from pipelines.errors import UserError
from tests.models.small import ADJECTIVES, ENCODERS, make_model
from tests.shards import image_captions, image_meta, jpeg, region_caption, region_meta

TERMS = ("cyst", "nodule", "Ground-glass", "mass")
WRITTEN = tuple(f"{word} | cyst | left upper" for word in ("oval", "flat", "irregular", "lobulated", "spiculated"))
CAPTION = region_caption("a-0", "round", "cyst", "left upper", negatives=WRITTEN)


def altered(counts: NegativeCounts, seed: int = 0) -> list[str]:
    return altered_captions(CAPTION, counts, TERMS, np.random.default_rng(seed))


def test_all_five_adjectives_are_taken_as_they_are_written() -> None:
    words = ["oval", "flat", "irregular", "lobulated", "spiculated"]
    assert altered(NegativeCounts()) == [f"{word} cyst left upper" for word in words]


def test_every_kind_alters_its_own_part_alone() -> None:
    words, places, findings = Counter(), Counter(), Counter()
    for seed in range(300):
        found = altered(NegativeCounts(adjective=2, position=2, term=1), seed)
        assert len(set(found)) == 5
        assert all(text.endswith(" cyst left upper") for text in found[:2])
        assert all(text.startswith("round cyst ") for text in found[2:4])
        assert found[4].startswith("round ")
        assert found[4].endswith(" left upper")
        words.update(text.split()[0] for text in found[:2])
        places.update(text.removeprefix("round cyst ") for text in found[2:4])
        findings[found[4].removeprefix("round ").removesuffix(" left upper")] += 1
    assert set(words) == {"oval", "flat", "irregular", "lobulated", "spiculated"}
    assert set(places) == set(POSITIONS) - {"left upper"}
    assert set(findings) == {"nodule", "ground glass", "mass"}
    # 600 draws of 5 and of 8, and 300 of 3; four standard deviations.
    assert all(abs(count - 120) < 40 for count in words.values())
    assert all(abs(count - 75) < 33 for count in places.values())
    assert all(abs(count - 100) < 33 for count in findings.values())


def test_terms_that_encoders_read_alike_are_drawn_once() -> None:
    counts = NegativeCounts(adjective=3, term=2)
    terms = ["Mass", "mass", "opacity", "Nodule"]
    for seed in range(60):
        found = altered_captions(CAPTION, counts, terms, np.random.default_rng(seed))
        assert len(set(found)) == 5


def test_regions_without_altered_captions_are_refused_unless_none_is_taken() -> None:
    config = parse(RegionMedClipConfig, ENCODERS, "model")
    bare = region_caption("a-0", "round", "cyst", "left upper", negatives=None)
    sample = sample_of([("input", "ok")])
    sample = dataclasses.replace(sample, captions=dataclasses.replace(sample.captions, regions=(bare,)))
    with pytest.raises(ValueError, match=r"negatives\.adjective 5: 1 of 1 described training regions have fewer"):
        RegionMedClip.complete_config(config, [sample])
    other = parse(RegionMedClipConfig, ENCODERS | {"negatives": {"adjective": 0, "position": 5}}, "model")
    assert RegionMedClip.complete_config(other, [sample]) == other


def test_too_few_terms_are_an_error() -> None:
    with pytest.raises(ValueError, match="1 altered captions are wanted of 0"):
        altered_captions(CAPTION, NegativeCounts(adjective=4, term=1), ["Cyst"], np.random.default_rng(0))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"adjective": 3, "position": 1}, "negatives are 5 captions, not adjective 3, position 1, term 0"),
        ({"position": 1}, "negatives are 5 captions, not adjective 5, position 1, term 0"),
        ({"adjective": 6, "position": -1}, "negatives are 5 captions, not adjective 6, position -1"),
        ({"adjective": 4, "postion": 1}, "negatives.postion: unknown key; did you mean 'position'?"),
        ({"adjective": 4, "size": 1}, "negatives.size: unknown key; valid keys: adjective, position, term"),
        ({"adjective": 2.5, "position": 2.5}, "negatives.adjective"),
    ],
)
def test_counts_that_are_not_five_are_one_line(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as refused:
        parse(RegionMedClipConfig, ENCODERS | {"negatives": given}, "model")
    assert "\n" not in str(refused.value)


def sample_of(statuses: list[tuple[str, str]], key: str = f"{5:016x}") -> Sample:
    """An image of which region `n` has the given role and status, and the adjective `n` of the vocabulary."""
    ids = [f"{key}-{number}" for number in range(len(statuses))]
    crops, spans = pack(jpeg(np.full((4, 4, 3), 10 * number, np.uint8), quality=95) for number in range(len(statuses)))
    regions = [region_meta(name, role, crop=span) for name, (role, _), span in zip(ids, statuses, spans, strict=True)]
    captions = [
        region_caption(name, word, "cyst", "left upper", status=status, negatives=WRITTEN)
        for name, word, (_, status) in zip(ids, ADJECTIVES, statuses, strict=False)
    ]
    members = {IMAGE: jpeg(np.zeros((16, 16, 3), np.uint8)), CROPS: crops}
    return Sample(key, image_meta(key, regions), image_captions(key, captions, report="red"), members)


def test_of_more_regions_each_has_its_turn() -> None:
    given = sample_of(
        [("input", "failed"), ("input", "ok"), ("truth", "ok"), ("input", "ok"), ("input", "ok"), ("input", "ok")]
    )
    drawn = [tuple(regions_of_epoch(given, 2, 0, epoch)) for epoch in range(300)]
    # What has no caption, and what is truth, takes no region's place.
    counts = Counter(index for chosen in drawn for index in chosen)
    assert set(counts) == {1, 3, 4, 5}
    assert all(abs(count - 150) < 35 for count in counts.values())
    assert all(first < second for first, second in drawn)
    assert drawn == [tuple(regions_of_epoch(given, 2, 0, epoch)) for epoch in range(300)]
    assert drawn != [tuple(regions_of_epoch(given, 2, 1, epoch)) for epoch in range(300)]
    assert regions_of_epoch(given, 2, 0, None) == [1, 3]
    assert regions_of_epoch(given, 4, 0, 7) == regions_of_epoch(given, 9, 0, None) == [1, 3, 4, 5]
    assert regions_of_epoch(given, 0, 0, 7) == []


def test_a_batch_has_the_crops_and_captions_of_the_regions_that_were_drawn(tokenizer) -> None:
    given = [sample_of([("input", "ok")] * 6, f"{number:016x}") for number in range(4)]
    collate = Collate(Tokenise(tokenizer, 32), 3, seed=1)
    for epoch in range(3):
        batch = collate(given, epoch)
        chosen = [regions_of_epoch(sample, 3, 1, epoch) for sample in given]
        assert batch.images.owner.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
        levels = batch.images.crops.float().mean(dim=(1, 2, 3)).div(10).round().long().tolist()
        assert levels == [index for indices in chosen for index in indices]
        expected = collate.tokenise(
            [
                region_phrase(sample.captions.regions[i])
                for sample, indices in zip(given, chosen, strict=True)
                for i in indices
            ]
        )
        assert torch.equal(batch.phrases.ids[batch.region][:, : expected.ids.shape[1]], expected.ids)
    assert len({tuple(regions_of_epoch(given[0], 3, 1, epoch)) for epoch in range(20)}) > 5


def test_the_terms_are_those_of_the_training_regions(shards: Path, tokenizer) -> None:
    samples = list(ShardSet(shards / "images", shards / "captions", "train").samples(with_image=False))
    config = make_model(tokenizer, negatives={"adjective": 4, "term": 1}).config
    completed = RegionMedClip.complete_config(config, samples)
    assert completed.terms == ("blue", "green", "red")
    assert dataclasses.replace(completed, terms=()) == config
    named = dataclasses.replace(config, terms=("cyst", "mass"))
    assert RegionMedClip.complete_config(named, samples) == named
    without = dataclasses.replace(config, negatives=NegativeCounts())
    assert RegionMedClip.complete_config(without, samples) == without
    one = [sample for sample in samples if all(region.term == "red" for region in sample.captions.regions)]
    with pytest.raises(ValueError, match=r"negatives.term 1 needs 2 different terms, and there are 1: red"):
        RegionMedClip.complete_config(config, one)
    with pytest.raises(ValueError, match="none has a caption"):
        RegionMedClip.complete_config(config, [])


def test_a_method_alters_what_its_settings_say(shards: Path, tokenizer) -> None:
    samples = [one for one in ShardSet(shards / "images", shards / "captions", "train").samples() if one.meta.regions]
    changes = {"negatives": {"adjective": 0, "position": 3, "term": 2}, "terms": ("red", "green", "blue")}
    batch = make_model(tokenizer, **changes).collate(Tokenise(tokenizer, 32), None, 3)(samples[:4], 0)
    texts = [text.split() for text in tokenizer.batch_decode(batch.phrases.ids, skip_special_tokens=True)]
    for own, others in zip(batch.region.tolist(), batch.negatives.tolist(), strict=True):
        adjective, term, *place = texts[own]
        assert all(texts[other][:2] == [adjective, term] and texts[other][2:] != place for other in others[:3])
        assert {texts[other][1] for other in others[3:]} == {"red", "green", "blue"} - {term}
