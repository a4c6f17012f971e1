"""The captioner `vllm` when servers, networks and models fail: nothing is lost, nothing is sent twice."""

import dataclasses
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from pipelines.captions.captioners.vllm.captioner import Vllm
from pipelines.captions.config import Sizes
from pipelines.captions.evidence import image_item
from pipelines.captions.protocols import Item, Settings
from pipelines.errors import UserError
from pipelines.records import CAPTIONS
from tests.pipelines.captions.model_world import COMMAND, ModelWorld, environment
from tests.pipelines.captions.world import CONFIG
from tests.recording_server import Fault, RecordingServer, Request


@pytest.fixture
def other() -> Iterator[RecordingServer]:
    server = RecordingServer()
    yield server
    server.close()


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> ModelWorld:
    """A world like `world` after a run without faults."""
    server = RecordingServer()
    world = ModelWorld(tmp_path_factory.mktemp("unbroken"), [server.url]).fill(12)
    world.run()
    server.close()
    assert len(server.requests) == 36
    return world


def every_third(request: Request) -> bool:
    """True the first time that a third of the requests is sent."""
    return request.repeats == 0 and int(request.content_sha256, 16) % 3 == 0


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=429),
        Fault(status=429, headers={"Retry-After": "0"}),
        Fault(status=429, headers={"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}),
        Fault(status=408),
        Fault(status=500),
        Fault(status=503),
        Fault(reset=True),
    ],
    ids=lambda fault: "reset" if fault.reset else str(fault.status),
)
def test_transient_error_is_retried_and_leaves_the_same_table(
    world: ModelWorld, server: RecordingServer, unbroken: ModelWorld, fault: Fault
) -> None:
    server.script = lambda request: fault if every_third(request) else None
    summary, _ = world.run()
    failed = sum(every_third(request) for request in server.requests)
    assert failed > 4
    assert (summary["requests"], summary["retries"]) == (36 + failed, failed)
    assert len(server.requests) == 36 + failed
    assert (summary["sent"], summary["ok"], summary["failed"]) == (36, 36, 0)
    assert world.table == unbroken.table


def test_server_that_hangs_is_retried_after_the_timeout(
    world: ModelWorld, server: RecordingServer, unbroken: ModelWorld
) -> None:
    world.options["timeout_s"] = 1.0
    hung = [0, 7, 8]
    server.script = lambda request: Fault(hang=True) if request.number in hung else None
    summary, _ = world.run()
    assert summary["retries"] >= len(hung)  # a busy machine may miss the second for others too
    assert (summary["sent"], summary["ok"], summary["failed"]) == (36, 36, 0)
    assert world.table == unbroken.table


def test_retry_after_is_honoured_up_to_the_outage_timeout(world: ModelWorld, server: RecordingServer) -> None:
    world.images, world.regions = world.images[:1], []
    world.options |= {"backoff_s": 0.0, "outage_timeout_s": 0.3}
    arrivals: list[float] = []

    def script(request: Request) -> Fault | None:
        arrivals.append(time.monotonic())
        return Fault(status=429, headers={"Retry-After": "1000"}) if request.number == 0 else None

    server.script = script
    summary, _ = world.run()
    assert (summary["retries"], summary["ok"]) == (1, 1)
    assert arrivals[1] - arrivals[0] >= 0.3


def for_both_kinds(fault: Fault, reason: str) -> dict[str, tuple[Fault, str]]:
    return {"image": (fault, reason), "region": (fault, reason)}


@pytest.mark.parametrize(
    "faults",
    [
        for_both_kinds(Fault(content='{"summary_caption": "A'), "malformed_json"),
        for_both_kinds(Fault(content=""), "malformed_json"),
        for_both_kinds(Fault(content="[]"), "model_type"),
        for_both_kinds(Fault(finish_reason="length"), "truncated_answer"),
        for_both_kinds(Fault(finish_reason="content_filter"), "unfinished_answer"),
        for_both_kinds(Fault(words={"diagnosis": "flu"}), "extra_forbidden"),
        {
            "image": (Fault(words={"detailed_report": 3}), "string_type"),
            "region": (Fault(words={"alternative_adjectives": ["flat"] * 4}), "too_short"),
        },
        {
            "image": (Fault(words={"summary_caption": "One, two."}), "summary_punctuation"),
            "region": (Fault(words={"position": "top left"}), "unknown_position"),
        },
        {
            "image": (Fault(words={"summary_caption": "A. B."}), "summary_not_one_sentence"),
            "region": (Fault(words={"alternative_adjectives": ["flat"] * 5}), "negatives_not_distinct"),
        },
    ],
    ids=["malformed", "empty", "list", "truncated", "filtered", "extra", "type", "rule", "another rule"],
)
def test_bad_answer_is_requested_again_with_the_reason(
    world: ModelWorld, server: RecordingServer, unbroken: ModelWorld, faults: dict[str, tuple[Fault, str]]
) -> None:
    server.script = lambda request: faults[request.kind][0] if every_third(request) else None
    summary, rows = world.run()
    again = [request for request in server.requests if len(request.body["messages"]) > 2]
    assert len(again) > 4
    assert (summary["ok"], summary["retries"]) == (36, 0)
    assert summary["requests"] == len(server.requests) == 36 + len(again)
    assert sorted(row.attempts for row in rows.values()) == [1] * (36 - len(again)) + [2] * len(again)
    first_seeds = {request.content_sha256: request.body["seed"] for request in server.requests if request not in again}
    for request in again:
        quoted, correction = request.body["messages"][2:]
        assert (quoted["role"], correction["role"]) == ("assistant", "user")
        assert request.body["seed"] == first_seeds[request.content_sha256] + 1
        assert faults[request.kind][1] in correction["content"]
    for row, expected in zip(rows.values(), CAPTIONS.read(unbroken.folder / "captions.parquet"), strict=True):
        assert dataclasses.replace(row, attempts=1) == expected
    server.forget()
    _, kept = world.run()
    assert (server.requests, kept) == ([], rows)


