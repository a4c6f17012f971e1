"""A folder of DICOM files with a table of reports and an archive of volumes with masks, from raw files to the report.

The files are those that pydicom and nibabel ship for their tests; the table, the mask and the archive are made here.
"""

import gzip
import json
import shutil
import zipfile
from pathlib import Path

import nibabel
import numpy as np
import pandas
import pydicom
import pytest
import yaml
from pydicom.data import get_testdata_file

from tests.graph.project import METHODS, Project

pytestmark = pytest.mark.slow

# Of MR_small.dcm there are twins in three other syntaxes; the last one is no picture.
FILES = (
    *("CT_small.dcm", "MR_small.dcm", "MR_small_jpeg_ls_lossless.dcm", "MR_small_RLE.dcm", "JPEG2000.dcm"),
    *("693_J2KI.dcm", "SC_rgb_jpeg_gdcm.dcm", "examples_palette.dcm", "rtplan.dcm"),
)
REPORT = "A test of {}, and no patient."


def write_films(folder: Path) -> None:
    """The files, and a report for each study, joined by its UID; one row more than there are studies."""
    folder.mkdir(parents=True)
    studies = {}
    for name in FILES:
        path = get_testdata_file(name)
        assert isinstance(path, str)
        shutil.copy(path, folder / name)
        header = pydicom.dcmread(path, stop_before_pixels=True)
        studies[str(header.StudyInstanceUID)] = REPORT.format(header.Modality)
    table = pandas.DataFrame({"StudyInstanceUID": studies.keys(), "text": studies.values()})
    table.loc[len(table)] = ["1.2.3", "Of a study that is not here."]
    table.to_csv(folder / "reports.csv", index=False)


def write_volumes(archive: Path) -> None:
    """The brain of nibabel, 33 x 41 x 25 voxels, and a mask on a grid of its own: turned, and of half of the slices."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    path = Path(nibabel.__file__).parent / "tests" / "data" / "anatomical.nii"
    brain = nibabel.load(path)
    values = np.asarray(brain.dataobj)
    bright = (values > np.percentile(values, 90)).astype(np.uint8)
    upper = nibabel.as_closest_canonical(nibabel.Nifti1Image(bright, brain.affine)).slicer[:, :, 12:]
    listing = "file_name,text,patient_id,mask\nbrain.nii,A brain of a test.,B1,mask.nii.gz\n"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("metadata.csv", listing)
        file.writestr("brain.nii", path.read_bytes())
        file.writestr("mask.nii.gz", gzip.compress(upper.to_bytes(), mtime=0))


def test_films_and_volumes_go_to_the_report(tmp_path: Path, repository: Path) -> None:
    project = Project(tmp_path / "study", repository)
    write_films(project.folder / "data/raw/films")
    write_volumes(project.folder / "data/raw/volumes.zip")
    params = yaml.safe_load((project.folder / "params.yaml").read_text())
    sources = params["ingest"]["sources"]
    del sources["mine"]
    sources["films"] = {"adapter": "dicom", "root": "data/raw/films"}
    options = {"frames": "all", "modality": "mri"}
    sources["brains"] = {"adapter": "table", "root": "data/raw/volumes.zip", "options": options}
    (project.folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))

    ran = project.repro()
    assert {"ingest@films", "ingest@brains", "split", "report", *(f"evaluate@{name}" for name in METHODS)} <= ran
    data = project.folder / "data"
    films, brains = (
        json.loads((data / "summaries" / f"ingest-{name}.json").read_text()) for name in ("films", "brains")
    )
    # The twins of MR_small.dcm lie in one place: a stack, of which one is taken.
    assert (films["inputs"], films["ok"]) == (9, 6)
    assert films["reasons"]["rejected"] == {"not_a_picture": 1, "report_without_image": 2}
    assert (brains["inputs"], brains["ok"], brains["annotations"]) == (25, 25, 13)
    annotations = pandas.read_parquet(data / "ingest/brains/annotations.parquet")
    images = pandas.read_parquet(data / "split/images.parquet").set_index("image_id")
    assert sorted(images.loc[annotations["image_id"], "frame"]) == list(range(12, 25))
    assert (images.groupby("group")["split"].nunique() == 1).all()
    assert images.loc[images["source"] == "brains", "split"].nunique() == 1
    of_films = images[images["source"] == "films"].set_index("path")
    assert of_films.loc["CT_small.dcm", ["modality", "report"]].tolist() == ["ct", REPORT.format("CT")]
    assert of_films["patient"].notna().all()
    for summary in (data / "summaries").glob("*.json"):
        counts = json.loads(summary.read_text())
        assert counts["inputs"] == sum(counts[name] for name in ("ok", "rejected", "failed", "duplicates")), counts
    report = (data / "report/index.html").read_text()
    assert "films" in report
    assert "brains" in report
