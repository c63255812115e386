"""The canonical grid: every flip and permutation, oblique axes, anisotropic voxels."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ToothTopoSegLib.imaging.canonical import from_canonical, reorientation, to_canonical
from ToothTopoSegLib.imaging.itk import matrix3
from ToothTopoSegLib.imaging.volume import Volume

SHAPE = (3, 4, 5)
SPACING = (0.7, 0.3, 1.1)
ORIENTATIONS = [(p, s) for p in itertools.permutations(range(3)) for s in itertools.product((1, -1), repeat=3)]


def numbered(direction: np.ndarray, spacing: tuple[float, float, float] = SPACING) -> Volume:
    """A volume whose every voxel has its own value."""
    array = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
    return Volume(array, spacing, (-12.5, 40.25, 3.0), matrix3(direction))


def signed_permutation(order: tuple[int, ...], signs: tuple[int, ...]) -> np.ndarray:
    return np.eye(3)[:, list(order)] * signs


def rotation(axis: tuple[float, float, float], angle: float) -> np.ndarray:
    x, y, z = np.asarray(axis) / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def world_of_values(volume: Volume) -> np.ndarray:
    """World position of every voxel, sorted by the voxel's value."""
    index = np.stack(np.unravel_index(np.argsort(volume.array, axis=None), volume.array.shape), axis=-1)
    return volume.index_to_lps(index)


def spares_a_copy_or_puts_in_order(made: Volume, volume: Volume) -> bool:
    """Reversed axes are a view; only where axes were exchanged, voxels were moved."""
    exchanged = reorientation(volume).order != (0, 1, 2)
    return made.array.flags.c_contiguous if exchanged else np.shares_memory(made.array, volume.array)


def assert_same_world_and_exact_return(volume: Volume) -> None:
    canonical = to_canonical(volume)
    assert spares_a_copy_or_puts_in_order(canonical, volume)
    assert canonical.array.dtype == volume.array.dtype
    np.testing.assert_allclose(world_of_values(canonical), world_of_values(volume), atol=1e-9)
    back = from_canonical(canonical, volume)
    assert spares_a_copy_or_puts_in_order(back, volume)
    assert np.array_equal(back.array, volume.array)
    assert (back.spacing, back.origin, back.direction) == (volume.spacing, volume.origin, volume.direction)


@pytest.mark.parametrize(("order", "signs"), ORIENTATIONS)
def test_every_flip_and_permutation_becomes_the_identity_and_returns_bit_for_bit(order, signs):
    volume = numbered(signed_permutation(order, signs))
    assert_same_world_and_exact_return(volume)
    assert np.array_equal(to_canonical(volume).direction, np.eye(3))


@pytest.mark.parametrize(("order", "signs"), ORIENTATIONS)
def test_a_slight_tilt_stays_in_the_direction_and_the_axes_follow_the_nearest_patient_axis(order, signs):
    tilt = rotation((1, 2, 3), 0.2)
    volume = numbered(tilt @ signed_permutation(order, signs))
    assert_same_world_and_exact_return(volume)
    np.testing.assert_allclose(to_canonical(volume).direction, tilt, atol=1e-12)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    axis=st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda a: np.linalg.norm(a) > 0.1),
    angle=st.floats(-np.pi, np.pi),
    mirror=st.booleans(),
    spacing=st.tuples(*[st.floats(0.05, 4.0)] * 3),
)
def test_any_oblique_direction_keeps_every_voxel_in_its_place(axis, angle, mirror, spacing):
    direction = rotation(axis, angle) * ([-1, 1, 1] if mirror else [1, 1, 1])
    volume = numbered(direction, spacing)
    assert_same_world_and_exact_return(volume)
    canonical = to_canonical(volume)
    assert sorted(reorientation(volume).order) == [0, 1, 2]
    # Optimal: no other exchange of axes brings them closer to L, P, S.
    cosines = np.abs(np.asarray(canonical.direction))
    best = max(cosines[range(3), list(p)].sum() for p in itertools.permutations(range(3)))
    assert np.trace(cosines) == pytest.approx(best)
    assert (np.diag(np.asarray(canonical.direction)) >= 0).all()


def test_a_rotation_of_45_degrees_still_gives_each_patient_axis_its_own_image_axis():
    for axis in ((1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1)):
        assert_same_world_and_exact_return(numbered(rotation(axis, np.pi / 4)))


def test_a_canonical_volume_is_not_copied():
    volume = numbered(np.eye(3))
    assert np.shares_memory(to_canonical(volume).array, volume.array)


def test_spacing_follows_its_axis():
    volume = numbered(signed_permutation((2, 0, 1), (1, 1, 1)))  # image x runs to S, y to L, z to P
    assert to_canonical(volume).spacing == (SPACING[2], SPACING[0], SPACING[1])


def test_labels_made_on_the_canonical_grid_return_with_their_own_number_type():
    volume = numbered(signed_permutation((1, 2, 0), (-1, 1, -1)))
    labels = (to_canonical(volume).array > 30).astype(np.uint8)
    back = from_canonical(labels, volume)
    assert back.array.dtype == np.uint8
    assert np.array_equal(back.array, volume.array > 30)


def test_an_array_of_another_shape_is_refused():
    with pytest.raises(ValueError, match="does not fit"):
        from_canonical(np.zeros((9, 9, 9)), numbered(np.eye(3)))
