"""A recipe from elsewhere is checked before anything of it is used."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from models.verified import SUMS, seal
from pipelines.errors import UserError
from pipelines.recipe import raw
from pipelines.recipe.rebuild import rebuild
from pipelines.recipe.recipe import read_recipe

PARAMS: dict[str, Any] = {
    "ingest": {"keys": "keys", "sources": {"clinic": {"root": "data/raw/clinic"}}},
    "regions": {"review": "data/review.jsonl"},
    "captions": {"prompts": "prompts/words"},
    "proposals": {"proposers": ["saliency"], "segmenter": "threshold"},
}
RECIPE: dict[str, Any] = {
    "format": 1,
    "name": "small",
    "commit": "c0ffee",
    "code": {},
    "versions": {},
    "key_sha256": None,
    "confidential": [],
    "weights": {},
    "outputs": {"data/split": "a.dir"},
    "answers": 0,
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with raw data, in which nothing of the recipe is yet."""
    folder = tmp_path / "checkout"
    (folder / "data/raw/clinic").mkdir(parents=True)
    (folder / "data/raw/clinic/one.png").write_bytes(b"one")
    (folder / "data/raw/clinic/two.png").write_bytes(b"two")
    (folder / "dvc.yaml").write_text("stages: {}\n")
    monkeypatch.chdir(folder)
    return folder


def write(folder: Path, params: dict[str, Any] = PARAMS, answers: str = "", **changes: Any) -> Path:
    (folder / "raw").mkdir(parents=True)
    (folder / "prompts").mkdir()
    (folder / "prompts/image.txt").write_text("Say what you see.")
    (folder / "recipe.json").write_text(json.dumps(RECIPE | changes))
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    (folder / "review.jsonl").write_text("")
    (folder / "answers.jsonl").write_text(answers)
    (folder / "README.md").write_text("# Recipe\n")
    lines = sorted(raw.digests(Path("data/raw/clinic")))
    (folder / "raw/clinic.txt").write_text("".join(f"{line}\n" for line in lines))
    seal(folder)
    return folder


def test_it_is_read_as_it_was_written(project: Path, tmp_path: Path) -> None:
    recipe, params = read_recipe(write(tmp_path / "recipe"))
    assert (recipe.commit, recipe.outputs, params) == ("c0ffee", {"data/split": "a.dir"}, PARAMS)


def test_raw_lists_name_no_file(project: Path, tmp_path: Path) -> None:
    text = (write(tmp_path / "recipe") / "raw/clinic.txt").read_text()
    assert [len(line) for line in text.split()] == [64, 64]
    assert "png" not in text


