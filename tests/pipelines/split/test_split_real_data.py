"""The leak across two real sources: covid_chestxray images that show pictures of QaTa-COV19's training set."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from split_workspace import Workspace, image_row

from pipelines.errors import UserError


def unit_vectors(paths: list[Path]) -> np.ndarray:
    """64 x 64 pictures as rows of mean 0 and length 1: a product of two is their correlation."""
    rows = np.empty((len(paths), 64 * 64), dtype=np.float32)
    for row, path in zip(rows, paths, strict=True):
        with Image.open(path) as image:
            image.draft("L", (64, 64))
            row[:] = np.asarray(image.convert("L").resize((64, 64), Image.Resampling.LANCZOS)).ravel()
    rows -= rows.mean(axis=1, keepdims=True)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_covid_chestxray_images_that_show_qata_training_images_are_caught(shared_data: Path, tmp_path: Path) -> None:
    covid = sorted((shared_data / "covid_chestxray" / "images").iterdir())
    qata = sorted((shared_data / "qata_cov19" / "Train_Folder" / "img").iterdir())
    correlation = unit_vectors(covid) @ unit_vectors(qata).T
    best = correlation.max(axis=1)
    leaked = np.flatnonzero(best >= 0.98)
    twins = correlation[leaked].argmax(axis=1)
    unlike = np.flatnonzero(best < 0.9)[:60]
    assert len(leaked) == 113  # the number that the data's README gives
    assert len(unlike) == 60

    published = [
        image_row("qata", qata[n].read_bytes(), qata[n].name, split="train") for n in sorted({*twins, *range(60)})
    ]
    id_of = {row["path"]: row["image_id"] for row in published}
    unsplit = {n: image_row("covid", covid[n].read_bytes(), covid[n].name) for n in [*leaked, *unlike]}
    follows = Workspace(tmp_path / "follows")
    follows.ingest("qata", published)
    follows.ingest("covid", list(unsplit.values()))
    summary = follows.split()
    images = follows.images
    for n, twin in zip(leaked, twins, strict=True):
        mine, theirs = images.loc[unsplit[n]["image_id"]], images.loc[id_of[qata[twin].name]]
        assert mine["group"] == theirs["group"]
        assert mine["split"] == "train"
    of_qata = set(images.loc[images["source"] == "qata", "group"])
    assert not of_qata & set(images.loc[[unsplit[n]["image_id"] for n in unlike], "group"])
    assert summary["near_duplicate_pairs"]["across"]["covid + qata"] >= 113
    assert summary["largest_group"] <= 5

    leaks = Workspace(tmp_path / "leaks")
    leaks.ingest("qata", published)
    leaks.ingest("covid", [{**row, "split": "test"} for row in unsplit.values()])
    with pytest.raises(UserError, match="in covid and qata") as caught:
        leaks.split()
    assert any(unsplit[n]["image_id"] in str(caught.value) for n in leaked)
    assert leaks.split(allow_leaks=["covid"])["leaks"]["images"]["covid"] == 113
