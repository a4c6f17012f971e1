"""Ray for the stages that use it: a private instance on this machine, or the cluster that RAY_ADDRESS names."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def ray_session(num_cpus: int | None = None) -> Iterator[None]:
    """Connect, and disconnect with the block; a private instance ends with it.

    Args:
        num_cpus: What a private instance offers its workers; None: as many as the machine has.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    address = os.environ.get("RAY_ADDRESS", "local")
    if address == "local":
        # Nobody else reaches the private instance; a cluster brings its own authentication.
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    # Only now: Ray reads the environment when it is imported.
    import ray

    ray.init(
        address=address,
        num_cpus=num_cpus if address == "local" else None,
        include_dashboard=False,
        runtime_env={"env_vars": {"PYTHONPATH": str(Path.cwd())}},
        # Ray Train's housekeeping warns every second that there is no dashboard to ask.
        logging_config=ray.LoggingConfig(log_level="ERROR"),
    )
    try:
        yield
    finally:
        ray.shutdown()