def test_answers_that_stay_bad_are_rejected_with_the_last_answer(world: ModelWorld, server: RecordingServer) -> None:
    long = '<b>"no JSON" ' + "x" * 9000
    server.script = lambda request: Fault(content=long) if request.kind == "image" else None
    summary, rows = world.run()
    assert summary["reasons"]["rejected"] == {"malformed_json": 12}
    assert (summary["ok"], summary["sent"], summary["by_kind"]["image"]["answers"]) == (24, 36, 36)
    assert len(server.requests) == 24 + 3 * 12
    row = rows[world.images[0].image_id]
    assert (row.status, row.reason, row.attempts, row.summary) == ("rejected", "malformed_json", 3, None)
    assert row.raw_answer == long[:4000]
    quotes = [
        request.body["messages"][2]["content"] for request in server.requests if len(request.body["messages"]) > 2
    ]
    assert {len(quote) for quote in quotes} == {2000}
    assert {len(request.body["messages"]) for request in server.requests} == {2, 4}
    server.forget()
    summary, kept = world.run()
    assert (server.requests, kept) == ([], rows)


def test_contradiction_is_requested_again_then_marked(world: ModelWorld, server: RecordingServer) -> None:
    image_id = world.image_file(labels=["polyp"])
    world.region(image_id, 0, 0, 20, label="polyp")

    def script(request: Request) -> Fault | None:
        if request.kind == "image" or "(0, 0," in request.text:
            return None
        return Fault(words={"position": "right lower"}) if len(request.body["messages"]) == 2 else None

    server.script = script
    _, rows = world.run()
    row = rows[f"{image_id}-0"]
    assert (row.status, row.contradiction, row.attempts) == ("ok", "contradicts_side", 3)
    assert row.position == "center middle"
    others = {
        (row.item_id[-1], row.status, row.contradiction, row.position, row.attempts)
        for row in rows.values()
        if row.kind == "region" and row.image_id != image_id
    }
    # 50 x 50 pixels from 20 hold a fifth of themselves in the last third of 90; 60 x 60 from 15 a quarter: enough.
    assert others == {("0", "ok", None, "center middle", 2), ("1", "ok", None, "right lower", 1)}


def test_contradiction_stays_where_later_answers_are_unusable(world: ModelWorld, server: RecordingServer) -> None:
    world.images, world.regions = world.images[:1], world.regions[:1]

    def script(request: Request) -> Fault | None:
        first = len(request.body["messages"]) == 2
        return Fault(words={"size": "small"}) if first else Fault(content="sorry")

    server.script = lambda request: script(request) if request.kind == "region" else None
    summary, rows = world.run()
    row = rows[f"{world.images[0].image_id}-0"]
    assert (row.status, row.contradiction, row.attempts) == ("ok", "contradicts_size", 3)
    assert row.size == "large"  # the column is measured
    assert [entry["fraction"] for entry in summary["contradictions"] if entry["kind"] == "region"] == [1.0]


def test_item_that_always_fails_is_sent_in_the_next_run(world: ModelWorld, server: RecordingServer) -> None:
    world.options["retries"] = 1
    world.options["timeout_s"] = 0.3
    faults = [Fault(status=500), Fault(hang=True), Fault(reset=True), Fault(content=None, status=503)]

    def script(request: Request) -> Fault | None:
        which = int(request.content_sha256, 16) % 12
        return faults[which] if which < len(faults) else None

    server.script = script
    summary, rows = world.run(max_failed_fraction=1.0)
    failed = {item for item, row in rows.items() if row.status == "failed"}
    assert len(failed) > 4
    assert set(summary["reasons"]["failed"]) <= {"http_500", "http_503", "timeout", "connection_lost"}
    assert summary["ok"] + summary["failed"] == 36
    assert {rows[item].attempts for item in failed} == {None}
    server.script = lambda _: None
    world.options["timeout_s"] = 20.0
    summary, _ = world.run()
    assert (summary["sent"], summary["ok"]) == (len(failed), 36)


def test_too_many_failures_end_the_stage(world: ModelWorld, server: RecordingServer) -> None:
    world.options["retries"] = 0
    server.script = lambda _: Fault(status=500)
    with pytest.raises(UserError, match="36 of 36 items failed"):
        world.run()


