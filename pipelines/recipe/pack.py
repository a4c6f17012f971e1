"""Write the recipe of a finished study."""

import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from models.verified import read_bytes
from pipelines.cache import RESULT_CACHE, ResultCache
from pipelines.captions import stage as captions
from pipelines.captions.config import CaptionsConfig
from pipelines.code.fingerprint import FOLDER, KEY, READ, WEIGHTS, check, from_text
from pipelines.config import load, load_params
from pipelines.dvc_stages import locked_stages
from pipelines.errors import UserError
from pipelines.files import atomic_folder, write_json, write_text
from pipelines.git_command import git
from pipelines.keys import ABSENT
from pipelines.params import as_text
from pipelines.promotion.config import PromoteConfig
from pipelines.promotion.licences import licence_faults
from pipelines.proposals import stage as proposals
from pipelines.proposals.config import ProposalsConfig
from pipelines.recipe import raw
from pipelines.recipe.portable import portable, weights
from pipelines.recipe.recipe import ANSWERS, FORMAT, PARAMS, PROMPTS, RAW, README, RECIPE, REVIEW
from pipelines.records import ANNOTATIONS_PROPOSER
from pipelines.release.config import ReleaseConfig
from pipelines.report.config import load_terms
from pipelines.report.provenance import versions
from pipelines.sources import PHANTOM, load_sources, reads
from pipelines.weights import weights_sha256

logger = logging.getLogger(__name__)

# The last stage that a recipe rebuilds, and those that it takes: theirs are the outputs that are compared.
LAST_STAGE = "caption_shards"
_STAGES = ("phantom", "split", "proposals", "regions", "captions", "image_shards", LAST_STAGE)
# Libraries that decide bytes.
LIBRARIES = ("numpy", "pandas", "pyarrow", "pillow", "pydicom", "nibabel", "scikit-image", "scikit-learn", "scipy")
# What the code of the stages is made of; params.yaml and prompts may differ from the commit, for they are packed.
_CODE = ("dvc.yaml", "flows", "models", "pipelines")


def write_recipe(out: Path) -> dict[str, Any]:
    """Write the recipe of the study in this folder; the same study gives the same bytes.

    Args:
        out: Folder of the recipe; replaced as a whole.

    Returns:
        What `recipe.json` holds.

    Raises:
        UserError: The study is not finished or its code not committed, a setting names a place of this machine, or
            answers of models are missing.
    """
    params, commit = load_params(), _commit()
    packed, outputs, fingerprints = portable(params), _outputs(), _fingerprints()
    lines = {name: digest for fingerprint in fingerprints.values() for name, digest in fingerprint.items()}
    keys = {digest for name, digest in lines.items() if name.startswith(KEY)} - {ABSENT}
    answers = _answer_keys()
    with atomic_folder(out) as folder:
        count = _write_answers(folder / ANSWERS, answers)
        _write_inputs(folder, params, packed)
        recipe = {
            "format": FORMAT,
            "name": load(ReleaseConfig, "release").name,
            "commit": commit,
            # Weights stand below, without the folder that they have here.
            "code": {
                name: digest for name, digest in lines.items() if name != READ and not name.startswith((KEY, WEIGHTS))
            },
            "versions": versions(LIBRARIES),
            "key_sha256": next(iter(keys), None),
            "confidential": [_source(stage) for stage, found in fingerprints.items() if any(map(_is_key, found))],
            "weights": {name: weights_sha256(Path(place)) for name, place in weights(params).items()},
            "outputs": outputs,
            "answers": count,
            "not_for_all": _not_for_all(),
        }
        write_json(folder / RECIPE, recipe)
        write_text(folder / README, _readme(recipe))
    return recipe


def _write_inputs(folder: Path, params: dict[str, Any], packed: dict[str, Any]) -> None:
    """Params, prompts, review labels, and the digests of raw files."""
    (folder / RAW).mkdir()
    for name, root in load_sources().roots.items():
        if not reads([root], PHANTOM):
            (folder / RAW / f"{name}.txt").write_text("".join(f"{line}\n" for line in sorted(raw.digests(root))))
    prompts = Path(params["captions"]["prompts"])
    for file in sorted(file for file in prompts.rglob("*") if file.is_file()):
        target = folder / PROMPTS / file.relative_to(prompts)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
    shutil.copyfile(params["regions"]["review"], folder / REVIEW)
    text = as_text(packed)
    write_text(folder / PARAMS, f"# Packed by python -m flows.recipe.\n{text}")


def _outputs() -> dict[str, str]:
    """Output -> digest in dvc.lock, of the stages up to the shards; timings are left out."""
    found: dict[str, str] = {}
    for stage, entry in locked_stages(Path()).items():
        if stage in _STAGES or stage.startswith("ingest@"):
            found |= {out["path"]: out["md5"] for out in entry["outs"] if not out["path"].startswith("data/summaries/")}
    if "data/shards/captions" not in found:
        raise UserError(f"dvc.lock has no {LAST_STAGE}: run `dvc repro` first")
    _check_status()
    return dict(sorted(found.items()))


