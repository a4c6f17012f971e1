"""What a captioner is, and what passes between it and the stage.

A captioner sees the evidence that `pipelines.captions.evidence` allows and nothing else: annotations of validation and
test images never reach it, except for items that are marked `oracle`.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from models.geometry import Box
from pipelines.captions.answer import ImageAnswer, RegionAnswer
from pipelines.captions.config import Modality, Sizes
from pipelines.captions.geometry import Geometry
from pipelines.chat.budget import Budget
from pipelines.records import Basis, CaptionKind, SplitImageRow
from pipelines.storage import Root


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a captioner is built with.

    Attributes:
        prompts: Folder of its prompt files.
        seed: Decides whatever it draws at random.
        options: Its own section of `captions.options`, as params.yaml holds it.
        sizes: Area fractions that separate the sizes, as `geometry_check` needs them.
        roots: Folder or archive of each source, for captioners that see the pixels.
        max_pixels: An image of more pixels is not decoded.
        cache: File of the result cache, for captioners whose answers cost something.
        budget: What they may ask in this run.
    """

    prompts: Path
    seed: int
    options: dict[str, Any]
    sizes: Sizes
    roots: dict[str, Root]
    max_pixels: int
    cache: Path
    budget: Budget = field(default_factory=Budget)


@dataclass(frozen=True, kw_only=True)
class RegionItem:
    """A region to describe.

    Attributes:
        region_id: Its id.
        image: Its image.
        modality: How such an image is spoken of.
        patient_side: Positions name the patient's left and right.
        box: x0, y0, x1, y1 in pixels.
        mask: As `RegionRow` has it; None: there is only the box.
        label: What the source calls it; None: the source gives no name. Then only a captioner that sees the pixels may
            name it.
        labels: Findings of its image that a model may be given.
        adjective: The source's own; None: the source gives none.
        phrase: The source's own sentence about it; kept as it is, and no captioner's evidence.
        geometry: What was measured.
        basis: What the region comes from.
        oracle: It comes from annotations of a validation or test image.
    """

    region_id: str
    image: SplitImageRow
    modality: Modality
    patient_side: bool
    box: Box
    mask: str | None
    label: str | None
    labels: tuple[str, ...]
    adjective: str | None
    phrase: str | None
    geometry: Geometry
    basis: Basis
    oracle: bool
    kind: Literal["region"] = "region"

    @property
    def item_id(self) -> str:
        return self.region_id


@dataclass(frozen=True, kw_only=True)
class ImageItem:
    """An image to describe.

    Attributes:
        image: The image with its report and labels.
        modality: How such an image is spoken of.
        patient_side: Positions name the patient's left and right.
        regions: Annotated regions that may be spoken of, in the order of `n`.
        labels: Findings that a model may be given; (): the source says that there is none; None: unknown or withheld.
        basis: The strongest of what is known.
        oracle: As `CaptionRow` has it.
    """

    image: SplitImageRow
    modality: Modality
    patient_side: bool
    regions: tuple[RegionItem, ...]
    labels: tuple[str, ...] | None
    basis: Basis
    oracle: bool
    kind: Literal["image"] = "image"

    @property
    def item_id(self) -> str:
        return self.image.image_id


@dataclass(frozen=True, kw_only=True)
class NoAnswer:
    """Why an item has no answer: rejected is final, failed is tried again in the next run.

    Attributes:
        status: Which of the two.
        reason: Reason code.
        raw_answer: The model's last answer, where that is why.
    """

    status: Literal["rejected", "failed"]
    reason: str
    raw_answer: str | None = None


@dataclass(frozen=True, kw_only=True)
class Response:
    """The response of a model.

    Attributes:
        answer: The answer, or why there is none.
        attempts: How many of the model's answers were read, the last one included.
    """

    answer: ImageAnswer | RegionAnswer | NoAnswer
    attempts: int


@dataclass(frozen=True, kw_only=True)
class NotAsked:
    """The budget was spent before the item had an answer: the stage ends without a table, and the next run asks."""


Item = ImageItem | RegionItem
Answer = ImageAnswer | RegionAnswer | NoAnswer | Response


class Captioner(Protocol):
    """Evidence -> the paper's annotation. It is built with `Settings`.

    Attributes:
        sees_pixels: It reads the image itself: it also describes images without any report, label or annotation, and
            names regions that the source does not name.
    """

    sees_pixels: bool

    def describe(self, items: Iterable[Item]) -> Iterator[Answer | NotAsked]:
        """One answer for each item, in the order of the items; an `ImageAnswer` for an `ImageItem` and so on.

        Items come as a stream, so that a captioner behind a network may work on several at a time. `NotAsked` comes
        from captioners of `SendsRequests` alone.
        """
        ...

    def prompt_sha256(self, kind: CaptionKind) -> str:
        """Digest of the prompt files that decide the answers of one kind."""
        ...

    def counts(self) -> dict[str, Any]:
        """What summary.json says of the requests, such as `sent` and `reused`; {} for a captioner that sends none."""
        ...


@runtime_checkable
class KeepsAnswers(Protocol):
    """A captioner whose answers are in the result cache, so that a recipe can hand them on (`pipelines.recipe`)."""

    def keys(self, items: Iterable[Item]) -> Iterator[tuple[str, str]]:
        """Key and kind of each item's answer in the result cache, in the order of the items; nothing is sent."""
        ...


@dataclass(frozen=True, kw_only=True)
class RequestCost:
    """What the first request about an item takes.

    Attributes:
        text_tokens: Of all that is sent but the images.
        image_tokens: Of all images that are sent; None: not known for the model.
    """

    text_tokens: int
    image_tokens: int | None


@dataclass(frozen=True, kw_only=True)
class AnswerCost:
    """What an answer in the result cache took, as the server counted it.

    Attributes:
        requests: How many answers of the model were read for it.
        prompt_tokens: Of all its requests, images included.
        completion_tokens: Of all its answers.
        seconds: That its requests were under way.
    """

    requests: int
    prompt_tokens: int
    completion_tokens: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What answers cost.

    Attributes:
        model: Who answers.
        attempts: Most requests for one item, without those that are sent again after a fault.
        max_tokens: Most tokens of one answer.
        concurrency: Requests under way at a time.
        text_basis: How `RequestCost.text_tokens` are counted.
        image_basis: How `RequestCost.image_tokens` are counted, or why they are not.
        of: The cost of an item: of the request about it, or of the answer that is kept, of which nothing is asked.
    """

    model: str
    attempts: int
    max_tokens: int
    concurrency: int
    text_basis: str
    image_basis: str
    of: Callable[[Item], RequestCost | AnswerCost]


@runtime_checkable
class SendsRequests(Protocol):
    """A captioner that sends requests: it keeps `Settings.budget`, and `--estimate` shows what it will ask.

    Where the budget is spent it sends nothing more, keeps what is still answered, and gives `NotAsked` for every item
    that has no answer.
    """

    def costs(self, kept: Callable[[str], Any], model: Path | None) -> Costs:
        """What its answers cost; nothing is sent.

        Args:
            kept: The value under a key in the result cache, or None.
            model: Folder of the model that is served; None: look where the options say.

        Raises:
            UserError: The folder has not what is needed.
        """
        ...
