"""Findings on regions, stages, training and scores, with figures by hand; their order, and what a screen holds."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipelines.audit.result import AuditFigure
from pipelines.report.comparison import best, task_tables
from pipelines.report.verdict.against_guessing import against_guessing
from pipelines.report.verdict.audit import audit_findings
from pipelines.report.verdict.finding import Finding, by_severity, first_screen, write_verdict
from pipelines.report.verdict.grounding import grounding_findings
from pipelines.report.verdict.regions import control_finding, total
from pipelines.report.verdict.scores import method_findings, score_findings, task_clauses
from pipelines.report.verdict.stages import stage_findings, training_findings

MEASURED = {"images": 20, "precision": 0.55, "precision_low": 0.45}
CONTROL: dict[str, Any] = {
    "promised": "the patients' best accepted regions",
    "target_precision": 0.4,
    "confidence": 0.9,
    "threshold": 0.25,
    "reason": None,
    "calibration": MEASURED,
    "test": MEASURED,
}


def score(
    value: float, low: float | None, high: float | None, chance: float | None, **baselines: float
) -> dict[str, Any]:
    named = {name.replace("_", " "): bound for name, bound in baselines.items()}
    return {"value": value, "low": low, "high": high, "chance": chance, "baselines": named}


def task(metrics: dict[str, Any], does: str = "grounds phrases", headline: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "status": "ok",
        "reason": None,
        "items": 9,
        "pool": 9,
        "excluded": {},
        "notes": [],
        "metrics": metrics,
        "definitions": [],
        "verdict": {"does": does, "headline": list(headline)},
    }


def test_certified_regions_and_what_test_images_measure() -> None:
    finding = total(10, 4, 3, {})
    assert finding.level == "ok"
    assert finding.text == "10 accepted regions: 3 by the source or a reviewer, 4 certified, 3 without any guarantee."
    finding = control_finding("pooled", CONTROL)
    assert finding.level == "ok"
    assert finding.text == (
        "Risk control, pooled: from probability 0.25 on, at least 40 % of the patients' best accepted regions right, "
        "with 90 % confidence; on 20 held-out test images 55 % are right, at least 45 %."
    )
    missed = control_finding("ct", {**CONTROL, "test": {**MEASURED, "precision": 0.39}})
    assert missed.level == "wrong"
    unchecked = control_finding("ct", {**CONTROL, "test": {**MEASURED, "precision": None}})
    assert unchecked.level == "warning"
    assert "is there to check it" in unchecked.text


@pytest.mark.parametrize(
    ("reason", "why"),
    [
        ("no_score", "too few labels to fit the joint score"),
        ("no_calibration_images", "no validation image is annotated"),
        ("no_fitting_images", "no annotated training image has proposals"),
        ("first_threshold_failed", "already the strictest threshold misses the target"),
    ],
)
def test_why_no_region_is_certified_is_told_in_words_with_what_to_do(reason: str, why: str) -> None:
    control = {**CONTROL, "threshold": None, "reason": reason}
    finding = total(10, 0, 3, {"pooled": control})
    assert finding.level == "wrong"
    assert finding.text.startswith("No region is certified. 10 accepted regions: 3 by the source or a reviewer")
    assert why in finding.text
    assert "on 20 validation images 55 % are right, at least 45 %" in finding.text
    assert finding.action


def test_regions_that_the_source_gives_need_no_guarantee() -> None:
    assert total(3, 0, 3, {}).level == "ok"
    assert total(0, 0, 0, {}).level == "wrong"


def audited(what: Any, **changes: Any) -> AuditFigure:
    values = {"what": what, "stratum": "all", "population": 500, "sampled": 40, "n": 40, "correct": 30, "wrong": 8}
    shares = {"unsure": 2, "outdated": 0, "precision": 0.79, "lowest": 0.75, "low": 0.6, "high": 0.9}
    return AuditFigure(**{**values, **shares, **changes})


def test_what_people_found_or_that_nobody_looked() -> None:
    regions, captions = audited("regions"), audited("captions", n=0, correct=0, precision=None, low=None, high=None)
    (found,) = audit_findings([regions, audited("regions", stratum="mine, ct", n=9), audited("captions")])
    said = "30 of 38 {} right and could not decide 2, of a sample of 40 (precision 79 %, 60 % to 90 %)"
    assert (found.level, found.action) == ("ok", None)
    assert found.text == f"People found {said.format('regions')}; {said.format('captions')}."
    (found,) = audit_findings([audited("captions", n=20, correct=20, wrong=0, unsure=0, precision=1.0)])
    assert (found.level, found.action) == ("warning", "python -m pipelines.audit export FOLDER")
    assert found.text.startswith("People found 20 of 20 captions right, of a sample of 40 (precision 100 %")
    (found,) = audit_findings([regions, captions])
    assert found.level == "warning"
    assert found.text.endswith("Nobody has judged captions.")
    (found,) = audit_findings([captions, audited("regions", population=0, n=0)])
    assert found.text.startswith("Nobody has judged a sample of captions:")
    assert found.action == "python -m pipelines.audit export FOLDER"
    assert list(audit_findings([])) == []


def stage_row(stage: str, **changes: Any) -> dict[str, Any]:
    return {"stage": stage, "inputs": 9, "ok": 9, "failed": 0, "reasons": {}, "adds_up": True, **changes}


def test_failed_items_and_counts_that_do_not_add_up_are_wrong() -> None:
    reasons = {"failed: timeout": 2, "rejected: refusal": 1}
    rows = [
        stage_row("ingest-mine", failed=1),  # told with its source
        stage_row("captions", failed=2, reasons=reasons),
        stage_row("train-clip", adds_up=False),
        stage_row("split"),
    ]
    failed, lost = stage_findings(rows)
    assert failed.text == "captions: 2 items of 9 failed (timeout 2)."
    assert "dvc repro --force --single-item captions &&" in (failed.action or "")
    assert lost.text.startswith("train-clip: inputs are not ok")
    assert lost.action == "dvc repro --force train@clip"
    assert {failed.level, lost.level} == {"wrong"}


def curve(losses: list[float], **changes: Any) -> dict[str, Any]:
    points = [{"phase": "a", "loss": 9.0}, *({"phase": "b", "loss": loss} for loss in losses)]
    return {"validation": points, "samples": 90, "skipped": {}, "truncated_texts": 0, **changes}


def test_a_loss_that_rises_again_unused_samples_and_cut_texts_are_told() -> None:
    curves = {
        "sound": curve([2.0, 1.0, 1.05], skipped={"no_target": 10}, truncated_texts=9),
        "long": curve([2.0, 1.0, 1.25]),
        # Its checkpoint holds the epoch before the loss rose.
        "kept": curve([2.0, 1.0, 1.25], best_epoch={"epoch": 2}),
        "short": curve([], validation=[]),
        "poor": curve([1.0], skipped={"no_text_unannotated": 11}, truncated_texts=10),
    }
    rose, unused, cut = training_findings(curves)
    assert "long: the loss on validation images rose again, from 1 to 1.25 at the end (25 % more)" in rose.text
    assert rose.action is not None
    assert "train.methods.long.training.phases.b" in rose.action
    assert unused.text == "poor learns from 90 of 101 training images (no text unannotated 11)."
    assert cut.action == "train.methods.poor.training.max_length"


def test_methods_that_were_trained_on_other_batches_are_not_compared() -> None:
    random_access = {"reader": "random_access", "left_out_of_an_epoch": {"a": 1}}
    alone = {"reader": "stream", "workers": 1, "loader_processes": 1, "left_out_of_an_epoch": {}}
    two = alone | {"workers": 2}

    def found(**readings: dict[str, Any]) -> list[Finding]:
        curves = {method: curve([1.0], phases=["b"], reading=reading) for method, reading in readings.items()}
        # It was not trained, and an earlier release wrote no reading.
        curves |= {"pretrained": curve([1.0], phases=[], reading=two), "old": curve([1.0], phases=["b"])}
        return list(training_findings(curves))

    assert not found(clip=random_access, plan=random_access, siglip=alone)
    assert not found(clip=two, plan=two)
    (one,) = found(clip=random_access, plan=two)
    assert one.level == "wrong"
    assert "(clip by random access or one process; plan by stream, 2 workers of 1 loader process)" in one.text


@pytest.mark.parametrize(
    ("found", "level", "words"),
    [
        (score(0.5, 0.4, 0.6, 0.3), "ok", "better than chance"),
        (score(0.5, 0.4, 0.6, 0.3, centre_map=0.35), "ok", "better than chance and the centre map"),
        (score(0.5, 0.4, 0.6, 0.3, centre_map=0.45), "warning", "no better than the centre map"),
        (score(0.5, 0.4, 0.6, 0.3, centre_map=0.7), "wrong", "worse than the centre map"),
        (score(0.5, 0.4, 0.6, 0.45), "wrong", "no better than chance"),
        (score(0.5, 0.4, 0.6, 0.7, centre_map=0.7), "wrong", "worse than chance and the centre map"),
        (score(0.5, 0.4, 0.6, 0.5, new=0.9), "wrong", "worse than the new"),
        (score(0.5, None, None, 0.3), "warning", "on so few items that there is no interval"),
        (score(1.0, 1.0, 1.0, 1.0), "warning", "as any guess does, for every answer scores the same"),
        (score(0.5, 0.4, 0.6, None), "ok", "without anything to compare with"),
    ],
)
def test_a_score_against_chance_and_baselines_in_words(found: dict[str, Any], level: str, words: str) -> None:
    assert against_guessing("pointing", found)[:2] == (level, words)


def test_the_image_blind_control_and_what_is_known_of_the_images_in_words() -> None:
    knows = "ceiling: modality, normality"

    def words(blind: float, known: float) -> tuple[str, str]:
        found = score(0.5, 0.4, 0.6, 0.1) | {"baselines": {"image-blind": blind, knows: known}}
        return against_guessing("i2t_recall@1", found)[:2]

    themselves = "chance and itself on other images"
    all_three = "chance, itself on other images and one who knows modality, normality alone"
    assert words(0.2, 0.3) == ("ok", f"better than {all_three}")
    assert words(0.5, 0.3) == ("warning", "no better than itself on other images")
    assert words(0.7, 0.9) == ("wrong", "worse than itself on other images")
    for known in (0.5, 0.9):
        # Facts of the image have to be found out first: no guess is as good.
        text = f"better than {themselves}, no better than one who knows modality, normality alone"
        assert words(0.2, known) == ("warning", text)


def test_a_low_rank_is_better() -> None:
    assert against_guessing("median_rank", score(9, 8, 10, 50.0))[:2] == ("ok", "better than chance")


def test_metrics_of_one_outcome_are_one_clause() -> None:
    metrics = {
        "pointing": score(0.05, 0.031, 0.069, 0.02, centre=0.076),
        "cnr": score(0.22, 0.158, 0.283, 0.0, centre=0.438),
        "recall@10": score(0.413, 0.355, 0.475, 0.0413),
        "recall@5": score(0.0, 0.0, 0.0, 0.5),
    }
    assert task_clauses("g", task(metrics, headline=("pointing", "cnr", "recall@k"))) == [
        (
            "wrong",
            "grounds phrases worse than the centre (pointing 5.0 %, 3.1 to 6.9, centre 7.6 %; "
            "cnr 0.22, 0.16 to 0.28, centre 0.44)",
        ),
        ("ok", "grounds phrases better than chance (recall@10 41 %, 36 to 48, chance 4.1 %)"),
    ]


def test_outcomes_of_one_level_are_one_clause() -> None:
    metrics = {"a": score(0.0, 0.0, 0.0, 0.5), "b": score(0.5, 0.4, 0.6, 0.5)}
    ((level, text),) = task_clauses("g", task(metrics, headline=("a", "b")))
    assert level == "wrong"
    assert text.startswith("grounds phrases worse than chance (a 0")
    assert ", no better than chance (b 0.50" in text
    assert text.count("grounds") == 1


def test_a_method_has_one_finding_for_each_level_with_all_its_tasks() -> None:
    good = task({"recall@1": score(0.5, 0.4, 0.6, 0.1)}, does="")
    weak = task({"pointing": score(0.5, 0.4, 0.6, 0.1, centre=0.5)})
    wrong, warning, ok = method_findings(
        "clip", {"a": good, "b": weak, "c": task({"pointing": score(0.1, 0.0, 0.2, 0.1)}), "d": good}
    )
    assert (wrong.level, warning.level, ok.level) == ("wrong", "warning", "ok")
    recall = "(recall@1 50 %, 40 to 60, chance 10 %)"
    assert ok.text == f"clip does a better than chance {recall}; does d better than chance {recall}."
    assert wrong.text.startswith("clip grounds phrases no better than chance (pointing 10 %, 0.0 to 20, chance 10 %)")
    assert "train.methods.clip.training.phases" in (wrong.action or "")
    assert ok.action is None


def test_what_was_not_scored_is_told_but_not_what_a_method_cannot_do() -> None:
    empty = {**task({}), "metrics": {}}
    results = {
        "clip": {
            "tasks": {
                "zero_shot": {**empty, "status": "skipped", "reason": "no labels", "excluded": {"no_labels": 9}},
                "masks": {**empty, "status": "skipped", "reason": "x", "excluded": {"method_lacks_capability": 9}},
                "retrieval": {**empty, "status": "failed", "reason": "not finite"},
            }
        }
    }
    findings = list(score_findings(results, ["clip", "plan"]))
    assert [(finding.level, finding.text) for finding in findings] == [
        ("warning", "plan was trained but not evaluated."),
        ("wrong", "clip failed at retrieval: not finite."),
        ("warning", "Not scored: zero_shot, for no labels."),
    ]
    (nothing,) = score_findings({}, [])
    assert nothing.text == "No method has been trained."


def test_best_is_the_best_value_of_those_beyond_chance() -> None:
    good, better = score(0.5, 0.4, 0.6, 0.1), score(0.6, 0.5, 0.7, 0.1)
    high_but_like_chance = score(0.9, 0.05, 1.0, 0.1)
    assert best("recall@1", {"a": good, "b": better, "c": high_but_like_chance, "d": None}) == ["b"]
    assert best("recall@1", {"a": good, "b": good}) == ["a", "b"]
    assert best("recall@1", {"a": good, "b": None}) == []
    assert best("median_rank", {"a": score(9, 8, 10, 50.0), "b": score(7, 6, 8, 50.0)}) == ["b"]


def test_lines_of_a_table_are_in_the_order_of_the_definitions() -> None:
    metrics = {f"recall@{k}": score(0.5, 0.4, 0.6, 0.1) for k in (1, 10, 5)}
    first = task({**metrics, "a_rank": score(3, 2, 4, 9.0)})
    first["definitions"] = [{"metric": "recall@k", "text": "Found."}]
    (table,) = task_tables({"clip": {"tasks": {"retrieval": first}}}, {})
    assert [line["metric"] for line in table["lines"]] == ["recall@1", "recall@5", "recall@10", "a_rank"]
    assert [line["less_is_better"] for line in table["lines"]] == [False, False, False, True]
    assert [line["definition"] for line in table["lines"]] == ["Found."] * 3 + [None]


def finding(level: Any, text: str = "x") -> Finding:
    return Finding(level=level, topic="data", text=text)


def test_what_is_wrong_comes_first_and_the_order_stays_otherwise() -> None:
    findings = [finding("ok"), finding("warning", "a"), finding("wrong"), finding("warning", "b")]
    assert [one.level for one in by_severity(findings)] == ["wrong", "warning", "warning", "ok"]
    assert [one.text for one in by_severity(findings)][1:3] == ["a", "b"]


def test_the_first_screen_holds_what_fits() -> None:
    short, long = finding("ok"), finding("ok", "x" * 2400)
    # 41 findings of one line and half a line below it are 61.5 lines of 62.
    assert first_screen([short] * 50) == 41
    assert first_screen([short] * 41) == 41
    # 31 lines each, but for the first words.
    assert first_screen([long, long, long]) == 1
    assert first_screen([finding("ok", "x" * 9000), short]) == 1
    assert first_screen([]) == 0


def test_the_file_has_plain_findings(tmp_path: Path) -> None:
    write_verdict(tmp_path / "verdict.json", [Finding(level="wrong", topic="data", text="<b>", action="do")])
    assert json.loads((tmp_path / "verdict.json").read_text()) == {
        "findings": [{"level": "wrong", "topic": "data", "text": "<b>", "action": "do"}]
    }


def test_the_verdict_says_who_grounds_and_against_which_baseline() -> None:
    lesion, pointing = "without_position/which_lesion", "without_position/pointing"

    def grounded(*scores: dict[str, Any]) -> dict[str, Any]:
        metrics = dict(zip((lesion, pointing), scores, strict=True))
        return {"tasks": {"grounding": task(metrics, headline=(lesion, pointing))}}

    high = score(0.6, 0.5, 0.7, 0.3, mask=0.4)
    results = {
        "finds": grounded(high, high),
        "half": grounded(high, score(0.4, 0.35, 0.5, 0.3, mask=0.4)),
        "blind": grounded(score(0.3, 0.2, 0.4, 0.3, mask=0.3), score(0.1, 0.05, 0.2, 0.01, mask=0.3)),
        "unable": {"tasks": {"grounding": {"status": "skipped", "metrics": {}}}},
    }
    able = "Ground phrases without their position: finds (which_lesion and pointing better than chance and the mask)."
    unable = (
        "half (pointing no better than the mask), "
        "blind (which_lesion no better than chance and the mask; pointing worse than the mask)."
    )
    (both,) = grounding_findings(results)
    assert (both.level, both.text) == ("wrong", f"{able} Do not: {unable}")
    (one,) = grounding_findings({"finds": results["finds"]})
    assert (one.level, one.text) == ("ok", able)
    (other,) = grounding_findings({name: results[name] for name in ("half", "blind")})
    assert (other.level, other.text) == ("wrong", f"Do not ground phrases without their position: {unable}")
    assert not list(grounding_findings({"unable": {"tasks": {}}}))
