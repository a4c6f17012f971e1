"""An image that is predicted from its file is the image that its shard holds, byte for byte."""

from pathlib import Path

import numpy as np

from models import checkpoint
from models.data.format import CROPS, IMAGE
from models.data.shards import ShardSet
from models.inference import embed_images
from models.prediction import Predictor
from models.regionmed_clip.model import RegionMedClip
from models.text import train_tokenizer
from pipelines.images import decode
from pipelines.records import REGIONS, SPLIT_IMAGES
from tests.models.small import make_model
from tests.pipelines.shards.conftest import CONFIG, Workspace


def test_an_image_of_the_study_gets_the_bytes_and_the_embedding_of_its_shard(
    workspace: Workspace, tmp_path: Path
) -> None:
    workspace.run_images()
    workspace.write_captions("round")
    workspace.run_captions()
    samples = list(ShardSet(workspace.image_shards, workspace.caption_shards, "train").samples())
    tokenizer = train_tokenizer(["red green blue"] * 3, 50)
    model = make_model(tokenizer, RegionMedClip, embedding="mean").eval()
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    checkpoint.save(folder, "regionmed_clip", model, model.state_dict(), tokenizer, {}, CONFIG.input_format)
    predictor = Predictor(folder, RegionMedClip)
    rows = {row.image_id: row for row in SPLIT_IMAGES.read(workspace.images)}
    regions = sorted(REGIONS.read(workspace.regions), key=lambda region: region.n)
    prepared = []
    for sample in samples:
        row = rows[sample.key]
        image = decode((workspace.roots[row.source] / row.path).read_bytes())
        of_image = [one for one in regions if one.image_id == sample.key and one.status == "accepted"]
        prepared.append(predictor.prepare(sample.key, image, [region.box for region in of_image]))
        assert prepared[-1].members[IMAGE] == sample.members[IMAGE]
        assert prepared[-1].members[CROPS] == sample.members[CROPS]
        assert [one.box for one in prepared[-1].meta.regions] == [one.box for one in sample.meta.regions]
    assert sum(len(sample.meta.regions) for sample in samples) > 1
    np.testing.assert_array_equal(predictor.embed_images(prepared), embed_images(model, samples, 16))
