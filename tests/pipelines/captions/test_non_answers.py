"""What says nothing about an image, by its code, and what must not set off a rule."""

from pathlib import Path

import pytest

from pipelines.captions.captioners.vllm.prompts import Prompts
from pipelines.captions.config import Sizes
from pipelines.captions.non_answers import COMPLAINTS, empty_term, is_empty_word, non_answer

NON_ANSWERS = {
    "refusal": [
        "I am sorry but I cannot provide a medical interpretation of this image.",
        "I'm sorry, but I can't assist with diagnosing medical images.",
        "I\u2019m unable to analyze this picture.",
        "As an AI language model I am unable to analyze this medical image here.",
        "Unfortunately I cannot determine a diagnosis from this picture.",
        "Sorry this image cannot be described by me at the present time.",
        "We are not able to interpret the scan.",
        "I cannot reliably identify the structures shown.",
        "I am not a doctor and this is no medical advice.",
        "Please upload the image so that it can be described in more detail.",
        "No image was provided.",
        "There is an opacity. Consult a qualified radiologist for a diagnosis.",
    ],
    "placeholder": [
        "string",
        "...",
        "N/A",
        "None.",
        "Your caption here.",
        "One sentence summary of the image.",
        "Detailed report goes here",
        "The radiograph shows [insert finding] in the left lung.",
        "The lesion measures ___ cm.",
        "A <finding> is seen at the left base.",
        "There is a {term} in the middle.",
        "Lorem ipsum dolor sit amet consectetur adipiscing elit.",
        "adjective | term | position",
        "The summary_caption of this image.",
        "TODO: describe the image",
    ],
    "repetition": [
        "Opacity opacity opacity opacity in the left lung.",
        "The lungs are clear. The lungs are clear. The lungs are clear. The lungs are clear.",
        "Left upper left upper left upper left upper lung zone opacity is seen.",
        "Mass and mass or mass with mass in mass.",
        "There is an opacityopacityopacityopacityopacity here.",
        "Polyp aaaaaaaaaaaaaaaa in the colon.",
    ],
    "echoed_instructions": [
        "You are an experienced radiologist who also reads endoscopy images.",
        "One sentence of 10 to 15 words that names the principal finding.",
        "Describe what is clearly visible. Do not guess, do not name a diagnosis.",
        "Look again and answer with a complete JSON object.",
    ],
    "other_language": [
        "Die Röntgenaufnahme des Thorax zeigt eine kleine Verschattung im rechten Oberlappen.",
        "Das Bild zeigt einen Polypen in der Mitte.",
        "La radiographie thoracique montre une petite opacité dans le lobe supérieur droit.",
        "La radiografía de tórax muestra una pequeña opacidad en el lóbulo superior derecho.",
        "La radiografia del torace mostra una piccola opacità nel lobo superiore destro.",
        "A radiografia do tórax mostra uma pequena opacidade no lobo superior direito.",
        "De thoraxfoto toont een kleine verdichting in de rechter bovenkwab zonder pleuravocht.",
        "Zdjęcie klatki piersiowej wykazuje niewielkie zacienienie w prawym górnym polu płucnym.",
        "На рентгенограмме определяется небольшое затемнение в правой верхней доле.",
        "胸部X光片显示右上肺有一个小的不透明区域。",
        "胸部X線写真では右上肺野に小さな陰影が認められます。",
        "تظهر صورة الصدر الشعاعية عتامة صغيرة في الفص العلوي الأيمن.",
        "Foto toraks menunjukkan opasitas kecil di lobus kanan atas tanpa efusi.",
    ],
}


@pytest.fixture(scope="module")
def instructions(repository: Path) -> str:
    prompts = Prompts(repository / "prompts" / "vllm", Sizes(medium=0.02, large=0.1))
    return f"{prompts.system('image')}\n{prompts.again('image', '?')}"


@pytest.mark.parametrize(("code", "text"), [(code, text) for code, texts in NON_ANSWERS.items() for text in texts])
def test_what_says_nothing_of_an_image_has_its_code(instructions: str, code: str, text: str) -> None:
    assert non_answer(text, instructions) == code


def test_every_code_has_a_complaint() -> None:
    assert set(COMPLAINTS) == {*NON_ANSWERS, "term_names_nothing"}


@pytest.mark.parametrize(
    "text",
    [
        "Frontal chest radiograph shows a small opacity in the right upper lung zone.",
        "Pneumonia cannot be excluded at the left base on this single view.",
        "I cannot exclude a small effusion.",
        "The patient is unable to raise the arms.",
        "Comparison could not be made with the prior study.",
        "Main bronchus and aim of the catheter are seen.",
        "No pneumothorax. No effusion. No fracture. No mass. No free air.",
        "Cardiomegaly. Pleural effusion. Atelectasis.",
        "Situs inversus totalis.",
        "Corpus alienum in oesophago.",
        "Normal.",
        "The image shows a polyp.",
        "Opacity of 3 x 4 x 4 cm; SpO2 < 90 % and pO2 > 60.",
        "Very very faint opacity. The left lung is clear, the right lung is clear.",
        "The text on the image is a side marker.",
        "Nodule of 2.2 x 2.2 x 2.2 cm.",
        "We could not identify a fracture line.",
        "We do not see a fracture on this view.",
        "We cannot diagnose malignancy from the margins alone.",
        "A test shows a position of the tip in the superior vena cava.",
    ],
)
def test_findings_in_any_wording_set_off_no_rule(instructions: str, text: str) -> None:
    assert non_answer(text, instructions) is None


@pytest.mark.parametrize(
    ("term", "code"),
    [
        *((term, "term_names_nothing") for term in ("Unknown", "unknown lesion", "None", "N/A", "region", "finding")),
        ("unspecified finding", "term_names_nothing"),
        ("string", "placeholder"),
        ("medical term", "placeholder"),
        ("lesion term here", "placeholder"),
        ("mass mass mass", "repetition"),
        ("cannot be determined", "refusal"),
        ("unable to tell", "refusal"),
    ],
)
def test_terms_that_name_no_finding(term: str, code: str) -> None:
    assert empty_term(term) == code


@pytest.mark.parametrize(
    "term",
    ["opacity", "lesion", "unknown primary", "nodule region", "nonspecific opacity", "mass", "term pregnancy", "cyst"],
)
def test_terms_that_name_something(term: str) -> None:
    assert empty_term(term) is None


def test_adjectives_that_describe_nothing() -> None:
    assert [word for word in ("string", "unknown", "none", "adjective", "aaaaaa") if not is_empty_word(word)] == []
    assert not any(map(is_empty_word, ("round", "indeterminate", "unclear", "normal", "oval", "well-defined")))
