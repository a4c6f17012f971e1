"""Parameters of the deployments: mistyped names are one line, and Prefect's page gets the names of the workspace."""

from pathlib import Path

import pytest
from prefect import Flow
from prefect.exceptions import ParameterTypeError
from prefect.utilities.callables import parameter_schema

from flows.config import ServeConfig
from flows.evaluate_flow import evaluate
from flows.parameters import add_choices, check_settings, evaluations
from flows.promote_flow import promote
from flows.rebuild import rebuild
from flows.reproduce import reproduce
from flows.study_flow import study
from pipelines.code.graph import Stage
from pipelines.config import load, parse
from pipelines.errors import UserError

PARAMS = """
train:
  engine: {seed: 0, threads: 2}
  methods:
    clip: {model: {}}
    plan: {model: {}}
"""
SERVE = {"name": "one", "schedules": {"reproduce": "0 3 * * *"}, "active": False, "notify": None}


@pytest.fixture
def params(tmp_path: Path) -> Path:
    (tmp_path / "params.yaml").write_text(PARAMS)
    return tmp_path / "params.yaml"


def test_methods_are_those_that_params_train(params: Path) -> None:
    assert evaluations((), params) == []
    assert evaluations(("plan", "clip"), params) == ["evaluate@plan", "evaluate@clip"]
    with pytest.raises(UserError, match=r"params.yaml trains no method 'plam': did you mean 'plan'\?"):
        evaluations(("plam",), params)
    with pytest.raises(UserError, match="trains no method 'unet': choose from clip, plan"):
        evaluations(("unet",), params)


def test_a_setting_changes_a_key_that_params_have(params: Path) -> None:
    check_settings(("train.engine.seed=1", "train.methods.clip.model={a: 1}"), params)
    for setting, message in (
        ("train.engine.sed=1", r"settings: 'train.engine.sed': train.engine has no 'sed': did you mean 'seed'\?"),
        ("evaluate.seed=1", "settings: 'evaluate.seed': params.yaml has no 'evaluate': choose from train"),
        ("train.engine.seed.x=1", "'train.engine.seed.x': train.engine.seed is a value and holds no keys"),
        ("train.engine.seed", "settings: 'train.engine.seed' sets nothing: write it as train.engine.seed=1"),
    ):
        with pytest.raises(UserError, match=message):
            check_settings((setting,), params)


def test_prefects_page_offers_the_names_of_the_workspace_and_checks_the_form_of_a_setting() -> None:
    stages = [Stage("split", ()), Stage("train@clip", ("split",)), Stage("train@plan", ("split",))]
    found = {}
    for flow in (reproduce, rebuild, evaluate, promote, study):
        found[flow.name] = parameter_schema(flow).properties
        add_choices(found[flow.name], stages, ["clip", "plan"], ["000_table2", "001_table3"])
    assert {name: list(properties) for name, properties in found.items()} == {
        "reproduce": ["targets", "methods", "settings", "force"],
        "rebuild": ["examples"],
        "evaluate": ["model", "study", "split", "predictions", "out"],
        "promote": ["method", "version", "rollback"],
        "study": ["name", "scale", "raw"],
    }
    assert found["reproduce"]["targets"]["items"]["enum"] == ["split", "train@clip", "train@plan", "train"]
    assert found["reproduce"]["methods"]["items"]["enum"] == ["clip", "plan"]
    assert found["promote"]["method"]["anyOf"][0]["enum"] == ["clip", "plan"]
    assert found["evaluate"]["split"]["enum"] == ["test", "validation"]
    assert found["study"]["name"]["enum"] == ["000_table2", "001_table3"]
    assert found["study"]["scale"]["enum"] == ["demo", "paper"]
    assert all(property["description"] for properties in found.values() for property in properties.values())


@pytest.mark.parametrize(
    ("flow", "values"),
    [
        (reproduce, {"settings": ["train.engine.seed"]}),
        (reproduce, {"force": "perhaps"}),
        (rebuild, {"examples": -1}),
        (evaluate, {"split": "train"}),
        (promote, {"version": "newest"}),
        (study, {"scale": "large"}),
    ],
)
def test_a_run_checks_its_parameters_itself(flow: Flow, values: dict[str, object]) -> None:
    required = {"name": "001_table3"} if flow is study else {"project": "."}
    flow.validate_parameters(required)
    with pytest.raises(ParameterTypeError, match=next(iter(values))):
        flow.validate_parameters({**required, **values})


def test_the_section_serve_names_deployments_and_a_block(repository: Path) -> None:
    shipped = load(ServeConfig, "serve", repository / "params.yaml")
    assert (shipped.active, shipped.notify) == (False, None)
    assert parse(ServeConfig, SERVE, "serve").schedules == {"reproduce": "0 3 * * *"}
    for wrong, message in (
        ({"schedules": {"reprodce": None}}, "schedules has no deployment 'reprodce': choose from reproduce, rebuild"),
        ({"notify": "https://hooks.example/secret"}, "write <type>/<name> of a block"),
        ({"cron": None}, "serve.cron: unknown key"),
    ):
        with pytest.raises(UserError, match=message):
            parse(ServeConfig, SERVE | wrong, "serve")
