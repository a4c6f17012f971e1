"""The pictures of a study: what its methods answer is what evaluation gets of them, and what is missing says why."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.capabilities import GroundsPhrases
from models.data.shards import ShardSet
from models.plan.model import Plan
from models.verified import seal
from pipelines.evaluate.evaluation_set import EvaluationSet
from pipelines.evaluate.metrics.localisation import upsample
from pipelines.evaluate.scoring import ScoredModel, load_model
from pipelines.records import ITEMS
from pipelines.studies.answers import StudyAnswers, answered
from pipelines.studies.kept_words import words_of
from pipelines.studies.pictures import pictures, retrieval_examples, retrieval_rule
from tests.pipelines.evaluate.small_world import tokenizer_of
from tests.pipelines.report.test_plots import item
from tests.pipelines.studies.small_workspace import write_workspace

NAMES = {"clip": "CLIP <b>", "plan": "PLAN", "unet": "U-Net", "gone": "Gone"}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_workspace(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def found(workspace: Path) -> StudyAnswers:
    return answered(workspace, list(NAMES))


def whole(workspace: Path, scored: ScoredModel) -> EvaluationSet:
    shards = ShardSet(workspace / "data/shards/images", workspace / "data/shards/captions", "test")
    return EvaluationSet(scored.model, scored.tokenizer, shards.samples, 4)


def test_each_method_answers_what_it_can_and_one_that_is_not_there_says_so(found: StudyAnswers) -> None:
    counts = {
        name: (len(of.heat_maps), len(of.masks), len(of.nearest), len(of.kept_words))
        for name, of in found.answers.items()
    }
    assert counts == {"clip": (6, 0, 4, 0), "plan": (6, 0, 4, 3), "unet": (0, 6, 0, 0), "gone": (0, 0, 0, 0)}
    assert "data/checkpoints/gone" in str(found.answers["gone"].fault)
    assert [of.fault for name, of in found.answers.items() if name != "gone"] == [None] * 3


def test_answers_are_those_of_the_whole_split(workspace: Path, found: StudyAnswers) -> None:
    scored = load_model("plan", workspace / "data/checkpoints/plan")
    assert scored.model.offers(GroundsPhrases)
    test = whole(workspace, scored)
    pairs = sorted((phrase.index, phrase.text) for phrase in found.shown.phrases)
    maps = {key: heat for key, (_, heat) in zip(pairs, test.ground(pairs), strict=True)}
    for phrase, heat_map in zip(found.shown.phrases, found.answers["plan"].heat_maps, strict=True):
        expected = upsample(maps[phrase.index, phrase.text][None], 16, slice(0, 16))[0]
        np.testing.assert_allclose(heat_map, expected, atol=1e-5)

    texts = test.embed_texts(found.shown.pool)
    for index, places in zip(found.shown.queries, found.answers["plan"].nearest, strict=True):
        cosines = texts @ test.image_embeddings[index]
        assert cosines[places].tolist() == pytest.approx(sorted(cosines.tolist(), reverse=True)[:5], abs=1e-5)


def test_kept_words_are_fewer_in_each_iteration_and_the_last_map_is_that_of_grounding(
    workspace: Path, found: StudyAnswers
) -> None:
    scored = load_model("plan", workspace / "data/checkpoints/plan")
    assert isinstance(scored.model, Plan)
    test = whole(workspace, scored)
    for (index, report), of_report in zip(found.shown.reports.items(), found.answers["plan"].kept_words, strict=True):
        assert of_report.words == report.lower().rstrip(".").split()
        # Four words, of which an iteration keeps 0.7: 3, 2 and 1.
        assert of_report.kept.sum(axis=1).tolist() == [3, 2, 1]
        assert (of_report.kept[1:] <= of_report.kept[:-1]).all()
        ((_, heat_map),) = test.ground([(index, report)])
        expected = upsample(heat_map[None], 16, slice(0, 16))[0]
        np.testing.assert_allclose(of_report.heat_maps[-1], expected, atol=1e-5)


def test_words_stand_by_their_numbers() -> None:
    tokenizer = tokenizer_of(["opacity in the left lung"])
    assert words_of(tokenizer, "opacities in the left lung") == ["opacities", "in", "the", "left", "lung"]
    assert words_of(tokenizer, "") == []


def test_pictures_are_made_of_what_is_there_and_the_others_say_why(workspace: Path, found: StudyAnswers) -> None:
    evaluation(workspace, NAMES)
    made = {picture.file: picture for picture in pictures(NAMES, workspace, found)}
    assert {file: picture.reason for file, picture in made.items()} == {
        "heat_maps.png": None,
        "masks.png": None,
        "kept_words-plan.png": None,
        "roc.svg": None,
        "few_shot.svg": "the task probe scored nothing here",
    }
    for file in ("heat_maps.png", "masks.png", "kept_words-plan.png"):
        data = made[file].data or b""
        pixels = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        assert min(pixels.shape[:2]) > 300
        assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 50, "not an empty sheet"
    assert "U-Net (its method has none); Gone (" in made["heat_maps.png"].caption
    assert "CLIP <b> (its method has none); PLAN (its method has none); Gone (" in made["masks.png"].caption
    (again,) = (one for one in pictures({"unet": "U-Net"}, workspace, found) if one.file == "masks.png")
    assert again.data == made["masks.png"].data


def evaluation(workspace: Path, names: dict[str, str]) -> None:
    """What evaluation leaves: the task zero_shot of one method."""
    rows = [
        item("zero_shot", "cosine_difference", value, str(n), label="mass", truth=truth)
        for n, (value, truth) in enumerate([(0.9, 1), (0.8, 0), (0.7, 1), (0.1, 0)])
    ]
    for name in names:
        folder = workspace / "data/evaluation" / name
        folder.mkdir(parents=True)
        scored = {"zero_shot": {"status": "ok", "metrics": {}}} if name == "clip" else {}
        (folder / "metrics.json").write_text(json.dumps({"tasks": scored}))
        ITEMS.write(folder / "items.parquet", rows if name == "clip" else [])
        seal(folder)


def test_nothing_is_shown_of_a_study_without_methods(workspace: Path) -> None:
    made = pictures({}, workspace, answered(workspace, []))
    assert {picture.file: picture.reason for picture in made} == {
        "heat_maps.png": "no test image has an annotated region with a caption",
        "masks.png": "no test image has outlines of all its findings",
        "roc.svg": "the task zero_shot scored no finding here",
        "few_shot.svg": "the task probe scored nothing here",
    }


def test_retrieval_examples_mark_the_images_own_text(found: StudyAnswers) -> None:
    examples = retrieval_examples(NAMES, found)
    assert [example.own for example in examples] == list(found.shown.queries.values())
    for example in examples:
        assert list(example.nearest) == ["CLIP <b>", "PLAN"]
        for texts in example.nearest.values():
            assert len({text for text, _ in texts}) == 5
            assert [own for _, own in texts] == [text == example.own for text, _ in texts]
    assert "ranked against 8 different texts" in retrieval_rule(found)
