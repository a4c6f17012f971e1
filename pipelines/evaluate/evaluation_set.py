"""A split as the tasks see it: texts, labels and annotations, and the method's embeddings, maps and masks."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import chain, islice
from sys import intern
from typing import Any, TypeVar

import numpy as np
from transformers import PreTrainedTokenizerFast

from models import inference
from models.data.batches import Images, Tokenise, Tokens, input_regions, stack_images
from models.data.format import IMAGE, ImageQuestion
from models.data.pairs import PhrasePair, pairs_of
from models.data.shards import Sample
from models.data.texts import region_phrase, region_texts
from models.method import Method
from models.text import normalise, region_text
from pipelines.evaluate.source_classes import SourceClasses, classes_by_source
from pipelines.evaluate.training_embeddings import TrainingEmbeddings
from pipelines.records import Modality
from pipelines.stage import progress

T = TypeVar("T")

# Words that many regions share are made once, and held once.
_normalised = lru_cache(maxsize=1 << 14)(normalise)
_region_text = lru_cache(maxsize=1 << 14)(region_text)


class NotFiniteError(ValueError):
    """Embeddings or maps with NaN or infinity: the method's weights diverged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TruthRegion:
    """One annotated region of a test image. A method sees it only where a task asks about this very region.

    Attributes:
        number: Its index in `meta.regions`.
        region_id: Its name in the tables.
        adjective: Its shape or appearance, as encoders read it.
        term: What it is, as encoders read it.
        position: Where it is, as encoders read it.
        caption: Adjective, term and position as running text.
        negatives: The same with each of the other adjectives.
        oracle: Whether the caption was made from the annotation.
        phrase: The source's own sentence about it, as written; None where there is none.
    """

    number: int
    region_id: str
    adjective: str
    term: str
    position: str
    caption: str
    negatives: tuple[str, ...]
    oracle: bool
    phrase: str | None = None


@dataclass(frozen=True, slots=True)
class EvaluationImage:
    """One test image without its pixels.

    Attributes:
        key: The image_id.
        source: Name of its source.
        labels: Findings; empty where the source says that there is none; None where the source says nothing.
        status: Outcome of its caption.
        report: Its text, or None; of several, the first.
        oracle: Whether that text was made from annotations of this image.
        annotated: Number of its annotated regions.
        regions: Those of them that have a caption.
        has_target: Whether its source outlined all findings, or says that there are none.
        truth_text: The captions of `regions` one after the other; empty where there is none.
        view: Projection of a radiograph, see `pipelines.records.VIEWS`.
        patient_sides: Whether left and right are the patient's, see `ImageMeta.patient_sides`.
        other_reports: How many further reports its source has of it, which no task reads.
        modality: Kind of image, see `pipelines.records.MODALITIES`.
        attributes: What its source says of the whole image beside its findings, by name.
        look_alikes: How much is in the image that looks like a finding and is none, see `Sample.look_alikes`.
        group: Images of one patient share it, see `ImageMeta.group`; empty where nothing is known.
    """

    key: str
    source: str
    labels: tuple[str, ...] | None
    status: str
    report: str | None
    oracle: bool
    annotated: int = 0
    regions: tuple[TruthRegion, ...] = ()
    has_target: bool = False
    truth_text: str = ""
    view: str | None = None
    patient_sides: bool = False
    other_reports: int = 0
    modality: Modality = "other"
    attributes: Mapping[str, str] = field(default_factory=dict)
    look_alikes: int = 0
    group: str = ""


