"""Tunnels drilled at known places: found, measured, closed by the least, and judged as a dentist would."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from Testing.Library.topology.drawings import Mask, ball, dentition, double_ring, linked_rings, ring, shape_of
from ToothTopoSegLib.imaging.volume import Vector3, Volume
from ToothTopoSegLib.phantom.write import make_phantom
from ToothTopoSegLib.topology.betti import Body, betti_numbers, bodies
from ToothTopoSegLib.topology.detect.tunnels import Tunnel, find_tunnels, tunnels
from ToothTopoSegLib.topology.findings import Finding
from ToothTopoSegLib.topology.mouth import Mouth

Point = tuple[float, float, float]
HEIGHT, WIDTH = 20.0, 10.0
CENTRE: Point = (12.0, 7.0, 7.0)
ALONG_X, ALONG_Y, ALONG_Z, ASLANT = (0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0), (0.4, 0.7, -0.6)


def _grid(spacing: Vector3) -> NDArray[np.float64]:
    """Positions (z, y, x) in mm of the voxels of a box of 24 x 14 x 14 mm."""
    shape = [int(np.ceil(2 * c / s)) for c, s in zip(CENTRE, spacing, strict=True)]
    return np.indices(shape) * np.array(spacing)[:, None, None, None]


def _tooth(spacing: Vector3 = (0.4, 0.4, 0.4)) -> Mask:
    """A tooth of one tapering root, 20 mm high and 10 mm wide, its crown at high z as in the lower jaw."""
    z, y, x = (side - c for side, c in zip(_grid(spacing), CENTRE, strict=True))
    taper = np.where(z > 3, 1.0, 1 - 0.04 * (3 - z))
    return (np.abs(z) < HEIGHT / 2) & (np.hypot(y, x) < WIDTH / 2 * taper)


def _hole(at: Point, along: Point, bore: float, spacing: Vector3 = (0.4, 0.4, 0.4), length: float = np.inf) -> Mask:
    """A cylinder around the axis through a point in mm."""
    away = np.stack([side - c for side, c in zip(_grid(spacing), at, strict=True)])
    axis = np.array(along) / np.linalg.norm(along)
    run = np.tensordot(axis, away, 1)
    return (np.sqrt(np.maximum((away**2).sum(axis=0) - run**2, 0)) <= bore / 2) & (np.abs(run) <= length / 2)


def _two_roots(tips_joined: bool = True) -> Mask:
    """A molar with a gap 3 mm wide and 6 mm high between its roots, whose tips have grown together or not."""
    z, _, x = (side - c for side, c in zip(_grid((0.4,) * 3), CENTRE, strict=True))
    gap = (np.abs(x) < 1.5) & (z < 0) & (z > (-6 if tips_joined else -99))
    return _tooth() & ~gap


def _labelled(mask: Mask, fdi: int = 31, spacing: Vector3 = (0.4, 0.4, 0.4)) -> Volume:
    return Volume(np.where(mask, fdi, 0).astype(np.uint8), spacing)


def _find(labels: Volume) -> list[Finding]:
    return find_tunnels(Mouth(labels))


def _one(labels: Volume) -> Finding:
    (finding,) = _find(labels)
    return finding


def _filled(mask: Mask, *plugs: Body) -> Mask:
    filled = mask.copy()
    for plug in plugs:
        assert not np.any(mask[plug.box] & plug.mask), "a plug is background"
        filled[plug.box] |= plug.mask
    return filled


def _off(tunnel: Tunnel, hole: Mask, spacing: Vector3) -> float:
    """Distance in mm of a tunnel's place from the middle of what was drilled out."""
    return float(np.linalg.norm((np.array(tunnel.place) - np.argwhere(hole).mean(axis=0)) * spacing))


