"""Contacts: areas known by hand, who may touch whom, and bridges between teeth that cannot touch."""

from __future__ import annotations

import numpy as np
import pytest

from Testing.Library.topology.drawings import BITE, TOOTH_HEIGHT, dentition, place_of, shape_of
from ToothTopoSegLib.anatomy import fdi
from ToothTopoSegLib.imaging.volume import Matrix3, Vector3, Volume
from ToothTopoSegLib.topology.detect.contacts import (
    can_touch,
    contact_areas,
    contacts,
    find_contacts,
    forbidden_contacts,
)
from ToothTopoSegLib.topology.mouth import Mouth

PRESENT = dict.fromkeys((*range(11, 19), *range(21, 29), *range(31, 39), *range(41, 49)))


def _two_bricks(first: int = 36, second: int = 37, spacing: Vector3 = (1.0, 1.0, 1.0)) -> Volume:
    """Two bricks that share a face of 6 by 4 voxels across the x axis."""
    labels = np.zeros((20, 20, 20), dtype=np.uint8)
    labels[3:13, 4:12, 2:8] = first
    labels[5:11, 6:10, 8:14] = second
    return Volume(labels, spacing)


def _bridge(labels: Volume, first: int, second: int) -> Volume:
    """A bar of the first tooth that runs round the root tips of what stands between, or through the bite."""
    one, other = (np.add(place_of(fdi), (0, 2, 2)) for fdi in (first, second))
    upper = fdi.is_upper(first)
    height = BITE - 1 if upper != fdi.is_upper(second) else one[0] + TOOTH_HEIGHT if upper else one[0] - 2
    for share in np.linspace(0, 1, 200):
        _, y, x = np.rint(one + share * (other - one)).astype(int)
        around = labels.array[height : height + 2, y - 1 : y + 1, x - 1 : x + 1]
        around[around == 0] = first
    return labels


@pytest.mark.parametrize(("spacing", "area"), [((1.0, 1.0, 1.0), 24.0), ((0.5, 0.3, 0.7), 24 * 0.15)])
def test_the_area_of_a_flat_contact_is_that_of_its_faces(spacing: Vector3, area: float) -> None:
    assert contact_areas(_two_bricks(spacing=spacing)) == {(36, 37): pytest.approx(area)}


def test_a_slanted_contact_is_not_counted_as_a_staircase() -> None:
    _, y, x = np.indices((40, 60, 60))
    labels = np.where(x + y < 60, 36, 37).astype(np.uint8)
    assert contact_areas(Volume(labels))[36, 37] == pytest.approx(40 * 60 * np.sqrt(2), rel=0.03)


def test_a_contact_knows_its_middle_its_normal_and_the_voxels_of_both_sides() -> None:
    contact = contacts(Mouth(_two_bricks(37, 36)))[36, 37]
    assert contact.middle == (7.5, 7.5, 7.5)
    assert contact.normal == (0.0, 0.0, -1.0), "from the lower number to the higher"
    assert len(contact.first) == len(contact.second) == 24
    assert contact.layer.voxels == 48


def test_teeth_apart_or_across_an_edge_and_jaws_do_not_touch() -> None:
    labels = np.zeros((10, 10, 10), dtype=np.uint8)
    labels[1:4, 1:4, 1:4], labels[4:7, 4:7, 1:4], labels[1:4, 1:4, 4:7] = 36, 37, 101
    assert contact_areas(Volume(labels)) == {}


def test_all_pairs_touch_that_looking_at_every_voxel_finds() -> None:
    labels = np.random.default_rng(0).choice([0, 11, 12, 21, 46, 101], size=(7, 6, 5), p=[0.9, *[0.02] * 5])
    labels = labels.astype(np.uint8).repeat(3, 0).repeat(3, 1).repeat(3, 2)
    expected = set()
    for axis in range(3):
        low, high = (np.moveaxis(labels, axis, 0)[side] for side in (slice(None, -1), slice(1, None)))
        touching = (low != high) & (low > 0) & (low < 100) & (high > 0) & (high < 100)
        expected |= {tuple(sorted(map(int, pair))) for pair in zip(low[touching], high[touching], strict=True)}
    assert contact_areas(Volume(labels)).keys() == expected


def test_contacts_are_forbidden_by_the_teeth_that_the_patient_has() -> None:
    labels = _two_bricks(14, 16)
    found = Mouth(labels).teeth
    assert forbidden_contacts(labels, found, {14, 16}) == [], "teeth beside a gap in the arch are neighbours"
    assert forbidden_contacts(labels, found, {14, 15, 16}) == [(14, 16)]
    assert forbidden_contacts(_two_bricks(), Mouth(_two_bricks()).teeth, PRESENT) == []


@pytest.mark.parametrize(
    "pair",
    [(36, 37), (11, 21), (16, 46), (16, 47), (11, 31), (55, 15), (55, 16), (75, 36), (54, 55), (13, 53), (12, 53)],
)
def test_neighbours_opposing_teeth_and_milk_teeth_beside_their_successors_can_touch(pair: tuple[int, int]) -> None:
    assert can_touch(*pair, PRESENT) and can_touch(*pair[::-1], PRESENT)


