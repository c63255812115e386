"""Segmentation nodes as label maps of FDI numbers: whoever made them, on whatever grid."""

from __future__ import annotations

import numpy as np
import pytest

from ToothTopoSegLib.anatomy import fdi
from ToothTopoSegLib.anatomy.snomed import terminology_entry
from ToothTopoSegLib.errors import InputError

OBLIQUE = np.linalg.qr(np.array([[0.9, 0.1, -0.3], [0.2, 0.8, 0.4], [0.3, -0.4, 0.7]]))[0]
NAMES = {"36": 36, "37": 37, "11": 11, "lower jaw": 101}


@pytest.fixture
def scan(make_volume, teeth_array):
    return make_volume(np.zeros(teeth_array.shape, np.int16), (0.3, 0.4, 0.5), OBLIQUE, (10, -20, 30))


def refused(nodes, *arguments, **options):
    with pytest.raises(InputError) as raised:
        nodes.labels_of(*arguments, **options)
    message = str(raised.value)
    assert message.endswith(".") and "\n" not in message
    return message


def test_one_shared_layer_is_read_on_the_grid_of_its_volume(nodes, scan, make_segmentation, teeth_array):
    read = nodes.labels_of(make_segmentation((teeth_array, NAMES), like=scan))
    grid = nodes.volume_of(scan)
    assert read.labels.array.dtype == np.uint8
    assert np.array_equal(read.labels.array, teeth_array)
    assert (read.labels.spacing, read.labels.origin, read.labels.direction) == (
        grid.spacing,
        grid.origin,
        grid.direction,
    )
    assert sorted(read.numbers.values()) == [11, 36, 37, 101]
    assert (read.scheme, read.notes) == ("fdi", ())


def test_separate_layers_with_equal_label_values_are_told_apart_by_their_names(
    nodes, scan, make_segmentation, teeth_array
):
    layers = [((teeth_array == value).astype(np.uint8), {name: 1}) for name, value in NAMES.items()]
    read = nodes.labels_of(make_segmentation(*layers, like=scan))
    assert np.array_equal(read.labels.array, teeth_array)
    assert read.notes == ()


def test_terminology_tells_the_tooth_of_a_segment_with_any_name(nodes, scan, make_segmentation, teeth_array):
    node = make_segmentation(((teeth_array == 36).astype(np.uint8), {"左下": 1}), like=scan)
    segment = node.GetSegmentation().GetNthSegment(0)
    segment.SetTag(segment.GetTerminologyEntryTagName(), terminology_entry(36))
    read = nodes.labels_of(node)
    assert np.array_equal(read.labels.array == 36, teeth_array == 36)


def test_another_label_scheme_is_read_where_it_is_named(nodes, scan, make_segmentation, teeth_array):
    array = np.where(teeth_array == 36, 19, 0).astype(np.int16)
    read = nodes.labels_of(make_segmentation((array, {"Segment_19": 19}), like=scan), scheme="universal")
    assert read.scheme == "universal"
    assert set(np.unique(read.labels.array)) == {0, 36}


def test_teeth_that_overlap_go_to_the_first_and_that_is_said(nodes, scan, make_segmentation):
    first, second = np.zeros((2, 20, 24, 28), np.uint8)
    first[2:6, 2:6, 2:6] = 1
    second[4:8, 2:6, 2:6] = 1
    read = nodes.labels_of(make_segmentation((first, {"36": 1}), (second, {"37": 1}), like=scan))
    assert np.array_equal(read.labels.array, np.where(first, 36, np.where(second, 37, 0)))
    assert read.notes == ("tooth 36 and tooth 37 overlap in 32 voxels, which count as tooth 36.",)


def test_a_tooth_goes_before_the_jaw_it_stands_in_whichever_comes_first(nodes, scan, make_segmentation):
    jaw, tooth = np.zeros((2, 20, 24, 28), np.uint8)
    jaw[2:6] = 1
    tooth[4:8, 2:6, 2:6] = 1
    read = nodes.labels_of(make_segmentation((jaw, {"Mandible": 1}), (tooth, {"36": 1}), like=scan))
    assert np.array_equal(read.labels.array, np.where(tooth, 36, np.where(jaw, 101, 0)))
    assert read.notes == ("tooth 36 and the lower jaw overlap in 32 voxels, which count as tooth 36.",)


