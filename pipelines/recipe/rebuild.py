"""Rebuild a study from a recipe, in a checkout of its commit."""

import json
import logging
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.verified import open_verified
from pipelines.cache import RESULT_CACHE, ResultCache
from pipelines.code.fingerprint import digest_now
from pipelines.code.paths import check_paths
from pipelines.dvc_lock import mend
from pipelines.dvc_process import dvc_process
from pipelines.dvc_stages import locked_stages
from pipelines.errors import UserError
from pipelines.files import atomic_path, read_summary
from pipelines.keys import key_digest, key_file
from pipelines.recipe import raw
from pipelines.recipe.pack import LAST_STAGE, LIBRARIES
from pipelines.recipe.portable import KEYS, weights
from pipelines.recipe.portable import REVIEW as REVIEW_FILE
from pipelines.recipe.recipe import ANSWERS, PARAMS, PROMPTS, REVIEW, Recipe, raw_digests, read_recipe
from pipelines.report.provenance import versions
from pipelines.sources import PHANTOM, reads
from pipelines.stage import SUMMARIES
from pipelines.weights import weights_sha256

logger = logging.getLogger(__name__)

_KEY = re.compile(r"[0-9a-f]{64}")
_KIND = re.compile(r"(caption|proposals)/[A-Za-z0-9_.-]+")
_RAN = re.compile(r"Running stage '.+':")


@dataclass(frozen=True, kw_only=True)
class Rebuilt:
    """What came of a rebuild.

    Attributes:
        outputs: How many outputs were compared.
        differing: Those whose digest is another one than the recipe's.
        ran: How many stages ran; DVC had the others' outputs already.
        sent: How many items were sent to a model.
    """

    outputs: int
    differing: list[str]
    ran: int
    sent: int


def rebuild(folder: Path) -> Rebuilt:
    """Check what the recipe needs, put its files in place, run the stages up to the shards, and compare.

    Nothing is written before all of it was checked.

    Args:
        folder: The recipe.

    Raises:
        UserError: The recipe was changed; code, key, raw data or weights are not those of the recipe; files here would
            be overwritten; or a stage failed.
    """
    if not Path("dvc.yaml").is_file():
        raise UserError("there is no dvc.yaml here: run in a checkout of the recipe's commit")
    recipe, params = read_recipe(folder)
    _check_code(recipe)
    _check_key(recipe)
    _check_raw(folder, params)
    _check_weights(recipe, params)
    files = _files(folder, params)
    _check_unchanged(files)
    _check_answers(folder / ANSWERS, recipe)
    for line in _other_versions(recipe):
        logger.warning("%s: bytes may differ", line)
    for target, source in files.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(target) as temporary:
            shutil.copyfile(source, temporary)
    _keep_answers(folder / ANSWERS)
    check_paths(Path())
    ran = _repro()
    digests = {out["path"]: out["md5"] for entry in locked_stages(Path()).values() for out in entry["outs"]}
    return Rebuilt(
        outputs=len(recipe.outputs),
        differing=[path for path, digest in recipe.outputs.items() if digests.get(path) != digest],
        ran=len(ran),
        sent=read_summary(SUMMARIES / "captions.json").get("sent", 0) if "captions" in ran else 0,
    )


def _check_code(recipe: Recipe) -> None:
    changed = sorted(name for name, digest in recipe.code.items() if digest_now(name) != digest)
    if changed:
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        raise UserError(f"{changed[0]}{more} differ from the recipe's code: run `git checkout {recipe.commit}`")


def _check_key(recipe: Recipe) -> None:
    file = key_file(Path(KEYS))
    if recipe.key_sha256 not in (None, key_digest(file)):
        raise UserError(
            f"{file} is not the key whose SHA-256 begins with {str(recipe.key_sha256)[:12]}: patient ids of "
            f"{', '.join(recipe.confidential)} were hashed with it, and without it the tables that hold them cannot be "
            "rebuilt; ask whoever packed the recipe for the key"
        )


