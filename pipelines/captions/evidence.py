"""What may be said of an item: who knows what, and what a captioner is allowed to see.

- Training images: report, labels and annotated regions.
- Validation and test images: report and labels. Their annotated regions count only where there is neither, and such a
  text is marked `oracle`; so is one from labels alone where the image is annotated, for many sources derive the labels
  from the masks. Nothing of a row that is not `oracle` depends on annotations.
- Proposed regions are described each on its own, by measured geometry. No text about the image mentions them: nobody
  said that they show what the labels name.
- Neither report nor labels nor annotated regions: `unannotated`, unless the captioner looks at the image itself. Its
  basis is then `pixels`, also on validation and test images with annotations and nothing else: it needs no oracle.
- A model is told the labels of a validation or test image only where these are all that is known: beside a report or
  a proposed region they would carry into a row that is not `oracle` what many sources derive from the masks.
- labels == []: the source says that there is no finding. Its proposed regions are then `no_finding`; regions that the
  source itself named (anatomy) keep their captions.
"""

from typing import Any

from pipelines.captions.config import CaptionsConfig
from pipelines.captions.geometry import measure
from pipelines.captions.protocols import Basis, ImageItem, RegionItem

# The proposer that hands on what the source drew, see pipelines/proposals/proposers/annotations.py.
_ANNOTATIONS = "annotations"


def region_items(image: dict[str, Any], regions: list[dict[str, Any]], config: CaptionsConfig) -> list[RegionItem]:
    """One item an accepted region.

    Args:
        image: Row of `SPLIT_IMAGES`.
        regions: The image's accepted rows of `REGIONS`, in the order of `n`.
        config: Modalities and sizes.
    """
    modality = config.modalities[image["modality"]]
    patient_side = modality.side == "patient" and image["view"] == "frontal"
    return [
        RegionItem(
            region_id=region["region_id"],
            image=image,
            modality=modality,
            patient_side=patient_side,
            box=(region["x0"], region["y0"], region["x1"], region["y1"]),
            mask=region["mask"],
            label=region["label"],
            labels=tuple(image["labels"] or ()) if image["split"] == "train" else (),
            adjective=region["adjective"],
            geometry=measure(region, image["width"], image["height"], patient_side, config.sizes),
            basis="annotation" if region["proposer"] == _ANNOTATIONS else "proposal",
            oracle=image["split"] != "train" and region["proposer"] == _ANNOTATIONS,
        )
        for region in regions
    ]


def image_item(
    image: dict[str, Any], regions: list[RegionItem], config: CaptionsConfig, sees_pixels: bool
) -> ImageItem | None:
    """The image with what may be said of it, or None where nobody said anything and the captioner does not look."""
    annotated = tuple(region for region in regions if region.basis == "annotation")
    judged = image["split"] != "train"
    told = has_report(image) or image["labels"] is not None
    usable = annotated if not judged or not (told or sees_pixels) else ()
    basis: Basis
    if has_report(image):
        basis = "report"
    elif usable:
        basis = "annotation"
    elif image["labels"] is not None:
        basis = "labels"
    elif sees_pixels:
        basis = "pixels"
    else:
        return None
    modality = config.modalities[image["modality"]]
    return ImageItem(
        image=image,
        modality=modality,
        patient_side=modality.side == "patient" and image["view"] == "frontal",
        regions=usable,
        labels=None if image["labels"] is None or (judged and basis == "report") else tuple(image["labels"]),
        basis=basis,
        oracle=judged and basis not in ("report", "pixels") and bool(annotated or image["mask_path"]),
    )


def has_report(image: dict[str, Any]) -> bool:
    return bool((image["report"] or "").strip())


def is_no_finding(image: dict[str, Any]) -> bool:
    """The source itself says that there is no finding."""
    return image["labels"] is not None and not image["labels"]
