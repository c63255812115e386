"""Pictures of findings: small, at the right place, the same however the label map is stored."""

from __future__ import annotations

import io
import itertools

import numpy as np
import pytest
from PIL import Image

from ToothTopoSegLib.evaluation.finding_pictures import MOST_BYTES, PIXELS, finding_pictures
from ToothTopoSegLib.imaging.volume import Volume
from ToothTopoSegLib.topology.betti import Body
from ToothTopoSegLib.topology.findings import Finding

BLUE, ORANGE = "blue", "orange"


def finding(number: int, place, *teeth: int, severity="error", size=5.0, voxels=()) -> Finding:
    return Finding(number, "cavity", severity, teeth, tuple(map(float, place)), size, "evidence", None, voxels)


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def coloured(rgb: np.ndarray, which: str) -> np.ndarray:
    red, blue = rgb[..., 0], rgb[..., 2]
    return blue - red > 50 if which == BLUE else red - blue > 90


def cube_map(spacing=0.5) -> Volume:
    """Two teeth of 10 mm, side by side along x with the plane x = 0 between them, in a map of 60 mm."""
    n = round(60 / spacing)
    volume = Volume(np.zeros((n, n, n), np.uint8), (spacing,) * 3, (spacing / 2 - 30,) * 3)
    low, middle, high = (round(mm / spacing) for mm in (20, 30, 40))
    volume.array[low:high, low:high, low:middle] = 11
    volume.array[low:high, low:high, middle:high] = 21
    return volume


def body(labels: Volume, centre, radius: float) -> Body:
    """A ball of voxels about an LPS place."""
    grid = np.stack(np.meshgrid(*map(np.arange, labels.array.shape), indexing="ij"), axis=-1)
    mask = np.linalg.norm(labels.index_to_lps(grid) - centre, axis=-1) <= radius
    return Body((slice(0, mask.shape[0]), slice(0, mask.shape[1]), slice(0, mask.shape[2])), mask, int(mask.sum()))


def test_each_finding_gets_a_small_png_of_two_cuts() -> None:
    labels = cube_map()
    found = finding_pictures(labels, None, [finding(1, (-5, 0, 0), 11), finding(7, (5, 0, 0), 21)])
    assert set(found) == {1, 7}
    for png in found.values():
        assert png.startswith(b"\x89PNG") and len(png) <= MOST_BYTES
        assert pixels(png).shape[0] == PIXELS and pixels(png).shape[1] > 2 * PIXELS


def test_the_named_tooth_is_blue_on_its_side_of_the_patient() -> None:
    axial = pixels(finding_pictures(cube_map(), None, [finding(1, (0, 0, 0), 11)])[1])[:, :PIXELS]
    columns = np.flatnonzero(coloured(axial, BLUE).any(axis=0))
    # 10 mm of tooth 11 end at the middle, seen from the patient's right
    assert columns[0] == pytest.approx(PIXELS / 2 - 10 / 30 * PIXELS, abs=3)
    assert columns[-1] == pytest.approx(PIXELS / 2, abs=3)


def test_what_is_concerned_is_orange_and_in_the_middle() -> None:
    labels = cube_map()
    place = (-5, 2, 1)
    found = finding(1, place, 11, size=14.0, voxels=(body(labels, place, 1.5),))
    orange = coloured(pixels(finding_pictures(labels, None, [found])[1])[:, :PIXELS], ORANGE)
    assert np.argwhere(orange).mean(axis=0) == pytest.approx([PIXELS / 2] * 2, abs=3)
    assert orange.sum() * (30 / PIXELS) ** 2 == pytest.approx(np.pi * 1.5**2, rel=0.35)


def test_the_cut_goes_through_the_voxels_where_the_position_lies_beside_them() -> None:
    labels = cube_map()
    found = finding(1, (-5, 2, 6), 11, voxels=(body(labels, (-5, 2, 1), 1.0),))
    assert coloured(pixels(finding_pictures(labels, None, [found])[1])[:, :PIXELS], ORANGE).any()


def test_the_upright_cut_is_the_one_that_shows_all_named_teeth() -> None:
    labels = cube_map()
    both = pixels(finding_pictures(labels, None, [finding(1, (-0.5, 0, 0), 11, 21)])[1])[:, PIXELS:]
    # the coronal cut shows both teeth: 20 mm of 30
    assert np.ptp(np.flatnonzero(coloured(both, BLUE).any(axis=0))) > 0.6 * PIXELS


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("flip", [(), (0,), (1, 2)])
def test_pictures_do_not_depend_on_how_the_map_is_stored(order, flip) -> None:
    labels = cube_map(1.0)
    direction = np.eye(3)[:, ::-1][:, list(order)]
    start = np.zeros(3, dtype=int)
    for axis in flip:
        direction[:, axis] *= -1
        start[order[axis]] = labels.array.shape[order[axis]] - 1
    array = np.flip(labels.array.transpose(order), flip)
    origin = tuple(labels.index_to_lps(start).tolist())
    stored = Volume(array, labels.spacing, origin, tuple(map(tuple, direction[:, ::-1].tolist())))
    place = [finding(1, (-3.3, 1.2, 0.4), 11)]
    assert np.array_equal(
        pixels(finding_pictures(stored, None, place)[1]), pixels(finding_pictures(labels, None, place)[1])
    )


def test_grey_values_lie_beneath_where_there_is_a_scan(full_mouth, true_centre) -> None:
    scan, labels = full_mouth
    png = finding_pictures(labels, scan, [finding(1, true_centre(36), 36)])[1]
    grey = np.ptp(pixels(png), axis=-1) < 12
    assert len(png) <= MOST_BYTES and len(np.unique(pixels(png)[grey][:, 0])) > 8
    assert coloured(pixels(png), BLUE).any()


def test_noise_does_not_make_a_picture_large() -> None:
    labels = cube_map(0.4)
    noise = labels.with_array(np.random.default_rng(0).integers(0, 4000, labels.array.shape).astype(np.int16))
    assert len(finding_pictures(labels, noise, [finding(1, (0, 0, 0), 11)])[1]) <= MOST_BYTES


def test_the_gravest_findings_come_first_where_there_are_too_many() -> None:
    severities = ("info", "warning", "error", "warning", "error")
    found = [finding(n, (n, 0, 0), 11, severity=s) for n, s in enumerate(severities, start=1)]
    assert set(finding_pictures(cube_map(1.0), None, found, most=3)) == {3, 5, 2}


def test_a_place_with_nothing_to_see_gets_no_picture() -> None:
    assert finding_pictures(cube_map(1.0), None, [finding(1, (200, 0, 0))]) == {}
    assert finding_pictures(Volume(np.zeros((9, 9, 9), np.uint8)), None, [finding(1, (4, 4, 4))]) == {}


def test_a_place_at_the_edge_of_the_scan_is_drawn() -> None:
    rgb = pixels(finding_pictures(cube_map(1.0), None, [finding(1, (22, 0, 0), 21)])[1])
    right = rgb[20:120, PIXELS - 25 : PIXELS - 10]
    assert (np.ptp(right, axis=-1) <= 8).all() and right.mean() < 240


def test_a_scan_on_another_grid_is_refused() -> None:
    with pytest.raises(ValueError, match="one grid"):
        finding_pictures(cube_map(1.0), Volume(np.zeros((2, 2, 2))), [])
