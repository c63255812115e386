"""Surface distances, held against distances worked out by hand and against MONAI."""

from __future__ import annotations

import numpy as np
import pytest

from ToothTopoSegLib.evaluation.surface import border, surface_distance

SPACING = (0.7, 0.3, 0.4)


def cube(low: tuple[int, int, int], size: int = 4, shape: tuple[int, int, int] = (14, 14, 14)) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[tuple(slice(c, c + size) for c in low)] = True
    return mask


def lumpy(seed: int) -> np.ndarray:
    """A ball with a rough surface, a crumb and a hollow."""
    rng = np.random.default_rng(seed)
    shape = (18, 20, 22)
    index = np.indices(shape) - np.reshape(np.array(shape) / 2 + rng.normal(0, 1, 3), (3, 1, 1, 1))
    mask = (index**2).sum(axis=0) + rng.normal(0, 6, shape) <= 36
    mask[tuple(rng.integers(0, 3, 3))] = True
    return mask


def test_the_border_is_the_voxels_with_a_face_neighbour_outside() -> None:
    filled = border(cube((2, 2, 2), 3))
    assert filled.sum() == 26 and not filled[3, 3, 3]
    assert border(np.ones((3, 3, 3), dtype=bool)).sum() == 26


def test_equal_masks_lie_nowhere_apart() -> None:
    found = surface_distance(cube((3, 3, 3)), cube((3, 3, 3)), SPACING)
    assert found is not None
    assert (found.hd95_mm, found.assd_mm, found.nsd) == (0.0, 0.0, 1.0)


@pytest.mark.parametrize("axis", range(3))
def test_two_plates_lie_as_far_apart_as_the_spacing_along_their_axis_says(axis: int) -> None:
    first, second = np.zeros((2, 9, 9, 9), dtype=bool)
    np.moveaxis(first, axis, 0)[1], np.moveaxis(second, axis, 0)[4] = True, True
    found = surface_distance(first, second, SPACING)
    assert found is not None
    assert (found.hd95_mm, found.assd_mm) == pytest.approx((3 * SPACING[axis],) * 2)


def test_nsd_counts_what_lies_within_the_tolerance_including_its_end() -> None:
    first, second = np.zeros((2, 3, 3, 9), dtype=bool)
    first[1, 1, :4], second[1, 1, :6] = True, True
    spacing = (0.1, 0.1, 0.1)
    # of the second's six points two lie 0.1 and 0.2 mm from the first, whose four lie on the second
    for tolerance, expected in ((0.0, 8 / 10), (0.1, 9 / 10), (0.2, 1.0)):
        found = surface_distance(first, second, spacing, tolerance)
        assert found is not None and found.nsd == pytest.approx(expected)


def test_a_mask_without_voxels_has_no_distance() -> None:
    nothing = np.zeros((14, 14, 14), dtype=bool)
    assert surface_distance(nothing, cube((3, 3, 3)), SPACING) is None
    assert surface_distance(cube((3, 3, 3)), nothing, SPACING) is None


def test_masks_of_different_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="one shape"):
        surface_distance(np.ones((2, 2, 2), dtype=bool), np.ones((2, 2, 3), dtype=bool), SPACING)


def test_distances_are_symmetric_and_the_same_however_the_grid_lies() -> None:
    first, second = lumpy(0), lumpy(1)
    found = surface_distance(first, second, SPACING)
    turned = surface_distance(second.transpose(2, 0, 1)[::-1], first.transpose(2, 0, 1)[::-1], (0.4, 0.7, 0.3))
    assert found is not None and turned is not None
    assert (turned.hd95_mm, turned.assd_mm, turned.nsd) == pytest.approx((found.hd95_mm, found.assd_mm, found.nsd))


@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy")  # MONAI warns of its own call
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), SPACING])
@pytest.mark.parametrize("seed", range(3))
def test_distances_are_those_of_monai(seed: int, spacing: tuple[float, float, float]) -> None:
    import monai.metrics as monai
    import torch

    first, second = lumpy(seed), lumpy(seed + 10)
    masks = [torch.from_numpy(mask[None, None].astype(np.float32)) for mask in (first, second)]
    common = {"include_background": True, "spacing": spacing}
    hd95 = monai.compute_hausdorff_distance(*masks, percentile=95, **common)
    assd = monai.compute_average_surface_distance(*masks, symmetric=True, **common)
    nsd = monai.compute_surface_dice(*masks, class_thresholds=[0.65], **common)
    found = surface_distance(first, second, spacing, 0.65)
    assert found is not None
    expected = tuple(float(value) for value in (hd95, assd, nsd))
    assert (found.hd95_mm, found.assd_mm, found.nsd) == pytest.approx(expected, abs=1e-4)
