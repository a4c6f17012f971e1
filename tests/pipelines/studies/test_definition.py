"""The studies that ship with the project, and what is refused."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.config import parse
from pipelines.errors import UserError
from pipelines.evaluate.grounding.classes import class_name
from pipelines.params import load_study as load_params
from pipelines.registry import PLUGINS, plugin
from pipelines.studies.definition import DEMO, PAPER, SCALES, DataSet, Study, load_data_sets, load_study, study_names
from pipelines.studies.metrics import why_unknown
from pipelines.studies.settings import (
    check,
    counts_images,
    missing,
    params_of,
    source_of,
    to_run,
    why_all_empty,
    why_empty,
)
from pipelines.train.config import TrainConfig
from tests.test_params import SECTIONS

NAMES = study_names(Path(__file__).parents[3] / "studies")


@cache
def loaded_study(name: str, repository: Path) -> Study:
    """A study that ships with the project; several tests look at each."""
    return load_study(name, repository / "studies")


def all_there(study: Study, repository: Path) -> dict[str, DataSet]:
    """The data sets of a study, as if each lay in its place."""
    data = load_data_sets(repository / "studies/data.yaml")
    return {key: data[key] for key in study.data_sets}


@cache
def params_at(name: str, scale: str, repository: Path) -> dict[str, Any]:
    """Its params, with all its data sets there; several tests look at each."""
    study = loaded_study(name, repository)
    return params_of(study, name, scale, all_there(study, repository), repository)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", NAMES)
def test_every_study_gives_params_that_the_stages_take(repository: Path, name: str, scale: str) -> None:
    study = loaded_study(name, repository)
    values = params_at(name, scale, repository)
    assert values.keys() == SECTIONS.keys()
    loaded: dict[str, Any] = {section: parse(cls, values[section], section) for section, cls in SECTIONS.items()}
    # What others trained has no figures at the scale demo.
    rows = [row for row in study.rows if row.entry is not None and (scale == PAPER or row.weights is None)]
    entries = {row.entry: row.method for row in rows}
    different = {repr(row.trained) for row in rows}
    assert len(entries) == len(different)
    train: TrainConfig = loaded["train"]
    assert {entry: one.method or entry for entry, one in train.methods.items()} == entries
    for entry, one in train.methods.items():
        parse(plugin("methods", one.method or entry).Config, one.model, entry)
        # What the params do not know, such as a phase of another name, has no epochs and would be refused above.
        losses = {loss for phase in one.training.phases.values() for loss in phase.losses}
        assert losses <= set(plugin("methods", one.method or entry).losses)
    for task, options in loaded["evaluate"].tasks.items():
        parse(plugin("tasks", task).Config, options, task)


@pytest.mark.parametrize("name", NAMES)
def test_the_sources_of_each_scale(repository: Path, name: str) -> None:
    study = loaded_study(name, repository)
    data = all_there(study, repository)
    demo, paper = (params_at(name, scale, repository) for scale in SCALES)
    assert demo["phantom"]["images"] <= 1000
    assert demo["ingest"]["sources"].keys() == {"phantom"}
    assert demo["split"]["allow_leaks"] == []
    assert paper["ingest"]["sources"] == {key: source_of(one) for key, one in data.items()}
    # Of a file that two sources hold the first key's row stays, by whose split the image is used.
    if "whole_mimic_cxr" in data:
        assert max(data) == "whole_mimic_cxr"
        assert data.keys() & {"ms_cxr", "mimic_5x200"} <= set(paper["split"]["allow_leaks"])
    assert set(study.trains_on) <= paper["ingest"]["sources"].keys()
    assert paper["split"]["allow_leaks"] == [key for key, one in data.items() if one.leaks]
    for values, expected in ((demo, None), (paper, study.trains_on or None)):
        methods = values["train"]["methods"].values()
        found = [entry["training"].get("sources") for entry in methods if entry["training"]["phases"]]
        assert found == [expected] * len(found)
    # Methods that segment learn from annotations alone: no detector, and no server for captions.
    segments = study.base == "params/segmentation.yaml"
    assert (paper["proposals"]["proposers"], paper["captions"]["captioner"]) == (
        ([], "findings") if segments else (["grounding_dino"], "vllm")
    )


def test_rows_of_an_ablation_train_what_they_say_at_both_scales(repository: Path) -> None:
    for scale in SCALES:

        def methods(name: str, scale: str = scale) -> dict[str, Any]:
            return params_at(name, scale, repository)["train"]["methods"]

        baseline = methods("002_table2")["tmca_tsdm_off_ltem_off_mcas_off"]
        assert [phase["losses"] for phase in baseline["training"]["phases"].values()] == [["segmentation"]]
        assert baseline["model"]["levels"] == []
        for name in ("003_table3", "003_table4", "003_table5", "003_figure11"):
            assert {method["model"]["vision_mask_ratio"] for method in methods(name).values()} - {0.3, None} == set()
        figure = methods("001_figure5")
        epochs = {sum(phase["epochs"] for phase in one["training"]["phases"].values()) for one in figure.values()}
        assert epochs == {9 if scale == DEMO else 26}


def test_every_table_of_the_five_papers_is_there() -> None:
    wanted = {
        *(f"000_table{number}" for number in (2, 3, 4, 5, 6)),
        *(f"001_table{number}" for number in (1, 2, 3, 5, 6, 7)),
        *(f"002_table{number}" for number in (1, 2, 3)),
        *(f"003_table{number}" for number in (1, 2, 3, 4, 5)),
        *(f"004_table{number}" for number in (1, 2, 3, 4)),
        *("000_figure6", "000_figure7", "001_figure1", "001_figure5"),
        *("003_figure7", "003_figure8", "003_figure11", "003_figure12"),
    }
    assert wanted - set(NAMES) == set()


def test_every_data_set_has_a_place_of_its_own(repository: Path) -> None:
    data = load_data_sets(repository / "studies/data.yaml")
    places = [one.place for one in data.values()]
    assert len(set(places)) == len(places)
    assert all(re.fullmatch(r"data/raw/[a-z0-9_]+", place) for place in places)
    for one in data.values():
        if one.adapter is not None:
            plugin("sources", one.adapter)


ROW = {"name": "Ours", "printed": [50.0, None], "method": "clip"}
STUDY: dict[str, Any] = {
    "paper": "A paper",
    "place": "Table 1",
    "title": "Two scores",
    "base": "params/pretraining.yaml",
    "columns": [
        {"name": "R@1", "data": "here", "metric": "retrieval/i2t_recall@1", "unit": "percent"},
        {"name": "Parameters", "metric": "parrots/parameters", "unit": "millions"},
    ],
    "rows": [ROW, {"name": "Theirs", "printed": [40.0, 3.0]}],
}
DATA = {"here": {"name": "Here", "obtained": "the authors", "licence": "unknown", "place": "data/raw/here"}}
WEIGHTS = {"clip": {"name": "CLIP", "obtained": "its authors", "place": "data/weights/clip", "max_length": 77}}


def written(folder: Path, **changes: Any) -> Path:
    (folder / "data.yaml").write_text(yaml.safe_dump(DATA))
    (folder / "weights.yaml").write_text(yaml.safe_dump(WEIGHTS))
    (folder / "one.yaml").write_text(yaml.safe_dump(STUDY | changes))
    return folder


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": [{**ROW, "printed": [1.0]}]}, "row 'Ours' has 1 printed values for 2 columns"),
        ({"rows": [ROW, ROW]}, "rows has 'Ours' twice"),
        ({"rows": []}, "at least one column and one row"),
        ({"rows": [{"name": "a", "settings": {"model": {}}}]}, "row 'a' has settings and no method"),
        (
            {
                "rows": [
                    ROW | {"name": name, "settings": {"model": {"width": n}}} for n, name in enumerate(("a (", "a )"))
                ]
            },
            "rows 'a (' and 'a )' differ in method or settings and would both be trained as 'clip_a'",
        ),
        ({"columns": [{**STUDY["columns"][0], "unit": "per cent"}]}, "unit is 'per cent': choose from percent"),
        ({"columns": [{**STUDY["columns"][0], "metric": "recall"}]}, "metric is 'recall': write <task>/<metric>"),
        ({"columns": [{**STUDY["columns"][0], "dat": "x"}]}, "dat: unknown key; did you mean 'data'"),
        ({"columns": [{"name": "R@1", "unit": "ratio"}]}, "column 'R@1' needs a metric or mean_of, and not both"),
        (
            {"columns": [{**STUDY["columns"][0], "mean_of": ["R@1"]}]},
            "column 'R@1' needs a metric or mean_of, and not both",
        ),
        (
            {"columns": [{"name": "Mean", "unit": "percent", "mean_of": ["R@1"]}, STUDY["columns"][0]]},
            "column 'Mean' is the mean of 'R@1', no column before it in its unit",
        ),
        (
            {"columns": [STUDY["columns"][0], {"name": "Mean", "unit": "ratio", "mean_of": ["R@1"]}]},
            "column 'Mean' is the mean of 'R@1', no column before it in its unit",
        ),
        (
            {"rows": [ROW | {"weights": "clp"}]},
            "row 'Ours' names the weights 'clp', which studies/weights.yaml lacks: did",
        ),
        ({"rows": [ROW | {"weights": "clip"}]}, "row 'Ours': the method pretrained, and no other one, needs weights"),
        (
            {"rows": [ROW | {"method": "pretrained"}]},
            "row 'Ours': the method pretrained, and no other one, needs weights",
        ),
        ({"rows": [ROW | {"weights": 3}]}, "row 'Ours' names the weights '3', which studies/weights.yaml lacks: clip"),
        ({"rows": 5}, "one.yaml.rows: Input should be a valid array (found 5)"),
        ({"rows": [5]}, "one.yaml.rows.0: "),
        ({"rows": [{"name": "a", "words": 0}]}, "row 'a' shows a text of 0 words"),
        (
            {"rows": [{"name": "a", "settings_at": {"paper": {"model": {}}}}]},
            "row 'a' has settings and no method",
        ),
        (
            {"rows": [{**ROW, "settings_at": {"papr": {"model": {}}}}]},
            "row 'Ours': settings_at names the scale 'papr': choose from demo, paper",
        ),
        ({"differs_at": {"all": ["x"]}}, "differs_at names the scale 'all': choose from demo, paper"),
        ({"trains_on": ["her"]}, "trains_on names the data set 'her', which"),
        (
            {"rows": [{"name": "a", "counts": {"data": "here", "modality": "xray"}}]},
            "modality is 'xray': choose from radiograph",
        ),
        ({"rows": [{"name": "a", "counts": {"data": "her"}}]}, "row 'a' counts the data set 'her', which"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        load_study("one", written(tmp_path, **changes))


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ("retrieval/i2t_recal@1", "'retrieval' has no metric 'i2t_recal@1': did you mean 'i2t_recall@k'?"),
        ("grounding/cnr/edema", "'grounding' has no metric 'cnr/edema': it has which_lesion, pointing, cnr_signed"),
        ("efficiency/flop", "'efficiency' has no metric 'flop': did you mean 'flops'?"),
        ("efficiency/memory_mb", "'efficiency' has no metric 'memory_mb': did you mean 'memory'?"),
        ("efficiency/seconds_to_dice", "did you mean 'seconds_to_dice@k'?"),
        ("efficiency/seconds_to_dice@7", "did you mean 'seconds_to_dice@k'?"),
        ("counts/tests", "'counts' has no metric 'tests': did you mean 'test'?"),
        ("words/left", "'words' has no metric 'left': did you mean 'left@k'?"),
        ("retreival/i2t_recall@1", "there is no task 'retreival': did you mean 'retrieval'?"),
        ("count/test", "there is no task 'count': did you mean 'counts'?"),
    ],
)
def test_a_mistyped_metric_is_one_line(tmp_path: Path, metric: str, message: str) -> None:
    folder = written(tmp_path, columns=[STUDY["columns"][0], {"name": "x", "metric": metric, "unit": "ratio"}])
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        load_study("one", folder)
    assert str(caught.value).startswith(f"{folder}/one.yaml: column 'x': ")
    assert "\n" not in str(caught.value)


def test_every_metric_that_a_study_names_is_a_defined_one(repository: Path) -> None:
    named = {
        column.metric: name
        for name in NAMES
        for column in loaded_study(name, repository).columns
        if column.metric is not None
    }
    # Nobody can say of an unknown task what its metrics are.
    assert {metric for metric in named if why_unknown(metric) is not None} == set()
    tasks = {metric.partition("/")[0] for metric in named}
    assert tasks <= PLUGINS["tasks"].keys() | {"efficiency", "counts", "words"}
    assert {"detection", "grounding", "probe", "retrieval", "segmentation", "vqa", "zero_shot"} <= tasks
    assert why_unknown("parrots/colour") is None


def test_columns_by_class_are_of_the_eight_categories_of_ms_cxr(repository: Path) -> None:
    names = ["Atelectasis", "Cardiomegaly", "Consolidation", "Lung Opacity", "Edema", "Pneumonia", "Pneumothorax"]
    wanted = {f"grounding/{class_name(name)}/cnr_absolute" for name in [*names, "Pleural Effusion"]}
    for name in ("000_table2", "000_table6", "000_figure6"):
        study = loaded_study(name, repository)
        assert {column.metric for column in study.columns} - {"grounding/macro/cnr_absolute"} == wanted
        assert study.tasks["grounding"] == {"by_class": True}


def test_names_that_are_not_there(tmp_path: Path, repository: Path) -> None:
    with pytest.raises(UserError, match="there is no study 'on': did you mean 'one'"):
        load_study("on", written(tmp_path))
    column = {**STUDY["columns"][0], "data": "there"}
    with pytest.raises(UserError, match=r"column 'R@1' names the data set 'there', which studies/data\.yaml lacks"):
        load_study("one", written(tmp_path, columns=[column, STUDY["columns"][1]]))
    study = load_study("one", written(tmp_path, rows=[{**ROW, "method": "unet"}]))
    with pytest.raises(UserError, match=r"row 'Ours': params/pretraining\.yaml has no method 'unet'"):
        params_of(study, "one", DEMO, {}, repository)


def test_rows_of_one_method_with_other_settings_are_entries_of_their_own(tmp_path: Path, repository: Path) -> None:
    phases = {"phases": {"global": {"losses": ["report", "summary"]}}}
    rows = [
        ROW,
        {"name": "Again", "method": "clip"},
        {"name": "w/ Summary (ours)", "method": "clip", "settings": {"training": phases}},
        # Names that differ by a sign alone, as ablations print them.
        {"name": "w/ Summary ×", "method": "clip", "settings": {"training": {"seed": 1}}},
        {"name": "W'", "method": "clip", "settings": {"training": {"seed": 2}}},
    ]
    study = load_study("one", written(tmp_path, rows=rows))
    methods = params_of(study, "one", DEMO, {}, repository)["train"]["methods"]
    assert list(methods) == ["clip", "clip_w_summary_ours", "clip_w_summary_off", "clip_w_prime"]
    own = load_params(repository / "params/pretraining.yaml", repository / "params.yaml")["train"]["methods"]["clip"]
    assert methods["clip"] == own
    assert methods["clip_w_summary_ours"]["method"] == "clip"
    changed = methods["clip_w_summary_ours"]["training"]["phases"]["global"]
    assert changed == own["training"]["phases"]["global"] | {"losses": ["report", "summary"]}


def test_why_a_cell_is_empty(tmp_path: Path) -> None:
    study = load_study("one", written(tmp_path))
    data = load_data_sets(tmp_path / "data.yaml")
    ours, theirs = study.rows
    recall, parameters = study.columns
    assert why_empty(study, theirs, recall, DEMO, data) == "not implemented"
    assert why_empty(study, ours, parameters, DEMO, data) == "no task parrots"
    assert why_empty(study, ours, recall, DEMO, data) is None
    assert why_empty(study, ours, recall, PAPER, data, tmp_path) == "Here: no adapter reads it"
    (tmp_path / "data.yaml").write_text(yaml.safe_dump({"here": DATA["here"] | {"adapter": "table"}}))
    data = load_data_sets(tmp_path / "data.yaml")
    assert why_empty(study, ours, recall, PAPER, data, tmp_path) == "Here is not in data/raw/here: the authors"
    lay(tmp_path / "data/raw/here")
    assert why_empty(study, ours, recall, PAPER, data, tmp_path) is None


def lay(folder: Path) -> None:
    """Something in the place of a data set."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metadata.csv").write_text("file_name\n")


