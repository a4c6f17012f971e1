"""What stands on a run's page in Prefect: texts of data stay texts, numbers are numbers."""

from flows.artifacts import plain, score_row, verdict


def test_a_finding_is_a_line_and_its_text_no_markup() -> None:
    findings = [
        {"level": "wrong", "topic": "data", "text": "source <b>a</b> [x](y)\n# lost", "action": "run `dvc repro`"},
        {"level": "ok", "topic": "splits", "text": "no leak", "action": None},
    ]
    assert verdict(findings).split("\n") == [
        "## What is wrong",
        r"- **data**: source \<b\>a\<\/b\> \[x\]\(y\) \# lost → run \`dvc repro\`",
        "",
        "## What is in order",
        "- **splits**: no leak",
        "",
    ]
    assert verdict([]) == "The report has no findings."


def test_every_character_that_markdown_reads_is_escaped() -> None:
    assert plain("a_b*c|d~e") == r"a\_b\*c\|d\~e"
    assert plain("https://a.example") == r"https\:\/\/a\.example"
    assert plain("two\n\nparagraphs") == "two paragraphs"


def test_scores_are_rounded_and_absent_values_stay_empty() -> None:
    row = {"metric": "recall@1", "low": "0.1", "high": "0.2", "value": "0.123456", "chance": "", "items": "527"}
    shown = {"metric": "recall@1", "value": 0.1235, "95 % interval": "0.1 to 0.2", "chance": None, "items": 527.0}
    assert list(score_row(row).items()) == list(shown.items())
    assert score_row({"metric": "recall@1", "value": "1", "low": "", "high": ""})["95 % interval"] is None
