"""Swapped and mirrored teeth on drawn dentitions and phantoms: what is wrong is named, what is right is left alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from Testing.Library.topology.drawings import dentition
from Testing.Library.topology.test_arch import FULL, TILTS, drawn, phantom_labels, renamed, turned
from ToothTopoSegLib.anatomy import fdi
from ToothTopoSegLib.imaging.volume import Volume
from ToothTopoSegLib.topology.detect.order import find_mirrored, find_swaps, renumbering
from ToothTopoSegLib.topology.findings import Finding
from ToothTopoSegLib.topology.mouth import Mouth

PAIRS = [pair for upper in (True, False) for pair in pairwise(f for f in fdi.arch_order(upper) if f in FULL)]
BESIDE = [pair for pair in PAIRS if fdi.quadrant(pair[0]) == fdi.quadrant(pair[1])]


@pytest.fixture(scope="module")
def full() -> Volume:
    return drawn()


@pytest.fixture(scope="module", params=[301, 310])
def phantom(request: pytest.FixtureRequest) -> Volume:
    return phantom_labels(request.param)


def _find(labels: Volume) -> list[Finding]:
    mouth = Mouth(labels)
    return find_swaps(mouth) + find_mirrored(mouth)


def _one(labels: Volume, kind: str) -> Finding:
    found = _find(labels)
    assert [finding.kind for finding in found] == [kind]
    assert found[0].severity == "error"
    return found[0]


def _exchanged(first: int, second: int) -> dict[int, int]:
    return {first: second, second: first}


def _mended(labels: Volume) -> Volume:
    """All right numbers written where they belong."""
    mouth = Mouth(labels)
    array = labels.array.copy()
    for finding in find_swaps(mouth) + find_mirrored(mouth):
        for body, number in renumbering(mouth, finding):
            array[body.box][body.mask] = number
    return labels.with_array(array)


def test_clean_drawings_have_no_findings(full: Volume) -> None:
    assert _find(full) == []
    assert _find(dentition()) == []


def test_clean_phantoms_have_no_findings(phantom: Volume) -> None:
    assert _find(phantom) == []


@pytest.mark.parametrize("degrees", TILTS)
def test_tilted_clean_heads_have_no_findings(full: Volume, degrees: tuple[float, float, float]) -> None:
    assert _find(turned(full, degrees)) == []


@pytest.mark.parametrize(
    "absent", [(11,), (11, 21), (12, 22), (31, 41), (31, 32, 41, 42), (11, 12, 21, 22), (13, 14), (46, 36)]
)
def test_missing_teeth_are_no_error_of_order(absent: tuple[int, ...]) -> None:
    assert _find(drawn(tuple(f for f in FULL if f not in absent))) == []


@pytest.mark.parametrize(("quadrant", "degrees"), [(1, TILTS[0]), (2, TILTS[5]), (3, TILTS[7]), (4, TILTS[6])])
def test_one_quadrant_is_no_error_of_order(quadrant: int, degrees: tuple[float, float, float]) -> None:
    whole = tuple(f for f in FULL if fdi.quadrant(f) == quadrant)
    assert _find(turned(drawn(whole), degrees)) == []
    assert _find(turned(drawn(whole[:4]), degrees)) == []


@pytest.mark.parametrize("degrees", TILTS[::3])
def test_deciduous_teeth_are_no_error_of_order(degrees: tuple[float, float, float]) -> None:
    assert _find(turned(drawn(fdi.DECIDUOUS), degrees)) == []


MIXED = tuple(q * 10 + p for q in (1, 2, 3, 4) for p in (1, 2, 6)) + tuple(
    q * 10 + p for q in (5, 6, 7, 8) for p in (3, 4, 5)
)
GERMS = tuple(q * 10 + p for q in (1, 2, 3, 4) for p in (3, 4, 5, 7))


@pytest.mark.parametrize("upper", [True, False, None])
def test_milk_teeth_with_germs_behind_them_are_no_error_of_order(upper: bool | None) -> None:
    numbers = [f for f in MIXED + GERMS if upper is None or fdi.is_upper(f) == upper]
    depths = {f: 12.0 for f in GERMS}
    assert _find(drawn(sorted(numbers, key=lambda f: f in GERMS), deep=depths)) == []


def test_drifted_and_crowded_teeth_are_no_error_of_order() -> None:
    drift = {12: -1.2, 22: -1.2, 32: 1.0, 42: -1.0, 15: -5.0, 16: -5.0, 17: -5.0}
    assert _find(drawn(tuple(f for f in FULL if f != 14), moved=drift)) == []


def test_a_gap_that_closed_on_the_one_side_in_view_does_not_move_the_midline() -> None:
    row = (41, 31, 32, 33, 35, 36, 37, 38)
    assert _find(drawn(row, moved={35: -6.0, 36: -6.0, 37: -6.0, 38: -6.0})) == []


@pytest.mark.parametrize("place", [17, 47])
def test_a_molar_that_has_drifted_over_a_gap_with_the_number_of_the_other_side_is_mirrored(place: int) -> None:
    absent = {fdi.mirrored(place), *range(place - 3, place)}
    row = drawn(tuple(f for f in FULL if f not in absent), moved={place: -12.0})
    assert _find(row) == []
    finding = _one(renamed(row, {place: fdi.mirrored(place)}), "mirrored")
    assert finding.teeth == (fdi.mirrored(place),) and f"in the place of tooth {place}" in finding.evidence
    assert finding.repair == "renumber"


def test_too_few_teeth_have_no_findings() -> None:
    assert _find(drawn((11, 21))) == []


@pytest.mark.parametrize(("first", "second"), BESIDE)
def test_exchanged_neighbours_are_one_swap(full: Volume, first: int, second: int) -> None:
    finding = _one(renamed(full, _exchanged(first, second)), "swap")
    assert finding.teeth == tuple(sorted((first, second)))
    assert finding.repair == "renumber"
    assert "exchanged" in finding.evidence and "transposition" in finding.evidence


def test_exchanged_neighbours_of_a_phantom_are_found(phantom: Volume) -> None:
    teeth = Mouth(phantom).teeth
    rows = [[f for f in fdi.arch_order(upper) if f in teeth] for upper in (True, False)]
    pairs = [pair for row in rows for pair in pairwise(row) if fdi.quadrant(pair[0]) == fdi.quadrant(pair[1])]
    missed = [pair for pair in pairs[::4] if not _is_swap(renamed(phantom, _exchanged(*pair)), pair)]
    assert missed == []


def _is_swap(labels: Volume, pair: tuple[int, int]) -> bool:
    return [(f.kind, f.teeth) for f in _find(labels)] == [("swap", tuple(sorted(pair)))]


@pytest.mark.parametrize("degrees", TILTS[1::2])
def test_a_swap_is_found_in_a_tilted_head(full: Volume, degrees: tuple[float, float, float]) -> None:
    assert _one(turned(renamed(full, _exchanged(34, 35)), degrees), "swap").teeth == (34, 35)


def test_distant_teeth_of_one_side_are_swapped_too(full: Volume) -> None:
    assert _one(renamed(full, _exchanged(13, 16)), "swap").teeth == (13, 16)


def test_a_swap_beside_a_gap_is_found() -> None:
    labels = drawn(tuple(f for f in FULL if f not in (14, 17, 24)))
    assert _one(renamed(labels, _exchanged(15, 16)), "swap").teeth == (15, 16)


@pytest.mark.parametrize("quadrant", [1, 2, 3, 4])
def test_a_swap_in_a_single_quadrant_is_found(quadrant: int) -> None:
    labels = drawn(tuple(f for f in FULL if fdi.quadrant(f) == quadrant))
    pair = (quadrant * 10 + 4, quadrant * 10 + 5)
    assert _one(renamed(labels, _exchanged(*pair)), "swap").teeth == pair


def test_a_swap_of_milk_teeth_is_found() -> None:
    assert _one(renamed(drawn(fdi.DECIDUOUS), _exchanged(74, 75)), "swap").teeth == (74, 75)


def test_the_place_of_a_finding_is_the_centre_of_its_first_tooth(full: Volume) -> None:
    labels = renamed(full, _exchanged(24, 25))
    finding = _one(labels, "swap")
    centre = labels.index_to_lps(np.array(Mouth(labels).teeth[24].centroid))
    assert finding.position_lps_mm == pytest.approx(tuple(centre), abs=0.1)
    assert len(finding.voxels) == 2
    assert finding.size_mm3 == pytest.approx(sum(b.voxels for b in finding.voxels) * labels.voxel_volume)


@pytest.mark.parametrize(
    ("tooth", "change"),
    [(12, fdi.mirrored), (24, fdi.mirrored), (37, fdi.mirrored), (16, fdi.opposite_jaw), (33, fdi.opposite_jaw)],
)
def test_a_single_mirrored_tooth_is_found_whether_its_namesake_is_there_or_not(tooth: int, change: object) -> None:
    assert callable(change)
    other = change(tooth)
    for numbers in (FULL, tuple(f for f in FULL if f != other)):
        labels = renamed(drawn(numbers), {tooth: other})
        finding = _one(labels, "mirrored")
        assert finding.teeth == (other,)
        assert f"in the place of tooth {tooth}" in finding.evidence
        assert np.array_equal(_mended(labels).array, drawn(numbers).array)


@pytest.mark.parametrize("tooth", [11, 13, 17, 31, 36])
@pytest.mark.parametrize("change", [fdi.mirrored, fdi.opposite_jaw])
def test_namesakes_that_took_each_others_number_are_one_finding(full: Volume, tooth: int, change: object) -> None:
    assert callable(change)
    other = change(tooth)
    finding = _one(renamed(full, _exchanged(tooth, other)), "mirrored")
    assert finding.teeth == tuple(sorted((tooth, other)))
    assert finding.repair == "renumber"


def _quadrants(names: Mapping[int, int]) -> dict[int, int]:
    return {f: names[fdi.quadrant(f)] * 10 + fdi.position(f) for f in FULL if fdi.quadrant(f) in names}


@pytest.mark.parametrize(("first", "second"), [(1, 4), (2, 3)])
def test_exchanged_quadrants_are_one_finding(full: Volume, first: int, second: int) -> None:
    finding = _one(renamed(full, _quadrants({first: second, second: first})), "mirrored")
    assert finding.teeth == tuple(sorted(f for f in FULL if fdi.quadrant(f) in (first, second)))
    assert f"quadrants {first} and {second}" in finding.evidence


@pytest.mark.parametrize(("quadrant", "named"), [(1, 2), (2, 1), (3, 2), (4, 1)])
def test_a_quadrant_with_the_numbers_of_another_is_one_finding(full: Volume, quadrant: int, named: int) -> None:
    finding = _one(renamed(full, _quadrants({quadrant: named})), "mirrored")
    assert finding.teeth == tuple(f for f in sorted(FULL) if fdi.quadrant(f) == named)
    assert len(finding.voxels) == 7


@pytest.mark.parametrize("upper", [True, False])
def test_a_mirrored_jaw_is_one_finding(full: Volume, upper: bool) -> None:
    row = [f for f in FULL if fdi.is_upper(f) == upper]
    finding = _one(renamed(full, {f: fdi.mirrored(f) for f in row}), "mirrored")
    assert finding.teeth == tuple(sorted(row))
    assert f"the {'upper' if upper else 'lower'} jaw" in finding.evidence


@pytest.mark.parametrize("upper", [True, False])
def test_a_single_jaw_named_as_the_other_one_is_found_by_its_roots(upper: bool) -> None:
    row = [f for f in FULL if fdi.is_upper(f) == upper]
    labels = drawn(row)
    finding = _one(renamed(labels, {f: fdi.opposite_jaw(f) for f in row}), "mirrored")
    assert len(finding.teeth) == 14
    assert "upper and lower" in finding.evidence


@pytest.mark.parametrize("degrees", TILTS[1::3])
@pytest.mark.parametrize(
    ("change", "text"),
    [(fdi.mirrored, "left and right are"), (fdi.opposite_jaw, "upper and lower are")],
    ids=["left and right", "upper and lower"],
)
def test_a_mirrored_mouth_is_one_finding_that_says_so(
    full: Volume, change: object, text: str, degrees: tuple[float, float, float]
) -> None:
    assert callable(change)
    labels = turned(renamed(full, {f: change(f) for f in FULL}), degrees)
    finding = _one(labels, "mirrored")
    assert finding.teeth == tuple(sorted(FULL))
    assert "The whole mouth is mirrored" in finding.evidence and text in finding.evidence
    assert np.array_equal(_mended(labels).array, full.array)


def test_a_file_with_its_left_and_right_flipped_is_a_mirrored_mouth(full: Volume) -> None:
    flipped = full.with_array(full.array[:, :, ::-1].copy())
    assert "left and right" in _one(flipped, "mirrored").evidence


def test_a_mirrored_phantom_with_gaps_is_one_finding(phantom: Volume) -> None:
    teeth = Mouth(phantom).teeth
    finding = _one(renamed(phantom, {f: fdi.mirrored(f) for f in teeth}), "mirrored")
    assert finding.teeth == tuple(sorted(fdi.mirrored(f) for f in teeth))


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 2, 0), (2, 1, 0)])
@pytest.mark.parametrize("flips", [(0, 0, 0), (1, 0, 0), (0, 1, 1), (1, 1, 1)])
def test_findings_are_the_same_in_every_orientation_of_the_array(
    full: Volume, order: tuple[int, int, int], flips: tuple[int, int, int]
) -> None:
    labels = renamed(full, {**_exchanged(44, 45), **_exchanged(15, 25)})
    plain, other = _find(labels), _find(_reoriented(labels, order, flips))
    assert [finding.kind for finding in plain] == ["swap", "mirrored"]
    assert [(f.teeth, f.evidence, f.repair) for f in other] == [(f.teeth, f.evidence, f.repair) for f in plain]
    for one, two in zip(plain, other, strict=True):
        assert two.position_lps_mm == pytest.approx(one.position_lps_mm, abs=1e-6)


def _reoriented(volume: Volume, order: tuple[int, int, int], flips: tuple[int, int, int]) -> Volume:
    """The same labels at the same places with array axes permuted and flipped."""
    array = np.transpose(volume.array, order)
    axes = np.array(volume.direction).T[::-1][list(order)]
    corner = np.array([(n - 1) * flip for n, flip in zip(array.shape, flips, strict=True)])
    back = np.empty(3)
    back[list(order)] = corner
    origin = volume.index_to_lps(back)
    for axis, flip in enumerate(flips):
        if flip:
            array, axes[axis] = np.flip(array, axis), -axes[axis]
    spacing = [volume.spacing[a] for a in order]
    direction = tuple(tuple(float(v) for v in row) for row in axes[::-1].T)
    return replace(
        volume,
        array=np.ascontiguousarray(array),
        spacing=tuple(spacing),
        origin=tuple(float(v) for v in origin),
        direction=direction,
    )


def test_renumbering_takes_loose_pieces_along(full: Volume) -> None:
    array = full.array.copy()
    body = Mouth(full).teeth[14].bodies[0]
    array[:, body.box[1].start : body.box[1].stop, body.box[2]][[3, 4]] = 0
    array[3:5, body.box[1].start : body.box[1].start + 2, body.box[2].start : body.box[2].start + 2] = 14
    labels = full.with_array(array)
    assert np.array_equal(_mended(renamed(labels, _exchanged(14, 15))).array, array)


def test_mending_a_swap_leaves_nothing_to_mend(phantom: Volume) -> None:
    row = [f for f in fdi.arch_order(True) if f in Mouth(phantom).teeth and fdi.quadrant(f) == 2]
    mended = _mended(renamed(phantom, _exchanged(row[2], row[3])))
    assert np.array_equal(mended.array, phantom.array)
    assert _find(mended) == []


def test_no_repair_is_offered_where_the_right_number_is_taken(full: Volume) -> None:
    labels = renamed(full, {16: 26, 17: 16})
    assert all(f.repair is None for f in _find(labels) if f.kind == "mirrored")


def test_renumbering_says_nothing_of_other_findings(full: Volume) -> None:
    other = Finding(1, "cavity", "error", (16,), (0.0, 0.0, 0.0), 1.0, "A hole.")
    assert renumbering(Mouth(full), other) == ()
