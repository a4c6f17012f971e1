"""What counts as a refusal and as a term that names nothing, and what real texts must not."""

import pytest

from pipelines.captions.refusals import is_refusal, names_nothing


@pytest.mark.parametrize(
    "text",
    [
        "I am sorry but I cannot provide a medical interpretation of this image.",
        "I'm sorry, but I can't assist with diagnosing medical images.",
        "I\u2019m unable to analyze this picture.",
        "As an AI language model I am unable to analyze this medical image here.",
        "Unfortunately I cannot determine a diagnosis from this picture.",
        "Sorry this image cannot be described by me at the present time.",
        "We are not able to interpret the scan.",
        "I cannot reliably identify the structures shown.",
    ],
)
def test_refusals(text: str) -> None:
    assert is_refusal(text)


@pytest.mark.parametrize(
    "text",
    [
        "Frontal chest radiograph shows a small opacity in the right upper lung zone.",
        "Pneumonia cannot be excluded at the left base on this single view.",
        "I cannot exclude a small effusion.",
        "The patient is unable to raise the arms.",
        "Comparison could not be made with the prior study.",
        "Main bronchus and aim of the catheter are seen.",
    ],
)
def test_findings_in_any_wording_are_none(text: str) -> None:
    assert not is_refusal(text)


@pytest.mark.parametrize("term", ["Unknown", "unknown lesion", "None", "N/A", "region", "unspecified finding"])
def test_terms_that_name_nothing(term: str) -> None:
    assert names_nothing(term)


@pytest.mark.parametrize(
    "term", ["opacity", "lesion", "unknown primary", "nodule region", "nonspecific opacity", "mass"]
)
def test_terms_that_name_something(term: str) -> None:
    assert not names_nothing(term)
