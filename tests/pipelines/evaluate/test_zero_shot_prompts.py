"""Sets of prompts: what they replace, what is refused, and that their words decide the results."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from models.data.shards import ShardSet
from models.verified import seal, sha256_file
from pipelines.code.config import load_code
from pipelines.code.fingerprint import FOLDER as CODE
from pipelines.code.fingerprint import as_text, check
from pipelines.code.stage import fingerprints
from pipelines.config import parse
from pipelines.errors import UserError
from pipelines.evaluate.config import EvaluateConfig
from pipelines.evaluate.evaluation_set import EvaluationSet
from pipelines.evaluate.stage import evaluate
from pipelines.evaluate.tasks.probe import ProbeConfig
from pipelines.evaluate.tasks.zero_shot import ZeroShotConfig, label_directions
from pipelines.evaluate.zero_shot.prompts import FOLDER, class_directions, mean_directions, read_prompts
from pipelines.files import digest_of
from pipelines.predict.request import label_prompts
from tests.pipelines.evaluate.small_world import WORDS, Matcher, image, tokenizer_of, write_shards

TOKENIZER = tokenizer_of([f"a finding called {word} no" for word in WORDS])
TEMPLATES = {"templates": ["{label}", "a {label}"], "negatives": ["no {label}"]}
FILE = "prompts/zero_shot/mine.yaml"
TEXT = """\
prompts:
  alpha: [beta, "a finding called beta", a beta]
negatives:
  gamma: ["no alpha"]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path(FOLDER).mkdir(parents=True)
    Path(FILE).write_text(TEXT)
    return tmp_path


def score(name: str, options: dict[str, Any], task: str = "zero_shot") -> dict[str, Any]:
    """Images of alpha, beta and gamma, the first with a finding `alpha` that looks like beta."""
    images = [image(0, labels=["alpha"], level=15), image(1, labels=[], level=0), image(2, labels=["gamma"])]
    values = {"tasks": {task: options}, "batch_size": 4, "bootstrap": {"samples": 20, "seed": 0}}
    config, output = parse(EvaluateConfig, values, "here"), Path(name)
    shards = write_shards(output / "shards", images)
    evaluate(config, "p", Matcher(TOKENIZER), TOKENIZER, "0" * 64, *shards, output / "out", output / "summaries")
    return json.loads((output / "out" / "metrics.json").read_text())


def test_a_class_that_the_file_names_has_its_prompts_and_the_others_their_templates(folder: Path) -> None:
    config = ZeroShotConfig(**TEMPLATES, prompts=FILE)
    assert config.prompts_for("alpha") == ["beta", "a finding called beta", "a beta"]
    assert config.prompts_for("gamma") == ["gamma", "a gamma"]
    assert config.negatives_for("alpha") == ["no alpha"]
    assert config.negatives_for("gamma") == ["no alpha"]
    assert ZeroShotConfig(**TEMPLATES).prompts_for("alpha") == ["alpha", "a alpha"]


def test_the_prompts_decide_the_scores_and_what_no_class_is_called_is_said(folder: Path) -> None:
    plain = score("plain", TEMPLATES)["tasks"]["zero_shot"]
    found = score("mine", {**TEMPLATES, "prompts": FILE})["tasks"]["zero_shot"]
    aucs = [
        {one["label"]: one["auc"]["value"] for one in result["details"]["classes"]}["alpha"]
        for result in (plain, found)
    ]
    # By its own name alpha is what the image without finding looks like; its negation still says so, which is a tie.
    assert aucs == [0.25, 0.75]
    assert f"{FILE} has the prompts of alpha, gamma" in found["notes"]
    assert not [note for note in plain["notes"] if "prompts" in note]
    Path(FILE).write_text(TEXT.replace("gamma", "Gamma"))
    notes = score("typo", {**TEMPLATES, "prompts": FILE})["tasks"]["zero_shot"]["notes"]
    assert f"{FILE} names what no class is called here: Gamma" in notes


