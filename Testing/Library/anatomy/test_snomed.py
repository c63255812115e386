"""SNOMED codes and Slicer's terminology: one code a tooth, the right string, and the shipped list up to date."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from ToothTopoSegLib.anatomy import fdi, snomed

ROOT = Path(__file__).resolve().parents[3]
CONTEXT_FILE = ROOT / "Resources" / "Terminologies" / "SegmentationCategoryTypeModifier-ToothTopoSeg.term.json"


def test_the_codes_are_those_of_the_reference_table(shared_data: Path) -> None:
    with (shared_data.parent / "facts" / "fdi_snomed.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {int(row["fdi"]) for row in rows} == fdi.TEETH
    for row in rows:
        value = int(row["fdi"])
        assert snomed.code_of(value) == (row["scheme"], row["code"], row["meaning"])
        assert snomed.context_group(value) == row["dicom_cid"]


def test_every_tooth_and_jaw_has_a_code_of_its_own() -> None:
    values = (*fdi.TEETH, *fdi.JAWS)
    assert len({snomed.code_of(value).value for value in values}) == len(values)
    assert snomed.code_of(fdi.LOWER_JAW).value == "91609006"
    assert snomed.code_of(fdi.UPPER_JAW).value == "70925003"
    with pytest.raises(ValueError, match="neither an FDI tooth number nor a jaw"):
        snomed.code_of(19)


def test_the_terminology_string_has_slicers_seven_fields() -> None:
    entry = snomed.terminology_entry(36)
    assert entry.split("~") == [
        "Segmentation category and type - ToothTopoSeg",
        "SCT^123037004^Anatomical Structure",
        "SCT^866006002^Mandibular left first molar tooth",
        "^^",
        "Anatomic codes - DICOM master list",
        "^^",
        "^^",
    ]


def test_no_meaning_contains_a_separator_of_the_string_or_of_segment_tags() -> None:
    assert not any(set("~^|") & set(snomed.code_of(value).meaning) for value in (*fdi.TEETH, *fdi.JAWS))


def test_the_shipped_terminology_list_is_the_one_the_code_makes() -> None:
    assert json.loads(CONTEXT_FILE.read_text(encoding="utf-8")) == snomed.terminology_context()


def test_each_entry_is_found_in_the_shipped_list() -> None:
    (category,) = json.loads(CONTEXT_FILE.read_text(encoding="utf-8"))["SegmentationCodes"]["Category"]
    listed = {(t["CodingSchemeDesignator"], t["CodeValue"], t["CodeMeaning"]) for t in category["Type"]}
    for value in (*fdi.TEETH, *fdi.JAWS):
        assert tuple(snomed.terminology_entry(value).split("~")[2].split("^")) in listed
