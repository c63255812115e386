"""Findings as a table and as markups of a Slicer scene, and back.

In go findings of the engine (LPS mm); out come a vtkMRMLTableNode with one row for each, in which a person's verdict is
kept, and a vtkMRMLMarkupsFiducialNode with one point for each (RAS mm). Both are saved with the scene. Sources:
Slicer's vtkMRMLTableNode, vtkMRMLTableStorageNode and vtkMRMLMarkupsNode.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import slicer
import vtk

if TYPE_CHECKING:
    from ToothTopoSegLib.topology.findings import Finding

OPEN, IGNORED, REPAIRED = VERDICTS = ("open", "ignored", "repaired")
_INTEGERS = ("id",)
_NUMBERS = ("size_mm3", "r", "a", "s")
COLUMNS = ("id", "severity", "kind", "teeth", "size_mm3", "r", "a", "s", "evidence", "repair", "verdict", "note")
"""Columns of the table: numbers for id, size and RAS position in mm, text for the rest; teeth parted by spaces."""
TABLE_ATTRIBUTE = "ToothTopoSeg.Findings"


@dataclass(frozen=True)
class Verdict:
    """What a person decided on a finding: one of VERDICTS, with a note in their own words."""

    verdict: str = OPEN
    note: str = ""


def findings_table(
    findings: Sequence[Finding],
    name: str = "Findings",
    scene: Any = None,
    table_node: Any = None,
    verdicts: Mapping[int, Verdict] | None = None,
) -> Any:
    """A table node with one row for each finding; ``table_node`` is filled anew where given.

    ``scene`` is Slicer's own unless another is given. Verdicts are open but for those in ``verdicts`` by finding id.
    """
    rows = [_row(finding, (verdicts or {}).get(finding.id, Verdict())) for finding in findings]
    made = table_node or (scene or slicer.mrmlScene).AddNewNodeByClass("vtkMRMLTableNode", name)
    table = vtk.vtkTable()
    for column in COLUMNS:
        table.AddColumn(_column(column, [row[column] for row in rows]))
    made.SetAndObserveTable(table)
    made.SetLocked(True)
    made.SetAttribute(TABLE_ATTRIBUTE, "1")
    return made


def findings_of(table_node: Any) -> list[Finding]:
    """The findings of a table node made by :func:`findings_table`, without their voxels.

    Raises InputError for another table.
    """
    from ToothTopoSegLib.topology.findings import Finding

    _check_table(table_node)
    rows = [_cells(table_node, row) for row in range(table_node.GetNumberOfRows())]
    return [
        Finding(
            int(cells["id"]),
            cells["kind"],
            cells["severity"],
            tuple(int(tooth) for tooth in cells["teeth"].split()),
            _turned([float(cells[axis]) for axis in "ras"]),
            float(cells["size_mm3"]),
            cells["evidence"],
            cells["repair"] or None,
        )
        for cells in rows
    ]


def verdicts_of(table_node: Any) -> dict[int, Verdict]:
    """The verdict on each finding of the table by the finding's id; InputError for another table."""
    _check_table(table_node)
    rows = [_cells(table_node, row) for row in range(table_node.GetNumberOfRows())]
    return {int(cells["id"]): Verdict(cells["verdict"], cells["note"]) for cells in rows}


def set_verdict(table_node: Any, finding_id: int, verdict: str, note: str = "") -> None:
    """Write a verdict and a note on a finding into the table.

    Line breaks and tabs of the note become spaces, double quotes single ones: they would not survive the file. Raises
    ValueError for a verdict or an id that does not exist, InputError for another table.
    """
    if verdict not in VERDICTS:
        raise ValueError(f"there is no verdict {verdict!r}; known are {', '.join(VERDICTS)}")
    _check_table(table_node)
    row = _row_of(table_node, finding_id)
    columns = table_node.GetTable()
    columns.GetColumnByName("verdict").SetValue(row, verdict)
    columns.GetColumnByName("note").SetValue(row, _one_line(note))
    columns.Modified()
    table_node.Modified()


def findings_markups(
    findings: Sequence[Finding], name: str = "Findings", scene: Any = None, markups_node: Any = None
) -> Any:
    """A fiducial node with a locked point at each finding: label "3 cavity", description the evidence.

    ``markups_node`` is filled anew where given.
    """
    made = markups_node or (scene or slicer.mrmlScene).AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", name)
    made.RemoveAllControlPoints()
    made.CreateDefaultDisplayNodes()
    for finding in findings:
        place = vtk.vtkVector3d(*_turned(finding.position_lps_mm))
        point = made.AddControlPoint(place, f"{finding.id} {finding.kind}")
        made.SetNthControlPointDescription(point, _one_line(finding.evidence))
        made.SetNthControlPointLocked(point, True)
    made.SetLocked(True)
    return made


def finding_of_point(markups_node: Any, point: int) -> int | None:
    """The id of the finding at a control point of :func:`findings_markups`; None where the point is another one."""
    first = markups_node.GetNthControlPointLabel(point).partition(" ")[0]
    return int(first) if first.isdecimal() else None


def point_of_finding(markups_node: Any, finding_id: int) -> int | None:
    """The control point of a finding; None where there is none."""
    points = range(markups_node.GetNumberOfControlPoints())
    return next((point for point in points if finding_of_point(markups_node, point) == finding_id), None)


def _row(finding: Finding, verdict: Verdict) -> dict[str, Any]:
    r, a, s = _turned(finding.position_lps_mm)
    return {
        "id": finding.id,
        "severity": finding.severity,
        "kind": finding.kind,
        "teeth": " ".join(map(str, finding.teeth)),
        "size_mm3": finding.size_mm3,
        "r": r,
        "a": a,
        "s": s,
        "evidence": _one_line(finding.evidence),
        "repair": finding.repair or "",
        "verdict": verdict.verdict,
        "note": _one_line(verdict.note),
    }


def _column(name: str, values: Sequence[Any]) -> Any:
    kind = vtk.vtkIntArray if name in _INTEGERS else vtk.vtkDoubleArray if name in _NUMBERS else vtk.vtkStringArray
    column = kind()
    column.SetName(name)
    for value in values:
        column.InsertNextValue(value)
    return column


def _cells(table_node: Any, row: int) -> dict[str, str]:
    table = table_node.GetTable()
    return {name: str(table.GetColumnByName(name).GetValue(row)) for name in COLUMNS}


def _row_of(table_node: Any, finding_id: int) -> int:
    ids = table_node.GetTable().GetColumnByName("id")
    for row in range(table_node.GetNumberOfRows()):
        if int(ids.GetValue(row)) == finding_id:
            return row
    raise ValueError(f"the table has no finding {finding_id}")


def _check_table(node: Any) -> None:
    from ToothTopoSegLib.errors import InputError

    if node is None or not node.IsA("vtkMRMLTableNode"):
        raise InputError("No table of findings is chosen; check a segmentation first.")
    missing = [name for name in COLUMNS if node.GetTable().GetColumnByName(name) is None]
    if missing:
        raise InputError(
            f"The table {node.GetName()!r} lacks the columns {', '.join(missing)} of a table of findings; choose the "
            "table that a check made."
        )


def _turned(position: Sequence[float]) -> tuple[float, float, float]:
    """LPS to RAS and back."""
    x, y, z = (float(value) for value in position)
    return 0.0 - x, 0.0 - y, z


def _one_line(text: str) -> str:
    return " ".join(text.replace('"', "'").split())
