"""The page of a rebuild on real image files: escaped, self-contained, before beside after."""

import base64
import io
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from models.verified import sha256_file
from pipelines.rebuild.compare import choose, compare
from pipelines.rebuild.examples import change_examples, word_diff
from pipelines.rebuild.page import Rebuild, write_page
from pipelines.rebuild.prompts import changes_since_commit, digests
from pipelines.records import REGIONS, SPLIT_IMAGES, CaptionRow, RegionRow, SplitImageRow
from pipelines.sources import Sources

ATTACK = "<script>alert('x')</script> & \"quoted\""
SHA = "0" * 64
ID = "0123456789abcdef"
RAN = Rebuild(ran=True, sent=3, reused=None, inputs=["prompts"], others=[], resumed=False)


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """One image of 60 x 40 pixels with a region with the role input, one with truth, and one that was rejected."""
    (tmp_path / "raw").mkdir()
    Image.fromarray(np.full((40, 60), 90, dtype=np.uint8)).save(tmp_path / "raw" / "a.png")
    image = SplitImageRow(
        image_id=ID,
        source="alpha",
        path="a.png",
        sha256=sha256_file(tmp_path / "raw" / "a.png"),
        pixel_sha256=SHA,
        perceptual_hash=SHA,
        width=60,
        height=40,
        modality="ct",
        split_conflict=False,
        rows=1,
        group=ID,
        split="test",
        leak=False,
    )
    SPLIT_IMAGES.write(tmp_path / "data/split/images.parquet", [image])
    boxes = [("input", "accepted", 10.0), ("truth", "accepted", 20.0), ("input", "rejected", 30.0)]
    regions = [
        RegionRow(
            region_id=f"{ID}-{n}",
            image_id=ID,
            source="alpha",
            n=n,
            role=role,
            proposer="saliency",
            x0=x,
            y0=5.0,
            x1=x + 8,
            y1=15.0,
            area=80,
            area_fraction=80 / 2400,
            score=0.5,
            certified=False,
            status=status,
            reason=None if status == "accepted" else "too_small",
        )
        for n, (role, status, x) in enumerate(boxes)
    ]
    REGIONS.write(tmp_path / "data/regions/regions.parquet", regions)
    return tmp_path


def captions(summary: str, adjective: str, prompt: str = "ab", more: bool = False) -> list[CaptionRow]:
    common: dict[str, Any] = {"source": "alpha", "status": "ok", "oracle": False, "captioner": "findings"}
    image = {**common, "image_id": ID, "item_id": ID, "kind": "image", "summary": summary}
    region = {**common, "image_id": ID, "item_id": f"{ID}-0", "kind": "region", "adjective": adjective}
    removed = {**common, "image_id": "f" * 16, "item_id": "f" * 16, "kind": "image"}
    return [
        CaptionRow(**image, prompt_sha256="ee" * 32),
        CaptionRow(**region, prompt_sha256=prompt * 32),
        *([CaptionRow(**removed, prompt_sha256="ee" * 32)] if more else []),
    ]


def written(
    project: Path, before: list[CaptionRow], after: list[CaptionRow], rebuild: Rebuild = RAN, count: int = 9
) -> str:
    sources = Sources(roots={"alpha": Path("raw")}, max_pixels=10_000)
    comparison = compare(before, after)
    examples = change_examples(choose(comparison.changes, count), before, after, project, sources)
    path = project / "data/rebuild/index.html"
    write_page(path, rebuild, comparison, digests(before, after), {f"{ATTACK}.txt": [f"+{ATTACK}"]}, examples)
    return path.read_text(encoding="utf-8")


def test_before_stands_beside_after_with_the_words_that_differ_marked(project: Path) -> None:
    before = captions(f"One {ATTACK} here.", "round")
    html = written(project, before, captions(f"Two {ATTACK} here.", "round"))
    assert "<script" not in html
    page = Page(html)
    assert f"summary One {ATTACK} here. Two {ATTACK} here." in page.text
    assert [text.partition("</mark>")[0] for text in html.split("<mark>")[1:]] == ["One", "Two"]
    assert f"{ATTACK}.txt +{ATTACK}" in page.text
    # An image's example shows the region that a method may see; nothing is drawn into the pixels.
    assert [path["class"] for path in page.named("path")] == ["accepted"]
    assert page.named("path")[0]["d"] == "M10 5L18 5L18 15L10 15Z"
    (shown,) = page.named("img")
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(str(shown["src"]).partition(",")[2]))))
    assert pixels.shape == (40, 60)
    assert set(np.unique(pixels)) <= {89, 90, 91}
    assert not {"script", "link", "iframe", "object", "embed"} & {tag for tag, _ in page.tags}
    assert "default-src 'none'" in html


