"""The fitted arch on drawn dentitions and phantoms: jaws, sides, midline and numbers, whatever the head does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ToothTopoSegLib.anatomy import fdi
from ToothTopoSegLib.anatomy.sizes import size_of
from ToothTopoSegLib.imaging.volume import Matrix3, Volume
from ToothTopoSegLib.phantom.arch import draw_dentition
from ToothTopoSegLib.phantom.head import Pose, render
from ToothTopoSegLib.topology.arch import (
    Arches,
    Seen,
    assign_numbers,
    fit_arches,
    fit_teeth,
    match_arch,
    places,
    seen_teeth,
    tooth_bodies,
)
from ToothTopoSegLib.topology.betti import Body
from ToothTopoSegLib.topology.mouth import Mouth

SPACING = 0.7
FULL = tuple(f for f in fdi.PERMANENT if fdi.position(f) < 8)
TILTS = [(0, 0, 0), (25, 0, 0), (-25, 0, 0), (0, 25, 0), (0, -25, 0), (0, 0, 25), (0, 0, -25), (14, -14, 14)]


def rotation(degrees: tuple[float, float, float]) -> NDArray[np.float64]:
    from scipy.spatial.transform import Rotation

    return np.asarray(Rotation.from_euler("xyz", degrees, degrees=True).as_matrix())


def matrix(values: NDArray[np.float64]) -> Matrix3:
    a, b, c = ((float(row[0]), float(row[1]), float(row[2])) for row in values)
    return a, b, c


def drawn(
    numbers: Iterable[int] = FULL, deep: Mapping[int, float] | None = None, moved: Mapping[int, float] | None = None
) -> Volume:
    """A dentition of straight teeth with tapering roots on half circles with parallel legs behind them.

    The teeth stand side by side by their average widths, whether their neighbours are drawn or not. ``deep`` are germs:
    crowns without roots, so many mm below the bite. ``moved`` shifts teeth along the arch, in mm away from the midline.
    """
    labels = np.zeros((88, 100, 112), dtype=np.uint8)
    origin = (-(112 - 1) / 2 * SPACING, -6.0, -(88 - 1) / 2 * SPACING)
    volume = Volume(labels, (SPACING,) * 3, origin)
    for number in numbers:
        _draw(volume, number, (deep or {}).get(number), (moved or {}).get(number, 0.0))
    return volume


def _draw(volume: Volume, number: int, deep: float | None, moved: float) -> None:
    size, upper = size_of(number), fdi.is_upper(number)
    at = places(upper)[number]
    centre, tangent = _on_circle(
        at + moved * np.sign(at), (17.0 if fdi.is_deciduous(number) else 22.0) - 2.0 * (not upper)
    )
    _, y, x = (int(v) for v in volume.lps_to_index(np.array([*centre, 0.0])))
    bottom, top = (44, 88) if upper else (0, 44)
    low, high = np.array([bottom, max(y - 9, 0), max(x - 9, 0)]), np.array([top, y + 10, x + 10])
    index = np.indices(high - low).reshape(3, -1).T + low
    points = volume.index_to_lps(index)
    along = (points[:, :2] - centre) @ tangent
    across = (points[:, :2] - centre) @ (tangent[1], -tangent[0])
    depth = points[:, 2] * (1 if upper else -1) - 0.5 - (deep or 0.0)
    taper = np.clip(1 - 0.8 * (depth - size.crown_length) / size.root_length, 0.2, 1)
    crown = (depth >= 0) & (depth < size.crown_length)
    root = (depth >= size.crown_length) & (depth < size.length) & (deep is None)
    wide = np.where(crown, 1.0, 0.75 * taper) * 0.44
    inside = (crown | root) & (np.hypot(along / (wide * size.md_crown), across / (wide * size.bl_crown)) < 1)
    volume.array[tuple(index[inside].T)] = number


def _on_circle(at: float, radius: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    angle = min(abs(at) / radius, np.pi / 2)
    behind = max(0.0, abs(at) - radius * np.pi / 2)
    side = np.sign(at)
    centre = np.array([side * radius * np.sin(angle), radius * (1 - np.cos(angle)) + behind])
    return centre, np.array([side * np.cos(angle), np.sin(angle)])


def turned(volume: Volume, degrees: tuple[float, float, float]) -> Volume:
    """The same head tilted in the scanner: the grid turns with it."""
    turn = rotation(degrees)
    return replace(
        volume,
        direction=matrix(turn @ np.array(volume.direction)),
        origin=tuple(float(v) for v in turn @ np.array(volume.origin)),
    )


def renamed(volume: Volume, names: Mapping[int, int]) -> Volume:
    """Other numbers on the same teeth."""
    table = np.arange(256, dtype=np.uint8)
    for old, new in names.items():
        table[old] = new
    return volume.with_array(table[volume.array])


def phantom_labels(seed: int) -> Volume:
    """The exact labels of a random head, on a coarse grid and without the scanner."""
    rng = np.random.default_rng(seed)
    shape = (100, 125, 130)
    _, labels = render(draw_dentition(rng), shape, (SPACING,) * 3, rng, Pose((0.0, 5.0, 0.0)), warp=0.6)
    x, y, z = (centre - (n - 1) / 2 * SPACING for centre, n in zip((0.0, 5.0, 0.0), shape[::-1], strict=True))
    return Volume(labels, (SPACING,) * 3, (x, y, z))


@pytest.fixture(scope="module")
def full() -> Volume:
    return drawn()


@pytest.fixture(scope="module")
def phantom() -> Volume:
    return phantom_labels(310)


def _fit(volume: Volume, use_numbers: bool = True) -> Arches:
    arches = fit_teeth(seen_teeth(Mouth(volume)), use_numbers)
    assert arches is not None
    return arches


def _off_places(arches: Arches) -> NDArray[np.float64]:
    return np.array([s.along - places(s.upper)[s.tooth.fdi] for s in arches.standing])


def _wrong(arches_or_mouth: Mouth, use_numbers: bool, truth: Mapping[int, int] | None = None) -> list[int]:
    given = assign_numbers(arches_or_mouth, use_numbers)
    right = truth or {}
    return [
        tooth.fdi
        for tooth in seen_teeth(arches_or_mouth)
        for body, number in given.items()
        if body.box == tooth.body.box and number != right.get(tooth.fdi, tooth.fdi)
    ]


@pytest.mark.parametrize("degrees", TILTS)
def test_the_axes_of_a_tilted_head_are_found(full: Volume, degrees: tuple[float, float, float]) -> None:
    arches = _fit(turned(full, degrees))
    off = np.degrees(np.arccos(np.clip(np.sum(arches.axes.T * rotation(degrees), axis=0), -1, 1)))
    assert off.max() < 6


@pytest.mark.parametrize("degrees", TILTS[1::2])
@pytest.mark.parametrize("use_numbers", [True, False])
def test_each_tooth_of_a_tilted_head_stands_in_its_jaw_and_side(
    full: Volume, degrees: tuple[float, float, float], use_numbers: bool
) -> None:
    for s in _fit(turned(full, degrees), use_numbers).standing:
        assert s.upper == fdi.is_upper(s.tooth.fdi)
        assert (s.along > 0) == fdi.is_left(s.tooth.fdi)


def test_the_curve_runs_from_right_to_left_through_the_crowns(full: Volume) -> None:
    arches = _fit(full)
    assert arches.upper is not None and arches.lower is not None
    for curve in (arches.upper, arches.lower):
        assert curve.line[0, 0] < 0 < curve.line[-1, 0]
        assert np.all(np.diff(curve.along) > 0)
    assert arches.residual_mm < 1.0
    assert abs(arches.origin[0]) < 1.0 and abs(arches.origin[2]) < 1.5


def test_a_point_is_placed_along_and_beside_its_curve(full: Volume) -> None:
    curve = _fit(full).upper
    assert curve is not None
    middle = curve.line[len(curve.line) // 2]
    along, off = curve.place(np.stack([middle, middle - [0, 3, -5], curve.line[-1] + [0, 4, 0]]))
    assert along == pytest.approx([0.0, 0.0, curve.along[-1] + 4], abs=0.5)
    assert off[:2] == pytest.approx([0.0, 3.0], abs=0.3)


@pytest.mark.parametrize(
    "numbers",
    [
        tuple(f for f in FULL if fdi.is_upper(f)),
        tuple(f for f in FULL if not fdi.is_upper(f)),
        tuple(f for f in FULL if fdi.quadrant(f) in (1, 4)),
        tuple(f for f in FULL if fdi.quadrant(f) == 3),
        tuple(f for f in FULL if fdi.position(f) > 2),
    ],
    ids=["upper jaw", "lower jaw", "right half", "one quadrant", "no incisors"],
)
def test_the_midline_is_found_in_a_partial_view(numbers: tuple[int, ...]) -> None:
    arches = _fit(drawn(numbers))
    assert np.abs(_off_places(arches)).max() < 4
    assert (arches.upper is None) == (not any(fdi.is_upper(f) for f in numbers))


@pytest.mark.parametrize("upper", [True, False])
def test_a_deciduous_dentition_is_fitted(upper: bool) -> None:
    arches = _fit(drawn(fdi.arch_order(upper, deciduous=True)))
    assert all(s.upper == upper for s in arches.standing)
    assert np.abs(_off_places(arches)).max() < 4


def test_wrong_numbers_do_not_pull_the_fit(full: Volume) -> None:
    arches = _fit(full)
    wrong = _fit(renamed(full, {16: 11, 23: 27, 35: 31, 47: 18, 12: 37, 26: 22}))
    assert np.degrees(np.arccos(np.clip(np.sum(arches.axes * wrong.axes, axis=1), -1, 1))).max() < 4
    assert np.linalg.norm(arches.origin - wrong.origin) < 1.5


def test_fewer_than_three_teeth_are_no_arch() -> None:
    assert fit_arches(Mouth(drawn((11, 12)))) is None
    assert assign_numbers(Mouth(drawn((11, 12)))) == {}


def test_one_mouth_is_fitted_once(full: Volume) -> None:
    mouth = Mouth(full)
    assert fit_arches(mouth) is fit_arches(mouth)


def test_a_loose_piece_is_no_tooth_of_its_own() -> None:
    labels = np.zeros((30, 30, 30), dtype=np.uint8)
    labels[2:12, 2:12, 2:12] = labels[20:29, 20:29, 20:29] = 16
    labels[2:5, 20:23, 2:5] = 16
    mouth = Mouth(Volume(labels))
    assert [body.voxels for body in tooth_bodies(mouth.teeth[16], 1.0)] == [1000, 729]


@pytest.mark.parametrize("degrees", TILTS[::3])
def test_all_teeth_are_numbered_without_knowing_any_number(full: Volume, degrees: tuple[float, float, float]) -> None:
    assert _wrong(Mouth(turned(full, degrees)), use_numbers=False) == []


def test_a_phantom_is_numbered_without_knowing_any_number(phantom: Volume) -> None:
    assert _wrong(Mouth(phantom), use_numbers=False) == []


def test_shuffled_numbers_of_an_arch_are_put_right_without_asking_them(phantom: Volume) -> None:
    mouth = Mouth(phantom)
    upper = [f for f in mouth.teeth if fdi.is_upper(f)]
    shuffled = np.random.default_rng(7).permutation(upper).tolist()
    names = dict(zip(upper, shuffled, strict=True))
    truth = {new: old for old, new in names.items()}
    assert _wrong(Mouth(renamed(phantom, names)), use_numbers=False, truth=truth) == []


def test_right_numbers_stay(phantom: Volume) -> None:
    assert _wrong(Mouth(phantom), use_numbers=True) == []


def test_right_numbers_stay_beside_wrong_ones(full: Volume) -> None:
    names = {14: 15, 15: 14, 36: 46, 46: 36, 22: 27}
    absent = drawn(tuple(f for f in FULL if f != 27))
    truth = {15: 14, 14: 15, 46: 36, 36: 46, 27: 22}
    assert _wrong(Mouth(renamed(absent, names)), use_numbers=True, truth=truth) == []


@pytest.mark.parametrize("absent", [(14,), (11, 21), (36,), (31, 32, 41, 42), (15, 25, 16)])
def test_gaps_do_not_shift_the_numbers(absent: tuple[int, ...]) -> None:
    mouth = Mouth(drawn(tuple(f for f in FULL if f not in absent)))
    assert _wrong(mouth, use_numbers=True) == []


@pytest.mark.parametrize("milk", [True, False])
def test_a_tooth_keeps_its_dentition(milk: bool) -> None:
    mouth = Mouth(drawn(fdi.DECIDUOUS if milk else FULL))
    assert all(fdi.is_deciduous(number) == milk for number in assign_numbers(mouth).values())


def test_matching_follows_the_evidence_where_places_agree(full: Volume) -> None:
    arches = _fit(full)
    row = arches.of(True)
    numbers = fdi.arch_order(True)
    points = np.stack([s.tooth.centroid for s in row])
    free = np.zeros((len(row), len(numbers)))
    assert arches.upper is not None
    assert match_arch(points, free, numbers, arches.upper) == tuple(s.tooth.fdi for s in row)
    shifted = np.full_like(free, 20.0)
    for i in range(len(row)):
        shifted[i, i] = 0.0
    assert match_arch(points, shifted, numbers, arches.upper) == numbers[: len(row)]


def test_matching_keeps_the_order_and_leaves_out_what_is_too_much(full: Volume) -> None:
    arches = _fit(full)
    row = arches.of(False)
    assert arches.lower is not None
    points = np.stack([s.tooth.centroid for s in row])
    points = np.concatenate([points[::-1], points[:1] + np.array([0.3, 0.3, 0.0])])
    numbers = tuple(s.tooth.fdi for s in row)
    found = match_arch(points, np.zeros((len(points), len(numbers))), numbers, arches.lower)
    assert found[1:13] == numbers[::-1][1:13]
    assert sorted(found) == sorted((0, *numbers))
    assert match_arch(points[:0], np.zeros((0, len(numbers))), numbers, arches.lower) == ()


def test_matching_refuses_costs_of_another_shape(full: Volume) -> None:
    arches = _fit(full)
    assert arches.upper is not None
    with pytest.raises(ValueError, match="do not fit 16 numbers"):
        match_arch(np.zeros((3, 3)), np.zeros((3, 2)), fdi.arch_order(True), arches.upper)


def test_real_lower_jaws_are_numbered_without_knowing_any_number(shared_data: Path) -> None:
    for patient in "23":
        seen = _real_lower_jaw(shared_data, patient)
        given = assign_numbers(seen, use_numbers=False)
        assert [given[tooth.body] for tooth in seen] == [tooth.fdi for tooth in seen]


def _real_lower_jaw(shared_data: Path, patient: str) -> list[Seen]:
    """The surfaces of one patient's lower teeth, turned to LPS by which tooth is which."""
    import re
    import tarfile

    from ToothTopoSegLib.anatomy.schemes import fdi_from_universal

    surfaces = {}
    with tarfile.open(shared_data / "openfulljaw_lower" / "ofj_lower_teeth_only.tar.gz") as archive:
        for member in archive.getmembers():
            if name := re.search(rf"P{patient}_Tooth_(\d+)\.stl", member.name):
                stream = archive.extractfile(member)
                assert stream is not None
                raw = np.frombuffer(stream.read()[84:], dtype=[("n", "<f4", 3), ("v", "<f4", (3, 3)), ("a", "<u2")])
                surfaces[fdi_from_universal(name[1])] = raw["v"].astype(float)
    centres = {number: v.reshape(-1, 3).mean(axis=0) for number, v in surfaces.items()}
    left = np.mean([centres[f] - centres[fdi.mirrored(f)] for f in (33, 34, 36)], axis=0)
    back = np.mean([centres[f] for f in (36, 46)], axis=0) - np.mean([centres[f] for f in (31, 41)], axis=0)
    left /= np.linalg.norm(left)
    back -= back @ left * left
    back /= np.linalg.norm(back)
    axes = np.stack([left, back, np.cross(left, back)])
    return [_surface(number, v @ axes.T) for number, v in surfaces.items()]


def _surface(number: int, triangles: NDArray[np.float64]) -> Seen:
    volume = abs(np.sum(triangles[:, 0] * np.cross(triangles[:, 1], triangles[:, 2])) / 6)
    points = triangles.mean(axis=1)
    body = Body((slice(0, 1),) * 3, np.ones((1, 1, 1), dtype=bool), 1)
    return Seen(number, body, points[:: max(1, len(points) // 1500)], points.mean(axis=0), float(volume), False)
