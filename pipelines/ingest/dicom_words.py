"""What the words and codes of a DICOM header mean here, and which objects are no pictures.

Sources: PS3.3 C.7.3.1.1.1 (Modality), C.8.1.1 and C.8.11.5 (ViewPosition), PS3.16 CID 4010 and 4014 (views) and Annex L
(BodyPartExamined), PS3.4 B.5 (SOP classes).
"""

from pydicom.uid import UID

from pipelines.errors import Rejected
from pipelines.formats.dicom_header import DicomHeader
from pipelines.ingest.record import view_of

DIRECTORY = "1.2.840.10008.1.3.10"  # DICOMDIR
_STORAGE = "1.2.840.10008.5.1.4.1.1."
# Below `_STORAGE`; a number with a full stop stands for all that begin so.
_NO_PICTURES = (
    *("9", "9.", "88.", "104.", "90.1", "91.1"),  # waveforms, structured reports, documents, annotations
    *("131", "200.", "201."),  # displays, protocols, inventories
    *("8", "10", "11", "11.", "129"),  # presentation states, and what preceded them
    *("66", "66.", "67", "68."),  # raw data, registrations, segmentations, value mappings, surfaces
    *("4.2", "77.1.5.3", "77.1.5.8", "78.", "79.1", "80.1"),  # spectra, and measurements of eyes
    *(f"481.{number}" for number in range(2, 26) if number not in (23, 24)),  # radiotherapy but for its images
)
# Templates, palettes, hanging protocols and delivery instructions.
_NO_PICTURES_ELSEWHERE = tuple(f"1.2.840.10008.5.1.4.{number}." for number in (34, 38, 39, 43, 44, 45))

# Modality -> `pipelines.records.MODALITIES`. Those of X-rays through the body on one plane are radiographs.
MODALITY_WORDS = {
    **dict.fromkeys(("CR", "DX", "RG", "MG", "PX", "IO", "XA", "RF", "RTIMAGE", "DR", "XRAY"), "radiograph"),
    **dict.fromkeys(("CT",), "ct"),
    **dict.fromkeys(("MR", "MA", "MS"), "mri"),
    **dict.fromkeys(("US", "IVUS", "BDUS", "DD", "CD"), "ultrasound"),
    **dict.fromkeys(("ES", "CP", "LP"), "endoscopy"),
    **dict.fromkeys(("DMS",), "dermatology"),
    **dict.fromkeys(("OP", "FA", "FS"), "fundus"),
    **dict.fromkeys(("SM", "GM"), "pathology"),
    **dict.fromkeys(("NM", "PT", "ST", "OT", "SC", "XC", "OCT", "OPT", "OPTENF", "IVOCT", "OSS", "DG", "TG"), "other"),
    **dict.fromkeys(("BI", "BMD", "CFM", "LEN", "LS", "OPM", "PA", "POS", "VF", "HC"), "other"),
}

