"""Two local workers: every socket is on loopback, no stranger gets in, and Ctrl-C ends all of it."""

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.pipelines.train.test_train_stage import settings, start, study
from tests.processes import environment, interrupt, is_loopback, listening, tree

__all__ = ["study"]

JOIN = """
import ray, sys
ray.init(address=sys.argv[1], log_to_driver=False)
print("ran", ray.get(ray.remote(num_cpus=0)(lambda: 6 * 7).remote()))
"""
JOIN_AS_WE_DO = """
import sys
from pipelines.ray_session import ray_session
from pipelines.stage import command

def main(address):
    with ray_session():
        raise AssertionError("a stranger is in")

command(main)
"""


@pytest.mark.slow
def test_two_workers_listen_on_loopback_let_nobody_in_and_end_on_an_interrupt(
    study: Path, repository: Path, tmp_path: Path
) -> None:
    values = settings(num_workers=2, checkpoint_every=5)
    values["methods"]["regionmed_clip"]["training"]["phases"]["joint"]["epochs"] = 10_000
    process = start(study, values, repository)
    try:
        while not list(study.glob("data/cache/train/*/ray/checkpoint_*")):
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.2)
        processes = tree(process)
        found = listening(processes)
        # Among them Ray's servers, and two workers, each with a socket of Ray's and one of gloo's.
        assert {"gcs_server", "raylet"} <= {name for name, _, _ in found}
        assert len([name for name, _, _ in found if name.startswith("ray::RayTrainWorker")]) == 4
        assert [one for one in found if not is_loopback(one[1])] == []

        (worker, *_) = [one for one in processes if one.name().startswith("ray::RayTrainWorker")]
        token = Path(worker.environ()["RAY_AUTH_TOKEN_PATH"])
        assert (token.stat().st_mode & 0o777, token.parent.stat().st_mode & 0o777) == (0o600, 0o700)
        (port,) = [port for name, _, port in found if name == "gcs_server"]
        address = f"127.0.0.1:{port}"
        without = join(JOIN, address, repository, HOME=str(tmp_path))
        wrong = join(JOIN_AS_WE_DO, address, repository, RAY_ADDRESS=address, RAY_AUTH_TOKEN="0" * 64)
        right = join(JOIN, address, repository, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH=str(token))
        for stranger in (without, wrong):
            output, error = stranger.communicate(timeout=120)
            assert (stranger.returncode, output) == (1, "")
            assert "Authentication token is missing or incorrect" in error
        line = error.splitlines()[-1]
        assert line == f"error: RAY_ADDRESS={address}: no cluster there takes the token that RAY_AUTH_TOKEN holds"
        # The address is the right one: with the token the same program is let in.
        assert right.communicate(timeout=120)[0] == "ran 42\n"
        assert interrupt(process) == []
        assert not token.parent.exists()
    finally:
        for one in tree(process) if psutil.pid_exists(process.pid) else []:
            one.kill()


def join(program: str, address: str, repository: Path, **settings: str) -> subprocess.Popen[str]:
    """Start a program that connects to Ray at an address of loopback, which it must not turn into another."""
    variables = environment(repository) | {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_NUM_REDIS_GET_RETRIES": "2"}
    return subprocess.Popen(
        [sys.executable, "-c", program, address],
        env=variables | settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
