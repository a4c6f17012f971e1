"""The estimate beside what the stage then asks: requests as a server receives them, tokens as they stand in these."""

import base64
import contextlib
import dataclasses
import hashlib
import io
import json
import math
import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

from pipelines.cache import ResultCache
from pipelines.captions.estimate import Estimate, estimate, table
from pipelines.chat.budget import Budget
from pipelines.errors import UserError
from pipelines.files import write_summary
from pipelines.sources import Sources
from tests.pipelines.captions.model_world import ModelWorld, run_command
from tests.pipelines.captions.world import CONFIG, World, region_row
from tests.recording_server import Fault, RecordingServer, Request
from tests.tiny_qwen import qwen_tokenizer


def estimated(world: ModelWorld, model: Path | None = None, **changes: Any) -> Estimate:
    values = {"captioner": "vllm", "prompts": world.prompts, "options": {"vllm": world.options}} | changes
    return of(world, model, **values)


def of(world: World, model: Path | None = None, **changes: Any) -> Estimate:
    sources = Sources(roots={"toy": world.folder / "toy"}, max_pixels=10**6)
    config = dataclasses.replace(CONFIG, **changes)
    return estimate(config, sources, *world.write(), cache=world.folder / "results.sqlite", model=model)


def to_ask(found: Estimate) -> dict[str, int]:
    return {kind: counts["to_ask"] for kind, counts in found.counts.items()}


def cells(lines: list[str]) -> dict[str, list[str]]:
    """The three figures of each line, and how they are known."""
    split = (re.split(r"\s{2,}", line) for line in lines[1:])
    return {what: values for what, *values in split}


