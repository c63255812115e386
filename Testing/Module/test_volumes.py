"""Scalar volume nodes as Volumes: the same voxels at the same places, or one sentence that says why not."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest

from ToothTopoSegLib.errors import InputError

ARRAY = np.arange(2 * 3 * 4, dtype=np.int16).reshape(2, 3, 4) - 7
SPACING = (0.25, 0.3, 0.5)  # along i, j, k
ORIGIN = (-12.5, 30.25, 7.0)
ORIENTATIONS = [
    np.eye(3)[:, list(order)] * signs for order in permutations(range(3)) for signs in product((1, -1), repeat=3)
]
OBLIQUE = np.linalg.qr(np.array([[0.9, 0.1, -0.3], [0.2, 0.8, 0.4], [0.3, -0.4, 0.7]]))[0]


def ras_of_voxels(node, vtk):
    """RAS positions (z, y, x, 3) of all voxels, as Slicer places them, parent transforms included."""
    matrix, world = vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    if node.GetParentTransformNode():
        node.GetParentTransformNode().GetMatrixTransformToWorld(world)
    vtk.vtkMatrix4x4.Multiply4x4(world, matrix, matrix)
    low = node.GetImageData().GetExtent()[::2]
    shape = node.GetImageData().GetDimensions()[::-1]
    places = np.empty((*shape, 3))
    for z, y, x in np.ndindex(*shape):
        places[z, y, x] = matrix.MultiplyPoint((x + low[0], y + low[1], z + low[2], 1))[:3]
    return places


def lps_of_voxels(volume):
    return volume.index_to_lps(np.moveaxis(np.indices(volume.array.shape), 0, -1))


def assert_same_places(volume, node, vtk):
    np.testing.assert_allclose(lps_of_voxels(volume) * (-1, -1, 1), ras_of_voxels(node, vtk), rtol=0, atol=1e-10)


@pytest.mark.parametrize("directions", ORIENTATIONS)
def test_every_voxel_keeps_its_value_and_place_in_all_48_orientations(nodes, make_volume, directions, vtk):
    node = make_volume(ARRAY, SPACING, directions, ORIGIN)
    volume = nodes.volume_of(node)
    assert volume.array.dtype == np.int16
    assert np.array_equal(volume.array, ARRAY)
    assert volume.spacing == SPACING[::-1]
    assert np.array_equal(volume.direction, np.diag([-1.0, -1.0, 1.0]) @ directions)
    assert_same_places(volume, node, vtk)


def test_oblique_axes_stay_oblique(nodes, make_volume, vtk):
    node = make_volume(ARRAY, SPACING, OBLIQUE, ORIGIN)
    volume = nodes.volume_of(node)
    np.testing.assert_allclose(volume.spacing, SPACING[::-1], rtol=1e-14)
    assert_same_places(volume, node, vtk)


def test_a_volume_whose_first_voxel_has_another_index_than_zero_lies_where_slicer_shows_it(nodes, make_volume, vtk):
    node = make_volume(ARRAY, SPACING, OBLIQUE, ORIGIN)
    node.GetImageData().SetExtent(5, 8, -1, 1, 2, 3)
    assert_same_places(nodes.volume_of(node), node, vtk)


def test_the_volume_is_a_copy_that_outlives_the_node(nodes, make_volume, scene):
    node = make_volume(ARRAY)
    volume = nodes.volume_of(node)
    scene.RemoveNode(node)
    del node
    assert volume.array.flags.writeable and np.array_equal(volume.array, ARRAY)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32", "float64"])
def test_the_kind_of_number_is_kept(nodes, make_volume, dtype):
    assert nodes.volume_of(make_volume(np.ones((2, 2, 2), dtype))).array.dtype == dtype


def test_a_linear_parent_transform_gives_what_hardening_a_copy_gives_and_leaves_the_scene(
    nodes, make_volume, make_transform, scene, vtk
):
    node = make_volume(ARRAY, SPACING, OBLIQUE, ORIGIN)
    moved = np.eye(4)
    moved[:3, :3] = OBLIQUE.T @ np.diag([2.0, 2.0, 2.0])
    moved[:3, 3] = 3, -40, 15
    transform = make_transform(moved)
    outer = make_transform(np.diag([-1.0, 1.0, 1.0, 1.0]))
    transform.SetAndObserveTransformNodeID(outer.GetID())
    node.SetAndObserveTransformNodeID(transform.GetID())
    before = scene.GetNumberOfNodes(), node.GetOrigin(), node.GetMTime()
    volume = nodes.volume_of(node)
    assert (scene.GetNumberOfNodes(), node.GetOrigin(), node.GetMTime()) == before
    assert_same_places(volume, node, vtk)
    node.HardenTransform()
    hardened = nodes.volume_of(node)
    np.testing.assert_allclose(lps_of_voxels(volume), lps_of_voxels(hardened), atol=1e-9)


def refused(nodes, node):
    with pytest.raises(InputError) as raised:
        nodes.volume_of(node)
    message = str(raised.value)
    assert message.endswith(".") and "\n" not in message
    return message


def test_no_volume_is_refused(nodes):
    assert refused(nodes, None) == "No volume is chosen; choose the CBCT volume first."


def test_a_node_of_another_kind_is_refused(nodes, scene):
    assert "'Head' is no volume" in refused(nodes, scene.AddNewNodeByClass("vtkMRMLModelNode", "Head"))


def test_a_volume_without_voxels_is_refused(nodes, scene):
    assert "'頭 ü' has no voxels" in refused(nodes, scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "頭 ü"))


def test_a_volume_without_scalars_is_refused(nodes, make_volume):
    node = make_volume(ARRAY)
    node.GetImageData().GetPointData().SetScalars(None)
    assert "has no voxels" in refused(nodes, node)


@pytest.mark.parametrize("kind", ["vtkMRMLVectorVolumeNode", "vtkMRMLScalarVolumeNode"])
def test_a_volume_of_vectors_is_refused(nodes, make_volume, kind):
    assert "several values in each voxel" in refused(nodes, make_volume(np.zeros((2, 2, 2, 3), np.uint8), kind=kind))


@pytest.mark.parametrize("bad", [(0.0, 1.0, 1.0), (np.nan, 1.0, 1.0), (np.inf, 1.0, 1.0)])
def test_a_geometry_that_is_none_is_refused(nodes, make_volume, bad, vtk):
    node = make_volume(ARRAY)
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy(np.diag([*bad, 1.0]).ravel())
    node.SetIJKToRASMatrix(matrix)
    if bad[0] == 0.0:  # Slicer mends a spacing of zero
        node.SetIJKToRASDirections(1, 1, 0, 0, 0, 0, 0, 0, 1)
    assert "no usable spacing, origin or directions" in refused(nodes, node)


def test_a_transform_that_shears_is_refused(nodes, make_volume, make_transform):
    node = make_volume(ARRAY)
    node.SetAndObserveTransformNodeID(
        make_transform([[1, 0.5, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]).GetID()
    )
    assert "not at right angles" in refused(nodes, node)


def test_a_transform_that_bends_is_refused(nodes, make_volume, scene, vtk):
    bend = vtk.vtkThinPlateSplineTransform()
    points = [vtk.vtkPoints(), vtk.vtkPoints()]
    for place in np.ndindex(2, 2, 2):
        for which in (0, 1):
            points[which].InsertNextPoint(*(10.0 * np.array(place) + which * np.array([place[1] * place[2], 0, 0])))
    bend.SetSourceLandmarks(points[0])
    bend.SetTargetLandmarks(points[1])
    bend.SetBasisToR()
    transform = scene.AddNewNodeByClass("vtkMRMLTransformNode", "Bent")
    transform.SetAndObserveTransformToParent(bend)
    node = make_volume(ARRAY)
    node.SetAndObserveTransformNodeID(transform.GetID())
    assert "lies under the transform 'Bent', which bends it" in refused(nodes, node)


def test_a_time_sequence_is_refused_as_itself_and_as_the_volume_that_shows_one_moment(nodes, make_volume, scene):
    sequence = scene.AddNewNodeByClass("vtkMRMLSequenceNode", "Chewing")
    node = make_volume(ARRAY)
    for moment in ("0", "1"):
        sequence.SetDataNodeAtValue(node, moment)
    browser = scene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode")
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    browser.SetSelectedItemNumber(0)
    browser.AddProxyNode(node, sequence, False)
    assert "'Chewing' is a time sequence" in refused(nodes, sequence)
    assert "is a time sequence" in refused(nodes, browser.GetProxyNode(sequence))


def test_a_volume_that_no_browser_shows_is_no_sequence_though_there_are_browsers(nodes, make_volume, scene):
    scene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode")
    assert nodes.volume_of(make_volume(ARRAY)).array.shape == ARRAY.shape
