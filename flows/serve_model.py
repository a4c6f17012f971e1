"""MLflow's scoring server on loopback for a trained model: rows of images and texts in, a column for each output back.

It is the server of `mlflow models serve --env-manager local`, in this process: the model's files are compared with
their digests first, and with their signature where params.yaml asks for one.

Reads: a checkpoint or a registered model, params.yaml (tracking). Writes: nothing.
Run alone: python -m flows.serve_model [MODEL] [--port PORT]
"""

from pathlib import Path

from flows.serve_arguments import served_model
from pipelines.serving import HOST
from pipelines.stage import command
from pipelines.tracking.checkpoints import model_folder


def main(*arguments: str) -> None:
    reference, port, tracking = served_model(
        arguments, "flows.serve_model", "MLflow's scoring server for a model.", port=5001, setting="MODEL_PORT"
    )
    # Here, for their imports take seconds.
    import uvicorn
    from mlflow import pyfunc
    from mlflow.pyfunc import scoring_server

    with model_folder(reference, tracking, Path()) as folder:
        model = pyfunc.load_model(str(folder))
    print(f"{reference}: http://{HOST}:{port}/invocations (Ctrl-C ends it)", flush=True)
    uvicorn.run(scoring_server.init(model), host=HOST, port=port, log_level="warning")


if __name__ == "__main__":
    command(main)
