"""The questions of the split in the caption shards: whose they are, in which order, and what they leave alone."""

from pathlib import Path

import pytest

from models.data.format import ImageCaptions, ImageQuestion, from_json
from models.data.shards import ShardSet
from models.verified import DamagedError, sha256_file
from pipelines.files import read_json
from pipelines.records import CAPTIONS, SPLIT_IMAGES, SPLIT_QUESTIONS, QuestionRow
from pipelines.shards.questions import QuestionsByImage
from tests.pipelines.shards.conftest import Workspace


def asked(image_id: str, source: str, question_id: str, **changes: object) -> QuestionRow:
    values = {"question": "Is it?", "answer": "yes", "answer_type": "closed"}
    return QuestionRow(image_id=image_id, source=source, question_id=question_id, **values | changes)


def captions_of(workspace: Workspace) -> dict[str, ImageCaptions]:
    return {
        sample.key: sample.captions
        for split in ("train", "validation", "test")
        for sample in ShardSet(workspace.image_shards, workspace.caption_shards, split).samples(with_image=False)
    }


def test_each_image_has_its_own_questions_in_the_order_of_the_table(workspace: Workspace) -> None:
    rows = SPLIT_IMAGES.read(workspace.images)
    first, last = rows[0].image_id, rows[-1].image_id
    questions = [
        asked(last, "colour", "synpic-7", question="Wo?", answer="Hüfte, links", answer_type="open", split="train"),
        asked(first, "grey", "a"),
        asked(last, "grey", "b", split="test"),
        asked(first, "grey", "c", answer="no"),
    ]
    SPLIT_QUESTIONS.write(workspace.questions, questions)
    workspace.run_images()
    summary = workspace.run_captions()
    found = captions_of(workspace)
    assert found[first].questions == (
        ImageQuestion(question_id=f"{first}-0", question="Is it?", answer="yes", answer_type="closed"),
        ImageQuestion(question_id=f"{first}-1", question="Is it?", answer="no", answer_type="closed"),
    )
    named = {"question_id": f"{last}-0", "published_split": "train"}
    open_question = ImageQuestion(question="Wo?", answer="Hüfte, links", answer_type="open", **named)
    assert found[last].questions[0] == open_question
    assert [one.published_split for one in found[last].questions] == ["train", "test"]
    assert {key for key, captions in found.items() if captions.questions} == {first, last}
    assert summary["questions"] == {"written": 4, "image_not_in_shards": 0}
    manifest = read_json(workspace.caption_shards / "manifest.json")
    assert manifest["tables"]["questions"] == {"rows": 4, "sha256": sha256_file(workspace.questions)}


def test_an_image_without_questions_has_the_bytes_that_it_has_without_the_table(workspace: Workspace) -> None:
    workspace.code = "code"
    workspace.run_images()
    workspace.run_captions()
    before = {path.name: path.read_bytes() for path in workspace.caption_shards.rglob("*.tar")}
    assert not any(b'"questions"' in data for data in before.values())
    row = SPLIT_IMAGES.read(workspace.images)[0]
    SPLIT_QUESTIONS.write(workspace.questions, [asked(row.image_id, "grey", "a")])
    tars = workspace.run_captions()["tars"]
    assert (tars["written"], tars["taken_over"]) == (1, len(list(workspace.caption_shards.rglob("*.tar"))) - 1)
    for key, captions in captions_of(workspace).items():
        assert bool(captions.questions) == (key == row.image_id)


def test_questions_of_an_image_that_no_longer_opens_are_counted(workspace: Workspace) -> None:
    rows = {row.path: row for row in SPLIT_IMAGES.read(workspace.images)}
    gone, kept = rows["02.png"], rows["04.png"]
    (workspace.roots["colour"] / "02.png").write_bytes(b"")
    questions = [asked(gone.image_id, "x", "1"), asked(kept.image_id, "x", "2"), asked(gone.image_id, "x", "3")]
    SPLIT_QUESTIONS.write(workspace.questions, questions)
    workspace.run_images()
    summary = workspace.run_captions()
    assert summary["questions"] == {"written": 1, "image_not_in_shards": 2}
    assert {key for key, captions in captions_of(workspace).items() if captions.questions} == {kept.image_id}
    assert summary["inputs"] == len(CAPTIONS.read(workspace.captions))


def test_a_damaged_table_is_refused(workspace: Workspace) -> None:
    workspace.run_images()
    workspace.run_captions()
    workspace.questions.write_bytes(workspace.questions.read_bytes()[:-1])
    with pytest.raises(DamagedError, match=r"questions\.parquet"):
        workspace.run_captions()


@pytest.mark.parametrize("image_id", ["0" * 16, "8" + "0" * 15, "f" * 16])
def test_ids_up_to_the_largest_are_found(tmp_path: Path, image_id: str) -> None:
    """Half of all ids do not fit into a signed number, and floats would mix up neighbours."""
    near = f"{int(image_id, 16) ^ 1:016x}"
    SPLIT_QUESTIONS.write(
        tmp_path / "questions.parquet",
        [asked(near, "x", "1", answer="near"), asked(image_id, "x", "2", answer="own"), asked(near, "x", "3")],
    )
    questions = QuestionsByImage(tmp_path / "questions.parquet", tmp_path)
    assert [one.answer for one in questions.of(image_id)] == ["own"]
    assert [one.answer for one in questions.of(near)] == ["near", "yes"]
    assert questions.of("0" * 15 + "7") == ()
    assert (len(questions), questions.given) == (3, 3)


def test_questions_in_json_come_back_equal_and_a_strange_key_is_refused() -> None:
    text = '{"image_id":"a","status":"ok","basis":null,"oracle":false,"summary":null,"report":null,"regions":[],'
    text += '"questions":[{"question_id":"a-0","question":"q","answer":"3","answer_type":"open"}]}'
    (question,) = from_json(ImageCaptions, text, "x").questions
    assert question == ImageQuestion(question_id="a-0", question="q", answer="3", answer_type="open")
    with pytest.raises(ValueError, match=r"questions\[0\]\.organ: unknown key"):
        from_json(ImageCaptions, text.replace('"answer_type"', '"organ":"x","answer_type"'), "x")
