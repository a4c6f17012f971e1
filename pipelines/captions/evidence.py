"""What may be said of an item: which evidence there is, and which of it a captioner may use.

- Training images: report, labels and annotated regions.
- Validation and test images: report and labels. Their annotated regions count only where there is neither, and such a
  text is marked `oracle`; so is one from labels alone where the image is annotated, for many sources derive the labels
  from the masks. Nothing of a row that is not `oracle` depends on annotations.
- Proposed regions are described each on its own, by measured geometry. No text about the image mentions them: the
  source does not say that they show what the labels name.
- An image without report, labels and annotated regions is `unannotated`, unless the captioner sees the pixels. Its
  basis is then `pixels`, also on validation and test images with annotations and nothing else: it needs no oracle.
- A model is given the labels of a validation or test image only where these are all that is known: beside a report or
  a proposed region they would carry into a row that is not `oracle` what many sources derive from the masks.
- labels == (): the source says that there is no finding. Its proposed regions are then `no_finding`; regions that the
  source itself named (anatomy) keep their captions.
"""

from pipelines.captions.config import CaptionsConfig, Modality
from pipelines.captions.geometry import measure
from pipelines.captions.protocols import ImageItem, RegionItem
from pipelines.records import ANNOTATIONS_PROPOSER, Basis, RegionRow, SplitImageRow


def region_items(image: SplitImageRow, regions: list[RegionRow], config: CaptionsConfig) -> list[RegionItem]:
    """One item for each accepted region.

    Args:
        image: The image.
        regions: Its accepted regions, in the order of `n`.
        config: Modalities and sizes.
    """
    modality = config.modalities[image.modality]
    patient_side = names_patient_side(image, modality)
    return [
        RegionItem(
            region_id=region.region_id,
            image=image,
            modality=modality,
            patient_side=patient_side,
            box=region.box,
            mask=region.mask,
            label=region.label,
            labels=image.labels or () if image.split == "train" else (),
            adjective=region.adjective,
            phrase=region.phrase,
            geometry=measure(region, image.width, image.height, patient_side, config.sizes),
            basis="annotation" if region.proposer == ANNOTATIONS_PROPOSER else "proposal",
            oracle=image.split != "train" and region.proposer == ANNOTATIONS_PROPOSER,
        )
        for region in regions
    ]


def image_item(
    image: SplitImageRow, regions: list[RegionItem], config: CaptionsConfig, sees_pixels: bool
) -> ImageItem | None:
    """The image with what may be said of it, or None where there is no evidence that the captioner may use."""
    annotated = tuple(region for region in regions if region.basis == "annotation")
    held_out = image.split != "train"
    described = has_report(image) or image.labels is not None
    usable = annotated if not held_out or not (described or sees_pixels) else ()
    basis: Basis
    if has_report(image):
        basis = "report"
    elif usable:
        basis = "annotation"
    elif image.labels is not None:
        basis = "labels"
    elif sees_pixels:
        basis = "pixels"
    else:
        return None
    modality = config.modalities[image.modality]
    return ImageItem(
        image=image,
        modality=modality,
        patient_side=names_patient_side(image, modality),
        regions=usable,
        labels=None if held_out and basis == "report" else image.labels,
        basis=basis,
        oracle=held_out and basis not in ("report", "pixels") and bool(annotated or image.mask_path),
    )


def names_patient_side(image: SplitImageRow, modality: Modality) -> bool:
    """Whether left and right are the patient's: as in the source's own texts, else as in the modality's convention."""
    if image.sides is not None:
        return image.sides == "patient"
    return modality.side == "patient" and image.view == "frontal"


def has_report(image: SplitImageRow) -> bool:
    return bool((image.report or "").strip())


def is_no_finding(image: SplitImageRow) -> bool:
    """The source itself says that there is no finding."""
    return image.labels == ()
