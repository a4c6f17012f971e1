"""What a method answers for each image of a split, beside its scores: for a person, or for another programme.

Embeddings and the nearest texts of each image as Parquet, the heatmap of each phrase and the mask of each text as PNG,
each beside a picture in which it is laid over its image. The scores of labels are in `items.parquet` already.
"""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
from PIL import Image

from models.capabilities import EmbedsImages, EmbedsText, SegmentsFromText
from models.inference import can_ground
from pipelines.evaluate.evaluation_set import EvaluationSet
from pipelines.evaluate.grounding.phrases import phrases_of
from pipelines.evaluate.metrics.localisation import upsample
from pipelines.evaluate.segmentation.figure import overlay
from pipelines.evaluate.segmentation.masks import predicted_masks, without_padding
from pipelines.evaluate.segmentation.texts import texts_by_setting
from pipelines.evaluate.tasks.retrieval import Retrieval
from pipelines.predict.pictures import heat_picture, mask_picture
from pipelines.predict.pictures import overlay as heat_overlay

NEAREST = 5


def write_predictions(evaluation_set: EvaluationSet, folder: Path, seed: int) -> dict[str, int]:
    """Write what the method can answer; return how many of each kind.

    Args:
        evaluation_set: The method and the split.
        folder: Where to; an existing folder.
        seed: Of the exchange of texts, as in the task `segmentation`.
    """
    model = evaluation_set.model
    counts: dict[str, int] = {}
    if model.offers(EmbedsImages):
        counts["embeddings"] = _embeddings(evaluation_set, folder / "embeddings.parquet")
    if model.offers(EmbedsImages) and model.offers(EmbedsText):
        counts["images_with_nearest_texts"] = _nearest_texts(evaluation_set, folder / "nearest_texts.parquet")
        if can_ground(model):
            counts["heatmaps"] = _heatmaps(evaluation_set, folder / "heatmaps")
    if model.offers(SegmentsFromText):
        counts["masks"] = _masks(evaluation_set, folder / "masks", seed)
    return counts


def _embeddings(evaluation_set: EvaluationSet, path: Path) -> int:
    images = evaluation_set.images
    _write(
        path,
        image_id=[image.key for image in images],
        source=[image.source for image in images],
        embedding=pyarrow.array(list(evaluation_set.image_embeddings), pyarrow.list_(pyarrow.float32())),
    )
    return len(images)


def _nearest_texts(evaluation_set: EvaluationSet, path: Path) -> int:
    """The texts are those that the task `retrieval` ranks."""
    images = evaluation_set.images
    indices = [index for index, image in enumerate(images) if Retrieval.skip_reason(image) is None]
    if not indices:
        return 0
    texts = evaluation_set.embed_texts([images[index].report or "" for index in indices])
    columns: dict[str, list[Any]] = {name: [] for name in ("image_id", "rank", "text_of", "text", "cosine")}
    for index in indices:
        cosines = texts @ evaluation_set.image_embeddings[index]
        for rank, place in enumerate(_highest(cosines, NEAREST), start=1):
            other = images[indices[place]]
            values = (images[index].key, rank, other.key, other.report, float(cosines[place]))
            for column, value in zip(columns.values(), values, strict=True):
                column.append(value)
    _write(path, **columns)
    return len(indices)


def _highest(values: np.ndarray, count: int) -> list[int]:
    """Places of the highest values, the highest first, equal ones in their order; the others are not sorted."""
    count = min(count, len(values))
    candidates = np.flatnonzero(values >= np.partition(values, -count)[-count])
    found: list[int] = candidates[np.argsort(-values[candidates], kind="stable")][:count].tolist()
    return found


def _write(path: Path, **columns: Any) -> None:
    pyarrow.parquet.write_table(pyarrow.table(columns), path)


def _heatmaps(evaluation_set: EvaluationSet, folder: Path) -> int:
    phrases = phrases_of(evaluation_set.images)
    pairs = [(phrase.index, phrase.text) for phrase in phrases]
    numbers: Counter[str] = Counter()
    for phrase, (sample, heatmap) in zip(phrases, evaluation_set.ground(pairs), strict=True):
        side = len(sample.image)
        grid = upsample(heatmap[None], side, evaluation_set.model.visible_crop(side))[0]
        picture = heat_picture(without_padding(sample, grid).astype(np.float32))
        name = f"{sample.key}-{numbers[sample.key]}-{_file_name(phrase.text)}"
        numbers[sample.key] += 1
        _save(folder / f"{name}.png", picture)
        _save(
            folder / f"{name}-overlay.png",
            heat_overlay(Image.fromarray(without_padding(sample, sample.image)), picture),
        )
    return len(phrases)


def _masks(evaluation_set: EvaluationSet, folder: Path, seed: int) -> int:
    by_image: dict[int, dict[str, str]] = {}
    for setting, texts in texts_by_setting(evaluation_set.images, seed).items():
        for index, text in texts.items():
            by_image.setdefault(index, {})[setting] = text
    count = 0
    for _, sample, masks in predicted_masks(evaluation_set, dict(sorted(by_image.items()))):
        image, target = without_padding(sample, sample.image), without_padding(sample, sample.target)
        for setting, mask in masks.items():
            _save(folder / f"{sample.key}-{setting}.png", mask_picture(mask))
            _save(folder / f"{sample.key}-{setting}-overlay.png", Image.fromarray(overlay(image, mask, target)))
            count += 1
    return count


def _file_name(text: str) -> str:
    return "_".join("".join(letter if letter.isalnum() else " " for letter in text).split())[:60]


def _save(path: Path, picture: Image.Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)
