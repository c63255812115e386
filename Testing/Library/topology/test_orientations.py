"""The same mouth stored along any axes, stretched or oblique, has the same findings at the same places."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest

from ToothTopoSegLib.evaluation.clean_maps import clean_map
from ToothTopoSegLib.evaluation.faults import plant
from ToothTopoSegLib.imaging.canonical import to_canonical
from ToothTopoSegLib.imaging.volume import Volume
from ToothTopoSegLib.topology.detect import find_all
from ToothTopoSegLib.topology.findings import Finding
from ToothTopoSegLib.topology.mouth import mouth_of

PLANTED = ("cavity", "tunnel", "fragment", "merge", "swap", "contact")
ORIENTATIONS = tuple(product(permutations(range(3)), product((False, True), repeat=3)))


@pytest.fixture(scope="module")
def damaged() -> Volume:
    """A whole dentition with one fault of several kinds, in canonical axes."""
    labels = to_canonical(clean_map(302).labels)
    for number, kind in enumerate(PLANTED):
        planted = plant(labels, kind, np.random.default_rng(number))
        assert planted is not None, kind
        labels = planted.labels
    return labels


@pytest.fixture(scope="module")
def expected(damaged: Volume) -> list[Finding]:
    found = find_all(mouth_of(damaged))
    assert {finding.kind for finding in found} >= set(PLANTED)
    return found


def stored(volume: Volume, axes: tuple[int, ...], flips: tuple[bool, ...]) -> Volume:
    """The same world with other array axes: transposed, then flipped."""
    array = volume.array.transpose(axes)
    spacing = [volume.spacing[axis] for axis in axes]
    columns = [np.asarray(volume.direction)[:, 2 - axis] for axis in axes]
    first = np.asarray(volume.origin, dtype=float)
    for axis, flip in enumerate(flips):
        if flip:
            array = np.flip(array, axis)
            first = first + columns[axis] * spacing[axis] * (array.shape[axis] - 1)
            columns[axis] = -columns[axis]
    direction = tuple(tuple(float(v) for v in row) for row in np.stack(columns[::-1], axis=1))
    return Volume(np.ascontiguousarray(array), tuple(spacing), tuple(first.tolist()), direction)


def same(found: list[Finding], wanted: list[Finding], apart_mm: float) -> bool:
    """Whether the findings are the same, told in any order, at the same places to ``apart_mm``."""
    left = list(wanted)
    for finding in found:
        near = [
            other
            for other in left
            if (other.kind, other.severity, other.teeth) == (finding.kind, finding.severity, finding.teeth)
            and np.linalg.norm(np.subtract(other.position_lps_mm, finding.position_lps_mm)) < apart_mm
        ]
        if not near:
            return False
        left.remove(near[0])
    return not left


@pytest.mark.parametrize("part", range(4))
def test_all_48_orientations_of_the_array_give_the_same_findings(damaged, expected, part) -> None:
    for axes, flips in ORIENTATIONS[part::4]:
        found = find_all(mouth_of(stored(damaged, axes, flips)))
        assert same(found, expected, 0.7), (axes, flips)


def test_an_oblique_scan_has_its_findings_at_the_turned_places(damaged, expected) -> None:
    from scipy.spatial.transform import Rotation

    turn = Rotation.from_euler("xyz", (8, -6, 10), degrees=True).as_matrix()
    direction = tuple(tuple(float(v) for v in row) for row in turn @ np.asarray(damaged.direction))
    shift = np.array([11.0, -20.0, 300.0])
    oblique = Volume(damaged.array, damaged.spacing, tuple(turn @ damaged.origin + shift), direction)
    found = find_all(mouth_of(oblique))
    back = [(f.kind, f.severity, f.teeth) for f in found]
    assert sorted(back) == sorted((f.kind, f.severity, f.teeth) for f in expected)
    for kind in PLANTED:
        places = [np.asarray(f.position_lps_mm) for f in found if f.kind == kind]
        for finding in (f for f in expected if f.kind == kind):
            there = turn @ finding.position_lps_mm + shift
            assert min(np.linalg.norm(there - place) for place in places) < 1.0, kind


@pytest.mark.parametrize("axis", range(3))
def test_slices_twice_as_thick_give_the_same_findings(damaged, axis) -> None:
    """Only what is larger than a slice can be held against the finer map: here everything that was planted is."""
    step = tuple(slice(None, None, 2 if a == axis else 1) for a in range(3))
    spacing = tuple(s * (2 if a == axis else 1) for a, s in enumerate(damaged.spacing))
    thick = Volume(np.ascontiguousarray(damaged.array[step]), spacing, damaged.origin, damaged.direction)
    found = find_all(mouth_of(thick))
    fine = find_all(mouth_of(damaged))
    for kind in ("cavity", "fragment", "merge", "swap"):
        for wanted in (f for f in fine if f.kind == kind and f.severity == "error"):
            assert any(
                f.kind == kind
                and f.teeth == wanted.teeth
                and np.linalg.norm(np.subtract(f.position_lps_mm, wanted.position_lps_mm)) < 2.0
                for f in found
            ), kind
