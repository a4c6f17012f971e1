"""Prompt files as templates: what every captioner with prompts does with its folder."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jinja2
from jinja2.sandbox import SandboxedEnvironment

from pipelines.errors import UserError


def require(folder: Path, names: Iterable[str], captioner: str) -> None:
    """
    Raises:
        UserError: The folder lacks one of the captioner's files.
    """
    for name in names:
        if not (folder / name).is_file():
            raise UserError(f"{folder / name} not found: captions.prompts must hold the files of '{captioner}'")


class Templates:
    """Some files of a folder as jinja2 templates, in a sandbox; using a value that is not given is an error.

    Args:
        folder: Where they lie.
        names: The files, all of them there.

    Raises:
        UserError: A file is no template, or no UTF-8 text.
    """

    def __init__(self, folder: Path, names: Iterable[str]) -> None:
        self._folder = folder
        environment = SandboxedEnvironment(
            loader=jinja2.FileSystemLoader(folder),
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates: dict[str, jinja2.Template] = {}
        for name in names:
            try:
                self._templates[name] = environment.get_template(name)
            except jinja2.TemplateSyntaxError as error:
                raise UserError(f"{folder / name}, line {error.lineno}: {error.message}") from None
            except UnicodeDecodeError:
                raise UserError(f"{folder / name} is not UTF-8 text") from None

    def render(self, name: str, values: dict[str, Any]) -> str:
        """
        Raises:
            UserError: The template uses a value that it does not get.
        """
        try:
            return self._templates[name].render(values)
        except jinja2.TemplateError as error:
            raise UserError(f"{self._folder / name}: {error}") from None
