"""params.yaml: what is refused, and that the message says where and what instead."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from models.training.config import Phase
from pipelines.config import load, load_params, load_section, parse
from pipelines.errors import UserError
from pipelines.ingest.config import IngestConfig
from pipelines.split.config import SplitConfig
from pipelines.train.config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class Leaf:
    size: int
    share: float = 0.5


@dataclass(frozen=True, kw_only=True)
class Tree:
    one: Leaf
    maybe: Leaf | None = None
    some: list[Leaf] = field(default_factory=list)
    row: tuple[Leaf, ...] = ()
    named: dict[str, Leaf] = field(default_factory=dict)
    free: dict[str, Any] = field(default_factory=dict)
    root: Path = Path("here")


def test_plain_values_become_the_dataclass() -> None:
    values = {
        "one": {"size": 1},
        "maybe": {"size": 2, "share": 1},
        "some": [{"size": 3}],
        "row": [{"size": 4}, {"size": 5}],
        "named": {"x": {"size": 6}},
        "free": {"size_of": {"anything": None}},
        "root": "data/raw",
    }
    assert parse(Tree, values, "here") == Tree(
        one=Leaf(size=1),
        maybe=Leaf(size=2, share=1.0),
        some=[Leaf(size=3)],
        row=(Leaf(size=4), Leaf(size=5)),
        named={"x": Leaf(size=6)},
        free={"size_of": {"anything": None}},
        root=Path("data/raw"),
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"one": {"size": 1}, "mayby": None}, "here.mayby: unknown key; did you mean 'maybe'?"),
        ({"one": {"sise": 1}}, "here.one.sise: unknown key; did you mean 'size'?"),
        ({"one": {"size": 1}, "maybe": {"syze": 1}}, "here.maybe.syze: unknown key; did you mean 'size'?"),
        ({"one": {"size": 1}, "some": [{"size": 1}, {"shares": 1}]}, "here.some[1].shares: unknown key; did you mean"),
        ({"one": {"size": 1}, "row": [{"sizes": 1}]}, "here.row[0].sizes: unknown key; did you mean 'size'?"),
        ({"one": {"size": 1}, "named": {"x": {"sizee": 1}}}, "here.named.x.sizee: unknown key; did you mean 'size'?"),
        ({"one": {"size": 1, "colour": 1}}, "here.one.colour: unknown key; valid keys: size, share"),
        ({"one": {"size": 1, 7: 1}}, "here.one.7: unknown key; valid keys: size, share"),
    ],
)
def test_an_unknown_key_is_named_with_its_place_and_the_nearest_one(values: Any, message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse(Tree, values, "here")
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("values", "place", "found"),
    [
        ({}, "here.one", "Field required"),
        ({"one": {}}, "here.one.size", "Field required"),
        ({"one": {"size": 1}, "some": [{"size": 1}, {}]}, "here.some.1.size", "Field required"),
        ({"one": {"size": "many"}}, "here.one.size", "(found 'many')"),
        ({"one": {"size": 1.5}}, "here.one.size", "(found 1.5)"),
        ({"one": {"size": None}}, "here.one.size", "(found None)"),
        ({"one": {"size": True}}, "here.one.size", "(found True)"),
        ({"one": {"size": "7"}}, "here.one.size", "(found '7')"),
        ({"one": {"size": 9.0}}, "here.one.size", "(found 9.0)"),
        ({"one": {"size": 1, "share": True}}, "here.one.share", "(found True)"),
        ({"one": {"size": 1}, "root": 3}, "here.root", "(found 3)"),
        ({"one": {"size": 1}, "named": {"x": 3}}, "here.named.x", "(found 3)"),
        ({"one": 3}, "here.one", "(found 3)"),
        ([1], "here", "(found [1])"),
    ],
)
def test_a_missing_or_mistyped_value_is_named_with_its_place(values: Any, place: str, found: str) -> None:
    with pytest.raises(UserError) as caught:
        parse(Tree, values, "here")
    message = str(caught.value)
    assert message.startswith(f"{place}: ")
    assert found in message
    assert "\n" not in message


def test_what_a_dataclass_refuses_is_said_at_its_place() -> None:
    phase = {
        "epochs": 1,
        "batch_size": 2,
        "learning_rate": 0.1,
        "losses": ["report"],
        "schedule": "linear",
    }
    with pytest.raises(UserError, match=r"^here: .*schedule 'linear' is not one of: constant, cosine"):
        parse(Phase, phase, "here")


def write(folder: Path, text: str) -> Path:
    path = folder / "params.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "has no section 'split': add it"),
        ("", "has no section 'split': add it"),
        ("- split", "holds a list; it should hold sections"),
        ("split:", "section 'split' holds None; it should hold keys with values"),
        ("split: [1]", "section 'split' holds [1]; it should hold keys with values"),
        ("split: {seed: 0\nother: 1", "is not valid YAML"),
        ("split:\n\tseed: 0", "is not valid YAML"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(UserError) as caught:
        load(SplitConfig, "split", path)
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_a_file_the_folder_is_named_as_the_cause(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    with pytest.raises(UserError, match=r"params.yaml not found: run from the folder of the project"):
        load_section("split", path)


def test_params_can_run_code_nowhere(tmp_path: Path) -> None:
    path = write(tmp_path, f"split: !!python/object/apply:pathlib.Path.touch [{tmp_path}/made]")
    with pytest.raises(UserError, match="is not valid YAML"):
        load(SplitConfig, "split", path)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("cls", "section", "right", "wrong", "message"),
    [
        (SplitConfig, "split", "min_correlation", "min_corelation", "near_duplicates.min_corelation: unknown key; did"),
        (IngestConfig, "ingest", "adapter", "adaptor", "sources.phantom.adaptor: unknown key; did you mean 'adapter'"),
        (TrainConfig, "train", "num_workers", "workers", "engine.workers: unknown key; did you mean 'num_workers'?"),
        (TrainConfig, "train", "warmup_steps", "warm_up", "phases.sentences.warm_up: unknown key; did you mean"),
    ],
)
def test_a_typo_in_the_params_that_ship_is_found(
    repository: Path, tmp_path: Path, cls: type, section: str, right: str, wrong: str, message: str
) -> None:
    text = (repository / "params.yaml").read_text(encoding="utf-8")
    load(cls, section, write(tmp_path, text))
    path = write(tmp_path, text.replace(f"{right}:", f"{wrong}:", 1))
    with pytest.raises(UserError) as caught:
        load(cls, section, path)
    assert str(caught.value).startswith(f"{path}: {section}.")
    assert message in str(caught.value)


BOMB = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"{name}: &{name} [{', '.join(['*' + former] * 9)}]\n" for former, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("split: 1\n".encode("utf-16"), "is not UTF-8 (byte 0): save it as UTF-8"),
        ("split: é\n".encode("latin-1"), "is not UTF-8 (byte 7): save it as UTF-8"),
        (b"e~\xfb+", "is not UTF-8 (byte 2)"),
        (b"split: \0\n", "is not valid YAML"),
        (b'split: "a\\0b"\n', "NUL in the text (line 1)"),
        (b'split:\n  a: "\\ud800"\n', "half a surrogate pair"),
        (b"split:\n\tseed: 1\n", "is not valid YAML"),
        (b"split:\n  seed: 1\n  seed: 2\n", "the key 'seed' stands twice in one mapping: delete one (line 3)"),
        (b"split: 1\nsplit: 2\n", "the key 'split' stands twice"),
        (b"split:\n  on: 1\n", "a key (on) is neither text nor a whole number: put it in quotes (line 2)"),
        (b"1.5: 1\n", "a key (1.5)"),
        (b"? [a, b]\n: 1\n", "a key is neither text nor a whole number"),
        (b"split: &a [*a]\n", "a value contains itself (line 1)"),
        (BOMB.encode(), "aliases repeat more than 100000 values"),
        (b"[" * 10_000, "is not valid YAML"),
        (b"split: 2001-99-99\n", "is not valid YAML"),
        (b"split: " + b"9" * 5000, "is not valid YAML"),
        (b"# " + b"x" * 2**20, "1048578 characters, at most 1048576"),
        (b"split: !!python/object/apply:os.system ['true']\n", "is not valid YAML"),
    ],
)
def test_params_that_are_broken_are_one_line(tmp_path: Path, data: bytes, message: str) -> None:
    file = tmp_path / "params.yaml"
    file.write_bytes(data)
    with pytest.raises(UserError) as caught:
        load_params(file)
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(file))
    assert "\n" not in str(caught.value)


def test_aliases_numbers_as_keys_and_an_empty_file_are_as_in_yaml(tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    file.write_text("a: &a {1: x, two: [1.5, null]}\nb: *a\nc:\n  <<: *a\n  two: y\n")
    of_a = {1: "x", "two": [1.5, None]}
    assert load_params(file) == {"a": of_a, "b": of_a, "c": {1: "x", "two": "y"}}
    file.write_text("# nothing\n")
    assert load_params(file) == {}
