"""The page that people judge on: what it shows and what not, and its keys in a browser."""

import base64
import csv
import datetime
import io
import json
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from pipelines.audit.commands import export, read_sheet
from pipelines.audit.sample import Item
from pipelines.captions.config import CaptionsConfig
from pipelines.config import load
from pipelines.errors import UserError
from pipelines.sources import Sources
from tests.pipelines.audit.small_audit import image, region
from tests.rows import with_digests

ATTACK = "<img src=x onerror=\"document.title='hacked'\"> & {{ 7 * 7 }} nodule on the left"


@pytest.fixture
def study(tmp_path):
    """Two regions and two captions of three images; of a fourth image the file is gone."""
    images = [image(n, view="frontal" if n == 2 else None, modality="radiograph") for n in range(4)]
    for one in images:
        file = tmp_path / "raw" / one.path
        file.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(1).integers(0, 99, (40, 60), dtype=np.uint8)
        Image.fromarray(pixels).save(file)
    images = with_digests(images, {"alpha": tmp_path / "raw"})
    (tmp_path / "raw" / images[3].path).unlink()
    outlined = [region(one) for one in images]
    items = {
        "regions": [Item(what="regions", image=images[n], region=outlined[n], text=None) for n in (0, 1, 3)],
        "captions": [
            Item(what="captions", image=images[1], region=outlined[1], text="round | nodule | upper"),
            Item(what="captions", image=images[2], region=None, text=ATTACK),
        ],
    }
    return items, Sources(roots={"alpha": tmp_path / "raw"}, max_pixels=10_000)


@pytest.fixture
def sheet(study, repository, tmp_path):
    items, sources = study
    export(items, 0, sources, load(CaptionsConfig, "captions", repository / "params.yaml"), tmp_path / "sheet")
    return tmp_path / "sheet"


