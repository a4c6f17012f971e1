"""How much a run has asked, against what it may ask."""

import time

from pipelines.captions.config import Budget


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
