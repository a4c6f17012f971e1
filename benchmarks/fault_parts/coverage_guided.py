"""One target, fuzzed by atheris: inputs that reach new code are kept and changed further.

Run     python -m fault_parts.coverage_guided TARGET FOLDER RUNS SECONDS SEED
        by an interpreter that has atheris (`fuzz.environment`), with the project and benchmarks/ on PYTHONPATH

FOLDER keeps the corpus, so that another run goes on where this one ended, and the findings (`fuzz_watch`).
"""

import logging
import os
import sys
import tempfile
from pathlib import Path

import atheris

# What is instrumented beside the product: the readers in Python that a target hands its bytes to.
_READERS = {
    "images": ["PIL"],
    "masks": ["PIL"],
    "volumes": ["nibabel"],
    "dicom": ["pydicom"],
    "archives": ["zipfile", "tarfile", "gzip"],
    "tables": ["csv", "json"],
    "params": ["yaml"],
    "answers": ["json"],
    "templates": ["jinja2"],
    "reviews": ["json"],
}


def main(name: str, folder: str, runs: str, seconds: str, seed: str) -> None:
    with atheris.instrument_imports(include=["pipelines", "flows.config", *_READERS.get(name, [])]):
        from . import fuzz_seeds, fuzz_targets, fuzz_watch
    logging.disable(logging.WARNING)
    here = Path(folder)
    corpus = here / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    memory = Path("/dev/shm")
    scratch = tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else here, ignore_cleanup_errors=True)
    targets = fuzz_targets.Targets(Path.cwd(), Path(scratch.name))
    for number, data in enumerate(targets.seeds(name)):
        (corpus / f"seed-{number}").write_bytes(data)
    words = here / "words"
    words.write_text("".join(f'"{_escaped(word)}"\n' for word in fuzz_seeds.dictionary()))
    watch = fuzz_watch.Watch(name, targets.target(name), here)
    arguments = [
        *(f"-runs={runs}", f"-max_total_time={seconds}", f"-seed={seed}", f"-dict={words}", "-max_len=12288"),
        *("-rss_limit_mb=0", "-timeout=10", f"-artifact_prefix={here}/crash-", "-verbosity=0", str(corpus)),
    ]
    atheris.Setup([sys.argv[0], *arguments], watch.run)
    try:
        atheris.Fuzz()
    finally:
        watch.write()
        scratch.cleanup()


def _escaped(word: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word)


if __name__ == "__main__":
    os.environ["PYTHONHASHSEED"] = "0"
    main(*sys.argv[1:])
