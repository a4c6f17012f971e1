"""The published models of a study on 20 sample images, for hosts that reach the hub; elsewhere what arithmetic says.

Reads   params.yaml with an overlay such as params/paper.yaml, whose proposers, segmenter and captioner are tried; with
        RAW, the folder of the four data sets of params/real.yaml, five images of each, else 20 of the phantom
Writes  data/real_models/: what the stages up to the captions write, and their summaries
Alone   python -m pipelines.real_models check|run [OVERLAY] [RAW] (`make real-models`)

`check` fetches and runs nothing. `run` checks too, asks the hub for each model at its revision, runs the stages and
holds their counts against the ranges of `pipelines.real_models.ranges`.
"""

import os
import shutil
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.constants import ENDPOINT

from pipelines.captions.config import CaptionsConfig
from pipelines.captions.stage import run as run_captions
from pipelines.chat.client import API_KEY
from pipelines.config import load_params, parse
from pipelines.errors import TemporaryError, UserError, one_line
from pipelines.ingest.config import IngestConfig
from pipelines.ingest.stage import run as run_ingest
from pipelines.params import load_study
from pipelines.phantom.config import PhantomConfig
from pipelines.phantom.stage import run as run_phantom
from pipelines.proposals.config import ProposalsConfig
from pipelines.proposals.stage import run as run_proposals
from pipelines.real_models.checks import NamedModel, check_study, this_host
from pipelines.real_models.ranges import judge, measure
from pipelines.regions.config import RegionsConfig
from pipelines.regions.stage import run as run_regions
from pipelines.sources import Sources
from pipelines.split.config import SplitConfig
from pipelines.split.stage import run as run_split

IMAGES = 20
FOLDER = Path("data/real_models")
_REAL = Path("params/real.yaml")
_SECONDS = 20


def main(mode: str, overlay: str = "params/paper.yaml", raw: str = "") -> None:
    if mode not in ("check", "run"):
        raise UserError(f"'{mode}' is neither check nor run")
    study = load_study(Path(overlay))
    models, checks = check_study(study, this_host())
    for check in checks:
        print(f"{'ok   ' if check.passed else 'WRONG'}  {check.text}")
    if wrong := sum(not check.passed for check in checks):
        raise UserError(f"{wrong} of {len(checks)} checks of {overlay} failed, as listed above; nothing was run")
    if mode == "check":
        print("checked by arithmetic alone: nothing was fetched, nothing was run")
        return
    if not all(on_hub(one) for one in models):
        print("not run: the hub cannot be reached from here; what stands above is arithmetic alone")
        return
    check_servers(study["captions"])
    for one in models:
        if one.device not in ("server", "elsewhere"):
            fetch(one)
    lines = judge(measure(*run_stages(sample(study, raw), FOLDER)))
    for inside, line in lines:
        print(f"{'ok   ' if inside else 'WRONG'}  {line}")
    if outside := sum(not inside for inside, _ in lines):
        raise UserError(f"{outside} of {len(lines)} figures lie outside of what a right set-up gives")


def on_hub(model: NamedModel, endpoint: str = ENDPOINT) -> bool:
    """Whether the hub answers; False where it cannot be reached.

    Raises:
        UserError: It answers that it has no such model or revision.
    """
    try:
        address = f"{endpoint}/api/models/{model.model}/revision/{model.revision}"
        with urllib.request.urlopen(address, timeout=_SECONDS):
            return True
    except urllib.error.HTTPError as error:
        if error.code in (401, 403, 404):
            raise UserError(
                f"{model.user}: the hub has no {model.model} at {model.revision} (it says {error.code})"
            ) from None
        return False
    except OSError:
        return False


