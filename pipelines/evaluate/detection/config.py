"""Options of the task `detection`."""

from dataclasses import dataclass, field
from typing import Literal

from models.text import normalise


@dataclass(frozen=True, kw_only=True)
class DetectionConfig:
    """Options of the task.

    Attributes:
        template: Prompt of a finding; `{label}` stands for its name.
        prompts: Finding -> its prompt, in the place of the template's; capitals and punctuation do not matter.
        threshold: From which level on a heatmap, scaled to 0 to 1, marks a pixel; null: it is chosen.
        choose_on: Split on which the threshold is chosen, and the similarity from which on a finding is there.
        training_images: Most training images of a finding on which the threshold is chosen; the first in stored order,
            which is that of a hash.
    """

    template: str = "{label}"
    prompts: dict[str, str] = field(default_factory=dict)
    threshold: float | None = None
    choose_on: Literal["train", "validation"] = "train"
    training_images: int = 500

    def __post_init__(self) -> None:
        if "{label}" not in self.template:
            raise ValueError("template must have {label} in it")
        if empty := [finding for finding, prompt in self.prompts.items() if not prompt.strip()]:
            raise ValueError(f"prompts of '{empty[0]}' is empty: write the words that stand for it")
        named: dict[str, str] = {}
        for name in self.prompts:
            if (other := named.setdefault(normalise(name), name)) != name:
                raise ValueError(f"prompts has '{other}' and '{name}', which are one finding: keep one of them")
        if self.threshold is not None and not 0 < self.threshold < 1:
            raise ValueError(f"threshold is {self.threshold}: choose one above 0 and below 1, or null")
        if self.training_images < 1:
            raise ValueError("training_images must be at least 1")

    def prompt(self, finding: str) -> str:
        """The prompt of a finding, which is named as encoders read it."""
        named = {normalise(name): prompt for name, prompt in self.prompts.items()}
        return named.get(finding) or self.template.replace("{label}", finding)

    def unused(self, findings: set[str]) -> list[str]:
        """The names in `prompts` that no finding has."""
        return sorted(name for name in self.prompts if normalise(name) not in findings)
