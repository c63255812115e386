"""Changes of a segmentation by the engine: only what changed, undone and redone by Slicer's own history."""

from __future__ import annotations

import numpy as np
import pytest

from ToothTopoSegLib.anatomy.colours import colour_of
from ToothTopoSegLib.errors import InputError


@pytest.fixture
def shown(nodes, scan, labels):
    """Our segmentation with a person's own colours and visibility."""
    node = nodes.show_teeth(labels, scan, "Teeth")
    node.GetSegmentation().GetSegment("Segment_36").SetColor(0.1, 0.2, 0.3)
    node.GetSegmentation().GetSegment("Segment_37").SetName("37 sore")
    node.GetDisplayNode().SetSegmentOpacity3D("Segment_37", 0.25)
    node.GetDisplayNode().SetSegmentVisibility("Segment_37", False)
    return node


def array_of(nodes, node, scan):
    return nodes.labels_of(node, scan).labels.array


def surface_of(node, identifier):
    return node.GetSegmentation().GetSegment(identifier).GetRepresentation("Closed surface")


def repaired(array):
    """A part of tooth 36 becomes 37, a corner of 37 becomes background, tooth 11 grows."""
    new = array.copy()
    new[4:12, 4:10, 9] = 37
    new[4, 4, 15] = 0
    new[19, 10:16, 16:20] = 11
    return new


def test_the_segmentation_becomes_the_label_map(nodes, shown, scan, labels):
    new = repaired(labels.array)
    assert nodes.apply_labels(shown, labels.with_array(new)) == [11, 36, 37]
    assert np.array_equal(array_of(nodes, shown, scan), new)


def test_ids_order_names_colours_and_visibility_stay(nodes, shown, labels):
    segmentation, display = shown.GetSegmentation(), shown.GetDisplayNode()
    before = segmentation.GetSegmentIDs()
    nodes.apply_labels(shown, labels.with_array(repaired(labels.array)))
    assert segmentation.GetSegmentIDs() == before
    assert segmentation.GetSegment("Segment_36").GetColor() == (0.1, 0.2, 0.3)
    assert segmentation.GetSegment("Segment_37").GetName() == "37 sore"
    assert display.GetSegmentOpacity3D("Segment_37") == 0.25
    assert not display.GetSegmentVisibility("Segment_37")


def test_nothing_changes_where_nothing_is_different(nodes, shown, labels):
    history = nodes.History(shown)
    image = shown.GetSegmentation().GetSegment("Segment_36").GetRepresentation("Binary labelmap")
    assert nodes.apply_labels(shown, labels, history) == []
    assert not history.can_undo
    assert shown.GetSegmentation().GetSegment("Segment_36").GetRepresentation("Binary labelmap") is image


def test_a_change_is_undone_and_redone(nodes, shown, scan, labels):
    history = nodes.History(shown)
    new = repaired(labels.array)
    assert not history.undo()
    nodes.apply_labels(shown, labels.with_array(new), history)
    assert history.can_undo and not history.can_redo
    assert history.undo()
    assert np.array_equal(array_of(nodes, shown, scan), labels.array)
    assert history.can_redo
    assert history.redo()
    assert np.array_equal(array_of(nodes, shown, scan), new)
    assert history.undo()
    assert np.array_equal(array_of(nodes, shown, scan), labels.array)


def test_several_changes_are_undone_one_after_the_other(nodes, shown, scan, labels):
    history = nodes.History(shown)
    states = [labels.array]
    for value in (36, 37, 11):
        states.append(np.where(states[-1] == value, 0, states[-1]))
        nodes.apply_labels(shown, labels.with_array(states[-1]), history)
    for state in reversed(states[:-1]):
        assert history.undo()
        assert np.array_equal(array_of(nodes, shown, scan), state)
    assert not history.can_undo
    assert not history.undo()


def test_two_teeth_exchange_their_numbers(nodes, shown, scan, labels):
    swapped = labels.array.copy()
    swapped[labels.array == 36] = 37
    swapped[labels.array == 37] = 36
    nodes.apply_labels(shown, labels.with_array(swapped))
    assert np.array_equal(array_of(nodes, shown, scan), swapped)
    assert shown.GetSegmentation().GetNumberOfLayers() == 1


