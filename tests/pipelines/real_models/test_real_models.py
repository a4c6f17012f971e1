"""`make real-models`: what is checked without the hub, the hub's answers, and the stages' counts against the ranges."""

import dataclasses
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.errors import UserError
from pipelines.params import load_study, merge
from pipelines.real_models.checks import Host, NamedModel, check_study
from pipelines.real_models.ranges import RANGES, judge, measure
from pipelines.real_models.run import main, on_hub, run_stages, sample
from pipelines.real_models.sizes import SIZES
from tests import tiny_checkpoints
from tests.recording_server import Fault, RecordingServer

# Four GPUs of 80 GB, as docs/operations.md says for the 72B model.
LARGE = Host(disk=200 * 10**9, memory=100 * 10**9, gpus=(80 * 10**9,) * 4)
COMMIT = "0123456789abcdef" * 2 + "01234567"


@pytest.fixture(scope="module")
def paper(repository: Path) -> dict[str, Any]:
    return load_study(repository / "params/paper.yaml", repository / "params.yaml")


def faults(study: dict[str, Any], host: Host = LARGE, **changes: Any) -> list[str]:
    _, checks = check_study(merge(study, changes), host)
    return [check.text for check in checks if not check.passed]


def dino(**options: Any) -> dict[str, Any]:
    return {"options": {"grounding_dino": options}}


def vllm(**options: Any) -> dict[str, Any]:
    return {"options": {"vllm": options}}


def test_the_paper_s_models_are_pinned_and_need_what_arithmetic_says(paper: dict[str, Any]) -> None:
    models, checks = check_study(paper, dataclasses.replace(LARGE, gpus=(80 * 10**9,) * 8))
    assert [one.user for one in models] == ["grounding_dino", "medsam", "vllm"]
    assert all(re.fullmatch("[0-9a-f]{40}", one.revision) for one in models)
    assert all(check.passed for check in checks)
    texts = "\n".join(check.text for check in checks)
    # (232,315,264 + 93,735,728) x 4 + 8 images x 1.82 GB; 146.8 + 0.93 + 0.37 GB on the disk.
    assert "GPU memory for grounding_dino and medsam, batches of 8: 15.9 GB needed, 80.0 GB there" in texts
    assert "disk for the weights: 148.1 GB needed, 200.0 GB free" in texts
    # 64 requests of 1,024 + 256 + 700 + 768 tokens at 320 KiB: 57.6 GB of cache beside 146.8 GB of weights.
    assert "64 requests at a time: 226.6 GB needed, 640.0 GB in all GPUs" in texts


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"proposals": dino(model="grounding-dino-base")}, "neither a folder nor an id of the form owner/name"),
        ({"proposals": dino(model="IDEA-Research/grounding-dino-bse")}, "grounding-dino-bse is not among the models"),
        (
            {"proposals": dino(revision="12bdfa3")},
            "revision '12bdfa3' of IDEA-Research/grounding-dino-base is no",
        ),
        ({"proposals": dino(revision="main")}, "pin 'revision' to a commit"),
        ({"proposals": dino(box_treshold=0.3)}, "box_treshold"),
        ({"captions": vllm(revision="main")}, "vllm: revision 'main' of Qwen/Qwen2.5-VL-72B-Instruct is no commit"),
        ({"captions": vllm(concurency=1)}, "concurency"),
    ],
)
def test_a_wrong_name_revision_or_option_is_one_line(paper: dict[str, Any], changes: Any, fault: str) -> None:
    (found,) = faults(paper, **changes)
    assert fault in found
    assert "\n" not in found


def test_too_little_disk_or_memory_is_one_line_that_says_what_helps(paper: dict[str, Any]) -> None:
    assert faults(paper) == []
    (found,) = faults(paper, dataclasses.replace(LARGE, disk=10**9))
    assert found.startswith("disk for the weights: 148.1 GB needed, 1.0 GB free: free some")
    small = faults(paper, dataclasses.replace(LARGE, gpus=(8 * 10**9,)))
    assert [text.partition(":")[0] for text in small] == [
        "GPU memory for grounding_dino and medsam, batches of 8",
        "GPU memory for the captioner, 64 requests at a time",
    ]
    without, _ = faults(paper, dataclasses.replace(LARGE, gpus=()))
    # Smaller batches would not help.
    assert without.endswith(
        "there: this host has no CUDA device: set `device: cpu` in their options, or run it elsewhere"
    )
    # On the CPU the host's memory counts; a server elsewhere has its own disk and memory.
    devices = {name: {"device": "cpu"} for name in ("grounding_dino", "medsam")}
    elsewhere = {"captions": vllm(base_urls=["http://10.0.0.1:8001/v1"]), "proposals": {"options": devices}}
    assert faults(paper, Host(disk=2 * 10**9, memory=16 * 10**9, gpus=()), **elsewhere) == []
    (found,) = faults(paper, Host(disk=2 * 10**9, memory=15 * 10**9, gpus=()), **elsewhere)
    assert found.startswith("host memory for grounding_dino and medsam, batches of 8: 15.9 GB needed, 15.0 GB there")


class Hub(BaseHTTPRequestHandler):
    """Knows one model at one commit, as the hub's API does."""

    def do_GET(self) -> None:
        known = self.path == f"/api/models/wanglab/medsam-vit-base/revision/{COMMIT}"
        self.send_response(200 if known else 503 if "busy" in self.path else 404)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: Any) -> None:
        """Silent."""


