"""Findings and impression of reports; all sentences are invented."""

import pytest

from pipelines.ingest.report_sections import findings_and_impression

WHOLE = """\
                                 FINAL REPORT
 EXAMINATION:  CHEST (PA AND LAT)

 INDICATION:  ___ year old person with a cough.

 TECHNIQUE:  Chest PA and lateral.

 COMPARISON:  ___.

 FINDINGS:

 There is a small opacity in the
 left lower lobe.

 The heart is of normal size.

 IMPRESSION:

 1.  Small opacity on the left, perhaps
     pneumonia.
 2.  No effusion since ___.

 NOTIFICATION:  Told to Dr. ___ by telephone.
"""
FINDINGS = "There is a small opacity in the left lower lobe. The heart is of normal size."
IMPRESSION = "1. Small opacity on the left, perhaps pneumonia. 2. No effusion since ___."


@pytest.mark.parametrize(
    ("report", "said"),
    [
        (WHOLE, f"{FINDINGS} {IMPRESSION}"),
        (WHOLE.replace("\n", "\r\n"), f"{FINDINGS} {IMPRESSION}"),
        ("FINDINGS: Clear.\nIMPRESSION:\n\n", "Clear."),
        ("FINDINGS: ___\n\nIMPRESSION: Clear.", "Clear."),
        # Findings come first, wherever they stand; a second part of either is kept.
        ("IMPRESSION: Two.\nFINDINGS: One.\nIMPRESSION: Three.", "One. Two. Three."),
        ("FINDINGS AND IMPRESSION: Clear.", "Clear."),
        ("CONCLUSION: Clear.\nRECOMMENDATIONS: Come again.", "Clear."),
        # Headers that name no section are text of findings and impression.
        (
            "FINDINGS:\n LUNGS: Clear.\n HEART, AORTA: Normal.\nIMPRESSION: Well.",
            "LUNGS: Clear. HEART, AORTA: Normal. Well.",
        ),
        # A first reading is not the report.
        ("WET READ: ___ 8:15 AM\n  A mass.\n ______________\n FINAL REPORT\n FINDINGS: Clear.", "Clear."),
        ("PROVISIONAL FINDINGS IMPRESSION (PFI): A mass.\n\n FINAL REPORT\n IMPRESSION: Clear.", "Clear."),
        # Neither: the last paragraph that belongs to no other section.
        (" FINAL REPORT\n HISTORY: Cough.\n\n Lungs are clear.\n\n No effusion\n is seen.\n", "No effusion is seen."),
        ("INDICATION: Cough.\n\nCOMPARISON: None.\n\nClear lungs.\n\nCOMPARISON: ___.", "Clear lungs."),
        ("REASON FOR EXAM: Cough.\nCHEST, TWO VIEWS: Clear lungs.", "Clear lungs."),
        ("FINDINGS:\nIMPRESSION: ___\n\nTECHNIQUE: One view.\n\nClear lungs.", "Clear lungs."),
        ("WET READ: A mass.\n\n FINAL REPORT\n INDICATION: Cough.\n", "A mass."),
        ("Clear lungs.", "Clear lungs."),
        ("Findings: in small letters no header.", "Findings: in small letters no header."),
    ],
)
def test_what_a_report_says_of_the_image(report: str, said: str) -> None:
    assert findings_and_impression(report) == said


@pytest.mark.parametrize(
    "report",
    [
        "",
        " \n\n",
        "FINDINGS:\nIMPRESSION:",
        "FINDINGS: ___\n",
        " FINAL REPORT\n INDICATION: Cough.\n COMPARISON: None.\n",
    ],
)
def test_a_report_that_says_nothing_of_the_image(report: str) -> None:
    assert findings_and_impression(report) is None
