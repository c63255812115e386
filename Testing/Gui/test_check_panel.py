"""The panel Check in the real widget: check, walk through the findings, mend, undo, ignore, export, load again."""

from __future__ import annotations

import csv
import importlib
from types import SimpleNamespace

import numpy as np
import pytest

SECONDS = 60


@pytest.fixture
def faulty_array():
    """A label map (z, y, x) at 0.5 mm: 36 and 46, round, with a void each, a crumb of 36, the lower jaw beneath."""
    array = np.zeros((48, 40, 90), np.uint8)
    array[2:8, 4:36, 4:86] = 101
    z, y, x = np.mgrid[:48, :40, :90]
    for tooth, middle in ((36, 20), (46, 70)):
        array[((x - middle) / 10) ** 2 + ((y - 20) / 9) ** 2 + ((z - 24) / 18) ** 2 < 1] = tooth
        array[22:26, 18:22, middle - 2 : middle + 2] = 0
    array[30:34, 16:20, 43:46] = 36
    return array


@pytest.fixture
def make_volume(slicer, scene):
    """Adds an empty scan of a shape (z, y, x) at 0.5 mm."""

    def make(shape, name="CBCT"):
        image = importlib.import_module("vtk").vtkImageData()
        image.SetDimensions(*shape[::-1])
        image.AllocateScalars(4, 1)
        image.GetPointData().GetScalars().Fill(0)
        node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
        node.SetSpacing(0.5, 0.5, 0.5)
        node.SetAndObserveImageData(image)
        return node

    return make


@pytest.fixture
def make_teeth(make_volume):
    """Adds a segmentation of an array of FDI numbers, and the scan it was made on."""

    def make(array, name="Teeth"):
        nodes = importlib.import_module("ToothTopoSegGui.nodes")
        scan = make_volume(array.shape, f"{name} CBCT")
        return nodes.show_teeth(nodes.volume_of(scan).with_array(array), scan, name, closed_surface=True)

    return make


@pytest.fixture
def widget(makeWidget):
    return makeWidget()


@pytest.fixture
def panel(widget):
    widget.ui.panelTabs.currentIndex = 1
    return widget.panel("CheckPanel")


@pytest.fixture
def choose(panel):
    """Chooses a segmentation in the panel."""

    def choose(node):
        panel.ui.segmentationSelector.setCurrentNode(node)
        return node

    return choose


@pytest.fixture
def finish(panel, process_events):
    """Waits until nothing is being computed."""

    def wait():
        assert process_events(lambda: not panel.running, SECONDS)

    return wait


@pytest.fixture
def checked(panel, choose, make_teeth, faulty_array, finish):
    """The faulty teeth, chosen and checked: findings 1 and 2 are the voids of 36 and 46, 3 the crumb."""
    node = choose(make_teeth(faulty_array))
    panel.ui.checkButton.click()
    assert panel.running
    finish()
    return node


def status(widget):
    return widget.ui.statusLabel.text if widget.ui.statusFrame.visible else ""


def verdicts(panel, node):
    return {row.finding.id: row.verdict for row in panel.logic.reviewed(node)}


def cell(panel, row, column):
    return panel.view.proxy.data(panel.view.proxy.index(row, column), 0)


# ---- check


def test_a_check_fills_list_chart_and_summary(panel, checked, widget):
    assert panel.view.listedIds()[:3] == [1, 2, 3]
    assert [cell(panel, 0, column) for column in range(5)] == ["1", "Error", "Cavity", "Open", "36"]
    assert "Teeth: 2. Open errors: 3, warnings: " in panel.ui.summaryLabel.text
    assert panel.ui.errorButton.text == "Errors (3)"
    assert panel.chart.middleOf(36) is not None
    assert panel.ui.checkButton.visible and not panel.ui.progressFrame.visible
    assert status(widget) == ""