@pytest.mark.parametrize("along", [ALONG_X, ALONG_Y, ALONG_Z, ASLANT])
@pytest.mark.parametrize("bore", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("spacing", [(0.25, 0.25, 0.25), (0.2, 0.3, 0.25)])
def test_a_drilled_tunnel_is_found_in_its_middle_and_its_plug_closes_it(
    bore: float, along: Point, spacing: Vector3
) -> None:
    at = (14.0, 7.6, 7.3)
    tooth = _tooth(spacing)
    hole = _hole(at, along, bore, spacing) & tooth
    drilled = tooth & ~hole
    assert betti_numbers(drilled) == (1, 1, 0)
    (tunnel,) = tunnels(drilled, spacing)
    assert _off(tunnel, hole, spacing) < 2.0
    assert hole[tunnel.place] and bore - 0.45 <= tunnel.bore_mm <= bore + 0.15
    assert betti_numbers(_filled(drilled, tunnel.plug)) == (1, 0, 0)
    assert (tunnel.closes, tunnel.taken) == (1, 0.0)


@pytest.mark.parametrize("seed", range(5))
def test_tunnels_at_random_places_and_angles_are_all_found(seed: int) -> None:
    rng = np.random.default_rng(seed)
    spacing = (0.3, 0.3, 0.3)
    tooth = _tooth(spacing)
    at = tuple(CENTRE + rng.uniform(-1, 1, 3) * (6, 1.5, 1.5))
    along = tuple(rng.normal(size=3) * (0.5, 1, 1))
    hole = _hole(at, along, float(rng.uniform(0.6, 2.5)), spacing) & tooth
    (body, *_) = bodies(tooth & ~hole)
    found = tunnels(body.mask, spacing)
    places = [replace(t, place=tuple(n + s.start for n, s in zip(t.place, body.box, strict=True))) for t in found]
    assert min(_off(tunnel, hole, spacing) for tunnel in places) < 2.0
    assert betti_numbers(_filled(body.mask, *(t.plug for t in found)))[1] == 0


def test_two_tunnels_have_a_plug_each_and_come_widest_first() -> None:
    spacing = (0.4, 0.4, 0.4)
    holes = [_hole((16, 7, 7), ALONG_X, 2.0), _hole((8, 7, 7), ALONG_Y, 1.2)]
    drilled = _tooth() & ~holes[0] & ~holes[1]
    found = tunnels(drilled, spacing)
    assert [_off(t, h & _tooth(), spacing) < 1.5 for t, h in zip(found, holes, strict=True)] == [True, True]
    for tunnel in found:
        assert betti_numbers(_filled(drilled, tunnel.plug)) == (1, 1, 0)
    assert betti_numbers(_filled(drilled, *(t.plug for t in found))) == (1, 0, 0)


def test_three_mouths_of_one_tunnel_need_two_plugs() -> None:
    fork = _hole((14, 7, 7), ALONG_X, 1.6) | (_hole((14, 7, 7), ALONG_Y, 1.6) & (_grid((0.4,) * 3)[1] > 7))
    drilled = _tooth() & ~fork
    assert betti_numbers(drilled) == (1, 2, 0)
    found = tunnels(drilled, (0.4, 0.4, 0.4))
    assert sum(tunnel.closes for tunnel in found) == 2
    assert betti_numbers(_filled(drilled, *(t.plug for t in found))) == (1, 0, 0)


def test_crossing_tunnels_are_all_closed() -> None:
    cross = _hole((14, 7, 7), ALONG_X, 1.6) | _hole((14, 7, 7), ALONG_Y, 1.6)
    drilled = _tooth() & ~cross
    assert betti_numbers(drilled) == (1, 3, 0)
    found = tunnels(drilled, (0.4, 0.4, 0.4))
    assert sum(tunnel.closes for tunnel in found) == 3
    assert betti_numbers(_filled(drilled, *(t.plug for t in found))) == (1, 0, 0)


def test_the_plug_of_a_ring_is_the_disc_inside() -> None:
    (tunnel,) = tunnels(ring(), (1.0, 1.0, 1.0))
    assert tunnel.plug.voxels == 25 and tunnel.plug.centroid == (1.0, 4.0, 4.0)
    assert tunnel.place == (1, 4, 4) and tunnel.bore_mm == pytest.approx(5.0, abs=0.7)


def test_a_double_ring_has_two_plugs() -> None:
    found = tunnels(double_ring(), (1.0, 1.0, 1.0))
    assert [t.plug.voxels for t in found] == [25, 25]
    assert sorted(t.place for t in found) == [(1, 4, 4), (1, 4, 10)]


@pytest.mark.parametrize("spacing", [(0.5, 1.0, 1.0), (1.0, 0.4, 1.3)])
def test_the_bore_is_measured_in_mm_along_the_axes_it_spans(spacing: Vector3) -> None:
    (tunnel,) = tunnels(ring(), spacing)
    assert tunnel.bore_mm == pytest.approx(5 * min(spacing[1:]), rel=0.25)


def test_an_hourglass_is_plugged_at_its_waist() -> None:
    tooth = _tooth()
    x = _grid((0.4,) * 3)[2]
    wide, waist = _hole((14, 7, 7), ALONG_X, 3.6), _hole((14, 7, 7), ALONG_X, 1.2)
    drilled = tooth & ~(wide & (np.abs(x - 5.4) > 0.7)) & ~waist
    (tunnel,) = tunnels(drilled, (0.4, 0.4, 0.4))
    assert tunnel.bore_mm < 1.5 and abs(tunnel.place[2] * 0.4 - 5.4) < 0.9
    assert tunnel.plug.voxels <= 12


def test_solid_hollow_and_grooved_teeth_have_no_tunnels() -> None:
    groove = _hole((14, 7, 11.5), ALONG_Y, 2.0)
    for mask in (ball(6), ball(6) & ~ball(3), _tooth(), _tooth() & ~groove, _two_roots(tips_joined=False)):
        assert tunnels(mask, (0.4, 0.4, 0.4)) == ()


def test_a_tunnel_beside_a_void_is_closed_and_the_void_left_alone() -> None:
    cavity = _hole((7, 7, 7), ALONG_X, 2.0, length=2.0)
    drilled = _tooth() & ~_hole((16, 7, 7), ALONG_X, 1.2) & ~cavity
    (tunnel,) = tunnels(drilled, (0.4, 0.4, 0.4))
    assert betti_numbers(_filled(drilled, tunnel.plug)) == (1, 0, 1)


def test_rings_that_pass_through_each_other_are_closed_each_on_its_own() -> None:
    for body in bodies(linked_rings()):
        (tunnel,) = tunnels(body.mask, (1.0, 1.0, 1.0))
        assert betti_numbers(_filled(body.mask, tunnel.plug)) == (1, 0, 0)


@settings(max_examples=25)
@given(
    seed=st.integers(0, 100_000), density=st.floats(0.2, 0.7), spacing=st.sampled_from([(1.0,) * 3, (0.3, 0.5, 0.2)])
)
def test_any_ragged_body_loses_all_its_tunnels_and_nothing_else_changes(
    seed: int, density: float, spacing: Vector3
) -> None:
    body = bodies(np.random.default_rng(seed).random((7, 8, 9)) < density)[0]
    b0, b1, b2 = betti_numbers(body.mask)
    found = tunnels(body.mask, spacing)
    assert sum(tunnel.closes for tunnel in found) == b1
    assert betti_numbers(_filled(body.mask, *(t.plug for t in found))) == (b0, 0, b2)


def test_a_tunnel_through_a_crown_is_an_error_with_its_bore_and_repair() -> None:
    hole = _hole((18, 7, 7), ALONG_X, 2.0) & _tooth()
    finding = _one(_labelled(_tooth() & ~hole))
    assert (finding.kind, finding.severity, finding.teeth, finding.repair) == ("tunnel", "error", (31,), "close tunnel")
    middle = np.argwhere(hole).mean(axis=0)[::-1] * 0.4
    assert np.linalg.norm(np.array(finding.position_lps_mm) - middle) < 2.0
    assert finding.evidence.startswith("Tooth 31 (lower left central incisor) has a tunnel of ")
    assert finding.evidence.endswith(" mm bore right through its crown, where no tooth has one.")
    (plug,) = finding.voxels
    assert finding.size_mm3 == pytest.approx(plug.voxels * 0.4**3)


def test_crown_and_root_are_told_by_the_jaw_and_not_by_the_array() -> None:
    drilled = _tooth() & ~_hole((18, 7, 7), ALONG_X, 2.0)
    assert "through its crown" in _one(_labelled(drilled, 31)).evidence
    assert "through its root" in _one(_labelled(drilled, 11)).evidence
    upright = _labelled(drilled[::-1], 11)
    assert "through its crown" in _one(upright).evidence


def test_the_gap_above_grown_together_root_tips_of_a_molar_is_an_info_without_repair() -> None:
    molar = _two_roots()
    assert betti_numbers(molar) == (1, 1, 0)
    finding = _one(_labelled(molar, 36))
    assert (finding.severity, finding.repair) == ("info", None)
    assert "between its roots" in finding.evidence
    assert _one(_labelled(molar, 31)).severity == "error", "an incisor has one root"
    assert _one(_labelled(molar, 16)).severity == "error", "in an upper molar this is the crown"


def test_a_round_hole_drilled_through_the_root_of_a_molar_is_an_error() -> None:
    drilled = _tooth() & ~_hole((8, 7, 7), ALONG_X, 1.2)
    finding = _one(_labelled(drilled, 36))
    assert finding.severity == "error" and "through its root" in finding.evidence


def test_what_another_label_fills_is_no_tunnel() -> None:
    hole = _hole((16, 7, 7), ALONG_X, 2.0)
    labels = _labelled(_tooth() & ~hole)
    labels.array[hole] = 101
    assert _find(labels) == []


def test_a_plug_never_takes_voxels_of_another_label_where_there_is_another_way() -> None:
    hole = _hole((16, 7, 7), ALONG_X, 2.0) & _tooth()
    labels = _labelled(_tooth() & ~hole)
    labels.array[hole & (_grid((0.4,) * 3)[2] < 8.5)] = 41
    finding = _one(labels)
    (plug,) = finding.voxels
    assert finding.repair == "close tunnel" and not np.any(labels.array[plug.box][plug.mask])
    assert betti_numbers(_filled(labels.array == 31, plug)) == (1, 0, 0)


def test_a_tunnel_where_the_view_cuts_the_tooth_is_a_warning() -> None:
    drilled = _tooth() & ~_hole((10.8, 7, 7), ALONG_X, 1.6)
    seen = _labelled(drilled[25:])
    assert drilled[25, 17, 17] and not drilled[26, 17, 17]
    finding = _one(seen)
    assert finding.severity == "warning" and "at the edge of the scan" in finding.evidence
    assert _one(_labelled(drilled)).severity == "error"


def test_an_opening_under_a_bridge_of_single_voxels_is_a_warning_without_a_large_plug() -> None:
    notched = _tooth() & ~_hole((21, 7, 7), ALONG_Y, 6.0)
    notched[54, 17, 7:28] = True
    assert betti_numbers(notched) == (1, 1, 0)
    finding = _one(_labelled(notched))
    assert (finding.severity, finding.repair) == ("warning", None)
    assert "under a bridge of single voxels" in finding.evidence


def test_tiny_tunnels_are_one_warning_for_each_tooth_and_are_closed_together() -> None:
    drilled = _tooth()
    for z in (10, 20, 30, 40):
        drilled[z, 17, :] = False
    finding = _one(_labelled(drilled))
    assert (finding.severity, finding.repair) == ("warning", "close tunnel")
    assert finding.evidence == (
        "Tooth 31 (lower left central incisor) has 4 small tunnels, the widest of 0.45 mm bore (0.26 mm3 to fill), "
        "as ragged labels have them."
    )
    assert betti_numbers(_filled(drilled, *finding.voxels)) == (1, 0, 0)


def test_a_ragged_tooth_gives_a_bounded_number_of_findings_that_close_all_tunnels() -> None:
    from scipy import ndimage

    noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=_tooth().shape), 1.0)
    tooth = _tooth()
    depth = ndimage.distance_transform_edt(tooth) - ndimage.distance_transform_edt(~tooth)
    body = bodies(depth + 16 * noise > 0)[0]
    ragged = np.pad(body.mask, 2)
    b0, b1, b2 = betti_numbers(ragged)
    assert b1 > 20
    found = _find(_labelled(ragged))
    assert len(found) <= 13
    assert betti_numbers(_filled(ragged, *(p for f in found for p in f.voxels))) == (b0, 0, b2)


