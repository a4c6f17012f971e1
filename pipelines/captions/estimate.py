"""What a run of the stage `captions` would ask, from the tables as they stand: items, requests, tokens, hours.

Reads   as the stage (`stage.py`), the result cache, data/summaries/captions.json, and of the model that is served the
        tokenizer and the settings of its image processor, where its folder is on this machine
Writes  nothing; prints a table. No request is sent, and no image is opened.
Alone   python -m pipelines.captions --estimate [--requests-per-second N] [--model FOLDER]

A captioner that sends no requests has items alone. What an answer takes is the mean of those in the cache: it is not
known before there is one of the kind.
"""

import argparse
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipelines.cache import RESULT_CACHE, ResultCache
from pipelines.captions.config import CaptionsConfig
from pipelines.captions.describe import Describer
from pipelines.captions.plan import images_and_regions
from pipelines.captions.protocols import AnswerCost, Costs, RequestCost, SendsRequests
from pipelines.config import load
from pipelines.errors import UserError
from pipelines.files import read_summary
from pipelines.records import CaptionKind, CaptionRow
from pipelines.sources import Sources, load_sources
from pipelines.stage import SUMMARIES, progress

_KINDS: tuple[CaptionKind, ...] = ("image", "region")
_UNKNOWN = "?"


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What was counted.

    Attributes:
        captioner: Its name in params.yaml.
        counts: By kind: `rows` of the table, those `settled` without the captioner, and of the others, its items,
            those `kept` in the cache and those `to_ask`. Of the kept ones the `kept_requests`, `kept_prompt_tokens`,
            `kept_completion_tokens` and `kept_milliseconds`; of those to ask the `text_tokens` and `image_tokens` of
            one request each.
        costs: What the captioner said of its requests; None: it sends none.
    """

    captioner: str
    counts: dict[CaptionKind, Counter[str]]
    costs: Costs | None


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line of the table.

    Attributes:
        what: What is counted.
        values: Of images, of regions, and of both; None: not known.
        basis: How it is known.
    """

    what: str
    values: tuple[float | None, float | None, float | None]
    basis: str


def main(*arguments: str) -> None:
    parser = argparse.ArgumentParser(
        "python -m pipelines.captions", description="Say what the stage captions would ask.", allow_abbrev=False
    )
    parser.add_argument("--estimate", action="store_true", required=True, help="without it the stage runs")
    parser.add_argument("--requests-per-second", type=float, metavar="N", help="rate that the hours are reckoned by")
    parser.add_argument("--model", type=Path, metavar="FOLDER", help="the served model, for its tokenizer")
    options = parser.parse_args(arguments)
    given: float | None = options.requests_per_second
    if given is not None and not 0 < given < float("inf"):
        raise UserError(f"--requests-per-second is {given}: choose more than 0")
    tables = (Path("data/split/images.parquet"), Path("data/regions/regions.parquet"))
    found = estimate(load(CaptionsConfig, "captions"), load_sources(), *tables, model=options.model)
    print(f"Captions by {found.captioner}{f' ({found.costs.model})' if found.costs else ''}")
    print(*table(found, given), sep="\n")


def estimate(
    config: CaptionsConfig,
    sources: Sources,
    images: Path,
    regions: Path,
    cache: Path = RESULT_CACHE,
    model: Path | None = None,
) -> Estimate:
    """Count what the stage would ask with the same arguments.

    Args:
        config: Settings of the stage.
        sources: Where the images are.
        images: Table of `SPLIT_IMAGES`.
        regions: Table of `REGIONS`.
        cache: File of the result cache; none is made.
        model: Folder of the model that is served; None: look where the options say.

    Raises:
        UserError: As from the stage, or the model's folder cannot be used.
    """
    describer = Describer(config, sources, cache)
    counts: dict[CaptionKind, Counter[str]] = {kind: Counter() for kind in _KINDS}
    kept = ResultCache(cache) if cache.exists() else None
    try:
        costs = None
        if isinstance(describer.captioner, SendsRequests):
            costs = describer.captioner.costs(kept.get if kept else lambda key: None, model)
        for entry in progress(describer.planned(images_and_regions(images, regions)), "estimate"):
            of_kind = counts[entry.kind]
            of_kind["rows"] += 1
            if isinstance(entry, CaptionRow):
                of_kind["settled"] += 1
            elif costs is not None:
                of_kind.update(_counted(costs.of(entry)))
    finally:
        if kept:
            kept.close()
    return Estimate(captioner=config.captioner, counts=counts, costs=costs)


def _counted(cost: RequestCost | AnswerCost) -> dict[str, int]:
    if isinstance(cost, AnswerCost):
        return {
            "kept": 1,
            "kept_requests": cost.requests,
            "kept_prompt_tokens": cost.prompt_tokens,
            "kept_completion_tokens": cost.completion_tokens,
            "kept_milliseconds": round(1000 * cost.seconds),
        }
    images = {} if cost.image_tokens is None else {"image_tokens": cost.image_tokens}
    return {"to_ask": 1, "text_tokens": cost.text_tokens, **images}


