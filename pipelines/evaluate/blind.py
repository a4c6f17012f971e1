"""The image-blind control: a method is asked the same questions while it looks at other images.

What it scores then, it owes to the questions and to the data set, not to the image: a phrase that names its place, a
text that many images share. It stands beside every score as the baseline `image-blind`.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import groupby

import numpy as np

from models import inference
from models.data.shards import Sample
from pipelines.evaluate.evaluation_set import EvaluationImage, EvaluationSet, finite
from pipelines.evaluate.guessing import IMAGE_BLIND
from pipelines.evaluate.task import GroupScores, Result


class BlindSet(EvaluationSet):
    """A split in which the method sees, in the place of each image, another one of the same source.

    Texts, truth and sizes are those of the image that is asked about; pixels, crops and `input` regions are the
    other's. Embeddings are therefore those of the split in another order, and cost nothing.

    Args:
        test: The split as it is.
        sample_at: Gives one of its samples by its index in `images`.
        seed: Of the exchange.

    Attributes:
        shown: Index of the image that the method sees in the place of each; an image that is the only one of its
            source stays where it is.
    """

    def __init__(self, test: EvaluationSet, sample_at: Callable[[int], Sample], seed: int) -> None:
        super().__init__(
            test.model,
            test._tokenizer,
            test._samples,
            test._batch_size,
            scores_only=True,
        )
        self._test = test
        self._sample_at = sample_at
        self.shown = exchange([image.source for image in test.images], seed)

    @cached_property
    def images(self) -> list[EvaluationImage]:
        return self._test.images

    @cached_property
    def image_embeddings(self) -> np.ndarray:
        return self._test.image_embeddings[self.shown]

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        return self._test.embed_texts(texts)

    def region_embeddings(self, regions: Sequence[tuple[int, int]]) -> np.ndarray:
        """As of `EvaluationSet`; in the place of a region the method sees one of the next image that has any."""
        by_image: dict[int, list[int]] = defaultdict(list)
        for index, number in regions:
            by_image[index].append(number)
        seen = []
        for index, number in regions:
            other = self.shown[index]
            while other not in by_image:
                other = self.shown[other]
            seen.append((other, by_image[other][by_image[index].index(number) % len(by_image[other])]))
        order = sorted(set(seen))
        embeddings = dict(zip(order, self._test.region_embeddings(order), strict=True))
        return np.stack([embeddings[region] for region in seen])

    def ground(self, phrases: Sequence[tuple[int, str]]) -> Iterator[tuple[Sample, np.ndarray]]:
        maps = inference.ground(self.model, self._tokenizer, self._others(phrases), self._batch_size)
        for (sample, _), (_, heatmap) in zip(self._with_samples(phrases), maps, strict=True):
            yield sample, finite(heatmap[None], "heatmaps")[0]

    def segment(self, texts: Sequence[tuple[int, str]]) -> Iterator[tuple[Sample, np.ndarray]]:
        masks = inference.segment(self.model, self._tokenizer, self._others(texts), self._batch_size)
        for (sample, _), (_, probability) in zip(self._with_samples(texts), masks, strict=True):
            yield sample, finite(probability[None], "masks")[0]

    def _others(self, texts: Iterable[tuple[int, str]]) -> Iterator[tuple[Sample, str]]:
        """Each text with the image that the method sees."""
        for index, same in groupby(texts, key=lambda pair: pair[0]):
            sample = self._sample_at(self.shown[index])
            yield from ((sample, text) for _, text in same)


def exchange(sources: Sequence[str], seed: int) -> list[int]:
    """Index of another image for each, of the same source; the images of a source take turns in one random circle.

    Args:
        sources: Of each image.
        seed: Of the circle.
    """
    random = np.random.default_rng(seed)
    result = list(range(len(sources)))
    for source in sorted(set(sources)):
        circle = random.permutation([index for index, name in enumerate(sources) if name == source]).tolist()
        for index, other in zip(circle, [*circle[1:], circle[0]], strict=True):
            result[index] = other
    return result


def beside_blind(result: Result, blind: Result, shown: Sequence[int]) -> Result:
    """A task's result with the baseline `image-blind` beside each score that the control has too.

    Args:
        result: Of the method.
        blind: Of the same task on its `BlindSet`.
        shown: Of that set.
    """
    if blind.status != "ok":
        return result
    kept = sum(index == other for index, other in enumerate(shown))
    notes = [
        f"{IMAGE_BLIND}: {'the only image of its source stays' if kept == 1 else f'{kept} images stay'} where "
        f"{'it is' if kept == 1 else 'they are, each the only one of its source'}"
    ]
    by_source = {
        source: _beside(scores, blind.by_source[source]) if source in blind.by_source else scores
        for source, scores in result.by_source.items()
    }
    return replace(
        result,
        scores=_beside(result.scores, blind.scores),
        by_source=by_source,
        notes=[*result.notes, *(notes if kept else [])],
    )


def _beside(scores: GroupScores, blind: GroupScores) -> GroupScores:
    metrics = {
        name: replace(score, baselines={**score.baselines, IMAGE_BLIND: blind.metrics[name].value})
        if name in blind.metrics
        else score
        for name, score in scores.metrics.items()
    }
    return replace(scores, metrics=metrics)