def test_findings_are_the_same_whatever_the_orientation_of_the_array() -> None:
    spacing = (0.7, 0.8, 0.75)
    holes = _hole((17, 7, 7), ASLANT, 3.0, spacing) | _hole((8, 7, 7), ALONG_Y, 2.4, spacing)
    labels = _labelled(_tooth(spacing) & ~holes, 36, spacing)
    expected = _find(labels)
    assert len(expected) == 2
    for axes, flips in product(permutations(range(3)), product((False, True), repeat=3)):
        turned = _reoriented(labels, axes, flips)
        for mine, theirs in zip(_find(turned), expected, strict=True):
            rounded = {"position_lps_mm": (0.0, 0.0, 0.0), "size_mm3": 0.0}
            assert replace(mine, **rounded) == replace(theirs, **rounded)
            assert mine.size_mm3 == pytest.approx(theirs.size_mm3)
            (plug,) = mine.voxels
            assert betti_numbers(_filled(turned.array == 36, plug)) == (1, 1, 0)
            assert np.allclose(mine.position_lps_mm, theirs.position_lps_mm)


def _reoriented(volume: Volume, axes: tuple[int, ...], flips: tuple[bool, ...]) -> Volume:
    """The same world with other array axes: transposed, then flipped."""
    array = volume.array.transpose(axes)
    spacing = tuple(volume.spacing[a] for a in axes)
    directions = np.eye(3)[[2 - a for a in axes]]
    first = np.zeros(3)
    for axis, flip in enumerate(flips):
        if flip:
            array = np.flip(array, axis)
            first += directions[axis] * (array.shape[axis] - 1) * spacing[axis]
            directions[axis] *= -1
    return Volume(array, spacing, tuple(first), tuple(map(tuple, directions[::-1].T)))


def test_sound_bricks_have_no_findings_and_each_drilled_brick_its_own() -> None:
    labels = dentition()
    assert _find(labels) == []
    for tooth in (11, 36):
        z, y, x = np.argwhere(labels.array == tooth)[0]
        labels.array[z + 6, y : y + shape_of(tooth)[1], x + 1] = 0
    assert [f.teeth for f in _find(labels)] == [(11,), (36,)]


def test_phantom_teeth_have_no_tunnels_until_they_are_drilled() -> None:
    labels = make_phantom(300).labels
    mouth = Mouth(labels)
    assert find_tunnels(mouth) == []
    body = mouth.teeth[36].bodies[0]
    z, y, x = (round(c) for c in body.centroid)
    z += 6  # into the crown
    labels.array[z : z + 3, y - 1 : y + 2, body.box[2]][labels.array[z : z + 3, y - 1 : y + 2, body.box[2]] == 36] = 0
    finding = _one(labels)
    assert (finding.severity, finding.teeth) == ("error", (36,))
    assert np.linalg.norm(labels.lps_to_index(np.array(finding.position_lps_mm)) - (z + 1, y, x)) * 0.454 < 2.0
