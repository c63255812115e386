"""Check, repair and report on real nodes, as scripts and the panel call them."""

from __future__ import annotations

import csv
import json
import textwrap
from types import SimpleNamespace

import numpy as np
import pytest

from ToothTopoSegLib.errors import InputError, OutputError, UsageError


@pytest.fixture
def checked(check_logic, faulty):
    """``faulty`` after a check without its scan: findings 1 and 2 are the voids of 36 and 46, 3 the crumb."""
    check_logic.check(faulty)
    return faulty


def of_kind(check_logic, node, *kinds):
    rows = check_logic.reviewed(node)
    return [(r.finding.id, r.finding.kind, r.finding.teeth, r.verdict) for r in rows if r.finding.kind in kinds]


def array_of(nodes, node):
    return nodes.labels_of(node).labels.array


# ---- check


def test_a_check_makes_a_table_and_marks_tied_to_the_segmentation(check_logic, checked, finding_nodes):
    assert of_kind(check_logic, checked, "cavity", "fragment") == [
        (1, "cavity", (36,), "open"),
        (2, "cavity", (46,), "open"),
        (3, "fragment", (36,), "open"),
    ]
    table, markups = check_logic.findingsTable(checked), check_logic.findingsMarkups(checked)
    assert table.GetNumberOfRows() == markups.GetNumberOfControlPoints()
    first = check_logic.reviewed(checked)[0].finding.position_lps_mm
    place = markups.GetNthControlPointPosition(finding_nodes.point_of_finding(markups, 1))
    assert place == pytest.approx((-first[0], -first[1], first[2]))
    assert check_logic.teethAtCheck(checked) == [36, 46]


def test_a_second_check_fills_the_same_nodes_and_keeps_verdicts(check_logic, checked, scene):
    check_logic.setVerdict(checked, 2, "ignored", "an old root filling")
    tables = scene.GetNumberOfNodesByClass("vtkMRMLTableNode"), scene.GetNumberOfNodesByClass("vtkMRMLMarkupsNode")
    check_logic.check(checked)
    again = scene.GetNumberOfNodesByClass("vtkMRMLTableNode"), scene.GetNumberOfNodesByClass("vtkMRMLMarkupsNode")
    assert again == tables == (1, 1)
    row = next(row for row in check_logic.reviewed(checked) if row.finding.id == 2)
    assert (row.verdict, row.note) == ("ignored", "an old root filling")


def test_ignored_findings_have_no_mark(check_logic, checked, finding_nodes):
    check_logic.setVerdict(checked, 2, "ignored")
    assert finding_nodes.point_of_finding(check_logic.findingsMarkups(checked), 2) is None
    check_logic.setVerdict(checked, 2, "open")
    assert finding_nodes.point_of_finding(check_logic.findingsMarkups(checked), 2) is not None


def test_two_segmentations_keep_their_findings_apart(check_logic, checked, make_segmentation, teeth_array):
    other = make_segmentation((teeth_array, {"36": 36, "37": 37, "11": 11}), name="Other")
    check_logic.check(other)
    assert check_logic.findingsTable(other) is not check_logic.findingsTable(checked)
    assert check_logic.teethAtCheck(checked) == [36, 46]
    assert check_logic.repair(checked, 1) == [1]


def test_segments_of_another_tool_are_read_in_the_scheme_that_is_named(
    check_logic, make_segmentation, make_volume, faulty_array
):
    scan = make_volume(np.zeros(faulty_array.shape, np.int16), (0.5, 0.5, 0.5))
    universal = np.select([faulty_array == 36, faulty_array == 46], [19, 30], 0).astype(np.uint8)
    node = make_segmentation((universal, {"Zahn a": 19, "Zahn b": 30}), like=scan)
    with pytest.raises(InputError, match="No segment of 'Drawn' is a tooth"):
        check_logic.check(node)
    assert check_logic.findingsTable(node) is None
    check_logic.check(node, scheme="universal")
    assert of_kind(check_logic, node, "cavity")[0][2] == (36,)
    assert check_logic.repair(node, 1) == [1]
    assert node.GetSegmentation().GetNthSegment(0).GetName() == "Zahn a"