def _check_status() -> None:
    """Refuse a study of which something changed since: its recipe would give other outputs than it names."""
    command = [sys.executable, "-m", "dvc", "status", "--with-deps", "--json", LAST_STAGE]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"dvc status {LAST_STAGE}: {(done.stderr.strip().splitlines() or ['no reason given'])[-1]}")
    if changed := json.loads(done.stdout or "{}"):
        raise UserError(f"{', '.join(changed)} changed since the study ran: run `dvc repro` first")


def _fingerprints() -> dict[str, dict[str, str]]:
    """The fingerprint of each of these stages."""
    found: dict[str, dict[str, str]] = {}
    for stage in locked_stages(Path()):
        if stage in _STAGES or stage.startswith("ingest@"):
            check(stage)
            found[stage] = from_text(read_bytes(FOLDER / f"{stage}.txt").decode())
    return found


def _is_key(line: str) -> bool:
    return line.startswith(KEY)


def _source(stage: str) -> str:
    return stage.removeprefix("ingest@")


def _commit() -> str:
    """The commit that is checked out, of which the code must not differ."""
    changed = git(Path(), "status", "--porcelain", "--untracked-files=no", "--", *_CODE)
    head = git(Path(), "rev-parse", "--verify", "HEAD")
    if head is None or changed is None:
        raise UserError("there is no git commit here: a recipe names the commit whose code it needs")
    if changed:
        name = changed.splitlines()[0][3:]
        raise UserError(f"{name} differs from the commit, so that nobody else has it: commit it, and run `dvc repro`")
    return head


def _not_for_all() -> list[str]:
    settings, terms = load(ReleaseConfig, "release"), load_terms()
    return sorted(licence_faults(terms, terms, settings.use, load(PromoteConfig, "promote").licences))


def _answer_keys() -> Iterator[tuple[str, str, bool]]:
    """Key, kind and whether it must be there, of each answer."""
    sources, tables = load_sources(), (Path("data/split/images.parquet"), Path("data/regions/regions.parquet"))
    for key, kind in captions.answer_keys(load(CaptionsConfig, "captions"), sources, *tables):
        yield key, kind, True
    for key, kind in proposals.answer_keys(load(ProposalsConfig, "proposals"), sources, Path("data/split")):
        yield key, kind, False


def _write_answers(file: Path, keys: Iterator[tuple[str, str, bool]]) -> int:
    """Write the answers, a line each; their number."""
    cache, count, absent, missing = ResultCache(RESULT_CACHE), 0, 0, 0
    try:
        with file.open("w", encoding="utf-8") as stream:
            for key, kind, needed in keys:
                value = cache.get(key)
                if value is None:
                    missing += needed
                    # Annotations that have masks of their own are never kept: nothing computes them.
                    absent += not needed and kind != proposals.cache_kind(ANNOTATIONS_PROPOSER)
                    continue
                line = {"key": key, "kind": kind, "value": value}
                stream.write(json.dumps(line, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n")
                count += 1
    finally:
        cache.close()
    if missing:
        raise UserError(
            f"{missing} answers of the captioner are not in {RESULT_CACHE}, for they failed or the cache was deleted: "
            "run `dvc repro --force --single-item captions`, which asks for them again"
        )
    if absent:
        logger.warning("%d answers of proposers are not in %s: a rebuild computes them again", absent, RESULT_CACHE)
    return count


def _readme(recipe: dict[str, Any]) -> str:
    key = (
        f"\nPatient ids of {', '.join(recipe['confidential'])} were hashed with a key, whose SHA-256 is\n"
        f"`{recipe['key_sha256']}`. Without it neither their hashes nor the\ntables can be rebuilt: ask whoever packed "
        "this for it, and put it at `keys/patient.key`.\n"
        if recipe["key_sha256"]
        else ""
    )
    terms = (
        f"\nThe answers speak of images of {', '.join(recipe['not_for_all'])}, whose licence does not\n"
        "allow that they are passed on: give this folder only to those who may have these images.\n"
        if recipe["not_for_all"]
        else ""
    )
    return (
        f"# Recipe of {recipe['name']}\n\nFrom this folder and the same raw data the shards are rebuilt with the same "
        "bytes; no model is asked.\n\n1. Check out the commit "
        f"`{recipe['commit']}` of medregion, and make its environment (`make env`).\n2. Put or link the raw data "
        "where `params.yaml` names it (`ingest.sources.<name>.root`).\n3. Run `python -m flows.recipe rebuild FOLDER` "
        f"there, with the path of this folder.\n{key}{terms}"
    )