def test_the_hub_knows_a_model_or_not_or_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    model = NamedModel(
        user="medsam",
        model="wanglab/medsam-vit-base",
        revision=COMMIT,
        size=SIZES["wanglab/medsam-vit-base"],
        device="cpu",
    )
    hub = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=hub.serve_forever, args=(0.02,), daemon=True).start()
    address = f"http://127.0.0.1:{hub.server_port}"
    assert on_hub(model, address)
    with pytest.raises(UserError, match=r"medsam: the hub has no wanglab/medsam-vit-base at 0{40}.*404"):
        on_hub(dataclasses.replace(model, revision="0" * 40), address)
    assert not on_hub(dataclasses.replace(model, model="busy/model"), address)
    hub.shutdown()
    hub.server_close()
    assert not on_hub(model, address)


@pytest.fixture
def server() -> Iterator[RecordingServer]:
    server = RecordingServer()
    # Slower than the least that is expected of a model: some 70 requests, 8 at a time.
    server.delay = 0.25
    yield server
    server.close()


@pytest.fixture
def project(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: RecordingServer) -> Path:
    """A folder with the params, and an overlay with weight-free proposals and a captioner that answers at once."""
    for name in ("params.yaml", "params", "prompts"):
        (tmp_path / name).symlink_to(repository / name)
    (tmp_path / "served").mkdir()
    options = {"base_urls": [server.url], "model": "served", "concurrency": 8}
    captions = {"captioner": "vllm", "prompts": "prompts/vllm", "options": {"vllm": options}}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump({"captions": captions}))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_a_run_counts_what_the_stages_did_on_twenty_images(
    project: Path, server: RecordingServer, capsys: pytest.CaptureFixture[str]
) -> None:
    main("run", "study.yaml")
    lines = capsys.readouterr().out.splitlines()
    assert [line[:5] for line in lines[-len(RANGES) :]] == ["ok   "] * len(RANGES)
    assert server.count()["image"] == 20
    assert (project / "data/real_models/summaries/captions.json").is_file()
    # What the tables hold of last time does not count.
    server.script = lambda request: Fault(content="no JSON")
    server.delay = 0.1
    with pytest.raises(UserError, match="1 of 5 figures lie outside"):
        main("run", "study.yaml")
    (wrong,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("WRONG")]
    assert "share of accepted answers: 0, expected 0.8 to 1: OUTSIDE" in wrong


def test_a_check_runs_nothing_and_a_run_without_server_says_how_to_start_it(
    project: Path, server: RecordingServer, capsys: pytest.CaptureFixture[str]
) -> None:
    main("check", "study.yaml")
    assert "nothing was fetched, nothing was run" in capsys.readouterr().out
    server.close()
    with pytest.raises(UserError, match=r"does not answer.*start it with: make vllm MODEL=served"):
        main("run", "study.yaml")
    assert server.requests == []
    assert not (project / "data").exists()
    with pytest.raises(UserError, match="neither check nor run"):
        main("dry")


def test_models_with_weights_are_counted_image_by_image(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prompts").symlink_to(repository / "prompts")
    options = {
        "grounding_dino": {"model": str(tiny_checkpoints.grounding_dino(tmp_path / "dino", 224, 224))},
        "medsam": {"model": str(tiny_checkpoints.sam(tmp_path / "sam"))},
    }
    base = load_study(repository / "params/real.yaml", repository / "params.yaml")
    names = {"proposers": ["grounding_dino"], "segmenter": "medsam", "options": options, "max_proposals": 2}
    study = sample(merge(base, {"proposals": names}), "")
    study["phantom"]["images"] = 3
    proposals, captions = run_stages(study, tmp_path / "out")
    counted = proposals["proposals"]["phantom"]["grounding_dino"]
    figures = measure(proposals, captions)
    assert figures["boxes an image"] == counted["proposed"] / 3
    assert figures["seconds an image, proposals"] == proposals["seconds"] / 3
    # Random weights: whatever they say, what has no mask is counted as such.
    assert figures["share of boxes with a mask"] is None or 0 <= figures["share of boxes with a mask"] <= 1


def test_figures_at_the_bounds_and_beyond() -> None:
    counts = {"proposed": 12, "masks": 9, "reasons": {"beyond_max_proposals": 2}}
    annotations = {"proposed": 50, "masks": 50, "reasons": {}}
    proposals = {
        "inputs": 10,
        "seconds": 0.4,
        "answered": {"grounding_dino": 8, "annotations": 2},
        "proposals": {"a": {"grounding_dino": counts, "annotations": annotations}},
    }
    captions = {"inputs": 40, "sent": 20, "rejected": 3, "failed": 1, "seconds": 600.0}
    figures = measure(proposals, captions)
    assert figures == {
        "boxes an image": 1.5,
        "share of boxes with a mask": 0.9,
        "share of accepted answers": 0.8,
        "seconds an image, proposals": 0.04,
        "seconds an image, captions": 60.0,
    }
    assert [inside for inside, _ in judge(figures)] == [True, True, True, False, True]
    nothing = measure({"inputs": 0, "seconds": 0, "answered": {}, "proposals": {}}, captions | {"sent": 0})
    assert [inside for inside, _ in judge(nothing)] == [False] * 5
