"""A small study that can be promoted from: trained and untrained checkpoints, split, shards, card and licence."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import yaml

from models.data.format import read_manifest, write_manifest
from models.verified import seal, verified_sha256
from pipelines.config import load
from pipelines.evaluate import stage
from pipelines.evaluate.config import EvaluateConfig
from pipelines.promotion.config import PromoteConfig
from pipelines.promotion.decision import Promotion
from pipelines.records import SPLIT_IMAGES, ItemRow, SplitImageRow
from pipelines.shards.checks import table_digest
from pipelines.tracking.config import TrackingConfig
from tests.pipelines.evaluate.small_world import WORDS, image, save_clip, write_shards

PROMOTE: dict[str, Any] = {
    "metric": "retrieval/t2i_recall@5",
    "tolerance": 0.1,
    "floors": {},
    "use": "research",
    "licences": {"research": ["CC0-1.0", "CC-BY-NC-4.0"], "commercial": ["CC0-1.0"]},
}
PARAMS: dict[str, Any] = {
    "ingest": {"sources": {"one": {"adapter": "table", "root": "data/raw/one", "licence": "CC0-1.0"}}},
    "train": {"methods": {}},
    "evaluate": {
        "tasks": {"retrieval": {"ks": [1, 5]}},
        "batch_size": 8,
        "bootstrap": {"samples": 100, "seed": 0},
    },
    "tracking": {"uri": "sqlite:///data/mlflow.db", "artifacts": "data/mlflow", "experiment": "test", "model": "test"},
    "promote": PROMOTE,
}


def items(metric: str, values: list[float], task: str = "retrieval", **columns: list[Any]) -> list[ItemRow]:
    """Rows of one metric, one image each; other columns as lists beside the values."""
    rows = []
    for number, value in enumerate(values):
        given = {name: column[number] for name, column in columns.items()}
        key = f"{number:016x}"
        known = {"image_id": key, "item": key, "source": "one", "modality": "other", "task": task, "metric": metric}
        rows.append(ItemRow(**known | {"value": float(value)} | given))
    return rows


def split_rows(images: list[dict[str, Any]], **changes: Any) -> list[SplitImageRow]:
    """The split table of some images, each a patient of its own."""
    return [
        SplitImageRow(
            **{
                "image_id": one["key"],
                "source": one["source"],
                "path": f"{one['key']}.png",
                "sha256": "0" * 64,
                "pixel_sha256": "0" * 64,
                "perceptual_hash": "0" * 64,
                "width": 16,
                "height": 16,
                "modality": one["modality"],
                "split_conflict": False,
                "rows": 1,
                "group": one["key"],
                "split": one["split"],
                "leak": False,
            }
            | changes
        )
        for one in images
    ]


def write_data(project: Path, images: list[dict[str, Any]]) -> None:
    """The split table and the shards made from it."""
    table = project / "data/split/images.parquet"
    SPLIT_IMAGES.write(table, split_rows(images))
    folder, _ = write_shards(project / "data/shards", images)
    manifest = read_manifest(folder)
    write_manifest(folder, dataclasses.replace(manifest, tables={**manifest.tables, "images": table_digest(table)}))


def save_method(project: Path, method: str, seed: int, steps: int) -> None:
    """A checkpoint that was trained on the present shards, and its evaluation."""
    folder = save_clip(project / "data/checkpoints" / method, seed=seed, steps=steps)
    name_shards(project, method)
    shards = project / "data/shards"
    config = load(EvaluateConfig, "evaluate", project / "params.yaml")
    output = project / "data/evaluation" / method
    stage.run(config, method, folder, shards / "images", shards / "captions", output, project / "data/summaries")


def name_shards(project: Path, method: str, **said: Any) -> None:
    """Let a checkpoint's curve.json say that it was trained on the present shards, and what else is given."""
    curve = project / "data/checkpoints" / method / "curve.json"
    values = json.loads(curve.read_text())
    values["shards"] = {"images": verified_sha256(project / "data/shards/images/manifest.json")}
    values |= {"run": f"{method}-0", **said}
    curve.write_text(json.dumps(values))
    seal(curve.parent)


def write_study(project: Path, methods: dict[str, tuple[int, int]]) -> None:
    """A whole study.

    Args:
        project: Its folder.
        methods: Name -> seed and steps of its training; with 60 steps it knows every word, with 0 none.
    """
    project.mkdir(parents=True, exist_ok=True)
    write_params(project, train={"methods": {method: {} for method in methods}})
    words = range(len(WORDS))
    write_data(project, [image(number, split=split) | _key(split, number) for split in SPLITS for number in words])
    for method, (seed, steps) in methods.items():
        save_method(project, method, seed, steps)
    report = project / "data/report"
    report.mkdir(parents=True)
    (report / "dataset_card.md").write_text("# one\n")
    seal(report)


SPLITS = ("validation", "test")


def _key(split: str, number: int) -> dict[str, str]:
    return {"key": f"{SPLITS.index(split)}{number:015x}"}


def write_params(project: Path, **sections: dict[str, Any]) -> None:
    """Write params.yaml; sections are merged over what is there, or over `PARAMS`."""
    file = project / "params.yaml"
    params = yaml.safe_load(file.read_text()) if file.is_file() else json.loads(json.dumps(PARAMS))
    for name, values in sections.items():
        params[name] |= values
    file.write_text(yaml.safe_dump(params))


def promotion(project: Path) -> Promotion:
    file = project / "params.yaml"
    return Promotion(
        config=load(PromoteConfig, "promote", file),
        tracking=load(TrackingConfig, "tracking", file),
        evaluation=load(EvaluateConfig, "evaluate", file),
        project=project,
    )
