"""Two studies compared file by file: a refactoring must change no result, only names.

Reads   the finished data/ of a study by commit cb9d4c4 (BEFORE), and of the same study by the present code (AFTER)
Writes  benchmarks/results/equal_<NAME>.csv: one row for each file or group of files, with what was compared
Run     python benchmarks/equal_studies.py NAME BEFORE AFTER     (folders of the two workspaces)

Equal means: the same rows in the same order and the same values to the last bit, under their new names. Not
compared, since the form changed: new columns (the run-length codes of annotated masks), and the layout of a tar, where
crops, masks and targets are packed into members that every sample has; their bytes are compared.
"""

import csv
import io
import json
import sys
import tarfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.compute
import pyarrow.parquet
from header import header, last_commit
from safetensors.numpy import load_file

from pipelines.files import atomic_path

RESULTS = Path(__file__).parent / "results"
COLUMNS = ("file", "compared", "items", "equal", "detail")

# Parquet: path -> path and {column: column}, where names changed.
TABLES = {
    "data/ingest/*/images.parquet": ("data/ingest/*/images.parquet", {}),
    "data/ingest/*/regions.parquet": ("data/ingest/*/annotations.parquet", {}),
    "data/ingest/*/questions.parquet": ("data/ingest/*/questions.parquet", {}),
    "data/ingest/*/rejected.parquet": ("data/ingest/*/rejected.parquet", {}),
    "data/split/images.parquet": ("data/split/images.parquet", {"given_split": "source_split"}),
    "data/split/regions.parquet": ("data/split/annotations.parquet", {}),
    "data/split/questions.parquet": ("data/split/questions.parquet", {}),
    "data/split/near_duplicates.parquet": ("data/split/near_duplicates.parquet", {}),
    "data/proposals/proposals.parquet": ("data/proposals/proposals.parquet", {}),
    "data/regions/regions.parquet": ("data/regions/regions.parquet", {}),
    "data/captions/captions.parquet": ("data/captions/captions.parquet", {}),
}
SHARED_RENAMES = {"area_share": "area_fraction"}
# Words of metrics.json and of reason codes, longest first.
WORDS = {
    "one_side/kept": "laterality/retention",
    "one_side/gone": "laterality/suppression",
    "from_mask/": "mask_derived/",
    "given/": "own/",
    "none/": "empty/",
}


def main(name: str, before: str, after: str) -> None:
    first, second = Path(before), Path(after)
    rows = [*tables(first, second), *shards(first, second), *checkpoints(first, second), *scores(first, second)]
    with atomic_path(RESULTS / f"equal_{name}.csv") as temporary, temporary.open("w", newline="") as stream:
        stream.write(header(f"equal_studies.py {name}", last_commit(second, "dvc.yaml", "models", "pipelines")))
        writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    different = [row["file"] for row in rows if row["equal"] != "yes"]
    print(f"{len(rows)} comparisons, {len(different)} differ: {', '.join(different) or 'none'}")
    sys.exit(bool(different))


def row(file: str, compared: str, items: int, faults: list[str]) -> dict[str, Any]:
    detail = "; ".join(faults[:3])
    return {"file": file, "compared": compared, "items": items, "equal": "no" if faults else "yes", "detail": detail}


def tables(before: Path, after: Path) -> Iterator[dict[str, Any]]:
    for old_pattern, (new_pattern, columns) in TABLES.items():
        for old in sorted(before.glob(old_pattern)):
            relative = old.relative_to(before)
            new = after / relative.with_name(Path(new_pattern).name)
            renames = SHARED_RENAMES | columns
            first = pyarrow.parquet.read_table(old)
            first = first.rename_columns([renames.get(column, column) for column in first.column_names])
            second = pyarrow.parquet.read_table(new)
            new_columns = sorted(set(second.column_names) - set(first.column_names))
            faults = [f"column {column} is gone" for column in first.column_names if column not in second.column_names]
            if first.num_rows != second.num_rows:
                faults.append(f"{first.num_rows} rows before, {second.num_rows} after")
            else:
                common = [column for column in first.column_names if column in second.column_names]
                for column in common:
                    values = first[column].to_pylist(), second[column].to_pylist()
                    if values[0] != values[1]:
                        count = sum(one != other for one, other in zip(*values, strict=True))
                        faults.append(f"column {column}: {count} values differ")
            compared = f"{len(first.column_names)} columns" + (
                f", new: {', '.join(new_columns)}" if new_columns else ""
            )
            yield row(new.relative_to(after).as_posix(), compared, first.num_rows, faults)


