"""Outliers planted in a phantom and drawn by hand: teeth of a wrong size, lumps and spurs."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from Testing.Library.topology.drawings import Field, bar, copied, drawn, lump, stump, tapering
from ToothTopoSegLib.anatomy import fdi as teeth
from ToothTopoSegLib.imaging.volume import Volume
from ToothTopoSegLib.topology.detect.outliers import find_outliers
from ToothTopoSegLib.topology.mouth import Mouth

Mask = NDArray[np.bool_]


def _ball(labels: Volume, centre: tuple[float, float, float], radius: float) -> Mask:
    grid = np.indices(labels.array.shape) - np.asarray(centre)[:, None, None, None]
    return np.asarray((grid**2).sum(axis=0) <= (radius / labels.spacing[0]) ** 2)


def test_a_tooth_of_a_fifth_of_its_volume_is_an_outlier(clean: Volume, present: set[int]) -> None:
    from scipy import ndimage

    for fdi in (36, 11, 44):
        assert fdi in present
        labels = copied(clean)
        own = labels.array == fdi
        depth = ndimage.distance_transform_edt(own)
        labels.array[own & (depth < np.quantile(depth[own], 0.8))] = 0
        (finding,) = find_outliers(Mouth(labels))
        assert (finding.kind, finding.severity, finding.teeth, finding.repair) == ("outlier", "error", (fdi,), None)
        assert "such a tooth has about" in finding.evidence


@pytest.mark.parametrize("fdi", [36, 11, 44, 31])
def test_a_tooth_blown_up_by_2_mm_is_an_outlier(clean: Volume, fdi: int) -> None:
    from scipy import ndimage

    labels = copied(clean)
    near = ndimage.distance_transform_edt(labels.array != fdi, sampling=labels.spacing) <= 2
    labels.array[near] = fdi
    assert fdi in {t for f in find_outliers(Mouth(labels)) if f.severity != "info" for t in f.teeth}


@pytest.mark.parametrize("fdi", [36, 33, 44, 46])
def test_a_lump_of_4_mm_beside_a_crown_is_an_outlier_at_its_place(clean: Volume, fdi: int) -> None:
    labels = copied(clean)
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


def test_a_lump_that_reaches_the_border_of_the_view_is_told_all_the_same() -> None:
    labels = _standing(34, tapering, lump(20, 6, 3.0))
    far = int(np.argwhere(labels.array)[:, 1].max())
    (whole,) = find_outliers(Mouth(labels))
    (cut,) = find_outliers(Mouth(Volume(np.ascontiguousarray(labels.array[:, :far]), labels.spacing)))
    assert "lump" in whole.evidence and "lump" in cut.evidence
    assert np.linalg.norm(np.subtract(whole.position_lps_mm, cut.position_lps_mm)) < 1


def test_a_tooth_far_too_large_is_told_so_although_something_sticks_out_of_it() -> None:
    labels = _standing(32, lambda z, y, x: (np.hypot(y, x) <= 7) & (z >= 5) & (z <= 25), bar(11))
    (finding,) = find_outliers(Mouth(labels))
    assert finding.severity == "error" and "such a tooth has about" in finding.evidence


def test_a_tooth_that_is_too_long_is_told_at_the_end_that_reaches_too_far() -> None:
    labels = _standing(34, tapering)
    longer = Volume(np.pad(labels.array, ((16, 0), (0, 0), (0, 0))), labels.spacing)
    longer.array[2:26, 27:29, 27:29] = 34
    (finding,) = find_outliers(Mouth(longer))
    low = int(np.argwhere(longer.array)[:, 0].min())
    assert "measures" in finding.evidence and abs(finding.position_lps_mm[2] - low * 0.5) < 1


@pytest.mark.parametrize(("fdi", "low", "told"), [(36, 4, True), (16, 4, False), (36, 13, False)])
def test_a_molar_of_two_roots_and_full_length_is_no_wider_than_a_quarter_more_than_usual(
    fdi: int, low: int, told: bool
) -> None:
    labels = _standing(fdi, lambda z, y, x: ((x / 7.5) ** 2 + (y / 3) ** 2 <= 1) & (z >= low) & (z <= 24))
    found = find_outliers(Mouth(labels))
    assert [f.severity for f in found] == ["warning"] * told
    assert all("by 14" in f.evidence for f in found)


def test_of_a_thin_tooth_and_a_thick_ball_on_it_the_ball_is_the_lump() -> None:
    labels = _standing(41, lambda z, y, x: (np.hypot(y, x) <= 1.7) & (z >= 6) & (z <= 24), lump(20, 4, 3))
    (finding,) = find_outliers(Mouth(labels))
    assert "beyond a neck" in finding.evidence
    assert np.linalg.norm(np.subtract(finding.position_lps_mm, _place_in(41, 20, 4, 0))) < 1


def test_the_holes_of_a_tooth_are_no_necks() -> None:
    labels = _standing(34, tapering)
    drilled = copied(labels)
    drilled.array[34:38, :, 26:30] = 0
    drilled.array[44:48, 26:30, 26:30] = 0
    assert find_outliers(Mouth(drilled)) == []
