"""A page on loopback to try a trained model: an image and a sentence in; maps, nearest texts and findings out.

Reads: a checkpoint or a registered model, params.yaml (tracking; evaluate, for the prompts of findings), and, where the
study was run, its captions, labels and scores. Writes: nothing; what is uploaded is kept in memory alone.
Run alone: python -m flows.try_model [MODEL] [--port PORT]
"""

import argparse
from pathlib import Path

from models import checkpoint as checkpoints
from models.prediction import Predictor
from pipelines.config import load
from pipelines.predict.request import label_prompts
from pipelines.registry import plugin
from pipelines.serving import HOST, check_port, end_with_parent
from pipelines.stage import command
from pipelines.tracking.checkpoints import checkpoint_folder
from pipelines.tracking.config import TrackingConfig
from pipelines.try_model.about import about
from pipelines.try_model.model import TriedModel
from pipelines.try_model.server import Tried, serve
from pipelines.try_model.study import study_texts


def main(*arguments: str) -> None:
    parser = argparse.ArgumentParser("python -m flows.try_model", description="A page to try a trained model.")
    parser.add_argument("model", nargs="?", help="folder of a checkpoint, models:/NAME@ALIAS or models:/NAME/VERSION")
    parser.add_argument("--port", type=int, default=7860, help="on loopback (default: 7860)")
    options = parser.parse_args(arguments)
    end_with_parent()
    check_port(options.port, "TRY_PORT")
    tracking = load(TrackingConfig, "tracking")
    reference = options.model or f"models:/{tracking.model}@champion"
    project = Path()
    with checkpoint_folder(reference, tracking, project) as folder:
        predictor = Predictor(folder, plugin("methods", checkpoints.read_config(folder)["method"]))
        said = about(reference, folder, tracking, project)
    model = TriedModel(predictor, study_texts(project), label_prompts())
    print(f"{said.name}: http://{HOST}:{options.port} (Ctrl-C ends it)", flush=True)
    serve(Tried(model=model, about=said), options.port)


if __name__ == "__main__":
    command(main)
