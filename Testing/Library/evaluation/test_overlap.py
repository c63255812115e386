"""Overlap figures, held against values counted by hand on tiny label maps."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from ToothTopoSegLib.errors import InputError
from ToothTopoSegLib.evaluation.overlap import dice, evaluate_files, evaluate_label_maps
from ToothTopoSegLib.imaging.volume import Volume


def row(*values: int) -> Volume:
    """A label map that is one row of voxels."""
    return Volume(np.array([[values]], dtype=np.uint8))


def test_dice_is_twice_the_common_voxels_over_all_voxels() -> None:
    assert dice(np.array([11, 11, 11, 0]), np.array([0, 11, 11, 11]), 11) == pytest.approx(2 * 2 / 6)


def test_dice_of_a_tooth_absent_in_both_is_nan() -> None:
    assert math.isnan(dice(np.zeros(3), np.zeros(3), 11))


def test_equal_maps_score_one_everywhere() -> None:
    result = evaluate_label_maps(row(11, 11, 21, 0), row(11, 11, 21, 0))
    assert result["mean_tooth_dice"] == 1.0
    assert result["fdi_identification_rate"] == 1.0
    assert result["tooth_vs_rest_dice"] == 1.0
    assert result["detection"]["f1"] == 1.0


def test_a_tooth_absent_in_one_map_counts_zero_and_absent_in_both_not_at_all() -> None:
    result = evaluate_label_maps(row(11, 0, 0), row(11, 0, 48))
    assert {entry["fdi"]: entry["dice"] for entry in result["teeth"]} == {11: 1.0, 48: 0.0}
    assert result["mean_tooth_dice"] == 0.5
    assert "not counted" in result["absence"] and "Dice 0" in result["absence"]


def test_jaws_and_unknown_values_are_no_teeth() -> None:
    result = evaluate_label_maps(row(101, 102, 99, 11), row(0, 0, 19, 11))
    assert [entry["fdi"] for entry in result["teeth"]] == [11]
    assert result["tooth_vs_rest_dice"] == 1.0


def test_deciduous_teeth_count() -> None:
    assert [entry["fdi"] for entry in evaluate_label_maps(row(55), row(85))["teeth"]] == [55, 85]


def test_right_bodies_under_swapped_numbers_are_detected_but_not_identified() -> None:
    result = evaluate_label_maps(row(12, 12, 11, 11, 36), row(11, 11, 12, 12, 36))
    assert result["fdi_identification_rate"] == pytest.approx(1 / 3)
    assert result["detection"]["f1"] == 1.0
    assert result["tooth_vs_rest_dice"] == 1.0
    assert result["mean_tooth_dice"] == pytest.approx(1 / 3)


def test_detection_counts_bodies_from_half_an_intersection_over_union() -> None:
    # 11: 2 of 4 voxels, IoU 0.5, a hit; 21: 1 of 3 voxels, a miss on both sides; 36 is invented.
    prediction = row(11, 11, 0, 0, 21, 0, 0, 36)
    reference = row(11, 11, 11, 11, 21, 21, 21, 0)
    detection = evaluate_label_maps(prediction, reference)["detection"]
    assert (detection["true_positives"], detection["false_positives"], detection["false_negatives"]) == (1, 2, 1)
    assert detection["precision"] == pytest.approx(1 / 3)
    assert detection["recall"] == pytest.approx(1 / 2)
    assert detection["f1"] == pytest.approx(2 / 5)


def test_two_halves_of_one_tooth_match_it_only_once() -> None:
    detection = evaluate_label_maps(row(11, 12), row(11, 11))["detection"]
    assert (detection["true_positives"], detection["false_positives"]) == (1, 1)


def test_tp_dice_is_the_mean_dice_of_matched_bodies_alone_whatever_their_numbers() -> None:
    # 11 is found as 12 with 3 of 4 voxels; 21 is missed, 36 is whole.
    prediction = row(12, 12, 12, 0, 0, 36)
    reference = row(11, 11, 11, 11, 21, 36)
    result = evaluate_label_maps(prediction, reference)
    assert result["detection"]["tp_dice"] == pytest.approx((6 / 7 + 1) / 2)
    assert evaluate_label_maps(row(0, 11), row(11, 0))["detection"]["tp_dice"] is None


def test_iou_is_the_common_voxels_over_those_of_either_map() -> None:
    result = evaluate_label_maps(row(11, 11, 11, 0), row(0, 11, 11, 11))
    assert result["teeth"][0]["iou"] == result["mean_tooth_iou"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("array", "words"),
    [(np.full((1, 1, 2), 11.5), "whole label numbers"), (np.array([[[-1, 11]]], np.int16), "down to -1")],
    ids=["float", "negative"],
)
def test_maps_that_hold_no_labels_are_refused_by_name(array: np.ndarray, words: str) -> None:
    for pair, name in (((Volume(array), row(11, 0)), "prediction"), ((row(11, 0), Volume(array)), "reference")):
        with pytest.raises(InputError, match=f"The {name} .*{words}"):
            evaluate_label_maps(*pair)


def test_a_tooth_nothing_overlaps_is_not_identified() -> None:
    assert evaluate_label_maps(row(0, 11), row(11, 0))["fdi_identification_rate"] == 0.0


def test_two_empty_maps_have_no_figures_rather_than_perfect_ones() -> None:
    result = evaluate_label_maps(row(0, 0), row(0, 0))
    assert result["teeth"] == []
    assert result["mean_tooth_dice"] is None
    assert result["fdi_identification_rate"] is None
    assert result["tooth_vs_rest_dice"] is None
    assert result["detection"]["precision"] is None
    json.dumps(result, allow_nan=False)


def test_figures_do_not_depend_on_how_many_slices_there_are() -> None:
    rng = np.random.default_rng(1)
    a, b = (rng.choice([0, 11, 12, 101], size=(37, 3, 4)).astype(np.uint8) for _ in range(2))
    result = evaluate_label_maps(Volume(a), Volume(b))
    assert {e["fdi"]: e["dice"] for e in result["teeth"]} == pytest.approx({t: dice(a, b, t) for t in (11, 12)})


@pytest.mark.parametrize(
    "other",
    [
        Volume(np.zeros((2, 2, 3), np.uint8)),
        Volume(np.zeros((2, 2, 2), np.uint8), spacing=(1.0, 1.0, 1.2)),
        Volume(np.zeros((2, 2, 2), np.uint8), origin=(0.0, 0.5, 0.0)),
        Volume(np.zeros((2, 2, 2), np.uint8), direction=((-1.0, 0, 0), (0, 1.0, 0), (0, 0, 1.0))),
    ],
    ids=["size", "spacing", "origin", "direction"],
)
def test_maps_on_different_grids_are_refused_in_one_sentence(other: Volume) -> None:
    with pytest.raises(InputError, match="same grid") as raised:
        evaluate_label_maps(other, Volume(np.zeros((2, 2, 2), np.uint8)))
    assert "\n" not in str(raised.value)


def test_rounding_of_a_header_is_not_a_different_grid() -> None:
    a = Volume(np.full((2, 2, 2), 11, np.uint8), spacing=(0.4, 0.4, 0.4))
    b = Volume(a.array, spacing=(0.4000001, 0.4, 0.4), origin=(1e-5, 0.0, 0.0))
    assert evaluate_label_maps(a, b)["mean_tooth_dice"] == 1.0


def test_files_give_the_same_figures_as_their_arrays(tmp_path, full_mouth) -> None:
    import SimpleITK

    _, labels = full_mouth
    shifted = labels.with_array(np.roll(labels.array, 2, axis=2))
    for name, volume in (("prediction", shifted), ("reference", labels)):
        image = SimpleITK.GetImageFromArray(volume.array)
        image.SetSpacing(volume.spacing[::-1])
        image.SetOrigin(volume.origin)
        SimpleITK.WriteImage(image, str(tmp_path / f"{name}.nii.gz"))
    result = evaluate_files(tmp_path / "prediction.nii.gz", tmp_path / "reference.nii.gz")
    assert result == evaluate_label_maps(shifted, labels)
    assert 0.5 < result["mean_tooth_dice"] < 1.0
