"""How often the rules against non-answers of models set off on texts that people wrote.

Reads   DATA, a folder with the sources of params/real.yaml as published, and prompts/vllm
Writes  benchmarks/results/non_answers.csv, a row for each source and kind of text
Run     python benchmarks/non_answers.py DATA

Reports are put to the rules as summaries and reports of a model are, a question with its answer as one text, labels as
terms. Equal texts of a source count once.
"""

import csv
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from header import header, last_commit

from pipelines import registry
from pipelines.captions.captioners.vllm.prompts import Prompts
from pipelines.captions.config import Sizes
from pipelines.captions.non_answers import empty_term, non_answer
from pipelines.config import parse
from pipelines.ingest.config import IngestConfig
from pipelines.ingest.record import SourceRecord
from pipelines.params import load_study

ROOT = Path(__file__).resolve().parent.parent
COLUMNS = ("source", "kind", "rows", "distinct", "set_off", "rate", "codes")


def texts_of(record: SourceRecord) -> Iterator[tuple[str, str]]:
    """The texts of a row, each with its kind."""
    if record.report:
        yield "report", record.report
    for question in record.questions:
        yield "question and answer", f"{question.question} {question.answer}"
    for label in record.labels or ():
        yield "label", label


def row(source: str, kind: str, texts: list[str], instructions: str) -> dict[str, object]:
    """How many distinct texts set off a rule, by code."""
    distinct = sorted(set(texts))
    found = [empty_term(text) if kind == "label" else non_answer(text, instructions) for text in distinct]
    codes = Counter(code for code in found if code is not None)
    return {
        "source": source,
        "kind": kind,
        "rows": len(texts),
        "distinct": len(distinct),
        "set_off": codes.total(),
        "rate": round(codes.total() / len(distinct), 5),
        "codes": " ".join(f"{code}:{count}" for code, count in sorted(codes.items())),
    }


def main(data: Path) -> None:
    prompts = Prompts(ROOT / "prompts" / "vllm", Sizes(medium=0.02, large=0.1))
    instructions = f"{prompts.system('image')}\n{prompts.again('image', '?')}"
    study = load_study(ROOT / "params" / "real.yaml", ROOT / "params.yaml")
    sources = parse(IngestConfig, study["ingest"], "ingest").sources
    with (ROOT / "benchmarks" / "results" / "non_answers.csv").open("w", newline="") as file:
        file.write(header("python benchmarks/non_answers.py <sample data>", last_commit(ROOT)))
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for name, source in sources.items():
            adapter = registry.plugin("sources", source.adapter)
            records = adapter(data / Path(source.root).name, source.options).records()
            texts: dict[str, list[str]] = {}
            for record in records:
                for kind, text in texts_of(record) if isinstance(record, SourceRecord) else ():
                    texts.setdefault(kind, []).append(text)
            for kind, given in texts.items():
                writer.writerow(row(name, kind, given, instructions))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
