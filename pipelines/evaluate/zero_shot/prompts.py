"""The prompts of classes: templates, or sets of prompts from a text file of `prompts/zero_shot/`; and their directions.

DVC watches the folder. The stage `code` writes the digests of the files that params.yaml names into the fingerprints of
the stages `evaluate`, so that an edited prompt reruns them (`pipelines/code/`); `items_sha256` of metrics.json follows
them too. A file looks like this:

    prompts:                       # for a class, in the place of the templates
      pneumonia:
        - a chest radiograph with pneumonia
        - air-space opacity of a pneumonia
    negatives:                     # may be left out: for its absence, in the place of the negative templates
      pneumonia:
        - a chest radiograph with clear lungs
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import PurePosixPath
from typing import Literal

import numpy as np

from pipelines.config import load_params, parse
from pipelines.errors import UserError
from pipelines.prompt_files import place_of
from pipelines.records import NO_FINDING

FOLDER = PurePosixPath("prompts/zero_shot")

Embed = Callable[[Sequence[str]], np.ndarray]


@dataclass(frozen=True, kw_only=True)
class PromptSets:
    """The prompts of a file.

    Attributes:
        prompts: Class -> prompts for it.
        negatives: Class -> prompts for its absence.
    """

    prompts: dict[str, list[str]] = field(default_factory=dict)
    negatives: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.names:
            raise ValueError("no class has prompts here: write `prompts:`, and below it each class with a list of them")
        for section, sets in (("prompts", self.prompts), ("negatives", self.negatives)):
            for name, prompts in sets.items():
                if not prompts or not all(prompt.strip() for prompt in prompts):
                    raise ValueError(f"{section} of '{name}' must be at least one prompt, none of them empty")
                if any("{label}" in prompt for prompt in prompts):
                    raise ValueError(f"{section} of '{name}': write the words themselves, without {{label}}")

    @property
    def names(self) -> set[str]:
        """The classes that the file has prompts for."""
        return {*self.prompts, *self.negatives}


def read_prompts(file: str) -> PromptSets:
    """The prompts of a file.

    Args:
        file: Its path in the study whose options name it, inside `prompts/zero_shot`.

    Raises:
        ValueError: It lies elsewhere, where DVC does not watch it.
        UserError: There is no such file, or it does not hold sets of prompts; one line says what to change.
    """
    path = PurePosixPath(file)
    if not path.is_relative_to(FOLDER) or ".." in path.parts or path.suffix not in (".yaml", ".yml"):
        raise ValueError(f"prompts names {file!r}: name a YAML file in {FOLDER}, the folder that DVC watches")
    place, folder = place_of(path), place_of(FOLDER)
    if not place.is_file():
        known = ", ".join(sorted(one.name for one in folder.glob("*.y*ml"))) or "no file"
        raise UserError(
            f"{place} not found, which a task under evaluate.tasks has for its prompts: {folder} has {known}"
        )
    return parse(PromptSets, load_params(place), str(place))


@dataclass(frozen=True, kw_only=True)
class ClassPrompts:
    """Which prompts stand for classes and for their absence.

    Attributes:
        templates: Prompts for a class; `{label}` stands for its name.
        negatives: Prompts for its absence, such as `no {label}`.
        prompts: A YAML file in prompts/zero_shot, whose prompts stand in the place of the templates for the classes
            that it names.
    """

    templates: list[str]
    negatives: list[str]
    prompts: str | None = None

    def __post_init__(self) -> None:
        for name, prompts in (("templates", self.templates), ("negatives", self.negatives)):
            if not prompts or not all("{label}" in prompt for prompt in prompts):
                raise ValueError(f"{name} must hold at least one prompt, each with {{label}} in it")
        # Now, so that a mistake in the file is told before anything is embedded, and the file is that of the study.
        _ = self.sets

    @cached_property
    def sets(self) -> PromptSets | None:
        """The prompts of the file; None without one."""
        return None if self.prompts is None else read_prompts(self.prompts)

    def prompts_for(self, label: str) -> list[str]:
        """The prompts for a class."""
        found = self.sets.prompts.get(label) if self.sets else None
        return found or [template.replace("{label}", label) for template in self.templates]

    def negatives_for(self, label: str) -> list[str]:
        """The prompts for its absence."""
        found = self.sets.negatives.get(label) if self.sets else None
        return found or [template.replace("{label}", label) for template in self.negatives]

    def sets_for(self, label: str, classes: Sequence[str]) -> list[list[str]]:
        """The prompts for one of several classes, in sets that count alike.

        `No Finding` is no thing that an image has: where the file has no prompts for it, its sets are those for the
        absence of each other class.

        Args:
            label: The class.
            classes: All of them; a finding beside `No Finding` at least.
        """
        if label != NO_FINDING or (self.sets and NO_FINDING in self.sets.prompts):
            return [self.prompts_for(label)]
        return [self.negatives_for(finding) for finding in classes if finding != NO_FINDING]

    def sets_against(self, label: str, classes: Sequence[str]) -> list[list[str]]:
        """The prompts for its absence; as of `sets_for`, those against `No Finding` are those for each other class."""
        if label != NO_FINDING or (self.sets and NO_FINDING in self.sets.negatives):
            return [self.negatives_for(label)]
        return [self.prompts_for(finding) for finding in classes if finding != NO_FINDING]


@dataclass(frozen=True, kw_only=True)
class ZeroShotConfig(ClassPrompts):
    """Options of the task `zero_shot`: the prompts, and what is made of them.

    Attributes:
        kind: findings: each against its negation; exclusive: one of several classes; both: side by side.
        temperature: What cosines are divided by before the softmax of `exclusive`; by default the one that CLIP starts
            its training from (Radford et al. 2021, section 2.5).
        transductive: Whether the metrics `transductive/...` stand beside the others.
    """

    kind: Literal["findings", "exclusive", "both"] = "findings"
    temperature: float = 0.07
    transductive: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"temperature is {self.temperature}: choose a number above 0, such as 0.07")


def label_directions(embed: Embed, labels: Sequence[str], config: ClassPrompts) -> np.ndarray:
    """What an image's embedding is multiplied with for the labels' scores: (labels, dimensions).

    Args:
        embed: Texts -> (texts, dimensions), of length 1.
        labels: Names of findings; beside one at least also `No Finding`.
        config: The prompts.
    """
    against = _directions(embed, [config.sets_against(label, labels) for label in labels])
    return class_directions(embed, labels, config) - against


def class_directions(embed: Embed, classes: Sequence[str], config: ClassPrompts) -> np.ndarray:
    """(classes, dimensions), of length 1: the direction of each of several classes that exclude each other.

    Args:
        embed: Texts -> (texts, dimensions), of length 1.
        classes: Of them a finding at least.
        config: The prompts.
    """
    return _directions(embed, [config.sets_for(label, classes) for label in classes])


def _directions(embed: Embed, sets: Sequence[Sequence[Sequence[str]]]) -> np.ndarray:
    found = iter(mean_directions(embed, [prompts for of_class in sets for prompts in of_class]))
    of_classes = [np.stack(list(islice(found, len(of_class)))) for of_class in sets]
    return np.stack([_unit(vectors.mean(axis=0)) if len(vectors) > 1 else vectors[0] for vectors in of_classes])


def mean_directions(embed: Embed, prompts: Sequence[Sequence[str]]) -> np.ndarray:
    """(labels, dimensions), of length 1: the mean direction of each label's prompts.

    Args:
        embed: Texts -> (texts, dimensions), of length 1.
        prompts: Of each label at least one.
    """
    ends = np.cumsum([len(of_label) for of_label in prompts])
    embeddings = embed([prompt for of_label in prompts for prompt in of_label])
    vectors = np.stack([of_label.mean(axis=0) for of_label in np.split(embeddings, ends[:-1])])
    return _unit(vectors)


def _unit(vectors: np.ndarray) -> np.ndarray:
    # Prompts that cancel out have no direction; they score every image alike instead of dividing by zero.
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12))
