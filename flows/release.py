"""Pass a data set on: Parquet, COCO, a folder of images, the tars, Croissant, card and datasheet.

Sources whose licence does not allow `release.use` are left out of all of it, and named with their counts.

Reads: params.yaml (release, promote.licences, ingest), data/ of a finished study, the sources' raw files.
Writes: the folder of --out, sealed with SHA256SUMS; two releases of the same study have equal bytes.
Run alone: python -m flows.release --out FOLDER
"""

import argparse
from pathlib import Path

from pipelines.files import sweep_beside
from pipelines.release.release import COUNTS, write_release
from pipelines.result_folders import check_out
from pipelines.stage import command


def main(*arguments: str) -> None:
    parser = argparse.ArgumentParser("python -m flows.release", description="Write the study as a data set for others.")
    parser.add_argument("--out", type=Path, required=True, help="folder of the release; one that is there is replaced")
    options = parser.parse_args(arguments)
    check_out(options.out, COUNTS, "a release of flows.release")
    sweep_beside(options.out)
    facts = write_release(Path(), options.out)
    for one in facts.contents.left_out:
        print(f"left out: {one.images} images of {one.source}: {one.reason}")
    study = facts.images + facts.left_out_images
    print(f"released: {facts.images} of {study} images, from {', '.join(facts.contents.terms)}")
    print(f"release: {options.out}")


if __name__ == "__main__":
    command(main)
