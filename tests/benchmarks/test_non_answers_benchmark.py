"""benchmarks/non_answers.py: distinct texts count once, and what sets off a rule is counted by code."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

from pipelines.ingest.record import Question, SourceRecord


@pytest.fixture
def script(repository: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(repository / "benchmarks")
    yield importlib.import_module("non_answers")
    for name in ("non_answers", "header"):
        sys.modules.pop(name, None)


def test_distinct_texts_are_counted_by_code(script: ModuleType) -> None:
    texts = ["Small nodule.", "Small nodule.", "string", "Polyp.", "I cannot describe this."]
    assert script.row("toy", "report", texts, "") == {
        "source": "toy",
        "kind": "report",
        "rows": 5,
        "distinct": 4,
        "set_off": 2,
        "rate": 0.5,
        "codes": "placeholder:1 refusal:1",
    }
    assert script.row("toy", "label", ["mass", "unknown"], "")["codes"] == "term_names_nothing:1"


def test_all_texts_of_a_row_are_looked_at(script: ModuleType) -> None:
    question = Question(question_id="1", question="Is there a mass?", answer="yes", answer_type="closed")
    record = SourceRecord(row="1", name="a.png", modality="ct", report="Mass.", labels=("mass",), questions=(question,))
    assert list(script.texts_of(record)) == [
        ("report", "Mass."),
        ("question and answer", "Is there a mass? yes"),
        ("label", "mass"),
    ]
