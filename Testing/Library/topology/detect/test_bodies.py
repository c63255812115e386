"""Merges, splits and outliers planted in phantoms, and clean phantoms that must stay without an error."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from Testing.Library.topology.drawings import Field, bar, dentition, drawn, lump, place_of, shape_of, stump, tapering
from ToothTopoSegLib.anatomy import fdi as teeth
from ToothTopoSegLib.imaging.volume import Vector3, Volume
from ToothTopoSegLib.phantom.arch import draw_dentition
from ToothTopoSegLib.phantom.head import render
from ToothTopoSegLib.topology.detect.bodies import find_merges, find_outliers, find_splits
from ToothTopoSegLib.topology.detect.contacts import find_contacts
from ToothTopoSegLib.topology.findings import Finding
from ToothTopoSegLib.topology.mouth import Mouth
from ToothTopoSegLib.topology.shape import whole

Mask = NDArray[np.bool_]
SEED = 314
SIZE_MM = (76, 74, 78)


def _phantom(seed: int, spacing: Vector3, hard: bool = False) -> Volume:
    """Teeth of a phantom in a view of ``SIZE_MM`` (z, y, x) that holds both rows, without the jaws."""
    rng = np.random.default_rng(seed)
    shape = tuple(round(length / step) for length, step in zip(SIZE_MM, spacing, strict=True))
    _, labels = render(draw_dentition(rng, hard), (shape[0], shape[1], shape[2]), spacing, rng, warp=0.5)
    labels[labels >= teeth.LOWER_JAW] = 0
    return Volume(labels, spacing)


@pytest.fixture(scope="module")
def clean() -> Volume:
    return _phantom(SEED, (0.5, 0.5, 0.5))


@pytest.fixture(scope="module")
def present(clean: Volume) -> set[int]:
    """The teeth that stand in the view as a whole."""
    return set(whole(Mouth(clean)))


def _copy(labels: Volume) -> Volume:
    return labels.with_array(labels.array.copy())


def _bridged(labels: Volume, first: int, second: int) -> Volume:
    """The second tooth gets the first one's number, and a rod of 2 mm joins the two where they are nearest."""
    from scipy.spatial import cKDTree

    merged = _copy(labels)
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
    cut = _copy(labels)
    index = np.argwhere(cut.array == fdi)
    beyond = (index - index.mean(axis=0)) @ np.asarray(normal) > 0
    cut.array[tuple(index[beyond].T)] = number
    return cut


def _ball(labels: Volume, centre: tuple[float, float, float], radius: float) -> Mask:
    grid = np.indices(labels.array.shape) - np.asarray(centre)[:, None, None, None]
    return np.asarray((grid**2).sum(axis=0) <= (radius / labels.spacing[0]) ** 2)


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
    mouth = Mouth(_phantom(seed, spacing, hard))
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


def test_a_tooth_of_a_fifth_of_its_volume_is_an_outlier(clean: Volume, present: set[int]) -> None:
    from scipy import ndimage

    for fdi in (36, 11, 44):
        assert fdi in present
        labels = _copy(clean)
        own = labels.array == fdi
        depth = ndimage.distance_transform_edt(own)
        labels.array[own & (depth < np.quantile(depth[own], 0.8))] = 0
        (finding,) = find_outliers(Mouth(labels))
        assert (finding.kind, finding.severity, finding.teeth, finding.repair) == ("outlier", "error", (fdi,), None)
        assert "such a tooth has about" in finding.evidence


@pytest.mark.parametrize("fdi", [36, 11, 44, 31])
def test_a_tooth_blown_up_by_2_mm_is_an_outlier(clean: Volume, fdi: int) -> None:
    from scipy import ndimage

    labels = _copy(clean)
    near = ndimage.distance_transform_edt(labels.array != fdi, sampling=labels.spacing) <= 2
    labels.array[near] = fdi
    assert fdi in {t for f in find_outliers(Mouth(labels)) if f.severity != "info" for t in f.teeth}


