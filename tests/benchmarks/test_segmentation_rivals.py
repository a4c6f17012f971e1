"""benchmarks/segmentation_rivals.py: its plan fits its time, its runs can be trained, its page judges made-up rows."""

from pathlib import Path
from types import ModuleType

from pipelines.config import parse
from pipelines.registry import plugin
from pipelines.train.config import TrainConfig

NAMES = ("segmentation", "segmentation_page", "segmentation_plan", "segmentation_rivals")


def test_the_plan_has_three_seeds_of_each_and_fits_its_time(scripts: tuple[ModuleType, ...]) -> None:
    _, _, plan, rivals = scripts
    runs = plan.rivals_plan()
    compared = {key for _, *keys in rivals.CLAIMS for key in keys}
    assert {(variant.method, variant.name) for variant, _, _ in runs} == compared
    assert [seed for _, _, seed in runs] == [0] * 6 + [1] * 6 + [2] * 6
    assert {("qata_cov19", variant.method, variant.name) for variant in plan.RIVALS} <= set(plan.SECONDS)
    assert plan.within(runs, [], minutes=75, processes=2) == runs


def test_every_run_is_built_for_its_images(scripts: tuple[ModuleType, ...]) -> None:
    script, _, plan, _ = scripts
    # Of the others, tests/benchmarks/test_segmentation_benchmark.py says the same.
    for variant in (one for one in plan.RIVALS if one.method in ("nnunet", "transunet", "lavt")):
        entry = parse(TrainConfig, script.changed(variant, plan.QATA, 0)["train"], "train").methods[variant.method]
        cls = plugin("methods", variant.method)
        model = cls(parse(cls.Config, entry.model, variant.name), 50)
        (phase,) = entry.training.phases.values()
        assert phase.losses == model.losses
        assert (phase.epochs, phase.batch_size) == (6, 16)
        assert getattr(model.config, "image_size", plan.QATA.image_size) == plan.QATA.image_size


def test_the_page_of_made_up_rows(scripts: tuple[ModuleType, ...], tmp_path: Path) -> None:
    _, page, _, rivals = scripts

    def row(method: str, seed: int, value: float) -> dict[str, str]:
        known = dict.fromkeys(page.SHOWN, str(value)) | {"validation/dice_per_image": "0.5"}
        facts = {"method": method, "variant": "default", "seed": str(seed), "steps": "450", "parameters": "1000"}
        return known | facts

    rows = [row("reclmis", seed, 0.8 + 0.01 * seed) for seed in range(3)]
    rows += [row("nnunet", seed, 0.9 + 0.011 * seed) for seed in range(3)]
    rivals.write(rows, tmp_path / "page.md")
    lines = (tmp_path / "page.md").read_text().splitlines()
    judged = [line for line in lines if line.startswith("| 003 table I | reclmis default | nnunet default |")]
    assert len(judged) == 2
    assert all("-0.101" in line and line.endswith("| contradicted |") for line in judged)
    assert "| nnunet | default | 3 | 450 | 1,000 | 0.500 ± 0.000 | 0.911 ± 0.011 |" in "\n".join(lines)
    unmeasured = [line for line in lines if line.endswith("| not measured |")]
    assert len(unmeasured) == 2 * (len(rivals.CLAIMS) - 1)