class Parsed(HTMLParser):
    """The tags of a page with their attributes, and its words."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data


def test_the_page_shows_one_outline_and_the_text_and_nothing_that_biases(capsys, sheet):
    text = (sheet / "audit.html").read_text(encoding="utf-8")
    # Label and file, source, proposer, probability, modality, the source's folder.
    for secret in ("secret", "alpha", "saliency", "8125", "radiograph", "/raw"):
        assert secret not in text, secret
    page = Parsed(text)
    assert [attributes["d"] for tag, attributes in page.tags if tag == "path"] == ["M10 5L30 5L30 25L10 25Z"] * 3
    assert ATTACK in page.text
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(images) == 4
    for shown in images:
        data = base64.b64decode(shown["src"].removeprefix("data:image/jpeg;base64,"))
        assert Image.open(io.BytesIO(data)).size == (60, 40)
    policy = next(attributes["content"] for tag, attributes in page.tags if "http-equiv" in attributes)
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "unsafe" not in policy.partition("script-src")[2]
    assert "Left and right are the patient's" in page.text
    assert page.text.count("Left and right are") == 1  # of the one text that names a side
    assert "images that cannot be opened: " in capsys.readouterr().out


def test_page_and_csv_have_the_same_items_in_the_same_order(sheet):
    page = Parsed((sheet / "audit.html").read_text(encoding="utf-8"))
    shown = [(tag["data-item"], f"sha256:{tag['data-shown']}") for name, tag in page.tags if name == "article"]
    rows = list(csv.reader((sheet / "audit.csv").open(encoding="utf-8-sig", newline="")))
    assert shown == [(row[1], row[2]) for row in rows[1:]]
    assert [name.partition(":")[0] for name, _ in shown] == ["region", "region", "caption", "caption"]


def test_nothing_to_audit_is_one_line(repository, tmp_path, study):
    captions = load(CaptionsConfig, "captions", repository / "params.yaml")
    with pytest.raises(UserError, match="nothing to audit"):
        export({"regions": [], "captions": []}, 0, study[1], captions, tmp_path / "sheet")
    assert not (tmp_path / "sheet").exists()


def test_a_sheet_is_answered_by_keys_kept_over_a_reload_and_saved(page, beyond_loopback, sheet, study, tmp_path):
    address = (sheet / "audit.html").as_uri()
    faults = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text))
    page.goto(address)
    visible = page.locator("article:visible")
    assert visible.count() == 1
    page.keyboard.press("y")  # region 1; the next item follows
    assert "2 of 4" in visible.inner_text()
    page.keyboard.press("3")  # a reason without an answer is none
    page.keyboard.press("n")
    page.keyboard.press("3")
    assert visible.locator("[aria-pressed=true]").all_inner_texts() == ["no n", "3 far too large"]
    page.keyboard.press("o")
    assert not visible.locator("path").is_visible()
    page.keyboard.press("o")
    page.keyboard.press("ArrowRight")
    assert ATTACK in visible.inner_text()
    page.keyboard.press("u")
    page.keyboard.press("Backspace")
    page.keyboard.press("Enter")  # to the last, which has no answer either
    assert "round | nodule | upper" in visible.inner_text()
    page.keyboard.press("u")
    assert page.inner_text("#progress") == "3 of 4 answered"
    page.keyboard.press("s")
    assert "initials" in page.inner_text("#saved")
    page.keyboard.type("ab")
    page.keyboard.press("Tab")
    page.on("dialog", lambda dialog: dialog.accept())
    page.reload()
    assert page.inner_text("#progress") == "3 of 4 answered"
    assert "3 of 4" in visible.inner_text()  # the first without an answer
    with page.expect_download() as download:
        page.keyboard.press("s")
    saved = tmp_path / download.value.suggested_filename
    download.value.save_as(saved)
    assert saved.name == "audit_answers_AB.csv"
    assert "3 answers saved" in page.inner_text("#saved")

    items, _ = study
    answers = tmp_path / "audit.jsonl"
    # The page writes the day of the browser's clock.
    today = datetime.date.today()
    read_sheet(saved, items, {item.image.image_id for group in items.values() for item in group}, answers, today)
    shown = [tag["data-item"] for name, tag in Parsed((sheet / "audit.html").read_text()).tags if name == "article"]
    given = {one["item"]: (one["answer"], one["reason"], one["reviewer"]) for one in map(json.loads, answers.open())}
    assert given == {
        shown[0]: ("yes", None, "AB"),
        shown[1]: ("no", "too_large", "AB"),
        shown[3]: ("unsure", None, "AB"),
    }
    assert page.title() == "Audit"
    assert (faults, beyond_loopback) == ([], [])


def test_enter_goes_on_wherever_the_focus_was(page, sheet):
    page.goto((sheet / "audit.html").as_uri())
    visible = page.locator("article:visible")
    page.fill("#reviewer", "ab")
    page.keyboard.press("Tab")  # to the button that saves
    page.keyboard.press("n")
    page.keyboard.press("Enter")
    assert ("2 of 4" in visible.inner_text(), page.inner_text("#saved")) == (True, "1 not saved yet")
    page.focus("#reviewer")
    page.keyboard.press("Enter")
    page.keyboard.press("u")
    assert page.inner_text("#progress") == "2 of 4 answered"
    visible.get_by_role("button", name="no n").click()
    page.keyboard.press("Enter")
    assert page.inner_text("#progress") == "2 of 4 answered"


def test_answers_of_one_sample_are_not_taken_for_those_of_another(page, sheet, study, repository, tmp_path):
    page.goto((sheet / "audit.html").as_uri())
    page.keyboard.press("y")
    items, sources = study
    other = {**items, "captions": [replace(items["captions"][0], text="another text")]}
    export(other, 0, sources, load(CaptionsConfig, "captions", repository / "params.yaml"), sheet)
    page.on("dialog", lambda dialog: dialog.accept())
    page.goto((sheet / "audit.html").as_uri())
    assert page.inner_text("#progress") == "0 of 3 answered"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_cut_off_on_a_narrow_screen(page, sheet, scheme):
    page.set_viewport_size({"width": 500, "height": 900})
    page.emulate_media(color_scheme=scheme)
    page.goto((sheet / "audit.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") == 500
