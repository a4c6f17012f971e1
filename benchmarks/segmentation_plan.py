"""What benchmarks/segmentation.py runs, in which order, and how long it will take."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Data:
    """A data set at its size.

    Attributes:
        source: Name in params.
        image_size: Pixels.
        epochs: Passes over its training images.
        batch_size: Images of a step; None leaves that of the params.
        settings: Changes to the params, by their dotted names.
    """

    source: str
    image_size: int
    epochs: int
    batch_size: int | None = None
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A change to a method's entry in the params.

    Attributes:
        method: Name of the entry.
        name: default, or the ablation's name.
        model: Settings of the model that differ.
    """

    method: str
    name: str = "default"
    model: dict[str, Any] = field(default_factory=dict)


PHANTOM = Data(source="phantom", image_size=64, epochs=7)
QATA = Data(source="qata_cov19", image_size=96, epochs=6)
# So few that every stage and every variant is through in a minute.
TINY = Data(source="phantom", image_size=32, epochs=1, batch_size=4, settings={"phantom.images": 60})
# What the first column of the results calls them.
TESTS = {"phantom": "phantom_test", "qata_cov19": "qata_test"}

# Longest first, as far as one seed goes.
COMPARED = (
    Variant(method="reclmis"),
    # Table III of paper 003.
    Variant(
        method="reclmis",
        name="no_reconstruction",
        model={"vision_reconstruction": False, "language_reconstruction": False},
    ),
    Variant(method="unet"),
    Variant(method="tmca"),
    # Table 2 of paper 002: without alignment, and without LTEM, which reads the map that the alignment trains.
    Variant(method="tmca", name="baseline", model={"tsdm": False, "ltem": False, "levels": []}),
)
# Beside what papers compare them with: benchmarks/segmentation_rivals.py.
RIVALS = tuple(Variant(method=method) for method in ("lvit", "reclmis", "lavt", "transunet", "nnunet", "tmca"))
ONCE = tuple(Variant(method=method) for method in ("lvit", "swin_unetr", "unetpp", "attention_unet"))
SEEDS = {QATA.source: 5, PHANTOM.source: 3}

# Seconds of one core that a run takes, training and scoring, where no row says it yet.
SECONDS = {
    ("qata_cov19", "reclmis", "default"): 300,
    ("qata_cov19", "reclmis", "no_reconstruction"): 240,
    ("qata_cov19", "unet", "default"): 190,
    ("qata_cov19", "tmca", "default"): 200,
    ("qata_cov19", "tmca", "baseline"): 200,
    ("qata_cov19", "lvit", "default"): 605,
    ("qata_cov19", "swin_unetr", "default"): 390,
    ("qata_cov19", "unetpp", "default"): 390,
    ("qata_cov19", "attention_unet", "default"): 150,
    ("qata_cov19", "nnunet", "default"): 170,
    ("qata_cov19", "transunet", "default"): 170,
    ("qata_cov19", "lavt", "default"): 240,
    ("phantom", "reclmis", "default"): 160,
    ("phantom", "reclmis", "no_reconstruction"): 115,
    ("phantom", "unet", "default"): 75,
    ("phantom", "tmca", "default"): 85,
    ("phantom", "tmca", "baseline"): 85,
}
UNKNOWN_SECONDS = 300

Run = tuple[Variant, Data, int]


def plan(*, with_real: bool) -> list[Run]:
    """All runs, those first whose loss would cost most."""

    def compared(data: Data, *seeds: int) -> list[Run]:
        return [(variant, data, seed) for seed in seeds for variant in COMPARED]

    if not with_real:
        return compared(PHANTOM, *range(SEEDS[PHANTOM.source]))
    return [
        *compared(QATA, 0, 1, 2),
        *((variant, QATA, 0) for variant in ONCE),
        *compared(PHANTOM, 0),
        *compared(QATA, *range(3, SEEDS[QATA.source])),
        *compared(PHANTOM, *range(1, SEEDS[PHANTOM.source])),
    ]


def rivals_plan() -> list[Run]:
    """Three seeds on QaTa-COV19; a cut leaves whole seeds."""
    return [(variant, QATA, seed) for seed in range(3) for variant in RIVALS]


def tiny_plan() -> list[Run]:
    """Two variants with two seeds, which make an order."""
    reclmis, _, unet, *_ = COMPARED
    return [(variant, TINY, seed) for seed in range(2) for variant in (reclmis, unet)]


def called(one: Run) -> str:
    variant, data, seed = one
    return f"{variant.method} {variant.name} {data.source} {seed}"


def forecast(one: Run, rows: list[dict[str, str]]) -> float:
    """Seconds of one core: the mean of this variant's runs so far, or of this method's, or what is known before."""
    variant, data, _ = one
    there = [row for row in rows if row["data"] == TESTS[data.source] and row["method"] == variant.method]
    same = [row for row in there if row["variant"] == variant.name] or there
    if same:
        return float(np.mean([float(row["seconds"]) + float(row["scoring_seconds"]) for row in same]))
    return SECONDS.get((data.source, variant.method, variant.name), UNKNOWN_SECONDS)


def within(waiting: list[Run], rows: list[dict[str, str]], minutes: float, processes: int) -> list[Run]:
    """The first runs that so many minutes hold; the forecast, and what is left out, is printed."""
    ends = np.cumsum([forecast(one, rows) for one in waiting]) / processes / 60
    chosen = [one for one, end in zip(waiting, ends, strict=True) if end <= minutes]
    left = waiting[len(chosen) :]
    total = ends[len(chosen) - 1] if chosen else 0.0
    print(f"forecast: {len(chosen)} runs, {total:.0f} minutes in {processes} processes", flush=True)
    if left:
        print(f"left out, beyond {minutes:g} minutes: {', '.join(map(called, left))}", flush=True)
    return chosen
