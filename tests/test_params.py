"""Every study that ships is valid in all of its sections, and how an overlay is merged over params.yaml."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from flows.config import ServeConfig
from pipelines.audit.config import AuditConfig
from pipelines.captions.config import CaptionsConfig
from pipelines.code.packages import InstalledPackage
from pipelines.config import parse
from pipelines.errors import UserError
from pipelines.evaluate.config import EvaluateConfig
from pipelines.ingest.config import IngestConfig
from pipelines.params import load_study, merge, merged_text
from pipelines.phantom.config import PhantomConfig
from pipelines.promotion.config import PromoteConfig
from pipelines.proposals.config import ProposalsConfig
from pipelines.proposals.plan import check_plugins
from pipelines.regions.config import RegionsConfig
from pipelines.registry import plugin
from pipelines.release.config import ReleaseConfig
from pipelines.report.config import ReportConfig
from pipelines.shards.config import ShardsConfig
from pipelines.split.config import SplitConfig
from pipelines.tracking.config import TrackingConfig
from pipelines.train.config import TrainConfig
from pipelines.workers.config import WorkersConfig

SECTIONS: dict[str, Any] = {
    "plugins": dict[str, InstalledPackage],
    "workers": WorkersConfig,
    "phantom": PhantomConfig,
    "ingest": IngestConfig,
    "split": SplitConfig,
    "proposals": ProposalsConfig,
    "regions": RegionsConfig,
    "captions": CaptionsConfig,
    "shards": ShardsConfig,
    "train": TrainConfig,
    "evaluate": EvaluateConfig,
    "audit": AuditConfig,
    "report": ReportConfig,
    "tracking": TrackingConfig,
    "promote": PromoteConfig,
    "release": ReleaseConfig,
    "serve": ServeConfig,
}
STUDIES = [
    "params.yaml",
    "params/paper.yaml",
    "params/pretraining.yaml",
    "params/real.yaml",
    "params/segmentation.yaml",
    "params/weights.yaml",
]


@pytest.mark.parametrize("name", STUDIES)
def test_every_section_of_a_study_is_valid(
    repository: Path, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = load_study(repository / name, repository / "params.yaml")
    # As `make weights` leaves them.
    monkeypatch.chdir(tmp_path)
    for options in study["proposals"].get("options", {}).values():
        if (folder := Path(options["model"])).is_relative_to("data/weights"):
            folder.mkdir(parents=True)
            (folder / "model.safetensors").touch()
    assert study.keys() == SECTIONS.keys()
    loaded: dict[str, Any] = {section: parse(cls, study[section], section) for section, cls in SECTIONS.items()}
    check_plugins(loaded["proposals"])
    plugin("captioners", loaded["captions"].captioner)
    assert (repository / loaded["captions"].prompts).is_dir()
    for source in loaded["ingest"].sources.values():
        plugin("sources", source.adapter)
    for task, options in loaded["evaluate"].tasks.items():
        parse(plugin("tasks", task).Config, options, task)
    for method, settings in loaded["train"].methods.items():
        model_class = plugin("methods", method)
        config = parse(model_class.Config, settings.model, method)
        losses = {*model_class.losses, *(["sentence"] if getattr(config, "sentences", False) else [])}
        for phase in settings.training.phases.values():
            assert set(phase.losses) <= losses
            assert phase.batch_size % max(1, loaded["train"].engine.num_workers) == 0
    assert set(loaded["split"].allow_leaks) <= loaded["ingest"].sources.keys()


def test_no_params_file_was_forgotten(repository: Path) -> None:
    shipped = {file.relative_to(repository).as_posix() for file in (repository / "params").glob("*.yaml")}
    assert shipped | {"params.yaml"} == set(STUDIES)


def test_studies_do_not_share_a_registered_model(repository: Path) -> None:
    names = [load_study(repository / name, repository / "params.yaml")["tracking"]["model"] for name in STUDIES]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("base", "overlay", "merged"),
    [
        ({"a": 1, "b": 2}, {"b": 3}, {"a": 1, "b": 3}),
        ({"a": {"b": {"c": 1, "d": 2}}}, {"a": {"b": {"d": 3}}}, {"a": {"b": {"c": 1, "d": 3}}}),
        ({"a": 1, "b": {"c": 1, "d": 2}}, {"a": None, "b": {"c": None}}, {"b": {"d": 2}}),
        ({"a": {"b": 1}}, {"a": {"b": None}}, {"a": {}}),
        ({"a": [1, 2, 3]}, {"a": [4]}, {"a": [4]}),
        ({"a": [{"b": 1}]}, {"a": [{"c": None}]}, {"a": [{"c": None}]}),
        ({"a": {"b": 1}}, {"a": 2}, {"a": 2}),
        ({"a": 1}, {"a": {"b": 2}}, {"a": {"b": 2}}),
        ({"a": {"b": 1}}, {"a": {}}, {"a": {"b": 1}}),
        ({"a": 1}, {"b": {"c": None}}, {"a": 1, "b": {"c": None}}),
    ],
    ids=[
        "scalars replace",
        "mappings merge at every depth",
        "null deletes",
        "a mapping may end empty",
        "lists replace",
        "null in a list is a value",
        "a scalar replaces a mapping",
        "a mapping replaces a scalar",
        "an empty mapping changes nothing",
        "null in a new mapping is a value",
    ],
)
def test_an_overlay_is_merged(base: dict[str, Any], overlay: dict[str, Any], merged: dict[str, Any]) -> None:
    assert merge(base, overlay) == merged


@pytest.mark.parametrize(
    ("overlay", "order"),
    [
        ({"b": 9}, ["a", "b", "c"]),
        ({"d": 4, "b": 9}, ["a", "b", "c", "d"]),
        ({"c": 3, "d": 4, "a": 1, "b": 2}, ["c", "d", "a", "b"]),
        ({"d": 4, "a": None, "c": 3, "b": 2}, ["d", "c", "b"]),
        ({"d": 4, "a": None, "c": None}, ["b", "d"]),
    ],
    ids=["changed", "new ones follow", "all named", "all named, one deleted", "not all named"],
)
def test_the_order_of_keys(overlay: dict[str, Any], order: list[str]) -> None:
    assert list(merge({"a": 1, "b": 2, "c": 3}, overlay)) == order


_VALUES = st.recursive(
    st.integers() | st.text("xyz", max_size=2) | st.lists(st.integers(), max_size=2),
    lambda values: st.dictionaries(st.sampled_from("abcd"), values, max_size=4),
    max_leaves=12,
)
_MAPPINGS = st.dictionaries(st.sampled_from("abcd"), _VALUES, max_size=4)


@given(_MAPPINGS, _MAPPINGS)
def test_what_the_overlay_says_holds_and_the_rest_stays(base: dict[str, Any], overlay: dict[str, Any]) -> None:
    before = yaml.safe_dump(base)
    merged = merge(base, overlay)
    assert merge(merged, overlay) == merged
    assert merge(base, {}) == base
    assert merge({}, overlay) == overlay
    assert {key: value for key, value in merged.items() if key not in overlay} == {
        key: value for key, value in base.items() if key not in overlay
    }
    assert yaml.safe_dump(base) == before


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """Two methods that share an encoder by a YAML anchor."""
    file = tmp_path / "params.yaml"
    file.write_text("train:\n  clip: &same {size: 1, depth: 2}\n  plan: *same\nreport: {gallery: 12}\n")
    return file


def test_an_overlay_of_one_method_leaves_another_that_shares_its_values(tmp_path: Path, base: Path) -> None:
    overlay = tmp_path / "wide.yaml"
    overlay.write_text("train: {clip: {size: 9, depth: null}}\n")
    expected = {"train": {"clip": {"size": 9}, "plan": {"size": 1, "depth": 2}}, "report": {"gallery": 12}}
    assert load_study(overlay, base) == expected
    text = merged_text(overlay, base)
    assert text.startswith(f"# Merged from params.yaml and {overlay} by python -m pipelines.params.\ntrain:\n")
    assert yaml.safe_load(text) == expected


def test_shared_values_are_written_for_each_method(tmp_path: Path, base: Path) -> None:
    overlay = tmp_path / "same.yaml"
    overlay.write_text("report: {gallery: 1}\n")
    assert not {"&", "*"} & set(merged_text(overlay, base))


@pytest.mark.parametrize(
    ("overlay", "message"),
    [
        ("train: {clip: {dept: null}}", r"train\.clip\.dept: null deletes a key, .*; did you mean 'depth'\?"),
        ("train: {siglip: null}", r"train\.siglip: null deletes a key, .*; did you mean|keys here: clip, plan"),
        ("raport: {gallery: 1}", r"raport: unknown section; did you mean 'report'\?"),
        ("- train", r"holds a list; it should hold sections"),
        ("train: {clip: ", r"is not valid YAML"),
    ],
)
def test_a_wrong_overlay_is_refused(tmp_path: Path, base: Path, overlay: str, message: str) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(overlay)
    with pytest.raises(UserError, match=message) as error:
        load_study(file, base)
    assert str(error.value).startswith(str(file))
    assert "\n" not in str(error.value)


def test_a_mistyped_key_of_an_overlay_is_refused_when_its_section_is_read(tmp_path: Path, repository: Path) -> None:
    overlay = tmp_path / "study.yaml"
    overlay.write_text("regions: {min_sore: 0.1}")
    study = load_study(overlay, repository / "params.yaml")
    with pytest.raises(UserError, match="min_sore: unknown key; did you mean 'min_score'"):
        parse(RegionsConfig, study["regions"], "regions")


@pytest.mark.slow
def test_make_workspace_writes_the_merged_params(tmp_path: Path, repository: Path) -> None:
    house = tmp_path / "house"
    for folder in ("scripts", "params"):
        shutil.copytree(repository / folder, house / folder)
    shutil.copy(repository / "params.yaml", house)
    commands = (
        "git init --quiet",
        "git config user.name someone",
        "git config user.email someone@example.org",
        "git config commit.gpgSign true",
        "dvc init --quiet",
        "git add --all",
        "git commit --quiet --no-gpg-sign --message all",
        "scripts/workspace real params/real.yaml",
    )
    environment = os.environ | {"PYTHONPATH": str(repository)}
    for command in commands:
        if command.startswith("scripts/workspace"):
            # As one that was cut off leaves it.
            left = f"workspaces/.real.{1 << 30}"
            for words in (["add", "--quiet", "-B", "workspace/real", left], ["lock", left]):
                subprocess.run(["git", "worktree", *words], cwd=house, check=True)
        done = subprocess.run(command.split(), cwd=house, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stderr}"
    assert [path.name for path in (house / "workspaces").iterdir()] == ["real"]
    cache = subprocess.run(["dvc", "cache", "dir"], cwd=house / "workspaces/real", capture_output=True, text=True)
    assert cache.stdout.strip() == str(house / ".dvc/cache")
    text = (house / "workspaces" / "real" / "params.yaml").read_text()
    assert text.startswith("# Merged from params.yaml and params/real.yaml by python -m pipelines.params.\n")
    assert yaml.safe_load(text) == load_study(repository / "params/real.yaml", repository / "params.yaml")
    # A workspace is made anew, but over no commit of a person.
    for command in ("worktree remove --force workspaces/real", "commit --quiet --no-gpg-sign --allow-empty -m Mine"):
        subprocess.run(["git", *command.split()], cwd=house, check=True)
    again = ["scripts/workspace", "real", "params/real.yaml"]
    for words in (["branch", "--force", "workspace/real", "HEAD"], ["reset", "--quiet", "--hard", "HEAD^"]):
        subprocess.run(["git", *words], cwd=house, check=True)
    refused = subprocess.run(again, cwd=house, env=environment, capture_output=True, text=True)
    assert refused.stderr == (
        "error: the branch workspace/real holds commits that HEAD lacks; keep it with: git branch -m workspace/real "
        "NEW_NAME\n"
    )
    subprocess.run(["git", "branch", "-m", "workspace/real", "kept"], cwd=house, check=True)
    for _ in range(2):
        subprocess.run(again, cwd=house, env=environment, check=True, capture_output=True)
        subprocess.run(["git", "worktree", "remove", "--force", "workspaces/real"], cwd=house, check=True)
    (house / "wrong.yaml").write_text("regoins: {}\n")
    wrong = ["scripts/workspace", "wrong", "wrong.yaml"]
    failed = subprocess.run(wrong, cwd=house, env=environment, capture_output=True, text=True)
    assert failed.returncode == 1
    assert failed.stderr == "error: wrong.yaml: regoins: unknown section; did you mean 'regions'?\n"
    assert not (house / "workspaces" / "wrong").exists()
