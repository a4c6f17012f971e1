"""What samples say about entities: which there are, and of each image which it has, which it lacks, and where they are.

The paper reads triplets (entity, position, exists) from reports with RadGraph, whose annotations and weights are not
free. Here they come from what the sources state and the captioner wrote:

- an image has what its labels name, and the terms of the captions of its regions (`adjective | term | position`);
- it lacks what the labels of its source name elsewhere and its own do not; without labels nothing is absent;
- an entity is at the positions of the captions that have it as their term.
"""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models.data.batches import Images, TensorDataclass, Tokenise, Tokens, stack_images
from models.data.shards import Sample
from models.data.texts import described_regions
from models.geometry import POSITIONS
from models.medklip.config import MedklipConfig
from models.text import normalise

ABSENT, PRESENT, UNKNOWN = 0, 1, -1


@dataclass(frozen=True)
class EntityBatch(TensorDataclass):
    """A batch for training.

    Attributes:
        keys: image_id of each image.
        images: The pixels; no crops.
        descriptions: (entities) texts.
        positions: (9) texts, the cells of a 3 x 3 grid.
        exists: (batch, entities) int64: PRESENT, ABSENT or UNKNOWN.
        places: (batch, entities, 9) bool, where an entity is; all false where that is unknown.
    """

    keys: list[str]
    images: Images
    descriptions: Tokens
    positions: Tokens
    exists: Tensor
    places: Tensor


def with_entities(config: MedklipConfig, samples: Iterable[Sample]) -> MedklipConfig:
    """The settings with the entities of the training samples, where they name none, and what each source names.

    Raises:
        ValueError: No label names an entity, so that nothing is known to be absent.
    """
    counts: Counter[str] = Counter()
    by_source: dict[str, set[str]] = {}
    for sample in samples:
        labels = {normalise(label) for label in sample.meta.labels or ()}
        counts.update(labels)
        by_source.setdefault(sample.meta.source, set()).update(labels)
    frequent = sorted(counts, key=lambda name: (-counts[name], name))[: config.max_entities]
    entities = config.entities or {name: name for name in sorted(frequent)}
    of_name = {normalise(entity): entity for entity in entities}
    named = {
        source: sorted(of_name[label] for label in labels & of_name.keys())
        for source, labels in sorted(by_source.items())
    }
    if not any(named.values()):
        raise ValueError(
            f"no label of a training image names an entity ({len(counts)} labels, {len(config.entities)} settings of "
            "entities): it learns from labels which entities images have and lack"
        )
    return dataclasses.replace(config, entities=entities, named=named)


class EntityCollate:
    """Samples -> `EntityBatch`; images are never augmented, and nothing is drawn.

    Args:
        tokenise: Texts to tokens.
        config: With its entities.
    """

    def __init__(self, tokenise: Tokenise, config: MedklipConfig) -> None:
        length = min(tokenise.max_length, config.description_length)
        self.tokenise = Tokenise(tokenise.tokenizer, length, normalises=tokenise.normalises)
        self.config = config

    def __call__(self, samples: Sequence[Sample], epoch: int | None = None) -> EntityBatch:
        """The batch, the same in each epoch."""
        exists, places = zip(*(self._targets(sample) for sample in samples), strict=True)
        return EntityBatch(
            keys=[sample.key for sample in samples],
            images=stack_images(samples, [[] for _ in samples]),
            descriptions=self.tokenise(list(self.config.entities.values())),
            positions=self.tokenise(POSITIONS),
            exists=torch.stack(exists),
            places=torch.stack(places),
        )

    def _targets(self, sample: Sample) -> tuple[Tensor, Tensor]:
        """`EntityBatch.exists` and `places` of one sample."""
        entities, labels = list(self.config.entities), sample.meta.labels
        index = {normalise(entity): number for number, entity in enumerate(entities)}
        exists = torch.full((len(entities),), UNKNOWN)
        places = torch.zeros(len(entities), len(POSITIONS), dtype=torch.bool)
        for entity in self.config.named.get(sample.meta.source, ()) if labels is not None else ():
            exists[index[normalise(entity)]] = ABSENT
        triples = [sample.captions.regions[number].triple for number in described_regions(sample)]
        for name in {normalise(name) for name in [*(labels or ()), *(term for _, term, _ in triples)]} & index.keys():
            exists[index[name]] = PRESENT
        for _, term, position in triples:
            if (entity_name := normalise(term)) in index and (cell := normalise(position)) in POSITIONS:
                places[index[entity_name], POSITIONS.index(cell)] = True
        return exists, places
