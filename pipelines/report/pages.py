"""The templates: `templates/` of this package, and of a package whose pages share its style and macros."""

from typing import Any

import jinja2

from pipelines.report import comparison


def templates(package: str = "pipelines.report") -> jinja2.Environment:
    """Everything that comes from the data is escaped; using a value that is not given is an error.

    Args:
        package: Whose templates come first; those of the report are found behind them.
    """
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader(package), jinja2.PackageLoader("pipelines.report")]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["score"] = lambda value, metric: comparison.format_score(metric, value)
    environment.filters["flat"] = flat
    environment.filters["cell"] = lambda value: str(value).replace("|", "\\|").replace("\n", " ")
    return environment


def flat(values: dict[str, Any], separator: str = " ") -> dict[str, Any]:
    """Nested values in one level, the keys that lead to each joined by `separator`."""
    leaves: dict[str, Any] = {}
    for key, value in values.items():
        inner = flat(value, separator) if isinstance(value, dict) else None
        leaves |= {key: value} if inner is None else {f"{key}{separator}{name}": leaf for name, leaf in inner.items()}
    return leaves