def test_a_scan_on_another_grid_is_told_and_not_used(check_logic, faulty, make_volume):
    other = make_volume(np.zeros((5, 6, 7), np.int16), name="Other")
    check_logic.check(faulty, other)
    assert "lies on another grid" in check_logic.notesOfCheck(faulty)


def test_a_scan_on_the_same_grid_is_used(check_logic, faulty, scene):
    table = check_logic.check(faulty, scene.GetFirstNodeByName("CBCT"))
    assert "another grid" not in check_logic.notesOfCheck(faulty)
    assert table.GetNodeReference("ToothTopoSeg.Volume") is scene.GetFirstNodeByName("CBCT")


@pytest.mark.parametrize("which", ["nothing", "no segments", "empty", "no teeth", "a volume"])
def test_what_cannot_be_checked_is_told_and_leaves_the_scene_as_it_was(
    check_logic, make_segmentation, teeth_array, scene, make_volume, which
):
    node = {
        "nothing": lambda: None,
        "no segments": make_segmentation,
        "empty": lambda: make_segmentation((np.zeros_like(teeth_array), {"36": 36})),
        "no teeth": lambda: make_segmentation((teeth_array, {"Airway": 36, "Canal": 37})),
        "a volume": lambda: make_volume(teeth_array),
    }[which]()
    before = scene.GetNumberOfNodes()
    with pytest.raises(InputError, match=r"choose|draw|name the segments"):
        check_logic.check(node)
    assert scene.GetNumberOfNodes() == before


def test_a_linear_transform_moves_the_findings_and_nothing_else(check_logic, checked, make_transform, nodes):
    before = check_logic.reviewed(checked)[0].finding.position_lps_mm
    moved = np.eye(4)
    moved[:3, 3] = 5, 6, 7
    checked.SetAndObserveTransformNodeID(make_transform(moved).GetID())
    assert check_logic.isChangedSinceCheck(checked)
    check_logic.check(checked)
    moved_one = check_logic.reviewed(checked)[0].finding
    assert np.subtract(moved_one.position_lps_mm, before) == pytest.approx((-5, -6, 7))
    assert check_logic.repair(checked, moved_one.id) == [moved_one.id]
    assert checked.GetParentTransformNode() is not None


def test_voxels_of_a_segmentation_that_was_moved_without_its_scan_are_all_checked(
    check_logic, checked, make_transform, nodes, scene
):
    moved = np.eye(4)
    moved[:3, 3] = 0.1, 60.2, 0.3
    checked.SetAndObserveTransformNodeID(make_transform(moved).GetID())
    check_logic.check(checked, scene.GetFirstNodeByName("CBCT"))
    assert (
        check_logic.notesOfCheck(checked) == "The volume lies on another grid than the segmentation and was not used."
    )
    assert len(check_logic.repair(checked)) == 3


@pytest.fixture
def bending(vtk, scene):
    """A transform that stretches space along z, more and more."""
    grid = vtk.vtkThinPlateSplineTransform()
    source, target = vtk.vtkPoints(), vtk.vtkPoints()
    for x in (-60, 60):
        for y in (-60, 60):
            for z, to in ((0, 0), (40, 44), (80, 100)):
                source.InsertNextPoint(x, y, z)
                target.InsertNextPoint(x, y, to)
    grid.SetSourceLandmarks(source)
    grid.SetTargetLandmarks(target)
    grid.SetBasisToR()
    node = scene.AddNewNodeByClass("vtkMRMLTransformNode", "Bend")
    node.SetAndObserveTransformToParent(grid)
    return node