@pytest.mark.parametrize(
    "pair", [(35, 37), (11, 13), (12, 21), (16, 26), (11, 46), (16, 43), (17, 55), (18, 28), (33, 43), (55, 73)]
)
def test_teeth_of_other_places_cannot_touch(pair: tuple[int, int]) -> None:
    assert not can_touch(*pair, PRESENT)


def test_a_gap_that_has_closed_lets_the_next_but_one_touch() -> None:
    absent = {fdi: None for fdi in PRESENT if fdi != 36}
    assert can_touch(35, 37, absent) and not can_touch(34, 37, absent)


def test_a_sound_dentition_has_no_contact_finding() -> None:
    assert find_contacts(Mouth(dentition())) == []


@pytest.mark.parametrize("pair", [(16, 14), (34, 36), (22, 24), (11, 22), (16, 43), (27, 33)])
def test_a_bridge_between_teeth_that_cannot_touch_is_an_error_at_the_second_tooth(pair: tuple[int, int]) -> None:
    mouth = Mouth(_bridge(dentition(), *pair))
    (finding,) = (f for f in find_contacts(mouth) if f.teeth == tuple(sorted(pair)))
    assert (finding.kind, finding.severity) == ("contact", "error")
    touched = np.array(place_of(pair[1]))[::-1], np.array(place_of(pair[1]))[::-1] + shape_of(pair[1])[::-1]
    assert (touched[0] - 1 <= finding.position_lps_mm).all() and (finding.position_lps_mm <= touched[1]).all()
    assert "mm2" in finding.evidence and finding.size_mm3 > 0
    assert finding.voxels[0].voxels == finding.size_mm3


def test_the_sentence_names_the_tooth_between() -> None:
    mouth = Mouth(_bridge(dentition(), 34, 36))
    (finding,) = (f for f in find_contacts(mouth) if f.teeth == (34, 36))
    assert finding.evidence.startswith(
        "Tooth 34 (lower left first premolar) and tooth 36 (lower left first molar) touch"
    )
    assert finding.evidence.endswith("but tooth 35 stands between them.")


def test_neighbours_that_share_far_too_much_are_an_error_and_a_broad_contact_a_warning() -> None:
    labels = np.zeros((30, 30, 40), dtype=np.uint8)
    labels[2:24, 4:16, 4:15] = 36
    labels[2:24, 4:16, 15:26] = 37
    (finding,) = find_contacts(Mouth(Volume(labels)))
    assert finding.severity == "error" and "264.0 mm2" in finding.evidence and "at most about" in finding.evidence
    labels[2:16, :, 15], labels[:, 9:, 15] = 0, 0
    assert find_contacts(Mouth(Volume(labels))) == []


def test_opposing_teeth_that_meet_at_a_root_tip_are_an_error() -> None:
    labels = np.zeros((50, 20, 20), dtype=np.uint8)
    labels[22:44, 4:10, 4:10] = 16
    labels[6:22, 4:10, 4:10] = 46
    assert find_contacts(Mouth(Volume(labels))) == []
    # an arm of the lower tooth that reaches up beside the upper one and meets its root tip alone
    labels[18:22] = 0
    labels[14:18, 10:14, 4:8] = labels[14:44, 12:14, 4:8] = labels[41:44, 10:12, 4:8] = 46
    (finding,) = find_contacts(Mouth(Volume(labels)))
    assert (finding.severity, finding.teeth) == ("error", (16, 46))
    assert "root tip of tooth 16" in finding.evidence


@pytest.mark.parametrize("turn", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
@pytest.mark.parametrize("flip", [(), (0,), (1, 2)])
def test_the_findings_do_not_depend_on_the_orientation(turn: tuple[int, ...], flip: tuple[int, ...]) -> None:
    straight = _bridge(dentition(), 16, 14)
    turned = Volume(
        np.flip(straight.array.transpose(turn), flip),
        direction=_direction(turn, flip),
        origin=_origin(straight, turn, flip),
    )
    before, after = (find_contacts(Mouth(labels)) for labels in (straight, turned))
    assert [f.teeth for f in before] == [f.teeth for f in after]
    for one, other in zip(before, after, strict=True):
        assert one.position_lps_mm == pytest.approx(other.position_lps_mm)
        assert one.evidence == other.evidence


def _direction(turn: tuple[int, ...], flip: tuple[int, ...]) -> Matrix3:
    """ITK direction of an array whose axes (z, y, x) were taken in the order ``turn`` and then flipped."""
    columns = np.zeros((3, 3))
    for axis, source in enumerate(turn):
        columns[2 - source, 2 - axis] = -1.0 if axis in flip else 1.0
    first, second, third = (tuple(row) for row in columns.tolist())
    return first, second, third


def _origin(labels: Volume, turn: tuple[int, ...], flip: tuple[int, ...]) -> Vector3:
    index = np.zeros(3)
    for axis in flip:
        index[turn[axis]] = labels.array.shape[turn[axis]] - 1
    x, y, z = labels.index_to_lps(index).tolist()
    return x, y, z
