"""Merges and splits planted in phantoms, and clean phantoms that must stay without an error."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from Testing.Library.topology.detect.test_order import GERMS, MIXED
from Testing.Library.topology.drawings import Field, copied, dentition, drawn, phantom_teeth, place_of, shape_of
from Testing.Library.topology.test_arch import drawn as drawn_teeth
from ToothTopoSegLib.anatomy import fdi as teeth
from ToothTopoSegLib.imaging.volume import Vector3, Volume
from ToothTopoSegLib.topology.detect.bodies import find_merges, find_splits
from ToothTopoSegLib.topology.detect.contacts import find_contacts
from ToothTopoSegLib.topology.detect.outliers import find_outliers
from ToothTopoSegLib.topology.findings import Finding
from ToothTopoSegLib.topology.mouth import Mouth

Mask = NDArray[np.bool_]


def _bridged(labels: Volume, first: int, second: int) -> Volume:
    """The second tooth gets the first one's number, and a rod of 2 mm joins the two where they are nearest."""
    from scipy.spatial import cKDTree

    merged = copied(labels)
    one, other = (np.argwhere(merged.array == fdi) for fdi in (first, second))
    distance, nearest = cKDTree(one).query(other)
    a, b = one[nearest[distance.argmin()]], other[distance.argmin()]
    for share in np.linspace(0, 1, 20):
        z, y, x = np.rint(a + share * (b - a)).astype(int)
        around = merged.array[z - 1 : z + 2, y - 1 : y + 2, x - 1 : x + 2]
        around[around == 0] = first
    merged.array[merged.array == second] = first
    return merged


def _cut(labels: Volume, fdi: int, number: int, normal: tuple[float, float, float]) -> Volume:
    """What of a tooth lies on the side of ``normal`` (z, y, x) of its centre gets another number."""
    cut = copied(labels)
    index = np.argwhere(cut.array == fdi)
    beyond = (index - index.mean(axis=0)) @ np.asarray(normal) > 0
    cut.array[tuple(index[beyond].T)] = number
    return cut


def _errors(found: list[Finding]) -> list[str]:
    return [finding.evidence for finding in found if finding.severity == "error"]


@pytest.mark.parametrize(
    ("seed", "spacing", "hard"),
    [
        (307, (0.5, 0.5, 0.5), False),
        (312, (0.9, 0.45, 0.45), True),
        (319, (0.4, 0.6, 0.6), True),
        (321, (0.8,) * 3, False),
    ],
)
def test_clean_phantoms_have_no_error(seed: int, spacing: Vector3, hard: bool) -> None:
    mouth = Mouth(phantom_teeth(seed, spacing, hard))
    assert len(mouth.teeth) > 20
    assert find_merges(mouth) == [] and find_splits(mouth) == []
    assert _errors(find_outliers(mouth)) == [] and _errors(find_contacts(mouth)) == []


@pytest.mark.parametrize(
    "pair", [(36, 37), (36, 35), (35, 36), (31, 41), (33, 32), (12, 13), (11, 21), (25, 24), (16, 17)]
)
def test_a_swallowed_neighbour_is_a_merge_of_both(clean: Volume, present: set[int], pair: tuple[int, int]) -> None:
    assert set(pair) <= present, "choose a pair that this phantom has"
    mouth = Mouth(_bridged(clean, *pair))
    (finding,) = find_merges(mouth)
    assert (finding.kind, finding.severity, finding.teeth, finding.repair) == ("merge", "error", pair, "split merge")
    assert "covers two teeth" in finding.evidence and "not found elsewhere" in finding.evidence
    (part,) = finding.voxels
    truth = clean.array[part.box] == pair[1]
    assert np.count_nonzero(part.mask & truth) > 0.95 * np.count_nonzero(clean.array == pair[1])
    assert np.count_nonzero(part.mask & ~truth) < 0.05 * part.voxels


def test_grey_values_help_to_part_merged_teeth(clean: Volume) -> None:
    labels = _bridged(clean, 36, 37)
    scan = labels.with_array(np.where(clean.array > 0, 1500, 100).astype(np.int16))
    (finding,) = find_merges(Mouth(labels, scan))
    (part,) = finding.voxels
    assert np.count_nonzero(part.mask & (clean.array[part.box] == 36)) < 0.02 * part.voxels


