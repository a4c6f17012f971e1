"""The 14 labels of CheXpert's labeller (Irvin et al., arXiv:1901.07031), which MIMIC-CXR-JPG has too.

A label's column holds 1 (named), 0 (denied), -1 (uncertain) or nothing (not mentioned).
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

from pipelines.ingest import cells

LABELS = (
    "No Finding",
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
)

Uncertain = Literal["missing", "positive", "negative"]


def labels_of(row: Mapping[str, Any], uncertain: Uncertain) -> tuple[str, ...] | None:
    """The findings of a row: () where `No Finding` alone is 1, None where nothing is.

    Args:
        row: Cells by column; all of `LABELS` are there.
        uncertain: What -1 is.

    Raises:
        Rejected: bad_labels.
    """
    return cells.one_hot({label: row[label] for label in LABELS}, uncertain, {})


def readers(uncertain: Uncertain) -> dict[str, Callable[[Any], Any]]:
    """What a cell of each column means, for `pipelines.ingest.inspect`."""
    return {
        label: partial(cells.yes_or_no, column=label, uncertain="missing" if cells.is_normal(label) else uncertain)
        for label in LABELS
    }
