"""The champion on loopback: the page to try it, in Chromium, and MLflow's scoring server, by HTTP."""

import base64
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import HTTPError
from urllib.parse import urljoin

import numpy as np
import psutil
import pytest
from mlflow.tracking import MlflowClient
from PIL import Image

from models.clip.model import Clip
from models.prediction import Predictor
from tests.lifecycle.study import environment, run
from tests.processes import free_port, is_loopback, listening, tree

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.lifecycle, pytest.mark.timeout(900)]

CHAMPION = "models:/try-clip@champion"


@pytest.fixture(scope="module", autouse=True)
def champion(study: Path, mlflow_server: str) -> None:
    """The study's registered clip under another name, as champion there: the study's own model stays as it is."""
    client = MlflowClient(mlflow_server)
    (version,) = client.search_model_versions("name = 'medregion' and tags.method = 'clip'")
    client.create_registered_model("try-clip")
    made = client.create_model_version("try-clip", version.source, version.run_id, version.tags)
    client.set_registered_model_alias("try-clip", "champion", made.version)


@pytest.fixture
def scan(study: Path) -> Path:
    return study / "data/raw/phantom/images/000000.png"


Start = Callable[..., tuple[subprocess.Popen[str], int]]


@pytest.fixture
def start(study: Path, tmp_path: Path) -> Iterator[Start]:
    """Starts a command that serves, on a free port, and waits until it answers; the test ends it."""
    started: list[subprocess.Popen[str]] = []
    scratch = tmp_path / "tmp"
    scratch.mkdir()

    def serve(module: str, health: str) -> tuple[subprocess.Popen[str], int]:
        port = free_port()
        with (tmp_path / "log").open("w") as log:
            server = subprocess.Popen(
                [sys.executable, "-m", module, CHAMPION, "--port", str(port)],
                cwd=study,
                env=environment() | {"TMPDIR": str(scratch)},
                stdout=log,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        started.append(server)
        end = time.monotonic() + 120
        while time.monotonic() < end:
            assert server.poll() is None, (tmp_path / "log").read_text()[-2000:]
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}{health}", timeout=5).close()
            except OSError:
                time.sleep(0.2)
            else:
                return server, port
        raise AssertionError((tmp_path / "log").read_text()[-2000:])

    yield serve
    for server in started:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def ends(server: subprocess.Popen[str], number: signal.Signals, tmp_path: Path) -> None:
    """The server ends at a signal and leaves no process, no file and no traceback."""
    processes = tree(server)
    server.send_signal(number)
    _, left = psutil.wait_procs(processes, timeout=60)
    assert left == []
    assert list((tmp_path / "tmp").iterdir()) == []
    assert "Traceback" not in (tmp_path / "log").read_text()


def pictures(page: "Page", count: int) -> list[bytes]:
    """The bytes of the pictures that the page shows when it has ended its work, from left to right."""
    from playwright.sync_api import expect

    expect(page.get_by_test_id("stApp")).to_have_attribute("data-test-script-state", "notRunning")
    shown = page.get_by_test_id("stImage").locator("img")
    expect(shown).to_have_count(count)
    addresses = [urljoin(page.url, image.get_attribute("src")) for image in shown.all()]
    return [page.request.get(address).body() for address in addresses]


