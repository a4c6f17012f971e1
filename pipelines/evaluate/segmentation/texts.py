"""With which texts each test image is segmented."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from models.text import normalise
from pipelines.evaluate.evaluation_set import Item

# Place of an image in `EvaluationSet.items` -> text.
Texts = dict[int, str]


def texts_of(items: Sequence[Item], seed: int) -> dict[str, Texts]:
    """The texts of each setting, of the images that have a target; a setting may have none.

    Args:
        items: The test images.
        seed: Of the exchange.

    Returns:
        `given`: the image's report, unless it was made from its annotations. `shuffled`: those reports exchanged.
        `none`: the empty text. `from_mask`: where nothing is given, the captions of the annotated regions.
    """
    targets = {place: item for place, item in enumerate(items) if item.has_target}
    given = {place: item.report for place, item in targets.items() if item.report and _is_own(item)}
    return {
        "given": given,
        "shuffled": shuffled(given, {place: items[place].source for place in given}, seed),
        "none": dict.fromkeys(targets, ""),
        "from_mask": {
            place: item.truth_text for place, item in targets.items() if place not in given and item.truth_text
        },
    }


def _is_own(item: Item) -> bool:
    return not item.oracle and normalise(item.report or "") != ""


def shuffled(texts: Texts, sources: dict[int, str], seed: int) -> Texts:
    """The texts exchanged among the images of each source: each is used as often as before.

    Images with equal texts stand in a row, the groups in a random order, and everybody takes the text that lies as
    many images ahead as the largest group is long. So nobody keeps an equal text, unless more than half of the images
    have the same one. A source with one text only has nothing to exchange and is left out.
    """
    random = np.random.default_rng(seed)
    by_source: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for place, text in texts.items():
        by_source[sources[place]][normalise(text)].append(place)
    found: Texts = {}
    for _, groups in sorted(by_source.items()):
        if len(groups) < 2:
            continue
        names = sorted(groups)
        row = [place for number in random.permutation(len(names)) for place in groups[names[number]]]
        step = max(map(len, groups.values()))
        found |= {place: texts[row[(n + step) % len(row)]] for n, place in enumerate(row)}
    return dict(sorted(found.items()))


def kept(texts: Texts, others: Texts) -> int:
    """Images of `others` whose text equals theirs in `texts`."""
    return sum(normalise(texts[place]) == normalise(text) for place, text in others.items())
