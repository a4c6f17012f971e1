"""A checkpoint as an MLflow model: a script, the modules of `models` that it needs, and the checkpoint as it is.

Only what the method imports is shipped, found in the import graph as for DVC: the model says by its files what code
decides its answers, its requirements are what these files import, and another method's change does not change it.
"""

import ast
import io
import logging
import shutil
import sys
import tempfile
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import pandas as pd
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema, TensorSpec
from mlflow.types.schema import AnyType, Array
from PIL import Image

from models import checkpoint as checkpoints
from models.method import Method
from models.prediction import Predictor
from pipelines import registry
from pipelines.code import PROJECT
from pipelines.code.closure import closure, modules_imported_by
from pipelines.code.packages import package_files, package_of
from pipelines.errors import UserError

logging.getLogger("mlflow.pyfunc").setLevel(logging.WARNING)

SCRIPT = Path(__file__).with_name("served_model.py")
CHECKPOINT = "artifacts/checkpoint"

_NUMBERS = Array(DataType.float)
_OUTPUT_TYPES: dict[str, Any] = {
    "image_embedding": _NUMBERS,
    "text_embedding": _NUMBERS,
    "similarity": DataType.float,
    "region_embeddings": Array(_NUMBERS),
    "heat_map": Array(_NUMBERS),
    "mask": Array(Array(DataType.boolean)),
}


def write_model(folder: Path, checkpoint: Path) -> None:
    """Write an MLflow model that answers by itself, in any environment with its requirements.

    Args:
        folder: Where to; it does not exist or is empty.
        checkpoint: Folder of the checkpoint, which is copied byte for byte to `artifacts/checkpoint`.

    Raises:
        DamagedError: A file of the checkpoint is not the one that was written.
        UserError: Its method is not registered.
    """
    method = checkpoints.read_config(checkpoint)["method"]
    method_class: type[Method] = registry.plugin("methods", method)
    module = method_class.__module__
    predictor = Predictor(checkpoint, method_class)
    roots, packages = _code_of(module)
    files = [file for file in closure("models.served", *roots) if file.endswith(".py")]
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        for file in files:
            copy = scratch / file
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(PROJECT / file, copy)
        # MLflow names the copy in the model after the folder that it comes from.
        shutil.copytree(checkpoint, scratch / "checkpoint")
        mlflow.pyfunc.save_model(
            folder,
            python_model=str(SCRIPT),
            code_paths=[str(scratch / "models")],
            artifacts={"checkpoint": str(scratch / "checkpoint")},
            signature=_signature(predictor),
            input_example=_example(predictor),
            pip_requirements=[*_requirements([SCRIPT, *(PROJECT / file for file in files)]), *packages],
            model_config={"method_class": f"{module}:{method_class.__qualname__}"},
            metadata={"method": method, "checkpoint_sha256": checkpoints.digest(checkpoint)},
        )
    _forget_machine_paths(folder)


def _code_of(module: str) -> tuple[list[str], list[str]]:
    """The modules of this project that a method starts from, and the requirement of the package that it comes from."""
    if module.partition(".")[0] == "models":
        return [module], []
    package = package_of(module)
    if package is None:
        raise UserError(f"{module} belongs to no installed package: a registered model could not say what it needs")
    imported = modules_imported_by(package_files(package, module)[1])
    return [name for name in imported if name.partition(".")[0] == "models"], [_pin(package)]


def _requirements(files: Iterable[Path]) -> list[str]:
    """What files import from outside, in the versions that are installed."""
    imported = set()
    for file in files:
        for node in ast.walk(ast.parse(file.read_bytes())):
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                imported.add(node.module)
    tops = {name.partition(".")[0] for name in imported} - sys.stdlib_module_names - {"models"}
    distributions = _distributions()
    # Several distributions share the folder `mlflow`.
    return sorted({_pin(top if top in distributions[top] else distributions[top][0]) for top in tops})


@cache
def _distributions() -> Mapping[str, list[str]]:
    """Reading what all installed packages hold takes a second."""
    return packages_distributions()


def _pin(distribution: str) -> str:
    # A local label such as +cpu names a build that only its own index has.
    return f"{distribution}=={version(distribution).partition('+')[0]}"


def _signature(predictor: Predictor) -> ModelSignature:
    inputs: list[ColSpec | TensorSpec] = [
        ColSpec(DataType.binary, "image", required=False),
        ColSpec(DataType.string, "text", required=False),
    ]
    if predictor.reads_regions:
        # Of numbers; MLflow would refuse whole ones as DataType.double.
        inputs.append(ColSpec(Array(AnyType()), "regions", required=False))
    outputs: list[ColSpec | TensorSpec] = []
    outputs += [ColSpec(_OUTPUT_TYPES[name], name, required=False) for name in predictor.offers]
    wanted = ParamSpec("outputs", DataType.string, list(predictor.offers), shape=(-1,))
    return ModelSignature(Schema(inputs), Schema(outputs), ParamSchema([wanted]))


def _example(predictor: Predictor) -> pd.DataFrame:
    """A drawn picture, never one of the data: whoever sees the registry would see it."""
    picture = io.BytesIO()
    Image.linear_gradient("L").save(picture, "PNG")
    row: dict[str, Any] = {"image": picture.getvalue(), "text": "opacity in the left lower lung"}
    if predictor.reads_regions:
        row["regions"] = [[32.0, 32.0, 160.0, 160.0]]
    return pd.DataFrame([row])


def _forget_machine_paths(folder: Path) -> None:
    """MLflow notes where script and checkpoint were copied from; others see the file, and loading needs only names."""
    model = Model.load(str(folder))
    flavor = model.flavors[mlflow.pyfunc.FLAVOR_NAME]
    flavor["model_code_path"] = SCRIPT.name
    flavor["artifacts"]["checkpoint"]["uri"] = CHECKPOINT
    model.save(str(folder / "MLmodel"))
