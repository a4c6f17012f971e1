"""Parameters of the deployments: what a run takes, checked by Prefect's page before it starts and by the run itself."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from pipelines.code.graph import Stage
from pipelines.config import PARAMS, load_params, method_names
from pipelines.errors import UserError, did_you_mean

# As `dvc exp run --set-param` takes it.
Setting = Annotated[str, Field(pattern=r"^[^=\s]+=\S.*$", examples=["train.engine.seed=1"])]
ModelReference = Annotated[str, Field(pattern=r"^\S+$", examples=["models:/medregion@champion"])]


def evaluations(methods: Sequence[str], params: Path) -> list[str]:
    """The stages that train and evaluate methods.

    Raises:
        UserError: params.yaml trains no such method.
    """
    known = method_names(params) if methods else []
    for method in methods:
        _require(method, known, f"{PARAMS} trains no method '{method}'")
    return [f"evaluate@{method}" for method in methods]


def check_settings(settings: Sequence[str], params: Path) -> None:
    """See that each setting changes a key that params.yaml has; the stage that reads it checks the value.

    Raises:
        UserError: It has no such key, or the setting is none.
    """
    values = load_params(params) if settings else {}
    for setting in settings:
        key, given, _ = setting.partition("=")
        if not given:
            raise UserError(f"settings: '{setting}' sets nothing: write it as train.engine.seed=1")
        _find(key, values)


def _find(key: str, values: Any) -> None:
    place: list[str] = []
    for part in key.split("."):
        where = ".".join(place) or str(PARAMS)
        if not isinstance(values, dict):
            raise UserError(f"settings: '{key}': {where} is a value and holds no keys")
        _require(part, [str(name) for name in values], f"settings: '{key}': {where} has no '{part}'")
        values = values[part]
        place.append(part)


def _require(name: str, known: Sequence[str], fault: str) -> None:
    if name not in known:
        hint = did_you_mean(name, known, f"choose from {', '.join(sorted(known))}")
        raise UserError(f"{fault}: {hint}")


def add_choices(
    schema: dict[str, Any], stages: Iterable[Stage], methods: Sequence[str], studies: Sequence[str]
) -> None:
    """Write the names of a workspace into the schema of a flow's parameters, so that Prefect's page offers them.

    Args:
        schema: The `properties` of the schema; changed in place. `project` is left out, for the deployment is of one.
        stages: Those of the graph.
        methods: Those of params.yaml.
        studies: Those of studies/.
    """
    schema.pop("project", None)
    names = [stage.name for stage in stages]
    groups = {name.partition("@")[0] for name in names if "@" in name}
    if "targets" in schema:
        schema["targets"]["items"]["enum"] = [*names, *sorted(groups)]
    if "methods" in schema:
        schema["methods"]["items"]["enum"] = list(methods)
    if "method" in schema:
        schema["method"]["anyOf"][0]["enum"] = list(methods)
    if "name" in schema:
        schema["name"]["enum"] = list(studies)
