"""The report: its page is parsed as HTML, its table as CSV, its card as YAML and text."""

import base64
import io
import json
import re
import subprocess
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from models.geometry import box_of_mask
from models.verified import sha256_file
from pipelines.files import read_summary, write_summary
from pipelines.records import CAPTIONS, NEAR_DUPLICATES, REGIONS, REJECTED, SPLIT_IMAGES, RegionRow, RejectedRow
from pipelines.report.counts import leak_counts
from pipelines.report.curves import loss_curve
from pipelines.report.inputs import Tables
from pipelines.report.page_images import mask_rings, region_rings, svg_path
from pipelines.report.pages import flat
from pipelines.report.provenance import git_state
from tests.pipelines.report.conftest import ATTACK
from tests.rows import by_image

FILES = ("index.html", "rejected.html", "dataset_card.md", "comparison.csv", "verdict.json")
SOURCES = ("alpha", "beta")


class Page(HTMLParser):
    """The page's tags with their attributes, and its text without markup."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.words: list[str] = []
        self.feed(text)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data)

    def named(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.mark.parametrize("name", ["index.html", "rejected.html"])
def test_pages_need_no_network_and_run_no_script(workspace, name):
    workspace.train("clip")
    workspace.run()
    page = Page(workspace.read(name))
    assert not {"script", "link", "iframe", "object", "embed"} & {tag for tag, _ in page.tags}
    assert all(attributes["src"].startswith("data:image/") for attributes in page.named("img"))
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    links = {attributes["href"] for attributes in page.named("a")}
    assert all(link.startswith("#") or (workspace.root / "data" / "report" / link).is_file() for link in links)
    assert {"index.html": "rejected.html", "rejected.html": "index.html"}[name] in links
    anchors = {attributes.get("id") for _, attributes in page.tags}
    assert {link[1:] for link in links if link.startswith("#")} <= anchors
    assert "url(" not in workspace.read(name)


def test_the_report_says_where_the_list_of_studies_is_whether_or_not_there_is_one(workspace):
    workspace.run()
    before = workspace.read("index.html")
    (path,) = re.findall(r"<code>([^<]*studies[^<]*\.html)</code>", before)
    studies = workspace.root / "data" / "studies" / "index.html"
    assert (workspace.root / "data" / "report" / path).resolve() == studies.resolve()
    studies.parent.mkdir()
    studies.write_text("here")
    workspace.run()
    assert workspace.read("index.html") == before


def test_texts_of_the_data_are_shown_as_they_are_and_never_as_markup(workspace):
    workspace.run()
    for name, text in (("index.html", "Report 0: "), ("rejected.html", "alpha 9 ")):
        html = workspace.read(name)
        assert "<script" not in html
        assert f"{text}<script>alert('x')</script> & \"quoted\"" in Page(html).text
    assert "<script" not in workspace.read("dataset_card.md")


def test_no_page_names_a_raw_file(workspace):
    rejected = workspace.root / "data" / "ingest" / "alpha" / "rejected.parquet"
    rows = REJECTED.read(rejected)
    unlisted = RejectedRow(
        source="alpha", row="SURNAME-A/b.png", path="SURNAME-A/b.png", reason="unlisted", detail="no"
    )
    REJECTED.write(rejected, [*rows, unlisted])
    (workspace.root / "raw" / "beta" / workspace.images[1].path).unlink()
    workspace.run()
    names = {row.path for row in (*workspace.images, *rows)} | {"SURNAME-A", "b.png", "metadata.csv"}
    for page in FILES:
        text = workspace.read(page)
        assert [name for name in sorted(names) if name in text] == []
    assert "alpha – no" in Page(workspace.read("rejected.html")).text


def test_rejected_and_failed_items_are_grouped_by_stage_and_reason_with_examples(workspace):
    workspace.run()
    html = workspace.read("rejected.html")
    page = Page(html)
    # The order of the graph; 16 regions of 16 images, and the two captions of the fixture.
    assert "ingest rejected truncated 1 alpha 1" in page.text
    assert "regions rejected too_small 16 alpha 8 beta 8" in page.text
    assert "captions failed http_500 1 beta 1 captions rejected wrong_schema 1 alpha 1" in page.text
    assert "too_small rejected, 16, 2 shown" in page.text
    assert len(page.named("img")) == len(page.named("svg")) == 4
    assert [path["class"] for path in page.named("path")] == ["rejected", "rejected", "accepted", "accepted"]
    first = {source: min(row.image_id for row in workspace.images if row.source == source) for source in SOURCES}
    for source in SOURCES:
        assert f"{source}, {first[source]}-2" in " ".join(page.text.replace(" ,", ",").split())
    answer = re.search(r"<pre>(.*?)</pre>", html, re.DOTALL)[1]
    raw = f"{ATTACK}\n" + "z" * 3000
    assert unescape(answer) == f"{raw[:2000]}… ({len(raw) - 2000:,} characters more)"
    assert "3 answers of the model" in page.text


def test_page_says_that_nothing_was_rejected(workspace):
    data = workspace.root / "data"
    regions, captions = data / "regions" / "regions.parquet", data / "captions" / "captions.parquet"
    REGIONS.write(regions, [row for row in REGIONS.read(regions) if row.status == "accepted"])
    CAPTIONS.write(captions, [row for row in CAPTIONS.read(captions) if row.status not in ("rejected", "failed")])
    REJECTED.write(data / "ingest" / "alpha" / "rejected.parquet", [])
    workspace.run()
    assert "Nothing was rejected, and nothing failed." in Page(workspace.read("rejected.html")).text


def test_scores_certified_review_contradiction_and_risk_control_are_shown(workspace):
    workspace.run()
    page = Page(workspace.read("index.html"))
    scores = (
        "score 0.50, mask quality 0.91, stability 0.82, box agreement 0.73, proposers' agreement 0.64, "
        "probability 0.75 , self-training round 1, 8.3 % of the image"
    )
    # The gallery's 8 images have one accepted region with the role input and one with truth each.
    assert page.text.count(scores) == 16
    shown = [image["alt"].split()[-1] for image in page.named("img")]
    certified = [row.image_id for row in workspace.images if row.split == "test" and row.image_id in shown]
    # The legend of the colours says it once more.
    chips = re.findall(
        r'<span class="chip (\w+)"[^>]*>(certified|no guarantee|truth)</span>', workspace.read("index.html")
    )
    assert chips.count(("good", "certified")) == len(certified) == 2
    # A reviewer accepted that of one image.
    assert chips.count(("warn", "no guarantee")) == 5
    assert chips.count(("plain", "truth")) == 8
    assert page.text.count("contradiction: contradicts_side") == 1
    # 32 captions of regions: one rejected, one failed, and of the 30 described one contradicts.
    assert "findings regions cdcdcdcdcdcd 32 30 rejected 1 failed 1 contradicts_side 1 3.3 % few_words 1" in page.text
    # A line for each figure, a column for each group.
    assert f"reason {ATTACK} none" in page.text
    assert "threshold none 0.625" in page.text
    assert "test precision_low 0.5 0.5" in page.text


def test_the_page_opens_with_the_findings_of_the_verdict(workspace):
    workspace.train("clip")
    workspace.run()
    findings = json.loads(workspace.read("verdict.json"))["findings"]
    text = Page(workspace.read("index.html")).text
    verdict = text.partition("Verdict: ")[2].partition(" Scores grounding")[0]
    assert [one["level"] for one in findings] == sorted([one["level"] for one in findings], reverse=True)
    for one in findings:
        assert " ".join(f"{one['topic']} {one['text']}".split()) in verdict
        assert one["action"] is None or f"To do: {one['action']}" in verdict
    told = {one["text"] for one in findings if one["level"] == "wrong"}
    # 8 of 11 rows of alpha, of which 2 failed; cnr_signed 0.38 to 0.45 lies below the centre heatmap's 0.5.
    rows = "alpha: 8 of 11 rows became images (ct 8); 1 rejected: truncated 1; 2 failed: read error 2"
    assert any(text.startswith(rows) for text in told)
    assert any(text.startswith("clip grounds phrases worse than the centre heatmap (cnr_signed 0.41") for text in told)
    counts = {level: sum(one["level"] == level for one in findings) for level in ("wrong", "warning", "ok")}
    assert verdict.startswith(f"{counts['wrong']} wrong , {counts['warning']} warnings, {counts['ok']} fine")
    with Image.open(workspace.root / "data/report/gallery.png") as sheet:
        assert sheet.format == "PNG"


def test_stage_counts_reasons_and_the_sum_are_shown(workspace):
    workspace.run()
    page = Page(workspace.read("index.html"))
    assert "ingest-alpha 11 8 1 2 0 yes" in page.text
    assert "rejected: truncated 1" in page.text
    assert "failed: read_error 2" in page.text
    assert "available 4,321" in page.text
    assert "inputs = ok + rejected + failed + duplicates holds for all 2 stages" in page.text


def test_what_ingest_warns_of_is_shown(workspace):
    path = workspace.root / "data" / "summaries" / "ingest-alpha.json"
    write_summary(path, {**read_summary(path), "warnings": ["no row has text", "columns not used: <b>"]})
    workspace.run()
    page = Page(workspace.read("index.html"))
    assert "alpha: no row has text" in page.text
    assert "alpha: columns not used: <b>" in page.text  # as text, not as HTML


def test_counts_that_do_not_add_up_are_reported(workspace):
    path = workspace.root / "data" / "summaries" / "ingest-alpha.json"
    write_summary(path, {**read_summary(path), "ok": 7})
    workspace.run()
    assert "does NOT hold for ingest-alpha" in Page(workspace.read("index.html")).text


def test_counts_of_sources_and_splits(workspace):
    workspace.run()
    text = Page(workspace.read("index.html")).text
    # 8 images: 4 train, 2 validation, 2 test; 8 groups; no leak, no conflict; one rejected row; one question.
    assert "alpha table CC0 1.0 8 4 2 2 8 0 0 ct 8 truncated 1 1" in text
    assert "beta table unknown 8 4 2 2 8 0 0 ct 8 none 0" in text
    assert "alpha and beta 1; 1 of them across two sources" in text
    # Input regions: 8 accepted, 2 of them certified (test images) and one reviewed, 8 rejected; truth 8; images: 4 ok,
    # 2 without finding, 2 unannotated; one oracle in alpha.
    assert "alpha 8 2 1 8 0 8 0 0 4 2 2 0 0 1" in text
    assert "beta 8 2 0 8 0 8 0 0 4 2 2 0 0 0" in text


def test_what_became_of_text_in_pixels_is_stated_of_each_source(workspace):
    workspace.run()
    assert "- alpha: nobody looked.\n- beta: nobody looked.\n" in workspace.read("dataset_card.md")
    assert "alpha: nobody looked. beta: nobody looked." in Page(workspace.read("index.html")).text
    params = yaml.safe_load((workspace.root / "params.yaml").read_text())
    for source, policy in (("alpha", "mask"), ("beta", "flag")):
        params["ingest"]["sources"][source]["burned_in"] = policy
    (workspace.root / "params.yaml").write_text(yaml.safe_dump(params))
    alpha, beta = ([row for row in workspace.images if row.source == name] for name in ("alpha", "beta"))
    alpha[0] = replace(alpha[0], burned_in="hidden", hidden=((0, 0, 2, 2),))
    beta[:3] = [replace(row, burned_in=word) for row, word in zip(beta, ("found", "found", "stated"), strict=False)]
    SPLIT_IMAGES.write(workspace.root / "data/split/images.parquet", by_image([*alpha, *beta]))
    workspace.run()
    masked = "alpha: looked for and painted black in 1 images; 0 rows, whose images still had text, were rejected."
    flagged = "beta: looked for and kept; found in 2 images. Of 1 images the DICOM header states it."
    assert f"- {masked}\n- {flagged}\n" in workspace.read("dataset_card.md")
    assert f"{masked} {flagged}" in Page(workspace.read("index.html")).text


def test_images_that_nothing_ties_to_a_patient_are_shown(workspace):
    alpha = [row for row in workspace.images if row.source == "alpha"]
    for changes, left in ((("patient", "p"), 7), (("study", "s"), 7), (("other_reports", ("Another.",)), 8)):
        changed = replace(alpha[0], **dict([changes]))
        SPLIT_IMAGES.write(workspace.root / "data/split/images.parquet", by_image([changed, *workspace.images[1:]]))
        workspace.run()
        page, card = Page(workspace.read("index.html")).text, workspace.read("dataset_card.md")
        assert f"Of {left} images of alpha nobody says whose they are" in page
        assert f"Of {left} images of alpha nobody says whose they are" in card
        assert ("1 images of alpha have more than one report" in page) == (changes[0] == "other_reports")
        assert ("1 images of alpha have more than one report" in card) == (changes[0] == "other_reports")
    same_file = [replace(row, path="v.nii", frame=n) for n, row in enumerate(alpha)]
    rest = [row for row in workspace.images if row.source != "alpha"]
    SPLIT_IMAGES.write(workspace.root / "data/split/images.parquet", by_image([*same_file, *rest]))
    workspace.run()
    assert "images of alpha nobody says" not in Page(workspace.read("index.html")).text


def test_leak_that_params_do_not_allow_is_counted(workspace):
    rows = [replace(row, group="same") if row.split != "validation" else row for row in workspace.images]
    SPLIT_IMAGES.write(workspace.root / "data" / "split" / "images.parquet", by_image(rows))
    workspace.run()
    assert "1 stand in more than one split, of which 1 not allowed" in Page(workspace.read("index.html")).text


def test_test_images_with_a_near_duplicate_among_the_training_images_are_counted(workspace):
    # The one pair of near-duplicates is of the first two images.
    first, second = (row.image_id for row in workspace.images[:2])
    pairs = NEAR_DUPLICATES.read(workspace.root / "data" / "split" / "near_duplicates.parquet")
    for splits, expected in ((("test", "test"), 0), (("train", "validation"), 0), (("test", "train"), 1)):
        changed = dict(zip((first, second), splits, strict=True))
        rows = [replace(row, split=changed.get(row.image_id, row.split)) for row in workspace.images]
        tables = Tables(images=rows, questions=[], near_duplicates=pairs, regions=[], captions=[], rejected=[])
        assert leak_counts(tables).near_training == expected
    SPLIT_IMAGES.write(workspace.root / "data" / "split" / "images.parquet", by_image(rows))
    workspace.run()
    page = Page(workspace.read("index.html")).text
    assert "1 test images have a near-duplicate among the training images" in page


def test_outlines_lie_over_the_image_and_leave_its_pixels(workspace):
    workspace.run()
    page = Page(workspace.read("index.html"))
    uris = [attributes["src"] for attributes in page.named("img") if "image/jpeg" in attributes["src"]]
    assert len(uris) == 8
    shown = [np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))) for uri in uris]
    raw = {path: np.asarray(Image.open(path)).astype(int) for path in (workspace.root / "raw").rglob("*.png")}
    for image in shown:
        assert image.shape == (40, 60)
        # The image is one of the raw ones, but for JPEG's noise; an outline would add values far from 0..98.
        assert min(np.abs(image - pixels).mean() for pixels in raw.values()) < 5
    paths = page.named("path")
    # Of the first image a reviewer gave the region, of the test split they are certified.
    kinds = [path["class"] for path in paths]
    assert {tuple(kinds[n : n + 3]) for n in range(0, len(kinds), 3)} == {
        ("given", "truth", "rejected"),
        ("accepted", "truth", "rejected"),
        ("certified", "truth", "rejected"),
    }
    assert all(svg["viewbox"] == "0 0 60 40" for svg in page.named("svg"))
    assert paths[1]["d"] == "M30 10L50 10L50 20L30 20Z"


def test_unannotated_images_and_rejected_regions_are_shown_as_such(workspace):
    workspace.run()
    page = Page(workspace.read("index.html"))
    assert "unannotated" in page.text
    assert "The source does not say whether there is a finding" in page.text
    # Once in the table of the stages, and in 8 cards.
    assert page.text.count("rejected: too_small") == 9


def test_a_long_gallery_and_many_reasons_are_folded(workspace):
    reasons = {f"reason_{n}": 1 for n in range(7)}
    path = workspace.root / "data" / "summaries" / "ingest-alpha.json"
    write_summary(path, {**read_summary(path), "inputs": 17, "rejected": 7, "reasons": {"rejected": reasons}})
    workspace.run(gallery=6)
    html = workspace.read("index.html")
    assert "<details><summary>7 kinds, 7</summary>" in html
    html = html.partition('<section id="gallery">')[2].partition("</section>")[0]
    for source in SOURCES:
        shown, _, folded = html.partition(f"<h3>{source}</h3>")[2].partition(f"<summary>2 more of {source}</summary>")
        assert shown.count("<figure") == 4
        assert folded.partition("</section>")[0].partition("<h3>")[0].count("<figure") == 2


def test_oracle_captions_are_marked(workspace):
    workspace.run()
    chips = re.findall(r'<span class="chip warn"[^>]*>oracle</span>', workspace.read("index.html"))
    # One image's own caption, and of each of the 8 images shown that of its region with the role truth.
    assert len(chips) == 9


def test_page_says_that_no_method_was_trained_or_evaluated(workspace):
    workspace.run()
    text = Page(workspace.read("index.html")).text
    assert "No method has been trained" in text
    assert "No method has been evaluated" in text
    assert workspace.read("comparison.csv") == "method,task,metric,value,low,high,chance,baselines,items,pool\n"


def test_comparison_has_chance_interval_pool_and_the_papers_score(workspace):
    workspace.train("clip", map_note="the map is its own")
    workspace.train("regionmed_clip")
    workspace.run()
    text = Page(workspace.read("index.html")).text
    score = "31.2 % best 25.0 % to 40.0 %, chance 0.5 %"
    assert f"t2i_recall@1 higher is better {score} {score} 49.7 %" in text
    rank = "12.5 on so few items that there is no interval no interval, chance 105"
    assert f"i2t_median_rank lower is better {rank} {rank} –" in text
    ratio = "0.4125 best worse than the centre heatmap 0.38 to 0.45, chance 0, centre heatmap 0.5, corner heatmap 0.25"
    assert f"cnr_signed higher is better {ratio} {ratio} pointing higher is better 31.2 %" in text
    assert "cnr_signed Contrast-to-noise ratio. pointing The task does not define it." in text
    assert "150 items, left out: no_truth_region 50" in text
    assert "clip: the map is its own intervals resample phrases regionmed_clip: the map is Grad-CAM" in text
    assert "200 items, pool 210, left out: oracle 40 200 items, pool 210, left out: oracle 40" in text
    assert "skipped: no test image has labels" in text
    assert "What differs from the paper" in text
    assert "1,234,567 parameters" in text
    table = pd.read_csv(workspace.root / "data" / "report" / "comparison.csv")
    assert len(table) == 8
    grounding = table[table["metric"] == "cnr_signed"]["baselines"]
    assert set(grounding) == {"centre heatmap 0.5; corner heatmap 0.25"}
    assert table.loc[0].drop("baselines").to_dict() == {
        "method": "clip",
        "task": "retrieval",
        "metric": "t2i_recall@1",
        "value": 0.3125,
        "low": 0.25,
        "high": 0.4,
        "chance": 0.005,
        "items": 200,
        "pool": 210,
    }


def test_segmentation_has_its_items_sources_and_costs(workspace):
    workspace.segment("unet")
    workspace.train("clip")
    workspace.run()
    text = Page(workspace.read("index.html")).text
    score = "62.5 % 50.0 % to 75.0 %, chance 25.0 %"
    higher = "higher is better"
    assert "clip unet test items absent: not evaluated on this task 30 items, left out: no_target 4" in text
    assert f"own/dice_per_image {higher} – {score} laterality/suppression {higher} – {score}" in text
    assert "macs – 1,234,567 flops – 2,469,134" in text
    assert "latency_cpu_ms – 12.25" in text
    assert "unet beta empty/iou_pooled 62.5 % 50.0 % to 75.0 % 25.0 % 6 –" in text
    table = pd.read_csv(workspace.root / "data" / "report" / "comparison.csv")
    items = table[table["task"] == "segmentation"].set_index("metric")["items"]
    assert items.to_dict() == {"own/dice_per_image": 20, "laterality/suppression": 5}


def test_losses_on_the_validation_split_are_points_of_the_curve(workspace):
    workspace.train("clip")
    workspace.run()
    text = Page(workspace.read("index.html")).text
    assert "Loss 4 at step 0, 1.75 at step 9; on validation images 3.75 at step 2, 2.25 at step 8." in text
    terms = {"report": 1.0, "region": 2.0}
    steps = [{"step": n, "phase": "a" if n < 4 else "b", "loss": 3.0, "terms": terms, "lr": 0.1} for n in range(8)]
    plots = [
        loss_curve({"steps": steps, "validation": points}).decode()
        for points in ([], steps[3::4], [{**steps[3], "terms": {"report": 1.0}}, steps[7]])
    ]
    marks = [plot.count("<use ") for plot in plots]
    # Two points of each of three lines, and one in the legend; a term that a phase lacks has none.
    assert marks[1] - marks[0] == 2 * 3 + 1
    assert marks[2] - marks[0] == 2 * 3
    assert "validation" in plots[1]
    assert "validation" not in plots[0]


def test_a_dollar_sign_in_the_name_of_a_phase_or_a_term_begins_no_formula() -> None:
    phase, term = r"a $\x_$ b", r"$c_\d$"
    steps = [{"step": n, "phase": phase, "loss": 3.0, "terms": {term: 1.0, "e": 2.0}, "lr": 0.1} for n in range(2)]
    plot = loss_curve({"steps": steps, "validation": []}).decode()
    assert phase in plot
    assert term in plot


def test_the_epoch_that_validation_chose_is_told_and_marked(workspace) -> None:
    workspace.train("clip")
    name = "checkpoints/clip/curve.json"
    best = {"phase": "joint", "epoch": 3, "step": 2, "by": "dice", "value": 0.71234}
    curve = json.loads((workspace.root / "data" / name).read_text())
    unmarked = loss_curve(curve).decode()
    curve |= {"best_epoch": best, "stopped_early": {"joint": 5}}
    workspace.write(name, curve)
    assert loss_curve(curve).decode().count("checkpoint") == unmarked.count("checkpoint") + 1
    workspace.run()
    text = Page(workspace.read("index.html")).text
    assert "The checkpoint is of epoch 3 of phase joint (step 2, the vertical line)" in text
    assert "the best by dice on validation images: 0.7123." in text
    assert "Phase joint ended early, after 5 epochs." in text


def test_beside_the_papers_setting_stand_the_sources_and_images_that_the_method_learned_from(workspace):
    workspace.train("regionmed_clip")
    workspace.run()
    assert "alpha, beta; zero-shot" in Page(workspace.read("index.html")).text
    name = "checkpoints/regionmed_clip/curve.json"
    curve = json.loads((workspace.root / "data" / name).read_text())
    workspace.write(name, curve | {"sources": ["beta"], "samples": 5})
    workspace.run()
    text = Page(workspace.read("index.html")).text
    assert "data beta; zero-shot" in text
    assert "scale 5 training images" in text


def test_methods_other_than_the_papers_have_no_score_of_the_paper_beside_them(workspace):
    workspace.train("clip")
    workspace.run()
    text = Page(workspace.read("index.html")).text
    assert "49.7" not in text
    assert "RegionMed-CLIP" not in text


def test_method_that_was_trained_but_not_evaluated_is_named(workspace):
    workspace.train("clip")
    (workspace.root / "data" / "evaluation" / "clip" / "metrics.json").unlink()
    workspace.run()
    assert "clip was trained but not evaluated" in Page(workspace.read("index.html")).text


def test_provenance_has_digests_and_git_state(workspace):
    workspace.run()
    text = Page(workspace.read("index.html")).text
    assert sha256_file(workspace.root / "data" / "regions" / "regions.parquet") in text
    assert sha256_file(workspace.root / "params.yaml") in text
    assert "not in a git repository with a commit" in text
    assert "cd" * 32 in text


def test_image_that_does_not_open_is_counted_as_failed_and_shown_with_its_reason(workspace):
    for path in (workspace.root / "raw" / "beta").iterdir():
        path.write_bytes(b"no image")
    summary = workspace.run()
    assert (summary["inputs"], summary["ok"], summary["failed"]) == (12, 6, 6)
    assert Page(workspace.read("index.html")).text.count("not shown:") == 4
    # Of the two examples of too_small one is of beta, and so is the failed caption.
    assert Page(workspace.read("rejected.html")).text.count("not shown:") == 2


def test_same_inputs_give_the_same_files(workspace):
    workspace.train("clip")
    workspace.run()
    before = [workspace.read(name) for name in FILES]
    workspace.run()
    assert before == [workspace.read(name) for name in FILES]


def test_dataset_card_has_licence_splits_and_counts(workspace):
    workspace.run()
    _, head, body = workspace.read("dataset_card.md").split("---\n", 2)
    values = yaml.safe_load(head)
    assert values["license"] == "unknown"
    assert values["size_categories"] == ["n<1K"]
    assert values["dataset_info"]["splits"] == [
        {"name": "train", "num_examples": 8},
        {"name": "validation", "num_examples": 4},
        {"name": "test", "num_examples": 4},
    ]
    assert "| alpha | table | CC0 1.0 | 8 | 4 | 2 | 2 | 1 |" in body
    assert "| beta | table | unknown | 8 | 4 | 2 | 2 | 0 |" in body
    assert f"| findings | images | 16 | 0 | `{'cd' * 32}` |" in body
    assert f"| findings | regions | 32 | 1 | `{'cd' * 32}` |" in body
    assert "| alpha | 8 | 2 | 8 | 8 | 4 | 2 | 2 | 0 | 0 | 1 |" in body
    assert "  - target_precision: 0.7\n  - test:\n" in body


def test_outline_of_a_rectangle_encloses_its_pixels():
    mask = np.zeros((20, 30), dtype=bool)
    mask[4:9, 10:25] = True
    numbers = np.array([float(value) for value in re.findall(r"[\d.]+", svg_path(mask_rings(mask)))]).reshape(-1, 2)
    x0, y0, x1, y1 = box_of_mask(mask)
    assert numbers.min(axis=0).tolist() == [x0, y0]
    assert numbers.max(axis=0).tolist() == [x1, y1]


def test_outline_closes_at_the_border_and_keeps_holes():
    mask = np.ones((20, 20), dtype=bool)
    mask[8:12, 8:12] = False
    path = svg_path(mask_rings(mask))
    assert path.count("M") == path.count("Z") == 2
    numbers = [float(value) for value in re.findall(r"-?[\d.]+", path)]
    assert (min(numbers), max(numbers)) == (0, 20)


def test_outline_of_a_region_without_mask_is_its_box():
    region = RegionRow(
        region_id=f"{'0' * 16}-0",
        image_id="0" * 16,
        source="alpha",
        n=0,
        role="input",
        proposer="saliency",
        x0=1.5,
        y0=2.0,
        x1=8.0,
        y1=9.25,
        area=47,
        area_fraction=0.47,
        score=1.0,
        certified=False,
        status="accepted",
    )
    assert svg_path(region_rings(region, 10, 10)) == "M1.5 2L8 2L8 9.2L1.5 9.2Z"


def test_flat_joins_the_keys_of_nested_values():
    values = {"a": 1, "b": {"c": {"d": 2}, "e": []}, "f": {}}
    assert flat(values, ".") == {"a": 1, "b.c.d": 2, "b.e": []}


def test_git_state_names_the_commit_and_local_changes(tmp_path):
    def git(*words):
        author = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        return subprocess.run(["git", *author, *words], cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    git("init")
    assert git_state(tmp_path) is None
    for name in ("file", "dvc.lock"):
        (tmp_path / name).write_text("one")
    git("add", "file", "dvc.lock")
    git("commit", "-m", "first")
    (tmp_path / "untracked").write_text("")
    (tmp_path / "dvc.lock").write_text("two")
    assert git_state(tmp_path) == {"commit": git("rev-parse", "HEAD").strip(), "dirty": False}
    (tmp_path / "file").write_text("two")
    assert git_state(tmp_path)["dirty"]
