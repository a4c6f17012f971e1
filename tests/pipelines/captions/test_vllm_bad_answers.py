"""The captioner `vllm` where a response is no answer: too large, compressed, of another model, or a refusal."""

import gzip
import json
import resource
from collections.abc import Callable
from typing import Any

import pytest

from pipelines.errors import UserError
from tests.pipelines.captions.model_world import ModelWorld
from tests.recording_server import Fault, RecordingServer, Request

IMAGE = {
    "summary_caption": "The picture shows one round polyp next to tissue that looks quite normal.",
    "detailed_report": "There is one polyp in the upper part.",
}


def completion(content: str, **changes: Any) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
    values = {"model": "toy", "choices": [choice], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}
    return json.dumps(values | changes).encode()


def asks_for_a_term(request: Request) -> bool:
    return "term" in request.body["response_format"]["json_schema"]["schema"]["properties"]


def first_image(fault: Fault) -> Callable[[Request], Fault | None]:
    """The first image that is asked about gets a bad answer, each time."""
    bad: list[str] = []

    def script(request: Request) -> Fault | None:
        if request.kind != "image":
            return None
        if not bad:
            bad.append(request.content_sha256)
        return fault if request.content_sha256 == bad[0] else None

    return script


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault(body=completion("x" * 2_000_000)), "answer_too_large"),
        (Fault(body=b" " * 3_000_000), "answer_too_large"),
        (Fault(body=gzip.compress(b" " * 50_000_000), headers={"Content-Encoding": "gzip"}), "compressed_answer"),
        (Fault(body=b"[" * 200_000 + b"]" * 200_000), "not_a_completion"),
        (Fault(body=b"\xff\xfe{"), "not_a_completion"),
        (Fault(body=b"[1e999]"), "not_a_completion"),
        (Fault(body=json.dumps({"choices": []}).encode()), "not_a_completion"),
        (Fault(body=completion("x", choices=[{"message": [1]}])), "not_a_completion"),
    ],
    ids=["long content", "long body", "gzip bomb", "deep", "no text", "a number", "no model", "no message"],
)
def test_a_response_that_is_no_answer_fails_its_item_alone(
    world: ModelWorld, server: RecordingServer, fault: Fault, reason: str
) -> None:
    server.script = first_image(fault)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    summary, _ = world.run(max_failed_fraction=0.5)
    assert summary["reasons"]["failed"] == {reason: 1}
    assert summary["ok"] == summary["inputs"] - 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB
    server.script = lambda _: None
    summary, _ = world.run()  # the next run asks about it again
    assert (summary["sent"], summary["failed"]) == (1, 0)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault(body=completion("x").replace(b'"x"', b'"\\ud800 broken"')), "malformed_json"),
        (Fault(content=json.dumps(IMAGE | {"detailed_report": "half \ud800 of a pair"})), "malformed_json"),
        (Fault(content=json.dumps(IMAGE | {"detailed_report": "I cannot assist with medical images."})), "refusal"),
        (
            Fault(words={"summary_caption": "As an AI language model I am unable to analyze this medical image here."}),
            "refusal",
        ),
        (Fault(content=json.dumps(IMAGE | {"detailed_report": "string"})), "placeholder"),
        (Fault(content=json.dumps(IMAGE | {"detailed_report": "polyp " * 9})), "repetition"),
        (Fault(words={"detailed_report": "Describe what is clearly visible. Do not guess."}), "echoed_instructions"),
        (Fault(words={"detailed_report": "Das Bild zeigt einen Polypen in der Mitte."}), "other_language"),
    ],
    ids=[
        "surrogate in the content",
        "surrogate in the words",
        "refusal in the report",
        "refusal in the summary",
        "placeholder",
        "repetition",
        "echo",
        "German",
    ],
)
def test_an_answer_that_says_nothing_of_the_image_is_rejected(
    world: ModelWorld, server: RecordingServer, fault: Fault, reason: str
) -> None:
    server.script = first_image(fault)
    summary, _ = world.run()
    assert summary["reasons"]["rejected"] == {reason: 1}
    assert (summary["failed"], summary["ok"]) == (0, summary["inputs"] - 1)


def test_an_answer_that_says_nothing_is_requested_again_with_a_complaint(
    world: ModelWorld, server: RecordingServer
) -> None:
    refusal = Fault(words={"detailed_report": "I cannot assist with medical images."})
    server.script = lambda request: refusal if request.kind == "image" and not request.repeats else None
    summary, rows = world.run()
    assert (summary["rejected"], summary["ok"]) == (0, summary["inputs"])
    assert {row.attempts for row in rows.values() if row.kind == "image"} == {2}
    again = [request for request in server.requests if request.repeats]
    assert len(again) == 12
    assert all("describe the image, whatever it shows" in request.body["messages"][-1]["content"] for request in again)


def test_an_adjective_that_describes_nothing_is_rejected(world: ModelWorld, server: RecordingServer) -> None:
    server.script = lambda request: Fault(words={"adjective": "string"}) if request.kind == "region" else None
    summary, _ = world.run()
    assert summary["reasons"]["rejected"] == {"placeholder": 24}


def test_a_term_that_names_nothing_is_rejected(world: ModelWorld, server: RecordingServer) -> None:
    server.script = lambda request: Fault(words={"term": "Unknown"}) if asks_for_a_term(request) else None
    summary, _ = world.run()
    assert set(summary["reasons"]["rejected"]) == {"term_names_nothing"}
    assert summary["rejected"] == 12  # one region of each image has no name


@pytest.mark.parametrize("tokens", ["1e999", "-5", "1" + "0" * 400, '"many"', "null"])
def test_numbers_of_tokens_that_cannot_be_true_count_as_none(
    world: ModelWorld, server: RecordingServer, tokens: str
) -> None:
    body = completion(json.dumps(IMAGE)).replace(b'"prompt_tokens": 1', f'"prompt_tokens": {tokens}'.encode())
    server.script = first_image(Fault(body=body))
    summary, _ = world.run()
    assert summary["ok"] == summary["inputs"]
    assert summary["by_kind"]["image"]["prompt_tokens"] == 100 * 11


def test_an_answer_of_another_model_ends_the_run_and_keeps_the_answers_before(
    world: ModelWorld, server: RecordingServer
) -> None:
    server.script = lambda request: Fault(model="some-other-7b") if request.number >= 20 else None
    with pytest.raises(UserError, match=r"answers as the model 'some-other-7b', requested is 'toy'"):
        world.run()
    server.script = lambda _: None
    server.forget()
    summary, _ = world.run()
    assert summary["ok"] == summary["inputs"] == 36
    assert summary["reused"] + len(server.requests) == 36
    assert summary["reused"] >= 16
