"""The page's script, run by Streamlit's own harness: what a person sees after each change."""

import io
from collections.abc import Callable

import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

from models.prediction import Predictor
from pipelines.try_model.about import About
from pipelines.try_model.model import TriedModel
from pipelines.try_model.page import NO_DEVICE
from pipelines.try_model.server import PAGE, Tried, show
from tests.pipelines.try_model.conftest import PROMPTS, STUDY

ABOUT = About(
    name="study, version 3",
    origin=["clip, trained on *toys*.", "Registered on 2026-11-28."],
    scores={"grounding": "pointing 0.5, chance 0.1"},
)
HOSTILE = "**b** <b>x</b> :smile: $x$ :red[y] [l](http://192.0.2.1) `c` # a_b_"


def png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def visit(predictors: dict[str, Predictor]) -> Callable[[str], AppTest]:
    """A person's fresh page of a method."""

    def open_page(method: str) -> AppTest:
        show(Tried(model=TriedModel(predictors[method], STUDY, PROMPTS), about=ABOUT))
        return AppTest.from_file(str(PAGE), default_timeout=30).run()

    return open_page


def ask(person: AppTest, sentence: str) -> None:
    person.text_input(key="typed").input(sentence)
    person.button[0].click().run()


def sentences(person: AppTest) -> dict[str, str]:
    """Heading -> the sentence under it."""
    texts = [text.value for text in person.text[1:]]
    return dict(
        zip([heading.value for heading in person.subheader if heading.value in ("Now", "Before")], texts, strict=False)
    )


def cells(person: AppTest, table: int) -> list[list[str]]:
    return person.table[table].value.to_numpy().tolist()


def test_the_map_of_a_changed_sentence_stands_beside_the_one_before(
    visit: Callable[[str], AppTest], scan: Image.Image
) -> None:
    person = visit("clip")
    assert person.warning[0].value == NO_DEVICE
    assert person.text[0].value == "study, version 3: clip, trained on *toys*. Registered on 2026-11-28."
    assert not person.image
    person.file_uploader(key="upload").upload("scan.png", png(scan)).run()
    assert len(person.image) == 1, "the image alone"
    ask(person, "red left")
    assert sentences(person) == {"Now": "red left"}
    ask(person, "blue upper")
    assert sentences(person) == {"Now": "blue upper", "Before": "red left"}
    assert len(person.image) == 2
    ask(person, "blue upper")
    assert sentences(person) == {"Now": "blue upper", "Before": "red left"}, "an unchanged sentence changes nothing"
    ask(person, "green")
    assert sentences(person) == {"Now": "green", "Before": "blue upper"}
    assert not person.error
    assert not person.exception
    other = scan.transpose(Image.Transpose.ROTATE_180)
    person.file_uploader(key="upload").upload("other.png", png(other)).run()
    assert sentences(person) == {"Now": "green"}, "of another image, there is none before"


def test_texts_are_ranked_and_it_is_said_which(visit: Callable[[str], AppTest], scan: Image.Image) -> None:
    person = visit("clip")
    person.file_uploader(key="upload").upload("scan.png", png(scan)).run()
    assert {row[1] for row in cells(person, 1)} == set(STUDY.captions)
    assert {row[1] for row in cells(person, 2)} == set(STUDY.labels)
    assert "the 3 captions of this study\\'s training images" in person.caption[0].value
    scores = [float(row[0].replace("\\", "")) for row in cells(person, 1)]
    assert scores == sorted(scores, reverse=True)
    person.text_area(key="texts").input("red\nblue\n").run()
    assert {row[1] for row in cells(person, 1)} == {"red", "blue"}
    assert "the 2 texts that you typed" in person.caption[0].value


def test_two_people_have_a_map_before_of_their_own(visit: Callable[[str], AppTest], scan: Image.Image) -> None:
    one, other = visit("clip"), visit("clip")
    for person in (one, other):
        person.file_uploader(key="upload").upload("scan.png", png(scan)).run()
    ask(one, "red")
    ask(other, "blue")
    ask(one, "green")
    assert sentences(one) == {"Now": "green", "Before": "red"}
    assert sentences(other) == {"Now": "blue"}


@pytest.mark.parametrize("data", [b"no image", b""], ids=["text", "empty"])
def test_a_file_that_is_no_image_is_one_line_and_the_one_before_is_gone(
    visit: Callable[[str], AppTest], scan: Image.Image, data: bytes
) -> None:
    person = visit("clip")
    person.file_uploader(key="upload").upload("scan.png", png(scan)).run()
    person.file_uploader(key="upload").upload("scan.png", data).run()
    (line,) = person.error
    assert line.value.endswith("Choose another one\\.")
    assert not person.image
    assert not person.exception


def test_an_empty_sentence_is_one_line_and_the_map_stays(visit: Callable[[str], AppTest], scan: Image.Image) -> None:
    person = visit("clip")
    person.file_uploader(key="upload").upload("scan.png", png(scan)).run()
    ask(person, "red")
    ask(person, "  ")
    (line,) = person.error
    assert line.value.startswith("The sentence is empty")
    assert sentences(person) == {"Now": "red"}


def test_texts_are_shown_as_they_are(visit: Callable[[str], AppTest], scan: Image.Image) -> None:
    person = visit("clip")
    person.file_uploader(key="upload").upload("scan.png", png(scan)).run()
    ask(person, HOSTILE)
    assert sentences(person) == {"Now": HOSTILE}, "st.text knows no markup"
    person.text_area(key="texts").input(HOSTILE).run()
    ((_, cell),) = cells(person, 1)
    assert cell == (
        r"\*\*b\*\* \<b\>x\<\/b\> \:smile\: \$x\$ \:red\[y\] \[l\]\(http\:\/\/192\.0\.2\.1\) \`c\` \# a\_b\_"
    ), "Markdown in which each sign stands for itself"


def test_a_model_that_reads_no_text_asks_for_none(visit: Callable[[str], AppTest], scan: Image.Image) -> None:
    person = visit("unet")
    assert [line.value.partition(" reads")[0].partition(" does")[0] for line in person.info] == ["UNet", "UNet"]
    assert not person.text_input
    assert not person.text_area
    person.file_uploader(key="upload").upload("scan.png", png(scan)).run()
    assert len(person.image) == 1
    assert not person.subheader
    assert not person.exception


def test_a_volume_asks_for_a_slice(visit: Callable[[str], AppTest], scan: Image.Image) -> None:
    stream = io.BytesIO()
    scan.save(stream, "TIFF", save_all=True, append_images=[scan.rotate(180), scan.rotate(90)])
    person = visit("clip")
    person.file_uploader(key="upload").upload("pages.tif", stream.getvalue()).run()
    assert person.number_input(key="slice").value == 1
    before = cells(person, 1)
    person.number_input(key="slice").set_value(0).run()
    assert cells(person, 1) != before
    assert not person.error
