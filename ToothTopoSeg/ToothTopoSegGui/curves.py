"""The curves of a training in the scene: what the engine tells at points of time, drawn by Slicer's plots.

Every curve has a table of its own, because a term may come late or be missing in a point, and VTK breaks a line where a
value is missing. The points are kept here, so that the curves can be drawn anew after the scene was closed; the nodes
are hidden and not saved with it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import slicer
import vtk
from slicer.i18n import tr as _

VALIDATION = "validation "
"""How the names of validation measures begin; all others are loss terms."""
LOSSES, MEASURES = "losses", "measures"
_MINUTE = "minute"
# Tableau's ten colours, made by their authors to be told apart.
_COLOURS = (
    (0.122, 0.467, 0.706),
    (0.839, 0.153, 0.157),
    (0.173, 0.627, 0.173),
    (0.580, 0.404, 0.741),
    (1.000, 0.498, 0.055),
    (0.549, 0.337, 0.294),
    (0.890, 0.467, 0.761),
    (0.498, 0.498, 0.498),
    (0.737, 0.741, 0.133),
    (0.090, 0.745, 0.812),
)


class Curves:
    """The curves of one training; call :meth:`show` for the view node that a plot widget shows."""

    def __init__(self) -> None:
        self.points: dict[str, list[tuple[float, float]]] = {}
        self._choice = LOSSES
        self._series: dict[str, Any] = {}
        self._chart: Any = None
        self._view: Any = None

    def add(self, minute: float, values: Mapping[str, float]) -> bool:
        """Add a point; whether a curve is new. What is no finite number cannot be drawn and is left out."""
        new = [name for name in values if name not in self.points]
        for name, value in values.items():
            self.points.setdefault(name, [])
            if math.isfinite(value):
                self.points[name].append((minute, value))
        return bool(new)

    @property
    def names(self) -> list[str]:
        """The names of the curves, in the order of their first points."""
        return list(self.points)

    def chosen(self, choice: str) -> list[str]:
        """The names of the curves of a choice: LOSSES, MEASURES or the name of one."""
        if choice == LOSSES:
            return [name for name in self.points if not name.startswith(VALIDATION)]
        if choice == MEASURES:
            return [name for name in self.points if name.startswith(VALIDATION)]
        return [choice] if choice in self.points else []

    def show(self, choice: str) -> Any:
        """Draw the curves of a choice as they are now; the view node."""
        if self._view is None:
            self._make()
        for name in self.chosen(choice):
            self._draw(name)
        wanted = [self._series[name].GetID() for name in self.chosen(choice)]
        shown = [self._chart.GetNthPlotSeriesNodeID(n) for n in range(self._chart.GetNumberOfPlotSeriesNodes())]
        if wanted != shown:
            self._chart.RemoveAllPlotSeriesNodeIDs()
            for identifier in wanted:
                self._chart.AddAndObservePlotSeriesNodeID(identifier)
        return self._view

    def forgetNodes(self) -> None:
        """The scene is closed: its nodes are gone, the points stay."""
        self._series, self._chart, self._view = {}, None, None

    def removeNodes(self) -> None:
        """Take the nodes out of the scene."""
        made = [*self._series.values(), *(series.GetTableNode() for series in self._series.values())]
        for node in (self._view, self._chart, *made):
            if node is not None and node.GetScene() is not None:
                node.GetScene().RemoveNode(node)
        self.forgetNodes()

    def _make(self) -> None:
        self._chart = _node("vtkMRMLPlotChartNode", _("Fine-tuning"))
        self._chart.SetXAxisTitle(_("minutes of training"))
        self._view = _node("vtkMRMLPlotViewNode", _("Fine-tuning"))
        self._view.SetPlotChartNodeID(self._chart.GetID())

    def _draw(self, name: str) -> None:
        if name not in self._series:
            self._series[name] = self._newSeries(name)
        table_node, points = self._series[name].GetTableNode(), self.points[name]
        table = table_node.GetTable()
        drawn = table.GetNumberOfRows()
        for column in range(2):
            for point in points[drawn:]:
                table.GetColumn(column).InsertNextValue(point[column])
        if drawn < len(points):
            table.Modified()
            table_node.Modified()

    def _newSeries(self, name: str) -> Any:
        table, title = _node("vtkMRMLTableNode", name), name.removeprefix(VALIDATION)
        for column_name in (_MINUTE, title):
            column = vtk.vtkDoubleArray()
            column.SetName(column_name)
            table.AddColumn(column)
        series = _node("vtkMRMLPlotSeriesNode", title)
        series.SetAndObserveTableNodeID(table.GetID())
        series.SetPlotType(series.PlotTypeScatter)
        series.SetXColumnName(_MINUTE)
        series.SetYColumnName(title)
        self._style(series, name)
        return series

    def _style(self, series: Any, name: str) -> None:
        """Each kind of curve has the colours from the first on; measures come seldom, so their points are marked."""
        measure = name.startswith(VALIDATION)
        number = self.chosen(MEASURES if measure else LOSSES).index(name)
        series.SetColor(*_COLOURS[number % len(_COLOURS)])
        series.SetLineStyle(series.LineStyleSolid if number < len(_COLOURS) else series.LineStyleDash)
        series.SetMarkerStyle(series.MarkerStyleCircle if measure else series.MarkerStyleNone)


def _node(kind: str, name: str) -> Any:
    """A new node that is neither offered in lists nor saved."""
    node = slicer.mrmlScene.CreateNodeByClass(kind)
    node.UnRegister(None)
    node.SetName(name)
    node.SetHideFromEditors(True)
    node.SetSaveWithScene(False)
    return slicer.mrmlScene.AddNode(node)
