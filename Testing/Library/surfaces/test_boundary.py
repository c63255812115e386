"""The boundary of voxels: a closed manifold with the Betti numbers of the voxels, however they touch."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from ToothTopoSegLib.surfaces.boundary import boundary
from ToothTopoSegLib.surfaces.mesh import is_manifold
from ToothTopoSegLib.topology.betti import betti_numbers

MASKS = arrays(bool, array_shapes(min_dims=3, max_dims=3, max_side=5), elements=st.booleans())


def euler(found):
    return len(found.vertices) - len(found.triangles) * 3 // 2 + len(found.triangles)


def drawn(*voxels):
    mask = np.zeros((4, 4, 4), dtype=bool)
    mask[tuple(np.transpose(voxels))] = True
    return mask


@given(MASKS.filter(np.any))
def test_whatever_voxels_are_set_the_boundary_is_a_closed_manifold_with_their_betti_numbers(mask):
    found = boundary(mask)
    b0, b1, b2 = betti_numbers(mask)
    assert is_manifold(found.triangles, len(found.vertices))
    assert euler(found) == 2 * (b0 - b1 + b2)


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        (drawn((1, 1, 1)), 2),
        (drawn((1, 1, 1), (1, 2, 2)), 2),  # two voxels that share an edge are one body
        (drawn((1, 1, 1), (2, 2, 2)), 2),  # and so are two that share a corner
        (drawn((0, 0, 0), (2, 2, 2)), 4),
        (drawn(*((1, y, x) for y in range(3) for x in range(3) if (y, x) != (1, 1))), 0),  # a ring
        (drawn((1, 0, 1), (1, 1, 0), (1, 1, 2), (1, 2, 1)), 0),  # a ring held by four edges
    ],
)
def test_drawings_have_the_euler_number_worked_out_by_hand(mask, expected):
    assert euler(boundary(mask)) == expected


def test_a_single_voxel_is_a_cube_around_its_index():
    found = boundary(drawn((1, 2, 3)))
    assert len(found.vertices) == 8 and len(found.triangles) == 12 and len(found.edges) == 12
    assert np.array_equal(found.vertices.min(axis=0), [0.5, 1.5, 2.5])
    assert np.array_equal(found.vertices.max(axis=0), [1.5, 2.5, 3.5])


def test_an_empty_mask_has_no_boundary():
    with pytest.raises(ValueError, match="empty"):
        boundary(np.zeros((2, 2, 2), dtype=bool))
