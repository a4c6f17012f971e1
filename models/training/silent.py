"""Losses that are 0 in every step: nothing in the training split feeds them, and their share of the run is wasted."""

import logging
from collections.abc import Mapping

from torch import Tensor

from models.distributed import rank

logger = logging.getLogger(__name__)


class SilentLosses:
    """Warns once in a phase, behind its first epoch.

    Args:
        phase: Name of the phase.
    """

    def __init__(self, phase: str) -> None:
        self.phase = phase
        # Tensors, for to ask for a number at each step would wait for a GPU.
        self._sums: dict[str, Tensor] = {}
        self._told = False

    def add(self, terms: Mapping[str, Tensor]) -> None:
        """The losses of a step."""
        if not self._told:
            for name, value in terms.items():
                self._sums[name] = self._sums.get(name, 0.0) + value.detach().abs()

    def warn(self) -> None:
        """Name the losses that were 0 in all steps so far."""
        names = [name for name, value in self._sums.items() if float(value) == 0]
        if names and not self._told and rank() == 0:
            logger.warning(
                "%s of phase '%s' was 0 in every step of an epoch: no training image has what it learns from",
                ", ".join(names),
                self.phase,
            )
        self._told = True