@pytest.mark.parametrize("fdi", [36, 33, 44, 46])
def test_a_lump_of_4_mm_beside_a_crown_is_an_outlier_at_its_place(clean: Volume, fdi: int) -> None:
    labels = _copy(clean)
    index = np.argwhere(labels.array == fdi)
    crown = index[index[:, 0] > np.quantile(index[:, 0], 0.6)]
    # the cheek's side, where no neighbour is in the way
    outermost = crown[np.argmax(np.abs(crown[:, 2] - labels.array.shape[2] / 2))]
    outwards = np.sign(outermost[2] - labels.array.shape[2] / 2)
    z, y, x = (outermost + np.array([0, 0, 1.5 / labels.spacing[2] * outwards])).tolist()
    labels.array[_ball(labels, (z, y, x), 2.0) & (labels.array == 0)] = fdi
    (finding,) = (f for f in find_outliers(Mouth(labels)) if f.teeth == (fdi,))
    assert finding.severity in ("error", "warning") and "lump" in finding.evidence
    assert np.linalg.norm(labels.index_to_lps(np.array([z, y, x])) - finding.position_lps_mm) < 2


def test_a_tooth_that_the_border_cuts_is_never_too_small(clean: Volume) -> None:
    box = np.argwhere(clean.array == 36)
    low = int(np.quantile(box[:, 0], 0.9))
    labels = Volume(np.ascontiguousarray(clean.array[low:]), clean.spacing)
    assert [f for f in find_outliers(Mouth(labels)) if f.teeth == (36,)] == []


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


def _standing(fdi: int, *shapes: Field, spacing: float = 0.5) -> Volume:
    """A tooth of the drawings with its crown towards the bite."""
    mask = drawn(spacing, *shapes)
    upright = mask[::-1] if teeth.is_upper(fdi) else mask
    return Volume(np.ascontiguousarray(upright).astype(np.uint8) * np.uint8(fdi), (spacing,) * 3)


def _place_in(fdi: int, z: float, y: float, x: float, spacing: float = 0.5) -> list[float]:
    """A place of the drawing of :func:`_standing` in LPS mm."""
    return [x + 14 - spacing / 2, y + 14 - spacing / 2, (30 - z if teeth.is_upper(fdi) else z) - spacing / 2]


@pytest.mark.parametrize("fdi", [36, 16])
@pytest.mark.parametrize(("reach", "severity"), [(9.0, "error"), (-9.0, "error"), (7.3, "warning")])
def test_a_thin_bar_across_a_tooth_is_an_outlier_at_its_end(fdi: int, reach: float, severity: str) -> None:
    (finding,) = find_outliers(Mouth(_standing(fdi, stump, bar(reach))))
    assert (finding.kind, finding.severity, finding.teeth, finding.repair) == ("outlier", severity, (fdi,), None)
    assert "spur" in finding.evidence and "across its long axis" in finding.evidence
    end = reach - np.sign(reach) * 1.5
    assert np.linalg.norm(np.subtract(finding.position_lps_mm, _place_in(fdi, 16, 0, end))) < 0.5
    # the last 3 mm of a bar of 2 mm
    assert finding.size_mm3 == pytest.approx(3 * np.pi, rel=0.15)


@pytest.mark.parametrize("fdi", [34, 14])
@pytest.mark.parametrize("aside", [0.0, 1.5])
def test_a_lump_on_a_root_is_an_outlier_at_its_place(fdi: int, aside: float) -> None:
    assert find_outliers(Mouth(_standing(fdi, tapering))) == []
    (finding,) = find_outliers(Mouth(_standing(fdi, tapering, lump(7, aside))))
    assert (finding.kind, finding.severity, finding.teeth, finding.repair) == ("outlier", "error", (fdi,), None)
    assert "has a lump" in finding.evidence and "beyond a neck" in finding.evidence
    assert np.linalg.norm(np.subtract(finding.position_lps_mm, _place_in(fdi, 7, aside, 0))) < 1


def test_of_a_tooth_that_the_border_cuts_neither_branch_nor_lump_is_told() -> None:
    for fdi, shapes in ((36, (stump, bar(9))), (34, (tapering, lump(7, 0)))):
        labels = _standing(fdi, *shapes)
        top = int(np.argwhere(labels.array)[:, 0].max())
        cut = Volume(np.ascontiguousarray(labels.array[:top]), labels.spacing)
        assert find_outliers(Mouth(labels)) != [] and find_outliers(Mouth(cut)) == []
