"""What is asked of a model: checked against what it offers before any image is opened."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from models.prediction import OUTPUTS, PredictionError, Predictor
from pipelines.config import load, parse
from pipelines.errors import UserError, text_fault
from pipelines.evaluate.config import EvaluateConfig
from pipelines.evaluate.tasks.zero_shot import ZeroShotConfig, label_directions
from pipelines.records import NO_FINDING


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is asked.

    Attributes:
        outputs: Names of `models.prediction.OUTPUTS`.
        texts: For every image.
        reads_text: Whether a mask depends on its text.
        text_vectors: Text -> embedding, where the method embeds texts.
        label_vectors: Label -> what an image's embedding is multiplied with for the label's score.
    """

    outputs: tuple[str, ...]
    texts: tuple[str, ...] = ()
    reads_text: bool = True
    text_vectors: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    label_vectors: dict[str, NDArray[np.float32]] = field(default_factory=dict)

    @property
    def needs_images(self) -> bool:
        return "image_embedding" in self.outputs or "similarity" in self.outputs

    @property
    def embeds_texts(self) -> bool:
        return "text_embedding" in self.outputs or "similarity" in self.outputs

    def texts_of(self, own: str | None) -> dict[str, str]:
        """The texts of an image by a short name: its own, if it has one, and those for every image."""
        named = {f"text{number}": text for number, text in enumerate(self.texts)}
        return ({"own": own} if own else {}) | named

    def mask_texts(self, own: str | None) -> dict[str, str]:
        """The texts with which an image is segmented; the empty one where there is none, or where none is read."""
        return (self.texts_of(own) if self.reads_text else {}) or {"": ""}


def make_request(
    predictor: Predictor,
    outputs: Sequence[str] | None,
    texts: Sequence[str],
    labels: Sequence[str],
    prompts: ZeroShotConfig | None,
    *,
    regions: bool,
    tables: bool,
) -> Request:
    """Check what is asked, and embed its texts.

    Args:
        predictor: The model.
        outputs: Names of `models.prediction.OUTPUTS`; None: all that the model offers.
        texts: For every image.
        labels: Findings to be ranked for every image.
        prompts: Of the labels; only needed with labels.
        regions: Whether the user gives regions.
        tables: Whether the user gives tables, which may have texts.

    Raises:
        UserError: The model does not offer what is asked (one line that says what it offers), or its weights diverged.
    """
    method, offers = type(predictor.model).__name__, ", ".join(predictor.offers)
    if unknown := sorted(set(outputs or ()) - OUTPUTS.keys()):
        raise UserError(f"--outputs {unknown[0]}: choose from {', '.join(OUTPUTS)}")
    try:
        predictor.require(outputs or ())
    except PredictionError as error:
        raise UserError(str(error)) from None
    for text in (*texts, *labels):
        if fault := text_fault(text):
            raise UserError(f"--text or --labels: {fault}")
    reads_text = predictor.model.reads_text
    needs_text = [name for name in outputs or () if name in ("text_embedding", "similarity", "heat_map")]
    if needs_text and not (texts or tables or (labels and needs_text == ["similarity"])):
        raise UserError(f"--outputs {needs_text[0]} needs a text: give --text, or a table with a column text")
    if texts and not ({"text_embedding", "heat_map"} & set(predictor.offers) or reads_text):
        raise UserError(f"{method} reads no text: leave --text out; it gives {offers}")
    if labels and "similarity" not in predictor.offers:
        raise UserError(f"{method} cannot rank labels, for it does not compare images with texts; it gives {offers}")
    if regions and not predictor.reads_regions:
        raise UserError(f"{method} does not look at regions: leave --regions out; it gives {offers}")
    wanted = tuple(predictor.offers if outputs is None else dict.fromkeys(outputs))
    embeds = bool({"text_embedding", "similarity"} & set(wanted))
    unique = tuple(dict.fromkeys(texts))
    try:
        vectors = dict(zip(unique, predictor.embed_texts(unique), strict=True)) if unique and embeds else {}
        directions = _directions(predictor, labels, prompts) if "similarity" in wanted else {}
    except PredictionError as error:
        raise UserError(str(error)) from None
    return Request(outputs=wanted, texts=unique, reads_text=reads_text, text_vectors=vectors, label_vectors=directions)


def label_prompts() -> ZeroShotConfig | None:
    """The prompts of labels that params.yaml has for the task `zero_shot`; None where it has none."""
    options = load(EvaluateConfig, "evaluate").tasks.get("zero_shot")
    return None if options is None else parse(ZeroShotConfig, options, "params.yaml: evaluate.tasks.zero_shot")


def _directions(
    predictor: Predictor, labels: Sequence[str], prompts: ZeroShotConfig | None
) -> dict[str, NDArray[np.float32]]:
    unique = list(dict.fromkeys(labels))
    if not unique:
        return {}
    if prompts is None:
        raise UserError("params.yaml: evaluate.tasks.zero_shot has the prompts of --labels, and is missing: add it")
    if unique == [NO_FINDING]:
        raise UserError(f"--labels: {NO_FINDING} is the absence of the other labels: name at least one beside it")
    return dict(zip(unique, label_directions(predictor.embed_texts, unique, prompts), strict=True))
