"""Which sources' licences allow a use: asked before a model becomes champion, and before images leave the house."""

from collections.abc import Iterable, Mapping

from pipelines.report.config import SourceTerms


def licence_faults(
    sources: Iterable[str], terms: Mapping[str, SourceTerms], use: str, licences: Mapping[str, list[str]]
) -> dict[str, str]:
    """Why the licence of a source does not allow a use, by source; those that it allows are left out.

    A licence that no use lists is unknown, and allows nothing.

    Args:
        sources: The sources in question.
        terms: What params.yaml says of each source.
        use: A key of `licences`.
        licences: Use -> licences that allow it.
    """
    known = {licence for allowed in licences.values() for licence in allowed}
    faults = {}
    for source in sources:
        licence = terms[source].licence if source in terms else None
        if licence is None:
            faults[source] = f"{source} has no licence in params.yaml (ingest.sources.{source}.licence)"
        elif licence not in known:
            faults[source] = f"'{licence}' of {source} is not known: read it, and list it under promote.licences"
        elif licence not in licences[use]:
            faults[source] = f"'{licence}' of {source} does not allow the use {use}"
    return faults
