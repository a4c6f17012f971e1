"""The simulation that chooses what risk control promises: it keeps its promise, and a test that certifies all does not.

Few draws: of 150, more than 27 broken promises have a chance below 0.002 if 10 % are allowed.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from pipelines.regions.calibration.risk_control import LabelledRegions
from pipelines.regions.config import QUANTITIES, RiskControlConfig

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import risk_control

DRAWS = 150
AT_THE_TARGET = risk_control.SCENARIOS["just below the target"][0]


def config(quantity: str, target: float = 0.5) -> RiskControlConfig:
    return RiskControlConfig(quantity=quantity, target_precision=target, confidence=0.9, min_calibration_images=1)


def everything(thresholds: Sequence[float], _: LabelledRegions, __: RiskControlConfig) -> float | None:
    return thresholds[-1]


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_promises_are_kept_and_a_test_that_certifies_everything_breaks_them(quantity: str) -> None:
    kept = risk_control.measure(AT_THE_TARGET, config(quantity), DRAWS)
    assert kept["broken"] == kept["power"] <= 0.18
    assert risk_control.measure(AT_THE_TARGET, config(quantity), 20, everything)["broken"] == 1.0


def test_best_regions_have_the_most_power_and_a_patient_s_regions_are_alike() -> None:
    scenario = risk_control.SCENARIOS["default-like"][0]
    power = {quantity: risk_control.measure(scenario, config(quantity, 0.4), 60)["power"] for quantity in QUANTITIES}
    assert power["patient_best"] > power["region"] + 0.1