def test_two_segments_of_one_tooth_are_joined_and_that_is_said(nodes, scan, make_segmentation):
    array = np.zeros((20, 24, 28), np.uint8)
    array[2, 2, 2], array[4, 4, 4] = 1, 2
    read = nodes.labels_of(make_segmentation((array, {"36": 1, "lower left first molar pulp": 2}), like=scan))
    assert np.count_nonzero(read.labels.array == 36) == 2
    assert read.notes == (
        "Several segments are one tooth and count as one: tooth 36 (36, lower left first molar pulp).",
    )


def test_an_empty_segment_is_left_out_and_named(nodes, scan, make_segmentation, teeth_array):
    node = make_segmentation((teeth_array, {"36": 36, "38": 38}), like=scan)
    node.GetSegmentation().AddEmptySegment("", "48")
    read = nodes.labels_of(node)
    assert set(np.unique(read.labels.array)) == {0, 36}
    assert read.notes == ("Empty and left out: 38, 48.",)


def test_segments_that_are_no_teeth_are_left_out_and_named(nodes, scan, make_segmentation, teeth_array):
    read = nodes.labels_of(make_segmentation((teeth_array, {"36": 36, "Tumor": 37, "Canal": 11}), like=scan))
    assert set(np.unique(read.labels.array)) == {0, 36}
    assert read.notes == ("No teeth and left out: Tumor, Canal.",)


def test_a_layer_that_covers_a_part_of_the_grid_lies_where_it_belongs(nodes, scan, make_segmentation, teeth_array):
    node = make_segmentation((teeth_array[3:15, 4:20, 2:22].copy(), NAMES), like=scan)
    image = node.GetSegmentation().GetNthSegment(0).GetRepresentation("Binary labelmap")
    image.SetExtent(2, 21, 4, 19, 3, 14)
    expected = np.zeros_like(teeth_array)
    expected[3:15, 4:20, 2:22] = teeth_array[3:15, 4:20, 2:22]
    assert np.array_equal(nodes.labels_of(node).labels.array, expected)


def test_what_lies_outside_the_volume_is_left_out_and_said(nodes, scan, make_segmentation, teeth_array):
    node = make_segmentation((teeth_array, NAMES), like=scan)
    image = node.GetSegmentation().GetNthSegment(0).GetRepresentation("Binary labelmap")
    image.SetExtent(-6, 21, 0, 23, 0, 19)
    read = nodes.labels_of(node)
    assert np.array_equal(read.labels.array[:, :, :22], teeth_array[:, :, 6:])
    assert not read.labels.array[:, :, 22:].any()
    assert read.notes == ("Parts of the segmentation that lie outside the volume were left out.",)


def test_a_segmentation_beside_the_volume_is_refused(nodes, scan, make_segmentation, teeth_array):
    node = make_segmentation((teeth_array, NAMES), like=scan)
    node.GetSegmentation().GetNthSegment(0).GetRepresentation("Binary labelmap").SetExtent(100, 127, 0, 23, 0, 19)
    assert "lies outside the volume" in refused(nodes, node)


def test_another_volume_may_give_the_grid(nodes, scan, make_volume, make_segmentation, teeth_array):
    """The other grid has its axes exchanged and reversed, so that every voxel meets one of the first."""
    node = make_segmentation((teeth_array, NAMES), like=scan)
    shape = teeth_array.shape
    grid = nodes.volume_of(scan)
    origin = grid.index_to_lps(np.array([0, shape[1] - 1, 0])) * (-1, -1, 1)
    turned = make_volume(
        np.zeros((shape[1], shape[2], shape[0]), np.int16), (0.5, 0.3, 0.4), OBLIQUE[:, [2, 0, 1]] * (1, 1, -1), origin
    )
    read = nodes.labels_of(node, turned)
    assert np.array_equal(read.labels.array, np.flip(teeth_array, 1).transpose(1, 2, 0))


def test_a_finer_grid_gets_the_nearest_voxels(nodes, scan, make_volume, make_segmentation, teeth_array):
    node = make_segmentation((teeth_array, NAMES), like=scan)
    step = np.array([0.3, 0.4, 0.5])
    origin = np.array([10, -20, 30]) - OBLIQUE @ (step / 4)
    fine = make_volume(np.zeros([2 * n for n in teeth_array.shape], np.int16), step / 2, OBLIQUE, origin)
    expected = teeth_array.repeat(2, 0).repeat(2, 1).repeat(2, 2)
    assert np.array_equal(nodes.labels_of(node, fine).labels.array, expected)


