"""The head of the dataset card, in the YAML keys that Hugging Face reads from a README."""

from typing import Any

from pipelines.report.counts import SourceCounts

SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def card_head(sources: list[SourceCounts]) -> dict[str, Any]:
    """Licence, size and splits of the dataset.

    The licence is the sources' own where they share one, `unknown` where one of them is, else `other`.

    Args:
        sources: What the tables hold of each source.
    """
    licences = {source.licence for source in sources}
    images = sum(source.images for source in sources)
    shared = licences.pop() if len(licences) == 1 else "unknown" if "unknown" in licences else "other"
    splits = {split: sum(source.splits[split] for source in sources) for split in sources[0].splits}
    return {
        "pretty_name": "medregion dataset: " + ", ".join(source.name for source in sources),
        "license": shared,
        "task_categories": ["image-to-text", "zero-shot-image-classification", "visual-question-answering"],
        "tags": ["medical", "webdataset", "region-annotated"],
        "size_categories": [next((name for limit, name in SIZES if images < limit), "1M<n<10M")],
        "dataset_info": {"splits": [{"name": name, "num_examples": count} for name, count in splits.items()]},
    }
