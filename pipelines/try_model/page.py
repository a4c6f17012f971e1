"""The page's script, which Streamlit runs anew for each change that a person makes; each person has a state apart.

Sentences, captions, labels and what readers say of a file are data: they are shown as plain text, never as Markdown.
"""

import hashlib
import re
from typing import Any

import streamlit as st

from pipelines.errors import UserError
from pipelines.try_model import uploads
from pipelines.try_model.about import About
from pipelines.try_model.model import Opened, Ranking, SentenceAnswer, TriedModel
from pipelines.try_model.server import Tried, tried

NO_DEVICE = (
    "No medical device. What this page says is for research: it must not be used to diagnose, to treat or to decide "
    "about anybody."
)
# Of the sentences of one image: how many maps stand beside each other.
SIDE_BY_SIDE = 2
# The tasks that score maps.
MAP_TASKS = ("grounding", "segmentation")


def main() -> None:
    st.set_page_config(page_title="Try the model", layout="wide")
    model, about = tried().model, tried().about
    st.title("Try the model")
    st.warning(NO_DEVICE)
    _about(about)
    given, answer = st.columns([1, 2], gap="large")
    with given:
        opened = _image(model)
        sentence = _sentence() if model.asks else ""
        own = _own_texts() if model.compares else []
    with answer:
        for limit in model.limits:
            st.info(plain(limit))
        if opened is not None:
            _answer(tried(), opened, sentence, own)


def plain(text: str) -> str:
    """Text as Markdown that shows it as it is."""
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", " ".join(text.split()))


def say(line: str) -> None:
    """One line about what is wrong."""
    st.error(plain(line))


def _about(about: About) -> None:
    st.text(f"{about.name}: {' '.join(about.origin)}")
    if not about.scores:
        st.text("How it scores against chance is not known here.")
        return
    with st.expander("Scores on the test images of its study, beside chance and answers that need no model"):
        rows = {
            "task": list(about.scores),
            "score (95 % interval); chance, trivial answers": list(about.scores.values()),
        }
        _table(rows)


def _image(model: TriedModel) -> Opened | None:
    """The image that the person chose, prepared; None where there is none that can be used."""
    upload = st.file_uploader(
        f"Image: PNG, JPEG, TIFF, DICOM, NIfTI and more, at most {uploads.MAX_MEGABYTES} MB", key="upload"
    )
    state: Any = st.session_state
    if upload is None:
        state.pop("image", None)
        return None
    try:
        data = upload.getvalue()
        count = uploads.slices(data)
        number = None
        if count > 1:
            number = int(st.number_input(f"Slice, 0 to {count - 1}", 0, count - 1, count // 2, key="slice"))
        key = (hashlib.sha256(data).hexdigest(), number)
        if "image" not in state or state["image"][0] != key:
            state["image"] = (key, model.open(uploads.open_upload(data, number)))
            state["shown"] = []
    except UserError as error:
        state.pop("image", None)
        say(str(error))
        return None
    opened: Opened = state["image"][1]
    return opened


def _sentence() -> str | None:
    """The last sentence that was sent and can be used; None where there is none."""
    state: Any = st.session_state
    with st.form("ask", border=False):
        typed = st.text_input("Sentence", placeholder="opacity in the left lower lung", key="typed")
        sent = st.form_submit_button("Show where", type="primary")
    if sent:
        try:
            state["sentence"] = uploads.check_sentence(typed)
        except UserError as error:
            say(str(error))
    found: str | None = state.get("sentence")
    return found


def _own_texts() -> list[str]:
    lines = st.text_area("Texts to compare with, one a line (empty: captions of the study)", key="texts")
    try:
        return uploads.own_texts(lines)
    except UserError as error:
        say(str(error))
        return []


def _answer(shown: Tried, opened: Opened, sentence: str | None, own: list[str]) -> None:
    model = shown.model
    try:
        if sentence is None:
            st.text("Write a sentence and press Show where.")
            st.columns(SIDE_BY_SIDE)[0].image(opened.shown, width="stretch")
        else:
            _maps(model, opened, sentence)
            # How far a map can be believed stands beside it, not only among all scores.
            for task in MAP_TASKS:
                if task in shown.about.scores:
                    st.caption(plain(f"Its maps on the test images of its study: {shown.about.scores[task]}."))
        if model.compares:
            _nearest(model, opened, own)
            _findings(model, opened)
    except UserError as error:
        say(str(error))


def _maps(model: TriedModel, opened: Opened, sentence: str) -> None:
    """The map of the sentence beside those of the sentences before it."""
    shown: list[SentenceAnswer] = st.session_state["shown"]
    if not shown or shown[-1].sentence != sentence:
        shown.append(model.answer(opened, sentence))
        del shown[:-SIDE_BY_SIDE]
    for column, title, one in zip(st.columns(SIDE_BY_SIDE), ("Now", "Before"), reversed(shown), strict=False):
        with column:
            if model.asks:
                st.subheader(title)
                st.text(one.sentence)
            for found in one.maps:
                st.image(found.picture, width="stretch")
                st.caption(plain(found.note))
            if one.cosine is not None:
                st.caption(plain(f"Cosine of sentence and image: {one.cosine:+.3f}."))


def _nearest(model: TriedModel, opened: Opened, own: list[str]) -> None:
    st.subheader("Nearest texts")
    ranking = model.nearest(opened, own)
    if not ranking:
        st.text("The folder holds no captions of a study: type texts of your own.")
        return
    of = f"the {len(own)} texts that you typed"
    if not own:
        study = model.study
        of = f"the {len(study.captions):,} captions of this study's training images"
        of += f" (the most frequent of {study.distinct:,})" if study.distinct > len(study.captions) else ""
    st.caption(plain(f"Of {of}. Cosine of text and image, -1 to 1; no probability."))
    _ranking(ranking, "cosine", "text")


def _findings(model: TriedModel, opened: Opened) -> None:
    st.subheader("Findings")
    ranking = model.findings(opened)
    if not ranking:
        st.text("The study names no findings here, or params.yaml has no prompts for them (evaluate.tasks.zero_shot).")
        return
    st.caption(
        plain(
            "Findings that the study's sources name. Cosine to prompts for the finding, less that to prompts for its "
            "absence: above 0 the model leans to the finding. No probability."
        )
    )
    _ranking(ranking, "score", "finding")


def _ranking(ranking: Ranking, score: str, what: str) -> None:
    _table({score: [f"{value:+.3f}" for _, value in ranking], what: [text for text, _ in ranking]})


def _table(columns: dict[str, list[str]]) -> None:
    """Columns of equal length with their names."""
    st.table({name: [plain(cell) for cell in cells] for name, cells in columns.items()}, hide_index=True)


if __name__ == "__main__":
    main()
