"""Ray for the stages that use it: a private instance on this machine, or the cluster that RAY_ADDRESS names.

Whoever reaches a Ray instance that asks for no token runs code as its owner. The private instance listens on loopback
alone and asks for a token made for this process; a cluster's token must be set.
"""

import logging
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from pipelines.errors import TemporaryError, UserError, one_line

LOOPBACK = "127.0.0.1"


def cluster_address() -> str | None:
    """What RAY_ADDRESS names, or None where Ray is private to this process."""
    address = os.environ.get("RAY_ADDRESS", "local")
    return None if address in ("", "local") else address


def prepare_ray() -> None:
    """Set what Ray reads from the environment when it is imported; every import of Ray comes after it.

    Raises:
        UserError: RAY_ADDRESS names a cluster, and its token is not set.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if cluster_address() is not None:
        _require_token()
    else:
        # The only way to have Ray's node at 127.0.0.1, whose processes listen there alone: an address that ray.init is
        # given as loopback is replaced by that of the network, unless Ray believes that clusters are impossible here.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    os.environ["RAY_AUTH_MODE"] = "token"


@contextmanager
def ray_session(num_cpus: int | None = None) -> Iterator[None]:
    """Connect, and disconnect with the block; a private instance ends with it.

    Args:
        num_cpus: What a private instance offers its workers; None: as many as the machine has.

    Raises:
        UserError: RAY_ADDRESS names a cluster, and its token is not set, or it does not let us in.
        TemporaryError: A process of Ray, or a node of the cluster, died under the block.
    """
    prepare_ray()
    address = cluster_address()
    if address is None:
        os.environ.pop("RAY_AUTH_TOKEN", None)
        os.environ["RAY_AUTH_TOKEN_PATH"] = str(Path(_token_folder().name) / "token")
    paths = [str(Path.cwd()), *filter(None, [os.environ.get("PYTHONPATH")])]
    import ray

    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    try:
        context: Any = ray.init(
            address=address or "local",
            num_cpus=num_cpus if address is None else None,
            include_dashboard=False,
            runtime_env={"env_vars": {"PYTHONPATH": os.pathsep.join(paths)}},
            # Ray Train's housekeeping warns every second that there is no dashboard to ask.
            logging_config=ray.LoggingConfig(log_level="ERROR"),
        )
    except ConnectionError:
        if address is None:
            raise
        raise UserError(f"RAY_ADDRESS={address}: no cluster there takes the token that {_token_origin()}") from None
    except (ValueError, ImportError) as error:  # of an address that Ray cannot read, or not without another package
        if address is None:
            raise
        raise UserError(f"RAY_ADDRESS={address}: {one_line(error)}; write HOST:PORT of the cluster's head") from None
    # Ray's `logging_config` is for its workers and sets this process's root logger too, which is not Ray's.
    root.setLevel(level)
    root.handlers[:] = handlers
    try:
        if address is None and (node := context.address_info["node_ip_address"]) != LOOPBACK:
            raise RuntimeError(f"Ray listens on {node}, for it was imported before prepare_ray was called")
        yield
    except Exception as error:
        if died(error):
            raise TemporaryError(f"a process of Ray died ({one_line(error)}): run the command again") from None
        raise
    finally:
        ray.shutdown()


def died(error: BaseException) -> bool:
    """Whether an error of Ray says that one of its processes or nodes died; what a worker raised itself is none."""
    from ray import exceptions

    gone = (exceptions.RayActorError, exceptions.WorkerCrashedError, exceptions.NodeDiedError)
    lost = (exceptions.LocalRayletDiedError, exceptions.ObjectLostError, exceptions.RaySystemError)
    # Ray Train has one error for what its workers ended with.
    failures = list(getattr(error, "worker_failures", {}).values())
    return all(died(one) for one in failures) if failures else isinstance(error, (*gone, *lost))


@cache
def _token_folder() -> tempfile.TemporaryDirectory[str]:
    """A folder that only its owner can read, with the token of this process's instances; deleted with the process.

    One for all of them, because Ray reads its token once in a process.
    """
    folder = tempfile.TemporaryDirectory(prefix="medregion-ray-")
    descriptor = os.open(Path(folder.name) / "token", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        stream.write(secrets.token_hex(32))
    return folder


def _token_origin() -> str:
    """Where Ray finds the token of a cluster, in words."""
    if os.environ.get("RAY_AUTH_TOKEN"):
        return "RAY_AUTH_TOKEN holds"
    return f"{os.environ.get('RAY_AUTH_TOKEN_PATH') or Path.home() / '.ray/auth_token'} holds"


def _require_token() -> None:
    if (mode := os.environ.get("RAY_AUTH_MODE") or "token").lower() != "token":
        raise UserError(
            f"RAY_AUTH_MODE={mode}: a cluster that asks for no token runs the code of whoever "
            "reaches it; start it with RAY_AUTH_MODE=token and set RAY_AUTH_TOKEN_PATH to the file with its token"
        )
    file = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray/auth_token")
    if not os.environ.get("RAY_AUTH_TOKEN") and not file.is_file():
        raise UserError(
            f"RAY_ADDRESS names a cluster, whose token is not in {file}: set RAY_AUTH_TOKEN_PATH to the file that "
            "holds it, or RAY_AUTH_TOKEN to the token"
        )