def test_a_folder_without_a_file_is_no_data_set(tmp_path: Path) -> None:
    one = DataSet(**DATA["here"], adapter="table")
    no_here = "Here is not in data/raw/here: the authors"
    folder = tmp_path / "data/raw/here"
    assert missing(one, tmp_path) == no_here
    (folder / "images/train").mkdir(parents=True)
    assert missing(one, tmp_path) == no_here
    (folder / "images/.DS_Store").write_text("")
    assert missing(one, tmp_path) == no_here
    (folder / "images/train/a.png").write_text("")
    assert missing(one, tmp_path) is None
    # As `--raw` lays it.
    (tmp_path / "linked/data/raw").mkdir(parents=True)
    (tmp_path / "linked/data/raw/here").symlink_to(folder)
    assert missing(one, tmp_path / "linked") is None


def test_what_is_trained_needs_the_data_that_it_learns_from(tmp_path: Path) -> None:
    columns = [
        {"name": "Here", "data": "here", "metric": "retrieval/i2t_recall@1", "unit": "percent"},
        {"name": "Parameters", "data": "here", "metric": "efficiency/parameters", "unit": "millions"},
        {"name": "Latency", "metric": "efficiency/latency", "unit": "seconds"},
    ]
    both = {
        key: DATA["here"] | {"adapter": "table", "name": key, "place": f"data/raw/{key}"} for key in ("here", "far")
    }
    rows = [{"name": "Ours", "method": "clip"}]

    def reasons() -> list[str | None]:
        study = load_study("one", folder)
        return list(why_all_empty(study, study.rows[0], PAPER, load_data_sets(folder / "data.yaml"), tmp_path).values())

    folder = written(tmp_path, columns=columns, rows=rows, trains_on=["far"])
    (folder / "data.yaml").write_text(yaml.safe_dump(both))
    no_here, no_far = (f"{key} is not in data/raw/{key}: the authors" for key in ("here", "far"))
    assert reasons() == [no_here, no_here, no_far]
    lay(tmp_path / "data/raw/here")
    assert reasons() == [no_far, None, no_far]
    lay(tmp_path / "data/raw/far")
    assert reasons() == [None, None, None]
    # Without it, a column without a data set takes a model of any.
    written(tmp_path, columns=columns, rows=rows)
    (folder / "data.yaml").write_text(yaml.safe_dump(both))
    assert reasons() == [None, None, None]
    (tmp_path / "data/raw/here/metadata.csv").unlink()
    assert reasons() == [no_here, no_here, no_here]


