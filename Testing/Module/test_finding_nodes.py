"""Findings as a table and as markups: what a person sees, decides and gets back with the saved scene."""

from __future__ import annotations

import pytest

from ToothTopoSegLib.errors import InputError
from ToothTopoSegLib.topology.findings import Finding

FINDINGS = [
    Finding(1, "merge", "error", (36, 37), (12.5, -40.25, 7.125), 31.5, "Tooth 36 and tooth 37 are one body.", None),
    Finding(2, "cavity", "warning", (11,), (-3.0, -61.0, 20.0), 0.25, "Tooth 11 encloses a void.", "fill"),
    Finding(
        3, "missing", "info", (), (0.0, 0.0, 0.0), 0.0, "No teeth: nothing was checked, 5 % of \u00fc\u6b6f.", None
    ),
]


@pytest.fixture
def table(finding_nodes, scene):
    return finding_nodes.findings_table(FINDINGS, scene=scene)


def test_the_table_has_a_row_for_each_finding_with_its_ras_position(finding_nodes, table):
    assert [table.GetColumnName(n) for n in range(table.GetNumberOfColumns())] == list(finding_nodes.COLUMNS)
    cells = [table.GetCellText(0, n) for n in range(table.GetNumberOfColumns())]
    assert cells[:4] == ["1", "error", "merge", "36 37"]
    assert [float(cell) for cell in cells[4:8]] == [31.5, -12.5, 40.25, 7.125]
    assert cells[8:] == ["Tooth 36 and tooth 37 are one body.", "", "open", ""]


def test_numbers_are_numbers_so_that_a_view_sorts_them(table):
    types = {table.GetColumnName(n): table.GetTable().GetColumn(n).GetDataTypeAsString() for n in range(12)}
    assert types["id"] == "int"
    assert {types[name] for name in ("size_mm3", "r", "a", "s")} == {"double"}


def test_findings_come_back_from_the_table(finding_nodes, table):
    assert finding_nodes.findings_of(table) == FINDINGS


def test_a_verdict_is_kept_with_its_note(finding_nodes, table):
    finding_nodes.set_verdict(table, 2, "ignored", 'line one\n\ttab, comma; "quoted" ü 歯')
    assert finding_nodes.verdicts_of(table) == {
        1: finding_nodes.Verdict("open", ""),
        2: finding_nodes.Verdict("ignored", "line one tab, comma; 'quoted' ü 歯"),
        3: finding_nodes.Verdict("open", ""),
    }


@pytest.mark.parametrize(("finding", "verdict"), [(2, "maybe"), (7, "ignored")])
def test_a_verdict_or_finding_that_does_not_exist_is_an_error_of_the_caller(finding_nodes, table, finding, verdict):
    with pytest.raises(ValueError, match=r"there is no verdict|has no finding 7"):
        finding_nodes.set_verdict(table, finding, verdict)
    assert {v.verdict for v in finding_nodes.verdicts_of(table).values()} == {"open"}


def test_a_verdict_makes_slicer_ask_to_save_and_the_panel_update(finding_nodes, table, tmp_path):
    table.AddDefaultStorageNode()
    table.GetStorageNode().SetFileName(str(tmp_path / "findings.tsv"))
    assert table.GetStorageNode().WriteData(table)
    assert not table.GetModifiedSinceRead()
    seen = []
    table.AddObserver("ModifiedEvent", lambda *_: seen.append(1))
    finding_nodes.set_verdict(table, 1, "repaired")
    assert seen and table.GetModifiedSinceRead()


def test_a_table_may_be_filled_anew(finding_nodes, scene, table):
    finding_nodes.set_verdict(table, 1, "ignored")
    assert finding_nodes.findings_table(FINDINGS[:1], scene=scene, table_node=table) is table
    assert table.GetNumberOfRows() == 1
    assert finding_nodes.verdicts_of(table) == {1: finding_nodes.Verdict()}


