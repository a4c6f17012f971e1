"""Grounding by class: a small made set as MS-CXR ships it, through its adapter, with values by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.evaluate.grounding.classes import MACRO, TAKEN, class_name
from pipelines.evaluate.tasks.grounding import Grounding
from pipelines.ingest.record import SourceRecord
from pipelines.promotion.paired import check_metric, value_of
from pipelines.records import ITEMS
from tests.pipelines.evaluate.small_world import SIDE, WORDS, Grounder, image, region, task_result, tokenizer_of
from tests.pipelines.evaluate.test_grounding import expected
from tests.pipelines.ingest.chest_layouts import rows, save, write
from tests.pipelines.ingest.test_ms_cxr import LISTING, line, table

WIDTH = 800
# Category, number of the word that the sentence has, boxes in sixteenths of the image.
SENTENCES = [
    ("Pleural Effusion", 5, [(0, 0, 8, 8)]),
    ("Pleural Effusion", 6, [(0, 0, 8, 8), (8, 8, 16, 16)]),
    # Painted as another word: the map is constant.
    ("Edema", 7, [(8, 0, 16, 8)]),
]
WRONG = 9
TOKENIZER = tokenizer_of([f"there is {word} seen" for word in WORDS])


def path_of(number: int) -> str:
    return f"files/p10/p1000000{number}/s5000000{number}/aaaa-{number}.jpg"


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[SourceRecord]:
    root = tmp_path_factory.mktemp("ms_cxr")
    lines = []
    for number, (category, word, boxes) in enumerate(SENTENCES):
        save(root / path_of(number), number, WIDTH, WIDTH)
        for x0, y0, x1, y1 in boxes:
            edges = tuple(edge * WIDTH / SIDE for edge in (x0, y0, x1 - x0, y1 - y0))
            lines.append(line(path_of(number), category, f"There is {WORDS[word]} seen.", edges, "test"))
    listing = table(*(text.replace(",800,600,", f",{WIDTH},{WIDTH},") for text in lines))
    write(root / f"{LISTING}.csv", listing)
    found, rejected = rows("ms_cxr", root)
    assert not rejected
    return found


def as_image(number: int, record: SourceRecord) -> dict[str, Any]:
    """The image of a record, with what its sentence says painted in its boxes."""
    _, word, _ = SENTENCES[number]
    regions = []
    for found in record.regions:
        assert found.box is not None
        box = tuple(round(edge * SIDE / WIDTH) for edge in found.box)
        painted = WRONG if number == 2 else word
        own = region(painted, box, label=found.label, phrase=found.phrase, term=found.label, mask=False)  # type: ignore[arg-type]
        regions.append(own)
    return {**image(number), "level": 0, "regions": regions, "labels": list(record.labels or ())}


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory, records: list[SourceRecord]) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("by_class")
    images = [as_image(number, record) for number, record in enumerate(records)]
    return folder, task_result(folder, images, "grounding", {"by_class": True}, Grounder(TOKENIZER), TOKENIZER)


def test_the_ratio_of_each_class_and_the_mean_over_classes_by_hand(scored: tuple[Path, dict[str, Any]]) -> None:
    _, result = scored
    metrics = result["metrics"]
    ratios = [expected([(0, 0, 8, 8)])[0], expected([(0, 0, 8, 8), (8, 8, 16, 16)])[0]]
    assert metrics["pleural_effusion/cnr_absolute"]["value"] == pytest.approx(np.mean(ratios), abs=1e-6)
    assert metrics["edema/cnr_absolute"]["value"] == 0
    # Two thirds of the phrases are effusions, and half of the classes.
    assert metrics["macro/cnr_absolute"]["value"] == pytest.approx(np.mean(ratios) / 2, abs=1e-6)
    assert metrics["cnr_absolute"]["value"] == pytest.approx(np.sum(ratios) / 3, abs=1e-6)
    chances = [metrics[f"{name}/cnr_absolute"]["chance"] for name in ("edema", "pleural_effusion")]
    assert metrics["macro/cnr_absolute"]["chance"] == pytest.approx(np.mean(chances), abs=1e-5)
    assert min(chances) > 0 == metrics["macro/cnr_signed"]["chance"]
    centre = [metrics[f"{name}/cnr_signed"]["baselines"]["centre heatmap"] for name in ("edema", "pleural_effusion")]
    assert metrics["macro/cnr_signed"]["baselines"]["centre heatmap"] == pytest.approx(np.mean(centre), abs=1e-5)
    # One phrase has no interval, nor has a mean with it.
    assert metrics["edema/cnr_absolute"]["low"] is None is metrics["macro/cnr_absolute"]["low"]
    low, high = (metrics["pleural_effusion/cnr_absolute"][name] for name in ("low", "high"))
    assert (low, high) == pytest.approx((min(ratios), max(ratios)), abs=1e-6)
    assert "image-blind" in metrics["macro/cnr_signed"]["baselines"]
    items = result["details"]["items"]
    assert [items[name] for name in ("edema", "pleural_effusion", "macro")] == [1, 2, 3]


def test_a_ratio_by_class_can_be_a_gate_and_the_mean_over_classes_cannot(scored: tuple[Path, dict[str, Any]]) -> None:
    folder, result = scored
    items = [row for row in ITEMS.read(folder / "out/items.parquet") if row.task == "grounding"]
    name = "pleural_effusion/cnr_signed"
    check_metric(name, result["metrics"], items)
    assert value_of(items, name) == pytest.approx(result["metrics"][name]["value"], abs=1e-6)
    assert value_of(items, "macro/cnr_signed") is None


def test_without_the_option_the_other_scores_are_the_same(
    tmp_path: Path, records: list[SourceRecord], scored: tuple[Path, dict[str, Any]]
) -> None:
    images = [as_image(number, record) for number, record in enumerate(records)]
    plain = task_result(tmp_path, images, "grounding", {}, Grounder(TOKENIZER), TOKENIZER)
    _, by_class = scored
    classes = ("macro/", "edema/", "pleural_effusion/")
    assert plain["metrics"] == {k: v for k, v in by_class["metrics"].items() if not k.startswith(classes)}
    assert plain["metrics"].keys() < by_class["metrics"].keys()
    # The order of the images changes nothing.
    turned = task_result(
        tmp_path / "turned",
        [{**one, "key": f"{9 - n:016x}"} for n, one in enumerate(images)][::-1],
        "grounding",
        {"by_class": True},
        Grounder(TOKENIZER),
        TOKENIZER,
    )
    values = {name: metric["value"] for name, metric in turned["metrics"].items()}
    assert values == pytest.approx({name: metric["value"] for name, metric in by_class["metrics"].items()})


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("Pleural Effusion", "pleural_effusion"),
        ("T1/T2 _lesion_", "t1_t2_lesion"),
        ("肺炎", "肺炎"),
        ("胸腔 积液", "胸腔_积液"),
        ("Плеврит", "плеврит"),
        ("Ödem", "ödem"),
        # What stands for something else in the names of metrics and in the counts.
        ("Macro", "macro_"),
        ("without position", "without_position_"),
        ("Pointing", "pointing_"),
        ("CNR signed", "cnr_signed_"),
    ],
)
def test_a_label_of_any_script_names_its_class(label: str, name: str) -> None:
    assert class_name(label) == name


def test_no_class_is_called_like_a_setting_or_a_metric() -> None:
    assert {part for name in Grounding.definitions for part in name.split("/")} < TAKEN
    assert MACRO in TAKEN


def test_classes_of_other_scripts_and_of_taken_names_have_scores_of_their_own(tmp_path: Path) -> None:
    labels = ("肺炎", "胸腔积液", "Macro")
    images = [
        {
            **image(number),
            "level": 0,
            "labels": [label],
            # Of the second the map is constant: it is painted as another word.
            "regions": [
                region(
                    WRONG if number == 1 else 5 + number,
                    (0, 0, 8, 8),
                    label=label,
                    phrase=f"There is {WORDS[5 + number]} seen.",
                    term="spot",
                )
            ],
        }
        for number, label in enumerate(labels)
    ]
    found = task_result(tmp_path / "with", images, "grounding", {"by_class": True}, Grounder(TOKENIZER), TOKENIZER)
    plain = task_result(tmp_path / "without", images, "grounding", {}, Grounder(TOKENIZER), TOKENIZER)
    ratio = expected([(0, 0, 8, 8)])[0]
    values = {name: metric["value"] for name, metric in found["metrics"].items()}
    assert values["肺炎/cnr_signed"] == values["macro_/cnr_signed"] == pytest.approx(ratio, abs=1e-6)
    assert values["胸腔积液/cnr_signed"] == 0
    # The mean over the classes, and that over the phrases, which the option does not touch.
    assert values["macro/cnr_signed"] == pytest.approx(2 * ratio / 3, abs=1e-6)
    assert {name: found["metrics"][name] for name in plain["metrics"]} == plain["metrics"]
    counts = {name: found["details"]["items"][name] for name in ("肺炎", "胸腔积液", "macro_", "macro")}
    assert counts == {"肺炎": 1, "胸腔积液": 1, "macro_": 1, "macro": 3}
    rows = [row for row in ITEMS.read(tmp_path / "with/out/items.parquet") if row.metric == "胸腔积液/cnr_signed"]
    assert [row.value for row in rows] == [0]
