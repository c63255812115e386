"""The whole evaluation of two label maps: rows, means, what absence does, files, schemes, and the table."""

from __future__ import annotations

import json
from itertools import permutations, product
from pathlib import Path

import numpy as np
import pytest

from ToothTopoSegLib.anatomy import schemes
from ToothTopoSegLib.errors import InputError, UsageError
from ToothTopoSegLib.evaluation import overlap
from ToothTopoSegLib.evaluation.evaluate import evaluate_files, evaluate_label_maps, table, topology_summary
from ToothTopoSegLib.imaging.volume import Volume

SPACING = (0.5, 0.4, 0.3)


def reference() -> Volume:
    """Four bricks in a row, a gap between each two, and a jaw."""
    labels = np.zeros((10, 12, 40), dtype=np.uint8)
    for place, tooth in enumerate((12, 11, 21, 22)):
        labels[2:8, 2:9, 2 + 9 * place : 8 + 9 * place] = tooth
    labels[:, -1] = 102
    return Volume(labels, SPACING)


def prediction() -> Volume:
    """12 is missed, 11 hollow with a crumb, 21 a plane too short, 22 joined to 11 by a bridge; 46 invented."""
    labels = reference().array.copy()
    labels[labels == 12] = 0
    labels[4, 5, 13] = 0
    labels[0, 0, 20] = 11
    labels[:, :, 25] = 0
    labels[9, 3:5, 2:4] = 46
    labels[3, 9, 16:31] = 22
    return Volume(labels, SPACING)


@pytest.fixture(scope="module")
def metrics() -> dict:
    return evaluate_label_maps(prediction(), reference())


def row(metrics: dict, tooth: int) -> dict:
    return next(entry for entry in metrics["teeth"] if entry["fdi"] == tooth)


def test_every_tooth_of_either_map_has_a_row(metrics: dict) -> None:
    assert [entry["fdi"] for entry in metrics["teeth"]] == [11, 12, 21, 22, 46]


def test_the_overlap_figures_are_those_of_the_overlap_alone(metrics: dict) -> None:
    alone = overlap.evaluate_label_maps(prediction(), reference())
    for key, value in alone.items():
        if key != "teeth":
            assert metrics[key] == value
    for ours, theirs in zip(metrics["teeth"], alone["teeth"], strict=True):
        assert theirs.items() <= ours.items()


def test_a_hollow_tooth_with_a_crumb_has_two_topological_errors(metrics: dict) -> None:
    found = row(metrics, 11)
    assert (found["betti_prediction"], found["betti_reference"]) == ([2, 0, 1], [1, 0, 0])
    assert [found[f"b{i}_error"] for i in range(3)] == [1, 0, 1]
    assert found["euler_error"] == found["betti_matching_error"] == 2
    assert found["topological_error"]


def test_a_tooth_cut_short_is_no_topological_error_and_its_distance_is_the_missing_plane(metrics: dict) -> None:
    found = row(metrics, 21)
    assert not found["topological_error"] and found["betti_matching_error"] == 0
    assert found["hd95_mm"] == pytest.approx(SPACING[2])
    assert found["nsd"] == 1.0


def test_a_tooth_in_one_map_alone_has_no_distance_nsd_0_and_its_features_as_errors(metrics: dict) -> None:
    for tooth in (12, 46):
        found = row(metrics, tooth)
        assert found["hd95_mm"] is None and found["assd_mm"] is None and found["nsd"] == 0.0
        assert found["b0_error"] == found["betti_matching_error"] == 1
    distances = [entry["hd95_mm"] for entry in metrics["teeth"] if entry["hd95_mm"] is not None]
    assert metrics["surface"]["teeth_in_both"] == len(distances) == 3
    assert metrics["surface"]["mean_hd95_mm"] == pytest.approx(np.mean(distances))