def test_under_a_bending_transform_a_hardened_copy_is_checked_and_not_repaired(check_logic, faulty, bending, nodes):
    image = faulty.GetSegmentation().GetSegment("Segment_36").GetRepresentation("Binary labelmap")
    faulty.SetAndObserveTransformNodeID(bending.GetID())
    check_logic.check(faulty)
    assert of_kind(check_logic, faulty, "cavity")
    assert faulty.GetParentTransformNode() is bending
    assert faulty.GetSegmentation().GetSegment("Segment_36").GetRepresentation("Binary labelmap") is image
    with pytest.raises(InputError, match="which bends it"):
        check_logic.repair(faulty, 1)


# ---- repair


def test_one_finding_is_mended_and_the_others_stay(check_logic, checked, nodes, faulty_array):
    assert check_logic.repair(checked, 2) == [2]
    array = array_of(nodes, checked)
    assert array[24, 20, 70] == 46 and array[24, 20, 20] == 0
    assert np.count_nonzero(array != faulty_array) == 64
    assert of_kind(check_logic, checked, "cavity", "fragment") == [
        (1, "cavity", (36,), "open"),
        (3, "fragment", (36,), "open"),
        (2, "cavity", (46,), "repaired"),
    ]
    assert not check_logic.isChangedSinceCheck(checked)


def test_all_safe_repairs_leave_out_what_is_ignored(check_logic, checked, nodes):
    check_logic.setVerdict(checked, 1, "ignored", "a pulp chamber")
    assert check_logic.repair(checked) == [2, 3]
    array = array_of(nodes, checked)
    assert array[24, 20, 70] == 46 and array[24, 20, 20] == 0 and array[31, 17, 44] == 0
    assert of_kind(check_logic, checked, "cavity") == [
        (1, "cavity", (36,), "ignored"),
        (2, "cavity", (46,), "repaired"),
    ]


def test_a_repair_is_undone_and_its_finding_open_again(check_logic, checked, nodes, faulty_array):
    assert not check_logic.canUndoRepair(checked)
    assert not check_logic.undoRepair(checked)
    check_logic.repair(checked, 1)
    check_logic.repair(checked, 2)
    assert check_logic.undoRepair(checked)
    assert [row[3] for row in of_kind(check_logic, checked, "cavity")] == ["open", "repaired"]
    assert check_logic.undoRepair(checked)
    assert np.array_equal(array_of(nodes, checked), faulty_array)
    assert of_kind(check_logic, checked, "cavity") == [(1, "cavity", (36,), "open"), (2, "cavity", (46,), "open")]
    assert not check_logic.canUndoRepair(checked)


def test_before_and_after_are_shown_in_turn(check_logic, checked, nodes, faulty_array):
    assert not check_logic.showBefore(checked, True)
    check_logic.repair(checked, 1)
    after = array_of(nodes, checked)
    assert check_logic.showBefore(checked, True)
    assert np.array_equal(array_of(nodes, checked), faulty_array)
    assert [row[3] for row in of_kind(check_logic, checked, "cavity")] == ["open", "repaired"]
    assert check_logic.showBefore(checked, False)
    assert np.array_equal(array_of(nodes, checked), after)


def test_a_check_while_before_is_shown_goes_back_to_after(check_logic, checked, nodes):
    check_logic.repair(checked, 1)
    check_logic.showBefore(checked, True)
    check_logic.check(checked)
    assert array_of(nodes, checked)[24, 20, 20] == 36
    assert (1, "cavity", (36,), "repaired") in of_kind(check_logic, checked, "cavity")


def test_what_a_person_drew_after_the_check_is_kept_by_a_repair(check_logic, checked, nodes):
    drawn = nodes.labels_of(checked).labels
    array = drawn.array.copy()
    array[24, 20, 12] = 0
    nodes.apply_labels(checked, drawn.with_array(array))
    assert check_logic.isChangedSinceCheck(checked)
    assert 2 in check_logic.repair(checked, 2)
    assert array_of(nodes, checked)[24, 20, 12] == 0