def test_a_new_number_gets_a_segment_like_those_beside_it_in_its_place_of_the_list(nodes, shown, scan, labels):
    new = np.where(labels.array == 11, 21, labels.array)
    new[0, 0, 0] = 48
    nodes.apply_labels(shown, labels.with_array(new))
    segmentation = shown.GetSegmentation()
    assert segmentation.GetSegmentIDs() == ("Segment_21", "Segment_36", "Segment_37", "Segment_48", "Segment_101")
    assert segmentation.GetSegment("Segment_21").GetName() == "21 upper left central incisor"
    assert segmentation.GetSegment("Segment_21").GetLabelValue() == 21
    np.testing.assert_allclose(segmentation.GetSegment("Segment_21").GetColor(), colour_of(21))
    assert segmentation.GetNumberOfLayers() == 1
    assert np.array_equal(array_of(nodes, shown, scan), new)


def test_a_segment_that_undo_brings_back_looks_as_before(nodes, shown, scan, labels):
    history = nodes.History(shown)
    nodes.apply_labels(shown, labels.with_array(np.where(labels.array == 37, 0, labels.array)), history)
    assert "Segment_37" not in shown.GetSegmentation().GetSegmentIDs()
    history.undo()
    assert np.array_equal(array_of(nodes, shown, scan), labels.array)
    assert shown.GetSegmentation().GetSegmentIDs()[2] == "Segment_37"
    assert shown.GetSegmentation().GetSegment("Segment_37").GetName() == "37 sore"
    assert shown.GetDisplayNode().GetSegmentOpacity3D("Segment_37") == 0.25
    assert not shown.GetDisplayNode().GetSegmentVisibility("Segment_37")


def test_surfaces_of_changed_teeth_are_made_anew_and_the_others_are_left(nodes, scan, labels):
    node = nodes.show_teeth(labels, scan, "Teeth", closed_surface=True)
    history = nodes.History(node)
    before = {i: surface_of(node, i) for i in node.GetSegmentation().GetSegmentIDs()}
    points = {i: surface.GetNumberOfPoints() for i, surface in before.items()}
    new = np.where(labels.array == 11, 12, labels.array)
    new[4:12, 4:10, 9] = 37
    nodes.apply_labels(node, labels.with_array(new), history)
    assert surface_of(node, "Segment_101") is before["Segment_101"]
    assert surface_of(node, "Segment_36").GetNumberOfPoints() < points["Segment_36"]
    assert surface_of(node, "Segment_37").GetNumberOfPoints() > points["Segment_37"]
    assert surface_of(node, "Segment_12").GetNumberOfPoints() == points["Segment_11"]
    fresh = nodes.show_teeth(labels.with_array(new), scan, "Fresh", closed_surface=True)
    for identifier in node.GetSegmentation().GetSegmentIDs():
        np.testing.assert_allclose(
            surface_of(node, identifier).GetBounds(), surface_of(fresh, identifier).GetBounds(), atol=1e-3
        )
    history.undo()
    assert {i: surface_of(node, i).GetNumberOfPoints() for i in points} == points


def test_separate_layers_stay_separate_and_overlaps_that_no_change_concerns_stay(nodes, scan, make_segmentation):
    first, second = np.zeros((2, 20, 24, 28), np.uint8)
    first[2:6, 2:6, 2:6] = 1
    second[4:8, 2:6, 2:6] = 1
    node = make_segmentation((first, {"36": 1}), (second, {"37": 1}), like=scan)
    read = nodes.labels_of(node)
    new = read.labels.array.copy()
    new[7, 2:6, 2:6] = 0
    new[2, 2, 2] = 37
    assert nodes.apply_labels(node, read.labels.with_array(new)) == [36, 37]
    again = nodes.labels_of(node)
    assert np.array_equal(again.labels.array, new)
    assert again.notes == read.notes
    assert node.GetSegmentation().GetNumberOfLayers() == 2


def test_a_voxel_that_is_taken_away_does_not_reappear_from_a_segment_below(nodes, scan, make_segmentation):
    first, second = np.zeros((2, 20, 24, 28), np.uint8)
    first[2:6, 2:6, 2:6] = 1
    second[4:8, 2:6, 2:6] = 1
    node = make_segmentation((first, {"36": 1}), (second, {"37": 1}), like=scan)
    read = nodes.labels_of(node)
    new = np.where(read.labels.array == 36, 0, read.labels.array)
    nodes.apply_labels(node, read.labels.with_array(new))
    assert np.array_equal(nodes.labels_of(node).labels.array, new)