def test_shares_are_given_over_all_teeth_over_those_in_both_maps_and_over_scans(metrics: dict) -> None:
    topology = metrics["topology"]
    assert (topology["teeth"]["counted"], topology["teeth_in_both"]["counted"]) == (5, 3)
    assert topology["teeth"]["share_with_error"] == pytest.approx(3 / 5)
    assert topology["teeth_in_both"]["share_with_error"] == pytest.approx(1 / 3)
    assert topology["teeth_in_both"]["mean_b2_error"] == pytest.approx(1 / 3)
    assert topology["scans"] == {"counted": 1, "share_with_error": 1.0, "share_with_error_in_both": 1.0}


def test_several_scans_are_summed_up_over_their_teeth_and_over_scans(metrics: dict) -> None:
    perfect = evaluate_label_maps(reference(), reference())
    summary = topology_summary([metrics["teeth"], perfect["teeth"]])
    assert summary["teeth"]["counted"] == 9
    assert summary["teeth"]["share_with_error"] == pytest.approx(3 / 9)
    assert summary["scans"] == {"counted": 2, "share_with_error": 0.5, "share_with_error_in_both": 0.5}


def test_a_contact_no_mouth_has_counts_where_the_reference_lacks_it(metrics: dict) -> None:
    contacts = metrics["contacts"]
    assert contacts["only_in_prediction"] == [[11, 22]] and contacts["forbidden"] == 1
    assert evaluate_label_maps(prediction(), prediction())["contacts"]["forbidden"] == 0


def test_each_group_says_how_absence_is_counted(metrics: dict) -> None:
    assert "Dice 0" in metrics["absence"]
    assert "no HD95" in metrics["surface"]["absence"] and "NSD 0" in metrics["surface"]["absence"]
    assert "missed or invented" in metrics["topology"]["absence"]
    assert "absent tooth" in metrics["contacts"]["absence"]


def test_the_result_is_json_with_a_schema(metrics: dict) -> None:
    assert metrics["schema"] == "toothtoposeg.metrics/1"
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics


def test_equal_maps_are_perfect(metrics: dict) -> None:
    perfect = evaluate_label_maps(reference(), reference())
    assert perfect["surface"]["mean_hd95_mm"] == perfect["surface"]["mean_assd_mm"] == 0.0
    assert perfect["surface"]["mean_nsd"] == perfect["mean_tooth_iou"] == perfect["detection"]["tp_dice"] == 1.0
    assert perfect["topology"]["teeth"]["share_unmatched"] == perfect["topology"]["scans"]["share_with_error"] == 0.0


def test_maps_without_teeth_have_no_means_rather_than_perfect_ones() -> None:
    empty = Volume(np.zeros((4, 4, 4), dtype=np.uint8))
    result = evaluate_label_maps(empty, empty)
    assert result["surface"]["mean_hd95_mm"] is None and result["surface"]["mean_nsd"] is None
    assert result["topology"]["teeth"]["share_with_error"] is None
    assert "-" in table(result)
    json.dumps(result, allow_nan=False)


@pytest.mark.parametrize("order", list(permutations(range(3))), ids=str)
def test_the_figures_are_the_same_however_the_grid_lies(order: tuple[int, ...], metrics: dict) -> None:
    for flips in product((1, -1), repeat=3):
        turned = []
        for labels in (prediction(), reference()):
            array = labels.array.transpose(order)[tuple(slice(None, None, flip) for flip in flips)]
            turned.append(Volume(np.ascontiguousarray(array), tuple(SPACING[axis] for axis in order)))
        result = evaluate_label_maps(*turned)
        assert result["contacts"] == metrics["contacts"] and result["topology"] == metrics["topology"]
        for ours, theirs in zip(result["teeth"], metrics["teeth"], strict=True):
            for key, value in theirs.items():
                assert ours[key] == (pytest.approx(value) if isinstance(value, float) else value)


def test_connectivity_6_parts_what_touches_at_a_corner() -> None:
    labels = np.zeros((6, 6, 6), dtype=np.uint8)
    labels[1:3, 1:3, 1:3] = labels[3:5, 3:5, 3:5] = 11
    whole = np.where(labels.any(), 11, 0) * np.ones_like(labels)
    counts = [
        evaluate_label_maps(Volume(labels), Volume(whole), connectivity=c)["teeth"][0]["b0_error"] for c in (26, 6)
    ]
    assert counts == [0, 1]


