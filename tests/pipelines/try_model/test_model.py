"""What a model says on the page is what the predictor says; what it cannot do is said in words."""

import numpy as np
import pytest
from PIL import Image

from models.prediction import Predictor
from pipelines.predict.pictures import heat_picture, mask_overlay, overlay
from pipelines.try_model.model import SHOWN_SIDE, TriedModel, rank
from pipelines.try_model.study import StudyTexts
from tests.pipelines.try_model.conftest import PROMPTS, STUDY


def test_texts_are_ranked_by_cosine_and_equal_ones_keep_their_order() -> None:
    vectors = np.array([[0, 1], [1, 0], [0.6, 0.8], [1, 0]], np.float32)
    ranking = rank(("a", "b", "c", "d"), vectors, np.array([1, 0], np.float32))
    assert [text for text, _ in ranking] == ["b", "d", "c", "a"]
    assert [score for _, score in ranking] == pytest.approx([1, 1, 0.6, 0])
    assert rank(("a",), np.zeros((0, 0), np.float32), np.array([1, 0], np.float32)) == []


def test_map_cosine_and_rankings_are_those_of_the_predictor(
    clip: TriedModel, predictors: dict[str, Predictor], scan: Image.Image
) -> None:
    predictor = predictors["clip"]
    sample = predictor.prepare("0", scan)
    (image,) = predictor.embed_images([sample])
    (heat,) = predictor.heat_maps([(sample, "red left")])
    opened = clip.open(scan)
    answer = clip.answer(opened, "red left")
    (found,) = answer.maps
    np.testing.assert_array_equal(np.asarray(found.picture), np.asarray(overlay(scan, heat_picture(heat))))
    assert answer.cosine == pytest.approx(float(predictor.embed_texts(["red left"])[0] @ image), abs=1e-6)
    cosines = dict(zip(STUDY.captions, (predictor.embed_texts(STUDY.captions) @ image).tolist(), strict=True))
    assert dict(clip.nearest(opened, [])) == pytest.approx(cosines, abs=1e-6)
    own = dict(clip.nearest(opened, ["blue", "red"]))
    assert own == pytest.approx(
        dict(zip(("blue", "red"), (predictor.embed_texts(["blue", "red"]) @ image).tolist(), strict=True))
    )
    by_hand = {
        label: float((predictor.embed_texts([f"a {label}"])[0] - predictor.embed_texts([f"no {label}"])[0]) @ image)
        for label in STUDY.labels
    }
    findings = clip.findings(opened)
    assert dict(findings) == pytest.approx(by_hand, abs=1e-6)
    assert [label for label, _ in findings] == sorted(by_hand, key=by_hand.__getitem__, reverse=True)


def test_another_sentence_gives_another_map(clip: TriedModel, scan: Image.Image) -> None:
    opened = clip.open(scan)
    first, second = (np.asarray(clip.answer(opened, text).maps[0].picture) for text in ("red left", "blue upper"))
    assert (first != second).any()


def test_a_large_image_is_shown_small_and_seen_whole(clip: TriedModel, scan: Image.Image) -> None:
    large = scan.resize((2 * SHOWN_SIDE, SHOWN_SIDE), Image.Resampling.NEAREST)
    opened = clip.open(large)
    assert opened.shown.size == (SHOWN_SIDE, SHOWN_SIDE // 2)
    assert clip.answer(opened, "red").maps[0].picture.size == opened.shown.size
    assert large.size == (2 * SHOWN_SIDE, SHOWN_SIDE), "the given image stays as it is"


@pytest.mark.parametrize(
    ("method", "asks", "limits"),
    [
        ("clip", True, []),
        ("lvit", True, ["LViT does not compare images with texts"]),
        ("unet", False, ["UNet reads no text", "UNet does not compare images with texts"]),
    ],
)
def test_what_a_method_cannot_do_is_said(
    predictors: dict[str, Predictor], scan: Image.Image, method: str, asks: bool, limits: list[str]
) -> None:
    model = TriedModel(predictors[method], STUDY, PROMPTS)
    assert model.asks is asks
    assert len(model.limits) == len(limits)
    assert all(said.startswith(start) for said, start in zip(model.limits, limits, strict=True))
    opened = model.open(scan)
    assert len(model.answer(opened, "red" if asks else "").maps) == 1
    assert bool(model.nearest(opened, ["red"])) is bool(model.findings(opened)) is (method == "clip")


def test_without_a_study_there_is_nothing_to_rank(predictors: dict[str, Predictor], scan: Image.Image) -> None:
    model = TriedModel(predictors["clip"], StudyTexts(), None)
    opened = model.open(scan)
    assert model.nearest(opened, []) == model.findings(opened) == []
    assert len(model.nearest(opened, ["red"])) == 1


def test_a_mask_is_a_full_border_around_a_translucent_inside() -> None:
    image = Image.new("RGB", (9, 9), (100, 100, 100))
    mask = np.zeros((9, 9), bool)
    mask[2:7, 2:7] = True
    picture = np.asarray(mask_overlay(image, mask))
    assert picture[0, 0].tolist() == [100, 100, 100], "outside, a pixel from the border"
    assert picture[2, 4].tolist() == picture[1, 4].tolist() == [255, 64, 64], "the border, both sides of it"
    # Inside: 63 of 255 parts of the colour over the image.
    assert picture[4, 4].tolist() == pytest.approx(
        [100 + 155 * 63 / 255, 100 - 36 * 63 / 255, 100 - 36 * 63 / 255], abs=1
    )
    assert (np.asarray(mask_overlay(image, np.zeros((9, 9), bool))) == 100).all()