def test_a_mean_is_empty_where_one_of_its_columns_is(tmp_path: Path) -> None:
    columns = [
        *STUDY["columns"],
        {"name": "Again", "metric": "retrieval/t2i_recall@1", "unit": "percent"},
        {"name": "Mean", "mean_of": ["R@1", "Again"], "unit": "percent"},
        {"name": "Mean of means", "mean_of": ["Mean", "R@1"], "unit": "percent"},
    ]
    study = load_study("one", written(tmp_path, columns=columns, rows=[{"name": "Ours", "method": "clip"}]))
    data = load_data_sets(tmp_path / "data.yaml")
    (row,) = study.rows
    empty = why_all_empty(study, row, DEMO, data)
    assert empty == dict.fromkeys(["R@1", "Again", "Mean", "Mean of means"]) | {"Parameters": "no task parrots"}
    there = why_all_empty(study, row, PAPER, data, tmp_path)
    # It names no data set, and a model needs some.
    assert there["Again"] == "Here: no adapter reads it"
    assert there["Mean of means"] == there["Mean"] == there["R@1"] == "Here: no adapter reads it"


def test_what_costs_need_of_a_run(tmp_path: Path, repository: Path) -> None:
    """Memory follows from the settings; the memory of training and the time of an embedding do not."""
    data = {"here": parse(DataSet, DATA["here"], "here")}
    for name, trained in (("memory", []), ("training_memory", ["clip"]), ("latency", ["clip"])):
        columns = [{"name": "Cost", "metric": f"efficiency/{name}", "unit": "ratio"}]
        study = load_study("one", written(tmp_path, columns=columns, rows=[{"name": "Ours", "method": "clip"}]))
        assert to_run(study, DEMO, data) == trained
        evaluate = params_of(study, "one", DEMO, {}, repository)["evaluate"]
        assert evaluate.get("embedding_latency", False) is (name == "latency")