def test_transforms_of_segmentation_and_volume_are_both_followed(
    nodes, scan, make_segmentation, make_transform, teeth_array
):
    node = make_segmentation((teeth_array, NAMES), like=scan)
    moved = np.eye(4)
    moved[:3, :3] = OBLIQUE
    moved[:3, 3] = 5, 6, 7
    transform = make_transform(moved)
    scan.SetAndObserveTransformNodeID(transform.GetID())
    node.SetAndObserveTransformNodeID(transform.GetID())
    assert np.array_equal(nodes.labels_of(node).labels.array, teeth_array)
    shift = np.eye(4)
    shift[:3, 3] = OBLIQUE @ (0.3 * 2, 0, 0)
    scan.SetAndObserveTransformNodeID(None)
    node.SetAndObserveTransformNodeID(make_transform(shift).GetID())
    read = nodes.labels_of(node, scan)
    assert np.array_equal(read.labels.array[:, :, 2:], teeth_array[:, :, :-2])


def test_without_a_volume_the_kept_geometry_gives_the_grid(nodes, scan, scene, make_segmentation, teeth_array):
    node = make_segmentation((teeth_array, NAMES), like=scan)
    grid = nodes.volume_of(scan)
    scene.RemoveNode(scan)
    read = nodes.labels_of(node)
    assert np.array_equal(read.labels.array, teeth_array)
    np.testing.assert_allclose(read.labels.origin, grid.origin, atol=1e-6)
    np.testing.assert_allclose(read.labels.spacing, grid.spacing, atol=1e-6)


def test_without_any_geometry_the_segments_give_the_grid(nodes, make_segmentation, teeth_array):
    read = nodes.labels_of(make_segmentation((teeth_array, NAMES)))
    assert np.array_equal(read.labels.array, teeth_array)


def test_surfaces_are_turned_into_voxels_and_the_segmentation_stays_as_it_is(
    nodes, vtk, make_volume, make_segmentation
):
    scan = make_volume(np.zeros((30, 30, 30), np.int16))
    node = make_segmentation(like=scan)
    ball = vtk.vtkSphereSource()
    ball.SetCenter(15, 15, 15)
    ball.SetRadius(8)
    ball.SetThetaResolution(40)
    ball.SetPhiResolution(40)
    ball.Update()
    node.SetSourceRepresentationToClosedSurface()
    node.AddSegmentFromClosedSurfaceRepresentation(ball.GetOutput(), "36")
    read = nodes.labels_of(node)
    distance = np.sqrt(((np.indices((30, 30, 30)) - 15) ** 2).sum(axis=0))
    assert np.array_equal(read.labels.array[distance < 7], np.full(np.count_nonzero(distance < 7), 36))
    assert not read.labels.array[distance > 9].any()
    assert not node.GetSegmentation().ContainsRepresentation("Binary labelmap")


@pytest.mark.parametrize("chosen", ["nothing", "a volume"])
def test_no_segmentation_is_refused(nodes, scan, chosen):
    node = None if chosen == "nothing" else scan
    assert refused(nodes, node) == "No segmentation is chosen; choose the segmentation of the teeth first."


def test_a_segmentation_without_segments_is_refused(nodes, make_segmentation):
    assert "'Drawn' has no segments" in refused(nodes, make_segmentation())


def test_a_segmentation_of_something_else_is_refused_and_its_names_are_told(nodes, make_segmentation, teeth_array):
    assert "found Tumor, Canal" in refused(nodes, make_segmentation((teeth_array, {"Tumor": 36, "Canal": 37})))


@pytest.mark.parametrize("with_volume", [True, False])
def test_a_segmentation_of_empty_segments_is_refused(nodes, scan, make_segmentation, with_volume):
    node = make_segmentation(like=scan if with_volume else None)
    node.GetSegmentation().AddEmptySegment("", "36")
    assert "All segments of 'Drawn' are empty" in refused(nodes, node)


def test_a_reference_without_voxels_is_refused(nodes, scene, make_segmentation, teeth_array):
    empty = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Empty")
    assert "'Empty' has no voxels" in refused(nodes, make_segmentation((teeth_array, NAMES)), empty)


def test_the_numbers_of_jaws_lie_above_those_of_teeth_as_the_adapter_relies_on(nodes):
    assert max(fdi.TEETH) < min(fdi.JAWS) == nodes.FIRST_JAW
