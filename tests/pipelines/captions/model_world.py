"""A `World` whose captions come from a model behind a server."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from pipelines.captions.config import CaptionsConfig
from pipelines.records import CaptionRow
from tests.fingerprints import write_fingerprint
from tests.pipelines.captions.world import CONFIG, PROMPTS, SIDE, World

# As which the stage is run in a `ModelWorld.workspace`.
COMMAND = [sys.executable, "-m", "pipelines.captions"]
OPTIONS = {
    "model": "toy",
    "concurrency": 4,
    "attempts": 3,
    "retries": 4,
    "timeout_s": 20.0,
    "backoff_s": 0.01,
    "cooldown_s": 0.05,
    "outage_timeout_s": 0.5,
    "image_size": 64,
    "crop_size": 32,
}


def environment(repository: Path) -> dict[str, str]:
    """For a command in another folder that runs the code of this checkout."""
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(repository), os.environ.get("PYTHONPATH", "")])}


def run_command(folder: Path, repository: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """`python -m pipelines.captions` with further words, to its end."""
    return subprocess.run(
        [*COMMAND, *words],
        cwd=folder,
        env=environment(repository),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


class ModelWorld(World):
    """The stage with the captioner `vllm`, a copy of its prompts, and a result cache of its own.

    Args:
        folder: Where everything lies.
        urls: Base URLs of the servers.
    """

    def __init__(self, folder: Path, urls: list[str]) -> None:
        super().__init__(folder)
        self.prompts = folder / "prompts"
        shutil.copytree(PROMPTS.parent / "vllm", self.prompts)
        self.options: dict[str, Any] = OPTIONS | {"base_urls": urls}

    def fill(self, count: int) -> "ModelWorld":
        for n in range(count):
            item = self.image_file(labels=["polyp"], report=f"Polyp number {n}." if n % 2 else None)
            self.region(item, 20, 20, 50, label="polyp")
            self.region(item, 15, 15, SIDE - 30, proposer="saliency")
        return self

    def run(self, **changes: Any) -> tuple[dict[str, Any], dict[str, CaptionRow]]:
        settings = {"captioner": "vllm", "prompts": self.prompts, "options": {"vllm": self.options}}
        return super().run(**(settings | changes))

    def workspace(self, **budget: float) -> Path:
        """The folder as one from which `python -m pipelines.captions` runs; with a budget where one is given."""
        self.write()
        write_fingerprint(self.folder, "captions", "pipelines.captions")
        config: dict[str, Any] = {
            name: getattr(CONFIG, name)
            for name in CaptionsConfig.__dataclass_fields__
            if name not in ("sizes", "modalities")
        }
        config |= {
            "captioner": "vllm",
            "prompts": str(self.prompts),
            "sizes": {"medium": CONFIG.sizes.medium, "large": CONFIG.sizes.large},
            "modalities": {name: {"name": m.name, "side": m.side} for name, m in CONFIG.modalities.items()},
            "budget": budget,
            "options": {"vllm": self.options},
        }
        source = {"adapter": "table", "root": str(self.folder / "toy")}
        ingest = {"sources": {"toy": source}, "max_pixels": 10**6, "max_failed_fraction": 0.0}
        params = {"captions": config, "ingest": ingest, "workers": {"processes": 1}}
        (self.folder / "params.yaml").write_text(yaml.safe_dump(params))
        return self.folder

    @property
    def table(self) -> bytes:
        return (self.folder / "captions.parquet").read_bytes()
