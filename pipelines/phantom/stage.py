"""Stage `phantom`: draw a dataset of medical-looking images whose every lesion is known exactly.

Reads: params.yaml (section `phantom`, and whether a source has its root there).
Writes: data/raw/phantom/, an ordinary dataset folder in the ImageFolder convention of Hugging Face datasets, which the
source `table` reads; without an image where no source does: images/NNNNNN.png, masks/NNNNNN_n.png (0 or 255) and
metadata.jsonl, one JSON object an image:
file_name, text, labels, patient_id, modality, view, attributes {trait: value}, objects {bbox: [[x, y, width, height],
...] in pixels, label, adjective, mask, look_alike}, questions [{question_id, question, answer, answer_type}, ...].
Run alone: python -m pipelines.phantom

What is drawn. A patient has one look (radiograph, CT slice or endoscopic image), an anatomy and two visible traits,
the same in all of the patient's images. An image is normal, or shows 1 to 4 named lesions, each with a shape
(adjective), a texture (term), a size and a place on the 3x3 grid over the image.

Distractors. Every image shows one or two marks (side letter, clip, tube), which are never a lesion. Every image with
lesions also shows a look-alike: one more lesion, which the report leaves out, so that only the text tells which lesions
are meant. Among the objects it is the last and marked as one (`look_alike`), so that it is no annotation. It has the
term of a named one: `labels` is complete for the image, its annotations are not. A normal image has no look-alike, so
that normal stays true.

What the text tells. Adjective and term name one lesion among all that are drawn, and so does the position. The report
does not tell how many lesions there are, and never mentions marks. Left and right are the patient's on the frontal
radiograph (the patient's left is the right half of the image), elsewhere the image's. Lengths are fractions of the
image's width. What a report says of the anatomy holds for every image of the patient.

An image depends on the seed, its patient and its place among the patient's images, never on how many are drawn.
"""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipelines.config import load
from pipelines.files import atomic_folder
from pipelines.phantom.anatomy import LOOKS
from pipelines.phantom.config import PhantomConfig
from pipelines.phantom.lesions import TERMS, Lesion
from pipelines.phantom.scene import Patient, Scene, draw_scene
from pipelines.phantom.text import ask, write_report
from pipelines.sources import PHANTOM, load_sources, reads
from pipelines.stage import SUMMARIES, Summary, progress

logger = logging.getLogger(__name__)


def main() -> None:
    config = load(PhantomConfig, "phantom")
    if reads(load_sources().roots.values(), PHANTOM):
        run(config, PHANTOM)
        return
    with atomic_folder(PHANTOM):
        logger.info("no source of params.yaml reads %s: nothing is drawn", PHANTOM)
    Summary("phantom").write(0)


def run(config: PhantomConfig, output: Path, summaries: Path = SUMMARIES) -> dict[str, Any]:
    """Write the dataset folder, replacing what is there, and return the summary."""
    summary = Summary("phantom")
    counts = {"patients": 0, "normal": 0, "lesions": 0, **{look.modality: 0 for look in LOOKS}}
    texts = set()
    with atomic_folder(output) as folder:
        (folder / "images").mkdir()
        (folder / "masks").mkdir()
        with (folder / "metadata.jsonl").open("w", encoding="utf-8") as metadata:
            scenes = progress(draw_scenes(config), "phantom", total=config.images)
            for number, (patient, scene, rng) in enumerate(scenes):
                row = _write(folder, number, patient, scene, rng)
                metadata.write(json.dumps(row, ensure_ascii=False) + "\n")
                summary.ok()
                texts.add(row["text"])
                counts["patients"] = patient.number
                counts["normal"] += not scene.lesions
                counts["lesions"] += len(scene.lesions)
                counts[patient.look.modality] += 1
    summary.extra = {**counts, "distinct_reports": len(texts)}
    return summary.write(config.images, summaries)


def draw_scenes(config: PhantomConfig) -> Iterator[tuple[Patient, Scene, np.random.Generator]]:
    """Every image in order, patient after patient, with the generator that its words continue."""
    drawn = 0
    number = 0
    while drawn < config.images:
        number += 1
        rng = _generator(config.seed, number)
        fewest, most = config.images_per_patient
        images = int(rng.integers(fewest, most + 1))
        look = LOOKS[number % len(LOOKS)]
        traits = {name: str(rng.choice(values)) for name, values in look.traits.items()}
        patient = Patient(number, look, traits, look.draw(config.size, traits, rng))
        for index in range(min(images, config.images - drawn)):
            image_rng = _generator(config.seed, number, index)
            yield patient, draw_scene(config, patient, image_rng), image_rng
            drawn += 1


def _generator(seed: int, *place: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=place))


def _write(folder: Path, number: int, patient: Patient, scene: Scene, rng: np.random.Generator) -> dict[str, Any]:
    """Write one image with its masks; return its line of metadata.jsonl."""
    file_name = f"images/{number:06d}.png"
    Image.fromarray(scene.pixels).save(folder / file_name)
    drawn = [*scene.lesions, *([] if scene.look_alike is None else [scene.look_alike])]
    return {
        "file_name": file_name,
        "text": write_report(patient, scene.lesions, rng),
        "labels": [term for term in TERMS if any(lesion.term == term for lesion in scene.lesions)],
        "patient_id": f"P{patient.number:04d}",
        "modality": patient.look.modality,
        "view": patient.look.view,
        "attributes": patient.traits,
        "objects": {
            "bbox": [lesion.box for lesion in drawn],
            "label": [lesion.term for lesion in drawn],
            "adjective": [lesion.adjective for lesion in drawn],
            "mask": [_write_mask(folder, number, n, lesion) for n, lesion in enumerate(drawn)],
            "look_alike": [lesion is scene.look_alike for lesion in drawn],
        },
        "questions": ask(patient, scene.lesions, number, rng),
    }


def _write_mask(folder: Path, number: int, n: int, lesion: Lesion) -> str:
    file_name = f"masks/{number:06d}_{n}.png"
    Image.fromarray(lesion.mask.astype(np.uint8) * 255).save(folder / file_name)
    return file_name