def test_what_belongs_to_the_segmentation_is_chosen_with_it(panel, choose, make_teeth, faulty_array, scene):
    choose(make_teeth(faulty_array))
    assert panel.ui.volumeSelector.currentNode() is scene.GetFirstNodeByName("Teeth CBCT")
    assert panel.ui.schemeComboBox.currentText == "Guess"
    assert "Not checked yet" in panel.ui.summaryLabel.text


def test_a_second_press_does_not_start_a_second_check(panel, choose, make_teeth, faulty_array, finish, scene):
    choose(make_teeth(faulty_array))
    panel.check()
    first = panel._work
    panel.check()
    panel.repairAll()
    assert panel._work is first
    finish()
    assert scene.GetNumberOfNodesByClass("vtkMRMLTableNode") == 1


def test_a_cancelled_check_leaves_the_scene_as_it_was(panel, choose, make_teeth, faulty_array, finish, scene, widget):
    choose(make_teeth(faulty_array))
    panel.ui.checkButton.click()
    panel.ui.cancelButton.click()
    finish()
    assert "Cancelled" in status(widget)
    assert scene.GetNumberOfNodesByClass("vtkMRMLTableNode") == 0
    assert panel.ui.checkButton.enabled


def test_the_segmentation_may_be_deleted_during_a_check(panel, choose, make_teeth, faulty_array, finish, scene):
    node = choose(make_teeth(faulty_array))
    panel.ui.checkButton.click()
    scene.RemoveNode(node)
    finish()
    assert scene.GetNumberOfNodesByClass("vtkMRMLTableNode") == 0
    assert not panel.ui.checkButton.enabled
    assert "Choose a segmentation" in panel.ui.summaryLabel.text


def test_the_scene_may_be_closed_during_a_check(panel, choose, make_teeth, faulty_array, finish, scene):
    choose(make_teeth(faulty_array))
    panel.ui.checkButton.click()
    scene.Clear(0)
    finish()
    assert scene.GetNumberOfNodesByClass("vtkMRMLTableNode") == 0
    assert panel.view.listedIds() == []
    choose(make_teeth(faulty_array))
    panel.ui.checkButton.click()
    finish()
    assert panel.view.listedIds()


def test_the_module_may_go_away_during_a_check(panel, choose, make_teeth, faulty_array, process_events):
    choose(make_teeth(faulty_array))
    panel.ui.checkButton.click()
    work = panel._work
    panel.cleanup()
    for _ in range(500):
        work.advance()
    assert work.is_done and work.error is not None


def test_nothing_can_be_pressed_where_no_segmentation_is_chosen(panel):
    names = ("check", "repair", "repairAll", "undo", "before", "ignore", "export", "previous", "next")
    assert not any(getattr(panel.ui, f"{name}Button").enabled for name in names)
    panel.check()
    panel.chooseTooth(36)
    assert "Choose a segmentation" in panel.ui.summaryLabel.text


@pytest.mark.parametrize(
    ("which", "told"), [("none", "has no segments"), ("empty", "are empty"), ("no teeth", "No segment of 'Drawn' is")]
)
def test_what_cannot_be_checked_is_told_under_the_panel(
    panel, choose, finish, scene, widget, which, told, slicer, make_teeth, faulty_array
):
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Drawn")
    if which == "empty":
        node.GetSegmentation().AddEmptySegment("", "36")
    if which == "no teeth":
        other = make_teeth(faulty_array)
        segment = slicer.vtkSegment()
        segment.DeepCopy(other.GetSegmentation().GetSegment("Segment_36"))
        segment.SetName("Airway")
        segment.SetTag(segment.GetTerminologyEntryTagName(), "")
        node.GetSegmentation().AddSegment(segment)
    choose(node)
    panel.ui.checkButton.click()
    finish()
    assert told in status(widget)
    assert scene.GetNumberOfNodesByClass("vtkMRMLTableNode") == 0


