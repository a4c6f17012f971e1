"""What is said of a release in words: the RAI fields of Croissant, which the datasheet repeats.

Each sentence follows from the study's settings and tables, or says that something is not known.
"""

from pipelines.records import SPLITS
from pipelines.release.facts import Facts, Model

_UNKNOWN = "Not recorded by the pipeline: ask the sources."


def statements(facts: Facts) -> dict[str, str | list[str]]:
    """Text by the name of the RAI field, without its prefix."""
    sources = ", ".join(facts.contents.terms)
    near = facts.leaks
    return {
        "dataCollection": (
            f"Collected by others and taken from the sources {sources}. How their images were chosen and acquired is "
            "what each source says of itself."
        ),
        "dataCollectionRawData": (
            "Image files, masks, labels, attributes, reports and questions of the sources. Each raw file was hashed "
            "when it was read first, and is compared with that digest wherever it is read again."
        ),
        "dataCollectionMissingData": (
            "What a source does not say is null, never negative: labels are null where nobody said whether there is a "
            "finding, and such images have no text. Images that are left out are counted in the card."
        ),
        "dataImputationProtocol": "Nothing is imputed.",
        "dataPreprocessingProtocol": [
            "Images are decoded to 8 bits and written as PNG at their size; grey of more bits is windowed (DICOM) or "
            "scaled from its 0.5th to its 99.5th percentile. Metadata of the files is dropped.",
            "Images of one patient, study, file or scene are one group. A split that a source publishes is kept; the "
            "rest is dealt out by group.",
            f"Of {near.groups} groups, {near.groups_in_two_splits} are in two splits, {near.not_allowed} of them not "
            f"allowed by the settings; {near.images} images are marked as leaks of a published split.",
        ],
        "dataAnnotationProtocol": [
            "Regions of training images come from the source's annotations where there are any; all others from a "
            "proposer that never saw the annotations, accepted by an estimated probability.",
            "Captions come from what a source says and from measured geometry, or from a model whose answers are "
            "checked against rules and that geometry.",
        ],
        "dataAnnotationAnalysis": [_guarantee(facts)],
        "annotationsPerItem": _per_item(facts),
        "annotatorDemographics": [_UNKNOWN],
        "machineAnnotationTools": [tool(model) for model in facts.models],
        "dataBiases": [
            "Those of the sources, which were collected for purposes of their own; their mix is that of the counts by "
            "modality, finding and source, and no population's.",
            _who(facts),
        ],
        "dataUseCases": ["Research on vision-language models and on locating findings in medical images."],
        "dataLimitations": [
            "Not for clinical use. Labels, reports and masks are as good as those of the sources.",
            "Texts were made by programs or models; no clinician has read them all.",
            "Texts marked oracle and regions of the role truth come from annotations of validation and test images: "
            "a model that sees them cannot be scored on these images.",
        ],
        "dataSocialImpact": (
            "Models of such data may serve the patients they were trained on better than others. Who those are is not "
            "known here, so check before any use on people."
        ),
        "personalSensitiveInformation": _personal(facts),
        "dataReleaseMaintenancePlan": (
            f"Version {facts.settings.version}. A corrected release gets a higher version; SHA256SUMS tells whether "
            "files are those that were released."
        ),
    }


def tool(model: Model) -> str:
    """A plug-in with the weights that it ran."""
    weights = [
        model.model,
        model.revision and f"revision {model.revision}",
        model.sha256 and f"SHA-256 of its files {model.sha256}",
    ]
    found = ", ".join(part for part in weights if part)
    return f"{model.kind} {model.plugin}{f' ({found})' if found else ' (a program, no weights)'}"


def _guarantee(facts: Facts) -> str:
    if not facts.risk_control:
        return "No guarantee covers the accepted regions."
    groups = []
    for name, figures in facts.risk_control.items():
        threshold = figures.get("threshold")
        said = (
            "no threshold passed the test, so nothing is certified"
            if threshold is None
            else f"threshold {threshold:.4g}"
        )
        groups.append(
            f"{name}: at least {figures['target_precision']:.0%} of {figures['promised']} are correct, with confidence "
            f"{figures['confidence']:.0%}; {said}"
        )
    certified = sum(source.certified for source in facts.sources)
    covered = (
        f"covers the {certified} regions that are marked certified and no others" if certified else "covers no region"
    )
    return (
        f"Learn-then-test on annotated validation images ({'; '.join(groups)}). The guarantee {covered}; a region is "
        "correct if its IoU with an annotated one is at least 0.5."
    )


def _per_item(facts: Facts) -> str:
    roles = {role: sum(counts[role] for counts in facts.region_labels.values()) for role in ("input", "truth")}
    splits = ", ".join(f"{facts.splits[split]} {split}" for split in SPLITS)
    return (
        f"{roles['input']} input regions and {roles['truth']} regions of annotations kept for scores, on "
        f"{facts.images} images ({splits}); each was made once, by one program, model or source."
    )


def _who(facts: Facts) -> str:
    names = sorted({name for row in facts.contents.rows for name in row.attributes})
    if not names:
        return "Who the patients were (age, sex, origin) is not recorded, so that no subgroup can be examined."
    return (
        f"Beside findings the sources say of whole images: {', '.join(names)} (column attributes). Of who the patients "
        "were (age, sex, origin) nothing else is recorded, so that no other subgroup can be examined."
    )


def _personal(facts: Facts) -> list[str]:
    said = [
        "No patient id, hash of one, file name or path of a source is in the release. Images of one patient share a "
        "group, which is called after an image.",
        "Faces, reports, phrases, questions, labels, attributes and captions were not searched for what identifies a "
        "person; they go out as the sources have them.",
        "Text in pixels: " + " ".join(f"{source.name}: {source.text_in_pixels}" for source in facts.sources),
    ]
    if facts.confidential:
        said.append(
            f"The patient ids of {', '.join(facts.confidential)} are confidential: its texts may name people, and "
            "whoever set its licence decided that they may be passed on."
        )
    return said
