"""`flows.predict` on rows, images, weights and options that give no prediction: each is told, and the others go on."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from flows.predict import main
from models import checkpoint
from models.clip.model import Clip
from models.text import train_tokenizer
from pipelines.errors import UserError
from tests.models.small import make_model
from tests.pipelines.predict.conftest import NOISE
from tests.pipelines.predict.test_predict import rows
from tests.shards import INPUT_FORMAT


@pytest.mark.parametrize("frame", ["99999999999999999999", "9" * 5000, "1e300", "-1", "0.5", "true"])
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_cell_that_is_no_frame_rejects_its_row_alone(place: Path, models: Path, kind: str, frame: str) -> None:
    lines = ["file_name,frame", f"grey.png,{frame}", "volume.nii.gz,1"]
    if kind == "jsonl":
        lines = [f'{{"file_name": "grey.png", "frame": {frame}}}', '{"file_name": "volume.nii.gz", "frame": 1}']
    Path(f"scans/table.{kind}").write_text("\n".join(lines))
    main(str(models / "clip"), f"scans/table.{kind}", "--out", "out")
    reasons = [row["reason"] for row in rows("out", "images")]
    # JSON's own reader refuses a number of so many digits.
    assert reasons == [("bad_row" if kind == "jsonl" and len(frame) > 4300 else "bad_value"), None]


def test_the_edges_of_regions_may_be_any_number(place: Path, models: Path) -> None:
    edges = ["-1e300,-1e300,1e300,1e300", "0,0,1e-300,1e-300", "0,0,inf,9", "50,0,1e300,9"]
    for number, line in enumerate(edges):
        Image.fromarray(NOISE).save(f"scans/{number}.png")
        edges[number] = f"{number}.png,{line}"
    Path("regions.csv").write_text("\n".join(["file_name,x0,y0,x1,y1", *(f"scans/{line}" for line in edges)]))
    names = [f"scans/{number}.png" for number in range(len(edges))]
    main(str(models / "regionmed_clip"), *names, "--regions", "regions.csv", "--out", "out")
    assert [row["reason"] for row in rows("out", "images")] == [None, None, "bad_box", "bad_box"]


def test_an_image_that_shows_nothing_is_rejected_as_in_ingest(place: Path, models: Path) -> None:
    Image.fromarray(np.full((24, 40), np.nan, np.float32)).save("scans/nan.tif")
    Image.fromarray(np.full((24, 40), np.inf, np.float32)).save("scans/inf.tif")
    Image.fromarray(np.full((24, 40), 7, np.uint8)).save("scans/blank.png")
    names = ["scans/nan.tif", "scans/inf.tif", "scans/blank.png", "scans/grey.png"]
    main(str(models / "clip"), *names, "--out", "out")
    assert [row["reason"] for row in rows("out", "images")] == [*["blank_image"] * 3, None]


@pytest.mark.parametrize("options", [["--text", "red"], ["--labels", "red"], []])
def test_weights_that_diverged_are_one_line(place: Path, options: list[str]) -> None:
    tokenizer = train_tokenizer(["the picture is red"] * 3, 100)
    tokenizer.model_max_length = 32
    model = make_model(tokenizer, Clip)
    weights = {
        name: torch.full_like(value, float("nan")) if value.is_floating_point() else value
        for name, value in model.state_dict().items()
    }
    Path("nan").mkdir()
    checkpoint.save(Path("nan"), "clip", model, weights, tokenizer, {}, INPUT_FORMAT)
    with pytest.raises(UserError, match="embedding is not finite: the weights of the model diverged"):
        main("nan", "scans/grey.png", "--out", "out", *options)
    assert not Path("out").exists()


def test_nothing_given_is_one_line_and_replaces_nothing(place: Path, models: Path) -> None:
    main(str(models / "clip"), "scans/grey.png", "--out", "out")
    Path("table.csv").write_text("file_name,text\n")
    Path("none").mkdir()
    with pytest.raises(
        UserError, match=r"no prediction: table\.csv, none: no image in it, and no row of a table"
    ) as told:
        main(str(models / "clip"), "table.csv", "none", "--out", "out")
    assert "images.parquet" not in str(told.value)
    assert len(rows("out", "images")) == 1


def test_a_slice_that_no_file_has_is_one_line(place: Path, models: Path) -> None:
    for frame in ("-1", "99999999999999999999"):
        with pytest.raises(UserError, match=rf"--frame {frame}: slices are counted from 0"):
            main(str(models / "clip"), "scans", "--frame", frame, "--out", "out")
