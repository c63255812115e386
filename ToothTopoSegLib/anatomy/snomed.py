"""SNOMED CT codes of the teeth and jaws, and how 3D Slicer writes them on a segment.

In goes a label value (FDI number or jaw), out comes the code, its meaning and Slicer's terminology string. The codes
are those of DICOM PS3.16 CID 4018 (permanent teeth) and CID 4019 (deciduous teeth): one code for each tooth, because a
code shared by two teeth and told apart by a laterality modifier collides on export. The teeth are in none of Slicer's
own terminology lists, therefore :func:`terminology_context` makes one (shipped in ``Resources/Terminologies``).
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ToothTopoSegLib.anatomy import fdi as teeth
from ToothTopoSegLib.anatomy.colours import colour_of

CONTEXT_NAME = "Segmentation category and type - ToothTopoSeg"
REGION_CONTEXT_NAME = "Anatomic codes - DICOM master list"
CONTEXT_SCHEMA = "https://raw.githubusercontent.com/qiicr/dcmqi/master/doc/segment-context-schema.json#"


class Code(NamedTuple):
    """A SNOMED CT concept as DICOM writes it; ``scheme`` is the coding scheme designator."""

    scheme: str
    value: str
    meaning: str


ANATOMICAL_STRUCTURE = Code("SCT", "123037004", "Anatomical Structure")


def code_of(value: int) -> Code:
    """The concept of a tooth or jaw label; ValueError for any other value."""
    if value not in _CODES:
        raise ValueError(f"{value} is neither an FDI tooth number nor a jaw label; expected 11-48, 51-85, 101 or 102")
    return Code("SCT", *_CODES[value])


def label_of_code(scheme: str, value: str) -> int:
    """The tooth or jaw label that a concept stands for; 0 for any other concept."""
    return _LABELS.get(value, 0) if scheme == "SCT" else 0


def context_group(value: int) -> str:
    """The DICOM context group (CID) that lists the concept of this label."""
    if value in teeth.JAWS:
        return "4028"
    return "4019" if teeth.is_deciduous(value) else "4018"


def terminology_entry(value: int) -> str:
    """The terminology string Slicer stores on a segment (vtkSlicerTerminologiesModuleLogic::SerializeTerminologyEntry).

    Seven fields joined by ``~``: context, category, type, type modifier, region context, region, region modifier; a
    concept is ``scheme^value^meaning``.
    """
    fields = (CONTEXT_NAME, "^".join(ANATOMICAL_STRUCTURE), "^".join(code_of(value)), "^^")
    return "~".join((*fields, REGION_CONTEXT_NAME, "^^", "^^"))


def terminology_context() -> dict[str, Any]:
    """The terminology list of all teeth and jaws in the JSON form that Slicer and dcmqi read."""
    values = (*teeth.PERMANENT_NUMERIC, *teeth.DECIDUOUS_NUMERIC, *teeth.JAWS)
    category = {**_coded(ANATOMICAL_STRUCTURE), "showAnatomy": False, "Type": [_context_type(v) for v in values]}
    return {
        "SegmentationCategoryTypeContextName": CONTEXT_NAME,
        "@schema": CONTEXT_SCHEMA,
        "SegmentationCodes": {"Category": [category]},
    }


def _context_type(value: int) -> dict[str, Any]:
    return {
        **_coded(code_of(value)),
        "cid": context_group(value),
        "3dSlicerLabel": teeth.label_name(value),
        "3dSlicerIntegerLabel": value,
        "recommendedDisplayRGBValue": [round(255 * channel) for channel in colour_of(value)],
    }


def _coded(code: Code) -> dict[str, Any]:
    return {"CodingSchemeDesignator": code.scheme, "CodeValue": code.value, "CodeMeaning": code.meaning}


_CODES = {
    11: ("422653006", "Permanent maxillary right central incisor tooth"),
    12: ("424877001", "Permanent maxillary right lateral incisor tooth"),
    13: ("860767006", "Permanent maxillary right canine tooth"),
    14: ("57826002", "Permanent maxillary right first premolar tooth"),
    15: ("36492000", "Permanent maxillary right second premolar tooth"),
    16: ("865995000", "Permanent maxillary right first molar tooth"),
    17: ("863902006", "Permanent maxillary right second molar tooth"),
    18: ("68085002", "Permanent maxillary right third molar tooth"),
    21: ("424399000", "Permanent maxillary left central incisor tooth"),
    22: ("423185002", "Permanent maxillary left lateral incisor tooth"),
    23: ("860780009", "Permanent maxillary left canine tooth"),
    24: ("61897005", "Permanent maxillary left first premolar tooth"),
    25: ("23226009", "Permanent maxillary left second premolar tooth"),
    26: ("865988009", "Permanent maxillary left first molar tooth"),
    27: ("863901004", "Permanent maxillary left second molar tooth"),
    28: ("87704003", "Permanent maxillary left third molar tooth"),
    31: ("425106001", "Mandibular left central incisor tooth"),
    32: ("423331005", "Mandibular left lateral tooth"),
    33: ("860782001", "Mandibular left canine tooth"),
    34: ("2400006", "Mandibular left first premolar tooth"),
    35: ("24573005", "Mandibular left second premolar tooth"),
    36: ("866006002", "Mandibular left first molar tooth"),
    37: ("863898000", "Mandibular left second molar tooth"),
    38: ("74344005", "Mandibular left third molar tooth"),
    41: ("424575004", "Mandibular right central incisor tooth"),
    42: ("423937004", "Mandibular right lateral incisor tooth"),
    43: ("860785004", "Mandibular right canine tooth"),
    44: ("80140008", "Mandibular right first premolar tooth"),
    45: ("8873007", "Mandibular right second premolar tooth"),
    46: ("866005003", "Mandibular right first molar tooth"),
    47: ("863899008", "Mandibular right second molar tooth"),
    48: ("38994002", "Mandibular right third molar tooth"),
    51: ("88824007", "Deciduous maxillary right central incisor tooth"),
    52: ("65624003", "Deciduous maxillary right lateral incisor tooth"),
    53: ("30618001", "Deciduous maxillary right canine tooth"),
    54: ("17505006", "Deciduous maxillary right first molar tooth"),
    55: ("27855007", "Deciduous maxillary right second molar tooth"),
    61: ("51678005", "Deciduous maxillary left central incisor tooth"),
    62: ("43622005", "Deciduous maxillary left lateral incisor tooth"),
    63: ("73937000", "Deciduous maxillary left canine tooth"),
    64: ("45234009", "Deciduous maxillary left first molar tooth"),
    65: ("51943008", "Deciduous maxillary left second molar tooth"),
    71: ("89552004", "Deciduous mandibular left central incisor tooth"),
    72: ("14770005", "Deciduous mandibular left lateral incisor tooth"),
    73: ("43281008", "Deciduous mandibular left canine tooth"),
    74: ("38896004", "Deciduous mandibular left first molar tooth"),
    75: ("49330006", "Deciduous mandibular left second molar tooth"),
    81: ("67834006", "Deciduous mandibular right central incisor tooth"),
    82: ("22445006", "Deciduous mandibular right lateral incisor tooth"),
    83: ("6062009", "Deciduous mandibular right canine tooth"),
    84: ("58646007", "Deciduous mandibular right first molar tooth"),
    85: ("61868007", "Deciduous mandibular right second molar tooth"),
    teeth.LOWER_JAW: ("91609006", "Mandible"),
    teeth.UPPER_JAW: ("70925003", "Maxilla"),
}
_LABELS = {value: label for label, (value, _) in _CODES.items()}