def test_a_segment_that_is_no_tooth_keeps_every_voxel(nodes, scan, make_segmentation, teeth_array):
    array = np.where(teeth_array == 101, 5, teeth_array)
    node = make_segmentation((array, {"36": 36, "37": 37, "11": 11, "Canal": 5}), like=scan)
    canal = node.GetSegmentation().GetSegmentIdBySegmentName("Canal")
    read = nodes.labels_of(node)
    new = read.labels.array.copy()
    new[3:5, 4:10, 4:10] = 36
    nodes.apply_labels(node, read.labels.with_array(new))
    assert np.array_equal(nodes.labels_of(node).labels.array, new)
    segment = node.GetSegmentation().GetSegment(canal)
    image = segment.GetRepresentation("Binary labelmap")
    voxels = nodes._voxels(image)
    assert np.count_nonzero(voxels == segment.GetLabelValue()) == np.count_nonzero(array == 5)
    assert not (voxels == 36).any()  # the tooth has a layer of its own now


def test_an_empty_segment_is_filled_when_its_tooth_is_found(nodes, scan, make_segmentation, teeth_array):
    node = make_segmentation((teeth_array, {"36": 36, "37": 37}), like=scan)
    identifier = node.GetSegmentation().AddEmptySegment("", "38")
    read = nodes.labels_of(node)
    new = read.labels.array.copy()
    new[15:18, 15:18, 15:18] = 38
    nodes.apply_labels(node, read.labels.with_array(new))
    again = nodes.labels_of(node)
    assert np.array_equal(again.labels.array, new)
    assert again.numbers[identifier] == 38


def test_a_transform_above_the_segmentation_changes_nothing(nodes, shown, scan, labels, make_transform, oblique):
    moved = np.eye(4)
    moved[:3, :3] = oblique.T
    moved[:3, 3] = 5, 6, 7
    transform = make_transform(moved)
    for node in (scan, shown):
        node.SetAndObserveTransformNodeID(transform.GetID())
    new = repaired(labels.array)
    nodes.apply_labels(shown, nodes.volume_of(scan).with_array(new))
    assert np.array_equal(array_of(nodes, shown, scan), new)


def test_a_scheme_that_was_named_for_reading_is_named_for_writing(nodes, scan, make_segmentation, teeth_array):
    node = make_segmentation((np.where(teeth_array == 36, 19, 0).astype(np.uint8), {"Zahn": 19}), like=scan)
    read = nodes.labels_of(node, scheme="universal")
    new = read.labels.array.copy()
    new[4] = 0
    assert nodes.apply_labels(node, read.labels.with_array(new), scheme="universal") == [36]
    assert np.array_equal(nodes.labels_of(node, scheme="universal").labels.array, new)


def test_another_grid_is_refused_and_nothing_changes(nodes, shown, scan, labels, make_volume, oblique):
    other = make_volume(np.zeros(labels.array.shape, np.int16), (0.31, 0.4, 0.5), oblique, (10, -20, 30))
    history = nodes.History(shown)
    with pytest.raises(InputError, match="was drawn on another grid"):
        nodes.apply_labels(shown, nodes.volume_of(other).with_array(repaired(labels.array)), history)
    assert not history.can_undo
    assert np.array_equal(array_of(nodes, shown, scan), labels.array)


def test_a_segmentation_of_surfaces_is_refused(nodes, scan, labels):
    node = nodes.show_teeth(labels, scan, "Teeth", closed_surface=True)
    node.SetSourceRepresentationToClosedSurface()
    with pytest.raises(InputError, match="is made of surfaces"):
        nodes.apply_labels(node, labels)


def test_a_failure_while_surfaces_are_made_leaves_the_segmentation_as_it_was(nodes, scan, labels, monkeypatch):
    node = nodes.show_teeth(labels, scan, "Teeth", closed_surface=True)

    def fail(*arguments):
        raise MemoryError

    monkeypatch.setattr(nodes, "_surface", fail)
    history = nodes.History(node)
    with pytest.raises(MemoryError):
        nodes.apply_labels(node, labels.with_array(repaired(labels.array)), history)
    assert not history.can_undo
    assert np.array_equal(array_of(nodes, node, scan), labels.array)
