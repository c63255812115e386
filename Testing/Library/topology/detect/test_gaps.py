"""Gaps: where an absent tooth had its place, in rows of bricks drawn so that it can be told by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from Testing.Library.topology.drawings import dentition, place_of, shape_of
from ToothTopoSegLib.anatomy import fdi
from ToothTopoSegLib.anatomy.sizes import size_of
from ToothTopoSegLib.imaging.volume import Array, Vector3, Volume
from ToothTopoSegLib.topology.detect.gaps import partner_dentition, place_between
from ToothTopoSegLib.topology.detect.missing import find_missing
from ToothTopoSegLib.topology.mouth import Mouth

START = 16
"""First voxel (x) of the gap in a :func:`_row`."""
HEIGHT, DEPTH = 21.25, 14.5
"""Where an absent tooth of a lower row lies: on the way from the crowns' middle (24.5) to the bricks' (19.5), and in
the middle across the row."""
SOCKET = np.array([14.5, DEPTH, START + 4.5])
"""Middle (z, y, x) of the socket of :func:`_in_jaw`."""


def _row(first: int, second: int, gap: int, spacing: Vector3 = (1.0, 1.0, 1.0)) -> Volume:
    """Two lower teeth as bricks of 8 voxels in a straight row along x with a gap of so many voxels between them."""
    labels = np.zeros((36, 30, START + gap + 18), dtype=np.uint8)
    labels[10:30, 10:20, START - 8 : START] = first
    labels[10:30, 10:20, START + gap : START + gap + 8] = second
    return Volume(labels, spacing)


def _in_jaw(row: Volume, aside: int = 0, jaw: int = fdi.LOWER_JAW, width: int = 6) -> Volume:
    """The row standing in bone, with a socket of 14 by ``width`` by 6 voxels that lies so far aside of the gap."""
    labels = row.array.copy()
    bone = np.zeros(labels.shape, dtype=bool)
    bone[4:22, 2:28, 2:-2] = True
    labels[bone & (labels == 0)] = jaw
    low = START + 5 - 3, 15 + aside - width // 2
    labels[8:22, low[1] : low[1] + width, low[0] : low[0] + 6] = 0
    return Volume(labels, row.spacing)


def _between(labels: Volume, first: int, second: int, absent: int, gap: Sequence[int] = ()) -> Array:
    mouth = Mouth(labels)
    return place_between(mouth, mouth.teeth[first], mouth.teeth[second], absent, gap)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (1.0, 0.9, 1.2)])
def test_an_absent_tooth_has_its_place_in_the_middle_of_its_gap(spacing: Vector3) -> None:
    labels = _row(35, 37, gap=11, spacing=spacing)
    middle = START + 5
    assert _between(labels, 35, 37, 36) == pytest.approx([HEIGHT, DEPTH, middle])
    assert _between(labels, 37, 35, 36) == pytest.approx([HEIGHT, DEPTH, middle]), "from whichever side it is seen"


def test_the_middle_of_the_gap_is_no_middle_of_the_neighbours_where_one_of_them_is_wider() -> None:
    labels = _row(35, 37, gap=11)
    labels.array[10:30, 10:20, 2:START] = 35
    assert _between(labels, 35, 37, 36)[2] == pytest.approx(START + 5)


def test_two_absent_teeth_share_their_gap_by_their_widths() -> None:
    labels = _row(34, 37, gap=20)
    narrow, wide = size_of(35).md_crown, size_of(36).md_crown
    # from the last voxel centre before the gap to the first one behind it
    length, first = 21, START - 1
    expected = {
        35: first + length * narrow / 2 / (narrow + wide),
        36: first + length * (narrow + wide / 2) / (narrow + wide),
    }
    for absent, x in expected.items():
        assert _between(labels, 34, 37, absent, gap=(35, 36)) == pytest.approx([HEIGHT, DEPTH, x])
        assert _between(labels, 37, 34, absent, gap=(36, 35)) == pytest.approx([HEIGHT, DEPTH, x])


def test_beside_a_third_molar_that_stands_off_the_place_is_next_to_the_other_neighbour() -> None:
    labels = _row(36, 38, gap=20)
    beside = START - 1 + size_of(37).md_crown / 2
    assert _between(labels, 36, 38, 37)[2] == pytest.approx(beside)
    assert _between(labels, 38, 36, 37)[2] == pytest.approx(beside)
    assert _between(_row(35, 37, gap=20), 35, 37, 36)[2] == pytest.approx(START + 9.5), "no third molar, no such rule"


def test_beside_a_third_molar_that_has_moved_up_the_place_is_in_the_middle() -> None:
    assert _between(_row(36, 38, gap=7), 36, 38, 37)[2] == pytest.approx(START + 3)


@pytest.mark.parametrize("aside", [0, 1, 2, -2])
def test_an_empty_socket_in_the_jaw_draws_the_place_to_it(aside: int) -> None:
    row = _row(35, 37, gap=11)
    told = _between(row, 35, 37, 36)
    place = _between(_in_jaw(row, aside), 35, 37, 36)
    socket = SOCKET + np.array([0, aside, 0])
    assert np.linalg.norm(place - socket) < 0.6 * np.linalg.norm(told - socket)
    assert place[1] - DEPTH == pytest.approx(0.65 * aside), "by the same share across the row"


@pytest.mark.parametrize("aside", [4, -4, 6])
def test_a_socket_that_lies_too_far_aside_has_no_say(aside: int) -> None:
    row = _row(35, 37, gap=11)
    assert _between(_in_jaw(row, aside), 35, 37, 36) == pytest.approx(_between(row, 35, 37, 36))


def test_without_its_jaw_or_without_an_empty_socket_the_crowns_alone_tell_the_place() -> None:
    row = _row(35, 37, gap=11)
    told = _between(row, 35, 37, 36)
    assert _between(_in_jaw(row, aside=2, width=0), 35, 37, 36) == pytest.approx(told), "the bone has grown over"
    assert _between(_in_jaw(row, aside=2, width=2), 35, 37, 36) == pytest.approx(told), "a slit is no socket"
    assert _between(_in_jaw(row, aside=2, jaw=fdi.UPPER_JAW), 35, 37, 36) == pytest.approx(told)
    assert _between(_in_jaw(row, aside=2, jaw=0), 35, 37, 36) == pytest.approx(told)


def _middle_of(tooth: int) -> Array:
    return np.array(place_of(tooth)) + (np.array(shape_of(tooth)) - 1) / 2


@pytest.mark.parametrize("absent", [13, 12, 23, 11, 41, 32, 33, 36, 26])
def test_in_a_dentition_the_place_follows_the_curve_of_the_arch(absent: int) -> None:
    beside = fdi.neighbours(absent)
    mouth = Mouth(dentition(absent=(absent,)))
    place = place_between(mouth, mouth.teeth[beside[0]], mouth.teeth[beside[1]], absent)
    truth, ends = _middle_of(absent), [_middle_of(tooth) for tooth in beside]
    chord = ends[1] - ends[0]
    assert np.linalg.norm((place - truth)[1:]) < 1.5
    outwards = np.array([0.0, -chord[2], chord[1]]) / np.linalg.norm(chord[1:])
    bow = abs((truth - ends[0]) @ outwards)
    assert abs((place - truth) @ outwards) < max(0.5 * bow, 1.0)


def test_the_mirrored_place_tells_the_dentition_of_a_tooth() -> None:
    mouth = Mouth(dentition(also={14: 54, 33: 73}, absent=(16, 26, 43)))
    assert partner_dentition(mouth, 24) is True and partner_dentition(mouth, 64) is True
    assert partner_dentition(mouth, 15) is False and partner_dentition(mouth, 55) is False
    assert partner_dentition(mouth, 43) is True and partner_dentition(mouth, 83) is True
    assert partner_dentition(mouth, 16) is None, "the mirrored place is empty as well"


def test_a_milk_tooth_above_its_germ_still_makes_the_place_one_of_a_milk_tooth() -> None:
    labels = dentition(also={14: 54})
    labels.array[:5, :5, :5] = 14
    assert partner_dentition(Mouth(labels), 24) is True


def _missing(labels: Volume) -> list[tuple[int, ...]]:
    return [finding.teeth for finding in find_missing(Mouth(labels))]


def test_the_missing_tooth_is_the_milk_tooth_where_the_mirrored_place_holds_one() -> None:
    assert _missing(dentition(also={14: 54}, absent=(24,))) == [(64,)], "although its neighbours are permanent"


def test_the_missing_tooth_is_the_permanent_one_where_the_mirrored_place_holds_that() -> None:
    assert _missing(dentition(also={23: 63, 25: 65}, absent=(24,))) == [(24,)], "although its neighbours are milk teeth"


def test_where_both_sides_lack_a_tooth_the_neighbours_tell_which_one_it_is() -> None:
    assert _missing(dentition(also={23: 63, 25: 65}, absent=(14, 24))) == [(14,), (64,)]
    assert _missing(dentition(also={23: 63}, absent=(14, 24))) == [(14,), (24,)]
    assert _missing(dentition(also={35: 75, 37: 37}, absent=(36, 46))) == [(46,), (36,)], "no milk tooth stands there"


def test_the_place_of_a_missing_tooth_between_two_absent_ones_is_its_own_share_of_the_gap() -> None:
    found = find_missing(Mouth(dentition(absent=(34, 35))))
    assert [finding.teeth for finding in found] == [(34,), (35,)]
    for finding, tooth in zip(found, (34, 35), strict=True):
        x, y = finding.position_lps_mm[:2]
        assert np.hypot(x - _middle_of(tooth)[2], y - _middle_of(tooth)[1]) < 2
