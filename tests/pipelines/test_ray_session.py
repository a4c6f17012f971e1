"""The token of a cluster: what is missing is one line, before anything is imported or started."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.errors import UserError
from pipelines.ray_session import cluster_address, died, prepare_ray, ray_session


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        # Set and deleted: both are undone, and so is what prepare_ray sets.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("RAY_ADDRESS", "192.0.2.1:6379")
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("address", ["", "local", None])
def test_without_a_cluster_ray_is_private(address: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cluster_address() == "192.0.2.1:6379"
    if address is None:
        monkeypatch.delenv("RAY_ADDRESS")
    else:
        monkeypatch.setenv("RAY_ADDRESS", address)
    assert cluster_address() is None


def test_a_cluster_without_a_token_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError) as caught, ray_session():
        pytest.fail("connected")
    assert str(caught.value) == (
        f"RAY_ADDRESS names a cluster, whose token is not in {home}/.ray/auth_token: set RAY_AUTH_TOKEN_PATH to the "
        "file that holds it, or RAY_AUTH_TOKEN to the token"
    )
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(home / "token"))
    with pytest.raises(UserError, match=f"whose token is not in {home}/token: set RAY_AUTH_TOKEN_PATH"):
        prepare_ray()
    (home / "token").write_text("secret")
    prepare_ray()


def test_the_default_file_and_the_variable_are_tokens_too(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / ".ray").mkdir()
    (home / ".ray" / "auth_token").write_text("secret")
    prepare_ray()
    (home / ".ray" / "auth_token").unlink()
    monkeypatch.setenv("RAY_AUTH_TOKEN", "secret")
    prepare_ray()


def test_a_cluster_that_asks_for_no_token_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "secret")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with pytest.raises(UserError, match=r"^RAY_AUTH_MODE=disabled: a cluster that asks for no token runs the code of"):
        prepare_ray()


@pytest.mark.slow
@pytest.mark.parametrize("address", ["garbage", "http://127.0.0.1:8265", "ray://127.0.0.1:10001"])
def test_an_address_that_ray_cannot_read_is_one_line(address: str, home: Path, repository: Path) -> None:
    connect = "from pipelines.ray_session import ray_session\nfrom pipelines.stage import command\n"
    connect += "def main():\n    with ray_session():\n        raise AssertionError('connected')\ncommand(main)\n"
    known = {"RAY_ADDRESS": address, "RAY_AUTH_TOKEN": "0" * 64, "PYTHONPATH": str(repository)}
    # In a process of its own: one imports Ray for a cluster or for itself.
    words = [sys.executable, "-c", connect]
    done = subprocess.run(words, cwd=home, env=os.environ | known, capture_output=True, text=True, check=False)
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 1
    assert last.startswith(f"error: RAY_ADDRESS={address}: ")
    assert last.endswith("; write HOST:PORT of the cluster's head")


def test_a_death_in_ray_is_told_from_what_a_worker_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "local")
    prepare_ray()
    from ray import exceptions
    from ray.train.v2.api.exceptions import WorkerGroupError

    gone = exceptions.ActorDiedError()
    assert died(gone)
    assert died(exceptions.NodeDiedError("the node"))
    assert died(WorkerGroupError("training failed", {0: gone, 1: gone}))
    assert not died(WorkerGroupError("training failed", {0: ValueError("a shape"), 1: gone}))
    assert not died(exceptions.RayTaskError("run", "traceback", UserError("an option")))
    assert not died(ValueError("a shape"))
