"""The texts that each test image is segmented with."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from models.text import normalise
from pipelines.evaluate.evaluation_set import EvaluationImage

# Index of an image in `EvaluationSet.images` -> text.
Texts = dict[int, str]


def texts_by_setting(images: Sequence[EvaluationImage], seed: int) -> dict[str, Texts]:
    """The texts of each setting, of the images that have a target; a setting may have none.

    Args:
        images: The test images.
        seed: Of the exchange.

    Returns:
        `own`: the image's report, unless it was made from its annotations. `shuffled`: those reports exchanged.
        `empty`: the empty text. `mask_derived`: for images without an own text, the captions of the annotated regions.
    """
    with_target = {index: image for index, image in enumerate(images) if image.has_target}
    own = {index: image.report for index, image in with_target.items() if image.report and _has_own_text(image)}
    return {
        "own": own,
        "shuffled": shuffled(own, {index: images[index].source for index in own}, seed),
        "empty": dict.fromkeys(with_target, ""),
        "mask_derived": {
            index: image.truth_text for index, image in with_target.items() if index not in own and image.truth_text
        },
    }


def _has_own_text(image: EvaluationImage) -> bool:
    return not image.oracle and normalise(image.report or "") != ""


def shuffled(texts: Texts, sources: dict[int, str], seed: int) -> Texts:
    """The texts exchanged among the images of each source: each is used as often as before.

    Images with equal texts are neighbours in a row, the groups of equal texts in a random order. Each image takes the
    text that lies as many images ahead as the largest group is long. So no image gets a text equal to its own, unless
    more than half of the images have the same one. A source with one text only has nothing to exchange and is left out.
    """
    random = np.random.default_rng(seed)
    by_source: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for index, text in texts.items():
        by_source[sources[index]][normalise(text)].append(index)
    result: Texts = {}
    for _, groups in sorted(by_source.items()):
        if len(groups) < 2:
            continue
        names = sorted(groups)
        row = [index for number in random.permutation(len(names)) for index in groups[names[number]]]
        step = max(map(len, groups.values()))
        result |= {index: texts[row[(n + step) % len(row)]] for n, index in enumerate(row)}
    return dict(sorted(result.items()))


def unchanged_texts(texts: Texts, others: Texts) -> int:
    """Number of images in `others` whose text equals theirs in `texts`."""
    return sum(normalise(texts[index]) == normalise(text) for index, text in others.items())