def test_numbers_of_another_scheme_are_read_as_chosen(panel, choose, make_teeth, faulty_array, finish):
    node = choose(make_teeth(faulty_array))
    for identifier, value in (("Segment_36", 19), ("Segment_46", 30)):
        segment = node.GetSegmentation().GetSegment(identifier)
        segment.SetName(str(value))
        segment.SetTag(segment.GetTerminologyEntryTagName(), "")
    panel.ui.schemeComboBox.currentIndex = panel.ui.schemeComboBox.findData("universal")
    panel.ui.checkButton.click()
    finish()
    assert cell(panel, 0, 4) == "36"


def test_a_parent_transform_stays_and_findings_lie_in_the_world(panel, checked, scene, finish):
    before = panel.logic.reviewed(checked)[0].finding.position_lps_mm
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Moved")
    matrix = importlib.import_module("vtk").vtkMatrix4x4()
    matrix.SetElement(2, 3, 25.0)
    transform.SetMatrixTransformToParent(matrix)
    checked.SetAndObserveTransformNodeID(transform.GetID())
    panel.enter()
    assert "has changed since" in panel.ui.summaryLabel.text
    panel.ui.checkButton.click()
    finish()
    assert panel.logic.reviewed(checked)[0].finding.position_lps_mm[2] == pytest.approx(before[2] + 25)
    assert checked.GetParentTransformNode() is transform


# ---- the list


def test_the_list_is_sorted_by_a_click_on_its_head(panel, checked, qt):
    panel.ui.findingsTable.sortByColumn(0, qt.Qt.DescendingOrder)
    listed = panel.view.listedIds()
    assert listed == sorted(listed, reverse=True)
    panel.ui.findingsTable.sortByColumn(1, qt.Qt.AscendingOrder)
    severities = [row.finding.severity for n in panel.view.listedIds() for row in panel._rows if row.finding.id == n]
    assert severities == sorted(severities, key=("error", "warning", "info").index)


def test_the_list_is_filtered_by_severity_kind_and_verdict(panel, checked):
    everything = panel.view.listedIds()
    panel.ui.warningButton.click()
    panel.ui.infoButton.click()
    assert panel.view.listedIds() == [1, 2, 3]
    panel.ui.kindComboBox.currentIndex = panel.ui.kindComboBox.findData("cavity")
    assert panel.view.listedIds() == [1, 2]
    panel.logic.setVerdict(checked, 1, "ignored")
    panel.ui.settledCheckBox.click()
    panel.enter()
    assert panel.view.listedIds() == [2]
    assert panel.ui.kindComboBox.currentText == "Cavity"
    panel.ui.errorButton.click()
    assert panel.view.listedIds() == []
    for button in (panel.ui.errorButton, panel.ui.warningButton, panel.ui.infoButton, panel.ui.settledCheckBox):
        button.click()
    panel.ui.kindComboBox.currentIndex = 0
    assert panel.view.listedIds() == [*everything[1:], 1]


def test_choosing_a_finding_moves_the_views_and_fades_the_other_teeth(panel, checked, slicer, scene):
    slice_node = scene.AddNode(slicer.vtkMRMLSliceNode())
    panel.view.choose(2)
    place = next(row.finding.position_lps_mm for row in panel._rows if row.finding.id == 2)
    assert slice_node.GetSliceToRAS().GetElement(2, 3) == pytest.approx(place[2])
    display = checked.GetDisplayNode()
    assert display.GetSegmentOpacity3D("Segment_36") < 0.3 < display.GetSegmentOpacity3D("Segment_46")
    assert "Tooth 46" in panel.ui.evidenceLabel.text
    panel.ui.highlightCheckBox.click()
    assert display.GetSegmentOpacity3D("Segment_36") == 1
    panel.ui.highlightCheckBox.click()
    assert display.GetSegmentOpacity3D("Segment_36") < 0.3
    panel.exit()
    assert display.GetSegmentOpacity3D("Segment_36") == 1


