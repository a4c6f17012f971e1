"""The peak memory of a process is its own."""

import subprocess
import sys
from pathlib import Path

import numpy as np

SAY = "from models.memory import peak_memory_mb\nimport numpy\n{}\nprint(peak_memory_mb())"


def said(repository: Path, held: str) -> float:
    words = [sys.executable, "-c", SAY.format(held)]
    return float(subprocess.run(words, cwd=repository, capture_output=True, text=True, check=True).stdout)


def test_what_the_parent_holds_does_not_count_and_what_was_freed_does(repository: Path) -> None:
    parents = np.ones(50 * 2**20)  # 400 MiB
    alone = said(repository, "")
    assert 5 < alone < 200
    assert 190 < said(repository, "held = numpy.ones(25 * 2**20); del held") - alone < 250
    assert parents[-1] == 1
