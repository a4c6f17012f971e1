"""Every plug-in by kind and name. Adding one of ours is one line here; a package of yours declares an entry point.

A plug-in stands here as `module:attribute` and is imported only when it is asked for, so that editing one does not
change what the others depend on. That is also why this file is in no stage's fingerprint (`pipelines.code`): it says
where a plug-in is found, never what it does.
"""

import importlib
import importlib.metadata
import logging
from typing import Any

from pipelines.errors import UserError, one_line

logger = logging.getLogger(__name__)

PLUGINS: dict[str, dict[str, str]] = {
    "sources": {
        "chexpert": "pipelines.ingest.sources.chexpert:Chexpert",
        "class_folders": "pipelines.ingest.sources.class_folders:ClassFolders",
        "coco": "pipelines.ingest.sources.coco:Coco",
        "covid_chestxray": "pipelines.ingest.sources.covid_chestxray:CovidChestXray",
        "dicom": "pipelines.ingest.sources.dicom:DicomFiles",
        "image_mask_folders": "pipelines.ingest.sources.image_mask_folders:ImageMaskFolders",
        "lvit": "pipelines.ingest.sources.lvit:Lvit",
        "mimic_cxr_jpg": "pipelines.ingest.sources.mimic_cxr_jpg:MimicCxrJpg",
        "ms_cxr": "pipelines.ingest.sources.ms_cxr:MsCxr",
        "prompt_json": "pipelines.ingest.sources.prompt_json:PromptJson",
        "rsna_pneumonia": "pipelines.ingest.sources.rsna_pneumonia:RsnaPneumonia",
        "siim_pneumothorax": "pipelines.ingest.sources.siim_pneumothorax:SiimPneumothorax",
        "slake": "pipelines.ingest.sources.slake:Slake",
        "table": "pipelines.ingest.sources.table:TableSource",
        "vqa_rad": "pipelines.ingest.sources.vqa_rad:VqaRad",
    },
    "proposers": {
        "annotations": "pipelines.proposals.proposers.annotations:Annotations",
        "grounding_dino": "pipelines.proposals.proposers.grounding_dino:GroundingDino",
        "mm_grounding_dino": "pipelines.proposals.proposers.mm_grounding_dino:MMGroundingDino",
        "owlv2": "pipelines.proposals.proposers.owlv2:Owlv2",
        "saliency": "pipelines.proposals.proposers.saliency:Saliency",
        "sam3_phrases": "pipelines.proposals.proposers.sam3_phrases:Sam3Phrases",
    },
    "segmenters": {
        "lite_medsam": "pipelines.proposals.segmenters.lite_medsam:LiteMedSam",
        "medsam": "pipelines.proposals.segmenters.medsam:MedSam",
        "sam2": "pipelines.proposals.segmenters.sam2:Sam2",
        "sam3": "pipelines.proposals.segmenters.sam3:Sam3",
        "threshold": "pipelines.proposals.segmenters.threshold:Threshold",
    },
    "captioners": {
        "findings": "pipelines.captions.captioners.findings:Findings",
        "vllm": "pipelines.captions.captioners.vllm.captioner:Vllm",
    },
    "methods": {
        "ariadne": "models.ariadne.model:Ariadne",
        "attention_unet": "models.attention_unet.model:AttentionUNet",
        "clip": "models.clip.model:Clip",
        "convirt": "models.convirt.model:Convirt",
        "gloria": "models.gloria.model:Gloria",
        "lavt": "models.lavt.model:Lavt",
        "lvit": "models.lvit.model:LViT",
        "medklip": "models.medklip.model:Medklip",
        "mgca": "models.mgca.model:Mgca",
        "nnunet": "models.nnunet.model:NnUNet",
        "plan": "models.plan.model:Plan",
        "pretrained": "models.pretrained.model:Pretrained",
        "prior": "models.prior.model:Prior",
        "reclmis": "models.reclmis.model:RecLMIS",
        "regionmed_clip": "models.regionmed_clip.model:RegionMedClip",
        "siglip": "models.siglip.model:Siglip",
        "swin_unetr": "models.swin_unetr.model:SwinUnetr",
        "tmca": "models.tmca.model:Tmca",
        "transunet": "models.transunet.model:TransUNet",
        "unet": "models.unet.model:UNet",
        "unetpp": "models.unetpp.model:UNetPlusPlus",
    },
    "tasks": {
        "detection": "pipelines.evaluate.tasks.detection:Detection",
        "grounding": "pipelines.evaluate.tasks.grounding:Grounding",
        "laterality": "pipelines.evaluate.tasks.laterality:Laterality",
        "phrase_segmentation": "pipelines.evaluate.tasks.phrase_segmentation:PhraseSegmentation",
        "probe": "pipelines.evaluate.tasks.probe:Probe",
        "region_retrieval": "pipelines.evaluate.tasks.region_retrieval:RegionRetrieval",
        "retrieval": "pipelines.evaluate.tasks.retrieval:Retrieval",
        "segmentation": "pipelines.evaluate.tasks.segmentation:Segmentation",
        "vqa": "pipelines.evaluate.tasks.vqa:Vqa",
        "zero_shot": "pipelines.evaluate.tasks.zero_shot:ZeroShot",
    },
}


def names(kind: str) -> dict[str, str]:
    """All plug-ins of a kind: ours and those that installed packages declare under `medregion.<kind>`.

    Raises:
        UserError: Two plug-ins of the kind share a name.
    """
    found = dict(PLUGINS[kind])
    for entry in importlib.metadata.entry_points(group=f"medregion.{kind}"):
        if found.get(entry.name, entry.value) != entry.value:
            raise UserError(
                f"two {kind} are called '{entry.name}' ({found[entry.name]} and {entry.value}): rename or uninstall one"
            )
        found[entry.name] = entry.value
    return found


def module_of(kind: str, name: str) -> str:
    """The module that defines a plug-in, which is not imported.

    Raises:
        UserError: The name is not registered; the message lists those that are.
    """
    return _place(kind, name)[0]


def plugin(kind: str, name: str) -> Any:
    """The class registered under a name.

    Raises:
        UserError: As in `module_of`, or the module of an installed package cannot be imported or lacks the class.
    """
    module, attribute = _place(kind, name)
    if name in PLUGINS[kind]:
        return getattr(importlib.import_module(module), attribute)
    try:
        return getattr(importlib.import_module(module), attribute)
    except (Exception, SystemExit) as error:
        logger.debug("plug-in %s", name, exc_info=True)
        raise UserError(
            f"'{name}' of the {kind}, {module}:{attribute} of an installed package, cannot be loaded: mend or "
            f"uninstall the package ({type(error).__name__}: {one_line(error)})"
        ) from None


def _place(kind: str, name: str) -> tuple[str, str]:
    known = names(kind)
    if name not in known:
        raise UserError(f"'{name}' is not one of the {kind}: choose from {', '.join(sorted(known))}")
    module, _, attribute = known[name].partition(":")
    return module, attribute