def test_next_and_previous_go_round(panel, checked):
    listed = panel.view.listedIds()
    panel.ui.nextButton.click()
    assert panel.view.chosenId() == listed[0]
    panel.ui.nextButton.click()
    assert panel.view.chosenId() == listed[1]
    panel.ui.previousButton.click()
    panel.ui.previousButton.click()
    assert panel.view.chosenId() == listed[-1]


def test_a_click_on_a_tooth_chooses_its_finding(panel, checked, qt):
    x, y = panel.chart.middleOf(46)
    panel.chart.mousePressEvent(SimpleNamespace(pos=lambda: qt.QPoint(round(x), round(y))))
    assert panel.view.chosenId() == 2
    assert panel.chart.toothAt(1, 1) is None
    panel.ui.errorButton.click()
    panel.ui.warningButton.click()
    panel.ui.infoButton.click()
    panel.chooseTooth(46)
    assert panel.view.chosenId() is None
    assert checked.GetDisplayNode().GetSegmentOpacity3D("Segment_36") < 0.3


# ---- mend, undo, ignore


def test_a_finding_is_mended_shown_before_and_undone(panel, checked, finish, widget):
    nodes = importlib.import_module("ToothTopoSegGui.nodes")
    panel.view.choose(2)
    assert panel.ui.repairButton.enabled and not panel.ui.undoButton.enabled
    panel.ui.repairButton.click()
    finish()
    assert "Repaired: 2." in status(widget)
    assert verdicts(panel, checked)[2] == "repaired" and verdicts(panel, checked)[1] == "open"
    panel.ui.beforeButton.click()
    assert nodes.labels_of(checked).labels.array[24, 20, 70] == 0
    panel.ui.beforeButton.click()
    assert nodes.labels_of(checked).labels.array[24, 20, 70] == 46
    panel.ui.undoButton.click()
    finish()
    assert nodes.labels_of(checked).labels.array[24, 20, 70] == 0
    assert verdicts(panel, checked)[2] == "open"
    assert not panel.ui.undoButton.enabled and not panel.ui.beforeButton.enabled


def test_before_is_shown_only_as_long_as_the_panel_shows_it(panel, checked, finish, choose):
    nodes = importlib.import_module("ToothTopoSegGui.nodes")
    panel.view.choose(2)
    panel.ui.repairButton.click()
    finish()
    for leave in (panel.exit, lambda: choose(None)):
        panel.ui.beforeButton.click()
        assert nodes.labels_of(checked).labels.array[24, 20, 70] == 0
        leave()
        assert nodes.labels_of(checked).labels.array[24, 20, 70] == 46
        assert not panel.ui.beforeButton.checked


def test_all_safe_repairs_but_those_ignored(panel, checked, finish):
    panel.view.choose(1)
    panel.ui.noteEdit.text = "the pulp"
    panel.ui.ignoreButton.click()
    assert verdicts(panel, checked)[1] == "ignored"
    assert panel.ui.noteEdit.text == "the pulp" and panel.ui.ignoreButton.text == "Open again"
    panel.ui.repairAllButton.click()
    finish()
    told = verdicts(panel, checked)
    assert (told[1], told[2], told[3]) == ("ignored", "repaired", "repaired")
    assert set(panel.view.listedIds()[-3:]) == {1, 2, 3}
    panel.view.choose(1)
    panel.ui.ignoreButton.click()
    assert verdicts(panel, checked)[1] == "open"


def test_a_repair_that_would_make_something_worse_is_told(panel, checked, finish, widget, monkeypatch):
    monkeypatch.setattr("ToothTopoSegLib.topology.repair.propose", lambda mouth, finding: None)
    panel.ui.repairAllButton.click()
    finish()
    assert "Not repaired, because it would make something else worse: 1, 2, 3." in status(widget)
    assert "open" in {verdicts(panel, checked)[n] for n in (1, 2, 3)}