def test_a_mean_of_prompts_is_that_of_their_normalised_embeddings() -> None:
    vectors = {"a": [1.0, 0.0], "b": [0.0, 1.0], "c": [0.6, 0.8]}

    def embed(texts: Any) -> np.ndarray:
        return np.array([vectors[text] for text in texts], np.float32)

    found = mean_directions(embed, [["a", "b"], ["c"], ["a", "a", "b"]])
    expected = [[0.5**0.5, 0.5**0.5], [0.6, 0.8], [2 / 5**0.5, 1 / 5**0.5]]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_no_finding_has_the_prompts_of_the_file_or_denies_each_finding_alike(folder: Path) -> None:
    vectors = {"a": [0.6, 0.8], "b": [0.8, 0.6], "no a": [-1.0, 0.0], "clear": [0.0, -1.0], "empty": [-0.8, -0.6]}
    vectors |= {"No Finding": [1.0, 0.0], "normal": [0.0, 1.0]}
    templates = {"templates": ["{label}"], "negatives": ["no {label}"]}

    def found(text: str) -> np.ndarray:
        Path(FILE).write_text(text)
        config = ZeroShotConfig(**templates, prompts=FILE)
        directions = class_directions(lambda texts: np.array([vectors[one] for one in texts]), classes, config)
        np.testing.assert_allclose(directions[[0, 2]], [[0.6, 0.8], [0.8, 0.6]])
        return directions[1]

    classes = ["a", "No Finding", "b"]
    # Of b (0, -1) and (-0.8, -0.6): (-0.4, -0.8), made of length 1; of a (-1, 0), and of both the mean.
    of_b = np.array([-0.4, -0.8]) / np.hypot(0.4, 0.8)
    both = np.array([of_b[0] - 1, of_b[1]])
    np.testing.assert_allclose(found("negatives: {b: [clear, empty]}"), both / np.hypot(*both))
    np.testing.assert_allclose(found("prompts: {No Finding: [normal]}"), [0, 1])


def test_among_findings_no_finding_is_said_by_their_denial_and_denied_by_their_prompts() -> None:
    vectors = {"a": [0.6, 0.8], "b": [0.8, 0.6], "no a": [-1.0, 0.0], "no b": [0.0, -1.0]}
    config = ZeroShotConfig(templates=["{label}"], negatives=["no {label}"])
    found = label_directions(lambda texts: np.array([vectors[one] for one in texts]), ["a", "b", "No Finding"], config)
    root = np.sqrt(0.5)
    np.testing.assert_allclose(found, [[1.6, 0.8], [0.8, 1.6], [-2 * root, -2 * root]])


@pytest.mark.parametrize("dimensions", [1, 2, 64, 513])
def test_templates_give_the_same_bits_as_a_mean_over_an_axis(dimensions: int) -> None:
    """As it was computed before there were sets of prompts: scores of one checkpoint must stay comparable."""
    random = np.random.default_rng(dimensions)
    config = ZeroShotConfig(templates=["{label}", "a {label}", "an image with {label}"], negatives=["no {label}"])
    labels = [f"l{number}" for number in range(7)]
    known: dict[str, np.ndarray] = {}

    def embed(texts: Any) -> np.ndarray:
        for text in texts:
            vector = random.normal(size=dimensions).astype(np.float32)
            known.setdefault(text, vector / np.linalg.norm(vector))
        return np.stack([known[text] for text in texts])

    def mean(templates: list[str]) -> np.ndarray:
        prompts = [template.replace("{label}", label) for label in labels for template in templates]
        vectors = embed(prompts).reshape(len(labels), len(templates), -1).mean(axis=1)
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)

    found = label_directions(embed, labels, config)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, mean(config.templates) - mean(config.negatives))