def test_no_findings_make_an_empty_table(finding_nodes, scene):
    table = finding_nodes.findings_table([], scene=scene)
    assert finding_nodes.findings_of(table) == []


@pytest.mark.parametrize("chosen", ["nothing", "a volume", "another table"])
def test_another_node_is_refused(finding_nodes, scene, chosen):
    kinds = {"a volume": "vtkMRMLScalarVolumeNode", "another table": "vtkMRMLTableNode"}
    node = scene.AddNewNodeByClass(kinds[chosen], "X") if chosen in kinds else None
    with pytest.raises(InputError, match=r"No table of findings is chosen|'X' lacks the columns id"):
        finding_nodes.findings_of(node)


def test_markups_stand_at_the_places_with_evidence_and_cannot_be_dragged(finding_nodes, scene):
    marks = finding_nodes.findings_markups(FINDINGS, scene=scene)
    assert marks.GetNumberOfControlPoints() == 3
    assert marks.GetNthControlPointPosition(0) == (-12.5, 40.25, 7.125)
    assert marks.GetNthControlPointLabel(1) == "2 cavity"
    assert marks.GetNthControlPointDescription(1) == "Tooth 11 encloses a void."
    assert marks.GetLocked() and marks.GetNthControlPointLocked(1)


def test_a_point_and_its_finding_find_each_other(finding_nodes, scene):
    marks = finding_nodes.findings_markups(FINDINGS[1:], scene=scene)
    assert [finding_nodes.finding_of_point(marks, point) for point in range(2)] == [2, 3]
    assert finding_nodes.point_of_finding(marks, 3) == 1
    assert finding_nodes.point_of_finding(marks, 9) is None
    marks.SetNthControlPointLabel(0, "mine")
    assert finding_nodes.finding_of_point(marks, 0) is None


def test_slicers_own_scene_is_used_where_no_other_is_given(finding_nodes, slicer_core, scene, monkeypatch):
    monkeypatch.setattr(slicer_core, "mrmlScene", scene, raising=False)
    assert finding_nodes.findings_table(FINDINGS).GetScene() is scene
    assert finding_nodes.findings_markups(FINDINGS).GetScene() is scene


def test_table_verdicts_and_markups_come_back_with_the_saved_scene(finding_nodes, scene, new_scene, table, tmp_path):
    finding_nodes.set_verdict(table, 2, "ignored", 'a "vein", not\ta void; ü 歯')
    finding_nodes.findings_markups(FINDINGS, name="Places", scene=scene)
    verdicts = finding_nodes.verdicts_of(table)
    path = str(tmp_path / "saved scene.mrb")
    assert scene.WriteToMRB(path)
    again = new_scene()
    assert again.ReadFromMRB(path)
    read = again.GetFirstNodeByName("Findings")
    assert finding_nodes.verdicts_of(read) == verdicts
    assert finding_nodes.findings_of(read) == FINDINGS
    assert read.GetTable().GetColumnByName("id").GetDataTypeAsString() == "int"
    marks = again.GetFirstNodeByName("Places")
    assert [finding_nodes.finding_of_point(marks, point) for point in range(3)] == [1, 2, 3]
    assert marks.GetNthControlPointPosition(0) == pytest.approx((-12.5, 40.25, 7.125))
    assert marks.GetNthControlPointDescription(2) == FINDINGS[2].evidence


def test_a_verdict_can_be_changed_after_the_scene_was_read(finding_nodes, scene, new_scene, table, tmp_path):
    path = str(tmp_path / "scene.mrb")
    assert scene.WriteToMRB(path)
    again = new_scene()
    assert again.ReadFromMRB(path)
    read = again.GetFirstNodeByName("Findings")
    finding_nodes.set_verdict(read, 3, "ignored", "fine")
    assert finding_nodes.verdicts_of(read)[3] == finding_nodes.Verdict("ignored", "fine")
