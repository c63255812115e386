"""Which files and folders of a cohort are scans, and where their results go."""

from __future__ import annotations

from pathlib import Path

import pytest

from Testing.Library.segmentation.stand_ins import MAGIC, touch
from ToothTopoSegLib.errors import InputError
from ToothTopoSegLib.segmentation.cases import find_cases


def test_scans_are_found_in_all_folders_and_keep_their_place_in_the_results(cohort: Path, tmp_path: Path) -> None:
    cases = find_cases(cohort, tmp_path / "out")
    assert [(case.scan.name, case.name) for case in cases] == [("a.nii.gz", "a"), ("b.nrrd", "b"), ("c.mha", "c")]
    assert [case.folder for case in cases] == [tmp_path / "out", tmp_path / "out", tmp_path / "out" / "deep"]


def test_label_maps_hidden_files_and_other_files_are_no_scans(cohort: Path, tmp_path: Path) -> None:
    touch(cohort, "a_teeth.nii.gz", "a_labels.nrrd", "a.seg.nrrd", ".d.nii.gz", ".cache/e.nii.gz", "notes.txt")
    assert [case.name for case in find_cases(cohort, tmp_path / "out")] == ["a", "b", "c"]


def test_a_folder_of_dicom_files_and_a_zip_are_one_scan_each(tmp_path: Path) -> None:
    touch(tmp_path / "in", "anna/IM1", "anna/IM2", "berta/1.dcm", "DICOMDIR", content=MAGIC)
    touch(tmp_path / "in", "carl.zip")
    cases = find_cases(tmp_path / "in", tmp_path / "out")
    assert [(case.name, case.scan.is_dir()) for case in cases] == [("carl", False), ("anna", True), ("berta", True)]
    assert {case.folder for case in cases} == {tmp_path / "out"}


def test_a_folder_that_is_a_scan_itself_is_a_batch_of_one(tmp_path: Path) -> None:
    touch(tmp_path / "anna", "IM1", "IM2", content=MAGIC)
    (case,) = find_cases(tmp_path / "anna", tmp_path / "out")
    assert (case.name, case.folder) == ("anna", tmp_path / "out")


def test_results_inside_the_folder_of_scans_are_no_scans(cohort: Path) -> None:
    touch(cohort / "results", "z.nii.gz")
    assert [case.name for case in find_cases(cohort, cohort / "results")] == ["a", "b", "c"]


def test_a_list_names_scans_relative_to_itself_and_allows_remarks(cohort: Path, tmp_path: Path) -> None:
    lines = ["# two of three", "", f"{cohort.name}/b.nrrd", str(cohort / "deep" / "c.mha")]
    (tmp_path / "list.txt").write_text("\ufeff" + "\r\n".join(lines), encoding="utf-8")
    cases = find_cases(tmp_path / "list.txt", tmp_path / "out")
    assert [case.scan for case in cases] == [cohort / "b.nrrd", cohort / "deep" / "c.mha"]
    assert [case.folder for case in cases] == [tmp_path / "out", tmp_path / "out" / "deep"]


@pytest.mark.parametrize(
    ("content", "what"),
    [(b"# nothing\n", "holds no paths"), (bytes([0x1F, 0x8B, 0xFF]), "neither a folder of scans nor a text file")],
    ids=["empty list", "a scan"],
)
def test_what_is_no_list_of_scans_is_refused(tmp_path: Path, content: bytes, what: str) -> None:
    (tmp_path / "list").write_bytes(content)
    with pytest.raises(InputError, match=what):
        find_cases(tmp_path / "list", tmp_path / "out")


def test_a_folder_without_scans_and_a_place_where_nothing_is_are_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(InputError, match="in holds no scans"):
        find_cases(tmp_path / "in", tmp_path / "out")
    with pytest.raises(InputError, match="nowhere"):
        find_cases(tmp_path / "nowhere", tmp_path / "out")


def test_dicom_segmentations_of_an_earlier_run_are_no_scans(cohort: Path, tmp_path: Path) -> None:
    touch(cohort, "earlier/anna_teeth.dcm", content=MAGIC)
    assert [case.name for case in find_cases(cohort, tmp_path / "out")] == ["a", "b", "c"]