def test_a_merge_whose_second_number_stands_elsewhere_is_left_to_a_person(clean: Volume) -> None:
    labels = _bridged(clean, 34, 35)
    # the row is one number short from here on
    labels.array[clean.array == 36] = 35
    labels.array[clean.array == 37] = 36
    found = find_merges(Mouth(labels))
    assert [f.teeth[0] for f in found] == [34] and found[0].repair is None


CUTS = [
    (36, (1.0, 0.0, 0.0)),
    (36, (0.0, 1.0, 0.0)),
    (34, (0.0, 0.0, 1.0)),
    (31, (0.6, 0.5, -0.6)),
    (13, (-1.0, 0.3, 0.3)),
    (13, (0.0, 1.0, 0.3)),
    (26, (0.6, 0.5, -0.6)),
    (26, (0.0, 0.0, 1.0)),
]


@pytest.mark.parametrize(("fdi", "normal"), CUTS)
def test_a_tooth_with_half_of_it_under_an_absent_number_is_a_split(
    clean: Volume, present: set[int], fdi: int, normal: tuple[float, float, float]
) -> None:
    assert fdi in present
    absent = next(t for t in teeth.PERMANENT if t not in Mouth(clean).teeth)
    mouth = Mouth(_cut(clean, fdi, absent, normal))
    (finding,) = find_splits(mouth)
    pair = (min(fdi, absent), max(fdi, absent))
    assert (finding.kind, finding.severity, finding.teeth, finding.repair) == ("split", "error", pair, "join split")
    centre = mouth.labels.index_to_lps(np.argwhere(clean.array == fdi).mean(axis=0))
    assert np.linalg.norm(centre - finding.position_lps_mm) < 4
    values = np.unique(mouth.labels.array[finding.voxels[0].box][finding.voxels[0].mask])
    assert len(values) == 1 and int(values[0]) in pair
    assert all(f.teeth != pair for f in find_contacts(mouth)), "one fault is told once"


@pytest.mark.parametrize(("fdi", "number"), [(36, 35), (36, 37), (34, 33), (26, 27), (45, 46)])
def test_the_root_half_under_a_number_that_stands_elsewhere_too_is_a_split(
    clean: Volume, fdi: int, number: int
) -> None:
    roots = (1.0, 0.0, 0.0) if teeth.is_upper(fdi) else (-1.0, 0.0, 0.0)
    (finding,) = find_splits(Mouth(_cut(clean, fdi, number, roots)))
    assert finding.teeth == (min(fdi, number), max(fdi, number))
    part = finding.voxels[0]
    assert np.count_nonzero(part.mask & (clean.array[part.box] == fdi)) > 0.9 * part.voxels


def test_an_empty_map_has_nothing() -> None:
    mouth = Mouth(Volume(np.zeros((5, 5, 5), np.uint8)))
    assert find_merges(mouth) == find_splits(mouth) == find_outliers(mouth) == find_contacts(mouth) == []


# --- teeth drawn by hand


def _two_blocks(height: int) -> Volume:
    """Teeth 36 and 37 as blocks of 10 by 9 mm and 8 by 9 mm that share a whole side."""
    labels = np.zeros((30, 24, 40), np.uint8)
    labels[4 : 4 + height, 6:15, 5:15] = 36
    labels[4 : 4 + height, 6:15, 15:23] = 37
    return Volume(labels)


@pytest.mark.parametrize("height", [8, 10, 12])
def test_two_whole_teeth_that_share_a_wide_face_are_no_split(height: int) -> None:
    assert find_splits(Mouth(_two_blocks(height))) == []


@pytest.mark.parametrize("height", [4, 6])
def test_two_halves_that_share_a_face_are_a_split_with_its_place_in_the_middle_of_both(height: int) -> None:
    (finding,) = find_splits(Mouth(_two_blocks(height)))
    assert finding.teeth == (36, 37)
    assert finding.position_lps_mm == pytest.approx((13.5, 10, 4 + (height - 1) / 2))


