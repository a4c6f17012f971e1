"""The time of an answer: each run encodes the image and the text anew."""

from pathlib import Path
from typing import Any

import pytest
import torch

from models.clip.model import Clip
from models.data.batches import stack_images
from models.data.shards import ShardSet
from models.encoders import keep_features
from models.unet.config import UNetConfig
from models.unet.model import UNet
from pipelines.config import parse
from pipelines.evaluate.evaluation_set import EvaluationSet
from pipelines.evaluate.latency import RUNS, WARM_UP, embedding_latency
from tests.models.small import ENCODERS, make_model
from tests.pipelines.evaluate.small_world import (
    WORDS,
    ImagesOnly,
    Matcher,
    image,
    region,
    tokenizer_of,
    write_shards,
)


def first_set(folder: Path, model: Any, tokenizer: Any, images: list[dict[str, Any]]) -> EvaluationSet:
    shards = ShardSet(*write_shards(folder, images), "test")
    return EvaluationSet(model, tokenizer, shards.samples, 4)


def test_every_run_encodes_image_and_text_although_frozen_encoders_keep_them(tmp_path: Path) -> None:
    tokenizer = tokenizer_of([f"a finding called {word}" for word in WORDS])
    settings = {name: {**ENCODERS[name], "frozen": True} for name in ("image_encoder", "text_encoder")}
    del settings["image_encoder"]["convolutional_stem"]
    model = Clip(parse(Clip.Config, {**ENCODERS, **settings}, "clip"), len(tokenizer)).eval()
    keep_features(model, tmp_path / "kept")
    calls = {"image": 0, "text": 0}

    def count(name: str) -> None:
        calls[name] += 1

    model.image_encoder.backbone.register_forward_hook(lambda *_: count("image"))
    model.text_encoder.backbone.register_forward_hook(lambda *_: count("text"))
    found = embedding_latency(first_set(tmp_path, model, tokenizer, [image(0), image(1)]))
    assert found is not None
    assert found > 0
    assert calls == {"image": RUNS + WARM_UP, "text": RUNS + WARM_UP}


def test_the_regions_that_a_method_may_see_are_embedded_too(tmp_path: Path) -> None:
    tokenizer = tokenizer_of(WORDS)
    regions = [region(0), region(1, role="input"), region(2, role="input")]
    test = first_set(tmp_path, make_model(tokenizer, max_regions=1), tokenizer, [image(0, regions=regions)])
    sample = test.samples([0])[0]
    images, _ = test.inputs(sample, WORDS[0])
    assert torch.equal(images.crops, stack_images([sample], [[1]]).crops)
    whole, _ = first_set(tmp_path, Matcher(tokenizer), tokenizer, [image(0, regions=regions)]).inputs(sample, WORDS[0])
    assert len(whole.crops) == 0


@pytest.mark.parametrize("case", ["segments", "embeds no text", "no report"])
def test_there_is_nothing_to_measure(tmp_path: Path, case: str) -> None:
    tokenizer = tokenizer_of(WORDS)
    models = {"segments": UNet(UNetConfig(base=2), len(tokenizer)), "embeds no text": ImagesOnly()}
    images = [image(0, report=None, status="unannotated")] if case == "no report" else [image(0)]
    assert embedding_latency(first_set(tmp_path, models.get(case, Matcher(tokenizer)), tokenizer, images)) is None
