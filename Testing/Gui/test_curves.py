"""Curves of a training: what Slicer's plot nodes hold after points came, in real MRML."""

from __future__ import annotations

import importlib
import math

import pytest


@pytest.fixture
def module(scene):
    return importlib.import_module("ToothTopoSegGui.curves")


@pytest.fixture
def curves(module):
    """Two loss terms, of which one comes late and is missing at times, and a measure."""
    made = module.Curves()
    made.add(0.0, {"loss": 2.0})
    made.add(1.0, {"loss": 1.5, "holes": 0.2})
    made.add(2.0, {"loss": 1.0})
    made.add(2.5, {"validation Dice": 0.9})
    made.add(3.0, {"loss": 0.5, "holes": 0.1})
    return made


def drawn(view):
    """Name and points of each curve that a view shows."""
    chart = view.GetPlotChartNode()
    found = {}
    for n in range(chart.GetNumberOfPlotSeriesNodes()):
        series = chart.GetNthPlotSeriesNode(n)
        table = series.GetTableNode().GetTable()
        columns = [table.GetColumnByName(name) for name in (series.GetXColumnName(), series.GetYColumnName())]
        found[series.GetName()] = [tuple(c.GetValue(row) for c in columns) for row in range(table.GetNumberOfRows())]
    return found


def test_each_curve_has_its_own_points_without_gaps(curves, module):
    assert drawn(curves.show(module.LOSSES)) == {
        "loss": [(0.0, 2.0), (1.0, 1.5), (2.0, 1.0), (3.0, 0.5)],
        "holes": [(1.0, 0.2), (3.0, 0.1)],
    }
    assert drawn(curves.show(module.MEASURES)) == {"Dice": [(2.5, 0.9)]}
    assert list(drawn(curves.show("holes"))) == ["holes"]


def test_points_are_added_to_what_is_drawn(curves, module):
    view = curves.show(module.LOSSES)
    assert not curves.add(4.0, {"loss": 0.4})
    assert curves.show(module.LOSSES) is view and len(drawn(view)["loss"]) == 5


def test_what_is_no_finite_number_is_left_out(curves, module):
    assert curves.add(4.0, {"loss": math.nan, "split": math.inf})
    assert len(drawn(curves.show(module.LOSSES))["loss"]) == 4
    assert drawn(curves.show("split")) == {"split": []}


def test_terms_and_measures_have_colours_of_their_own_and_seldom_points_are_marked(curves, module, scene):
    for choice in (module.LOSSES, module.MEASURES):
        curves.show(choice)
    series = {node.GetName(): node for node in scene.GetNodesByClass("vtkMRMLPlotSeriesNode")}
    assert series["loss"].GetColor() != series["holes"].GetColor()
    assert series["Dice"].GetMarkerStyle() == series["Dice"].MarkerStyleCircle
    assert series["loss"].GetMarkerStyle() == series["loss"].MarkerStyleNone


def test_more_curves_than_colours_are_told_apart_by_dashes(module):
    many = module.Curves()
    many.add(0.0, {f"term {n}": 1.0 for n in range(12)})
    chart = many.show(module.LOSSES).GetPlotChartNode()
    looks = [chart.GetNthPlotSeriesNode(n) for n in range(12)]
    assert len({(node.GetColor(), node.GetLineStyle()) for node in looks}) == 12


def test_the_nodes_are_hidden_not_saved_and_leave_with_their_curves(curves, module, scene):
    before = scene.GetNumberOfNodes()
    curves.show(module.LOSSES)
    made = [scene.GetNthNode(n) for n in range(before, scene.GetNumberOfNodes())]
    assert made and all(node.GetHideFromEditors() and not node.GetSaveWithScene() for node in made)
    curves.removeNodes()
    assert scene.GetNumberOfNodes() == before


def test_the_curves_are_drawn_again_in_a_new_scene(curves, module, scene):
    shown = drawn(curves.show(module.LOSSES))
    scene.Clear(0)
    curves.forgetNodes()
    assert drawn(curves.show(module.LOSSES)) == shown
