"""Reports and questions in free text.

A report names each lesion's shape, term, size and place, and some of the patient's traits; nothing else in it can be
right or wrong. It never counts lesions and never says that there are no more, for the look-alike stays unmentioned.
Every question is answered from what is drawn, the look-alike included.
"""

import numpy as np

from pipelines.phantom.anatomy import Look
from pipelines.phantom.lesions import SIZES, TERMS, Lesion
from pipelines.phantom.scene import Patient

_NAMES = {"radiograph": "frontal chest radiograph", "ct": "axial CT slice", "endoscopy": "endoscopic image"}

_OPENINGS = (
    "{Name}.",
    "{Name} of the patient.",
    "This is {a_name}.",
    "{Name}, adequate quality.",
    "Findings on this {name}:",
    "Single {name} for review.",
    "",
)

_FINDINGS = (
    "{A_size} {shape} {term} is seen in the {place} zone.",
    "There is {a_size} {shape} {term} in the {place} zone.",
    "The {place} zone shows {a_size} {shape} {term}.",
    "In the {place} zone lies {a_shape} {term}, {size}.",
    "{A_shape} {term} lies in the {place} zone; {size}, {percent} percent of the width.",
    "{Size} {shape} {term}, {place} zone.",
    "Note {a_size} {shape} {term}, {place} zone, {percent} percent of the width.",
    "{A_size} {shape} {term}, {percent} percent of the width, occupies the {place} zone.",
)

_NORMALS = (
    "No lesion is seen.",
    "Normal appearance without any focal lesion.",
    "No nodule, cyst or calcification.",
    "No focal abnormality.",
    "Unremarkable examination.",
    "There is no evidence of a lesion.",
    "No suspicious finding in any zone.",
    "The examination is within normal limits.",
    "All zones are clear.",
    "Neither nodules nor cysts nor calcifications are present.",
)

_TRAITS = {
    ("inspiration", "deep"): ("Deep inspiration.", "The lungs are well expanded.", "The diaphragm stands low."),
    ("inspiration", "shallow"): ("Shallow inspiration.", "The lung volumes are low.", "The diaphragm stands high."),
    ("heart", "slim"): ("The heart is slim.", "Slim cardiac silhouette.", "The heart shadow is narrow."),
    ("heart", "broad"): ("The heart is broad.", "Broad cardiac silhouette.", "The heart shadow is wide."),
    ("fat layer", "thin"): ("Thin fat layer.", "Little subcutaneous fat.", "The body wall is lean."),
    ("fat layer", "thick"): ("Thick fat layer.", "Abundant subcutaneous fat.", "The body wall is rich in fat."),
    ("vessels", "enhanced"): (
        "Contrast-enhanced scan.",
        "The great vessels are enhanced.",
        "Scan after contrast.",
    ),
    ("vessels", "unenhanced"): (
        "Unenhanced scan.",
        "The great vessels are not enhanced.",
        "Scan without contrast medium.",
    ),
    ("lumen", "narrow"): ("The lumen is narrow.", "Narrow lumen.", "The lumen is barely open."),
    ("lumen", "wide"): ("The lumen is wide.", "Wide lumen.", "The lumen is well distended."),
    ("folds", "sparse"): ("Few folds.", "The folds are sparse.", "Folds lie far apart."),
    ("folds", "dense"): ("Many folds.", "The folds are dense.", "Folds lie close together."),
}


def position(lesion: Lesion, look: Look) -> str:
    """`<left|right|center> <upper|middle|lower>`: the patient's left and right on a frontal view, else the image's."""
    column = lesion.column
    if look.view == "frontal":
        column = {"left": "right", "right": "left"}.get(column, column)
    return f"{column} {lesion.row}"


def write_report(patient: Patient, lesions: list[Lesion], rng: np.random.Generator) -> str:
    """The report of one image: an opening, findings or their absence, and one or two traits, in varying order."""
    name = _NAMES[patient.look.modality]
    opening = str(rng.choice(_OPENINGS)).format(name=name, Name=_capital(name), a_name=_with_article(name))
    body = [_finding(lesion, patient.look, rng) for lesion in lesions] or [str(rng.choice(_NORMALS))]
    names = rng.permutation(list(patient.traits))[: rng.integers(1, 3)]
    traits = [str(rng.choice(_TRAITS[name, patient.traits[name]])) for name in map(str, names)]
    parts = [*traits, *body] if rng.random() < 0.5 else [*body, *traits]
    return " ".join(part for part in [opening, *parts] if part)


def _finding(lesion: Lesion, look: Look, rng: np.random.Generator) -> str:
    return str(rng.choice(_FINDINGS)).format(
        size=lesion.size,
        Size=_capital(lesion.size),
        a_size=_with_article(lesion.size),
        A_size=_capital(_with_article(lesion.size)),
        shape=lesion.adjective,
        a_shape=_with_article(lesion.adjective),
        A_shape=_capital(_with_article(lesion.adjective)),
        term=lesion.term,
        place=position(lesion, look),
        percent=round(100 * lesion.length),
    )


def _with_article(words: str) -> str:
    return ("an " if words[0] in "aeiou" else "a ") + words


def _capital(words: str) -> str:
    return words[0].upper() + words[1:]


def ask(patient: Patient, lesions: list[Lesion], number: int, rng: np.random.Generator) -> list[dict[str, str]]:
    """Questions about one image, as the `questions` of its line in metadata.jsonl.

    The terms drawn are those of the named lesions, and adjective and term name one lesion among all that are drawn
    (`scene.py` sees to both): the answers hold for the look-alike too.

    Args:
        lesions: The lesions that the report names.
        number: Of the image; question ids are `<number, six digits>-<n>`.
    """
    here = [term for term in TERMS if term in {lesion.term for lesion in lesions}]
    absent = [term for term in TERMS if term not in here]
    # As many yes as no, where the image allows both.
    answer = bool(here) and (not absent or rng.random() < 0.5)
    term = str(rng.choice(here if answer else absent))
    asked = [
        ("What kind of image is this?", _NAMES[patient.look.modality], "open"),
        (f"Is {_with_article(term)} visible?", "yes" if answer else "no", "closed"),
        ("Is there any lesion?", "yes" if lesions else "no", "closed"),
    ]
    if lesions:
        lesion = lesions[rng.integers(len(lesions))]
        phrase, place = f"{lesion.adjective} {lesion.term}", position(lesion, patient.look)
        asked += [
            (f"In which zone is the {phrase}?", place, "open"),
            (f"What shape is the {lesion.term} in the {place} zone?", lesion.adjective, "open"),
            (f"Is the {phrase} {' or '.join(SIZES)}?", lesion.size, "closed"),
        ]
    return [
        {"question_id": f"{number:06d}-{n}", "question": question, "answer": reply, "answer_type": kind}
        for n, (question, reply, kind) in enumerate(asked)
    ]
