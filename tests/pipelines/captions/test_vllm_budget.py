"""The captioner `vllm` with a budget: it asks no more than that, loses no answer, and no unfinished table is left."""

import contextlib
import logging
import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from pipelines.captions.config import CaptionsConfig
from pipelines.chat.budget import Budget
from pipelines.config import parse
from pipelines.errors import UserError
from tests.pipelines.captions.model_world import ModelWorld, run_command
from tests.pipelines.captions.world import CONFIG, World
from tests.recording_server import Fault, RecordingServer, Request

ITEMS = 36  # of the fixture `world`


@pytest.fixture(scope="module")
def unbudgeted(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The table of a world like `world` after a run without a budget."""
    server = RecordingServer()
    world = ModelWorld(tmp_path_factory.mktemp("unbudgeted"), [server.url]).fill(12)
    world.run()
    server.close()
    return world.table


def left_by(world: ModelWorld, **budget: Any) -> int:
    """How many items a run with a budget says are left; 0 where it ends well."""
    (world.folder / "captions.parquet").unlink(missing_ok=True)
    said = None
    try:
        world.run(budget=Budget(**budget))
    except UserError as error:
        said = str(error)
    assert (world.folder / "captions.parquet").exists() is (said is None)
    if said is None:
        return 0
    found = re.fullmatch(
        rf"captions: the budget of this run \(.*\) is spent and (\d+) of {ITEMS} items are left.*, so no table is "
        r"written; all answers are in the result cache\. Run `dvc repro captions` again, .*",
        said,
    )
    assert found, said
    return int(found.group(1))


def answers_in_cache(world: ModelWorld) -> int:
    with contextlib.closing(sqlite3.connect(world.folder / "results.sqlite")) as database:
        (count,) = database.execute("SELECT count(*) FROM items").fetchone()
    return int(count)


def test_runs_with_a_budget_end_with_the_table_of_one_without(
    world: ModelWorld, server: RecordingServer, unbudgeted: bytes
) -> None:
    for run, left in enumerate((26, 16, 6, 0), start=1):
        assert left_by(world, requests=10) == left
        assert len(server.requests) == min(10 * run, ITEMS)
        assert answers_in_cache(world) == len(server.requests)
    assert world.table == unbudgeted
    assert len({request.content_sha256 for request in server.requests}) == ITEMS


def test_budget_that_is_exactly_enough_leaves_nothing(
    world: ModelWorld, server: RecordingServer, unbudgeted: bytes
) -> None:
    summary, _ = world.run(budget=Budget(requests=ITEMS))
    assert (len(server.requests), summary["sent"], summary["requests"], summary["ok"]) == (ITEMS, ITEMS, ITEMS, ITEMS)
    assert summary["requests_per_second"] > 0
    assert world.table == unbudgeted


def test_one_request_too_few_leaves_one_item(world: ModelWorld, server: RecordingServer, unbudgeted: bytes) -> None:
    assert left_by(world, requests=ITEMS - 1) == 1
    assert left_by(world, requests=1) == 0
    assert len(server.requests) == ITEMS
    assert world.table == unbudgeted


def test_item_in_the_middle_of_its_corrections_begins_anew(world: ModelWorld, server: RecordingServer) -> None:
    """Its first answer was bad and the budget ended before the second: later runs end as one without a budget."""

    def script(request: Request) -> Fault | None:
        bad = int(request.content_sha256, 16) % 2 and len(request.body["messages"]) == 2
        return Fault(content="sorry") if bad else None

    server.script = script
    world.run()
    expected, needed = world.table, len(server.requests)
    assert needed > ITEMS + 10
    (world.folder / "results.sqlite").unlink()
    server.forget()
    runs = 0
    while left_by(world, requests=7):
        runs += 1
        assert len(server.requests) == 7 * runs
    assert world.table == expected
    # At most the conversations that were under way when a budget ended were begun twice.
    assert needed <= len(server.requests) <= needed + runs * world.options["concurrency"]


def test_requests_that_are_sent_again_count(world: ModelWorld, server: RecordingServer, unbudgeted: bytes) -> None:
    world.options["retries"] = 9  # none fails
    server.script = lambda _: Fault(status=500)
    assert left_by(world, requests=5) == ITEMS
    assert len(server.requests) == 5
    server.script = lambda _: None
    assert left_by(world) == 0
    assert world.table == unbudgeted


def test_failed_items_are_told_beside_those_that_are_left(world: ModelWorld, server: RecordingServer) -> None:
    world.options["retries"] = 0
    server.script = lambda request: Fault(status=500) if request.number < 3 else None
    with pytest.raises(UserError, match=rf"26 of {ITEMS} items are left \(and 3 failed, which are asked again\)"):
        world.run(budget=Budget(requests=10), max_failed_fraction=1.0)
    assert answers_in_cache(world) == 7


def test_answers_that_are_in_the_cache_take_nothing_from_the_budget(
    world: ModelWorld, server: RecordingServer, unbudgeted: bytes
) -> None:
    world.run()
    server.forget()
    world.change_image(3, report="Another one.")  # its own prompt and those of its two regions
    assert left_by(world, requests=2) == 1
    assert left_by(world, requests=2) == 0
    assert server.count().total() == 3
    assert world.table != unbudgeted


def test_hours_that_are_over_stop_all_requests(world: ModelWorld, server: RecordingServer) -> None:
    assert left_by(world, hours=1e-9) == ITEMS
    assert server.requests == []
    assert left_by(world, hours=1.0) == 0


def test_what_is_under_way_when_the_hours_end_is_kept(
    world: ModelWorld, server: RecordingServer, unbudgeted: bytes
) -> None:
    server.delay = 0.2  # four at a time: 20 in a second
    left = left_by(world, hours=1 / 3600)
    asked = len(server.requests)
    assert asked <= 24
    assert (left, answers_in_cache(world)) == (ITEMS - asked, asked)
    server.delay = 0.0
    assert left_by(world) == 0
    assert len(server.requests) == ITEMS
    assert world.table == unbudgeted


def test_the_rate_is_in_the_log(world: ModelWorld, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="pipelines.captions"):
        assert left_by(world, requests=10) == 26
    assert re.search(r"10 requests in \d+ s, [\d.]+ a second", caplog.text)


def test_command_ends_with_one_line_and_leaves_no_output(
    world: ModelWorld, server: RecordingServer, unbudgeted: bytes, repository: Path
) -> None:
    """Its exit code is that of a mistake: what is tried again by itself would spend the budget again."""
    folder = world.workspace(requests=10)
    done = run_command(folder, repository)
    assert (done.returncode, done.stdout) == (1, "")
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert errors == done.stderr.splitlines()[-1:]
    assert errors[0].startswith("error: captions: the budget of this run (requests: 10) is spent and 26 of 36 items")
    assert sorted(file.name for file in (folder / "data").iterdir()) == ["cache", "code", "regions", "split", "tmp"]
    assert list((folder / "data/tmp").iterdir()) == []
    (folder / "results.sqlite").symlink_to(folder / "data/cache/results.sqlite")
    assert left_by(world) == 0
    assert len(server.requests) == ITEMS
    assert world.table == unbudgeted


def test_a_budget_that_nobody_keeps_is_refused(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.image(labels=["nodule"])
    with pytest.raises(UserError, match=r"captions\.budget \(requests: 5\): the captioner 'findings' keeps none"):
        world.run(budget=Budget(requests=5))
    world.run(budget=Budget())


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        ({"requests": 0}, "requests is 0: choose at least 1, or null"),
        ({"requests": 2.5}, "budget.requests"),
        ({"hours": 0}, "hours is 0.0: choose more than 0, or null"),
        ({"hours": -1}, "hours is -1"),
        ({"request": 5}, r"captions\.budget\.request: unknown key; did you mean 'requests'\?"),
    ],
)
def test_wrong_budget_is_one_line(budget: dict[str, Any], message: str) -> None:
    values = {
        "captioner": "vllm",
        "prompts": "prompts/vllm",
        "seed": 0,
        "sizes": {"medium": 0.02, "large": 0.05},
        "modalities": {name: {"name": one.name, "side": one.side} for name, one in CONFIG.modalities.items()},
        "max_failed_fraction": 0.0,
    }
    assert parse(CaptionsConfig, values, "captions").budget == Budget()
    with pytest.raises(UserError, match=message) as caught:
        parse(CaptionsConfig, values | {"budget": budget}, "captions")
    assert "\n" not in str(caught.value)
