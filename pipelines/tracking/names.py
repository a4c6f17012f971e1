"""How things are called in MLflow: tags of runs and versions, metrics."""

import re

# Tag of runs and versions: SHA-256 of the checkpoint (`models.checkpoint.digest`).
CHECKPOINT = "checkpoint_sha256"
# Tag of a run: the name of the training, `<method>-<hash of its inputs>`.
TRAINING = "training_run"
# Tag of a run: digest of the items that its last evaluation scored.
ITEMS = "items_sha256"
# Prefix of a version's tags that hold what the last promotion said of it.
VERDICT = "verdict."


def metric_name(name: str) -> str:
    """A name as MLflow allows it: `recall@5` becomes `recall_at_5`."""
    return re.sub(r"[^/\w.\- :]", "_", name.replace("@", "_at_"))
