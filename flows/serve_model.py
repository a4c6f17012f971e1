"""MLflow's scoring server on loopback for a trained model: rows of images and texts in, a column for each output back.

It is the server of `mlflow models serve --env-manager local`, in this process: the model's files are compared with
their digests first, and with their signature where params.yaml asks for one.

Reads: a checkpoint or a registered model, params.yaml (tracking). Writes: nothing.
Run alone: python -m flows.serve_model [MODEL] [--port PORT]
"""

import argparse
from pathlib import Path

from pipelines.config import load
from pipelines.serving import HOST, check_port, end_with_parent
from pipelines.stage import command
from pipelines.tracking.checkpoints import model_folder
from pipelines.tracking.config import TrackingConfig


def main(*arguments: str) -> None:
    parser = argparse.ArgumentParser("python -m flows.serve_model", description="MLflow's scoring server for a model.")
    parser.add_argument("model", nargs="?", help="folder of a checkpoint, models:/NAME@ALIAS or models:/NAME/VERSION")
    parser.add_argument("--port", type=int, default=5001, help="on loopback (default: 5001)")
    options = parser.parse_args(arguments)
    end_with_parent()
    check_port(options.port, "MODEL_PORT")
    tracking = load(TrackingConfig, "tracking")
    reference = options.model or f"models:/{tracking.model}@champion"
    # Here, for their imports take seconds.
    import uvicorn
    from mlflow import pyfunc
    from mlflow.pyfunc import scoring_server

    with model_folder(reference, tracking, Path()) as folder:
        model = pyfunc.load_model(str(folder))
    print(f"{reference}: http://{HOST}:{options.port}/invocations (Ctrl-C ends it)", flush=True)
    uvicorn.run(scoring_server.init(model), host=HOST, port=options.port, log_level="warning")


if __name__ == "__main__":
    command(main)
