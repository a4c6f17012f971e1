"""Phrases that a proposer looks for on each image."""

import pytest

from pipelines.proposals.config import ProposalsConfig
from pipelines.proposals.phrases import phrases_of
from pipelines.records import Split, SplitImageRow

CONFIG = ProposalsConfig(
    proposers=["grounding_dino"],
    segmenter="medsam",
    labelled_images=1,
    max_proposals=1,
    phrases={"radiograph": ["opacity", "Mass"]},
    terms=["effusion", "pleural effusion", "A.B. (x)"],
    batch_size=1,
    gpus_per_worker=0,
    max_failed_fraction=0,
)


def image(split: Split, labels: tuple[str, ...] | None = None, report: str | None = None) -> SplitImageRow:
    return SplitImageRow(
        image_id="0" * 16,
        source="toy",
        path="0.png",
        sha256="0" * 64,
        pixel_sha256="0" * 64,
        perceptual_hash="0" * 64,
        width=64,
        height=64,
        modality="radiograph",
        split_conflict=False,
        report=report,
        labels=labels,
        rows=1,
        group="0",
        split=split,
        leak=False,
    )


def test_training_images_add_labels_and_terms_of_the_report() -> None:
    row = image("train", ("mass", "rib fracture", "--"), "No Pleural  effusion. Pleural effusion; effusions? a.b. (X).")
    assert phrases_of(row, CONFIG) == (
        ("opacity", "Mass", "rib fracture", "effusion", "pleural effusion", "A.B. (x)"),
        True,
    )


@pytest.mark.parametrize("report", ["effusions", "bioeffusion", "pleural", None, ""])
def test_terms_are_whole_words(report: str | None) -> None:
    assert phrases_of(image("train", None, report), CONFIG) == (("opacity", "Mass"), False)


@pytest.mark.parametrize("split", ["validation", "test"])
def test_validation_and_test_images_get_the_list_of_their_modality_alone(split: Split) -> None:
    assert phrases_of(image(split, ("rib fracture",), "effusion"), CONFIG) == (("opacity", "Mass"), False)


def test_label_that_the_list_has_already_is_no_own_phrase() -> None:
    assert phrases_of(image("train", ("OPACITY", "mass")), CONFIG) == (("opacity", "Mass"), False)
