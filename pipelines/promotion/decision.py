"""Judge a candidate by all gates, and move the aliases if it passes; or roll the champion back."""

import datetime
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow.entities.model_registry import ModelVersion

from pipelines.errors import UserError
from pipelines.evaluate.config import EvaluateConfig
from pipelines.promotion import candidates, ledger
from pipelines.promotion.candidates import Scored
from pipelines.promotion.config import PromoteConfig
from pipelines.promotion.data_gates import data_gates
from pipelines.promotion.gates import Gate, above_guessing, floors, no_better_than_guessing, no_regression
from pipelines.promotion.paired import check_metric
from pipelines.promotion.registry import CHAMPION, PREVIOUS, PROMOTED, ROLLED_BACK, Registry, promotion_lock
from pipelines.report.config import load_terms
from pipelines.tracking.checkpoints import checkpoint_folder
from pipelines.tracking.config import TrackingConfig
from pipelines.tracking.names import CHECKPOINT
from pipelines.tracking.provenance import user
from pipelines.tracking.signature import sign_version
from pipelines.tracking.store import connect
from pipelines.tracking.sync import sync
from pipelines.tracking.versions import find_version

logger = logging.getLogger(__name__)

REFUSED = "refused"


@dataclass(frozen=True, kw_only=True)
class PromotionDecision:
    """What came of a candidate.

    Attributes:
        promoted: Whether it is the champion now.
        text: One line for a person.
        gates: What each gate said; empty where none was asked.
        moved: The ledger's entry where the alias `champion` was moved; else None.
    """

    promoted: bool
    text: str
    gates: Sequence[Gate] = ()
    moved: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Promotion:
    """What a decision needs to know.

    Attributes:
        config: The gates.
        tracking: Where the registry is.
        evaluation: How a version is evaluated whose scores are not at hand.
        project: Folder with data/ and params.yaml.
    """

    config: PromoteConfig
    tracking: TrackingConfig
    evaluation: EvaluateConfig
    project: Path

    def registry(self, *, mend: bool) -> Registry:
        """The registry with its ledger.

        Args:
            mend: Finish first what a kill left half done; whoever asks for it holds the lock.
        """
        registry = Registry(connect(self.tracking, self.project), self.tracking.model, self.project / ledger.LEDGER)
        if mend:
            registry.mend()
        return registry

    def promote(self, method: str | None = None, version: str | None = None) -> PromotionDecision:
        """Judge a candidate, and make it the champion if every gate passes it.

        Args:
            method: A trained method; None: the best on the validation split.
            version: Number of a registered version, in place of a method.

        Raises:
            UserError: There is no such candidate, its scores are not of the present checkpoint or test items, the
                metric cannot be a gate, or another promotion came in between.
        """
        with promotion_lock(self.tracking, self.project):
            sync(self.tracking, self.project)
            registry = self.registry(mend=True)
            if version is not None:
                registered = registry.version(version)
                return self._judge(registry, registered, self._scored(registered), {})
            name, values = candidates.chosen_method(self.project, self.config.task, self.config.score, method)
            scored = candidates.read_scored(self.project, name, self.config.task)
            return self._judge(registry, self._registered(registry, scored), scored, values)

    def _registered(self, registry: Registry, scored: Scored) -> ModelVersion:
        found = find_version(registry.client, registry.model, scored.checkpoint)
        if found is None:
            raise UserError(f"the checkpoint of {scored.method} is not registered: run `python -m pipelines.tracking`")
        return found

    def _scored(self, registered: ModelVersion, items: str | None = None) -> Scored:
        """The scores of a version on the present test items: those at hand (of the given items), or made again."""
        at_hand = candidates.scored_at_hand(self.project, registered.tags[CHECKPOINT], self.config.task)
        if at_hand is not None and items in (None, at_hand.items_sha256):
            return at_hand
        logger.info("evaluating version %s on the present test items", registered.version)
        reference = f"models:/{registered.name}/{registered.version}"
        with checkpoint_folder(reference, self.tracking, self.project) as folder:
            return candidates.score_again(folder, self.evaluation, self.project, self.config.task)

    def _judge(
        self, registry: Registry, registered: ModelVersion, scored: Scored, values: dict[str, float]
    ) -> PromotionDecision:
        before = registry.alias(CHAMPION)
        number = str(registered.version)
        if before == number:
            return PromotionDecision(promoted=True, text=f"version {number} ({scored.method}) is the champion already")
        champion = None if before is None else self._champion(registry.version(before), scored)
        gates = self._gates(scored, champion)
        earlier = registry.candidates_on(scored.items_sha256) - {scored.checkpoint}
        if earlier:
            logger.warning(
                "candidates that were judged on these test items before: %d; the more, the likelier one passes by luck",
                len(earlier),
            )
        if weak := no_better_than_guessing(scored.tasks):
            logger.warning("on test no better than chance or a trivial baseline: %s", "; ".join(weak))
        refused = [gate.name for gate in gates if not gate.passed]
        score = scored.tasks[self.config.task]["metrics"][self.config.score]
        entry = {
            **self._entry(REFUSED if refused else PROMOTED, number, scored.method, scored.checkpoint, score),
            "items_sha256": scored.items_sha256,
            "earlier_candidates": len(earlier),
            "validation": values,
            "gates": {gate.name: gate.as_json() for gate in gates},
            "refused": refused,
            "champion": {"before": before, "after": before if refused else number},
            "previous_alias": registry.alias(PREVIOUS) if refused else before,
        }
        if refused:
            registry.write(entry)
            return PromotionDecision(promoted=False, text=_refusal(number, scored.method, gates), gates=gates)
        sign_version(registry.client, registered, self.config.signing_key, self.project)
        registry.move(entry)
        text = f"version {number} ({scored.method}) is the champion: {self.config.metric} = {score['value']:.4f}"
        return PromotionDecision(promoted=True, text=text, gates=gates, moved=entry)

    def _entry(
        self, action: str, version: str, method: str, checkpoint: str, score: Mapping[str, Any]
    ) -> dict[str, Any]:
        """What every line of the ledger says first."""
        return {
            "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "who": user(),
            "action": action,
            "version": version,
            "method": method,
            "checkpoint_sha256": checkpoint,
            "metric": self.config.metric,
            "score": {name: score.get(name) for name in ("value", "low", "high", "chance")},
        }

    def _champion(self, champion: ModelVersion, scored: Scored) -> Scored:
        found = self._scored(champion, scored.items_sha256)
        if found.items_sha256 != scored.items_sha256:
            raise UserError(f"the evaluation of {scored.method} is not of the present test items: run `dvc repro`")
        return found

    def _gates(self, scored: Scored, champion: Scored | None) -> list[Gate]:
        config, task = self.config, self.config.task
        known = scored.tasks.get(task, {}).get("metrics", {})
        if config.score not in known:
            others = [f"{name}/{metric}" for name, result in scored.tasks.items() for metric in result["metrics"]]
            found = f"choose from {', '.join(others)}" if others else "it has no score at all"
            raise UserError(f"{scored.method} has no score '{config.metric}': {found}")
        check_metric(config.score, known, scored.rows)
        score = known[config.score]
        return [
            *above_guessing(config.score, score),
            no_regression(
                scored.rows,
                None if champion is None else champion.rows,
                config.score,
                config.tolerance,
                self.evaluation.bootstrap,
            ),
            *floors(scored.rows, config.score, config.floors),
            *data_gates(
                self.project,
                scored.trained_on,
                load_terms(self.project / "params.yaml"),
                config.use,
                config.licences,
            ),
        ]

    def roll_back(self) -> PromotionDecision:
        """Make the version of the alias `previous` the champion again.

        Raises:
            UserError: There is none, or its files are not those that were registered.
        """
        with promotion_lock(self.tracking, self.project):
            registry = self.registry(mend=True)
            before, target = registry.alias(CHAMPION), registry.alias(PREVIOUS)
            if before is None:
                raise UserError("there is no champion yet: `python -m flows.promote` makes one")
            if target is None or target == before:
                raise UserError("there is no champion before the present one: name a version with --version")
            registered = registry.version(target)
            with checkpoint_folder(f"models:/{registry.model}/{target}", self.tracking, self.project):
                pass  # its files are there, and those that were registered
            present = registry.numbers()
            older = [number for number in registry.champions_before(target) if number in present]
            method = registered.tags.get("method", "unknown")
            entry = {
                **self._entry(ROLLED_BACK, target, method, registered.tags[CHECKPOINT], {}),
                "gates": {},
                "refused": [],
                "champion": {"before": before, "after": target},
                "previous_alias": older[-1] if older else None,
            }
            registry.move(entry)
            text = f"version {target} is the champion again, in place of version {before}"
            return PromotionDecision(promoted=True, text=text, moved=entry)


def _refusal(version: str, method: str, gates: Sequence[Gate]) -> str:
    refused = [f"{gate.name}: {gate.text}" for gate in gates if not gate.passed]
    counts = f"{len(refused)} of {len(gates)} gates refuse"
    return f"version {version} ({method}) is not promoted, {counts}: {'; '.join(refused)}"
