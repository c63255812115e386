"""A user's cases: found where people keep them, and refused with one sentence where nothing can be learnt from them."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from Testing.Library.training.user_data import other_side, scan_and_labels, teeth_alone, write_pair, write_scan
from ToothTopoSegLib.errors import Cancelled, InputError
from ToothTopoSegLib.imaging.write import write_label_map
from ToothTopoSegLib.training.user_cases import UserCase, check_cases, find_cases, read_user_case


def checked(folder: Path, name: str = "a", **how):
    write_pair(folder, name, **how)
    (found,) = check_cases(find_cases([folder]))
    return found


# ---- finding


def test_a_folder_gives_every_scan_that_has_labels_in_the_order_of_names(tmp_path):
    for name in ("b", "a"):
        write_pair(tmp_path, name)
    write_scan(scan_and_labels(0)[0], tmp_path / "without labels.nii.gz")
    cases = find_cases([tmp_path])
    assert [case.name for case in cases] == ["a", "b"]
    assert cases[0] == UserCase("a", tmp_path / "a.nii.gz", tmp_path / "a_labels.nii.gz")


def test_labels_in_the_files_that_segment_writes_are_found_too(tmp_path):
    write_pair(tmp_path, "a", ending="_teeth.nii.gz")
    assert find_cases([tmp_path])[0].labels.name == "a_teeth.nii.gz"


def test_a_scan_is_a_case_if_its_labels_lie_beside_it(tmp_path):
    write_pair(tmp_path, "a")
    assert [case.name for case in find_cases([tmp_path / "a.nii.gz"])] == ["a"]


def test_a_case_named_twice_is_one_case(tmp_path):
    write_pair(tmp_path, "a")
    assert len(find_cases([tmp_path, tmp_path / "a.nii.gz"])) == 1


def test_a_source_without_labels_says_what_is_expected(tmp_path):
    write_scan(scan_and_labels(0)[0], tmp_path / "a.nii.gz")
    for source in (tmp_path, tmp_path / "a.nii.gz"):
        with pytest.raises(InputError, match="no labels that belong to a scan; expected are scans NAME"):
            find_cases([source])
    with pytest.raises(InputError, match="no file or folder"):
        find_cases([tmp_path / "nowhere"])


def dataset(folder: Path, labels: dict[str, object], values: dict[int, int]) -> Path:
    """An nnU-Net raw dataset of one case whose FDI numbers are stored as other values."""
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    (folder / "dataset.json").write_text(json.dumps({"channel_names": {"0": "CBCT"}, "labels": labels}))
    scan, truth = scan_and_labels(0)
    table = np.zeros(256, np.uint8)
    table[list(values)] = list(values.values())
    write_scan(scan, folder / "imagesTr" / "c_0000.nii.gz")
    write_label_map(truth.with_array(table[truth.array]), folder / "labelsTr" / "c.nii.gz")
    return folder


def test_the_label_names_of_an_nnunet_dataset_give_the_numbers(tmp_path):
    labels = {"background": 0, "Upper Right First Molar": 1, "tooth_15": 2, "canal": 3, "Lower Jawbone": 4}
    (case,) = find_cases([dataset(tmp_path / "d", labels, {16: 1, 15: 2, 101: 4})])
    assert case.meanings == ((1, 16), (2, 15), (3, 0), (4, 101))
    _, truth = read_user_case(case)
    assert set(np.unique(truth.array)) <= {0, 15, 16, 101} and (truth.array == 16).any()


def test_a_dataset_whose_names_say_nothing_is_read_by_a_known_scheme(tmp_path):
    (case,) = find_cases([dataset(tmp_path / "d", {"background": 0, "a": 15, "b": 16}, {16: 16, 15: 15})])
    assert dict(case.meanings) == {15: 15, 16: 16}


@pytest.mark.parametrize(
    ("labels", "says"),
    [({"background": 0, "bone": 200}, "no teeth that are known"), ({"teeth": [1, 2]}, "regions cannot be learnt")],
)
def test_a_dataset_without_teeth_or_with_regions_is_refused(tmp_path, labels, says):
    with pytest.raises(InputError, match=says):
        find_cases([dataset(tmp_path / "d", labels, {16: 1})])


def test_a_dataset_with_several_channels_is_refused(tmp_path):
    folder = dataset(tmp_path / "d", {"background": 0, "16": 16}, {16: 16})
    write_scan(scan_and_labels(0)[0], folder / "imagesTr" / "c_0001.nii.gz")
    with pytest.raises(InputError, match="2 images"):
        find_cases([folder])


def test_one_image_of_a_dataset_is_a_case_with_the_labels_of_the_dataset(tmp_path):
    folder = dataset(tmp_path / "d", {"background": 0, "tooth_16": 1}, {16: 1})
    for name in ("imagesTr/{}_0000.nii.gz", "labelsTr/{}.nii.gz"):
        shutil.copy(folder / name.format("c"), folder / name.format("d"))
    (case,) = find_cases([folder / "imagesTr" / "d_0000.nii.gz"])
    assert (case.name, case.meanings) == ("d", ((1, 16),))
    assert case in find_cases([folder]) and len(find_cases([folder])) == 2


# ---- checking


def test_good_labels_are_usable_and_say_which_teeth_they_hold(tmp_path):
    found = checked(tmp_path)
    assert found.usable and {11, 16, 46} <= set(found.teeth)
    plain = json.loads(json.dumps(found.as_dict()))
    assert set(plain) == {"name", "scan", "labels", "teeth", "usable", "problems", "warnings", "findings"}
    assert all(set(finding) == {"kind", "severity", "teeth"} for finding in plain["findings"])


def test_teeth_without_jaws_are_usable(tmp_path):
    assert checked(tmp_path, change=teeth_alone).usable


def test_exchanged_sides_are_a_problem(tmp_path):
    found = checked(tmp_path, change=other_side)
    assert not found.usable and "left and right are exchanged" in found.problems[0]


def test_what_is_anatomically_wrong_in_the_labels_is_a_warning(tmp_path):
    def torn(labels):
        out = labels.copy()
        middle = int(np.median(np.argwhere(labels == 16)[:, 0]))
        cut = out[middle : middle + 2]
        cut[cut == 16] = 0
        return out

    found = checked(tmp_path, change=torn)
    assert found.usable and any("The number 16" in text and "two bodies" in text for text in found.warnings)
    assert ("duplicate", (16,)) in {(finding.kind, finding.teeth) for finding in found.findings}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (np.zeros_like, "holds no labels"),
        (lambda labels: np.where(labels == 16, 99, labels).astype(np.uint8), "99, which are no FDI tooth numbers"),
        (lambda labels: np.where(labels > 100, labels, 0).astype(np.uint8), "no permanent tooth"),
    ],
    ids=["empty", "unknown", "jaws alone"],
)
def test_labels_that_cannot_be_learnt_from_are_a_problem_of_one_sentence(tmp_path, change, says):
    found = checked(tmp_path, change=change)
    assert not found.usable and len(found.problems) == 1 and says in found.problems[0]


def test_labels_on_another_grid_are_a_problem(tmp_path):
    write_pair(tmp_path, "a")
    write_label_map(replace(scan_and_labels(0)[1], origin=(5.0, 0.0, 0.0)), tmp_path / "a_labels.nii.gz")
    (found,) = check_cases(find_cases([tmp_path]))
    assert not found.usable and "lie elsewhere than the scan" in found.problems[0]


def test_deciduous_teeth_are_left_out_with_a_warning(tmp_path):
    found = checked(tmp_path, change=lambda labels: np.where(labels == 15, 55, labels).astype(np.uint8))
    assert found.usable and "no class for the deciduous teeth 55" in found.warnings[0]


def test_the_check_can_be_cancelled(tmp_path):
    def cancel(fraction, message):
        raise Cancelled("Cancelled.")

    write_pair(tmp_path, "a")
    with pytest.raises(Cancelled):
        check_cases(find_cases([tmp_path]), cancel)
