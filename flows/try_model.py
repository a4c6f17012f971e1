"""A page on loopback to try a trained model: an image and a sentence in; maps, nearest texts and findings out.

Reads: a checkpoint or a registered model, params.yaml (tracking; evaluate, for the prompts of findings), and, where the
study was run, its captions, labels and scores. Writes: nothing; what is uploaded is kept in memory alone.
Run alone: python -m flows.try_model [MODEL] [--port PORT]
"""

from pathlib import Path

from flows.serve_arguments import served_model
from models import checkpoint as checkpoints
from models.prediction import Predictor
from pipelines.predict.request import label_prompts
from pipelines.registry import plugin
from pipelines.serving import HOST
from pipelines.stage import command
from pipelines.tracking.checkpoints import checkpoint_folder
from pipelines.try_model.about import about
from pipelines.try_model.model import TriedModel
from pipelines.try_model.server import Tried, serve
from pipelines.try_model.study import study_texts


def main(*arguments: str) -> None:
    reference, port, tracking = served_model(
        arguments, "flows.try_model", "A page to try a trained model.", port=7860, setting="TRY_PORT"
    )
    project = Path()
    with checkpoint_folder(reference, tracking, project) as folder:
        predictor = Predictor(folder, plugin("methods", checkpoints.read_config(folder)["method"]))
        said = about(reference, folder, tracking, project)
    model = TriedModel(predictor, study_texts(project), label_prompts())
    print(f"{said.name}: http://{HOST}:{port} (Ctrl-C ends it)", flush=True)
    serve(Tried(model=model, about=said), port)


if __name__ == "__main__":
    command(main)
