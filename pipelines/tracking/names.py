"""How things are called in MLflow: tags of runs and versions, metrics."""

import re

# Tag of runs and versions: SHA-256 of the checkpoint (`models.checkpoint.digest`).
CHECKPOINT = "checkpoint_sha256"
# Tag of a run: the name of the training, `<method>-<hash of its inputs>`.
TRAINING = "training_run"
# Tag of a run: seconds for which it trained, or `unknown`.
SECONDS = "training_seconds"
# Tags of a run: the epoch whose weights the checkpoint holds, where validation chose one, and phases that ended early.
BEST_EPOCH, STOPPED_EARLY = "best_epoch", "stopped_early"
# Tag of a run that holds where it came from, the last of these that is written.
PROVENANCE = "git_dirty"
# What the tag `sources` of runs and versions says where nothing was trained; else it names the sources learned from.
NO_SOURCE = "none"
# Tag of a run: DVC's name of the experiment that it was.
EXPERIMENT = "dvc_experiment"
# Tag of a run: the folder among its artifacts that holds its model; the last that is logged of a training.
MODEL = "model_artifact"
# Tags of a run: digests of the test and validation items that its last evaluation scored, of that evaluation, and of
# the report's files; how many evaluations there were.
ITEMS, VALIDATION_ITEMS = "items_sha256", "validation_items_sha256"
EVALUATION, REPORT, EVALUATIONS = "evaluation_sha256", "report_sha256", "evaluations"
# Tag of a run: digest of the pictures of its study that are among its artifacts.
PICTURES = "pictures_sha256"
# Prefix of a version's tags that hold what the last promotion said of it.
VERDICT = "verdict."


def metric_name(name: str) -> str:
    """A name as MLflow allows it: `recall@5` becomes `recall_at_5`."""
    return re.sub(r"[^/\w.\- :]", "_", name.replace("@", "_at_"))
