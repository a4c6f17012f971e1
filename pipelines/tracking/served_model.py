"""The script of a registered model: MLflow runs it where the model is loaded, without the rest of this project.

Nothing in a registered model is pickled: this file, the modules of `models` that the method needs (`code/`), and the
checkpoint, whose files are compared with their SHA256SUMS. Each loaded model runs the code that it was saved with,
whatever package called `models` the process has imported already.
"""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.pyfunc import PythonModel

CODE = Path(__file__).with_name("code")


class ServedModel(PythonModel):
    """Columns `image`, `text` and, for methods that look at regions, `regions` -> a column for each output.

    `models.served.answer` says what the columns hold. The parameter `outputs` is the list of the outputs wanted; the
    default, in the signature, is all that the model gives.
    """

    def load_context(self, context: Any) -> None:
        module, _, name = context.model_config["method_class"].partition(":")
        with _own_modules():
            prediction = importlib.import_module("models.prediction")
            self._prediction_error = prediction.PredictionError
            self._answer = importlib.import_module("models.served").answer
            method_class = getattr(importlib.import_module(module), name)
            self._predictor = prediction.Predictor(Path(context.artifacts["checkpoint"]), method_class)

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        outputs = [str(name) for name in (params or {}).get("outputs", self._predictor.offers)]
        records = model_input.astype(object).where(model_input.notna(), None).to_dict(orient="records")
        try:
            columns = self._answer(self._predictor, records, outputs)
        except self._prediction_error as error:
            # The scoring server sends the message of no other exception.
            raise mlflow.MlflowException.invalid_parameter_value(str(error)) from None
        return pd.DataFrame(columns, index=model_input.index, dtype=object)


@contextmanager
def _own_modules() -> Iterator[None]:
    """Import `models` from the folder beside this file, and give the process back what it had under that name."""
    if not CODE.is_dir():  # this file in the project itself, when MLflow reads it to save a model
        yield
        return
    others = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] == "models"}
    sys.path.insert(0, str(CODE))
    try:
        yield
    finally:
        # MLflow has put it there too, for good.
        sys.path[:] = [entry for entry in sys.path if Path(entry) != CODE]
        for name in [name for name in sys.modules if name.partition(".")[0] == "models"]:
            del sys.modules[name]
        sys.modules.update(others)


mlflow.models.set_model(ServedModel())
