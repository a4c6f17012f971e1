"""Findings on data: sources, splits and captions, with figures by hand."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipelines.captions.report_sides import ReportSideCounts
from pipelines.config import parse
from pipelines.ingest.config import IngestConfig
from pipelines.ingest.stage import run as ingest
from pipelines.report.counts import LeakCounts, PromptCounts, SourceCounts
from pipelines.report.verdict.captions import caption_findings
from pipelines.report.verdict.finding import Finding
from pipelines.report.verdict.sources import rows_of_source, source_findings, unknowns, warnings_of_source
from pipelines.report.verdict.splits import split_findings

SOURCE = SourceCounts(
    name="mine",
    adapter="table",
    licence="CC0-1.0",
    images=100,
    splits={"train": 40, "validation": 30, "test": 30},
    groups=50,
    leaks=0,
    split_conflicts=0,
    without_group_information=0,
    with_report=100,
    several_reports=0,
    with_attributes=0,
    look_alikes=0,
    phrases=0,
    labelled=100,
    kinds_of_labels=2,
    findings={"nodule": 60},
    modalities={"ct": 100},
    burned_in_policy=None,
    burned_in={},
    rejected={},
    regions={"input": {"accepted": 10, "rejected": 0, "failed": 0}, "truth": {}},
    certified=4,
    given=3,
    reviewed=0,
    captions={"ok": 90, "no_finding": 10, "unannotated": 0, "rejected": 0, "failed": 0},
    texts=100,
    different_texts=20,
    oracle=0,
    questions=0,
)
COUNTS: dict[str, Any] = {"inputs": 100, "ok": 100, "rejected": 0, "failed": 0, "duplicates": 0, "reasons": {}}
LEAKS = LeakCounts(groups=50, groups_in_two_splits=0, not_allowed=0, images=0, pairs={}, cross_source=0)
PROMPT = PromptCounts(
    captioner="findings",
    kind="region",
    prompt_sha256="0" * 64,
    captions=100,
    described=100,
    statuses={},
    contradictions={},
    contradiction_fraction=0.0,
    warnings={},
)


def levels(findings: list[Finding]) -> dict[str, str]:
    return {finding.text: finding.level for finding in findings}


@pytest.mark.parametrize(
    ("changes", "level", "text"),
    [
        ({}, "ok", "mine: 100 of 100 rows became images (ct 100)."),
        (
            {"ok": 91, "rejected": 9, "reasons": {"rejected": {"missing_file": 8, "bad_value": 1}}},
            "warning",
            "mine: 91 of 100 rows became images (ct 100); 9 rejected: missing file 8, bad value 1 "
            "(9 % of the rows are lost).",
        ),
        (
            {"ok": 90, "rejected": 10, "reasons": {"rejected": {"truncated": 10}}},
            "wrong",
            "mine: 90 of 100 rows became images (ct 100); 10 rejected: truncated 10 (10 % of the rows are lost).",
        ),
        (
            {"ok": 99, "failed": 1, "reasons": {"failed": {"PermissionError": 1}}},
            "wrong",
            "mine: 99 of 100 rows became images (ct 100); 1 failed: PermissionError 1 (1 % of the rows are lost).",
        ),
        (
            {"ok": 70, "duplicates": 30},
            "ok",
            "mine: 70 of 100 rows became images (ct 100); 30 show the pixels of an earlier row and were added to it.",
        ),
    ],
)
def test_rows_that_were_lost_are_told_by_reason(changes: dict[str, Any], level: str, text: str) -> None:
    finding = rows_of_source(SOURCE, {**COUNTS, **changes})
    assert (finding.level, finding.text) == (level, text)
    assert (finding.action is None) == (level == "ok")


def test_what_to_do_names_the_files_where_files_are_missing_and_the_stage_where_it_failed() -> None:
    def action(**changes: Any) -> str:
        return rows_of_source(SOURCE, {**COUNTS, **changes}).action or ""

    assert "ingest.sources.mine.root" in action(rejected=3, reasons={"rejected": {"missing_file": 2, "blank_image": 1}})
    assert "root" not in action(rejected=3, reasons={"rejected": {"missing_file": 1, "blank_image": 2}})
    assert "dvc repro --force --single-item ingest@mine" in action(failed=1, reasons={"failed": {"OSError": 1}})


def test_a_source_that_says_everything_has_no_finding() -> None:
    assert list(unknowns(SOURCE)) == []
    assert list(unknowns(replace(SOURCE, images=0, licence="unknown"))) == []


@pytest.mark.parametrize(
    ("changes", "level", "text", "action"),
    [
        ({"without_group_information": 100}, "warning", "mine: of all 100 images nobody says", "columns.patient_id"),
        ({"without_group_information": 7}, "warning", "mine: of 7 of 100 images nobody says", "columns.patient_id"),
        ({"with_report": 0}, "warning", "mine: no image has a report", "columns.text"),
        ({"labelled": 0}, "warning", "mine: no image has labels", "columns.labels"),
        ({"kinds_of_labels": 1}, "wrong", "mine: all 100 labelled images have the same labels (nodule)", "[]"),
        ({"kinds_of_labels": 1, "findings": {}}, "wrong", "mine: all 100 labelled images have the same", "[]"),
        ({"modalities": {"ct": 98, "other": 2}}, "warning", "mine: the kind of image of 2 of 100", "options.modality"),
        ({"licence": "unknown"}, "warning", "mine: its licence is unknown", "ingest.sources.mine.licence"),
    ],
)
def test_what_nobody_says_of_the_images_is_one_finding(
    changes: dict[str, Any], level: str, text: str, action: str
) -> None:
    (finding,) = unknowns(replace(SOURCE, **changes))
    assert finding.level == level
    assert finding.text.startswith(text)
    assert action in (finding.action or "")


def test_a_setting_is_named_only_where_the_adapter_has_it() -> None:
    source = replace(SOURCE, adapter="vqa_rad", modalities={"other": 100}, without_group_information=100)
    assert [finding.action for finding in unknowns(source)] == [None, None]


def test_what_ingest_really_says_of_a_bad_table_is_told_with_what_to_do(tmp_path: Path) -> None:
    for number in range(3):
        Image.linear_gradient("L").rotate(90 * number).save(tmp_path / f"{number}.png")
    (tmp_path / "metadata.csv").write_text("file_name,Comment,Weekday\n0.png,Clear.,Monday\n1.png,Opaque.,Friday\n")
    section = {"sources": {"mine": {"adapter": "table", "root": str(tmp_path)}}, "max_pixels": 10**6}
    config = parse(IngestConfig, {**section, "max_failed_fraction": 0.0}, "here")
    summary = ingest("mine", config, tmp_path / "out", tmp_path / "summaries")
    found = list(warnings_of_source(SOURCE, summary["warnings"]))
    assert levels(found) == {
        "mine: columns not used: Comment (did you mean text?), Weekday.": "wrong",
        "mine: image files under the root that no row names, which are not used: 1.": "warning",
    }
    assert all(finding.action for finding in found)
    # No text and no patient are told from the images.
    assert len(summary["warnings"]) == 4
    (plain,) = warnings_of_source(SOURCE, ["columns not used: Weekday"])
    assert plain.level == "warning"


def test_contradictions_within_rows_are_one_sentence() -> None:
    summary = {"stage": "ingest-mine", **COUNTS, "clipped_boxes": 3, "labels_differ": 0, "dropped": {"view": 2}}
    findings = list(source_findings([SOURCE], [summary]))
    assert [finding.level for finding in findings] == ["ok", "warning"]
    assert findings[1].text == (
        "mine: 3 boxes reached over an edge and were clipped; further rows of an image said something else, which was "
        "dropped (view 2)."
    )
    assert list(source_findings([SOURCE], [])) == []


def split_texts(
    splits: dict[str, int], leaks: LeakCounts = LEAKS, largest_group: int = 3, moved: Mapping[str, int] | None = None
) -> dict[str, str]:
    summary = {"largest_group": largest_group, "leaks": {"questions_in_another_split": moved or {}}}
    return levels(list(split_findings([replace(SOURCE, splits=splits)], leaks, summary)))


def test_splits_are_told_and_none_leaks() -> None:
    assert split_texts({"train": 40, "validation": 30, "test": 30}) == {
        "train 40, validation 30, test 30 images of 50 groups; no group of one patient or scene stands in two "
        "splits.": "ok"
    }


def test_empty_and_tiny_splits_are_told() -> None:
    found = split_texts({"train": 40, "validation": 0, "test": 29})
    assert found.pop("The split test has 29 images alone: figures from so few say little.") == "warning"
    told = "The split validation is empty: no threshold can be certified, and promotion cannot choose a method."
    assert found.pop(told) == "wrong"
    assert len(found) == 1


def test_a_leak_is_wrong_and_an_allowed_one_a_warning() -> None:
    splits = {"train": 40, "validation": 30, "test": 30}
    ((text, level),) = split_texts(splits, replace(LEAKS, groups_in_two_splits=3, not_allowed=2)).items()
    assert level == "wrong"
    assert "2 groups of one patient or scene in two splits" in text
    ((text, level),) = split_texts(splits, replace(LEAKS, groups_in_two_splits=3, images=8)).items()
    assert level == "warning"
    assert "3 stand in two splits, as split.allow_leaks allows (8 images)" in text


def test_a_group_that_swallows_the_dataset_and_moved_questions_are_told() -> None:
    splits = {"train": 140, "validation": 30, "test": 30}
    found = split_texts(splits, largest_group=21, moved={"mine": 4})
    assert "One group holds 21 of 200 images (10 %), all in one split." in found
    assert any("mine 4" in text for text in found)
    assert len(split_texts(splits, largest_group=20)) == 1


def caption_levels(source: SourceCounts, prompt: PromptCounts, sides: ReportSideCounts | None = None) -> dict[str, str]:
    return levels(list(caption_findings([source], [prompt], {("mine", "proposal"): sides} if sides else {})))


def test_accepted_captions_and_contradictions_are_counted() -> None:
    assert caption_levels(SOURCE, PROMPT) == {
        "100 of 100 captions are accepted; none contradicts the measured position, size or side.": "ok"
    }
    prompt = replace(PROMPT, described=80, contradictions={"contradicts_side": 3, "contradicts_size": 1})
    ((text, level),) = caption_levels(SOURCE, prompt).items()
    assert level == "warning"
    assert "80 of 100 captions are accepted; 4 (5 %) contradict" in text
    assert "contradicts side 3, contradicts size 1" in text
    ((_, level),) = caption_levels(SOURCE, replace(prompt, contradictions={"contradicts_side": 5})).items()
    assert level == "wrong"


def test_captions_that_broke_a_rule_and_images_without_text_are_told() -> None:
    found = caption_levels(SOURCE, replace(PROMPT, described=94, statuses={"rejected": 6}))
    assert found["6 captions (6 %) are rejected: the answer broke a rule."] == "wrong"
    silent = replace(SOURCE, captions={**SOURCE.captions, "unannotated": 100})
    found = caption_levels(silent, PROMPT)
    (text,) = (text for text in found if "have no text" in text)
    assert text.startswith("100 of 100 images have no text")
    assert found[text] == "wrong"
    assert (
        "wrong" not in caption_levels(replace(silent, captions={**SOURCE.captions, "unannotated": 9}), PROMPT).values()
    )


def test_few_different_texts_and_the_opposite_side_are_told() -> None:
    assert len(caption_levels(SOURCE, PROMPT)) == 1  # 20 of 100 are enough
    found = caption_levels(replace(SOURCE, different_texts=19), PROMPT)
    assert any("100 images have 19 different texts between them" in text for text in found)
    found = caption_levels(SOURCE, PROMPT, ReportSideCounts(same=9, opposite=3, center=1))
    assert any("3 region captions name the side opposite to the report's (9 the same side)" in text for text in found)
