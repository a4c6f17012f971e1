"""Two evaluations by all tasks, of methods that are neither right nor wrong throughout."""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.data.batches import Images, Tokens
from models.data.shards import ShardSet
from models.method import Method
from pipelines.config import parse
from pipelines.evaluate.config import EvaluateConfig
from pipelines.evaluate.scoring import ScoredModel, score_split
from pipelines.evaluate.stage import evaluate
from tests.pipelines.evaluate.small_world import SIDE, WORDS, image, levels, region, tokenizer_of, write_shards

TOKENIZER = tokenizer_of([*WORDS, "a finding called no left right spot upper which is it bright area"])
TASKS: dict[str, dict[str, Any]] = {
    "retrieval": {"ks": [1, 3], "precision_ks": [2], "deduplicate": True},
    "region_retrieval": {"ks": [1, 3]},
    "grounding": {"by_class": True},
    "detection": {"training_images": 8},
    "zero_shot": {
        "kind": "both",
        "templates": ["a {label}", "{label}"],
        "negatives": ["no {label}"],
        "transductive": True,
    },
    "laterality": {"sample": 12},
    "segmentation": {},
    "probe": {"shots": [1, "all"]},
    "vqa": {"hidden": 8, "epochs": 2},
}
LEFT, RIGHT = (0, 0, 8, 8), (8, 8, 16, 16)


class Drawn(Method):
    """Random weights decide what it makes of pixels and words; the same number draws the same."""

    max_regions = 0
    normalises_text = True
    reads_text = True

    def __init__(self, number: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(number)
        self.pixels = nn.Parameter(torch.randn(16, 8, generator=generator))
        self.words = nn.Parameter(torch.randn(len(TOKENIZER), 8, generator=generator))
        self.maps = nn.Parameter(torch.randn(8, 16, generator=generator))

    def _pooled(self, pixels: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(levels(pixels) / 255, 4).flatten(1)

    def embed_images(self, images: Images) -> Tensor:
        return F.normalize(torch.sin(9 * self._pooled(images.pixels) @ self.pixels), dim=-1)

    def embed_regions(self, images: Images) -> Tensor:
        return F.normalize(torch.sin(9 * self._pooled(images.crops) @ self.pixels), dim=-1)

    def embed_text(self, tokens: Tokens) -> Tensor:
        return F.normalize(self.words[tokens.ids].sum(dim=1), dim=-1)

    def ground(self, images: Images, tokens: Tokens) -> Tensor:
        return (2 * self._pooled(images.pixels) + self.embed_text(tokens) @ self.maps).reshape(-1, 4, 4)

    def segment(self, images: Images, tokens: Tokens) -> Tensor:
        return F.interpolate(self.ground(images, tokens)[:, None], (SIDE, SIDE), mode="bilinear")[:, 0].sigmoid()


def images_of(split: str, count: int, start: int) -> list[dict[str, Any]]:
    """Of two sources; two images share a text, which names a side; regions, targets, labels and questions."""
    found = []
    for number in range(count):
        side, other = (("left", "right"), ("right", "left"))[number % 2]
        word = (number // 2) % 5
        found.append(
            image(
                word + 1,
                key=f"{start + number:016x}",
                split=split,
                source="one" if number % 3 else "two",
                labels=[WORDS[word % 3]] if number % 4 else [],
                report=f"A {WORDS[word]} area on the {side}.",
                regions=[
                    region(
                        word, LEFT, level=20 * word + 20, label=WORDS[word % 3], phrase=f"{WORDS[word]} spot {side}"
                    ),
                    region(word + 6, RIGHT, phrase=f"{WORDS[word]} spot {other}", position="right lower"),
                ],
                target=[LEFT, RIGHT][: 1 + number % 2],
                questions=[
                    ("Which alpha is it?", WORDS[word], "open"),
                    ("Is it bright?", "yes" if word > 2 else "no", "closed"),
                ],
            )
        )
    return found


IMAGES = [*images_of("train", 12, 100), *images_of("validation", 4, 200), *images_of("test", 20, 300)]


def run(folder: Path, number: int, images: list[dict[str, Any]], *, scores_only: bool = False, **changes: Any) -> Path:
    """The folder of an evaluation by the method `Drawn(number)`: by the stage, or of the scores on test alone."""
    values = {"tasks": TASKS, "batch_size": 8, "bootstrap": {"samples": 20, "seed": 0}, **changes}
    config = parse(EvaluateConfig, values, "here")
    shards = write_shards(folder / "shards", images)
    if scores_only:
        scored = ScoredModel(
            name=f"drawn{number}", model=Drawn(number), tokenizer=TOKENIZER, checkpoint_sha256=f"{number:064x}"
        )
        score_split(config, scored, ShardSet(*shards, "test"), folder / "out", scores_only=True)
        return folder / "out"
    evaluate(
        config, f"drawn{number}", Drawn(number), TOKENIZER, f"{number:064x}", *shards, folder / "out", folder / "sum"
    )
    return folder / "out"