@pytest.mark.parametrize(
    "file", ["recipe.json", "params.yaml", "prompts/image.txt", "answers.jsonl", "README.md", "raw/clinic.txt", SUMS]
)
def test_a_flipped_bit_is_refused(project: Path, tmp_path: Path, file: str) -> None:
    folder = write(tmp_path / "recipe", answers="{}\n")
    data = bytearray((folder / file).read_bytes())
    for place in (0, len(data) // 2, len(data) - 1):
        flipped = bytearray(data)
        flipped[place] ^= 1
        (folder / file).write_bytes(flipped)
        with pytest.raises(UserError, match="ask for the recipe again"):
            rebuild(folder)
    assert sorted(path.name for path in project.iterdir()) == ["data", "dvc.yaml"]


def test_links_and_other_files_are_refused(project: Path, tmp_path: Path) -> None:
    folder = write(tmp_path / "recipe")
    (folder / "prompts/secret.txt").symlink_to("/etc/hostname")
    seal(folder)
    with pytest.raises(UserError, match=r"prompts/secret\.txt is a link or a device"):
        read_recipe(folder)
    (folder / "prompts/secret.txt").unlink()
    (folder / "model.pkl").write_bytes(b"cos\nsystem\n")
    seal(folder)
    with pytest.raises(UserError, match=r"model\.pkl belongs to no recipe"):
        read_recipe(folder)
    with pytest.raises(UserError, match=r"holds no recipe\.json"):
        read_recipe(tmp_path)


@pytest.mark.parametrize(
    ("section", "values"),
    [
        ("captions", {"prompts": ".git/hooks"}),
        ("captions", {"prompts": "prompts/../../elsewhere"}),
        ("captions", {"prompts": "prompts/words", "options": {"vllm": {"base_urls": ["http://evil.example/v1"]}}}),
        ("regions", {"review": "pipelines/stage.py"}),
        ("ingest", {"keys": "keys", "sources": {"clinic": {"root": "/etc"}}}),
        ("ingest", {"keys": "keys", "sources": 7}),
    ],
)
def test_params_that_name_other_places_or_servers_are_refused(
    project: Path, tmp_path: Path, section: str, values: dict[str, Any]
) -> None:
    folder = write(tmp_path / "recipe", params=PARAMS | {section: values})
    with pytest.raises(UserError, match=r"names places or servers that no recipe names|is a place of this machine"):
        rebuild(folder)


@pytest.mark.parametrize(("section", "key"), [("ingest", "sources"), ("train", "methods")])
def test_names_that_a_shell_would_run_are_refused(project: Path, tmp_path: Path, section: str, key: str) -> None:
    hostile = {"x; touch pwned; true": {"root": "data/raw/clinic"}}
    folder = write(tmp_path / "recipe", params=PARAMS | {section: {"keys": "keys", key: hostile}})
    with pytest.raises(UserError, match=rf"{section}\.{key}: the name 'x; touch pwned; true' stands in commands"):
        rebuild(folder)


def test_code_of_another_commit_is_refused_with_the_commit(project: Path, tmp_path: Path) -> None:
    folder = write(tmp_path / "recipe", code={"pipelines/stage.py": "0" * 64, "pipelines/gone.py": "1" * 64})
    with pytest.raises(UserError, match=r"pipelines/gone\.py and 1 more differ .*: run `git checkout c0ffee`"):
        rebuild(folder)


def test_without_the_key_the_line_names_it_and_its_sources(project: Path, tmp_path: Path) -> None:
    folder = write(tmp_path / "recipe", key_sha256="ab" * 32, confidential=["clinic"])
    line = r"keys/patient\.key is not the key whose SHA-256 begins with abababababab: patient ids of clinic were hashed"
    with pytest.raises(UserError, match=line):
        rebuild(folder)


def test_raw_data_that_differ_are_named(project: Path, tmp_path: Path) -> None:
    folder = write(tmp_path / "recipe")
    (project / "data/raw/clinic/two.png").write_bytes(b"2")
    (project / "data/raw/clinic/three.png").write_bytes(b"three")
    line = r"source clinic\) has 2 files \(three\.png, two\.png\) that were not packed so, and lacks 1 of 2 that were"
    with pytest.raises(UserError, match=line):
        rebuild(folder)
    (project / "data/raw/clinic").rename(project / "data/raw/other")
    with pytest.raises(UserError, match=r"data/raw/clinic \(source clinic\) is not there"):
        rebuild(folder)


def test_an_archive_that_differs_is_named(tmp_path: Path) -> None:
    (tmp_path / "clinic.zip").write_bytes(b"one")
    wanted = set(raw.digests(tmp_path / "clinic.zip"))
    assert raw.difference(tmp_path / "clinic.zip", wanted) is None
    (tmp_path / "clinic.zip").write_bytes(b"two")
    assert raw.difference(tmp_path / "clinic.zip", wanted) == "has other bytes than the packed archive"


def test_weights_that_differ_are_named(project: Path, tmp_path: Path) -> None:
    options = {"proposers": [], "segmenter": "medsam", "options": {"medsam": {"model": "weights/medsam"}}}
    folder = write(tmp_path / "recipe", params=PARAMS | {"proposals": options}, weights={"medsam": "12ab"})
    with pytest.raises(UserError, match="weights/medsam does not hold the weights of medsam, SHA-256 12ab"):
        rebuild(folder)


def test_changes_of_ones_own_are_not_overwritten(project: Path, tmp_path: Path) -> None:
    (project / "params.yaml").write_text("mine: 1\n")
    with pytest.raises(UserError, match=r"params\.yaml has changes of yours .*: rebuild in a fresh clone"):
        rebuild(write(tmp_path / "recipe"))
    assert (project / "params.yaml").read_text() == "mine: 1\n"


@pytest.mark.parametrize(
    "answers", ["no json\n", "[]\n", '{"key": "a", "kind": "caption/image", "value": 1}\n', '{"key": 1}\n']
)
def test_answers_that_are_none_are_refused(project: Path, tmp_path: Path, answers: str) -> None:
    with pytest.raises(UserError, match=r"answers\.jsonl:1 is no answer"):
        rebuild(write(tmp_path / "recipe", answers=answers))
    assert sorted(path.name for path in project.iterdir()) == ["data", "dvc.yaml"]


def test_a_text_with_a_line_separator_is_one_answer(project: Path, tmp_path: Path) -> None:
    line = json.dumps({"key": "0" * 64, "kind": "caption/image", "value": "a\u2028b"}, ensure_ascii=False)
    folder = write(tmp_path / "recipe", answers=f"{line}\n")
    with pytest.raises(UserError, match=r"answers\.jsonl has 1 answers instead of 0"):
        rebuild(folder)
