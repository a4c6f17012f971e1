"""Real vLLM servers on loopback, each with a tiny checkpoint of one family; `make test-vllm`."""

import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from models.geometry import box_of_mask
from pipelines.config import parse
from pipelines.ingest.config import IngestConfig, SourceConfig
from pipelines.ingest.stage import run as ingest
from pipelines.masks import decode
from pipelines.records import (
    ANNOTATIONS,
    ANNOTATIONS_PROPOSER,
    SPLIT_IMAGES,
    AnnotationRow,
    RegionRow,
    SplitImageRow,
)
from pipelines.sources import Sources
from pipelines.split.config import SplitConfig
from pipelines.split.stage import run as split
from tests.processes import free_port, start_ignoring_interrupts
from tests.tiny_vlms import BUILDERS

PER_SPLIT = 12
SPLIT = {
    "seed": 0,
    "fractions": {"train": 0.7, "validation": 0.08, "test": 0.22},
    "near_duplicates": {"max_distance": 48, "min_correlation": 0.93},
}


@dataclass(frozen=True, kw_only=True)
class Server:
    """`scripts/vllm serve` in a process of its own.

    Attributes:
        url: Address without a path.
        checkpoint: Folder of what it serves, under that folder's name.
        process: The script; vLLM's processes are its children.
    """

    url: str
    checkpoint: Path
    process: subprocess.Popen[str]

    def stop(self, number: signal.Signals) -> list[psutil.Process]:
        """Send a signal to the script, wait until it has ended, and return what still runs of what it started."""
        started = psutil.Process(self.process.pid).children(recursive=True)
        self.process.send_signal(number)
        self.process.wait(60)
        return psutil.wait_procs(started, timeout=5)[1]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny-qwen2.5-vl"
    BUILDERS["qwen2.5-vl"](folder)
    return folder


@pytest.fixture(scope="session")
def script(repository: Path) -> Path:
    return repository / "scripts" / "vllm"


@pytest.fixture(scope="session")
def environment(script: Path) -> None:
    """The server's own environment, made here where it is absent, so that what pip prints is in no test's output."""
    subprocess.run([script, "env"], check=True)


def start(script: Path, model: Path, until: str, *flags: str) -> Server:
    """Start the script as another script's `&` does, and read what it prints until a line begins with `until`."""
    port = free_port()
    command = [script, "serve", "--model", model, "--port", str(port), *flags]
    process = start_ignoring_interrupts(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith(until):
            return Server(url=f"http://127.0.0.1:{port}", checkpoint=model, process=process)
    raise AssertionError(f"the server did not start:\n{''.join(lines)}")


@pytest.fixture(scope="session", params=BUILDERS)
def server(
    environment: None, script: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Server]:
    """A server of each family in turn: pytest runs all tests that need one before it starts the next."""
    folder = tmp_path_factory.mktemp("models") / f"tiny-{request.param}"
    BUILDERS[request.param](folder)
    running = start(script, folder, "serving", "--max-model-len=4096")
    yield running
    if running.process.poll() is None:
        running.stop(signal.SIGTERM)


@dataclass(frozen=True, kw_only=True)
class Ingested:
    """Images of every split of two data sets, and their annotated regions.

    Attributes:
        sources: Where their files are.
        images: The images.
        regions: The regions.
    """

    sources: Sources
    images: list[SplitImageRow]
    regions: list[RegionRow]


@pytest.fixture(scope="session")
def ingested(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Ingested:
    folder = tmp_path_factory.mktemp("ingested")
    limit = {"train": PER_SPLIT, "validation": PER_SPLIT, "test": PER_SPLIT}
    sources = {
        "kvasir_seg": SourceConfig(
            adapter="image_mask_folders",
            root=str(shared_data / "kvasir_seg"),
            limit=limit,
            options={"modality": "endoscopy", "label": "polyp"},
        ),
        "qata_cov19": SourceConfig(
            adapter="lvit", root=str(shared_data / "qata_cov19"), limit=limit, patient_ids="public"
        ),
    }
    config = IngestConfig(sources=sources, max_pixels=100_000_000, max_failed_fraction=0.0)
    for name in sources:
        ingest(name, config, folder / "ingest" / name, folder)
    split_config = parse(SplitConfig, SPLIT | {"allow_leaks": list(sources)}, "split")
    split(split_config, list(sources), folder / "ingest", folder / "split", folder)
    images = SPLIT_IMAGES.read(folder / "split" / "images.parquet")
    annotations = ANNOTATIONS.read(folder / "split" / "annotations.parquet")
    return Ingested(
        sources=Sources(roots=config.roots(), max_pixels=config.max_pixels),
        images=images,
        regions=[region for image in images for region in annotated_regions(image, annotations)],
    )


def annotated_regions(image: SplitImageRow, annotations: list[AnnotationRow]) -> list[RegionRow]:
    """The image's annotations as regions; those of every third image count as proposed and have no label."""
    proposed = int(image.image_id, 16) % 3 == 0
    rows = []
    for annotation in annotations:
        if annotation.image_id != image.image_id:
            continue
        assert annotation.mask is not None
        mask = decode(annotation.mask, image.height, image.width)
        x0, y0, x1, y1 = box_of_mask(mask)
        rows.append(
            RegionRow(
                region_id=f"{image.image_id}-{annotation.n}",
                image_id=image.image_id,
                source=image.source,
                n=annotation.n,
                role="input",
                proposer="saliency" if proposed else ANNOTATIONS_PROPOSER,
                label=None if proposed else annotation.label,
                x0=x0,
                y0=y0,
                x1=x1,
                y1=y1,
                mask=annotation.mask,
                area=int(mask.sum()),
                area_fraction=float(mask.mean()),
                score=1.0,
                certified=False,
                status="accepted",
            )
        )
    return rows
