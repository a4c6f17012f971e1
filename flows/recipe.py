"""Hand on how a study was made, so that others rebuild its shards with the same bytes and without asking a model.

`pack` writes a folder: digests of raw data and code, params, prompts, review labels, and the stored answers of models
that this study needs. `rebuild`, in a checkout of its commit with the same raw data, checks all of these, runs the
stages up to the shards and compares their digests.

Reads: params.yaml, dvc.lock, data/, keys/, raw data. Writes: pack: the folder of --out; rebuild: params.yaml, prompts,
review labels, the result cache, and what the stages write.
Run alone: python -m flows.recipe pack --out FOLDER; python -m flows.recipe rebuild FOLDER
"""

import argparse
from pathlib import Path

from pipelines.errors import UserError
from pipelines.files import sweep_beside
from pipelines.recipe.pack import write_recipe
from pipelines.recipe.rebuild import rebuild
from pipelines.recipe.recipe import RECIPE
from pipelines.result_folders import check_out
from pipelines.stage import command


def main(*arguments: str) -> None:
    parser = argparse.ArgumentParser("python -m flows.recipe", description="Pack how a study was made, and rebuild it.")
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack", help="write the recipe of the study in this folder")
    packing.add_argument("--out", type=Path, required=True, help="folder of the recipe; one that is there is replaced")
    rebuilding = commands.add_parser("rebuild", help="rebuild a recipe in this folder, a checkout of its commit")
    rebuilding.add_argument("recipe", type=Path, help="folder of the recipe")
    options = parser.parse_args(arguments)
    if options.command == "pack":
        _pack(options.out)
    else:
        _rebuild(options.recipe)


def _pack(out: Path) -> None:
    check_out(out, RECIPE, "a recipe of flows.recipe")
    sweep_beside(out)
    recipe = write_recipe(out)
    if recipe["not_for_all"]:
        names = ", ".join(recipe["not_for_all"])
        print(f"give it only to those who may have {names}: the answers speak of images whose licence forbids more")
    if recipe["key_sha256"]:
        print(f"whoever rebuilds it needs the key for patient ids of {', '.join(recipe['confidential'])}")
    print(f"recipe: {out}: {recipe['answers']} answers, {len(recipe['outputs'])} outputs, commit {recipe['commit']}")


def _rebuild(folder: Path) -> None:
    found = rebuild(folder)
    if found.differing:
        raise UserError(f"{len(found.differing)} of {found.outputs} outputs differ: {', '.join(found.differing)}")
    print(f"equal: all {found.outputs} outputs have the digests of the recipe ({found.ran} stages ran)")
    print(f"sent to a model: {found.sent}")


if __name__ == "__main__":
    command(main)