def digests(folder: Path) -> dict[str, str]:
    return {
        file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def test_requests_are_those_that_the_run_then_sends(world: ModelWorld, server: RecordingServer) -> None:
    assert to_ask(estimated(world)) == {"image": 12, "region": 24}
    assert not (world.folder / "results.sqlite").exists()
    with pytest.raises(UserError, match="is spent"):
        world.run(budget=Budget(requests=10))
    server.forget()
    found = estimated(world)
    assert sum(counts["kept"] for counts in found.counts.values()) == 10
    assert server.requests == []
    world.run()
    assert dict(server.count()) == to_ask(found)
    server.forget()
    assert to_ask(estimated(world)) == {"image": 0, "region": 0}
    region = world.prompts / "region.txt"
    region.write_text(region.read_text() + "Be brief.\n")
    world.change_image(0, report="Another one.")
    found = estimated(world)
    assert to_ask(found) == {"image": 1, "region": 24}
    world.run()
    assert dict(server.count()) == to_ask(found)


def test_nothing_is_written(world: ModelWorld, server: RecordingServer) -> None:
    world.run()
    estimated(world)
    server.forget()
    before = digests(world.folder)
    table(estimated(world), None, world.folder)
    assert digests(world.folder) == before
    assert server.requests == []


def test_answer_that_todays_rules_refuse_is_asked_for_again(world: ModelWorld, server: RecordingServer) -> None:
    world.run()
    with contextlib.closing(sqlite3.connect(world.folder / "results.sqlite")) as database:
        (key,) = database.execute("SELECT min(key) FROM items WHERE kind = 'caption/image'").fetchone()
    cache = ResultCache(world.folder / "results.sqlite")
    value = cache.get(key)
    words = json.loads(value["content"]) | {"summary_caption": "One, two."}
    cache.put(key, "caption/image", value | {"content": json.dumps(words)})
    cache.close()
    server.forget()
    assert to_ask(estimated(world)) == {"image": 1, "region": 0}
    world.run()
    assert dict(server.count()) == {"image": 1}


def test_rows_that_need_no_answer_are_not_asked_about(world: ModelWorld, server: RecordingServer) -> None:
    normal = world.image_file(labels=[])
    world.region(normal, proposer="saliency")
    found = estimated(world)
    assert [found.counts[kind]["rows"] for kind in ("image", "region")] == [13, 25]
    assert [found.counts[kind]["settled"] for kind in ("image", "region")] == [0, 1]
    world.run()
    assert dict(server.count()) == to_ask(found) == {"image": 13, "region": 24}


def test_expected_is_the_mean_of_the_cached_answers(world: ModelWorld, server: RecordingServer) -> None:
    """Every image is asked about twice, every region once; a request has 100 tokens and an answer 10."""

    def script(request: Request) -> Fault | None:
        bad = request.kind == "image" and len(request.body["messages"]) == 2
        return Fault(content="sorry") if bad else None

    server.script = script
    world.run()
    for _ in range(6):
        world.region(world.image_file(labels=["polyp"]), 20, 20, 50, label="polyp")
    lines = cells(table(estimated(world), 0.01, world.folder))
    assert lines["rows of the table"][:3] == ["18", "30", "48"]
    assert lines["in the cache"][:3] == ["12", "24", "36"]
    assert lines["requests, one each"][:3] == ["6", "6", "12"]
    assert lines["requests, expected"][:3] == ["12", "6", "18"]
    assert lines["requests, at most"][:3] == ["18", "18", "36"]
    assert lines["tokens in, expected"][:3] == ["1,200", "600", "1,800"]
    assert lines["tokens out, expected"][:3] == ["120", "60", "180"]
    assert lines["tokens out, at most"][:3] == [f"{6 * 3 * 768:,}", f"{6 * 3 * 768:,}", f"{12 * 3 * 768:,}"]
    # 18 requests at one in 100 s.
    assert lines["hours"] == ["?", "?", "0.50", "0.01 requests a second, as given"]


def test_nothing_is_expected_before_there_is_an_answer(world: ModelWorld) -> None:
    lines = cells(table(estimated(world), None, world.folder))
    for name in ("requests, expected", "tokens in, expected", "tokens out, expected"):
        assert lines[name][:3] == ["?", "?", "?"]
    assert lines["hours"] == ["?", "?", "?", "no rate is known: give one with --requests-per-second"]
    assert cells(table(estimated(world), 0.01, world.folder))["hours"][2] == "1"  # 36 requests, one each


def test_rate_is_the_given_one_or_that_of_the_last_run_or_arithmetic(
    world: ModelWorld, server: RecordingServer
) -> None:
    server.delay = 0.05
    summary, _ = world.run()
    measured = summary["requests_per_second"]
    assert 0 < measured < 4 / 0.05  # four at a time
    prompt = world.prompts / "image.txt"
    prompt.write_text(prompt.read_text() + "Be brief.\n")
    found = estimated(world)
    assert cells(table(found, 2.0, world.folder))["hours"][3].startswith("2 requests a second, as given")
    basis = cells(table(found, None, world.folder))["hours"][3]
    assert basis.startswith(f"{measured:g} requests a second, measured by the last run")
    write_summary(world.folder / "captions.json", {"requests_per_second": 0.01})
    assert cells(table(found, None, world.folder))["hours"][2] == "0.33"  # 12 requests at one in 100 s
    # A run that asked nothing has no rate.
    write_summary(world.folder / "captions.json", {"requests_per_second": None})
    basis = cells(table(found, None, world.folder))["hours"][3]
    rate = re.fullmatch(r"arithmetic: ([\d.]+) requests a second \(4 under way, [\d.]+ s each .*\)", basis)
    assert rate, basis
    assert 0 < float(rate.group(1)) <= 4 / 0.05


def sent_tokens(request: Request, side: int, least: int, most: int) -> int:
    """Tokens of a request as Qwen's family reads it, from its body: ChatML, and a token for each cell of an image."""
    system, user = request.body["messages"]
    *images, text = user["content"]
    pads = ""
    for part in images:
        data = base64.b64decode(part["image_url"]["url"].removeprefix("data:image/jpeg;base64,"))
        width, height = Image.open(io.BytesIO(data)).size
        high, wide = smart_resize(height, width, factor=side, min_pixels=least, max_pixels=most)
        pads += f"<|vision_start|>{'<|image_pad|>' * ((high // side) * (wide // side))}<|vision_end|>"
    said = (
        f"<|im_start|>system\n{system['content']}<|im_end|>\n<|im_start|>user\n{pads}{text['text']}<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    return len(qwen_tokenizer().backend_tokenizer.encode(said, add_special_tokens=False).ids)


def test_tokens_are_those_of_the_requests_that_are_then_sent(
    world: ModelWorld, server: RecordingServer, tmp_path: Path
) -> None:
    """With images of several shapes, regions at borders, and sizes at which an image is scaled and a crop grows."""
    world.images, world.regions = [], []
    for n, (width, height) in enumerate(((90, 90), (200, 77), (61, 300))):
        item = world.image_file(labels=["polyp"], report=f"Größe {n}: 3 × 4 cm. <polyp>", width=width, height=height)
        file = world.folder / "toy" / world.images[-1].path
        Image.effect_noise((width, height), 60).save(file)
        world.change_image(n, sha256=hashlib.sha256(file.read_bytes()).hexdigest())
        world.regions.append(box(item, 0, 3.5, 0, 20, 31.2))
        world.regions.append(box(item, 1, 10, 40, width, 51))
    model = tmp_path / "model"
    qwen_tokenizer().save_pretrained(model)
    world.options |= {"image_size": 150, "crop_size": 112}
    settings = {"image_processor_type": "Qwen2VLImageProcessor", "patch_size": 14, "merge_size": 2}
    (model / "preprocessor_config.json").write_text(json.dumps(settings | {"min_pixels": 3136, "max_pixels": 12544}))
    found = estimated(world, model)
    world.run()
    for kind, counts in found.counts.items():
        sent = [request for request in server.requests if request.kind == kind and len(request.body["messages"]) == 2]
        assert counts["to_ask"] == len(sent)
        assert counts["text_tokens"] + counts["image_tokens"] == sum(
            sent_tokens(request, 28, 3136, 12544) for request in sent
        )
    assert found.costs is not None
    assert found.costs.text_basis == f"tokenizer and chat template of {model}"
    lines = cells(table(found, None, world.folder))
    assert lines["image tokens a request"][3].startswith("arithmetic: one for 28 x 28 pixels")


def box(image_id: str, n: int, x0: float, y0: float, x1: float, y1: float) -> Any:
    return region_row(image_id, n, None, x0=x0, y0=y0, x1=x1, y1=y1, area=100, area_fraction=0.1, label="polyp")


def test_text_without_a_tokenizer_is_an_estimate_and_says_so(world: ModelWorld, server: RecordingServer) -> None:
    world.images, world.regions = world.images[:1], []
    found = estimated(world)
    world.run()
    system, user = server.requests[0].body["messages"]
    characters = len(system["content"]) + len(user["content"][-1]["text"])
    assert found.counts["image"]["text_tokens"] == math.ceil(characters / 4)
    lines = cells(table(found, None, world.folder))
    assert lines["text tokens a request"][3].startswith("estimate: 4 characters a token")
    assert lines["image tokens in"][0] == "?"
    assert "not known for this model" in lines["image tokens a request"][3]
    found = estimated(world, options={"vllm": world.options | {"model": "Qwen/Qwen2.5-VL-7B-Instruct"}})
    # 64 x 64 pixels: 2 x 2 cells of 28.
    assert cells(table(found, None, world.folder))["image tokens in"][:3] == ["4", "0", "4"]


def test_tokenizer_without_a_chat_template(world: ModelWorld, tmp_path: Path) -> None:
    tokenizer = qwen_tokenizer()
    tokenizer.chat_template = None
    tokenizer.save_pretrained(tmp_path / "model")
    found = estimated(world, options={"vllm": world.options | {"model": str(tmp_path / "model")}})
    assert found.costs is not None
    assert "without the chat template" in found.costs.text_basis
    assert found.counts["image"]["text_tokens"] > 12 * 50


@pytest.mark.parametrize(("name", "text"), [("tokenizer.json", "{"), ("tokenizer.json", '{"version": "1.0"}')])
def test_folder_that_cannot_be_used_is_one_line(world: ModelWorld, tmp_path: Path, name: str, text: str) -> None:
    with pytest.raises(UserError, match="is no folder: --model takes the folder"):
        estimated(world, tmp_path / "nowhere")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / name).write_text(text)
    with pytest.raises(UserError, match="its tokenizer cannot be read") as caught:
        estimated(world, tmp_path / "model")
    assert "\n" not in str(caught.value)


def test_captioner_that_sends_no_requests_has_items_alone(tmp_path: Path) -> None:
    world = World(tmp_path)
    item = world.image(labels=["nodule"])
    world.region(item, label="nodule")
    world.image(labels=None)
    lines = table(of(world), 2.0, tmp_path)
    assert cells(lines)["items"][:3] == ["1", "1", "2"]
    assert cells(lines)["need no answer"][:3] == ["1", "0", "1"]
    assert lines[-1] == "The captioner findings sends no requests."
    assert not any("token" in line or "hours" in line for line in lines)
    assert not (tmp_path / "results.sqlite").exists()


def test_command_prints_the_table_and_writes_nothing(
    world: ModelWorld, server: RecordingServer, repository: Path
) -> None:
    folder = world.workspace()
    before = digests(folder)
    done = run_command(folder, repository, "--estimate", "--requests-per-second", "0.01")
    assert (done.returncode, server.requests) == (0, [])
    title, *lines = done.stdout.splitlines()
    assert title == "Captions by vllm (toy)"
    assert cells(lines)["requests, one each"][:3] == ["12", "24", "36"]
    assert cells(lines)["hours"][2] == "1"
    assert digests(folder) == before


def test_mistyped_option_lists_the_right_ones(world: ModelWorld, repository: Path) -> None:
    done = run_command(world.workspace(), repository, "--estimat")
    assert (done.returncode, done.stdout) == (2, "")
    for word in ("--estimate", "--requests-per-second", "--model"):
        assert word in done.stderr
