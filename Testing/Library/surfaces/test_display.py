"""Light surfaces: few triangles, where the tooth is, as large as it is, whatever the axes of the scan."""

from __future__ import annotations

import numpy as np
import pytest

from ToothTopoSegLib.anatomy import fdi
from ToothTopoSegLib.imaging.volume import Volume
from ToothTopoSegLib.surfaces.display import display_surfaces, surface_net
from ToothTopoSegLib.surfaces.mesh import TriangleMesh

RADIUS_MM = 5.0
TURNED = ((0.0, -1.0, 0.0), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0))
MIRRORED = ((-1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
STRAIGHT = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


def a_ball(spacing: tuple[float, float, float], direction=STRAIGHT) -> tuple[Volume, np.ndarray]:
    """Tooth 11 as a ball, a jaw around it, and the LPS place of its centre."""
    shape = tuple(round(14 / step) for step in spacing)
    labels = Volume(np.full(shape, fdi.LOWER_JAW, np.uint8), spacing, (5.0, -7.0, 9.0), direction)
    index = np.moveaxis(np.indices(shape), 0, -1)
    middle = (np.array(shape) - 1) / 2
    labels.array[(((index - middle) * spacing) ** 2).sum(axis=-1) <= RADIUS_MM**2] = 11
    return labels, labels.index_to_lps(middle)


@pytest.mark.parametrize("direction", [STRAIGHT, TURNED, MIRRORED])
@pytest.mark.parametrize("spacing", [(0.3, 0.3, 0.3), (1.0, 0.4, 0.4), (1.2, 1.2, 1.2)])
def test_a_ball_is_where_it_is_as_large_as_it_is_and_seen_from_outside(spacing, direction) -> None:
    labels, centre = a_ball(spacing, direction)
    (mesh,) = display_surfaces(labels, 1000).values()
    assert len(mesh.faces) <= 1000
    away = np.linalg.norm(mesh.vertices - centre, axis=1)
    assert abs(away.mean() - RADIUS_MM) < 0.2 and away.std() < 0.25
    assert mesh.volume == pytest.approx(np.count_nonzero(labels.array == 11) * labels.voxel_volume, rel=0.06)


def test_only_teeth_are_drawn_and_a_speck_is_left_out_or_small() -> None:
    labels, _ = a_ball((0.5, 0.5, 0.5))
    labels.array[1, 1, 1] = 12
    assert 11 in (found := display_surfaces(labels)) and fdi.LOWER_JAW not in found
    assert 12 not in found or found[12].volume < 1


def test_a_map_without_teeth_has_no_surfaces() -> None:
    assert display_surfaces(Volume(np.zeros((4, 4, 4), np.uint8))) == {}


def test_the_net_around_one_point_is_a_closed_octahedral_cube() -> None:
    field = np.zeros((3, 3, 3), np.float32)
    field[1, 1, 1] = 1
    vertices, faces = surface_net(field, 0.5)
    assert len(vertices) == 8 and len(faces) == 12
    assert TriangleMesh(vertices, faces).watertight
    np.testing.assert_allclose(vertices.mean(axis=0), [1, 1, 1])