def table(found: Estimate, requests_per_second: float | None, summaries: Path = SUMMARIES) -> list[str]:
    """The lines that people read.

    Args:
        found: What was counted.
        requests_per_second: The rate that the hours are reckoned by; None: one that was measured.
        summaries: Folder of summary.json files.

    Raises:
        UserError: The summary is damaged.
    """
    lines = [
        _line(found, "rows of the table", lambda kind: kind["rows"], "the tables of split and regions"),
        _line(found, "need no answer", lambda kind: kind["settled"], "unannotated, or no finding by the source"),
        _line(found, "items", lambda kind: kind["rows"] - kind["settled"], "what the captioner describes"),
    ]
    if found.costs is None:
        return [*_formatted(lines), f"The captioner {found.captioner} sends no requests."]
    return _formatted([*lines, *_asked(found, found.costs), _hours(found, found.costs, requests_per_second, summaries)])


def _asked(found: Estimate, costs: Costs) -> list[Line]:
    answers = "mean of the cached answers"
    most = costs.attempts * costs.max_tokens
    return [
        _line(found, "in the cache", lambda kind: kind["kept"], "answers that are not asked for again"),
        _line(found, "requests, one each", lambda kind: kind["to_ask"], "items that are not in the cache"),
        _line(found, "requests, expected", lambda kind: _expected(kind, "kept_requests"), answers),
        _line(
            found,
            "requests, at most",
            lambda kind: kind["to_ask"] * costs.attempts,
            f"attempts: {costs.attempts}; what is sent again after a fault comes on top",
        ),
        _mean(found, "text tokens a request", "text_tokens", costs.text_basis),
        _mean(found, "image tokens a request", "image_tokens", costs.image_basis),
        _line(found, "text tokens in", lambda kind: _known(kind, "text_tokens"), "of one request each"),
        _line(found, "image tokens in", lambda kind: _known(kind, "image_tokens"), "of one request each"),
        _line(found, "tokens in, expected", lambda kind: _expected(kind, "kept_prompt_tokens"), answers),
        _line(found, "tokens out, expected", lambda kind: _expected(kind, "kept_completion_tokens"), answers),
        _line(
            found,
            "tokens out, at most",
            lambda kind: kind["to_ask"] * most,
            f"attempts: {costs.attempts} x max_tokens: {costs.max_tokens}",
        ),
    ]


def _hours(found: Estimate, costs: Costs, given: float | None, summaries: Path) -> Line:
    """Of the expected requests, or where they are not known of one for each item."""
    rate, basis = _rate(found, costs, given, summaries)
    expected = [(_expected(kind, "kept_requests"), kind["to_ask"]) for kind in found.counts.values()]
    requests = sum(each if mean is None else mean for mean, each in expected)
    return Line(what="hours", values=(None, None, None if rate is None else requests / rate / 3600), basis=basis)


def _rate(found: Estimate, costs: Costs, given: float | None, summaries: Path) -> tuple[float | None, str]:
    """Requests a second, and how they are known."""
    if given is not None:
        return given, f"{given:g} requests a second, as given"
    file = summaries / "captions.json"
    if file.is_file() and (measured := read_summary(file).get("requests_per_second")):
        return measured, f"{measured:g} requests a second, measured by the last run ({file})"
    kept = sum(found.counts.values(), Counter[str]())
    if kept["kept_milliseconds"]:
        seconds = kept["kept_milliseconds"] / 1000 / kept["kept_requests"]
        rate = costs.concurrency / seconds
        under_way = f"{costs.concurrency} under way, {seconds:.3g} s each of those in the cache"
        return rate, f"arithmetic: {rate:.3g} requests a second ({under_way})"
    return None, "no rate is known: give one with --requests-per-second"


def _line(found: Estimate, what: str, value: Callable[[Counter[str]], float | None], basis: str) -> Line:
    """A line whose last value is the sum of the others."""
    image, region = (value(found.counts[kind]) for kind in _KINDS)
    return Line(what=what, values=(image, region, _sum(image, region)), basis=basis)


def _mean(found: Estimate, what: str, name: str, basis: str) -> Line:
    """A line of means over the items that are asked about."""
    counts = [found.counts[kind] for kind in _KINDS]
    image, region, both = (
        None if (known := _known(kind, name)) is None else known / max(1, kind["to_ask"])
        for kind in (*counts, counts[0] + counts[1])
    )
    return Line(what=what, values=(image, region, both), basis=basis)


def _sum(image: float | None, region: float | None) -> float | None:
    return None if image is None or region is None else image + region


def _known(kind: Counter[str], name: str) -> int | None:
    """A count of the items that are asked about; None where it is not known of them."""
    return None if kind["to_ask"] and name not in kind else kind[name]


def _expected(kind: Counter[str], name: str) -> float | None:
    """What the items that are asked about will take if they take what the kept ones took; None where there is none."""
    if not kind["to_ask"]:
        return 0
    return kind["to_ask"] * kind[name] / kind["kept"] if kind["kept"] else None


def _formatted(lines: list[Line]) -> list[str]:
    """The lines with a heading, in columns."""
    cells = [
        ["", "images", "regions", "all", "how it is known"],
        *([line.what, *map(_number, line.values), line.basis] for line in lines),
    ]
    widths = [max(len(row[column]) for row in cells) for column in range(4)]
    return [
        "  ".join([row[0].ljust(widths[0]), *(row[n].rjust(widths[n]) for n in (1, 2, 3)), row[4]]) for row in cells
    ]


def _number(value: float | None) -> str:
    if value is None:
        return _UNKNOWN
    return f"{value:,.2f}" if 0 < value < 10 and value != round(value) else f"{value:,.0f}"