class EvaluationSet:
    """A method and the split that it is scored on.

    Args:
        model: In evaluation mode.
        tokenizer: The method's own.
        samples: Gives the split's samples from the first to the last, anew on each call; `with_image=False` without
            their pixels (`ShardSet.samples`).
        batch_size: Images, regions, phrases or texts that are computed at a time; no more images are held at once.
        scores_only: Whether tasks may leave out plots and measurements of cost, which nobody looks at.
        embed_training: Gives the method's embeddings of the training split, for tasks that learn from labelled images;
            None: there are none at hand.
        others: Split -> what gives its samples, as `samples` does, of the other splits that have images.

    Attributes:
        training_samples: Gives those of the training split, for baselines that know the training data and for heads
            that learn from it; None: there are none at hand.
        chosen: What the task that runs chose on the validation split (`Result.chosen`); empty where there was none to
            choose on; None: this is the split to choose on.
    """

    def __init__(
        self,
        model: Method,
        tokenizer: PreTrainedTokenizerFast,
        samples: Callable[..., Iterator[Sample]],
        batch_size: int,
        *,
        scores_only: bool = False,
        embed_training: Callable[[], TrainingEmbeddings] | None = None,
        others: Mapping[str, Callable[..., Iterator[Sample]]] | None = None,
    ) -> None:
        self.model = model
        self.scores_only = scores_only
        self._embed_training = embed_training
        self._other_splits = others or {}
        self.training_samples = self._other_splits.get("train")
        self.chosen: Mapping[str, Any] | None = None
        self._tokenizer = tokenizer
        self._batch_size = batch_size
        self._samples = samples
        self._digests: dict[str, str] = {}
        self._of_texts: dict[str, np.ndarray] = {}
        self._of_regions: dict[tuple[int, int], np.ndarray] = {}

    @cached_property
    def images(self) -> list[EvaluationImage]:
        """The images in stored order."""
        return [_evaluation_image(sample) for sample in self._samples(with_image=False)]

    @cached_property
    def questions(self) -> list[tuple[ImageQuestion, ...]]:
        """What the source asks of each image, in the order of `images`; read for the tasks that ask it alone."""
        return [sample.captions.questions for sample in self._samples(with_image=False)]

    @cached_property
    def pairs(self) -> list[list[PhrasePair]]:
        """The (phrase, mask) pairs of each image, in the order of `images`; read for the tasks that ask them alone."""
        return [pairs_of(sample, "truth") for sample in self._samples(with_image=False)]

    @cached_property
    def region_labels(self) -> list[dict[int, str]]:
        """Number and label of each annotated region that has one, by image; read for the tasks that need it alone."""
        return [labels_of_regions(sample) for sample in self._samples(with_image=False)]

    @cached_property
    def source_classes(self) -> dict[str, SourceClasses]:
        """Source of a labelled image -> its classes, by its images of all splits; read for the tasks that ask alone."""
        labelled = {image.source for image in self.images if image.labels is not None}
        metas = (sample.meta for samples in self._other_splits.values() for sample in samples(with_image=False))
        known = chain(
            ((image.source, image.labels) for image in self.images), ((meta.source, meta.labels) for meta in metas)
        )
        return classes_by_source((source, labels) for source, labels in known if source in labelled)

    @cached_property
    def training_set(self) -> "EvaluationSet | None":
        """The training images as a set; None: there is no training split."""
        if self.training_samples is None:
            return None
        return EvaluationSet(self.model, self._tokenizer, self.training_samples, self._batch_size, scores_only=True)

    @cached_property
    def asked_training(self) -> "EvaluationSet | None":
        """The training images of which their source asks something, as a set; None: there is no training split."""
        return self._asked(self.training_samples)

    @cached_property
    def asked_validation(self) -> "EvaluationSet | None":
        """As `asked_training`, of the validation images."""
        return self._asked(self._other_splits.get("validation"))

    def _asked(self, samples: Callable[..., Iterator[Sample]] | None) -> "EvaluationSet | None":
        if samples is None:
            return None

        def asked(*, with_image: bool = True) -> Iterator[Sample]:
            return (sample for sample in samples(with_image=with_image) if sample.captions.questions)

        return EvaluationSet(self.model, self._tokenizer, asked, self._batch_size, scores_only=True)

    @property
    def sighted(self) -> "EvaluationSet":
        """The split with its own images before the method: what heads learn from, also in the image-blind control."""
        return self

    @cached_property
    def training_groups(self) -> frozenset[str]:
        """The groups of the training images (`EvaluationImage.group`); empty where there is no training split."""
        samples = () if self.training_samples is None else self.training_samples(with_image=False)
        return frozenset(intern(sample.meta.group) for sample in samples)

    @cached_property
    def image_embeddings(self) -> np.ndarray:
        """(images, dimensions) float32, of length 1, in the order of `images`; computed once for all tasks.

        Raises:
            NotFiniteError: The method's weights diverged.
        """
        samples = progress(self._with_pixels(), "images embedded", total=len(self.images))
        return finite(inference.embed_images(self.model, samples, self._batch_size), "image embeddings")

    @cached_property
    def training_embeddings(self) -> TrainingEmbeddings | None:
        """The training images with their labels, embedded once for all tasks; None: there are none at hand.

        Raises:
            NotFiniteError: The method's weights diverged.
        """
        if self._embed_training is None:
            return None
        training = self._embed_training()
        finite(training.embeddings, "embeddings of training images")
        return training

    def region_embeddings(self, regions: Sequence[tuple[int, int]]) -> np.ndarray:
        """(regions, dimensions) float32, of length 1; each region is computed once for all tasks.

        Args:
            regions: Index in `images` and `TruthRegion.number` of each; the indices ascend.

        Raises:
            NotFiniteError: The method's weights diverged.
        """
        if new := [region for region in regions if region not in self._of_regions]:
            pairs = progress(self._with_samples(new), "regions embedded", total=len(new))
            embeddings = finite(inference.embed_regions(self.model, pairs, self._batch_size), "region embeddings")
            self._of_regions |= zip(new, embeddings, strict=True)
        return np.stack([self._of_regions[region] for region in regions])

    def ground(self, phrases: Sequence[tuple[int, str]]) -> Iterator[tuple[Sample, np.ndarray]]:
        """Each phrase's image and its heatmap (rows, columns) over what `Method.visible_crop` gives of the image.

        Args:
            phrases: Index in `images` and text of each; the indices ascend.

        Raises:
            NotFiniteError: The method's weights diverged.
        """
        pairs = progress(self._with_samples(phrases), "phrases grounded", total=len(phrases))
        for sample, heatmap in inference.ground(self.model, self._tokenizer, pairs, self._batch_size):
            yield sample, finite(heatmap[None], "heatmaps")[0]

    def segment(self, texts: Sequence[tuple[int, str]]) -> Iterator[tuple[Sample, np.ndarray]]:
        """Each text's image and the probability (image_size, image_size) of the foreground.

        Args:
            texts: Index in `images` and text of each; the indices ascend.

        Raises:
            NotFiniteError: The method's weights diverged.
        """
        pairs = progress(self._with_samples(texts), "images segmented", total=len(texts))
        for sample, probability in inference.segment(self.model, self._tokenizer, pairs, self._batch_size):
            yield sample, finite(probability[None], "masks")[0]

    def shown_files(self, texts: Sequence[tuple[int, str]]) -> Iterator[tuple[bytes, str]]:
        """The JPEG file of the image that the method sees with each text, and the text; the indices ascend.

        Args:
            texts: Index in `images` and text of each.
        """
        for sample, text in self._with_samples(texts):
            yield sample.members[IMAGE], text

    def inputs(self, sample: Sample, text: str) -> tuple[Images, Tokens]:
        """One image, with the regions that the method may see, and one text as a batch of one."""
        tokenise = Tokenise(self._tokenizer, self._tokenizer.model_max_length, normalises=self.model.normalises_text)
        return stack_images([sample], [input_regions(sample, self.model.max_regions)]), tokenise([text])

    def samples(self, indices: Collection[int]) -> dict[int, Sample]:
        """The images at some indices of `images`, with their pixels."""
        upto_last = islice(self._with_pixels(), max(indices, default=-1) + 1)
        return {index: sample for index, sample in enumerate(upto_last) if index in indices}

    def image_sha256(self, key: str) -> str:
        """SHA-256 of an image of the split, of its bytes in the shards; noted where a task read it, else read now."""
        if key not in self._digests:
            for _ in self._with_pixels():
                pass
        return self._digests[key]

    def _with_pixels(self) -> Iterator[Sample]:
        """The split from the first to the last image; the digest of each is noted on the way."""
        for sample in self._samples():
            if sample.key not in self._digests:
                self._digests[sample.key] = hashlib.sha256(sample.members[IMAGE]).hexdigest()
            yield sample

    def _with_samples(self, inputs: Sequence[tuple[int, T]]) -> Iterator[tuple[Sample, T]]:
        """Each input with its image, in the order of the images; the split is read once, up to the last of them."""
        by_image: dict[int, list[T]] = defaultdict(list)
        for index, value in inputs:
            by_image[index].append(value)
        for index, sample in enumerate(islice(self._with_pixels(), max(by_image, default=-1) + 1)):
            for value in by_image.get(index, ()):
                yield sample, value

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """(texts, dimensions) float32, of length 1. Each text is computed once for all tasks.

        Raises:
            NotFiniteError: The method's weights diverged.
        """
        if new := [text for text in dict.fromkeys(texts) if text not in self._of_texts]:
            embeddings = inference.embed_texts(self.model, self._tokenizer, new, self._batch_size)
            self._of_texts |= zip(new, finite(embeddings, "text embeddings"), strict=True)
        return np.stack([self._of_texts[text] for text in texts])