def _with_part(*part: Field) -> Volume:
    """Tooth 36, a block of 9 by 9 by 12 mm, with a part of the same number beside it on a rod of 3 mm."""

    def block(z: Any, y: Any, x: Any) -> Any:
        return (np.abs(z - 9) <= 6) & (np.abs(y) <= 4.5) & (np.abs(x + 8) <= 4.5)

    def rod(z: Any, y: Any, x: Any) -> Any:
        return (np.hypot(z - 9, y) <= 1.5) & (np.abs(x + 3) <= 5)

    return Volume(drawn(0.5, block, rod, *part).astype(np.uint8) * np.uint8(36), (0.5,) * 3)


def _upright(length: float) -> Field:
    """A rod of 7 mm of this length beside the block of :func:`_with_part`."""
    return lambda z, y, x: (np.hypot(y, x - 3) <= 3.5) & (np.abs(z - 9) <= length / 2)


def _ball_beside(z: Any, y: Any, x: Any) -> Any:
    return (z - 9) ** 2 + y**2 + (x - 3) ** 2 <= 4**2


@pytest.mark.parametrize("part", [_ball_beside, _upright(7), _upright(9)])
def test_a_part_no_longer_than_a_lump_is_no_second_tooth_although_the_neighbours_are_missing(part: Field) -> None:
    assert find_merges(Mouth(_with_part(part))) == []


def test_a_part_as_long_as_a_tooth_is_a_second_tooth_and_the_place_is_the_middle_of_both() -> None:
    labels = _with_part(_upright(14))
    (finding,) = find_merges(Mouth(labels))
    assert finding.teeth == (36, 35)
    middle = labels.index_to_lps(np.argwhere(labels.array).mean(axis=0))
    assert finding.position_lps_mm == pytest.approx(tuple(middle))


@pytest.mark.parametrize("share", [0.35, 0.65])
@pytest.mark.parametrize(("fdi", "other"), [(36, 26), (16, 46), (25, 35), (47, 17), (36, 46), (26, 16)])
def test_a_split_tooth_keeps_the_number_of_the_jaw_and_the_side_it_stands_on(
    fdi: int, other: int, share: float
) -> None:
    # without its neighbours nothing but the fitted arch tells that the other number does not belong here
    away = [t for t in teeth.PERMANENT if teeth.quadrant(t) == teeth.quadrant(other) and teeth.position(t) > 1]
    labels = dentition(absent=tuple(away))
    first, shape = np.array(place_of(fdi)), np.array(shape_of(fdi))
    z, y, x = (slice(a, a + n) for a, n in zip(first, (shape[0], shape[1], round(share * shape[2])), strict=True))
    labels.array[z, y, x] = other
    (finding,) = find_splits(Mouth(labels))
    assert finding.teeth == (min(fdi, other), max(fdi, other))
    (part,) = finding.voxels
    assert set(labels.array[part.box][part.mask].tolist()) == {other}, "the part that is to become the other number"
    assert finding.evidence.startswith(f"Tooth {fdi} (")
    assert finding.position_lps_mm == pytest.approx(tuple((first + (shape - 1) / 2)[::-1]))


@pytest.mark.parametrize(("fdi", "number"), [(34, 74), (45, 85), (35, 15)])
def test_two_halves_of_a_tooth_are_a_split_although_the_number_is_that_of_a_smaller_tooth(
    fdi: int, number: int
) -> None:
    labels = dentition(absent=(number,) if number in teeth.PERMANENT else ())
    index = np.argwhere(labels.array == fdi)
    half = index[index[:, 2] >= np.median(index[:, 2])]
    labels.array[tuple(half.T)] = number
    assert (min(fdi, number), max(fdi, number)) in [f.teeth for f in find_splits(Mouth(labels))]


def test_a_milk_molar_swallowed_above_its_germ_is_told_and_not_the_molar_that_has_not_come() -> None:
    numbers = sorted(MIXED + GERMS, key=lambda fdi: fdi in GERMS)
    labels = drawn_teeth([fdi for fdi in numbers if teeth.position(fdi) != 7], deep={fdi: 12.0 for fdi in GERMS})
    (finding,) = find_merges(Mouth(_bridged(labels, 46, 85)))
    assert finding.teeth == (46, 85)
