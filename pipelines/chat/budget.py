"""How much a run has asked, against what it may ask."""

import time
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What one run may ask of a served model; None: as much as the items need.

    Attributes:
        requests: Requests, those that are sent again after a fault included.
        hours: From the start of the stage; what is under way then is still answered.
    """

    requests: int | None = None
    hours: float | None = None

    def __post_init__(self) -> None:
        if self.requests is not None and self.requests < 1:
            raise ValueError(f"requests is {self.requests}: choose at least 1, or null for no limit")
        if self.hours is not None and not self.hours > 0:
            raise ValueError(f"hours is {self.hours}: choose more than 0, or null for no limit")

    def __str__(self) -> str:
        limits = {"requests": self.requests, "hours": self.hours}
        return ", ".join(f"{name}: {limit}" for name, limit in limits.items() if limit is not None)


class BudgetSpent(Exception):
    """A request may not be sent in this run."""


class RequestBudget:
    """Counts requests against a budget, whose hours begin now. One thread takes; others may look.

    Args:
        budget: What the run may ask.
    """

    def __init__(self, budget: Budget) -> None:
        self._requests = budget.requests
        self._end = None if budget.hours is None else time.monotonic() + 3600 * budget.hours
        self._taken = 0

    @property
    def is_spent(self) -> bool:
        """No request may be sent any more; once true it stays so."""
        if self._requests is not None and self._taken >= self._requests:
            return True
        return self._end is not None and time.monotonic() >= self._end

    def take(self) -> None:
        """Count a request that is about to be sent.

        Raises:
            BudgetSpent: It may not be sent.
        """
        if self.is_spent:
            raise BudgetSpent
        self._taken += 1
