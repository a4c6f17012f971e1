"""Write a release: the folder that leaves the house."""

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

from models.verified import seal
from pipelines.config import PARAMS, load
from pipelines.errors import UserError
from pipelines.files import atomic_folder, write_json, write_text
from pipelines.promotion.config import PromoteConfig
from pipelines.release import card, croissant
from pipelines.release.coco import write_coco
from pipelines.release.config import ReleaseConfig
from pipelines.release.contents import read_contents
from pipelines.release.facts import Facts, gather
from pipelines.release.images import write_images
from pipelines.release.tars import SHARDS, write_tars
from pipelines.report.config import load_terms
from pipelines.report.inputs import Paths
from pipelines.sources import load_sources

logger = logging.getLogger(__name__)

COUNTS = "release.json"  # marks the folder as a release


def write_release(project: Path, out: Path) -> Facts:
    """Write a release of a finished study; two of the same study have equal bytes.

    Args:
        project: Folder with params.yaml and data/.
        out: Folder of the release; replaced as a whole.

    Raises:
        UserError: The study is not finished, or nothing of it may be released.
    """
    params = project / PARAMS
    settings, promote = load(ReleaseConfig, "release", params), load(PromoteConfig, "promote", params)
    if settings.use not in promote.licences:
        raise UserError(f"{params}: release.use is '{settings.use}', which promote.licences does not list")
    paths, sources = Paths(data=project / "data", params=params), load_sources(params).under(project)
    contents = read_contents(paths, load_terms(params), settings.use, promote.licences)
    facts = gather(settings, contents, paths)
    for source in facts.confidential:
        logger.warning("patient ids of %s are confidential: its texts go out as they are, names in them too", source)
    with atomic_folder(out) as folder:
        write_images(contents, sources, folder)
        write_coco(contents, folder)
        write_tars(contents, paths.data / SHARDS, folder)
        write_json(folder / croissant.FILE, croissant.document(facts, folder))
        write_json(folder / COUNTS, counts(facts))
        for name, text in card.pages(facts, folder).items():
            write_text(folder / name, text)
        seal(folder)
    return facts


def counts(facts: Facts) -> dict[str, Any]:
    """What `release.json` holds."""
    return {
        "name": facts.settings.name,
        "version": facts.settings.version,
        "use": facts.settings.use,
        "images": facts.images,
        "study_images": facts.images + facts.left_out_images,
        "splits": facts.splits,
        "modalities": facts.modalities,
        "findings": facts.findings,
        "regions": facts.region_labels,
        "sources": [{"name": row.name, "licence": row.licence, "images": row.images} for row in facts.sources],
        "left_out": [asdict(one) for one in facts.contents.left_out],
        "confidential": facts.confidential,
    }
