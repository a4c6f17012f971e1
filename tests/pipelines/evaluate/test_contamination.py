"""Which test images training images show, too: by their bytes, as near-duplicates, and what is not known."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from models.data.shards import ShardSet
from pipelines.config import load
from pipelines.cuts import Cut
from pipelines.evaluate.contamination import THRESHOLDS, Contamination, contamination, in_training, in_words
from pipelines.images import image_identity
from pipelines.opened import opened
from pipelines.split.config import SplitConfig
from tests.pipelines.evaluate.small_world import save_clip
from tests.pipelines.promotion.promotion_world import name_shards
from tests.shards import SmallSample, image_captions, image_meta, write_shards

SIDE = 64


def picture(number: int, size: tuple[int, int] = (SIDE, SIDE)) -> Image.Image:
    """A scene of soft shapes of its own."""
    grey = np.random.default_rng(number).integers(0, 256, (6, 6)).astype(np.uint8)
    return Image.fromarray(grey).resize(size, Image.Resampling.BICUBIC)


def sample(key: int, split: str, shown: Image.Image, quality: int = 95) -> SmallSample:
    """An image in the upper left of a black square."""
    square = Image.new("RGB", (SIDE, SIDE))
    square.paste(shown.convert("RGB"))
    stream = io.BytesIO()
    square.save(stream, "JPEG", quality=quality)
    meta = image_meta(f"{key:016x}", split=split, width=shown.width, height=shown.height)
    return SmallSample(meta=meta, captions=image_captions(f"{key:016x}"), image=stream.getvalue())


def shards_of(root: Path, samples: list[SmallSample]) -> Path:
    write_shards(root / "data/shards", samples, None, per_shard=100)
    return root


def split_of(root: Path, split: str) -> ShardSet:
    return ShardSet(root / "data/shards/images", root / "data/shards/captions", split)


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """One to train on, and one to test on, of which six images show scenes of the former."""
    root = tmp_path_factory.mktemp("studies")
    grey = Image.new("L", (SIDE, SIDE), 90)
    # Their keys count from 0, so that that of the grey image is 13.
    trained = [picture(number) for number in range(12)] + [picture(50, (SIDE, 40)), grey]
    here = shards_of(root / "here", [sample(number, "train", one) for number, one in enumerate(trained)])
    brighter = picture(1).resize((50, 50)).resize((SIDE, SIDE)).point(lambda level: 20 + level * 0.8)
    tested = [
        sample(0, "test", picture(0)),
        sample(13, "test", grey),
        sample(101, "test", brighter, quality=60),
        # Half of the square is black in training, and none of it here.
        sample(102, "test", picture(50, (SIDE, 40)).resize((SIDE, SIDE)), quality=80),
        sample(103, "test", ImageOps.mirror(picture(2))),
        sample(104, "test", grey),
        sample(105, "test", picture(3)),
        sample(106, "test", picture(3)),
        *(sample(200 + number, "test", picture(200 + number)) for number in range(6)),
    ]
    return here, shards_of(root / "there", tested)


def test_equal_images_and_near_duplicates_are_found_and_nothing_else(studies: tuple[Path, Path]) -> None:
    here, there = studies
    found = in_training(split_of(there, "test"), split_of(here, "train").samples())
    assert found == {
        f"{0:016x}": "same_bytes",
        # Nearly uniform: its id says it, and of 104 the pixels say nothing.
        f"{13:016x}": "same_bytes",
        f"{101:016x}": "near_duplicate",
        f"{102:016x}": "near_duplicate",
        # Under other ids than in training.
        f"{105:016x}": "same_bytes",
        f"{106:016x}": "same_bytes",
    }
    assert in_training(split_of(there, "test"), split_of(there, "train").samples()) == {}


def test_a_file_in_an_archive_here_and_in_a_folder_there_is_one_image(tmp_path: Path) -> None:
    stream = io.BytesIO()
    picture(7).save(stream, "PNG")
    ids = [image_identity(opened(stream.getvalue()), member, Cut()) for member in ("images/a.png", None)]
    assert ids[0] != ids[1]
    for folder, split, image_id in zip(("here", "there"), ("train", "test"), ids, strict=True):
        shards_of(tmp_path / folder, [sample(int(image_id, 16), split, picture(7))])
    found = in_training(split_of(tmp_path / "there", "test"), split_of(tmp_path / "here", "train").samples())
    assert found == {ids[1]: "same_bytes"}


def test_many_images_are_compared_in_parts(studies: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = studies
    whole = in_training(split_of(there, "test"), split_of(here, "train").samples())
    for name in ("_BATCH", "_ROWS", "_PAIRS"):
        monkeypatch.setattr(f"pipelines.evaluate.contamination.{name}", 1)
    assert in_training(split_of(there, "test"), split_of(here, "train").samples()) == whole


def test_a_checkpoint_names_its_training_images_and_what_nobody_knows(studies: tuple[Path, Path]) -> None:
    here, there = studies
    checkpoint = save_clip(here / "data/checkpoints/clip", seed=0)
    split = split_of(there, "test")
    unknown = contamination(checkpoint, [here, there], split)
    assert unknown.images is None
    assert unknown.not_known == [
        "the images that it was trained on: its shards are neither here nor in the study",
        "whether it started from published weights: its curve.json does not say",
    ]
    name_shards(here, "clip", weights={})
    assert contamination(checkpoint, [there, here], split) == Contamination(
        images=in_training(split, split_of(here, "train").samples()), not_known=[]
    )
    name_shards(here, "clip", weights={"data/weights/dinov2_small": "natural images"})
    found = contamination(checkpoint, [here], split)
    assert found.not_known == [
        "the images of data/weights/dinov2_small, from which it started; its publisher says: natural images"
    ]
    assert (found.seen, unknown.seen) == (4, None)
    assert in_words(found, len(split)) == [
        "4 of 14 images were in the training data of this model (by file or pixels)",
        "2 of 14 images have a near-duplicate in the training data of this model",
        f"not known: {found.not_known[0]}",
    ]


def test_the_thresholds_are_those_of_the_split(repository: Path) -> None:
    assert load(SplitConfig, "split", repository / "params.yaml").near_duplicates == THRESHOLDS
