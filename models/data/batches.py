"""Samples as tensors."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from itertools import chain
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerFast

from models.data.negatives import NEGATIVES, NegativeCounts, altered_captions
from models.data.shards import Sample
from models.data.texts import NEGATIVES_DRAW, draw, region_phrase, regions_of_epoch, report_of_epoch
from models.text import normalise, split_sentences


class TensorDataclass:
    """Base of dataclasses whose tensors move between devices together."""

    def to(self, device: torch.device) -> Self:
        return self._map(
            lambda value: value.to(device, non_blocking=True) if isinstance(value, Tensor) else value.to(device)
        )

    def pin_memory(self) -> Self:
        """Called by a DataLoader, so that a GPU can fetch the batch while it computes."""
        return self._map(lambda value: value.pin_memory())

    def _map(self, change: Callable[[Any], Any]) -> Self:
        values = {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]
        changed = {name: change(value) if hasattr(value, "to") else value for name, value in values.items()}
        return replace(self, **changed)  # type: ignore[type-var]


@dataclass(frozen=True)
class Tokens(TensorDataclass):
    """Texts as token ids.

    Attributes:
        ids: (texts, length).
        mask: (texts, length), 1 on tokens and 0 on padding.
        words: (texts, length) index of the word that a token is a piece of, from 0; -1 on special tokens and padding.
    """

    ids: Tensor
    mask: Tensor
    words: Tensor


@dataclass(frozen=True)
class Images(TensorDataclass):
    """Images and the regions cut from them.

    Attributes:
        pixels: (batch, 3, height, width) uint8: a quarter of what floats would be, between processes and to a GPU.
        crops: (regions, 3, height, width) uint8; the regions of all images one after the other.
        owner: (regions,) index of the image that each region belongs to, ascending.
    """

    pixels: Tensor
    crops: Tensor
    owner: Tensor


@dataclass(frozen=True)
class Batch(TensorDataclass):
    """A batch for training.

    Attributes:
        keys: image_id of each image.
        images: The pixels.
        report: (batch) texts.
        summary: (batch) texts; empty where the image has none.
        has_summary: (batch,) bool.
        phrases: The distinct texts `adjective term position` of the batch; captions and negatives repeat one another,
            so each is encoded once.
        region: (regions,) index into `phrases`.
        negatives: (regions, 5) indices into `phrases`: captions that differ in one part (`NegativeCounts`).
        sentences: The distinct sentences of the reports; none where the method reads reports as wholes alone.
        sentence_owner: (batch, sentences) bool, true where the image's report has the sentence.
    """

    keys: list[str]
    images: Images
    report: Tokens
    summary: Tokens
    has_summary: Tensor
    phrases: Tokens
    region: Tensor
    negatives: Tensor
    sentences: Tokens
    sentence_owner: Tensor


def has_text(sample: Sample) -> bool:
    """Whether a sample has a report, of its source or of a captioner."""
    return sample.captions.report is not None


def input_regions(sample: Sample, limit: int) -> list[int]:
    """Indices of the regions that a method may see: role `input`, at most `limit`, the best first."""
    return [index for index, region in enumerate(sample.meta.regions) if region.role == "input"][:limit]


def stack_images(samples: Sequence[Sample], regions: Sequence[Sequence[int]]) -> Images:
    """Decode the images and the chosen regions of each."""
    pixels = stack_pixels([sample.image for sample in samples])
    crops = [sample.crop(index) for sample, chosen in zip(samples, regions, strict=True) for index in chosen]
    owner = [image for image, chosen in enumerate(regions) for _ in chosen]
    return Images(pixels, stack_pixels(crops), torch.tensor(owner, dtype=torch.long))


def stack_pixels(arrays: Sequence[np.ndarray]) -> Tensor:
    """Images (height, width, 3) uint8 -> (images, 3, height, width)."""
    if not arrays:
        return torch.zeros(0, 3, 1, 1, dtype=torch.uint8)
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).contiguous()


# Texts whose tokens are kept: some tens of MB for reports of usual length.
_MAX_ENCODINGS = 50_000


class Tokenise:
    """Tokenise texts, padded to the longest of each call.

    Args:
        tokenizer: Trained or loaded.
        max_length: Tokens, special ones included; longer texts lose their end.
        normalises: Lower-case texts and strip their punctuation first; `Method.normalises_text`.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, max_length: int, *, normalises: bool = True) -> None:
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.normalises = normalises
        self._encodings: dict[str, tuple[list[int], list[int]]] = {}

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, special ones included, before anything is cut."""
        return [len(ids) for ids, _ in self._encoded(texts)]

    def __call__(self, texts: Sequence[str]) -> Tokens:
        if not texts:
            return Tokens(*(torch.zeros(0, 1, dtype=torch.long) for _ in range(3)))
        rows = [(self._cut(ids), self._cut(words)) for ids, words in self._encoded(texts)]
        return Tokens(
            ids=_padded([ids for ids, _ in rows], self.tokenizer.pad_token_id),
            mask=_padded([[1] * len(ids) for ids, _ in rows], 0),
            words=_padded([words for _, words in rows], -1),
        )

    def _cut(self, row: list[int]) -> list[int]:
        # The end token stays: an encoder that was trained with it should always see it.
        return row if len(row) <= self.max_length else [*row[: self.max_length - 1], row[-1]]

    def _encoded(self, texts: Sequence[str]) -> list[tuple[list[int], list[int]]]:
        """Token ids and word indices of each text; a text that comes again, as in the next epoch, is not read anew."""
        if len(self._encodings) > _MAX_ENCODINGS:
            self._encodings.clear()
        new = [text for text in dict.fromkeys(texts) if text not in self._encodings]
        if new:
            # The tokenizer would warn of each long text; long texts are counted instead, once, before training.
            inputs = [normalise(text) for text in new] if self.normalises else new
            encoding = self.tokenizer(inputs, truncation=False, verbose=False)
            words = ([-1 if word is None else word for word in encoding.word_ids(row)] for row in range(len(new)))
            self._encodings |= zip(new, zip(encoding["input_ids"], words, strict=True), strict=True)
        return [self._encodings[text] for text in texts]


def _padded(rows: list[list[int]], filling: int) -> Tensor:
    return pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=filling)


class Collate:
    """Samples -> `Batch`.

    Args:
        tokenise: Texts to tokens.
        max_regions: Regions an image at most; 0 for methods that look at whole images only.
        seed: Of what is drawn: which of several reports and regions of an image, which altered captions.
        negatives: What is altered in the captions of regions.
        terms: From which altered captions take another term.
        sentences: Give the reports' sentences too.
    """

    def __init__(
        self,
        tokenise: Tokenise,
        max_regions: int,
        seed: int = 0,
        negatives: NegativeCounts = NegativeCounts(),  # noqa: B008  # frozen
        terms: Sequence[str] = (),
        *,
        sentences: bool = False,
    ) -> None:
        self.tokenise = tokenise
        self.max_regions = max_regions
        self.seed = seed
        self.negatives = negatives
        self.terms = terms
        self.sentences = sentences

    def __call__(self, samples: Sequence[Sample], epoch: int | None = None) -> Batch:
        """The batch; images are never augmented: the epoch decides what is drawn, None draws as little as can be."""
        chosen = [regions_of_epoch(sample, self.max_regions, self.seed, epoch) for sample in samples]
        described = [(sample, index) for sample, indices in zip(samples, chosen, strict=True) for index in indices]
        reports = [_report(sample, self.seed, epoch) for sample in samples]
        by_report = [split_sentences(report) if self.sentences else [] for report in reports]
        sentences = list(dict.fromkeys(chain.from_iterable(by_report)))
        summaries = [sample.captions.summary for sample in samples]
        regions = [region_phrase(sample.captions.regions[index]) for sample, index in described]
        negatives = [self._altered(sample, index, epoch) for sample, index in described]
        phrases = list(dict.fromkeys([*regions, *chain.from_iterable(negatives)]))
        phrase_index = {phrase: index for index, phrase in enumerate(phrases)}
        return Batch(
            keys=[sample.key for sample in samples],
            images=stack_images(samples, chosen),
            report=self.tokenise(reports),
            summary=self.tokenise([summary or "" for summary in summaries]),
            has_summary=torch.tensor([summary is not None for summary in summaries]),
            phrases=self.tokenise(phrases),
            region=torch.tensor([phrase_index[phrase] for phrase in regions], dtype=torch.long),
            negatives=torch.tensor(
                [[phrase_index[phrase] for phrase in of_region] for of_region in negatives], dtype=torch.long
            ).view(-1, NEGATIVES),
            sentences=self.tokenise(sentences),
            sentence_owner=torch.tensor(
                [[sentence in own for sentence in sentences] for own in by_report], dtype=torch.bool
            ).view(len(samples), len(sentences)),
        )

    def _altered(self, sample: Sample, index: int, epoch: int | None) -> list[str]:
        random = draw(sample, self.seed, epoch or 0, NEGATIVES_DRAW, index)
        return altered_captions(sample.captions.regions[index], self.negatives, self.terms, random)


def _report(sample: Sample, seed: int, epoch: int | None) -> str:
    report = report_of_epoch(sample, seed, epoch)
    if report is None:
        raise ValueError(f"image {sample.key} has no report to train on")
    return report
