"""Files of prompts that options name: found at any depth, digested, and read in the study whose options name them."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from models.verified import sha256_file
from pipelines.config import parse
from pipelines.errors import UserError
from pipelines.evaluate.config import EvaluateConfig
from pipelines.evaluate.scoring import load_tasks
from pipelines.prompt_files import prompt_digests, prompt_files

CLASSES, QUESTION = "prompts/zero_shot/mine.yaml", "prompts/vqa/mine.txt"
PROMPTS = {"templates": ["{label}"], "negatives": ["no {label}"], "prompts": CLASSES}
SERVED = {"base_urls": ["http://127.0.0.1:9/v1"], "model": "toy", "prompt": QUESTION}
TASKS: dict[str, Any] = {"zero_shot": PROMPTS, "probe": {"prompts": PROMPTS}, "vqa": {"served": SERVED}}


def write(study: Path, word: str) -> Path:
    """A study whose prompts hold a word."""
    for name, text in ((CLASSES, yaml.safe_dump({"prompts": {"alpha": [word]}})), (QUESTION, f"{word} {{question}}")):
        (study / name).parent.mkdir(parents=True)
        (study / name).write_text(text)
    return study


def words_of(study: Path | None = None) -> list[str]:
    """What each task of a study asks with; None: of the working folder."""
    config = parse(EvaluateConfig, {"tasks": TASKS, "batch_size": 1, "bootstrap": {"samples": 1, "seed": 0}}, "here")
    tasks = load_tasks(config) if study is None else load_tasks(config, study)
    of_classes = [tasks["zero_shot"].config, tasks["probe"].config.prompts]
    asked = [prompt for one in of_classes for prompt in one.prompts_for("alpha")]
    return [*asked, tasks["vqa"].config.served.text.removesuffix(" {question}")]


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (TASKS, [CLASSES, CLASSES, QUESTION]),
        (
            {"steps": [{"wording": "prompts/theirs/a.txt"}, {"wording": "prompts for a finding"}]},
            ["prompts/theirs/a.txt"],
        ),
        ({"prompts": "prompts", "prompt": "data/prompts/a.txt", "ks": [1, 5]}, []),
        ({"prompts": {"lung opacity": "pneumonia"}}, []),
    ],
)
def test_names_are_found_under_any_key_and_at_any_depth(options: Any, names: list[str]) -> None:
    assert list(prompt_files(options)) == names


def test_digests_are_those_of_the_files_in_a_study(tmp_path: Path) -> None:
    study = write(tmp_path / "study", "one")
    assert prompt_digests([CLASSES], study) == {CLASSES: sha256_file(study / CLASSES)}
    (study / CLASSES).unlink()
    with pytest.raises(UserError, match=f"^{study / CLASSES} not found: a task under evaluate.tasks of params.yaml"):
        prompt_digests([QUESTION, CLASSES], study)


def test_each_task_reads_the_files_of_the_study_whose_options_name_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, other = write(tmp_path / "here", "here"), write(tmp_path / "other", "there")
    monkeypatch.chdir(here)
    assert words_of() == ["here"] * 3
    assert words_of(other) == ["there"] * 3
    (other / QUESTION).unlink()
    with pytest.raises(UserError, match=f"^{other / QUESTION} not found, .*: {other}/prompts/vqa has no file$"):
        words_of(other)
    # Also after one that failed.
    assert words_of() == ["here"] * 3
