"""What a trained model says about images: embeddings, ranked texts and labels, heat maps, masks.

The images are prepared as the shards of its training were, so that an image of the study gets the numbers of its
evaluation. Nothing but pixels and the given texts and regions decides a prediction.

Reads: a checkpoint or a registered model, the given files, params.yaml (tracking; evaluate, for the prompts of labels).
Writes: the folder `--out` (`pipelines/predict/output.py` lists its files), with predict.json, its summary.
Run alone: python -m flows.predict [--help]
"""

import argparse
import logging
from pathlib import Path

from models import checkpoint as checkpoints
from models.prediction import OUTPUTS, Predictor
from pipelines.config import load
from pipelines.errors import UserError, printable
from pipelines.files import atomic_folder
from pipelines.predict.inputs import check_names, find_inputs, is_table
from pipelines.predict.output import Output
from pipelines.predict.regions import GivenRegions
from pipelines.predict.request import Request, label_prompts, make_request
from pipelines.predict.run import predict
from pipelines.registry import plugin
from pipelines.result_folders import check_out
from pipelines.stage import Summary, command, progress
from pipelines.tracking.checkpoints import checkpoint_folder
from pipelines.tracking.config import TrackingConfig

logger = logging.getLogger(__name__)

SUMMARY = "predict"
# No file has so many slices; a number beyond fits in no table.
_MAX_FRAMES = 2**31


def main(*arguments: str) -> None:
    options = _parser().parse_args(arguments)
    out = Path(options.out)
    check_names(options.files)
    check_out(out, f"{SUMMARY}.json", "predictions")
    _check_apart(out, [*options.files, *([options.regions] if options.regions else [])])
    if options.frame is not None and not 0 <= options.frame < _MAX_FRAMES:
        raise UserError(f"--frame {options.frame}: slices are counted from 0")
    regions = GivenRegions(Path(options.regions) if options.regions else None)
    with checkpoint_folder(options.model, load(TrackingConfig, "tracking"), Path()) as folder:
        method_class = plugin("methods", checkpoints.read_config(folder)["method"])
        predictor, digest = Predictor(folder, method_class), checkpoints.digest(folder)
    prompts = label_prompts() if options.labels else None
    request = make_request(
        predictor,
        options.outputs,
        options.text,
        options.labels,
        prompts,
        regions=options.regions is not None,
        tables=any(is_table(name) for name in options.files),
    )
    summary = Summary(SUMMARY)
    summary.extra = {"model": options.model, "checkpoint_sha256": digest, "asked": _asked(request)}
    with atomic_folder(out) as scratch:
        items = progress(find_inputs(options.files, options.frame), "images predicted")
        with Output(scratch) as output:
            inputs = predict(predictor, request, regions, items, output, summary)
        if not inputs:
            raise UserError(
                f"no prediction: {printable(', '.join(options.files))}: no image in it, and no row of a table"
            )
        summary.extra["regions_of_no_input"] = regions.unused
        counts = summary.write(inputs, scratch)
    if regions.unused:
        logger.warning("%d regions of %s are of images that were not given", regions.unused, options.regions)
    line = "; ".join(
        f"{counts[outcome]} {outcome}{_reasons(summary, outcome)}" for outcome in ("ok", "rejected", "failed")
    )
    if not counts["ok"]:
        raise UserError(f"no prediction: {line}; {out}/images.parquet says which input has which reason")
    print(f"{out}: {line}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m flows.predict", description="What a trained model says about images.")
    parser.add_argument("model", help="folder of a checkpoint, models:/NAME@ALIAS or models:/NAME/VERSION")
    parser.add_argument(
        "files",
        nargs="+",
        help="PNG, JPEG, TIFF, DICOM, NIfTI; folders; .zip and .tar archives; tables (.csv, .tsv, .jsonl, .parquet) "
        "with a column file_name and perhaps text and frame",
    )
    parser.add_argument("--out", required=True, help="folder of the results; those of an earlier run are replaced")
    parser.add_argument("--text", nargs="+", action="extend", default=[], help="texts for every image")
    parser.add_argument("--labels", nargs="+", action="extend", default=[], help="findings to rank for every image")
    parser.add_argument("--regions", help="table or JSON list of file_name and x0, y0, x1, y1 (pixels), or mask")
    parser.add_argument("--frame", type=int, help="the one slice to take of volumes, from 0 (default: all)")
    parser.add_argument("--outputs", nargs="+", help=f"of {', '.join(OUTPUTS)} (default: all that the model gives)")
    return parser


def _check_apart(out: Path, given: list[str]) -> None:
    """Refuse to put the results among what they are made from."""
    for name in given:
        place, target = Path(name).resolve(), out.resolve()
        if place.is_relative_to(target) or target.is_relative_to(place):
            raise UserError(f"--out {out} and {name} lie in each other: name a folder elsewhere")


def _asked(request: Request) -> dict[str, list[str]]:
    return {"outputs": list(request.outputs), "texts": list(request.texts), "labels": list(request.label_vectors)}


def _reasons(summary: Summary, outcome: str) -> str:
    found = summary.reasons.get(outcome)
    return f" ({', '.join(f'{reason} {count}' for reason, count in found.most_common(5))})" if found else ""


if __name__ == "__main__":
    command(main)
