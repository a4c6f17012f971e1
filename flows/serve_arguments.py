"""What the commands that serve a model are told: which model, and the port."""

import argparse
from collections.abc import Sequence

from pipelines.config import load
from pipelines.serving import check_port, end_with_parent
from pipelines.tracking.config import TrackingConfig


def served_model(
    arguments: Sequence[str], module: str, description: str, *, port: int, setting: str
) -> tuple[str, int, TrackingConfig]:
    """Read the command line, have this process end with its parent, and see that the port is free.

    Args:
        arguments: The words after the module's name.
        module: What `python -m` is called with.
        description: Of the command, for its help.
        port: The port where none is named.
        setting: The variable of the Makefile that names another one.

    Returns:
        The model's reference (the champion of params.yaml where none is named), the port, and where the registry is.

    Raises:
        UserError: The port cannot be listened on, or params.yaml cannot be used.
    """
    parser = argparse.ArgumentParser(f"python -m {module}", description=description)
    parser.add_argument("model", nargs="?", help="folder of a checkpoint, models:/NAME@ALIAS or models:/NAME/VERSION")
    parser.add_argument("--port", type=int, default=port, help=f"on loopback (default: {port})")
    options = parser.parse_args(arguments)
    end_with_parent()
    check_port(options.port, setting)
    tracking = load(TrackingConfig, "tracking")
    return options.model or f"models:/{tracking.model}@champion", options.port, tracking