def test_the_table_has_a_line_a_tooth_and_says_what_was_missed(metrics: dict) -> None:
    lines = table(metrics).splitlines()
    columns = ("tooth", "Dice", "IoU", "HD95", "ASSD", "NSD", "Betti", "Euler")
    assert all(column in lines[0] for column in columns)
    assert lines[2].split()[0] == "12" and lines[2].endswith("missed")
    assert lines[5].endswith("not in the reference")
    assert any("TP-Dice" in line for line in lines) and any("11-22" in line for line in lines)
    assert sum(line.startswith("absence") for line in lines) == 4


def write(folder: Path, name: str, volume: Volume) -> Path:
    import SimpleITK

    image = SimpleITK.GetImageFromArray(volume.array)
    image.SetSpacing(volume.spacing[::-1])
    SimpleITK.WriteImage(image, str(folder / name))
    return folder / name


def test_files_give_the_figures_of_their_arrays(tmp_path: Path, metrics: dict) -> None:
    files = write(tmp_path, "p.nii.gz", prediction()), write(tmp_path, "r.nii.gz", reference())
    result = evaluate_files(*files)
    assert [r["dice"] for r in result["teeth"]] == [r["dice"] for r in metrics["teeth"]]
    assert result["input"]["prediction"] == "p.nii.gz" and result["input"]["shape_zyx"] == [10, 12, 40]
    assert set(result["timing_s"]) == {"read", "evaluate"} and result["peak_rss_mb"] > 0


def test_teeth_of_files_can_be_joined_by_faces_alone(tmp_path: Path) -> None:
    corner = np.zeros((8, 8, 8), np.uint8)
    corner[1:4, 1:4, 1:4] = corner[4:7, 4:7, 4:7] = 11
    file = write(tmp_path, "corner.nii.gz", Volume(corner, SPACING))
    pieces = {n: evaluate_files(file, file, connectivity=n)["teeth"][0]["betti_reference"][0] for n in (26, 6)}
    assert pieces == {26: 1, 6: 2}


def test_each_file_may_have_its_own_scheme(tmp_path: Path, metrics: dict) -> None:
    theirs = reference().array
    theirs = schemes.from_fdi(np.where(theirs == 102, 0, theirs), "universal")
    files = write(tmp_path, "p.nii.gz", prediction()), write(tmp_path, "r.nii.gz", Volume(theirs, SPACING))
    result = evaluate_files(*files, reference_scheme="universal")
    assert [r["dice"] for r in result["teeth"]] == [r["dice"] for r in metrics["teeth"]]
    with pytest.raises(InputError, match="--reference-scheme universal"):
        evaluate_files(*files)
    with pytest.raises(UsageError, match="no label scheme 'nonsense'"):
        evaluate_files(*files, scheme="nonsense")


def test_an_empty_prediction_misses_everything_and_an_empty_reference_is_refused(tmp_path: Path) -> None:
    empty = write(tmp_path, "empty.nii.gz", reference().with_array(np.zeros_like(reference().array)))
    full = write(tmp_path, "full.nii.gz", reference())
    result = evaluate_files(empty, full)
    assert result["detection"]["recall"] == 0.0 and result["surface"]["mean_hd95_mm"] is None
    with pytest.raises(InputError, match=r"empty\.nii\.gz holds no labels"):
        evaluate_files(full, empty)


@pytest.mark.parametrize(
    "array",
    [np.full((3, 3, 3), 11.5, np.float32), np.full((3, 3, 3), -3, np.int16), np.full((3, 3, 3), 99, np.uint8)],
    ids=["float", "negative", "no FDI numbers"],
)
def test_unusable_files_are_refused_in_one_sentence(array: np.ndarray, tmp_path: Path) -> None:
    good = write(tmp_path, "good.nii.gz", Volume(np.full((3, 3, 3), 11, np.uint8)))
    bad = write(tmp_path, "bad.nii.gz", Volume(array))
    for pair in ((good, bad), (bad, good)):
        with pytest.raises(InputError) as raised:
            evaluate_files(*pair)
        assert "bad.nii.gz" in str(raised.value) and "\n" not in str(raised.value)
