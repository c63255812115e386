"""DICOM through the doors: segmentations checked, mended, compared and exported, and what is refused."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pydicom
import pytest

from Testing.Library.imaging.dicom_series import write_series
from ToothTopoSegLib import cli
from ToothTopoSegLib.anatomy.snomed import code_of
from ToothTopoSegLib.imaging.dicom_source import read_source
from ToothTopoSegLib.imaging.read import read_label_map, read_scan
from ToothTopoSegLib.imaging.segments import write_teeth


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """A DICOM scan, its teeth (one with a fragment) as NIfTI and as a DICOM segmentation, in a path with an umlaut."""
    place = tmp_path_factory.mktemp("Fälle 歯")
    voxels = np.random.default_rng(0).normal(400, 200, (24, 24, 30)).astype(np.int16)
    write_series(place / "scan", voxels, FrameOfReferenceUID="1.2.3.99")
    labels = np.zeros(voxels.shape, np.uint8)
    labels[4:20, 4:14, 4:12] = 36
    labels[4:20, 4:14, 14:22] = 37
    labels[22, 20, 2] = 36
    write_teeth(read_scan(place / "scan").with_array(labels), place / "labels.nii.gz")
    argv = ["export-dicom", place / "labels.nii.gz", "--source", place / "scan", "-o", place / "out" / "Zähne.dcm"]
    report = place / "report.json"
    assert cli.main(["check", str(place / "labels.nii.gz"), "-o", str(report)]) == 0
    assert cli.main([*map(str, argv), "--report", str(report)]) == 0
    return place


def run(capsys, *argv):
    """Exit code, what was printed as JSON, and the message."""
    code = cli.main([*map(str, argv), "--json"])
    out, err = capsys.readouterr()
    return code, json.loads(out), err


def kinds(report):
    return [(f["kind"], f["teeth"], f["severity"]) for f in report["findings"]]


def test_a_dicom_segmentation_is_checked_as_the_label_map_it_was_made_of(case, capsys):
    code, from_dicom, _ = run(capsys, "check", case / "out" / "Zähne.dcm", "--image", case / "scan")
    assert code == 0
    _, from_nifti, _ = run(capsys, "check", case / "labels.nii.gz", "--image", case / "scan")
    assert kinds(from_dicom) == kinds(from_nifti)
    assert "fragment" in {kind for kind, _, _ in kinds(from_dicom)}
    assert from_dicom["teeth"] == from_nifti["teeth"]


def test_a_dicom_segmentation_is_repaired_into_a_label_map(case, capsys, tmp_path):
    code, report, _ = run(capsys, "repair", case / "out" / "Zähne.dcm", "-o", tmp_path / "fixed.nii.gz")
    assert code == 0
    assert [entry["finding"]["kind"] for entry in report["repairs"]] == ["fragment"]
    assert read_label_map(tmp_path / "fixed.nii.gz").array[22, 20, 2] == 0


def test_a_dicom_segmentation_is_compared_with_a_label_map(case, capsys):
    for pair in (("out/Zähne.dcm", "labels.nii.gz"), ("labels.nii.gz", "out/Zähne.dcm")):
        code, metrics, _ = run(capsys, "evaluate", *(case / name for name in pair))
        assert code == 0
        assert {row["dice"] for row in metrics["teeth"] if row["in_reference"]} == {1.0}


@pytest.mark.parametrize(
    ("tag", "what"), [("StudyInstanceUID", "study"), ("FrameOfReferenceUID", "frame of reference")]
)
def test_a_segmentation_of_another_study_or_frame_of_reference_is_refused(case, capsys, tmp_path, tag, what):
    shutil.copytree(case / "scan", tmp_path / "other")
    for file in (tmp_path / "other").iterdir():
        data = pydicom.dcmread(file)
        setattr(data, tag, "1.2.3.777")
        data.save_as(file)
    code, told, err = run(capsys, "check", case / "out" / "Zähne.dcm", "--image", tmp_path / "other")
    assert code == 4
    assert f"refers to another {what} than other; give the scan" in told["error"]
    assert err.strip().splitlines()[-1] == f"toothtopo: error: {told['error']}"


def test_exported_labels_read_back_the_same_and_are_said_to_be_corrected(case):
    found = read_label_map(case / "out" / "Zähne.dcm")
    assert np.array_equal(found.array, read_label_map(case / "labels.nii.gz").array)
    segments = pydicom.dcmread(case / "out" / "Zähne.dcm").SegmentSequence
    assert {s.SegmentAlgorithmType for s in segments} == {"SEMIAUTOMATIC"}


def test_findings_become_a_structured_report_of_a_group_each(case):
    from highdicom.sr import srread

    report = json.loads((case / "report.json").read_text(encoding="utf-8"))
    document = srread(case / "out" / "Zähne_findings.dcm")
    assert document.StudyInstanceUID == "1.2.3"
    groups = document.content.get_volumetric_roi_measurement_groups()
    assert [group.finding_type.value for group in groups] == [f["kind"] for f in report["findings"]]
    source = read_source(case / "scan")
    for group, finding in zip(groups, report["findings"], strict=True):
        assert [site.value.value for site in group.finding_sites] == [code_of(t).value for t in finding["teeth"]]
        assert group.get_measurements()[0].value == pytest.approx(finding["size_mm3"])
        assert group.tracking_identifier.endswith(finding["evidence"][-20:]) or len(finding["evidence"]) > 190
        assert group.get_qualitative_evaluations()[0].value.value == finding["severity"]
        assert np.ravel(group.roi.graphic_data) == pytest.approx(finding["position_lps_mm"], abs=1e-3)
        assert group.roi.frame_of_reference_uid == source.frame_of_reference


@pytest.mark.parametrize(
    ("changed", "code", "said"),
    [
        ({"--source": "labels.nii.gz"}, 2, "is no DICOM scan"),
        ({"--source": "nowhere"}, 4, "no file or folder"),
        ({"-o": "new/out.nii.gz"}, 2, "end it in .dcm"),
        ({"--report": "labels.nii.gz"}, 4, "is no report that can be read"),
        ({"--report": "nowhere.json"}, 4, "is no report that can be read"),
        ({"-o": "labels.nii.gz/out.dcm"}, 4, "is not a folder"),
    ],
)
def test_what_does_not_fit_is_told_in_one_sentence_and_nothing_is_written(case, capsys, changed, code, said):
    options = {"--source": "scan", "-o": "new/out.dcm"} | changed
    argv = [word for name, value in options.items() for word in (name, case / value)]
    ended, told, _ = run(capsys, "export-dicom", case / "labels.nii.gz", *argv)
    assert ended == code
    assert said in told["error"]
    assert not (case / "new").exists()


def test_labels_of_another_grid_than_the_scan_are_refused(case, capsys, tmp_path):
    labels = read_label_map(case / "labels.nii.gz")
    small = type(labels)(labels.array[:-1], labels.spacing, labels.origin, labels.direction)
    write_teeth(small, tmp_path / "small.nii.gz")
    code, told, _ = run(
        capsys, "export-dicom", tmp_path / "small.nii.gz", "--source", case / "scan", "-o", tmp_path / "a.dcm"
    )
    assert code == 4
    assert "give the scan on which these labels were made" in told["error"]
    assert not (tmp_path / "a.dcm").exists()
