"""The release as Croissant, the JSON-LD of MLCommons for data sets, with its fields of responsible AI.

By the specifications http://mlcommons.org/croissant/1.0 and http://mlcommons.org/croissant/RAI/1.0; a test has
mlcroissant validate it and read records by it. There is a record set for each split, whose records come from the
Parquet files.
"""

from pathlib import Path
from typing import Any

import pyarrow

from models.verified import sha256_file
from pipelines.release.facts import Facts
from pipelines.release.images import PARQUET
from pipelines.release.rows import ATTRIBUTE_COLUMNS, COLUMNS, QUESTION_COLUMNS, REGION_COLUMNS
from pipelines.release.statements import statements

FILE = "croissant.json"
_FORMAT = "application/x-parquet"
_SPECIFICATION = "http://mlcommons.org/croissant/1.0"
_RAI = "http://mlcommons.org/croissant/RAI/1.0"

# What each key of the document means, as the specification gives it.
_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
_TYPES = {"string": "sc:Text", "double": "sc:Float", "int64": "sc:Integer", "bool": "sc:Boolean"}
_NESTED = {"regions": REGION_COLUMNS, "attributes": ATTRIBUTE_COLUMNS, "questions": QUESTION_COLUMNS}


def document(facts: Facts, out: Path) -> dict[str, Any]:
    """The document.

    Args:
        facts: Of the release.
        out: The release, whose Parquet files are complete.
    """
    settings = facts.settings
    known = {
        "url": settings.url,
        "datePublished": settings.published,
        "creator": [{"@type": "sc:Organization", "name": name} for name in settings.creators],
    }
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": [_SPECIFICATION, _RAI],
        "name": settings.name,
        "version": settings.version,
        "description": description(facts),
        "license": facts.licences,
        "citeAs": citation(facts),
        "keywords": ["medical images", "regions", "captions", *facts.modalities],
        **{name: value for name, value in known.items() if value},
        "distribution": _distribution(facts, out),
        "recordSet": [_record_set(split) for split, count in facts.splits.items() if count],
        **{f"rai:{name}": text for name, text in statements(facts).items()},
    }


def description(facts: Facts) -> str:
    """What it is, in a sentence or two."""
    regions = sum(len(regions) for regions in facts.contents.regions.values())
    return (
        f"{facts.images} medical images with {regions} regions (boxes and masks), captions of images and regions, and "
        f"questions where a source has them; made from {', '.join(facts.contents.terms)}. Not for clinical use."
    )


def citation(facts: Facts) -> str:
    """As BibTeX."""
    settings = facts.settings
    year = settings.published[:4] if settings.published else None
    fields = {
        "title": f"{settings.name}, version {settings.version}",
        "author": " and ".join(f"{{{name}}}" for name in settings.creators) or None,
        "year": year,
        "url": settings.url,
    }
    lines = ", ".join(f"{name} = {{{value}}}" for name, value in fields.items() if value)
    return f"@misc{{{settings.name.lower()}, {lines}}}"


def _distribution(facts: Facts, out: Path) -> list[dict[str, Any]]:
    files = [
        {
            "@type": "cr:FileObject",
            "@id": file.name,
            "name": file.name,
            "contentUrl": f"{PARQUET}/{file.name}",
            "contentSize": f"{file.stat().st_size} B",
            "encodingFormat": _FORMAT,
            "sha256": sha256_file(file),
        }
        for file in sorted((out / PARQUET).glob("*.parquet"))
    ]
    sets = [
        {
            "@type": "cr:FileSet",
            "@id": f"{split}-files",
            "name": f"{split}-files",
            "description": f"Parquet files of the split {split}",
            "encodingFormat": _FORMAT,
            "includes": f"{PARQUET}/{split}-*.parquet",
        }
        for split, count in facts.splits.items()
        if count
    ]
    return files + sets


def _record_set(split: str) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": split,
        "name": split,
        "description": f"Images of the split {split}, one each",
        "key": {"@id": f"{split}/image_id"},
        "field": [_field(split, name, kind, text) for name, (kind, text) in COLUMNS.items()],
    }


def _field(split: str, name: str, kind: pyarrow.DataType, text: str) -> dict[str, Any]:
    found = {"@type": "cr:Field", "@id": f"{split}/{name}", "name": name, "description": text}
    if name in _NESTED:
        columns = _NESTED[name].items()
        return found | {
            "repeated": True,
            "subField": [
                {"@type": "cr:Field", "@id": f"{split}/{name}/{key}", "name": key, "description": words}
                | _typed(inner)
                | _source(split, name, key)
                for key, (inner, words) in columns
            ],
        }
    if name == "image":
        return found | {"dataType": "sc:ImageObject"} | _source(split, name, "bytes")
    return found | _typed(kind) | _source(split, name)


def _typed(kind: pyarrow.DataType) -> dict[str, Any]:
    if pyarrow.types.is_list(kind):
        return {"dataType": _TYPES[str(kind.value_type)], "repeated": True}
    return {"dataType": _TYPES[str(kind)]}


def _source(split: str, column: str, key: str | None = None) -> dict[str, Any]:
    """Where a value stands: a column of the Parquet files, or a key of what this column holds."""
    source: dict[str, Any] = {"fileSet": {"@id": f"{split}-files"}, "extract": {"column": column}}
    return {"source": source | ({"transform": {"jsonPath": key}} if key else {})}
