"""LViT, nnU-Net's network, TransUNet and LAVT beside RecLMIS and TMCA on QaTa-COV19, three seeds of each.

Reads   params/segmentation.yaml: data, models and phases
        RAW/qata_cov19, as its publishers lay it out
Writes  benchmarks/results/segmentation_rivals_runs.csv, a row a (method, seed) as it ends; rows that are there are
        kept, so delete the file to start anew
        benchmarks/results/segmentation_rivals.md, means over seeds and the orders that papers claim
        WORK: the data set, checkpoints, scores and logs; a killed run goes on where it stopped
Run     python benchmarks/segmentation_rivals.py WORK RAW [MINUTES [PROCESSES]], with nothing else running on the host

Runs are those of benchmarks/segmentation.py: as many images, steps and pixels, one thread. RecLMIS and TMCA are run
again, so that all differences by seed are of one state of the code. It prints how long all will take before it starts,
and leaves out the last of them where that is more than MINUTES.
"""

from pathlib import Path

import runs
import segmentation
from orders import Key, Order, Row
from runs import RESULTS
from segmentation_page import DICE, RECLMIS, TMCA, section
from segmentation_plan import rivals_plan

from pipelines.files import atomic_path
from pipelines.stage import command

LVIT, NNUNET, LAVT, TRANSUNET = ((name, "default") for name in ("lvit", "nnunet", "lavt", "transunet"))
# By the Dice that they print: above, below.
CLAIMS: tuple[tuple[str, Key, Key], ...] = (
    ("003 table I", RECLMIS, LVIT),
    ("003 table I", RECLMIS, NNUNET),
    ("003 table I", RECLMIS, LAVT),
    ("003 table I", LVIT, NNUNET),
    ("003 table I", LVIT, LAVT),
    ("003 table I", NNUNET, LAVT),
    ("003 table I", LAVT, TRANSUNET),
    ("002 table 1", TMCA, LVIT),
    ("002 table 1", TMCA, NNUNET),
)
ORDERS = [Order(source=source, better=above, worse=below, metrics=DICE) for source, above, below in CLAIMS]


def main(work: str, raw: str, minutes: str = "75", processes: str = "2") -> None:
    runs_file, page = RESULTS / "segmentation_rivals_runs.csv", RESULTS / "segmentation_rivals.md"
    segmentation.run_planned(
        rivals_plan(),
        Path(work).resolve(),
        raw,
        runs_file,
        segmentation.head("segmentation_rivals"),
        (float(minutes), int(processes)),
        lambda: write(runs.read(runs_file), page),
    )


def write(rows: list[Row], page: Path) -> None:
    """The page, from the rows so far."""
    lines = [
        "# Methods beside RecLMIS and TMCA",
        "",
        "Written by `python benchmarks/segmentation_rivals.py`; `segmentation_rivals_runs.csv` has each seed. Mean",
        "over seeds, standard deviation behind it. The columns are those of segmentation.md.",
        *(section("QaTa-COV19", rows, ORDERS) if rows else []),
    ]
    with atomic_path(page) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    command(main)