def test_page_shows_counts_digests_and_warnings(project: Path) -> None:
    before, after = captions("A.", "round"), captions("A.", "oval", prompt="cd")
    rebuild = Rebuild(ran=True, sent=1, reused=1, inputs=["prompts", "x.py"], others=["x.py"], resumed=True)
    text = Page(written(project, before, after, rebuild)).text
    assert "1 sent to a model 1 reused from the result cache 1 changed 1 unchanged 0 added 0 removed" in text
    assert "alpha images 1 1 1 0 0 0 0 alpha regions 1 1 0 1 0 0 1 all 2 2 1 1 0 0 1" in text
    assert f"images findings {'ee' * 8} findings {'ee' * 8} the same" in text
    assert f"regions findings {'ab' * 8} findings {'cd' * 8} changed" in text
    assert "Not only the prompts: x.py changed as well" in text
    assert "an earlier rebuild that did not finish" in text
    assert f"alpha, region {ID}-0 before after adjective round oval" in text


def test_page_says_that_nothing_changed_and_nothing_was_counted(project: Path) -> None:
    same = captions("A.", "round")
    rebuild = Rebuild(ran=False, sent=None, reused=None, inputs=[], others=[], resumed=False)
    text = Page(written(project, same, same, rebuild)).text
    assert "Nothing changed: all 2 captions are the same." in text
    assert text.count("not counted") == 2
    assert "did not run: DVC had its outputs" in text
    assert "No input of the stage captions changed." in text


def test_item_whose_image_was_removed_has_texts_and_no_image(project: Path) -> None:
    page = Page(written(project, captions("A.", "round", more=True), captions("A.", "round")))
    assert "The image is no longer in the dataset." in page.text
    assert "status ok none" in page.text
    assert page.named("img") == []


def test_image_that_does_not_open_is_replaced_by_the_reason(project: Path) -> None:
    (project / "raw/a.png").write_bytes(b"no image")
    page = Page(written(project, captions("A.", "round"), captions("B.", "round")))
    assert "not shown:" in page.text
    assert "summary A. B." in page.text


def test_word_diff_marks_words_and_loses_nothing() -> None:
    before, after = "one two  three\nfour", "one 2  three\nfour five"
    old, new = word_diff(before, after)
    assert ("".join(text for _, text in old), "".join(text for _, text in new)) == (before, after)
    assert [text.strip() for differs, text in old if differs] == ["two"]
    assert [text.strip() for differs, text in new if differs] == ["2", "five"]
    assert word_diff("", "") == ([], [])


def test_prompt_files_are_compared_with_the_last_commit(project: Path) -> None:
    def git(*words: str) -> None:
        author = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        subprocess.run(["git", *author, *words], cwd=project, check=True, capture_output=True)

    prompts = project / "prompts"
    prompts.mkdir()
    for name in ("same.txt", "changed.txt", "deleted.txt"):
        (prompts / name).write_text("old\n")
    git("init")
    assert changes_since_commit(project, Path("prompts")) is None
    git("add", "prompts")
    git("commit", "-m", "first")
    assert changes_since_commit(project, Path("prompts")) == {}
    (prompts / "changed.txt").write_text("new\n")
    (prompts / "deleted.txt").unlink()
    (prompts / "added.txt").write_text("more\n")
    diffs = changes_since_commit(project, Path("prompts"))
    assert diffs is not None
    assert {name: lines[3:] for name, lines in diffs.items()} == {
        "added.txt": ["+more"],
        "changed.txt": ["-old", "+new"],
        "deleted.txt": ["-old"],
    }
    assert diffs == changes_since_commit(project, prompts)