def _evaluation_image(sample: Sample) -> EvaluationImage:
    meta, captions = sample.meta, sample.captions
    regions = tuple(_truth_regions(sample))
    return EvaluationImage(
        sample.key,
        intern(meta.source),
        None if meta.labels is None else tuple(map(intern, meta.labels)),
        intern(captions.status),
        captions.report,
        captions.oracle,
        sum(region.role == "truth" for region in meta.regions),
        regions,
        meta.has_target,
        region_texts(sample, [region.number for region in regions]),
        meta.view and intern(meta.view),
        meta.patient_sides,
        len(captions.other_reports),
        intern(meta.modality),  # type: ignore[arg-type]  # shards are made of checked rows
        {intern(name): intern(value) for name, value in meta.attributes.items()},
        len(meta.look_alikes),
        meta.group,
    )


def labels_of_regions(sample: Sample) -> dict[int, str]:
    """Number and label, as encoders read it, of each annotated region that has a label; never of a proposal."""
    regions = zip(sample.meta.regions, sample.captions.regions, strict=True)
    return {
        number: label
        for number, (region, caption) in enumerate(regions)
        if (region.role == "truth" or caption.basis == "annotation") and (label := _normalised(region.label or ""))
    }


def _truth_regions(sample: Sample) -> Iterator[TruthRegion]:
    for number, (region, caption) in enumerate(zip(sample.meta.regions, sample.captions.regions, strict=True)):
        if region.role == "truth" and caption.status == "ok":
            adjective, term, position = map(_normalised, caption.triple)
            yield TruthRegion(
                number=number,
                region_id=region.region_id,
                adjective=adjective,
                term=term,
                position=position,
                caption=intern(region_phrase(caption)),
                negatives=tuple(_region_text(*negative.split("|")) for negative in caption.negatives or ()),
                oracle=caption.oracle,
                phrase=caption.phrase,
            )


def finite(values: np.ndarray, kind: str) -> np.ndarray:
    """The values (rows, ...) themselves, if they are finite.

    Raises:
        NotFiniteError: They are not.
    """
    broken = int((~np.isfinite(values.reshape(len(values), -1))).any(axis=1).sum())
    if broken:
        raise NotFiniteError(f"{broken} of {len(values)} {kind} are not finite: the weights diverged")
    return values
