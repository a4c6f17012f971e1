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
from models.data.format import IMAGE, ImageQuestion
from models.data.pairs import PhrasePair
from models.data.shards import Sample
from pipelines.evaluate.evaluation_set import EvaluationImage, EvaluationSet, finite
from pipelines.evaluate.guessing import IMAGE_BLIND
from pipelines.evaluate.source_classes import SourceClasses
from pipelines.evaluate.task import GroupScores, Result
from pipelines.evaluate.training_embeddings import TrainingEmbeddings


class BlindSet(EvaluationSet):
    """A split in which the method sees, in the place of each image, one of another patient of the same source.

    Texts, truth and sizes are those of the image that is asked about; pixels, crops and `input` regions are the
    other's. Embeddings are therefore those of the split in another order, and cost nothing.

    Args:
        test: The split as it is.
        sample_at: Gives one of its samples by its index in `images`.
        seed: Of the exchange.

    Attributes:
        shown: Index of the image that the method sees in the place of each; where a source has one patient alone, or
            one image, it may be the image itself.
        unchanged: Images that the method has seen themselves so far, for want of another one.
        of_patient: Images in whose place it has seen another one of the same patient, for want of another patient.
    """

    def __init__(self, test: EvaluationSet, sample_at: Callable[[int], Sample], seed: int) -> None:
        super().__init__(
            test.model,
            test._tokenizer,
            test._samples,
            test._batch_size,
            scores_only=True,
        )
        self._digests = test._digests
        self._test = test
        self._sample_at = sample_at
        self._seed = seed
        self.shown = exchange(test.images, seed)
        self.unchanged: set[int] = set()
        self.of_patient: set[int] = set()

    @cached_property
    def images(self) -> list[EvaluationImage]:
        return self._test.images

    @cached_property
    def questions(self) -> list[tuple[ImageQuestion, ...]]:
        return self._test.questions

    @cached_property
    def pairs(self) -> list[list[PhrasePair]]:
        return self._test.pairs

    @cached_property
    def region_labels(self) -> list[dict[int, str]]:
        return self._test.region_labels

    @cached_property
    def source_classes(self) -> dict[str, SourceClasses]:
        return self._test.source_classes

    @cached_property
    def asked_training(self) -> EvaluationSet | None:
        # As it is: what learns from the training images is to be the same as of the method itself.
        return self._test.asked_training

    @cached_property
    def asked_validation(self) -> EvaluationSet | None:
        return self._test.asked_validation

    @property
    def sighted(self) -> EvaluationSet:
        return self._test

    @cached_property
    def training_groups(self) -> frozenset[str]:
        return self._test.training_groups

    @cached_property
    def image_embeddings(self) -> np.ndarray:
        self._see(enumerate(self.shown))
        return self._test.image_embeddings[self.shown]

    @cached_property
    def training_embeddings(self) -> TrainingEmbeddings | None:
        """Those of the split itself: what was learned stays, what is looked at is exchanged."""
        return self._test.training_embeddings

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        return self._test.embed_texts(texts)

    def region_embeddings(self, regions: Sequence[tuple[int, int]]) -> np.ndarray:
        """As of `EvaluationSet`; in the place of a region the method sees one of another image that is asked about."""
        by_image: dict[int, list[int]] = defaultdict(list)
        for index, number in regions:
            by_image[index].append(number)
        asked = list(by_image)
        circle = exchange([self.images[index] for index in asked], self._seed)
        other_of = {index: asked[place] for index, place in zip(asked, circle, strict=True)}
        self._see(other_of.items())
        seen = []
        for index, number in regions:
            other = other_of[index]
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

    def shown_files(self, texts: Sequence[tuple[int, str]]) -> Iterator[tuple[bytes, str]]:
        for sample, text in self._others(texts):
            yield sample.members[IMAGE], text

    def _others(self, texts: Iterable[tuple[int, str]]) -> Iterator[tuple[Sample, str]]:
        """Each text with the image that the method sees."""
        for index, same in groupby(texts, key=lambda pair: pair[0]):
            self._see([(index, self.shown[index])])
            sample = self._sample_at(self.shown[index])
            yield from ((sample, text) for _, text in same)

    def _see(self, pairs: Iterable[tuple[int, int]]) -> None:
        for index, other in pairs:
            if index == other:
                self.unchanged.add(index)
            elif _patient(self.images[index]) == _patient(self.images[other]):
                self.of_patient.add(index)

    @property
    def notes(self) -> list[str]:
        """What a reader must know of the exchange so far; nothing where each image was another patient's."""
        itself, others = len(self.unchanged), len(self.of_patient)
        want = "of the source that is asked about"
        shown = "1 image is shown itself" if itself == 1 else f"{itself} images are shown themselves"
        exchanged = (
            "1 image is exchanged with another one of its patient"
            if others == 1
            else f"{others} images are exchanged with others of their patients"
        )
        return [
            *([f"{IMAGE_BLIND}: {shown}, for want of another one {want}: it scores its own there"] if itself else []),
            *([f"{IMAGE_BLIND}: {exchanged}, for want of another patient {want}"] if others else []),
        ]


def _patient(image: EvaluationImage) -> str:
    return image.group or image.key


def exchange(images: Sequence[EvaluationImage], seed: int) -> list[int]:
    """Index of another image for each, of the same source, and of another patient where the source has any.

    Each source's images stand in a circle, those of a patient side by side, and all move on by as many places as its
    largest patient has images: so far that nobody stays with the same patient, unless one has more than half.

    Args:
        images: Their sources and groups count.
        seed: Of the circle.
    """
    random = np.random.default_rng(seed)
    result = list(range(len(images)))
    sources: dict[str, dict[str, list[int]]] = {}
    for index, image in enumerate(images):
        sources.setdefault(image.source, {}).setdefault(_patient(image), []).append(index)
    for _, patients in sorted(sources.items()):
        blocks = list(patients.values())
        circle = [index for place in random.permutation(len(blocks)) for index in random.permutation(blocks[place])]
        step = max(map(len, blocks))
        if step == len(circle):
            # One patient alone: another image of the patient is all that there is.
            step = 1
        for place, index in enumerate(circle):
            result[index] = int(circle[(place + step) % len(circle)])
    return result


def beside_blind(result: Result, blind: Result, notes: Sequence[str]) -> Result:
    """A task's result with the baseline `image-blind` beside each score that the control has too.

    Args:
        result: Of the method.
        blind: Of the same task on its `BlindSet`.
        notes: On the exchange, `BlindSet.notes`.
    """
    if blind.status != "ok":
        return result
    by_source = {
        source: _beside(scores, blind.by_source[source]) if source in blind.by_source else scores
        for source, scores in result.by_source.items()
    }
    return replace(
        result,
        scores=_beside(result.scores, blind.scores),
        by_source=by_source,
        # Numbers alone: the items themselves would hold the whole control until the table is written.
        image_blind={hash(item.key): item.value for item in blind.items},
        notes=[*result.notes, *notes],
    )


def _beside(scores: GroupScores, blind: GroupScores) -> GroupScores:
    metrics = {
        name: replace(score, baselines={**score.baselines, IMAGE_BLIND: blind.metrics[name].value})
        if name in blind.metrics
        else score
        for name, score in scores.metrics.items()
    }
    return replace(scores, metrics=metrics)