def check_servers(captions: dict[str, Any]) -> None:
    """Refuse to begin where a server of the captioner does not answer: the models before it take minutes.

    Raises:
        UserError: One does not.
    """
    if captions["captioner"] != "vllm":
        return
    options = captions["options"]["vllm"]
    # No proxy: servers are on this machine or on one's own network.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for url in options["base_urls"]:
        request = urllib.request.Request(
            f"{url.rstrip('/')}/models", headers={"Authorization": f"Bearer {os.environ.get(API_KEY, '')}"}
        )
        try:
            opener.open(request, timeout=_SECONDS).close()
        except OSError as error:
            command = f"make vllm MODEL={options['model']} REVISION={options.get('revision')}"
            raise UserError(f"{url} does not answer ({one_line(error)}); start it with: {command}") from None


def fetch(model: NamedModel) -> None:
    """Bring a model's files into the hub's cache before the stages' seconds are counted.

    Raises:
        TemporaryError: The network failed on the way.
    """
    try:
        snapshot_download(model.model, revision=model.revision, allow_patterns=["*.json", "*.txt", "*.safetensors"])
    except OSError as error:
        raise TemporaryError(f"{model.model} could not be fetched ({one_line(error)}): run the command again") from None


def sample(study: dict[str, Any], raw: str) -> dict[str, Any]:
    """The study with `IMAGES` images, whatever its own sources are, and in one process."""
    ingest, split = dict(study["ingest"]), dict(study["split"])
    phantom = study["phantom"] | {"images": IMAGES, "size": 512}
    if raw:
        real = load_params(_REAL)
        named = {name: source for name, source in real["ingest"]["sources"].items() if source is not None}
        each = -(-IMAGES // len(named))
        ingest["sources"] = {
            name: source | {"root": str(Path(raw) / Path(source["root"]).name), "limit": each}
            for name, source in named.items()
        }
        split["allow_leaks"] = real["split"]["allow_leaks"]
    else:
        drawn = {"adapter": "table", "root": str(FOLDER / "phantom"), "patient_ids": "public"}
        ingest["sources"], split["allow_leaks"] = {"phantom": drawn}, []
    # Every failure is to be counted: the ranges judge, and the stages stop at none.
    failures = {"max_failed_fraction": 1.0}
    proposals = study["proposals"] | failures | {"gpus_per_worker": 0, "labelled_images": IMAGES}
    captions = study["captions"] | failures
    changed = {"phantom": phantom, "ingest": ingest, "split": split, "proposals": proposals, "captions": captions}
    return study | changed


def run_stages(study: dict[str, Any], folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run all stages up to the captions anew, with an empty result cache, so that seconds are those of the models.

    Args:
        study: Sections of params.yaml, as `sample` gives them.
        folder: Where to; what is there is deleted.

    Returns:
        The summaries of proposals and of captions.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    summaries, cache, split = folder / "summaries", folder / "results.sqlite", folder / "split"
    ingest = parse(IngestConfig, study["ingest"], "ingest")
    sources = Sources(roots=ingest.roots(), max_pixels=ingest.max_pixels)
    if "phantom" in sources.roots:
        run_phantom(parse(PhantomConfig, study["phantom"], "phantom"), Path(ingest.sources["phantom"].root), summaries)
    for name in ingest.sources:
        run_ingest(name, ingest, folder / "ingest" / name, summaries)
    split.mkdir()
    run_split(parse(SplitConfig, study["split"], "split"), sorted(ingest.sources), folder / "ingest", split, summaries)
    table = folder / "proposals.parquet"
    config = parse(ProposalsConfig, study["proposals"], "proposals")
    proposed = run_proposals(config, sources, split, table, cache, summaries)
    images, regions = split / "images.parquet", folder / "regions.parquet"
    # Nobody has reviewed these images.
    (folder / "review.jsonl").touch()
    reviewed = study["regions"] | {"review": str(folder / "review.jsonl")}
    run_regions(parse(RegionsConfig, reviewed, "regions"), images, table, regions, summaries)
    captions = parse(CaptionsConfig, study["captions"], "captions")
    return proposed, run_captions(captions, sources, images, regions, folder / "captions.parquet", summaries, cache)
