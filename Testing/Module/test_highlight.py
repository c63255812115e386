"""Teeth that stand out, and the look that a person gave the segmentation, which comes back."""

from __future__ import annotations

import importlib

import pytest


@pytest.fixture
def highlight(slicer_core):
    return importlib.import_module("ToothTopoSegGui.highlight")


@pytest.fixture
def shown(nodes, scan, labels):
    """Our segmentation as a person likes it."""
    node = nodes.show_teeth(labels, scan, "Teeth")
    display = node.GetDisplayNode()
    display.SetSegmentOpacity3D("Segment_36", 0.5)
    display.SetSegmentVisibility("Segment_37", False)
    return node


def look(node):
    display = node.GetDisplayNode()
    kinds = ("Visibility", "Opacity3D", "Opacity2DFill", "Opacity2DOutline")
    return {i: [getattr(display, f"GetSegment{k}")(i) for k in kinds] for i in node.GetSegmentation().GetSegmentIDs()}


def test_teeth_stand_out_and_the_look_comes_back(highlight, nodes, shown):
    before, numbers = look(shown), nodes.numbers_of(shown)
    highlight.highlight(shown, numbers, [37])
    assert highlight.is_highlighted(shown)
    assert look(shown)["Segment_37"][:2] == [True, 1.0]
    assert look(shown)["Segment_36"][1] == pytest.approx(0.5 * 0.15)
    assert look(shown)["Segment_101"][1] < look(shown)["Segment_11"][1] < 0.2
    highlight.highlight(shown, numbers, [11, 36])
    assert look(shown)["Segment_37"][0] is False
    highlight.give_back(shown)
    assert look(shown) == before and not highlight.is_highlighted(shown)


def test_a_tooth_that_is_not_there_gives_the_look_back(highlight, nodes, shown):
    before, numbers = look(shown), nodes.numbers_of(shown)
    highlight.highlight(shown, numbers, [36])
    highlight.highlight(shown, numbers, [48])
    assert look(shown) == before


def test_segments_may_come_and_go_meanwhile(highlight, nodes, shown):
    highlight.highlight(shown, nodes.numbers_of(shown), [36])
    shown.GetSegmentation().RemoveSegment("Segment_11")
    shown.GetSegmentation().AddEmptySegment("Segment_12", "12")
    highlight.highlight(shown, nodes.numbers_of(shown), [37])
    highlight.give_back(shown)
    assert look(shown)["Segment_12"][1] == 1.0 and look(shown)["Segment_36"][1] == 0.5


def test_a_segmentation_without_display_is_left_alone(highlight, make_segmentation, teeth_array, nodes):
    node = make_segmentation((teeth_array, {"36": 36}))
    highlight.highlight(node, nodes.numbers_of(node), [36])
    highlight.give_back(node)
    assert not highlight.is_highlighted(node)
