"""Move the alias `champion` in MLflow's registry to a candidate that passes all gates of params.yaml (promote).

The candidate is the method that is best on the validation split, a method (--method) or a registered version
(--version). It is confirmed on the test split: above chance and above each trivial baseline by interval, no worse than
the champion by a paired bootstrap on the same items, above the floors, without leaks, with a dataset card, and with
licences that allow the use. Where the scores of a version are not at hand it is evaluated again. The former champion
becomes `previous`, and every decision is a line of the ledger. Where Prefect has a server, a new champion is an event
there, and whoever `serve.notify` names is told; no server is started for it. Exit code 0 when the candidate is the
champion afterwards, 1 with all that refused it when it is not.

Reads: data/evaluation/, data/checkpoints/, data/shards/, data/split/, data/report/, params.yaml, the MLflow store.
Writes: data/promotions.jsonl, aliases and verdicts in the MLflow store.
Run alone: python -m flows.promote [--method METHOD | --version N | --rollback | --history]
"""

import argparse
import logging
from pathlib import Path

from flows.notify import tell_champion
from flows.one_run import one_run
from pipelines.config import PARAMS, load
from pipelines.errors import UserError
from pipelines.evaluate.config import EvaluateConfig
from pipelines.promotion.config import PromoteConfig
from pipelines.promotion.decision import Promotion, PromotionDecision
from pipelines.promotion.verdict import history
from pipelines.stage import command
from pipelines.tracking.config import TrackingConfig

logger = logging.getLogger(__name__)


def main(*arguments: str) -> None:
    parser = argparse.ArgumentParser("python -m flows.promote", description="Promote a model that passes the gates.")
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--method", help="the candidate (default: the method that is best on validation)")
    choice.add_argument("--version", help="the candidate is this registered version")
    choice.add_argument("--rollback", action="store_true", help="make the champion before this one champion again")
    choice.add_argument("--history", action="store_true", help="show all decisions, and where the registry differs")
    options = parser.parse_args(arguments)
    if options.history:
        show_history(promotion_of(Path()))
        return
    with one_run(Path(), "promote", logger.info):
        decision = decide(Path(), options.method, options.version, rollback=options.rollback)
    for gate in decision.gates:
        print(f"{'passed ' if gate.passed else 'refused'} {gate.name}: {gate.text}")
    if not decision.promoted:
        raise UserError(decision.text)
    print(decision.text)


def decide(project: Path, method: str | None, version: str | None, *, rollback: bool) -> PromotionDecision:
    """Judge a candidate, or go back to the champion before, and tell of a new champion.

    Args:
        project: Folder with params.yaml and data.
        method: As of `Promotion.promote`.
        version: As of `Promotion.promote`.
        rollback: Go back instead.
    """
    promotion = promotion_of(project)
    decision = promotion.roll_back() if rollback else promotion.promote(method, version)
    if decision.moved is not None:
        tell_champion(project, promotion.tracking.model, decision.moved, decision.text)
    return decision


def promotion_of(project: Path) -> Promotion:
    """What a decision needs, from the workspace's params."""
    params = project / PARAMS
    return Promotion(
        config=load(PromoteConfig, "promote", params),
        tracking=load(TrackingConfig, "tracking", params),
        evaluation=load(EvaluateConfig, "evaluate", params),
        project=project,
    )


def show_history(promotion: Promotion) -> None:
    """Print the decisions of the ledger, and where the registry is not as it says."""
    registry = promotion.registry(mend=False)
    print(history(registry.entries) if registry.entries else "no decision yet")
    for difference in registry.differences():
        print(f"differs: {difference}")


if __name__ == "__main__":
    command(main)
