"""A study's parameters: an overlay of params.yaml, such as params/real.yaml, merged over it.

- A mapping is merged key by key; any other value, a list too, replaces the one below it.
- `null` deletes the key, which must be there. In a mapping that params.yaml lacks, `null` is a value.
- An overlay that names every key of the merged mapping sets their order (methods and tasks are shown in it; phases have
  `phase_order`); otherwise params.yaml's keys stay where they are, and new ones follow.

A mistyped section is refused here, a mistyped key in a section by the stage that reads it (`pipelines.config`).
Run alone: `python -m pipelines.params params/real.yaml`, which prints the merged file.
"""

from pathlib import Path
from typing import Any

import yaml

from pipelines.config import PARAMS, load_params
from pipelines.errors import UserError, did_you_mean
from pipelines.stage import command


def merge(base: dict[str, Any], overlay: dict[str, Any], where: str = "") -> dict[str, Any]:
    """`overlay` merged over `base`; neither is changed.

    Args:
        base: Values as YAML gives them.
        overlay: What differs.
        where: What error messages put before a key.

    Raises:
        UserError: The overlay deletes what is not there.
    """
    merged = dict(base)
    for key, value in overlay.items():
        if value is None:
            if key not in base:
                raise UserError(f"{where}{key}: null deletes a key, and there is none here; {_hint(key, base)}")
            del merged[key]
        elif isinstance(value, dict) and isinstance(base.get(key), dict):
            merged[key] = merge(base[key], value, f"{where}{key}.")
        else:
            merged[key] = value
    return {key: merged[key] for key in overlay if key in merged} if merged.keys() <= overlay.keys() else merged


def load_study(overlay: Path, base: Path = PARAMS) -> dict[str, Any]:
    """All sections of a study.

    Args:
        overlay: What differs from `base`.
        base: A complete params.yaml.
    """
    below, above = load_params(base), load_params(overlay)
    for section in above:
        if section not in below:
            raise UserError(f"{overlay}: {section}: unknown section; {_hint(section, below)}")
    return merge(below, above, f"{overlay}: ")


def _hint(key: str, keys: dict[str, Any]) -> str:
    return did_you_mean(str(key), keys, f"keys here: {', '.join(map(str, keys))}")


class Dumper(yaml.SafeDumper):
    """Values that two methods share are written twice: an alias would change both where one is edited."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def as_text(values: dict[str, Any]) -> str:
    """Params as YAML, keys in their order."""
    text: str = yaml.dump(values, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=120)
    return text


def merged_text(overlay: Path, base: Path = PARAMS) -> str:
    """The merged study as a YAML file, which says in its first line what it was merged from."""
    values = as_text(load_study(overlay, base))
    return f"# Merged from {base.name} and {overlay} by python -m pipelines.params.\n{values}"


def main(overlay: str, base: str = str(PARAMS)) -> None:
    print(merged_text(Path(overlay), Path(base)), end="")


if __name__ == "__main__":
    command(main)