def test_the_digest_of_the_inputs_follows_the_words_of_the_file(folder: Path) -> None:
    options = {**TEMPLATES, "prompts": FILE}
    first, again = (score(name, options)["items_sha256"] for name in ("first", "again"))
    assert first == again
    Path(FILE).write_text(TEXT.replace("a beta", "the beta"))
    assert score("other", options)["items_sha256"] != first
    without = [score(name, TEMPLATES)["items_sha256"] for name in ("without", "without-again")]
    assert without[0] == without[1] != first
    shards = ShardSet(folder / "without/shards/images", folder / "without/shards/captions", "test")
    inputs = {
        "items": [asdict(one) for one in EvaluationSet(Matcher(TOKENIZER), TOKENIZER, shards.samples, 1).images],
        "pixels": [shard.sha256 for shard in shards.manifest.shards],
    }
    inputs["seed"] = 0
    assert without[0] == digest_of({**inputs, "tasks": {"zero_shot": TEMPLATES}})
    Path(FILE).write_text(TEXT)
    files = {FILE: sha256_file(Path(FILE))}
    assert first == digest_of({**inputs, "prompts": files, "tasks": {"zero_shot": options}})


def test_the_blend_of_the_probe_has_the_prompts_of_a_file_and_the_digest_follows_it(folder: Path) -> None:
    options = {"prompts": {**TEMPLATES, "prompts": FILE}}
    asked = parse(ProbeConfig, options, "here").prompts
    assert asked.prompts_for("alpha") == ["beta", "a finding called beta", "a beta"]
    first, again = (score(name, options, "probe")["items_sha256"] for name in ("first", "again"))
    Path(FILE).write_text(TEXT.replace("a beta", "the beta"))
    assert first == again != score("other", options, "probe")["items_sha256"]


@pytest.mark.parametrize("option", [{"kind": "both"}, {"temperature": 0.5}, {"transductive": True}])
def test_what_no_blend_reads_is_no_option_of_its_prompts(option: dict[str, Any]) -> None:
    message = f"here.prompts.{next(iter(option))}: unknown key"
    with pytest.raises(UserError, match=message):
        parse(ProbeConfig, {"prompts": {**TEMPLATES, **option}}, "here")


@pytest.mark.parametrize(
    ("tasks", "files"),
    [
        ({"zero_shot": {**TEMPLATES, "prompts": FILE}}, [FILE]),
        ({"probe": {"prompts": {**TEMPLATES, "prompts": FILE}}}, [FILE]),
        ({"vqa": {"served": {"prompt": "prompts/vqa/answer.txt"}}}, ["prompts/vqa/answer.txt"]),
        ({"theirs": {"steps": [{"wording": FILE}, {"wording": "in words"}]}}, [FILE]),
        ({"detection": {"prompts": {"alpha": "a beta"}}}, []),
    ],
)
def test_a_file_is_watched_wherever_the_options_of_a_task_name_it(
    folder: Path, repository: Path, tasks: dict[str, Any], files: list[str]
) -> None:
    params = yaml.safe_load((repository / "params.yaml").read_text())
    params["evaluate"]["tasks"] = tasks
    Path("params.yaml").write_text(yaml.safe_dump(params))
    assert load_code(Path("params.yaml")).prompts == files
    code = yaml.safe_load((repository / "dvc.yaml").read_text())["stages"]["code"]
    assert {str(Path(file).parent) for file in files} <= set(code["deps"])


