"""What a whole volume costs beside one slice of it: ingest and image shards, in turn, in one run.

Builds  WORK: one volume of noise and shapes (SIDE x SIDE x SLICES, 16 bits) in each of three formats, with a table, and
        as a DICOM series of SLICES files, which is opened as a volume (`axis: axial`)
Writes  benchmarks/results/volumes.csv: a row a format, stage and repetition as it ends; those with a row are not run
Run     PYTHONPATH=. python benchmarks/volumes.py WORK [--slices 200] [--side 256] [--repetitions 3]

Seconds are those on the processor of the whole command, start of Python included; other processes may run on the host.
"""

import argparse
import io
import os
from pathlib import Path

import nibabel
import nrrd
import numpy as np
import pydicom
import SimpleITK
import yaml
from header import header, last_commit
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian
from runs import REPOSITORY, RESULTS, append, build_data, read, timed

from pipelines.files import atomic_folder
from pipelines.records import IMAGES, REGIONS, SPLIT_IMAGES, ImageRow

OUTPUT = RESULTS / "volumes.csv"
SERIES = ".dcm"
FORMATS = (".nii.gz", ".nrrd", ".mha", SERIES)
STAGES = {"ingest": "pipelines.ingest mine", "image shards": "pipelines.shards images"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--slices", type=int, default=200)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    head = header("PYTHONPATH=. python benchmarks/volumes.py WORK", last_commit(REPOSITORY))
    done = {(row["format"], int(row["repetition"])) for row in read(arguments.output)}
    for repetition in range(arguments.repetitions):
        for suffix in FORMATS:
            studies = make(arguments.work, suffix, arguments.slices, arguments.side)
            if (suffix, repetition) in done:
                continue
            rows = []
            for stage, command in STAGES.items():
                seconds = {}
                for name, study in studies.items():
                    if stage == "image shards":
                        write_tables(study)
                    seconds[name] = run(command, study)
                one, whole = seconds["one"], seconds["whole"]
                rows.append(
                    {
                        "repetition": repetition,
                        "format": suffix,
                        "stage": stage,
                        "slices": arguments.slices,
                        "side": arguments.side,
                        "one_slice_seconds": round(one, 2),
                        "whole_seconds": round(whole, 2),
                        "ratio": round(whole / one, 2),
                        "milliseconds_for_a_further_slice": round(1000 * (whole - one) / (arguments.slices - 1), 1),
                    }
                )
                print(rows[-1], flush=True)
            append(arguments.output, rows, head)


def make(work: Path, suffix: str, slices: int, side: int) -> dict[str, Path]:
    """The volume in one format, and a study for one slice of it and one for all."""
    source = work / f"source{suffix}"
    source.mkdir(parents=True, exist_ok=True)
    file = source / f"v{suffix}"
    if not file.exists():
        write_volume(file, slices, side)
    if suffix != SERIES:
        (source / "metadata.csv").write_text(
            f"file_name,text,labels\n{file.name},A volume.,effusion\n", encoding="utf-8"
        )
    studies = {}
    for which, frames in (("one", "middle"), ("whole", "all")):
        study = studies[which] = work / f"{which}{suffix}"
        params = yaml.safe_load((REPOSITORY / "params.yaml").read_text(encoding="utf-8"))
        settings = {"adapter": "table", "root": f"../{source.name}", "licence": "none", "patient_ids": "public"}
        options = {"modality": "ct", "frames": frames}
        if suffix == SERIES:
            settings["adapter"], options = "dicom", {"axis": "axial", "series": frames}
        params["ingest"]["sources"] = {"mine": settings | {"options": options}}
        build_data(study, yaml.safe_dump(params, sort_keys=False), [])
    return studies


def write_volume(file: Path, slices: int, side: int) -> None:
    random = np.random.default_rng(0)
    blocks = np.kron(random.normal(0, 300, (side // 8, side // 8, -(-slices // 8))), np.ones((8, 8, 8)))
    values = (blocks[..., :slices] + random.normal(0, 40, (side, side, slices))).astype(np.int16)
    if file.suffix == ".nrrd":
        nrrd.write(str(file), values, {"space": "LPS", "space directions": np.eye(3), "space origin": [0, 0, 0]})
    elif file.suffix == SERIES:
        for number in range(slices):
            slice_ = file.with_stem(f"{number:03d}") if number else file
            slice_.write_bytes(dicom_slice(values[..., number].T, number))
    elif file.suffix == ".mha":
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(values.transpose(2, 1, 0)), str(file), True)
    else:
        nibabel.Nifti1Image(values, np.eye(4)).to_filename(file)


def dicom_slice(values: np.ndarray, number: int) -> bytes:
    """One file of a CT series, 1 mm from the last."""
    slice_ = pydicom.Dataset()
    slice_.file_meta = FileMetaDataset()
    slice_.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    slice_.SOPClassUID = slice_.file_meta.MediaStorageSOPClassUID = CTImageStorage
    slice_.SOPInstanceUID = slice_.file_meta.MediaStorageSOPInstanceUID = UID(f"1.2.3.{number + 1}")
    slice_.StudyInstanceUID, slice_.SeriesInstanceUID, slice_.Modality, slice_.PatientID = "1.2", "1.2.3", "CT", "P"
    slice_.ImagePositionPatient, slice_.ImageOrientationPatient = [0, 0, number], [1, 0, 0, 0, 1, 0]
    slice_.PixelSpacing, slice_.InstanceNumber = [1, 1], number + 1
    slice_.Rows, slice_.Columns = values.shape
    slice_.SamplesPerPixel, slice_.PhotometricInterpretation = 1, "MONOCHROME2"
    slice_.BitsAllocated, slice_.BitsStored, slice_.HighBit, slice_.PixelRepresentation = 16, 16, 15, 1
    slice_.add_new("PixelData", "OW", np.ascontiguousarray(values).tobytes())
    stream = io.BytesIO()
    slice_.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def write_tables(study: Path) -> None:
    """The tables that the shards read: all images in train, no region."""
    names = [name for name in ImageRow.__dataclass_fields__ if name not in ("split", "thumbnail")]
    rows = [
        SPLIT_IMAGES.row(**{name: getattr(row, name) for name in names}, group="volume", split="train", leak=False)
        for row in IMAGES.read(study / "data/ingest/mine/images.parquet")
    ]
    with atomic_folder(study / "data/split") as folder:
        SPLIT_IMAGES.write(folder / "images.parquet", rows)
    with atomic_folder(study / "data/regions") as folder:
        REGIONS.write(folder / "regions.parquet", [])


def run(command: str, study: Path) -> float:
    """Seconds on the processor of one command."""
    return timed(study, ["-m", *command.split()], os.environ | {"OMP_NUM_THREADS": "1"}).processor_seconds


if __name__ == "__main__":
    main()