def test_what_is_counted_needs_no_model(tmp_path: Path) -> None:
    columns = [{"name": "Images", "metric": "counts/total", "unit": "count"}]
    rows = [{"name": "Here", "counts": {"data": "here"}}, {"name": "Bones"}, {"name": "Ours", "method": "clip"}]
    study = load_study("one", written(tmp_path, columns=columns, rows=rows))
    data = load_data_sets(tmp_path / "data.yaml")
    assert to_run(study, DEMO, data) == []
    assert counts_images(study, DEMO, data)
    assert not counts_images(study, PAPER, data, tmp_path)
    reasons = [why_empty(study, row, study.columns[0], DEMO, data) for row in study.rows]
    assert reasons == [None, "we have no count of this", "we have no count of this"]
    assert study.data_sets == ["here"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": [{**ROW, "settings": {"temprature": 3}}]}, "train.methods.clip_ours.temprature: unknown key"),
        ({"rows": [{**ROW, "settings": {"model": {"embeding_size": 3}}}]}, "did you mean 'embedding_size'"),
        ({"rows": [{**ROW, "settings": {"training": {"gradient_clip": -1.0}}}]}, "gradient_clip is -1.0"),
        ({"tasks": {"retrieval": {"kss": [1]}}}, "tasks.retrieval.kss: unknown key; did you mean 'ks'"),
    ],
)
def test_settings_that_no_stage_takes_are_told_before_anything_runs(
    tmp_path: Path, repository: Path, changes: dict[str, Any], message: str
) -> None:
    study = load_study("one", written(tmp_path, **changes))
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        check(params_of(study, "one", DEMO, {}, repository), "one")
    assert str(caught.value).startswith("studies/one.yaml: ")
    assert "\n" not in str(caught.value)


def test_an_adapter_that_is_none_is_told_before_anything_runs(tmp_path: Path, repository: Path) -> None:
    folder = written(tmp_path)
    (folder / "data.yaml").write_text(yaml.safe_dump({"here": DATA["here"] | {"adapter": "tabel"}}))
    study = load_study("one", folder)
    values = params_of(study, "one", PAPER, load_data_sets(folder / "data.yaml"), repository)
    with pytest.raises(UserError, match="'tabel'"):
        check(values, "one")