def test_the_page_shows_where_each_sentence_is_and_ends_with_its_command(
    start: Start, page: "Page", beyond_loopback: list[str], study: Path, scan: Path, tmp_path: Path
) -> None:
    from playwright.sync_api import expect

    before = run("git", "status", "--porcelain", cwd=study)
    server, port = start("flows.try_model", "/_stcore/health")
    sockets = listening(tree(server))
    assert [(is_loopback(address), listened) for _, address, listened in sockets] == [(True, port)]
    page.goto(f"http://127.0.0.1:{port}")
    expect(page.get_by_text("No medical device")).to_be_visible()
    expect(page.get_by_text("try-clip, version 1: clip, trained on shards of phantom (images: train ")).to_be_visible()
    expect(page.get_by_text(re.compile(r"Registered on \d{4}-\d\d-\d\d, made at commit [0-9a-f]{12}"))).to_be_visible()
    page.get_by_text("Scores on the test images").click()
    expect(page.get_by_text(re.compile("i2t_.*; chance "))).to_be_visible()
    page.locator("input[type=file]").set_input_files(scan)
    expect(page.get_by_text("Write a sentence and press Show where.")).to_be_visible()
    show = page.get_by_role("button", name="Show where")
    page.get_by_label("Sentence").fill("a nodule in the left upper part")
    show.click()
    expect(page.get_by_role("heading", name="Now")).to_be_visible()
    (first,) = pictures(page, 1)
    page.get_by_label("Sentence").fill("a cyst in the right lower part")
    show.click()
    expect(page.get_by_role("heading", name="Before")).to_be_visible()
    now, previous = pictures(page, 2)
    assert previous == first
    assert now != first
    expect(page.get_by_text("a cyst in the right lower part", exact=True)).to_be_visible()
    expect(page.get_by_text("captions of this study's training images")).to_be_visible()
    expect(page.get_by_role("table").filter(has_text="cosine").get_by_role("row")).to_have_count(11)
    expect(page.get_by_role("cell", name="calcification", exact=True)).to_be_visible()
    page.locator("input[type=file]").set_input_files(
        {"name": "scan.png", "mimeType": "image/png", "buffer": b"this is no image"}
    )
    expect(page.get_by_text("DICOM, NIfTI, NRRD or MetaImage (unsupported_type)")).to_be_visible()
    expect(page.get_by_test_id("stImage")).to_have_count(0)
    for path in ("/media/../params.yaml", "/app/static/params.yaml", "/component/params.yaml"):
        assert b"tracking:" not in page.request.get(f"http://127.0.0.1:{port}{path}").body()
    assert beyond_loopback == []
    # The page is still open.
    ends(server, signal.SIGTERM, tmp_path)
    assert run("git", "status", "--porcelain", cwd=study) == before


def test_the_scoring_server_answers_as_the_docs_say(
    start: Start, repository: Path, study: Path, scan: Path, tmp_path: Path
) -> None:
    server, port = start("flows.serve_model", "/ping")
    sockets = listening(tree(server))
    assert [(is_loopback(address), listened) for _, address, listened in sockets] == [(True, port)]
    section = (repository / "docs/operations.md").read_text().partition("### MLflow's scoring server")[2]
    (lines,) = re.findall(r"```\n(curl .*?)```", section.partition("\n## ")[0], re.DOTALL)
    (tmp_path / "scan.png").write_bytes(scan.read_bytes())
    call = lines.replace(":5001/", f":{port}/")
    assert call != lines
    done = subprocess.run(["bash", "-c", call], cwd=tmp_path, capture_output=True, text=True, check=True)
    (answer,) = json.loads(done.stdout)["predictions"]
    predictor = Predictor(study / "data/checkpoints/clip", Clip)
    sample = predictor.prepare("0", Image.open(scan))
    image, text = predictor.embed_images([sample])[0], predictor.embed_texts(["opacity in the left lower lung"])[0]
    assert answer.keys() == {"similarity", "image_embedding"}
    assert answer["similarity"] == pytest.approx(float(image @ text), abs=1e-5)
    np.testing.assert_allclose(answer["image_embedding"], image, atol=1e-5)
    row = {"image": base64.b64encode(b"this is no image").decode()}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/invocations",
        json.dumps({"dataframe_records": [row]}).encode(),
        {"Content-Type": "application/json"},
    )
    with pytest.raises(HTTPError) as refused:
        urllib.request.urlopen(request)
    assert refused.value.code == 400
    assert "row 0: not a PNG or JPEG file" in json.loads(refused.value.read())["message"]
    ends(server, signal.SIGINT, tmp_path)
