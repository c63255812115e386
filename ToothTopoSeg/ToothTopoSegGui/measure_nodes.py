"""Measures of teeth as a table of a Slicer scene.

In go rows of the engine (:mod:`ToothTopoSegLib.measurements.table`), out comes a vtkMRMLTableNode with a row for each
tooth, whose columns carry their title, unit and meaning. It is saved with the scene and can be plotted and exported
like any other table. What cannot be measured is not-a-number, or no text. Source: Slicer's vtkMRMLTableNode.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import slicer
import vtk

TABLE_ATTRIBUTE = "ToothTopoSeg.Measures"


def measures_table(
    rows: Sequence[Mapping[str, Any]], name: str = "Measures", scene: Any = None, table_node: Any = None
) -> Any:
    """A table node with one row for each tooth; ``table_node`` is filled anew where given.

    ``scene`` is Slicer's own unless another is given.
    """
    from ToothTopoSegLib.measurements.table import COLUMNS

    made = table_node or (scene or slicer.mrmlScene).AddNewNodeByClass("vtkMRMLTableNode", name)
    table = vtk.vtkTable()
    for column in COLUMNS:
        table.AddColumn(_column(column, [row[column.name] for row in rows]))
    made.SetAndObserveTable(table)
    for column in COLUMNS:
        made.SetColumnLongName(column.name, column.title)
        made.SetColumnUnitLabel(column.name, column.unit)
        made.SetColumnDescription(column.name, column.meaning)
    made.SetLocked(True)
    made.SetAttribute(TABLE_ATTRIBUTE, "1")
    return made


def _column(column: Any, values: Sequence[Any]) -> Any:
    """Numbers for the key and for what has digits, text for the rest."""
    if column.name == "fdi":
        array: Any = vtk.vtkIntArray()
        cells: list[Any] = list(values)
    elif column.digits:
        array = vtk.vtkDoubleArray()
        cells = [math.nan if value is None else float(value) for value in values]
    else:
        array = vtk.vtkStringArray()
        cells = [_text(value) for value in values]
    array.SetName(column.name)
    for cell in cells:
        array.InsertNextValue(cell)
    return array


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)
