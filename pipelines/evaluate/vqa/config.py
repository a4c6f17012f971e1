"""Options of the task `vqa`: the head, and a served model that is asked beside it."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePosixPath

from models.answering import HeadSettings
from pipelines.chat.budget import Budget
from pipelines.chat.connection import Connection
from pipelines.errors import UserError
from pipelines.prompt_files import place_of

FOLDER = PurePosixPath("prompts/vqa")
QUESTION = "{question}"
# Keys of params.yaml that lead to `Served`.
SECTION = "evaluate.tasks.vqa.served"


@dataclass(frozen=True, kw_only=True)
class Served(Connection):
    """Section `evaluate.tasks.vqa.served`: who is asked (`Connection`), and how.

    Attributes:
        prompt: A text file in prompts/vqa; `{question}` in it stands for the question.
        max_tokens: Of one answer; a longer one is cut.
        budget: What one run may ask, of both splits, the control and all methods that it evaluates together; its hours
            begin with the first question.
    """

    prompt: str
    max_tokens: int = 16
    budget: Budget = field(default_factory=Budget)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens is {self.max_tokens}: choose at least 1")
        # So that a mistake in the file is told before anything is embedded.
        if QUESTION not in self.text:
            raise ValueError(f"{self.prompt} has no {QUESTION}: write it where the question is to stand")

    @cached_property
    def text(self) -> str:
        """The prompt as it lies in the file.

        Raises:
            ValueError: The file lies elsewhere, where DVC does not watch it, or is no UTF-8.
            UserError: There is no such file.
        """
        path = PurePosixPath(self.prompt)
        if not path.is_relative_to(FOLDER) or ".." in path.parts or path.suffix != ".txt":
            raise ValueError(f"prompt names {self.prompt!r}: name a text file in {FOLDER}, the folder that DVC watches")
        file, folder = place_of(path), place_of(FOLDER)
        if not file.is_file():
            known = ", ".join(sorted(one.name for one in folder.glob("*.txt"))) or "no file"
            raise UserError(f"{file} not found, which {SECTION}.prompt names: {folder} has {known}")
        try:
            return file.read_text(encoding="utf-8").strip()
        except UnicodeDecodeError as error:
            raise ValueError(f"{file} is not UTF-8 (byte {error.start}): save it as UTF-8") from None


@dataclass(frozen=True, kw_only=True)
class VqaConfig(HeadSettings):
    """Section `evaluate.tasks.vqa`: the head (`HeadSettings`), and who is asked beside it.

    Attributes:
        served: A vision-language model; None: nobody is asked.
    """

    served: Served | None = None
