"""FDI label maps as segmentation nodes: what the user sees, what is saved, what is left when it fails."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ToothTopoSegLib.anatomy.colours import colour_of
from ToothTopoSegLib.anatomy.snomed import terminology_entry
from ToothTopoSegLib.errors import InputError
from ToothTopoSegLib.imaging.boxes import label_boxes
from ToothTopoSegLib.imaging.segments import tooth_segments, write_teeth

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def described(vtk):
    """Gives the name, label value, colour and terminology of each segment of a node by its ID."""
    return lambda node: descriptions(node, vtk)


def descriptions(node, vtk):
    told = {}
    segmentation = node.GetSegmentation()
    for identifier in segmentation.GetSegmentIDs():
        segment = segmentation.GetSegment(identifier)
        entry = vtk.reference("")
        segment.GetTag("TerminologyEntry", entry)
        colour = tuple(round(channel, 4) for channel in segment.GetColor())
        told[identifier] = (segment.GetName(), segment.GetLabelValue(), colour, str(entry))
    return told


def test_every_tooth_is_a_segment_with_its_name_number_colour_and_code(nodes, scan, labels, described):
    node = nodes.show_teeth(labels, scan, "Teeth")
    assert node.GetName() == "Teeth"
    expected = [
        ("Segment_11", "11 upper right central incisor", 11),
        ("Segment_36", "36 lower left first molar", 36),
        ("Segment_37", "37 lower left second molar", 37),
        ("Segment_101", "lower jaw", 101),
    ]
    assert list(described(node).items()) == [
        (identifier, (name, value, tuple(round(c, 4) for c in colour_of(value)), terminology_entry(value)))
        for identifier, name, value in expected
    ]


def test_the_node_reads_back_as_the_label_map_it_was_made_of(nodes, scan, labels, teeth_array):
    read = nodes.labels_of(nodes.show_teeth(labels, scan, "Teeth"))
    assert np.array_equal(read.labels.array, teeth_array)
    assert read.notes == ()


def test_all_segments_share_one_layer_and_the_volume_is_the_reference_geometry(nodes, slicer_core, scan, labels):
    node = nodes.show_teeth(labels, scan, "Teeth")
    assert node.GetSegmentation().GetNumberOfLayers() == 1
    assert node.GetNodeReference(node.GetReferenceImageGeometryReferenceRole()) is scan
    geometry = slicer_core.vtkOrientedImageData()
    text = node.GetSegmentation().GetConversionParameter("Reference image geometry")
    assert slicer_core.vtkSegmentationConverter.DeserializeImageGeometry(text, geometry, False)
    assert geometry.GetDimensions() == (28, 24, 20)
    np.testing.assert_allclose(geometry.GetSpacing(), (0.3, 0.4, 0.5))


def test_the_label_map_and_the_node_share_no_memory(nodes, scan, labels, teeth_array):
    node = nodes.show_teeth(labels, scan, "Teeth")
    labels.array[...] = 0
    labels.array[0, 0, 0] = 48
    assert np.count_nonzero(nodes.labels_of(node).labels.array == 36) == 8 * 6 * 6


def test_the_node_moves_with_the_volume_under_its_transform(nodes, scan, teeth_array, make_transform, oblique):
    moved = np.eye(4)
    moved[:3, :3] = oblique.T
    moved[:3, 3] = 5, 6, 7
    scan.SetAndObserveTransformNodeID(make_transform(moved).GetID())
    labels = nodes.volume_of(scan).with_array(teeth_array)
    node = nodes.show_teeth(labels, scan, "Teeth")
    assert node.GetParentTransformNode() is scan.GetParentTransformNode()
    assert np.array_equal(nodes.labels_of(node).labels.array, teeth_array)
    scan.SetAndObserveTransformNodeID(None)
    node.SetAndObserveTransformNodeID(None)
    assert np.array_equal(nodes.labels_of(node).labels.array, teeth_array)


def test_a_volume_whose_first_voxel_has_another_index_than_zero_gets_its_teeth_in_place(nodes, scan, teeth_array):
    scan.GetImageData().SetExtent(5, 32, -1, 22, 2, 21)
    labels = nodes.volume_of(scan).with_array(teeth_array)
    node = nodes.show_teeth(labels, scan, "Teeth")
    assert np.array_equal(nodes.labels_of(node).labels.array, teeth_array)


@pytest.mark.parametrize("visible", [True, False])
def test_jaws_are_segments_that_can_be_hidden(nodes, scan, labels, visible):
    display = nodes.show_teeth(labels, scan, "Teeth", jaws_visible=visible).GetDisplayNode()
    assert display.GetSegmentVisibility("Segment_101") == visible
    assert display.GetSegmentVisibility("Segment_36")


def test_closed_surfaces_are_made_on_request_and_are_those_that_slicer_makes(nodes, scan, labels, vtk):
    plain = nodes.show_teeth(labels, scan, "Plain")
    assert not plain.GetSegmentation().ContainsRepresentation("Closed surface")
    plain.CreateClosedSurfaceRepresentation()
    node = nodes.show_teeth(labels, scan, "Teeth", closed_surface=True)
    for identifier in node.GetSegmentation().GetSegmentIDs():
        ours, theirs = (
            n.GetSegmentation().GetSegment(identifier).GetRepresentation("Closed surface") for n in (node, plain)
        )
        assert ours.GetNumberOfPoints() == theirs.GetNumberOfPoints() > 100
        places = [vtk.util.numpy_support.vtk_to_numpy(surface.GetPoints().GetData()) for surface in (ours, theirs)]
        np.testing.assert_allclose(*(np.sort(place, axis=0) for place in places), atol=1e-3)
    assert node.GetDisplayNode().GetDisplayRepresentationName3D() == "Closed surface"


def test_the_node_lies_beside_the_volume_in_the_study(nodes, scene, slicer_core, scan, labels):
    hierarchy = slicer_core.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    subject = hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), "Patient")
    study = hierarchy.CreateStudyItem(subject, "CBCT")
    hierarchy.CreateItem(study, scan)
    node = nodes.show_teeth(labels, scan, "Teeth")
    assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) == study


def test_a_volume_that_is_in_no_study_gets_its_teeth_at_the_top(nodes, scene, slicer_core, scan, labels):
    hierarchy = slicer_core.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    node = nodes.show_teeth(labels, scan, "Teeth")
    assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) == hierarchy.GetSceneItemID()


def test_teeth_take_the_place_of_what_a_node_holds_and_are_shown_as_before(
    nodes, scene, slicer_core, scan, labels, teeth_array, described
):
    first = teeth_array.copy()
    first[first == 36] = 38
    node = nodes.show_teeth(labels.with_array(first), scan, "First", closed_surface=True)
    node.GetDisplayNode().SetSegmentVisibility("Segment_11", False)
    node.GetDisplayNode().SetSegmentOpacity3D("Segment_37", 0.5)
    segmentation, before = node.GetSegmentation(), scene_content(scene, slicer_core)
    steps = nodes.show_teeth_in_steps(
        labels, label_boxes(labels.array), scan, "Last", jaws_visible=False, closed_surface=True, node=node
    )
    held = segmentation.GetSegmentIDs()
    while True:
        try:
            next(steps)
            assert node.GetName() == "First" and segmentation.GetSegmentIDs() == held
        except StopIteration as end:
            assert end.value is node
            break
    assert node.GetName() == "Last" and node.GetSegmentation() is segmentation
    assert scene_content(scene, slicer_core) == before
    assert np.array_equal(nodes.labels_of(node).labels.array, teeth_array)
    fresh = nodes.show_teeth(labels, scan, "Fresh")
    assert described(node) == described(fresh) and segmentation.GetNumberOfLayers() == 1
    display = node.GetDisplayNode()
    assert not display.GetSegmentVisibility("Segment_11") and display.GetSegmentOpacity3D("Segment_37") == 0.5
    assert display.GetSegmentVisibility("Segment_36") and display.GetSegmentVisibility("Segment_101")
    assert segmentation.GetSegment("Segment_36").GetRepresentation("Closed surface").GetNumberOfPoints() > 100


def test_a_node_that_is_gone_gets_no_teeth_but_a_new_one_does(nodes, scene, scan, labels, teeth_array):
    gone = nodes.show_teeth(labels, scan, "Gone")
    scene.RemoveNode(gone)
    boxes = label_boxes(labels.array)
    steps = nodes.show_teeth_in_steps(labels, boxes, scan, "Last", node=gone)
    with pytest.raises(StopIteration) as end:
        while True:
            next(steps)
    made = end.value.value
    assert made is not gone and made.GetScene() is scene
    assert np.array_equal(nodes.labels_of(made).labels.array, teeth_array)


def scene_content(scene, slicer_core):
    hierarchy = slicer_core.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    return [scene.GetNthNode(n).GetID() for n in range(scene.GetNumberOfNodes())], hierarchy.GetNumberOfItems()


@pytest.mark.parametrize("step", ["_segments", "show_jaws", "_place_beside"])
@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt])
def test_whatever_fails_leaves_nothing_in_the_scene(nodes, scene, slicer_core, scan, labels, monkeypatch, step, error):
    before = scene_content(scene, slicer_core)
    working = getattr(nodes, step)

    def fail(*arguments):
        working(*arguments)
        raise error

    monkeypatch.setattr(nodes, step, fail)
    with pytest.raises(error):
        nodes.show_teeth(labels, scan, "Teeth")
    assert scene_content(scene, slicer_core) == before


def test_labels_of_another_grid_are_refused_and_leave_nothing(nodes, scene, slicer_core, scan, make_volume, labels):
    other = make_volume(np.zeros((4, 4, 4), np.int16))
    before = scene_content(scene, slicer_core)
    with pytest.raises(InputError, match="28 x 24 x 20 voxels and the scan 4 x 4 x 4"):
        nodes.show_teeth(labels, other, "Teeth")
    assert scene_content(scene, slicer_core) == before


def test_a_result_without_teeth_is_refused(nodes, scan, labels):
    with pytest.raises(InputError, match="No teeth were found in 'CBCT'"):
        nodes.show_teeth(labels.with_array(np.zeros_like(labels.array)), scan, "Teeth")


def test_our_seg_nrrd_file_is_read_by_slicer_as_the_same_segments(
    nodes, scene, scan, labels, teeth_array, tmp_path, described
):
    path = tmp_path / "Zähne 歯 36_teeth.seg.nrrd"
    write_teeth(labels, path)
    shown = nodes.show_teeth(labels, scan, "Teeth")
    read = load_segmentation(scene, path)
    assert described(read) == described(shown)
    assert np.array_equal(nodes.labels_of(read, scan).labels.array, teeth_array)
    assert np.array_equal(nodes.labels_of(read).labels.array, teeth_array)


def load_segmentation(scene, path):
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Read")
    node.AddDefaultStorageNode()
    node.GetStorageNode().SetFileName(str(path))
    assert node.GetStorageNode().ReadData(node)
    return node


def test_what_slicer_saves_of_our_node_reads_back_in_slicer_and_in_the_engine(
    nodes, scene, scan, labels, teeth_array, tmp_path, described
):
    from ToothTopoSegLib.topology.check import read_labels

    path = tmp_path / "saved.seg.nrrd"
    node = nodes.show_teeth(labels, scan, "Teeth")
    node.AddDefaultStorageNode()
    node.GetStorageNode().SetFileName(str(path))
    assert node.GetStorageNode().WriteData(node)
    again = load_segmentation(scene, path)
    assert described(again) == described(node)
    assert np.array_equal(nodes.labels_of(again, scan).labels.array, teeth_array)
    engine = read_labels(path)[0]
    assert sorted(np.unique(engine.array)) == [0, 11, 36, 37, 101]
    places = {value: engine.index_to_lps(np.argwhere(engine.array == value)).mean(axis=0) for value in (11, 36)}
    for value, place in places.items():
        np.testing.assert_allclose(
            place, labels.index_to_lps(np.argwhere(teeth_array == value)).mean(axis=0), atol=1e-6
        )


def test_the_scene_saves_and_brings_back_the_segmentation(
    nodes, new_scene, scene, scan, labels, teeth_array, tmp_path, described
):
    node = nodes.show_teeth(labels, scan, "Teeth", jaws_visible=False)
    path = str(tmp_path / "scene.mrb")
    assert scene.WriteToMRB(path)
    again = new_scene()
    assert again.ReadFromMRB(path)
    read = again.GetFirstNodeByName("Teeth")
    assert described(read) == described(node)
    assert not read.GetDisplayNode().GetSegmentVisibility("Segment_101")
    assert np.array_equal(nodes.labels_of(read).labels.array, teeth_array)


def test_the_segments_are_those_the_engine_lists(nodes, scan, labels, described):
    listed = tooth_segments(labels)
    assert [(s.identifier, s.name, s.value) for s in listed] == [
        (identifier, name, value)
        for identifier, (name, value, _, _) in described(nodes.show_teeth(labels, scan, "Teeth")).items()
    ]


MEMORY = """
import sys
sys.path[:0] = sys.argv[1:3]
import numpy as np, slicer, vtk
from vtk.util.numpy_support import numpy_to_vtk
from ToothTopoSegGui import nodes
from ToothTopoSegLib.imaging.segments import tooth_segments
import scipy.ndimage, ToothTopoSegLib.topology.check

