"""Fewer Ray Train workers where a node is lost, and more again where one comes: as many as share every batch evenly.

Ray Train starts any number between two; a batch of 8 is not shared by 3. So its choice is rounded down here.

Imports Ray, so that it is imported once `pipelines.ray_session.prepare_ray` was called.
"""

from typing import Any

from ray.train.torch import TorchTrainer
from ray.train.v2._internal.execution.scaling_policy import ElasticScalingPolicy


class SharingPolicy(ElasticScalingPolicy):
    """Ray's elastic policy with given numbers of workers only.

    Attributes:
        numbers: Ascending.
    """

    numbers: list[int]

    def _count_possible_workers(self, reserved_resources: Any) -> int:
        possible = super()._count_possible_workers(reserved_resources)
        return max((number for number in self.numbers if number <= possible), default=0)


class ElasticTrainer(TorchTrainer):
    """`TorchTrainer` with `SharingPolicy`.

    Attributes:
        numbers: Its numbers of workers.
    """

    numbers: list[int]

    def _initialize_and_run_controller(self, **parts: Any) -> Any:
        policy = SharingPolicy(self.scaling_config)  # type: ignore[arg-type]  # mypy sees the class of Ray Train's past
        policy.numbers = self.numbers
        return super()._initialize_and_run_controller(**parts | {"scaling_policy": policy})  # type: ignore[misc]
