"""What a recipe's folder holds, and reading one that came from elsewhere.

recipe.json        commit, code, libraries, key, weights, digests of the outputs
params.yaml        the study's, without places of the machine that packed it
prompts/           the captioner's prompt files
review.jsonl       review labels
answers.jsonl      the answers of models that the study needs, from the result cache, a line each
raw/<source>.txt   a digest of each raw file
README.md          how to rebuild
SHA256SUMS         digests of all of these, and of itself
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from models.verified import DamagedError, verify_folder
from pipelines.config import load_params, parse
from pipelines.errors import UserError, printable
from pipelines.files import read_output
from pipelines.recipe.portable import portable

RECIPE, PARAMS, PROMPTS, REVIEW = "recipe.json", "params.yaml", "prompts", "review.jsonl"
ANSWERS, RAW, README = "answers.jsonl", "raw", "README.md"
FORMAT = 1
_ALONE = {RECIPE, PARAMS, REVIEW, ANSWERS, README, "SHA256SUMS"}
_LIST = re.compile(r"raw/[a-z0-9][a-z0-9_-]*\.txt")
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """`recipe.json`.

    Attributes:
        format: `FORMAT`.
        name: Of the data set, in params.yaml.
        commit: Git commit whose code made the study.
        code: File of code, or installed package of plug-ins -> SHA-256, of all stages up to the shards.
        versions: Library -> version.
        key_sha256: Of the key that confidential patient ids were hashed with; None: the study needs none.
        confidential: Sources that need it.
        weights: Plug-in -> SHA-256 of its weights in a folder.
        outputs: Path of an output up to the shards -> its digest in dvc.lock.
        answers: Lines of `answers.jsonl`.
        not_for_all: Sources whose licence does not allow `release.use`: answers about their images are in the recipe.
    """

    format: int
    name: str
    commit: str
    code: dict[str, str]
    versions: dict[str, str]
    key_sha256: str | None
    confidential: list[str]
    weights: dict[str, str]
    outputs: dict[str, str]
    answers: int
    not_for_all: list[str] = field(default_factory=list)


def read_recipe(folder: Path) -> tuple[Recipe, dict[str, Any]]:
    """A recipe and its params, after all of it was checked: links, names, digests, and what the params may name.

    Raises:
        UserError: It is no recipe, was changed, or names places outside of the checkout.
    """
    again = "ask for the recipe again"
    if not (folder / RECIPE).is_file():
        raise UserError(f"{folder} holds no {RECIPE}: name the folder that `python -m flows.recipe pack` wrote")
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not (path.is_dir() or path.is_file()):
            raise UserError(f"{folder}: {printable(name)} is a link or a device, which no recipe holds: {again}")
        if path.is_file() and name not in _ALONE and not name.startswith(f"{PROMPTS}/") and not _LIST.fullmatch(name):
            raise UserError(f"{folder}: {printable(name)} belongs to no recipe: {again}")
    try:
        verify_folder(folder)
    except DamagedError as error:
        raise UserError(f"{str(error).partition(':')[0]}: {again}") from None
    recipe = parse(Recipe, read_output(folder / RECIPE), str(folder / RECIPE))
    if recipe.format != FORMAT:
        raise UserError(f"{folder} has the format {recipe.format}, this code reads {FORMAT}: check out {recipe.commit}")
    params = load_params(folder / PARAMS)
    try:
        unchanged = portable(params) == params
    except (AttributeError, KeyError, TypeError):
        unchanged = False
    if not unchanged:
        raise UserError(f"{folder / PARAMS} names places or servers that no recipe names: {again}")
    return recipe, params


def raw_digests(folder: Path, source: str) -> set[str]:
    """Digests of a source's packed files.

    Raises:
        UserError: The recipe has no list of them, or a line is no digest.
    """
    file = folder / RAW / f"{source}.txt"
    lines = file.read_text(encoding="utf-8").split() if file.is_file() else []
    if not lines or not all(_DIGEST.fullmatch(line) for line in lines):
        raise UserError(f"{file} lists no digests: ask for the recipe again")
    return set(lines)
