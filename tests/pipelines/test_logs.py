"""Log lines: on standard error, in one format, from this project's loggers alone."""

import os
import re
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import logging
from pipelines.logs import configure_logging

configure_logging()
configure_logging()
for name in ("pipelines.split.stage", "flows.promote", "models.training.loop", "__main__", "somebody.else"):
    logging.getLogger(name).debug("debug")
    logging.getLogger(name).info("%d images", 3)
logging.getLogger("somebody.else").warning("careful")
print("result")
"""


def test_our_lines_from_info_on_and_warnings_of_libraries_go_to_standard_error(repository: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "result\n"
    lines = [re.fullmatch(r"\d\d:\d\d:\d\d (.*)", line) for line in done.stderr.splitlines()]
    assert [line and line[1] for line in lines] == [
        "INFO pipelines.split.stage: 3 images",
        "INFO flows.promote: 3 images",
        "INFO models.training.loop: 3 images",
        "INFO __main__: 3 images",
        "WARNING somebody.else: careful",
    ]


def test_no_library_quotes_values_of_headers(repository: Path) -> None:
    program = """
from pipelines.logs import configure_logging
configure_logging()
import warnings
import pydicom
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    pydicom.Dataset().StudyInstanceUID = "SURNAME"
print(len(caught))
"""
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("1\n", "")
