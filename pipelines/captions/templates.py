"""Prompt files as templates: what every captioner with prompts does with its folder."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jinja2
from jinja2 import meta
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context
from jinja2.sandbox import SandboxedEnvironment

from pipelines.errors import Rejected, UserError, item_boundary

_MAX_CHARACTERS = 1_000_000  # of a rendered text
_MAX_RANGE = 1_000
_MAX_EXPONENT = 64
_MAX_BITS = 4_096
# Methods and filters that make a long text of a short one and a number.
_WIDENING = ("center", "expandtabs", "format", "format_map", "indent", "ljust", "rjust", "zfill", "wordwrap")


def require(folder: Path, names: Iterable[str], captioner: str) -> None:
    """
    Raises:
        UserError: The folder lacks one of the captioner's files.
    """
    for name in names:
        if not (folder / name).is_file():
            raise UserError(f"{folder / name} not found: captions.prompts must hold the files of '{captioner}'")


class _Sandbox(SandboxedEnvironment):
    """Jinja's sandbox, in which no template can ask for more memory than its text suggests."""

    intercepted_binops = frozenset(["*", "**", "%"])

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if not isinstance(left, int | float) or not isinstance(right, int | float):
            raise SecurityError(f"{operator} is for numbers")
        if operator == "**" and abs(left) > 1 and abs(right) > _MAX_EXPONENT:
            raise SecurityError(f"an exponent beyond {_MAX_EXPONENT}")
        value = super().call_binop(context, operator, left, right)
        if isinstance(value, int) and value.bit_length() > _MAX_BITS:
            raise SecurityError(f"a number of more than {_MAX_BITS} bits")
        return value

    def wrap_str_format(self, value: Any) -> None:
        """No `format` of our own, so that `is_safe_attribute` is asked: a width in it makes a text of any length."""

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        return not (isinstance(obj, str) and attr in _WIDENING) and super().is_safe_attribute(obj, attr, value)


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
        environment = _Sandbox(
            loader=jinja2.FileSystemLoader(folder),
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.globals["range"] = _range
        for name in _WIDENING:
            environment.filters.pop(name, None)
        self._environment = environment
        self._templates: dict[str, jinja2.Template] = {}
        for name in names:
            with self._named(name):
                self._templates[name] = environment.get_template(name)

    def values_used(self, name: str, offered: Iterable[str]) -> frozenset[str]:
        """Which of some values may change a template's text: those that it names, or all if it uses other templates."""
        syntax = self._environment.parse((self._folder / name).read_text(encoding="utf-8"))
        if any(True for _ in meta.find_referenced_templates(syntax)):
            return frozenset(offered)
        return frozenset(offered) & meta.find_undeclared_variables(syntax)

    def render(self, name: str, values: dict[str, Any]) -> str:
        """
        Raises:
            UserError: The template uses a value that it does not get, or something in it fails, such as a division by
                zero, or its text is too long.
        """
        with self._named(name):
            parts, size = [], 0
            for part in self._templates[name].generate(values):
                parts.append(part)
                size += len(part)
                if size > _MAX_CHARACTERS:
                    raise SecurityError(f"the text is longer than {_MAX_CHARACTERS} characters")
            return "".join(parts)

    @contextmanager
    def _named(self, name: str) -> Iterator[None]:
        """Whatever a template of the user's raises, when it is compiled or used, is one line that names its file."""
        try:
            with item_boundary():
                try:
                    yield
                except jinja2.TemplateSyntaxError as error:
                    raise UserError(f"{self._folder / name}, line {error.lineno}: {error.message}") from None
                except UnicodeDecodeError:
                    raise UserError(f"{self._folder / name} is not UTF-8 text") from None
        except Rejected as error:
            raise UserError(f"{self._folder / name}: {error.detail}") from None


def _range(*arguments: int) -> range:
    numbers = range(*arguments)
    if len(numbers) > _MAX_RANGE:
        raise SecurityError(f"range of {len(numbers)} numbers, at most {_MAX_RANGE}")
    return numbers
