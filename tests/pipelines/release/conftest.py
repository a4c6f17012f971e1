"""A small finished study of two sources: one that may be passed on, and one whose licence forbids it."""

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from models.data.format import ImageMeta
from pipelines.files import write_summary
from pipelines.masks import encode
from pipelines.records import (
    CAPTIONS,
    NEAR_DUPLICATES,
    REGIONS,
    REJECTED,
    SPLIT_IMAGES,
    SPLIT_QUESTIONS,
    NearDuplicateRow,
    QuestionRow,
    RejectedRow,
    SplitImageRow,
)
from tests.pipelines.shards.conftest import Workspace, region_row, split_image_row
from tests.rows import by_image, with_digests

OPEN, CLOSED = "atlas", "ward9"
PATIENT = "5ec2e7fa7e1d5ec2"
PARAMS: dict[str, Any] = {
    "ingest": {
        "max_pixels": 10_000,
        "sources": {
            OPEN: {"adapter": "table", "root": f"raw/{OPEN}", "licence": "CC-BY-4.0", "patient_ids": "public"},
            CLOSED: {"adapter": "table", "root": f"raw/{CLOSED}", "licence": "internal"},
        },
    },
    "proposals": {"proposers": ["saliency"], "segmenter": "threshold"},
    "captions": {"captioner": "findings"},
    "audit": {
        "answers": "data/audit.jsonl",
        "seed": 0,
        "regions": 10,
        "captions": 10,
        "min_per_stratum": 1,
        "confidence": 0.95,
    },
    "promote": {
        "metric": "retrieval/i2t_recall@10",
        "tolerance": 0.1,
        "floors": {},
        "use": "research",
        "licences": {"research": ["CC-BY-4.0", "internal"], "publication": ["CC-BY-4.0"]},
    },
    "release": {"name": "small", "version": "1.2.3", "use": "publication"},
}
PROMISED = "the patients' best accepted regions"
RISK = {"pooled": {"promised": PROMISED, "target_precision": 0.4, "confidence": 0.9, "threshold": 0.25, "reason": None}}


@dataclass
class Study:
    """The study's folder, and what is written down of it.

    Attributes:
        root: With params.yaml and data/.
        rows: Of the table of images.
    """

    root: Path
    rows: list[SplitImageRow]

    def change(self, section: str, **values: Any) -> None:
        """Other settings in a section of params.yaml."""
        params = yaml.safe_load((self.root / "params.yaml").read_text())
        params[section] |= values
        (self.root / "params.yaml").write_text(yaml.safe_dump(params))

    def allow_all(self) -> None:
        """Let both sources be passed on."""
        self.change("release", use="research")

    def of(self, source: str) -> list[SplitImageRow]:
        return [row for row in self.rows if row.source == source]


def image_id(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:16]


def outline(row: SplitImageRow) -> np.ndarray:
    """The mask of every region: rows 10 to 19, columns 5 to 24."""
    mask = np.zeros((row.height, row.width), dtype=bool)
    mask[10:20, 5:25] = True
    return mask


def _image_rows(root: Path) -> list[SplitImageRow]:
    """12 images: 6 train, 2 validation, 4 test; odd ones are of the closed source. The first two are one group."""
    generator, rows = np.random.default_rng(5), []
    for number in range(12):
        source = CLOSED if number % 2 else OPEN
        width, height, name = 40 + number, 61 - number, f"jane-doe-{number:02d}.png"
        shape = (height, width) if source == CLOSED else (height, width, 3)
        file = root / "raw" / source / name
        file.parent.mkdir(parents=True, exist_ok=True)
        said = PngInfo()
        said.add_text("Patient", "JANE DOE")
        Image.fromarray(generator.integers(0, 255, shape, dtype=np.uint8)).save(file, pnginfo=said)
        split = "train" if number < 6 else "validation" if number < 8 else "test"
        row = split_image_row(image_id(name), source, name, width, height, split)
        group = image_id("jane-doe-01.png") if number < 2 else row.image_id
        labels: Any = (("nodule",), ("nodule",), (), None)[number % 4]
        view = "frontal" if number in (0, 1) else None
        known = {"attributes": {"age": f"{number} years"}, "look_alikes": (encode(outline(row)),)} if number < 2 else {}
        rows.append(dataclasses.replace(row, group=group, labels=labels, view=view, patient=PATIENT, **known))
    return rows


def _regions(rows: Sequence[SplitImageRow]) -> list[Any]:
    """Each image: an input region with a mask, of test images a truth without one, and a rejected region."""
    found = []
    for row in rows:
        mask = outline(row)
        found.append(region_row(row.image_id, row.source, 0, "input", mask, proposer="saliency", certified=True))
        if row.split == "test":
            found.append(region_row(row.image_id, row.source, 1, "truth", mask, mask=None, label="cyst"))
        found.append(region_row(row.image_id, row.source, 7, "input", mask, status="rejected", reason="too_small"))
    return found


@pytest.fixture
def study(tmp_path: Path) -> Study:
    root = tmp_path / "study"
    data = root / "data"
    rows = with_digests(_image_rows(root), {name: root / "raw" / name for name in (OPEN, CLOSED)})
    made = Workspace(root)
    made.roots = {name: root / "raw" / name for name in (OPEN, CLOSED)}
    made.images, made.regions = data / "split/images.parquet", data / "regions/regions.parquet"
    made.captions, made.questions = data / "captions/captions.parquet", data / "split/questions.parquet"
    made.image_shards, made.caption_shards = data / "shards/images", data / "shards/captions"
    made.config = dataclasses.replace(made.config, samples_per_shard=2)
    SPLIT_IMAGES.write(made.images, by_image(rows))
    REGIONS.write(made.regions, by_image(_regions(rows)))
    made.write_captions("round")
    said = [
        dataclasses.replace(row, report=f"Said of {row.source}.", phrase="The spot." if row.kind == "region" else None)
        for row in CAPTIONS.read(made.captions)
    ]
    CAPTIONS.write(made.captions, by_image(said))
    asked = {"question": "Is it?", "answer": "yes", "answer_type": "closed"}
    questions = [
        QuestionRow(image_id=row.image_id, source=row.source, question_id=f"q-{row.path}", **asked) for row in rows[:2]
    ]
    # The source that is left out shows the same picture, which the split keeps as the other's.
    questions.append(QuestionRow(image_id=rows[0].image_id, source=CLOSED, question_id="q-closed", **asked))
    questions.sort(key=lambda row: (row.source, row.question_id))
    SPLIT_QUESTIONS.write(made.questions, questions)
    made.run_images()
    made.run_captions()
    pair = {"image_id": rows[0].image_id, "other_id": rows[1].image_id, "source": OPEN, "other_source": CLOSED}
    NEAR_DUPLICATES.write(
        data / "split/near_duplicates.parquet", [NearDuplicateRow(**pair, distance=1, correlation=1.0)]
    )
    for name in (OPEN, CLOSED):
        fault = RejectedRow(source=name, row="metadata.csv:9", path="jane-doe-99.png", reason="missing_file", detail="")
        REJECTED.write(data / "ingest" / name / "rejected.parquet", [fault])
    (data / "audit.jsonl").write_text("")
    (data / "summaries").mkdir(exist_ok=True)
    write_summary(data / "summaries/regions.json", {"stage": "regions", "risk_control": RISK})
    (root / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    return Study(root, rows)


def meta_of(members: dict[str, bytes]) -> ImageMeta:
    from models.data.format import META, from_json

    return from_json(ImageMeta, members[META], "a tar")
