"""README.md, the card that Hugging Face shows, and DATASHEET.md."""

from pathlib import Path
from typing import Any

import yaml

from models.data.format import read_manifest
from pipelines.release.croissant import citation, description
from pipelines.release.facts import Facts
from pipelines.release.images import PARQUET
from pipelines.release.rows import ATTRIBUTE_COLUMNS, COLUMNS, QUESTION_COLUMNS, REGION_COLUMNS
from pipelines.release.statements import statements, tool
from pipelines.release.tars import SHARDS
from pipelines.report.card import card_head
from pipelines.report.pages import templates

CARD, DATASHEET = "README.md", "DATASHEET.md"


def pages(facts: Facts, out: Path) -> dict[str, str]:
    """Name -> text of both.

    Args:
        facts: Of the release.
        out: The release, whose tars are complete.
    """
    environment = templates("pipelines.release")
    shards = read_manifest(out / SHARDS / "images").splits
    split, tar = next((name, shards[name].shards[0].file) for name in facts.splits if shards[name].shards)
    values = {
        "facts": facts,
        "said": statements(facts),
        "tool": tool,
        "description": description(facts),
        "citation": citation(facts),
        "head": yaml.safe_dump(_head(facts), sort_keys=False, allow_unicode=True),
        "columns": COLUMNS,
        "region_columns": REGION_COLUMNS,
        "attribute_columns": ATTRIBUTE_COLUMNS,
        "question_columns": QUESTION_COLUMNS,
        "contradictions": sum(sum(prompt.contradictions.values()) for prompt in facts.prompts),
        "first": {"split": split, "tar": tar},
        "audit": facts.audit,
    }
    return {name: environment.get_template(f"{name}.j2").render(values) for name in (CARD, DATASHEET)}


def _head(facts: Facts) -> dict[str, Any]:
    """The YAML that Hugging Face reads: with `configs` a folder is loaded by its name alone."""
    head = card_head(facts.sources)
    files = [{"split": name, "path": f"{PARQUET}/{name}-*.parquet"} for name, count in facts.splits.items() if count]
    return {
        "pretty_name": f"{facts.settings.name} {facts.settings.version}",
        "license": head["license"].lower(),
        **{name: head[name] for name in ("task_categories", "tags", "size_categories")},
        "configs": [{"config_name": "default", "data_files": files}],
    }