def test_a_failure_that_nobody_thought_of_is_told_with_its_details(panel, checked, finish, widget, monkeypatch, slicer):
    def fail(*arguments):
        raise ZeroDivisionError("thin air")

    monkeypatch.setattr("ToothTopoSegLib.topology.repair.repair_all", fail)
    panel.ui.repairAllButton.click()
    finish()
    assert "failed unexpectedly (ZeroDivisionError)" in status(widget)
    widget.ui.copyDiagnosticsButton.click()
    assert "thin air" in slicer.app.clipboard().text()


# ---- report and scene


def test_the_report_is_written_where_the_user_says(panel, checked, finish, widget, tmp_path):
    panel.ui.exportButton.click()
    assert "No file is chosen" in status(widget)
    for name in ("Befund ü.csv", "Befund 歯.html", "report.json"):
        panel.ui.reportPathEdit.currentPath = str(tmp_path / name)
        panel.ui.exportButton.click()
        finish()
        assert (tmp_path / name).stat().st_size > 100
        assert name in status(widget)
    with (tmp_path / "Befund ü.csv").open(encoding="utf-8-sig", newline="") as file:
        assert len(list(csv.DictReader(file))) == len(panel._rows)
    panel.ui.reportPathEdit.currentPath = str(tmp_path / "none" / "report.csv")
    panel.ui.exportButton.click()
    finish()
    assert "cannot be written" in status(widget)


def test_a_loaded_scene_shows_findings_and_verdicts_again(panel, checked, scene, tmp_path, finish, process_events):
    panel.view.choose(1)
    panel.ui.noteEdit.text = "the pulp"
    panel.ui.ignoreButton.click()
    panel.view.choose(3)
    panel.ui.repairButton.click()
    finish()
    before = [(row.finding.id, row.verdict, row.note) for row in panel._rows]
    path = str(tmp_path / "Szene.mrb")
    assert scene.WriteToMRB(path)
    scene.Clear(0)
    assert panel.view.listedIds() == []
    assert scene.ReadFromMRB(path)
    process_events(lambda: bool(panel._rows), 5)
    assert [(row.finding.id, row.verdict, row.note) for row in panel._rows] == before
    assert panel.ui.segmentationSelector.currentNode() is scene.GetFirstNodeByName("Teeth")
    assert panel.ui.volumeSelector.currentNode() is scene.GetFirstNodeByName("Teeth CBCT")
    panel.view.choose(2)
    panel.ui.repairButton.click()
    finish()
    assert verdicts(panel, scene.GetFirstNodeByName("Teeth"))[2] == "repaired"


def test_another_segmentation_brings_its_own_findings(panel, checked, choose, make_teeth, faulty_array, widget):
    other = make_teeth(np.where(faulty_array == 46, 0, faulty_array), "Other")
    panel.view.choose(2)
    widget.services.teethSegmented(other)
    assert panel.ui.segmentationSelector.currentNode() is other
    assert panel.view.listedIds() == []
    assert checked.GetDisplayNode().GetSegmentOpacity3D("Segment_36") == 1
    choose(checked)
    assert panel.view.listedIds()[:3] == [1, 2, 3]


def test_the_panel_looks_as_it_should(panel, checked, widget, screenshot):
    panel.view.choose(1)
    assert screenshot(widget.parent, "check panel").stat().st_size > 10_000


# ---- measures


def test_measuring_needs_no_check_and_tells_where_the_table_is(
    panel, choose, make_teeth, faulty_array, finish, widget, scene
):
    assert not panel.ui.measureButton.enabled
    choose(make_teeth(faulty_array))
    panel.ui.measureButton.click()
    assert panel.running and not panel.ui.measureButton.enabled
    finish()
    table = scene.GetFirstNodeByName("Teeth measures")
    assert table.GetNumberOfRows() == 2
    assert status(widget) == "2 teeth were measured; the table Teeth measures is in the module Tables."