def test_a_finding_without_a_repair_or_an_id_that_is_not_there_is_told(check_logic, checked):
    missing = next(row.finding.id for row in check_logic.reviewed(checked) if row.finding.kind == "missing")
    with pytest.raises(InputError, match="has no safe repair"):
        check_logic.repair(checked, missing)
    with pytest.raises(UsageError, match="There is no finding 999"):
        check_logic.repair(checked, 999)


def test_repairing_what_was_not_checked_is_told(check_logic, faulty):
    with pytest.raises(InputError, match="has not been checked yet"):
        check_logic.repair(faulty)


@pytest.mark.parametrize("what", ["changed", "removed"])
def test_a_segmentation_that_changes_while_a_repair_is_computed_is_left_alone(check_logic, checked, nodes, scene, what):
    steps = check_logic.repairSteps(checked, 1)
    computation = next(asked for asked in steps if asked is not None)
    answer = computation(lambda fraction, text: None)
    if what == "changed":
        checked.GetSegmentation().RemoveSegment("Segment_46")
    else:
        nodes.remove_with_displays(scene, checked)
    with pytest.raises(InputError, match=f"was {what}"):
        steps.send(answer)
    assert "Segment_36" in checked.GetSegmentation().GetSegmentIDs()


def test_a_segmentation_removed_while_it_is_checked_leaves_no_nodes(check_logic, faulty, nodes, scene):
    steps = check_logic.checkSteps(faulty)
    answer = next(asked for asked in steps if asked is not None)(lambda fraction, text: None)
    nodes.remove_with_displays(scene, faulty)
    with pytest.raises(InputError, match="was removed while it was checked"):
        steps.send(answer)
    assert scene.GetNumberOfNodesByClass("vtkMRMLTableNode") == 0
    check_logic.forget()


@pytest.mark.parametrize("what", ["Teeth", "CBCT"])
def test_what_changes_while_it_is_read_is_told(check_logic, faulty, nodes, scene, monkeypatch, what):
    monkeypatch.setattr(nodes, "_COPIED_AT_ONCE_BYTES", 1000)
    scan = scene.GetFirstNodeByName("CBCT")
    steps = check_logic.checkSteps(faulty) if what == "Teeth" else nodes.volume_steps(scan)
    next(steps)
    if what == "Teeth":
        faulty.GetSegmentation().RemoveSegment("Segment_46")
    else:
        scan.GetImageData().AllocateScalars(4, 1)
    with pytest.raises(InputError, match=f"'{what}' was changed while it was read"):
        for _ in steps:
            pass


def test_a_scan_removed_while_it_is_checked_does_no_harm(check_logic, faulty, scene):
    scan = scene.GetFirstNodeByName("CBCT")
    steps = check_logic.checkSteps(faulty, scan)
    answer = next(asked for asked in steps if asked is not None)(lambda fraction, text: None)
    scene.RemoveNode(scan)
    with pytest.raises(StopIteration):
        steps.send(answer)
    assert check_logic.findingsTable(faulty).GetNodeReference("ToothTopoSeg.Volume") is None


# ---- one finding


@pytest.fixture
def slice_node(slicer_core, scene, monkeypatch):
    """A slice view in the scene, and the markups module of the application."""
    logic = slicer_core.vtkSlicerMarkupsLogic()
    logic.SetMRMLScene(scene)
    modules = SimpleNamespace(markups=SimpleNamespace(logic=lambda: logic))
    monkeypatch.setattr(slicer_core, "modules", modules, raising=False)
    return scene.AddNode(slicer_core.vtkMRMLSliceNode())


def test_views_go_to_a_finding_and_its_tooth_stands_out(check_logic, checked, slice_node, scene):
    camera = scene.AddNewNodeByClass("vtkMRMLCameraNode")
    check_logic.showFinding(checked, 2)
    x, y, z = next(row.finding.position_lps_mm for row in check_logic.reviewed(checked) if row.finding.id == 2)
    assert slice_node.GetSliceToRAS().GetElement(2, 3) == pytest.approx(z)
    assert camera.GetFocalPoint() == pytest.approx((-x, -y, z))
    display = checked.GetDisplayNode()
    assert display.GetSegmentOpacity3D("Segment_46") == 1
    assert display.GetSegmentOpacity3D("Segment_36") < 0.3
    check_logic.giveBackLook(checked)
    assert display.GetSegmentOpacity3D("Segment_36") == 1