# ViewPosition, beside what `view_of` knows; obliques and decubitus views are neither frontal nor lateral.
_VIEW_POSITIONS = {"AP", "PA", "LL", "RL", "RLD", "LLD", "RLO", "LLO", "CC", "MLO", "ML", "LM", "LATERAL"}
# ViewCodeSequence, in SNOMED CT and its older spelling (SRT) -> ViewPosition's word.
_VIEW_CODES = {
    **dict.fromkeys(("399348003", "R-10206"), "AP"),
    **dict.fromkeys(("272479007", "R-40888", "R-10214"), "PA"),
    **dict.fromkeys(("399173006", "R-10236"), "LL"),
    **dict.fromkeys(("399198007", "R-10232"), "RL"),
    **dict.fromkeys(("399067008", "R-102CD"), "LATERAL"),
    **dict.fromkeys(("399162004", "R-10242"), "CC"),
    **dict.fromkeys(("399368009", "R-10226"), "MLO"),
    **dict.fromkeys(("399260004", "R-10224"), "ML"),
    **dict.fromkeys(("399352003", "R-10228"), "LM"),
}
_LATERALITIES = {"L": "left", "R": "right", "B": "both"}
# What stands in no such list may be anything, a name too.
_BODY_PART_TERMS = """
    ABDOMEN ABDOMENPELVIS ADRENAL ANKLE AORTA ARM AXILLA BACK BLADDER BRAIN BREAST BRONCHUS BUTTOCK CALCANEUS CALF
    CAROTID CEREBELLUM CERVIX CHEEK CHEST CHESTABDOMEN CHESTABDPELVIS CIRCLEOFWILLIS CLAVICLE COCCYX COLON CORNEA
    CORONARYARTERY CSPINE CTSPINE DUODENUM EAR ELBOW ESOPHAGUS EXTREMITY EYE EYELID FACE FEMUR FIBULA FINGER FOOT
    FOREARM GALLBLADDER HAND HEAD HEADNECK HEART HIP HUMERUS ILEUM ILIUM IAC JAW JEJUNUM KIDNEY KNEE LARYNX LEG LIVER
    LSPINE LSSPINE LUNG MANDIBLE MAXILLA MEDIASTINUM MOUTH NECK NECKCHEST NECKCHESTABDOMEN NECKCHESTABDPELV NOSE ORBIT
    OVARY PANCREAS PARATHYROID PAROTID PATELLA PELVIS PENIS PHARYNX PROSTATE RADIUS RADIUSULNA RECTUM RIB SACRUM SCALP
    SCAPULA SCLERA SCROTUM SELLA SHOULDER SIJOINT SKULL SPINE SPLEEN SSPINE STERNUM STOMACH SUBMANDIBULAR TESTIS THIGH
    THUMB THYMUS THYROID TIBIA TIBIAFIBULA TLSPINE TMJ TOE TONGUE TRACHEA TSPINE ULNA URETER URETHRA UTERUS VAGINA VULVA
    WHOLEBODY WRIST ZYGOMA
"""
_BODY_PARTS = frozenset(_BODY_PART_TERMS.split())


def is_picture(sop_class: str | None) -> bool:
    """Whether objects of a SOP class are pictures of a patient; one that is not known may be.

    RT dose and segmentations have pixels and are no pictures; all others that are none have no pixels either.
    """
    uid = sop_class or ""
    below = uid.removeprefix(_STORAGE)
    named = below != uid and any(below.startswith(one) if one.endswith(".") else below == one for one in _NO_PICTURES)
    return not named and not uid.startswith(_NO_PICTURES_ELSEWHERE)


def sop_class_name(sop_class: str | None) -> str:
    """The standard's name of a SOP class; one that it does not have may be anything, so it is not repeated."""
    name = UID(sop_class or "").name
    return name if sop_class and name != sop_class else "of a SOP class that is not in the standard"


def view_position(header: DicomHeader) -> str | None:
    """The projection as ViewPosition says it; None where nobody said or the word is not in the standard."""
    word = (header.view_position or "").upper().strip()
    return word if word in _VIEW_POSITIONS else _VIEW_CODES.get(header.view_code or "")


def view_word(header: DicomHeader) -> str | None:
    """Frontal or lateral; None for what is neither, or is not known."""
    for word in (header.view_position, view_position(header)):
        try:
            if view := view_of(word):
                return view
        except Rejected:  # an oblique view, a view of a breast, a word that is not in the standard
            continue
    return None


def attributes(header: DicomHeader) -> dict[str, str]:
    """What a header says of the image beside findings: only words of the standard, which identify nobody."""
    words = {
        "body part": (header.body_part or "").upper().replace(" ", ""),
        "laterality": _LATERALITIES.get((header.laterality or "").upper()),
        "view position": view_position(header),
    }
    if words["body part"] not in _BODY_PARTS:
        words["body part"] = None
    return {name: word.lower() for name, word in words.items() if word}