def test_an_edited_prompt_reruns_the_evaluations_and_nothing_else(folder: Path, repository: Path) -> None:
    params = yaml.safe_load((repository / "params.yaml").read_text())
    before = fingerprints(load_code(repository / "params.yaml"))
    params["evaluate"]["tasks"]["zero_shot"]["prompts"] = FILE
    Path("params.yaml").write_text(yaml.safe_dump(params))
    first = fingerprints(load_code(Path("params.yaml")))
    name = f"prompt file {FILE}"
    evaluations = {f"evaluate@{method}" for method in params["train"]["methods"]}
    assert {stage for stage, lines in first.items() if name in lines} == evaluations
    assert first["evaluate@clip"] == before["evaluate@clip"] | {name: sha256_file(Path(FILE))}
    CODE.mkdir(parents=True)
    (CODE / "evaluate@clip.txt").write_text(as_text({name: first["evaluate@clip"][name]}))
    seal(CODE)
    check("evaluate@clip")
    Path(FILE).write_text(TEXT.replace("a beta", "the beta"))
    second = fingerprints(load_code(Path("params.yaml")))
    assert {stage for stage in first if first[stage] != second[stage]} == evaluations
    with pytest.raises(UserError, match=f"evaluate@clip: {name} changed since `dvc repro code`: run `dvc repro code`"):
        check("evaluate@clip")
    Path(FILE).unlink()
    with pytest.raises(UserError, match=f"^{FILE} not found: a task under evaluate.tasks of params.yaml"):
        fingerprints(load_code(Path("params.yaml")))
    stages = yaml.safe_load((repository / "dvc.yaml").read_text())["stages"]
    assert str(FOLDER) in stages["code"]["deps"]


def test_predictions_rank_labels_by_the_same_prompts(folder: Path, repository: Path) -> None:
    params = yaml.safe_load((repository / "params.yaml").read_text())
    params["evaluate"]["tasks"]["zero_shot"]["prompts"] = FILE
    Path("params.yaml").write_text(yaml.safe_dump(params))
    config = label_prompts()
    assert config is not None
    assert config.prompts_for("alpha")[0] == "beta"


def test_the_file_that_ships_can_be_read(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repository)
    files = sorted(Path(FOLDER).glob("*"))
    assert files
    for file in files:
        sets = read_prompts(file.as_posix())
        assert sets.prompts
        assert all(len(set(prompts)) == len(prompts) for prompts in [*sets.prompts.values(), *sets.negatives.values()])


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("prompts/mine.yaml", TEXT, r"^here: prompts names 'prompts/mine.yaml': name a YAML file in prompts/zero_shot"),
        ("prompts/zero_shot/../mine.yaml", TEXT, "name a YAML file in prompts/zero_shot"),
        ("prompts/zero_shot/mine.txt", TEXT, "name a YAML file in prompts/zero_shot"),
        ("prompts/zero_shot/mime.yaml", None, r"^prompts/zero_shot/mime.yaml not found, .* has mine.yaml$"),
        (FILE, "", r"^prompts/zero_shot/mine.yaml: no class has prompts here: write `prompts:`"),
        (FILE, "alpha: [x]\n", r"^prompts/zero_shot/mine.yaml.alpha: unknown key; valid keys: prompts, negatives"),
        (FILE, "promts: {alpha: [x]}\n", r"unknown key; did you mean 'prompts'\?"),
        (FILE, "prompts: {alpha: []}\n", "prompts of 'alpha' must be at least one prompt"),
        (FILE, "prompts: {alpha: [x, ' ']}\n", "prompts of 'alpha' must be at least one prompt, none of them empty"),
        (FILE, "prompts: {alpha: x}\n", r"prompts.alpha: Input should be a valid (list|array)"),
        (FILE, "prompts: {alpha: [1]}\n", r"prompts.alpha.0: Input should be a valid string"),
        (FILE, "negatives: {alpha: ['no {label}']}\n", "negatives of 'alpha': write the words themselves"),
        (FILE, "prompts: {alpha: [x\n", "mine.yaml is not valid YAML"),
        (FILE, "prompts: {alpha: [x], alpha: [y]}\n", "the key 'alpha' stands twice"),
        (FILE, "- alpha\n", "holds a list; it should hold sections"),
    ],
)
def test_mistakes_are_one_line(folder: Path, file: str, text: str | None, message: str) -> None:
    if text is not None:
        Path(file).write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        parse(ZeroShotConfig, {**TEMPLATES, "prompts": file}, "here")
    assert "\n" not in str(caught.value)