# ---- report


@pytest.fixture
def reviewed(check_logic, checked):
    """``checked`` with one finding ignored and one repaired."""
    check_logic.setVerdict(checked, 2, "ignored", "fine")
    check_logic.repair(checked, 1)
    return checked


def test_the_report_has_the_numbers_and_verdicts_of_the_table(check_logic, reviewed, tmp_path):
    path = check_logic.exportReport(reviewed, tmp_path / "report.json")
    report = json.loads(path.read_text(encoding="utf-8"))
    assert report["schema"] == "toothtoposeg.report/1"
    assert report["input"]["name"] == "Teeth"
    assert {tooth["fdi"] for tooth in report["teeth"] if tooth["present"]} == {36, 46}
    cavities = [(f["id"], f["verdict"], f["note"]) for f in report["findings"] if f["kind"] == "cavity"]
    assert cavities == [(2, "ignored", "fine")]
    assert [(f["id"], f["kind"]) for f in report["repaired"]] == [(1, "cavity")]


def test_the_report_as_table_and_as_page(check_logic, reviewed, tmp_path):
    check_logic.exportReport(reviewed, tmp_path / "Befunde 歯.csv")
    with (tmp_path / "Befunde 歯.csv").open(encoding="utf-8-sig", newline="") as file:
        verdicts = {row["id"]: row["verdict"] for row in csv.DictReader(file)}
    assert (verdicts["1"], verdicts["2"], verdicts["3"]) == ("repaired", "ignored", "open")
    check_logic.exportReport(reviewed, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Ignored: fine" in page and "data:image/png" in page


def test_a_report_that_cannot_be_written_is_told(check_logic, reviewed, tmp_path):
    with pytest.raises(UsageError, match=r"expected \.json, \.csv or \.html"):
        check_logic.exportReport(reviewed, tmp_path / "report.docx")
    with pytest.raises(OutputError, match="cannot be written"):
        check_logic.exportReport(reviewed, tmp_path / "none" / "report.json")


def test_the_example_of_the_documentation_runs(check_logic, faulty, tmp_path, capsys):
    example = textwrap.dedent(type(check_logic).__doc__.partition("Example::")[2])
    names = {"logic": check_logic, "segmentationNode": faulty, "folder": tmp_path}
    exec(example, names)
    assert names["mended"] == [1, 3] and (tmp_path / "report.html").exists()
    assert "2 error cavity (46,) open" in capsys.readouterr().out


# ---- with the scene


def told(check_logic, node):
    rows = check_logic.reviewed(node)
    return [(row.finding.id, row.finding.kind, row.finding.evidence, row.verdict, row.note) for row in rows]


def test_findings_verdicts_and_marks_come_back_with_the_saved_scene(
    check_logic, reviewed, scene, new_scene, tmp_path, slice_node
):
    check_logic.showFinding(reviewed, 2)
    before = told(check_logic, reviewed)
    path = str(tmp_path / "Szene ü.mrb")
    assert scene.WriteToMRB(path)
    again = new_scene()
    assert again.ReadFromMRB(path)
    node = again.GetFirstNodeByName("Teeth")
    assert told(check_logic, node) == before
    assert check_logic.findingsMarkups(node).GetNumberOfControlPoints() == len(before) - 2
    assert check_logic.teethAtCheck(node) == [36, 46]
    check_logic.giveBackLook(node)
    assert node.GetDisplayNode().GetSegmentOpacity3D("Segment_36") == 1
    assert check_logic.repair(node, 3) == [3]
    report = json.loads(check_logic.exportReport(node, tmp_path / "r.json").read_text(encoding="utf-8"))
    assert [f["id"] for f in report["repaired"]] == [3, 1]
