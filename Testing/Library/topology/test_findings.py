"""Findings on dentitions with known errors: kind, severity, place, size and the sentence a dentist reads."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations, product

import numpy as np
import pytest

from Testing.Library.topology.drawings import TOOTH_HEIGHT, dentition, place_of, shape_of
from ToothTopoSegLib.anatomy import fdi
from ToothTopoSegLib.imaging.volume import Volume
from ToothTopoSegLib.topology.detect import find_all
from ToothTopoSegLib.topology.findings import KINDS, SEVERITIES, Finding
from ToothTopoSegLib.topology.mouth import Mouth


def _find(labels: Volume) -> list[Finding]:
    return find_all(Mouth(labels))


def _one(labels: Volume) -> Finding:
    (finding,) = _find(labels)
    return finding


def _block(spacing: float = 1.0, value: int = 36, size: int = 10) -> Volume:
    """A cube of one tooth alone, with room around it for loose pieces."""
    labels = np.zeros((30, 30, 30), dtype=np.uint8)
    labels[5 : 5 + size, 5 : 5 + size, 5 : 5 + size] = value
    return Volume(labels, spacing=(spacing,) * 3)


def _of(kind: str, labels: Volume) -> list[Finding]:
    return [finding for finding in _find(labels) if finding.kind == kind]


def test_a_complete_sound_dentition_has_no_findings() -> None:
    assert _find(dentition()) == []


def test_a_hole_of_8_mm3_in_a_tooth_is_an_error_at_its_place() -> None:
    labels = _block()
    labels.array[8:10, 9:11, 10:12] = 0
    (finding,) = _of("cavity", labels)
    assert (finding.severity, finding.teeth, finding.size_mm3) == ("error", (36,), 8.0)
    assert finding.position_lps_mm == (10.5, 9.5, 8.5)
    assert finding.evidence == "Tooth 36 (lower left first molar) has an enclosed hole of 8.0 mm3."


def test_small_holes_of_a_tooth_are_one_warning_with_their_number() -> None:
    labels = _block(spacing=0.4)
    labels.array[7, 7, 7] = 0
    assert _of("cavity", labels)[0].severity == "warning"
    assert _of("cavity", labels)[0].evidence.endswith("has an enclosed hole of 0.064 mm3.")
    labels.array[11, 11, 11:13] = 0
    (finding,) = _of("cavity", labels)
    assert finding.severity == "warning" and finding.size_mm3 == pytest.approx(3 * 0.064)
    assert finding.position_lps_mm == pytest.approx((0.4 * 11.5, 0.4 * 11, 0.4 * 11)), "the place of the largest"
    assert "2 enclosed holes smaller than 1 mm3 (0.19 mm3 together)" in finding.evidence


def test_a_hole_that_another_tooth_fills_is_no_cavity() -> None:
    labels = _block()
    labels.array[8:11, 8:11, 8:11] = 37
    assert _of("cavity", labels) == []
    labels.array[9, 9, 9] = 0
    (finding,) = (f for f in _of("cavity", labels) if f.teeth == (36,))
    assert finding.size_mm3 == 1.0 and finding.position_lps_mm == (9.0, 9.0, 9.0)


def test_a_hole_filled_with_bone_is_a_cavity_too() -> None:
    labels = _block()
    labels.array[8:11, 8:11, 8:11] = fdi.LOWER_JAW
    (finding,) = _of("cavity", labels)
    assert finding.severity == "error" and finding.size_mm3 == 27.0


def test_a_pit_that_opens_to_the_surface_is_no_cavity() -> None:
    labels = _block()
    labels.array[10:20, 9, 9] = 0
    assert _of("cavity", labels) == []


def test_a_loose_piece_is_told_with_its_size_and_distance() -> None:
    labels = _block()
    labels.array[9, 9, 20:22] = 36
    (finding,) = _of("fragment", labels)
    assert (finding.severity, finding.size_mm3, finding.position_lps_mm) == ("warning", 2.0, (20.5, 9.0, 9.0))
    assert finding.evidence == (
        "Tooth 36 (lower left first molar) is in 2 separate pieces; the smaller one (2.0 mm3) lies 6.0 mm away."
    )


def test_a_piece_as_large_as_a_cusp_is_an_error_and_distance_respects_the_spacing() -> None:
    labels = replace(_block(), spacing=(1.0, 1.0, 0.5))
    labels.array[8:12, 8:12, 20:22] = 36
    (finding,) = _of("fragment", labels)
    assert finding.severity == "error" and finding.size_mm3 == 16.0
    assert finding.evidence.endswith("lies 3.0 mm away.")


def test_crumbs_of_a_tooth_are_one_warning() -> None:
    labels = _block(spacing=0.5)
    for x in range(18, 28, 2):
        labels.array[9, 9, x] = 36
    (finding,) = _of("fragment", labels)
    assert finding.severity == "warning" and finding.size_mm3 == pytest.approx(5 * 0.125)
    assert "is in 6 separate pieces; 5 of them are crumbs smaller than 1 mm3" in finding.evidence
    assert finding.evidence.endswith("the nearest 2.0 mm away.")


def test_a_piece_that_touches_at_a_corner_belongs_to_the_tooth() -> None:
    labels = _block()
    labels.array[15, 15, 15] = 36
    assert _of("fragment", labels) == []


def test_one_number_on_two_bodies_of_tooth_size_is_a_duplicate_and_no_fragment() -> None:
    labels = dentition(also={37: 36})
    found = _find(labels)
    assert [(f.kind, f.severity, f.teeth) for f in found] == [
        ("duplicate", "error", (36,)),
        ("missing", "warning", (37,)),
    ]
    assert "two bodies of tooth size (980.0 mm3 and 980.0 mm3)" in found[0].evidence
    assert found[0].size_mm3 == 980.0


@pytest.mark.parametrize("place", [15, 25, 37, 44])
def test_a_duplicate_is_told_by_its_place_which_tooth_it_is(place: int) -> None:
    number = place - 1
    (found,) = (f for f in _find(dentition(also={place: number})) if f.kind == "duplicate")
    assert found.repair == "renumber" and f"this one is tooth {place}" in found.evidence
    middle = np.array(place_of(place)) + (np.array(shape_of(number)) - 1) / 2
    assert np.linalg.norm(np.array(found.position_lps_mm) - middle[::-1]) < 2.0


@pytest.mark.parametrize(("place", "number"), [(43, 83), (14, 54), (14, 14)])
def test_a_duplicate_without_a_partner_on_the_other_side_is_of_the_dentition_that_fits_its_size(
    place: int, number: int
) -> None:
    labels = dentition(absent=(fdi.mirrored(place),), also={place: number})
    borne = place - 2
    labels.array[labels.array == number] = borne
    (found,) = (f for f in _find(labels) if f.kind == "duplicate")
    assert found.repair == "renumber" and f"this one is tooth {number}" in found.evidence


def test_a_duplicate_stays_open_where_the_arch_or_a_free_number_is_not_known() -> None:
    labels = _block()
    labels.array[18:24, 18:24, 18:24] = 36
    (found,) = (f for f in _find(labels) if f.kind == "duplicate")
    assert found.repair is None and "one of them is probably another tooth" in found.evidence


@pytest.mark.parametrize(
    ("second", "kind"), [((4, 4, 4), "duplicate"), ((3, 3, 3), "fragment"), ((5, 5, 1), "fragment")]
)
def test_a_second_body_needs_30_mm3_and_30_percent_of_the_first_to_be_a_tooth(
    second: tuple[int, int, int], kind: str
) -> None:
    labels = _block(size=5)
    labels.array[15 : 15 + second[0], 15 : 15 + second[1], 15 : 15 + second[2]] = 36
    assert len(_of(kind, labels)) == 1
    labels = _block(size=10)
    labels.array[18:22, 18:22, 18:23] = 36
    assert _of("duplicate", labels) == [], "80 of 1000 mm3 is less than 30 %"
    labels.array[18:24, 18:24, 18:24] = 36
    assert len(_of("duplicate", labels)) == 1, "216 mm3 are as much as the smallest teeth have"


def test_a_missing_tooth_between_its_neighbours_is_a_warning_at_its_place() -> None:
    finding = _one(dentition(absent=(36,)))
    assert (finding.kind, finding.severity, finding.teeth, finding.size_mm3) == ("missing", "warning", (36,), 0.0)
    assert finding.repair is None
    true_place = (np.array(place_of(36)) + (np.array(shape_of(36)) - 1) / 2)[::-1]
    assert np.linalg.norm(np.array(finding.position_lps_mm) - true_place) < 2.0
    assert finding.evidence == (
        "Tooth 36 (lower left first molar) was not found although its neighbours 35 and 37 were."
    )


def test_missing_central_incisors_are_warnings_each_with_a_place_of_its_own() -> None:
    found = _find(dentition(absent=(11, 21)))
    assert [(f.severity, f.teeth) for f in found] == [("warning", (11,)), ("warning", (21,))]
    assert found[0].position_lps_mm[0] < found[1].position_lps_mm[0], "the right one lies further to the right"
    assert "teeth on both sides of its place (12 and 22)" in found[0].evidence


@pytest.mark.parametrize("tooth", [18, 28, 38, 48])
def test_a_missing_third_molar_is_an_info(tooth: int) -> None:
    finding = _one(dentition(absent=(tooth,)))
    assert (finding.kind, finding.severity, finding.teeth) == ("missing", "info", (tooth,))
    assert "third molars are often absent" in finding.evidence


def test_teeth_beyond_the_last_one_of_the_row_are_one_info_for_each_end() -> None:
    found = _find(dentition(absent=(16, 17, 18, 26, 27, 28)))
    assert [(f.severity, f.teeth) for f in found] == [("info", (16, 17, 18)), ("info", (26, 27, 28))]
    assert "Teeth 16, 17 and 18 were not found: the row ends at tooth 15" in found[0].evidence


def test_a_jaw_without_teeth_is_one_info() -> None:
    finding = _one(dentition(absent=fdi.UPPER_PERMANENT))
    assert (finding.kind, finding.severity, finding.teeth) == ("missing", "info", fdi.UPPER_PERMANENT)
    assert finding.evidence.startswith("No tooth of the upper jaw was found")


def test_a_scan_without_teeth_is_said_to_have_none() -> None:
    empty = Volume(np.zeros((11, 21, 31), dtype=np.uint8), spacing=(0.5, 0.5, 0.5))
    finding = _one(empty)
    assert (finding.kind, finding.severity, finding.teeth) == ("missing", "info", ())
    assert finding.evidence == "No tooth was found in this scan."
    assert finding.position_lps_mm == (7.5, 5.0, 2.5)
    empty.array[2:5, 2:5, 2:5] = fdi.LOWER_JAW
    assert _one(empty).evidence == "No tooth was found in this scan."


def test_a_deciduous_tooth_fills_the_place_of_its_successor() -> None:
    assert _find(dentition(also={13: 53, 35: 75})) == []
    finding = _one(dentition(also={13: 53}, absent=(14,)))
    assert finding.teeth == (14,) and "its neighbours 15 and 53 were" in finding.evidence


def test_a_tooth_whose_place_is_cut_off_by_the_view_is_an_info_only() -> None:
    whole = dentition()
    front = whole.array[:, place_of(13)[1] + 2 :, :]
    cut = Volume(front.copy())
    found = _find(cut)
    assert found and all(f.severity == "info" for f in found), found
    assert all("edge of the scan" in f.evidence for f in found)


def test_teeth_whose_root_tips_are_cut_off_still_show_a_gap_between_them() -> None:
    whole = dentition(absent=(14,))
    cut = Volume(whole.array[: place_of(14)[0] + TOOTH_HEIGHT - 1].copy())
    finding = _one(cut)
    assert (finding.teeth, finding.severity) == ((14,), "warning")


def test_findings_are_the_same_whatever_the_orientation_of_the_array() -> None:
    labels = dentition(absent=(36, 18))
    labels.array[tuple(np.add(place_of(21), (3, 1, 1)))] = 0
    labels.array[2, 2, 2:4] = 13
    expected = _find(labels)
    assert {f.kind for f in expected} == {"missing", "cavity", "fragment"}
    for axes, flips in product(permutations(range(3)), product((False, True), repeat=3)):
        found = _find(_reoriented(labels, axes, flips))
        assert [replace(f, position_lps_mm=(0, 0, 0)) for f in found] == [
            replace(f, position_lps_mm=(0, 0, 0)) for f in expected
        ]
        assert np.allclose([f.position_lps_mm for f in found], [f.position_lps_mm for f in expected])


def _reoriented(volume: Volume, axes: tuple[int, ...], flips: tuple[bool, ...]) -> Volume:
    """The same world with other array axes: transposed, then flipped."""
    array = volume.array.transpose(axes)
    directions = np.eye(3)[[2 - a for a in axes]]
    first = np.zeros(3)
    for axis, flip in enumerate(flips):
        if flip:
            array = np.flip(array, axis)
            first += directions[axis] * (array.shape[axis] - 1)
            directions[axis] *= -1
    columns = directions[::-1].T
    return Volume(array, origin=tuple(first), direction=tuple(map(tuple, columns)))


def test_places_follow_an_oblique_direction_and_an_offset_origin() -> None:
    turn = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]])
    labels = _block(spacing=0.5)
    labels.array[8, 9, 10] = 0
    turned = replace(labels, origin=(7.0, -3.0, 40.0), direction=tuple(map(tuple, turn)))
    expected = turn @ np.array([10, 9, 8]) * 0.5 + (7.0, -3.0, 40.0)
    assert _of("cavity", turned)[0].position_lps_mm == pytest.approx(tuple(expected))


def test_findings_are_numbered_errors_first() -> None:
    labels = dentition(absent=(36, 18), also={44: 43})
    labels.array[tuple(np.add(place_of(21), (3, 1, 1)))] = 0
    found = _find(labels)
    assert [f.id for f in found] == list(range(1, len(found) + 1))
    ranks = [SEVERITIES.index(f.severity) for f in found]
    assert ranks == sorted(ranks) and set(ranks) == {0, 1, 2}
    assert all(f.kind in KINDS and f.evidence.endswith(".") for f in found)
