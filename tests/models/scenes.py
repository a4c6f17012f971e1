"""Planted findings: patches of a colour that the report names, and no word about their places."""

import torch

from models.data.batches import Batch, Images, Tokenise
from tests.models.small import ENCODERS


def without_layers() -> dict:
    encoder = ENCODERS["image_encoder"]
    return {"image_encoder": {**encoder, "architecture": {**encoder["architecture"], "num_hidden_layers": 0}}}


NAMES = {"red": (220, 30, 30), "green": (30, 220, 30), "blue": (30, 30, 220), "round": (220, 220, 30)}


def scenes(count: int, seed: int) -> tuple[torch.Tensor, list[dict[str, int]]]:
    """Grey images of 4 x 4 patches, two of which have the colour of a finding; where each finding is."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.full((count, 3, 16, 16), 120, dtype=torch.uint8)
    found = []
    for image in pixels:
        names = [list(NAMES)[number] for number in torch.randperm(len(NAMES), generator=generator)[:2].tolist()]
        places = torch.randperm(16, generator=generator)[:2].tolist()
        for name, place in zip(names, places, strict=True):
            y, x = 4 * (place // 4), 4 * (place % 4)
            image[:, y : y + 4, x : x + 4] = torch.tensor(NAMES[name], dtype=torch.uint8).view(3, 1, 1)
        found.append(dict(zip(names, places, strict=True)))
    return pixels, found


def training_batch(tokenise: Tokenise, seed: int) -> Batch:
    pixels, found = scenes(16, seed)
    sentences = list(NAMES)
    none, empty = tokenise([]), torch.zeros(0, dtype=torch.long)
    return Batch(
        keys=[str(number) for number in range(16)],
        images=Images(pixels, torch.zeros(0, 3, 1, 1), empty),
        report=tokenise([" ".join(names) for names in found]),
        summary=none,
        has_summary=torch.zeros(16, dtype=torch.bool),
        phrases=none,
        region=empty,
        negatives=empty.view(0, 5),
        sentences=tokenise(sentences),
        sentence_owner=torch.tensor([[name in names for name in sentences] for names in found]),
    )
