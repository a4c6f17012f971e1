"""What the report's page and the dataset card say of the audit."""

from pipelines.audit import answers as answer_file
from pipelines.audit.answers import Answer
from pipelines.audit.config import AuditConfig
from pipelines.audit.sample import draw
from pipelines.config import load
from pipelines.records import CAPTIONS, REGIONS


def sample(workspace):
    settings = load(AuditConfig, "audit", workspace.root / "params.yaml")
    data = workspace.root / "data"
    rows = (
        workspace.images,
        REGIONS.read(data / "regions/regions.parquet"),
        CAPTIONS.read(data / "captions/captions.parquet"),
    )
    return {what: [item for one in strata for item in one.items] for what, strata in draw(*rows, settings).items()}


def write(workspace, items, given, reviewer="AB", shown=None):
    file = workspace.root / "audit.jsonl"
    answers = [
        Answer(item=item.name, shown=shown or item.shown, answer=answer, reviewer=reviewer, date="2026-11-28")
        for item, answer in zip(items, given, strict=True)
    ]
    answer_file.write([*answer_file.read(file), *answers], file)


def test_without_answers_page_and_card_say_not_audited(workspace):
    workspace.run(gallery=0)
    assert "Not audited: nobody has judged a sample of these regions and captions." in workspace.read("index.html")
    assert "Not audited: nobody has judged a sample of these regions and captions." in workspace.read("dataset_card.md")


def test_precision_interval_and_agreement_are_shown(workspace):
    items = sample(workspace)["regions"]
    assert len(items) == 4  # 2 of alpha, 2 of beta
    write(workspace, items, ["yes", "yes", "yes", "no"])
    write(workspace, items[:2], ["yes", "no"], "CD")
    workspace.run(gallery=0)
    # Counted: a yes and an unsure of alpha, a yes and a no of beta; of 16 regions 8 each: 2 correct of 3 decided.
    # R: binom.test(2, 4)$conf.int[1] = 0.0676, binom.test(3, 4)$conf.int[2] = 0.9937.
    # Captions: of 16 images 4 have no text and one is made from annotations; of 16 regions two failed.
    card = workspace.read("dataset_card.md")
    assert "| regions | all | 16 | 4 of 4 | 2 | 1 | 1 | 66.7 % | 6.8 % to 99.4 % |" in card
    assert "| regions | alpha, ct | 8 | 2 of 2 | 1 | 0 | 1 | 100.0 % |" in card
    assert "| captions | all | 25 | 0 of 4 | - | - | - | not audited | - |" in card
    assert "Two people agree on 1 of 2 regions that both judged (Cohen's kappa 0.00)." in card
    assert "AB" not in card
    page = workspace.read("index.html")
    assert '<td class="number" data-label="precision"><b>66.7 %</b></td>' in page
    assert "6.8 % to 99.4 %" in page
    assert "not audited" in page
    assert "AB and CD agree on 1 of 2 regions that both judged (50.0 %; Cohen's kappa 0.00)." in page


def test_answers_about_what_changed_since_are_no_audit(workspace):
    items = sample(workspace)["captions"]
    write(workspace, items, ["yes"] * 4, shown="0" * 64)
    workspace.run(gallery=0)
    said = "regions and captions as they are now (4 items changed since they were judged)"
    assert f"Not audited: nobody has judged a sample of these {said}." in workspace.read("index.html")
    assert "captions as they are now." in workspace.read("dataset_card.md")