def test_permanent_error_is_rejected_and_not_sent_again(world: ModelWorld, server: RecordingServer) -> None:
    server.script = lambda request: Fault(status=400) if request.kind == "region" else None
    summary, rows = world.run()
    assert summary["reasons"]["rejected"] == {"http_400": 24}
    assert len(server.requests) == 36
    assert json.loads(rows[f"{world.images[0].image_id}-0"].raw_answer) == {"error": "status 400"}
    server.forget()
    world.run()
    assert server.requests == []


@pytest.mark.parametrize("status", [301, 401, 403, 404])
def test_wrong_settings_end_the_run(world: ModelWorld, server: RecordingServer, status: int) -> None:
    server.script = lambda request: Fault(status=status) if request.number >= 10 else None
    with pytest.raises(UserError, match=f"answers {status} .* mend base_urls and model") as caught:
        world.run()
    assert "\n" not in str(caught.value)
    server.script = lambda _: None
    summary, _ = world.run()
    assert 10 - world.options["concurrency"] < summary["reused"] <= 10  # what was under way as it ended is lost
    assert (summary["sent"], summary["ok"]) == (36 - summary["reused"], 36)


def test_unreachable_server_ends_the_run(world: ModelWorld, server: RecordingServer) -> None:
    server.script = lambda request: Fault(die=True) if request.number == 10 else None
    with pytest.raises(UserError, match=r"no answer from http://127.* for 0\.5 s: start the server"):
        world.run()
    world.options["base_urls"] = [RecordingServer().url]
    summary, _ = world.run()
    assert summary["ok"] == 36
    assert summary["reused"] >= 10 - 4


def test_two_servers_share_the_requests(world: ModelWorld, server: RecordingServer, other: RecordingServer) -> None:
    world.options["base_urls"] = [server.url, other.url]
    server.delay = other.delay = 0.01
    world.run()
    assert min(len(server.requests), len(other.requests)) >= 12
    assert len(server.requests) + len(other.requests) == 36
    assert not {request.content_sha256 for request in server.requests} & {
        request.content_sha256 for request in other.requests
    }


def test_requests_of_a_dead_server_go_to_the_other(
    world: ModelWorld, server: RecordingServer, other: RecordingServer, unbroken: ModelWorld
) -> None:
    world.options |= {"base_urls": [server.url, other.url], "cooldown_s": 60.0}
    server.delay = other.delay = 0.01
    server.script = lambda request: Fault(die=True) if request.number == 5 else None
    summary, _ = world.run()
    assert (summary["ok"], summary["sent"]) == (36, 36)
    assert world.table == unbroken.table
    answered = len(server.requests) - 1 + len(other.requests)
    assert 36 <= answered <= 36 + 4  # what the dead server left unanswered went to the other one


def test_server_gets_requests_again_after_its_cooldown(
    world: ModelWorld, server: RecordingServer, other: RecordingServer, unbroken: ModelWorld
) -> None:
    world.options |= {"base_urls": [server.url, other.url], "cooldown_s": 0.03}
    server.delay = other.delay = 0.02
    server.script = lambda request: Fault(status=503) if request.number < 1 else None
    world.run()
    assert len(server.requests) >= 3
    assert world.table == unbroken.table


def test_items_are_not_pulled_far_ahead(world: ModelWorld, server: RecordingServer) -> None:
    server.delay = 0.005
    settings = Settings(
        prompts=world.prompts,
        seed=0,
        options=world.options | {"concurrency": 1},
        sizes=Sizes(medium=0.01, large=0.05),
        roots={"toy": world.folder / "toy"},
        max_pixels=10**6,
        cache=world.folder / "results.sqlite",
    )
    captioner = Vllm(settings)
    pulled = 0

    def items() -> Iterable[Item]:
        nonlocal pulled
        for image in world.images:
            item = image_item(image, [], CONFIG, captioner.sees_pixels)
            assert item is not None
            pulled += 1
            yield item

    for answered, _ in enumerate(captioner.describe(items()), start=1):
        assert pulled - answered <= 4
    assert (answered, pulled) == (12, 12)


def test_killed_run_resumes_where_it_stopped(
    world: ModelWorld, server: RecordingServer, unbroken: ModelWorld, repository: Path
) -> None:
    half = threading.Event()

    def script(request: Request) -> None:
        if request.number >= 17:
            half.set()

    server.script, server.delay = script, 0.03
    process = subprocess.Popen(COMMAND, cwd=world.workspace(), env=environment(repository), start_new_session=True)
    try:
        assert half.wait(60), "the run never got half-way"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (world.folder / "data/captions/captions.parquet").exists()
    first = len(server.requests)
    assert first < 36
    server.delay = 0.0
    (world.folder / "results.sqlite").symlink_to(world.folder / "data/cache/results.sqlite")
    summary, _ = world.run()
    assert summary["reused"] >= first - world.options["concurrency"]
    assert summary["sent"] == len(server.requests) - first == 36 - summary["reused"]
    assert len(server.requests) <= 36 + world.options["concurrency"]
    assert world.table == unbroken.table
