"""Templates of the user's: whatever goes wrong in one is one line that names its file, and none takes the machine."""

from pathlib import Path

import pytest

from pipelines.captions.templates import Templates
from pipelines.errors import UserError

VALUES = {"width": 64, "labels": ["mass", "nodule"], "box": [1, 2, 3, 4], "name": "radiograph"}


def rendered(folder: Path, text: str) -> str:
    (folder / "image.j2").write_text(text, encoding="utf-8", newline="")
    return Templates(folder, ["image.j2"]).render("image.j2", VALUES)


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("{{ width * 2 + 2 ** 10 - 7 % 4 }}", "1149"),
        ("{% for one in labels %}{{ loop.index }} {{ one }}{{ ',' if not loop.last }}{% endfor %}", "1 mass,2 nodule"),
        ("{{ box | join(', ') }} {{ name.upper() }} {{ 'a' ~ width }}", "1, 2, 3, 4 RADIOGRAPH a64"),
        ("{% for one in range(3) %}{{ one }}{% endfor %}", "012"),
    ],
)  # fmt: skip
def test_ordinary_templates_work(tmp_path: Path, text: str, result: str) -> None:
    assert rendered(tmp_path, text) == result


@pytest.mark.parametrize(
    "text",
    [
        "{{ width / 0 }}",
        "{{ width / labels }}",
        "{{ width + 1e9999 // 1 }}",
        "{{ width + 999՟ }}",
        "{" * 120,
        "{{ " + "(" * 500 + "1" + ")" * 500 + " }}",
        "{{ labels[7] }}",
        "{{ unknown }}",
        "{{ width.__class__.__mro__ }}",
        "{% include 'other.j2' %}",
        "{% for x in range(1001) %}{% endfor %}",
        "{% for x in range(10 ** 30) %}{% endfor %}",
        "{{ 'x' * 1000000000 }}",
        "{{ labels * 1000000000 }}",
        "{{ 9 ** 9 ** 99 }}",
        "{{ width ** 1e308 }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ '{:>1000000000}'.format(1) }}",
        "{{ 'x'.ljust(1000000000) }}",
        "{{ 'x'.zfill(1000000000) }}",
        "{{ 'x' | center(1000000000) }}",
        "{{ 'x' | indent(1000000000, true) }}",
        "{{ '%1000000000d' | format(1) }}",
        "{% for x in range(1000) %}{% for y in range(1000) %}xx{% endfor %}{% endfor %}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    ],
)
def test_what_a_template_raises_is_one_line_with_its_name(tmp_path: Path, text: str) -> None:
    with pytest.raises(UserError) as caught:
        rendered(tmp_path, text)
    assert str(caught.value).startswith(str(tmp_path / "image.j2"))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400 + len(str(tmp_path))


def test_a_template_in_another_encoding_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "image.j2").write_bytes(b"\xff\xfe{\0{\0")
    with pytest.raises(UserError, match=r"image.j2 is not UTF-8 text"):
        Templates(tmp_path, ["image.j2"])


@pytest.mark.parametrize(
    ("text", "used"),
    [
        ("{{ width }} x {{ box[0] }}", {"width", "box"}),
        ("{% for one in labels %}{{ one }} {{ name if width > 3 }}{% endfor %}", {"labels", "name", "width"}),
        ("{% set width = 3 %}{{ width }}{{ range(2) | join }}", set()),
        ("{{ missing }}", set()),
        ("{% include 'other.j2' %}", set(VALUES)),
        ("{% import 'other.j2' as other %}{{ other }}", set(VALUES)),
    ],
)
def test_values_that_a_template_names(tmp_path: Path, text: str, used: set[str]) -> None:
    (tmp_path / "other.j2").write_text("{{ name }}", encoding="utf-8")
    (tmp_path / "image.j2").write_text(text, encoding="utf-8")
    assert Templates(tmp_path, ["image.j2"]).values_used("image.j2", VALUES) == used