def _check_raw(folder: Path, params: dict[str, Any]) -> None:
    faults = []
    for name, source in params["ingest"]["sources"].items():
        root = source["root"]
        if not reads([root], PHANTOM) and (fault := raw.difference(Path(root), raw_digests(folder, name))):
            faults.append(f"{root} (source {name}) {fault}")
    if faults:
        raise UserError(f"the raw data are not those of the recipe: {'; '.join(faults)}")


def _check_weights(recipe: Recipe, params: dict[str, Any]) -> None:
    for name, path in weights(params).items():
        folder = Path(path)
        if not folder.is_dir() or weights_sha256(folder) != recipe.weights.get(name):
            digest = recipe.weights.get(name)
            raise UserError(f"{path} does not hold the weights of {name}, SHA-256 {digest}: put them there")


def _files(folder: Path, params: dict[str, Any]) -> dict[Path, Path]:
    """File here -> file of the recipe."""
    prompts, target = folder / PROMPTS, Path(params["captions"]["prompts"])
    found = {target / file.relative_to(prompts): file for file in sorted(prompts.rglob("*")) if file.is_file()}
    return found | {Path(PARAMS): folder / PARAMS, Path(REVIEW_FILE): folder / REVIEW}


def _check_unchanged(files: dict[Path, Path]) -> None:
    """Refuse to overwrite what nobody else has: files that differ from the recipe and from the commit."""
    for target, source in files.items():
        if not target.exists() or target.read_bytes() == source.read_bytes():
            continue
        status = ["git", "status", "--porcelain", "--ignored", "--", str(target)]
        done = subprocess.run(status, capture_output=True, text=True, check=False)
        if done.returncode or done.stdout:
            raise UserError(f"{target} has changes of yours that the recipe would overwrite: rebuild in a fresh clone")


def _check_answers(file: Path, recipe: Recipe) -> None:
    if (count := sum(1 for _ in _answers(file))) != recipe.answers:
        raise UserError(f"{file} has {count} answers instead of {recipe.answers}: ask for the recipe again")


def _other_versions(recipe: Recipe) -> list[str]:
    here = versions(LIBRARIES)
    return [f"{name} is {here.get(name)}, not {one}" for name, one in recipe.versions.items() if here.get(name) != one]


def _answers(file: Path) -> Iterator[dict[str, Any]]:
    """The answers; they are data, and never run."""
    with open_verified(file) as stream:
        for number, line in enumerate(stream, start=1):
            answer = _answer(line)
            if answer is None:
                raise UserError(f"{file}:{number} is no answer: ask for the recipe again")
            yield answer


def _answer(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or value.keys() != {"key", "kind", "value"} or value["value"] is None:
        return None
    texts = isinstance(value["key"], str) and isinstance(value["kind"], str)
    return value if texts and _KEY.fullmatch(value["key"]) and _KIND.fullmatch(value["kind"]) else None


def _keep_answers(file: Path) -> None:
    """Put the answers into the result cache."""
    cache = ResultCache(RESULT_CACHE)
    try:
        for answer in _answers(file):
            cache.put(answer["key"], answer["kind"], answer["value"])
    finally:
        cache.close()


def _repro() -> list[str]:
    """Run DVC up to the shards, its lines on the terminal; the stages that ran."""
    mend(Path())
    ran = []
    # Nothing is fetched either: weights of a hub whose answers are here are not needed.
    with dvc_process(Path(), ["repro", LAST_STAGE], HF_HUB_OFFLINE="1") as process:
        assert process.stdout is not None
        for line in process.stdout:
            logger.info(line.rstrip())
            if _RAN.fullmatch(line.strip()):
                ran.append(line.split("'")[1])
    if process.returncode:
        raise UserError(f"dvc repro {LAST_STAGE} ended with {process.returncode}; the stage's own lines are above")
    return ran
