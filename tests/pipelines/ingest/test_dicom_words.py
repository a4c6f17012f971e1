"""Words and codes of DICOM headers, compared with the dictionaries that pydicom ships."""

import pydicom.uid
import pytest
from pydicom.sr.codedict import codes
from pydicom.sr.coding import snomed_mapping

from pipelines.formats.dicom_header import DicomHeader
from pipelines.ingest.dicom_words import (
    MODALITY_WORDS,
    attributes,
    is_picture,
    sop_class_name,
    view_position,
    view_word,
)
from pipelines.records import MODALITIES

STORAGE = [
    (uid, name)
    for uid, (name, kind, *_) in pydicom.uid.UID_dictionary.items()
    if kind == "SOP Class" and "Storage" in name and uid.startswith("1.2.840.10008.5.1.4.1.1.")
    if "DICOS" not in name and "Eddy Current" not in name  # of baggage and of metal
]
# What the names of objects that are no pictures of a patient hold.
NO_PICTURES = (
    *("SR Storage", "Waveform", "Presentation State", "Encapsulated", "Key Object", "Procedure Log", "Document"),
    *("RT ", "Radiation", "Segmentation", "Raw Data", "Registration", "Fiducials", "Tractography", "Real World"),
    *("Surface", "Spectroscopy", "Standalone", "Measurements", "Prescription", "Calculations", "Report", "Protocol"),
    *("Relationship", "Volume Analysis", "Display", "Inventory", "Assessment", "Annotations"),
)


def test_every_sop_class_of_the_standard_is_a_picture_or_not() -> None:
    assert len(STORAGE) > 150
    for uid, name in STORAGE:
        rt_image = "RT Image" in name or "Continuous RT Image" in name
        named_so = "Stereographic" not in name and any(word in name for word in NO_PICTURES)
        assert is_picture(uid) is (rt_image or not named_so), (uid, name)


def test_sop_classes_that_the_standard_does_not_have() -> None:
    assert is_picture("1.2.3.4.5")
    assert is_picture(None)
    assert not is_picture("1.2.840.10008.5.1.4.38.1")  # hanging protocol
    assert sop_class_name("1.2.840.10008.5.1.4.1.1.481.2") == "RT Dose Storage"
    assert "1.2.3" not in sop_class_name("1.2.3.4.5")


def test_modalities_are_words_of_the_tables() -> None:
    assert set(MODALITY_WORDS.values()) == set(MODALITIES)
    some = {"CR": "radiograph", "MG": "radiograph", "CT": "ct", "MR": "mri", "US": "ultrasound", "ES": "endoscopy"}
    some |= {"SM": "pathology", "OP": "fundus", "DMS": "dermatology", "PT": "other", "XA": "radiograph"}
    assert {word: MODALITY_WORDS[word] for word in some} == some


@pytest.mark.parametrize(
    ("name", "position", "view"),
    [
        ("AnteroPosterior", "AP", "frontal"),
        ("PosteroAnterior", "PA", "frontal"),
        ("LeftLateral", "LL", "lateral"),
        ("RightLateral", "RL", "lateral"),
        ("LateralProjection", "LATERAL", "lateral"),
        ("CranioCaudal", "CC", None),
        ("MedioLateralObliqueProjection", "MLO", None),
        ("MedioLateralProjection", "ML", None),
        ("LateralMedial", "LM", None),
        ("AnteroPosteriorOblique", None, None),
    ],
)
def test_codes_of_views(name: str, position: str | None, view: str | None) -> None:
    code = getattr(codes.cid4010, name)
    older = [old for old, new in snomed_mapping["SRT"].items() if new == code.value]
    for value in (code.value, *older):
        header = DicomHeader(view_code=value)
        assert (view_position(header), view_word(header)) == (position, view)


def test_view_positions() -> None:
    words = {"PA": "frontal", "AP": "frontal", "ap": "frontal", "LL": "lateral", "RL": "lateral", "LATERAL": "lateral"}
    words |= dict.fromkeys(("LLD", "RLD", "LLO", "RLO", "CC", "MLO", "SWIMMERS", "", "?"))  # type: ignore[arg-type]
    for word, view in words.items():
        assert view_word(DicomHeader(view_position=word or None)) == view, word
    both = DicomHeader(view_position="SWIMMERS", view_code="399348003")
    assert (view_position(both), view_word(both)) == ("AP", "frontal")


def test_attributes_hold_words_of_the_standard_alone() -> None:
    header = DicomHeader(body_part="Chest ", laterality="R", view_position="PA", patient="7", study="1.2")
    assert attributes(header) == {"body part": "chest", "laterality": "right", "view position": "pa"}
    assert attributes(DicomHeader(body_part="SMITH^JOHN", laterality="SMITH", view_position="JOHN 1951")) == {}
    assert attributes(DicomHeader(body_part="C SPINE", laterality="B")) == {"body part": "cspine", "laterality": "both"}