def shards(before: Path, after: Path) -> Iterator[dict[str, Any]]:
    for family in ("images", "captions"):
        for old in sorted((before / "data/shards" / family).glob("*/*.tar")):
            relative = old.relative_to(before)
            first, second = dict(samples(old)), dict(samples(after / relative))
            faults = [] if list(first) == list(second) else ["other keys or another order"]
            for key in first.keys() & second.keys():
                one, other = as_parts(first[key]), as_parts(second[key])
                faults += [f"{key}: {name}" for name in one.keys() | other.keys() if one.get(name) != other.get(name)]
            compared = "bytes of image, crops, masks and target; meta" if family == "images" else "texts"
            yield row(relative.as_posix(), compared, len(first), faults)


def samples(tar_file: Path) -> Iterator[tuple[str, dict[str, bytes]]]:
    found: dict[str, dict[str, bytes]] = defaultdict(dict)
    with tarfile.open(tar_file) as tar:
        for member in tar:
            key, _, extension = member.name.partition(".")
            stream = tar.extractfile(member)
            assert stream is not None
            found[key][extension] = stream.read()
    yield from found.items()


def as_parts(members: dict[str, bytes]) -> dict[str, Any]:
    """One sample in a form that both layouts share: bytes by name, and the JSON without spans."""
    if "captions.json" in members or "captions.json.txt" in members:
        return {"captions": json.loads(members.get("captions.json") or members["captions.json.txt"])}
    if "meta.json" in members:
        parts: dict[str, Any] = {name: data for name, data in members.items() if name != "meta.json"}
        return parts | {"meta": json.loads(members["meta.json"])}
    meta = json.loads(members["meta.json.txt"])
    parts = {"image.jpg": members["image.jpg"]}
    if meta.pop("has_target"):
        parts["target.png"] = members["target.png"]
    for k, region in enumerate(meta["regions"]):
        for name, pack, file in (("crop", "crops.bin", f"crop{k}.jpg"), ("mask", "masks.bin", f"mask{k}.png")):
            span = region.pop(name)
            if span is not None:
                parts[file] = members[pack][span[0] : span[0] + span[1]]
    return parts | {"meta": meta}


def checkpoints(before: Path, after: Path) -> Iterator[dict[str, Any]]:
    for old in sorted((before / "data/checkpoints").glob("*/model.safetensors")):
        relative = old.relative_to(before)
        first, second = load_file(old), load_file(after / relative)
        faults = [] if first.keys() == second.keys() else ["other names of weights"]
        faults += [name for name in first.keys() & second.keys() if not (first[name] == second[name]).all()]
        yield row(relative.as_posix(), "weights", len(first), faults)
        curves = [json.loads((root / relative).with_name("curve.json").read_text()) for root in (before, after)]
        faults = [name for name in ("steps", "validation", "samples", "skipped") if curves[0][name] != curves[1][name]]
        yield row(relative.with_name("curve.json").as_posix(), "losses", len(curves[0]["steps"]), faults)


def scores(before: Path, after: Path) -> Iterator[dict[str, Any]]:
    for old in sorted((before / "data/evaluation").glob("*/metrics.json")):
        relative = old.relative_to(before)
        first, second = (json.loads((root / relative).read_text())["tasks"] for root in (before, after))
        one, other = (dict(flat_scores(tasks)) for tasks in (first, second))
        one = {renamed(name): value for name, value in one.items()}
        faults = [
            f"{name}: {one.get(name)} and {other.get(name)}"
            for name in one.keys() | other.keys()
            if one.get(name) != other.get(name)
        ]
        yield row(relative.as_posix(), "scores with chance and interval, all sources", len(one), sorted(faults))
    if not (before / "data/report/comparison.csv").is_file():
        yield row("data/report/comparison.csv", "not compared: BEFORE was stopped before its report", 0, [])
        return
    with io.StringIO((before / "data/report/comparison.csv").read_text()) as stream:
        lines = {(line["method"], line["task"], renamed(line["metric"])): line for line in csv.DictReader(stream)}
    with io.StringIO((after / "data/report/comparison.csv").read_text()) as stream:
        others = {(line["method"], line["task"], line["metric"]): line for line in csv.DictReader(stream)}
    values = ("value", "low", "high", "chance", "items", "pool")
    faults = [
        "/".join(key)
        for key in lines.keys() | others.keys()
        if key not in lines or key not in others or any(lines[key][v] != others[key][v] for v in values)
    ]
    yield row("data/report/comparison.csv", ", ".join(values), len(lines), sorted(faults))


def renamed(name: str) -> str:
    for old, new in WORDS.items():
        name = name.replace(old, new)
    return name


def flat_scores(tasks: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for task, result in tasks.items():
        yield f"{task}/status", result["status"]
        yield f"{task}/items", result["items"]
        for metric, score in result["metrics"].items():
            yield f"{task}/{metric}", score
        for source, part in result["by_source"].items():
            for metric, score in part["metrics"].items():
                yield f"{task}/{source}/{metric}", score


if __name__ == "__main__":
    main(*sys.argv[1:])
