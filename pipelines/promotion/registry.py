"""The registry's aliases `champion` and `previous`, moved so that a kill or another promotion is seen.

A decision is written to the ledger first, then the aliases move, then the verdict on the version names the ledger's
line. So the next command knows of a decision that was cut off (its verdict is missing) and finishes it. Between two
machines nothing locks: the alias is read again right before and right after it is moved.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from pipelines.errors import UserError, one_line
from pipelines.promotion import ledger
from pipelines.promotion.verdict import verdict_of
from pipelines.tracking.config import TrackingConfig
from pipelines.tracking.names import CHECKPOINT, VERDICT
from pipelines.tracking.versions import record_verdict

logger = logging.getLogger(__name__)

CHAMPION, PREVIOUS = "champion", "previous"
PROMOTED, ROLLED_BACK = "promoted", "rolled back"
# Name of the fact in a verdict that holds the SHA-256 of the ledger's line.
_LINE = "ledger"


@contextmanager
def promotion_lock(tracking: TrackingConfig, project: Path) -> Iterator[None]:
    """Held while a decision is made, by one process of this machine.

    Raises:
        UserError: Another process holds it.
    """
    file = tracking.lock_file(project).with_name("promotion.lock")
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(file)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(
            "another promotion is running on this machine: wait for its end, then look at --history"
        ) from None
    try:
        yield
    finally:
        lock.release()


class Registry:
    """The registered model of a study, with the ledger that says how its aliases came about.

    Args:
        client: Of the store.
        model: Name of the registered model.
        file: The ledger.

    Raises:
        UserError: The ledger is damaged.
    """

    def __init__(self, client: MlflowClient, model: str, file: Path) -> None:
        self.client = client
        self.model = model
        self._file = file
        self.entries = self._read()

    def _read(self) -> list[dict[str, Any]]:
        return [entry for entry in ledger.read(self._file) if entry["model"] == self.model]

    def alias(self, name: str) -> str | None:
        """The number of the version that an alias names; None where it names none.

        Raises:
            UserError: There is no such registered model.
        """
        try:
            version = self.client.get_registered_model(self.model).aliases.get(name)
        except MlflowException as error:
            raise UserError(
                f"the registered model {self.model} cannot be read ({one_line(error)}): is it made? "
                "`python -m pipelines.tracking` makes it"
            ) from None
        return None if version is None else str(version)

    def version(self, number: str) -> ModelVersion:
        """A registered version.

        Raises:
            UserError: There is none of this number.
        """
        try:
            return self.client.get_model_version(self.model, number)
        except MlflowException:
            found = self.client.search_model_versions(f"name = '{self.model}'")
            numbers = ", ".join(str(one) for one in sorted(int(version.version) for version in found))
            raise UserError(f"{self.model} has no version {number}: choose from {numbers or 'none'}") from None

    def write(self, entry: dict[str, Any]) -> None:
        """Write a decision that moves nothing: to the ledger, and on its version."""
        line = ledger.append(self._file, {**entry, "model": self.model})
        self.entries = self._read()
        self._record(self.entries[-1], line)

    def move(self, entry: dict[str, Any]) -> None:
        """Write a decision to the ledger, move the aliases as it says, and write its verdict on the version.

        Args:
            entry: Its `champion` says from which version (or null) to which, `previous_alias` what `previous` becomes.

        Raises:
            UserError: Another promotion moved the alias meanwhile.
        """
        before, after = entry["champion"]["before"], entry["champion"]["after"]
        self.version(after)  # one that was deleted is told before anything is written
        self._check_still(before)
        line = ledger.append(self._file, {**entry, "model": self.model})
        self.entries = self._read()
        self._set_aliases(entry)
        self._record(self.entries[-1], line)
        self._check_still(after)

    def _check_still(self, expected: str | None) -> None:
        if (found := self.alias(CHAMPION)) != expected:
            raise UserError(
                f"another promotion came in between: the champion is {_named(found)}, not {_named(expected)}; "
                "look at --history and run again"
            )

    def _set_aliases(self, entry: dict[str, Any]) -> None:
        previous = entry["previous_alias"]
        if previous is not None and previous not in self.numbers():
            logger.warning("version %s was deleted from the registry: the alias %s names none", previous, PREVIOUS)
            previous = None
        if previous is not None:
            self.client.set_registered_model_alias(self.model, PREVIOUS, previous)
        elif self.alias(PREVIOUS) is not None:
            self.client.delete_registered_model_alias(self.model, PREVIOUS)
        self.client.set_registered_model_alias(self.model, CHAMPION, entry["champion"]["after"])

    def _record(self, entry: dict[str, Any], line: str) -> None:
        judged = (one for one in reversed(self.entries) if one["version"] == entry["version"] and one["gates"])
        facts, text = verdict_of(entry, next(judged, entry))
        record_verdict(self.client, self.model, entry["version"], {**facts, _LINE: line}, text)

    def mend(self) -> None:
        """Finish the last decision if a kill cut it off; say so where the registry says something else."""
        if not self.entries:
            for difference in self.differences():
                logger.warning("%s", difference)
            return
        entry, lines = self.entries[-1], ledger.line_digests(self._file)
        line, known = lines[-1], self._lines_by_version()
        if entry["version"] not in known or (known[entry["version"]] or line) not in lines:
            for difference in self.differences():
                logger.warning("%s", difference)
            return
        if known[entry["version"]] == line:
            return
        if entry["action"] in (PROMOTED, ROLLED_BACK) and self.alias(CHAMPION) == entry["champion"]["before"]:
            logger.warning("finishing what was cut off: version %s is %s", entry["version"], entry["action"])
            self._set_aliases(entry)
        self._record(entry, line)

    def numbers(self) -> set[str]:
        """The versions that are registered."""
        return set(self._lines_by_version())

    def _lines_by_version(self) -> dict[str, str | None]:
        """Version -> SHA-256 of the ledger's line that its verdict names; None where it has no verdict."""
        found = self.client.search_model_versions(f"name = '{self.model}'")
        return {str(version.version): version.tags.get(f"{VERDICT}{_LINE}") for version in found}

    def candidates_on(self, items: str) -> set[str]:
        """Digests of the checkpoints that were judged on these test items."""
        return {entry["checkpoint_sha256"] for entry in self.entries if entry.get("items_sha256") == items}

    def champions(self) -> list[str]:
        """The versions that were champion by the ledger, the present one last; without those that were taken back."""
        stack: list[str] = []
        for entry in self.entries:
            if entry["action"] == PROMOTED:
                stack.append(entry["champion"]["after"])
            elif entry["action"] == ROLLED_BACK:
                while stack and stack[-1] != entry["champion"]["after"]:
                    stack.pop()
                stack = stack or [entry["champion"]["after"]]
        return stack

    def champions_before(self, version: str) -> list[str]:
        """By the ledger, the champions before one that is to be champion again, the last of them last."""
        older = self.champions()[:-1]
        while older and older.pop() != version:
            pass
        return older

    def differences(self) -> list[str]:
        """Where the registry is not as the ledger says, in sentences."""
        found = []
        stack = self.champions()
        for name, expected in ((CHAMPION, stack[-1:]), (PREVIOUS, stack[-2:-1])):
            said, present = (expected[0] if expected else None), self.alias(name)
            if said != present:
                found.append(f"the alias {name} is {_named(present)} in the registry, {_named(said)} by the ledger")
        digests = {
            str(version.version): version.tags.get(CHECKPOINT)
            for version in self.client.search_model_versions(f"name = '{self.model}'")
        }
        lines = ledger.line_digests(self._file)
        for number, line in self._lines_by_version().items():
            if line is not None and line not in lines:
                found.append(
                    f"the verdict of version {number} names a line that the ledger does not have: lines were changed, "
                    "or are missing at its end"
                )
        for number, digest in {entry["version"]: entry["checkpoint_sha256"] for entry in self.entries}.items():
            if number not in digests:
                found.append(f"version {number} of the ledger is not in the registry")
            elif digests[number] != digest:
                found.append(f"version {number} is of another checkpoint in the registry than in the ledger")
        return found


def _named(version: str | None) -> str:
    return "none" if version is None else f"version {version}"
