"""Meshes of teeth: closed, smooth, as large as the label, where the label is, of the same topology."""

from __future__ import annotations

import fast_simplification
import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

from ToothTopoSegLib.errors import InputError
from ToothTopoSegLib.imaging.volume import Volume
from ToothTopoSegLib.surfaces.mesh import FEWEST_TRIANGLES, TriangleMesh, simplified, tooth_surface
from ToothTopoSegLib.topology.betti import betti_numbers

RADIUS = 4.0
SPACING = (0.4, 0.3, 0.35)


def grid(shape, spacing):
    return np.meshgrid(*(np.arange(n) * s for n, s in zip(shape, spacing, strict=True)), indexing="ij")


def ball(radius=RADIUS, hollow=0.0, **geometry):
    z, y, x = grid((24, 32, 28), SPACING)
    away = np.sqrt((z - 4.6) ** 2 + (y - 4.7) ** 2 + (x - 4.8) ** 2)
    return Volume(np.where((away < radius) & (away >= hollow), 11, 0).astype(np.uint8), SPACING, **geometry)


def ring():
    z, y, x = grid((16, 40, 40), (0.3,) * 3)
    across = np.hypot(np.hypot(y - 5.85, x - 5.85) - 3.5, z - 2.25)
    return Volume(np.where(across < 1.5, 46, 0).astype(np.uint8), (0.3,) * 3)


def blob(seed):
    from scipy import ndimage

    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(18, 18, 18)), 1.2)
    return Volume(np.where(noise > np.quantile(noise, 0.75), 21, 0).astype(np.uint8), (0.3,) * 3)


def labelled_mm3(labels):
    return np.count_nonzero(labels.array) * labels.voxel_volume


@settings(max_examples=8)
@given(st.integers(0, 10_000))
def test_random_blobs_keep_their_betti_numbers_and_their_volume(seed):
    labels = blob(seed)
    b0, b1, b2 = betti_numbers(labels.array == 21)
    for mesh in (tooth_surface(labels, 21), tooth_surface(labels, 21, triangles=800)):
        assert mesh.watertight and mesh.euler_number == 2 * (b0 - b1 + b2)
        assert mesh.volume == pytest.approx(labelled_mm3(labels), rel=0.01)


@pytest.mark.parametrize("labels", [ball(), ring(), ball(hollow=2.0)], ids=["ball", "ring", "hollow ball"])
@pytest.mark.parametrize("triangles", [None, 600])
def test_the_volume_is_that_of_the_label_within_one_percent(labels, triangles):
    mesh = tooth_surface(labels, int(labels.array.max()), triangles)
    assert mesh.volume == pytest.approx(labelled_mm3(labels), rel=0.01)


def test_an_independent_reader_finds_the_mesh_watertight_and_of_the_same_volume():
    mesh = tooth_surface(ring(), 46)
    other = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    assert other.is_watertight and other.is_winding_consistent and other.is_volume
    assert other.volume == pytest.approx(mesh.volume, rel=1e-4)
    assert other.euler_number == mesh.euler_number == 0


def test_voxel_steps_vanish():
    mesh = trimesh.Trimesh(*vars_of(tooth_surface(ball(), 11)), process=False)
    outward = mesh.vertices - mesh.centroid
    away = np.linalg.norm(outward, axis=1)
    turned = np.degrees(np.arccos(np.sum(mesh.vertex_normals * outward / away[:, None], axis=1)))
    assert np.abs(away - RADIUS).max() < 0.2  # half a voxel; steps are a whole one
    assert np.quantile(turned, 0.95) < 8  # a cube's corner is turned by 55 degrees


def vars_of(mesh: TriangleMesh):
    return mesh.vertices, mesh.faces


@pytest.mark.parametrize(
    "direction",
    [
        ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
        ((-1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
        ((0.0, 0.0, 1.0), (0.8, -0.6, 0.0), (0.6, 0.8, 0.0)),
    ],
)
def test_the_mesh_lies_where_the_label_lies_and_faces_outward_whatever_the_axes(direction):
    labels = ball(direction=direction, origin=(10.0, -20.0, 30.0))
    mesh = tooth_surface(labels, 11)
    middle = labels.index_to_lps(np.argwhere(labels.array == 11)).mean(axis=0)
    assert mesh.volume > 0
    assert mesh.vertices.mean(axis=0) == pytest.approx(middle, abs=0.1)


def test_no_voxel_changes_sides():
    labels = blob(3)
    mesh = trimesh.Trimesh(*vars_of(tooth_surface(labels, 21)), process=False)
    inside = np.zeros(labels.array.shape, dtype=bool)
    for j in range(18):
        for i in range(18):  # crossings of a ray along z through each row of centres
            inside[:, j, i] = crossings_below(mesh, labels, j, i) % 2 == 1
    assert np.array_equal(inside, labels.array == 21)


def crossings_below(mesh, labels, j, i):
    """How often the surface crosses the row [:, j, i] below each of its voxels."""
    x, y, _ = labels.index_to_lps(np.array([0, j, i])) + 1e-6  # off the edges of triangles
    a, b, c = (mesh.triangles[:, k] for k in range(3))
    weights = [(q[:, 0] - x) * (r[:, 1] - y) - (q[:, 1] - y) * (r[:, 0] - x) for q, r in ((b, c), (c, a), (a, b))]
    total = sum(weights)
    hit = np.all([w * np.sign(total) > 0 for w in weights], axis=0) & (total != 0)
    at = sum(w[hit] * corner[hit, 2] for w, corner in zip(weights, (a, b, c), strict=True)) / total[hit]
    heights = labels.index_to_lps(np.stack([np.arange(18), np.full(18, j), np.full(18, i)], 1))[:, 2]
    return np.sum(at[None] < heights[:, None], axis=1)


def test_a_wanted_number_of_triangles_is_kept_where_the_topology_allows_it():
    assert len(tooth_surface(ball(), 11, triangles=500).faces) <= 500
    assert len(tooth_surface(ring(), 46, triangles=1).faces) >= FEWEST_TRIANGLES


def test_a_mesh_that_cannot_be_simplified_without_harm_keeps_its_triangles(monkeypatch):
    mesh = tooth_surface(ring(), 46)
    torn = lambda points, faces, target_count: (points, faces[1:])  # noqa: E731
    monkeypatch.setattr(fast_simplification, "simplify", torn)
    assert simplified(mesh, 500) is mesh


def test_labels_that_reach_the_border_are_closed_there():
    mesh = tooth_surface(Volume(np.full((8, 8, 8), 33, np.uint8), (0.5,) * 3), 33)
    assert mesh.watertight and mesh.volume == pytest.approx(64.0, rel=0.01)


def test_single_voxels_have_a_surface_as_well():
    array = np.zeros((5, 5, 5), np.uint8)
    array[1, 1, 1] = array[3, 3, 3] = 48
    mesh = tooth_surface(Volume(array), 48)
    assert mesh.watertight and mesh.bodies == (2, 2)


def test_a_tooth_that_is_not_there_is_said_so():
    with pytest.raises(InputError, match="no tooth 36"):
        tooth_surface(ball(), 36)