def peak():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024

scene = slicer.vtkMRMLScene()
logics = [slicer.vtkSlicerSegmentationsModuleLogic(), slicer.vtkSlicerSubjectHierarchyModuleLogic()]
for logic in logics:
    logic.SetMRMLScene(scene)

def scan_and_labels(n):
    array = np.zeros((n, n, n), np.uint8)
    array[1:-1, 1:-1, 1:-1] = 101  # a jaw as large as the volume: the layer cannot be cut
    for number, (z, y, x) in zip(range(11, 19), np.ndindex(2, 2, 2)):
        low = [1 + n // 2 * k for k in (z, y, x)]
        array[tuple(slice(k + n // 8, k + n // 4) for k in low)] = number
    image = vtk.vtkImageData()
    image.SetDimensions(n, n, n)
    image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "CBCT")
    node.SetAndObserveImageData(image)
    return node, nodes._grid_of_volume(node).with_array(array)

nodes.show_teeth(*reversed(scan_and_labels(16)), "warm", closed_surface=True)
scan, labels = scan_and_labels(int(sys.argv[4]))
open("/proc/self/clear_refs", "w").write("5")
before = peak()
node = nodes.show_teeth(labels, scan, "Teeth", closed_surface=sys.argv[3] == "surface")
print((peak() - before) / labels.array.nbytes)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peak memory is read from /proc")
@pytest.mark.parametrize(("what", "size"), [("voxels", 256), ("surface", 400)])
def test_memory_grows_by_at_most_three_times_the_label_map(slicer_core, what, size):
    code = [sys.executable, "-c", MEMORY, str(ROOT), str(ROOT / "ToothTopoSeg"), what, str(size)]
    done = subprocess.run(code, capture_output=True, text=True, check=True)
    assert 0.9 < float(done.stdout) < 3.0
