"""The rows of `items.parquet`: each scored item with what was asked and answered, as far as its task says."""

import hashlib
from collections.abc import Iterator

from pipelines.evaluate.evaluation_set import EvaluationSet
from pipelines.evaluate.task import Result
from pipelines.files import canonical
from pipelines.records import ItemRow

# Of a digest: as many as an image_id has.
DIGITS = 16


def item_rows(task: str, result: Result, evaluation_set: EvaluationSet, preparation: str) -> Iterator[ItemRow]:
    """The rows of a task's items, in the task's order.

    Args:
        task: Its name.
        result: Its outcome.
        evaluation_set: The split.
        preparation: SHA-256 of how its images were prepared.
    """
    for item in result.items:
        yield ItemRow(
            image_id=item.image.key,
            source=item.image.source,
            task=task,
            metric=item.metric,
            item=item.item or item.image.key,
            modality=item.image.modality,
            label=item.label,
            value=item.value,
            truth=item.truth,
            prompt=item.prompt,
            input_digest=input_digest(evaluation_set.image_sha256(item.image.key), item.prompt)[:DIGITS],
            preprocessing_digest=preparation[:DIGITS],
            output=None if item.output is None else canonical(item.output),
            image_blind=result.image_blind.get(hash(item.key)),
        )


def input_digest(image_sha256: str, prompt: str | None) -> str:
    """SHA-256 of what a method is given: of the image's bytes, or over that digest, a zero byte and the prompt."""
    return image_sha256 if prompt is None else hashlib.sha256(f"{image_sha256}\0{prompt}".encode()).hexdigest()
