"""The panel Segment, driven as a person would: a real scan, the real process, and everything that goes wrong."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import time

import numpy as np
import pytest

MINUTE = 120.0


@pytest.fixture
def panel(makeWidget, cbct):
    """The panel with the small scan chosen."""
    return makeWidget().panel("SegmentPanel")


@pytest.fixture
def status(slicer):
    """What stands under the panels."""
    return lambda: slicer.modules.toothtoposeg.widgetRepresentation().self().ui.statusLabel.text


def contents(scene):
    return sorted(scene.GetNthNode(n).GetID() for n in range(scene.GetNumberOfNodes()))


def alive(process):
    return process is not None and process.poll() is None


def ended(process):
    """Whether a process that was told to end is gone within two seconds."""
    try:
        process.wait(2.0)
    except subprocess.TimeoutExpired:
        return False
    return True


@pytest.fixture
def at_work(panel, process_events):
    """Presses Apply and waits until the process tells of its progress; gives the process."""

    def start():
        panel.ui.applyButton.click()
        assert process_events(lambda: panel.ui.progressBar.value > 0, MINUTE)
        return panel._run.job._process

    return start


def test_every_tooth_becomes_a_segment_and_slicer_stays_usable(
    panel, phantom, process_events, status, screenshot, application, slicer, qt, tag_of
):
    screenshot(slicer.modules.toothtoposeg.widgetRepresentation(), "segment_before")
    assert "Takes about" in panel.ui.estimateLabel.text
    longest = beat(qt)
    panel.ui.applyButton.click()
    assert not panel.ui.applyButton.visible and panel.ui.cancelButton.enabled
    assert process_events(lambda: "left" in panel.ui.progressLabel.text, MINUTE)
    screenshot(slicer.modules.toothtoposeg.widgetRepresentation(), "segment_running")
    assert process_events(lambda: not panel.running, MINUTE)
    print(f"longest time without events: {max(longest):.3f} s")
    node = panel._parameterNode.result
    assert node.GetName() == "CBCT teeth" and "CBCT teeth" in status()
    segmentation = node.GetSegmentation()
    found = {segmentation.GetSegment(i).GetLabelValue() for i in segmentation.GetSegmentIDs()}
    truth = set(np.unique(phantom[1].array).tolist()) - {0}
    assert len(found & truth) > 0.7 * len(truth)
    assert segmentation.ContainsRepresentation("Closed surface")
    assert tag_of(segmentation.GetSegment("Segment_36"), "DICOM.SegmentAlgorithmName") == "ToothTopoSeg"
    assert application.layoutManager().view.centred and application.layoutManager().layout == 4
    screenshot(slicer.modules.toothtoposeg.widgetRepresentation(), "segment_done")
    panel.ui.jawsCheckBox.checked = False
    display = node.GetDisplayNode()
    assert not display.GetSegmentVisibility("Segment_101") and display.GetSegmentVisibility("Segment_36")


def beat(qt):
    """A timer that notes the seconds between two of its beats."""
    gaps, last = [0.0], [time.perf_counter()]

    def tick():
        now = time.perf_counter()
        gaps.append(now - last[0])
        last[0] = now

    beat.timer = qt.QTimer()
    beat.timer.setInterval(5)
    beat.timer.connect("timeout()", tick)
    beat.timer.start()
    return gaps


def test_cancel_ends_the_process_within_two_seconds_and_leaves_the_scene_as_it_was(
    panel, at_work, scene, status, process_events
):
    before = contents(scene)
    process = at_work()
    folder = panel._run.job._folder
    began = time.monotonic()
    panel.ui.cancelButton.click()
    assert ended(process) and time.monotonic() - began < 2.0
    assert not panel.running and panel.ui.applyButton.visible and "Cancelled" in status()
    assert contents(scene) == before and process_events(lambda: not folder.exists())


def test_a_second_apply_while_one_runs_does_nothing(panel, at_work):
    process = at_work()
    panel.apply()
    assert panel._run.job._process is process
    panel.cancel()


def test_closing_the_scene_ends_the_run_and_the_panel_goes_on_with_the_new_scene(panel, at_work, scene, status):
    process = at_work()
    scene.Clear(0)
    assert ended(process) and not panel.running and "scene was closed" in status()
    assert panel._parameterNode is not None and panel._parameterNode.inputVolume is None
    assert not panel.ui.applyButton.enabled


def test_deleting_the_volume_ends_the_run_and_says_so(panel, at_work, scene, cbct, process_events, status):
    process = at_work()
    scene.RemoveNode(cbct)
    assert process_events(lambda: not panel.running, MINUTE)
    assert ended(process) and "was deleted" in status()


def test_the_process_ends_when_slicer_closes(panel, at_work, application):
    process = at_work()
    application.aboutToQuit.emit()
    assert not alive(process)


def test_leaving_and_unloading_the_module_ends_the_run(panel, at_work, slicer):
    process = at_work()
    slicer.modules.toothtoposeg.widgetRepresentation().self().exit()
    assert alive(process)
    slicer.modules.scripted.pop("toothtoposeg").unload()
    assert ended(process)


def test_a_run_that_the_system_kills_is_explained(panel, at_work, process_events, status, application, scene, slicer):
    before = contents(scene)
    at_work().kill()
    assert process_events(lambda: not panel.running, MINUTE)
    assert "memory ran out" in status() and contents(scene) == before
    slicer.modules.toothtoposeg.widgetRepresentation().self().ui.copyDiagnosticsButton.click()
    copied = application.clipboard().text()
    assert "memory ran out" in copied and "Slicer 5" in copied and "interpreter" in copied


# ---- first labels


FAKE = """
import json, sys
import numpy as np
sys.path[:0] = {path!r}
from pathlib import Path
from ToothTopoSegGui.worker import boxes_of
def tell(event, **content):
    print(json.dumps(dict(event=event, **content)), flush=True)
folder, stored = Path(sys.argv[1]), {stored!r}
labels = {{name: np.load(Path(stored) / (name + ".npy")) for name in ("first", "labels")}}
for name, array in labels.items():
    np.save(folder / (name + ".npy"), array)
tell("first", boxes=boxes_of(labels["first"]))
sys.stdin.readline()  # the greeting
word = "go on" if {at_once} else sys.stdin.readline().strip()
if word != "go on":
    raise SystemExit(7)
tell("result", boxes=boxes_of(labels["labels"]), model={{}})
"""


@pytest.fixture
def told_first(panel, phantom, tmp_path, monkeypatch, scene, process_events):
    """Presses Apply with a process in place of the worker whose first labels lack the lower jaw and its teeth.

    Gives the preliminary node. The process goes on when it is told to, any other word ends it.
    """
    truth = phantom[1].array
    np.save(tmp_path / "labels.npy", truth)
    np.save(tmp_path / "first.npy", np.where(np.isin(truth, UPPER), truth, 0).astype(np.uint8))

    def start(at_once=False):
        script, program = tmp_path / "fake.py", tmp_path / "python"
        script.write_text(FAKE.format(path=sys.path, stored=str(tmp_path), at_once=at_once), encoding="utf-8")
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{script}" "$3"\n', encoding="utf-8")
        program.chmod(0o755)
        monkeypatch.setenv("TOOTHTOPOSEG_PYTHON", str(program))
        panel.ui.applyButton.click()
        assert process_events(lambda: segmentations(scene), MINUTE)
        return segmentations(scene)[0]

    return start


UPPER = [*range(11, 19), *range(21, 29)]


def segmentations(scene):
    kind = "vtkMRMLSegmentationNode"
    return [scene.GetNthNodeByClass(n, kind) for n in range(scene.GetNumberOfNodesByClass(kind))]


def labels_in(node):
    return importlib.import_module("ToothTopoSegGui.nodes").labels_of(node).labels.array


def test_first_labels_are_shown_as_preliminary_and_the_result_takes_their_place_in_the_same_node(
    told_first, panel, phantom, scene, slicer, application, process_events, status, tag_of, screenshot
):
    node, truth = told_first(), phantom[1].array
    segmentation = node.GetSegmentation()
    assert node.GetName() == "CBCT teeth (preliminary)" and "CBCT teeth (preliminary)" in status()
    assert {segmentation.GetSegment(i).GetLabelValue() for i in segmentation.GetSegmentIDs()} <= set(UPPER)
    assert segmentation.ContainsRepresentation("Closed surface") and application.layoutManager().view.centred
    assert panel.running and panel._parameterNode.result is None and panel.ui.cancelButton.enabled
    screenshot(slicer.modules.toothtoposeg.widgetRepresentation(), "segment_first")
    node.GetDisplayNode().SetSegmentVisibility("Segment_11", False)
    count = scene.GetNumberOfNodes()
    panel._run.job.send("go on")
    assert process_events(lambda: not panel.running, MINUTE)
    assert segmentations(scene) == [node] and scene.GetNumberOfNodes() == count
    assert panel._parameterNode.result is node and node.GetName() == "CBCT teeth"
    np.testing.assert_array_equal(labels_in(node), truth)
    surfaces = [segmentation.GetSegment(i).GetRepresentation("Closed surface") for i in segmentation.GetSegmentIDs()]
    assert all(surface is not None and surface.GetNumberOfPoints() for surface in surfaces)
    display = node.GetDisplayNode()
    assert not display.GetSegmentVisibility("Segment_11") and display.GetSegmentVisibility("Segment_36")
    assert tag_of(segmentation.GetSegment("Segment_36"), "DICOM.SegmentAlgorithmName") == "ToothTopoSeg"


def test_cancel_takes_the_preliminary_segmentation_back(told_first, panel, scene, slicer, status, process_events, cbct):
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    before = contents(scene), hierarchy.GetNumberOfItems()
    told_first()
    process, folder = panel._run.job._process, panel._run.job.folder
    assert contents(scene) != before[0]
    panel.ui.cancelButton.click()
    assert ended(process) and not panel.running and "Cancelled" in status()
    assert (contents(scene), hierarchy.GetNumberOfItems()) == before
    assert process_events(lambda: not folder.exists()) and panel.logic.resultName(cbct) == "CBCT teeth"


def test_cancel_while_the_result_takes_the_place_of_first_labels_takes_both_back(
    told_first, panel, scene, process_events
):
    before = contents(scene)
    told_first()
    panel._run.job.send("go on")
    assert process_events(lambda: "Showing" in panel.ui.progressLabel.text, MINUTE)
    panel.ui.cancelButton.click()
    assert not panel.running and contents(scene) == before


@pytest.mark.parametrize("end", ["killed", "failed", "deleted volume", "closed scene"])
def test_a_run_that_fails_after_its_first_labels_leaves_none_of_them(
    end, told_first, panel, scene, cbct, process_events, status
):
    before = contents(scene)
    told_first()
    if end == "killed":
        panel._run.job._process.kill()
    elif end == "deleted volume":
        scene.RemoveNode(cbct)
        panel._run.job.send("go on")
    elif end == "closed scene":
        scene.Clear(0)
    else:
        panel._run.job.send("no")
    assert process_events(lambda: not panel.running, MINUTE) and not segmentations(scene)
    if end in ("killed", "failed"):
        assert contents(scene) == before
    else:
        assert {"deleted volume": "was deleted", "closed scene": "scene was closed"}[end] in status()


def test_a_preliminary_segmentation_that_the_user_removes_does_not_come_back_but_the_result_does(
    told_first, panel, scene, process_events, phantom
):
    node = told_first()
    scene.RemoveNode(node)
    panel._run.job.send("go on")
    assert process_events(lambda: not panel.running, MINUTE)
    (made,) = segmentations(scene)
    assert made is panel._parameterNode.result and made is not node and made.GetName() == "CBCT teeth"
    np.testing.assert_array_equal(labels_in(made), phantom[1].array)


def test_a_result_that_comes_with_its_first_labels_gives_one_segmentation(
    told_first, panel, scene, process_events, phantom
):
    told_first(at_once=True)
    assert process_events(lambda: not panel.running, MINUTE)
    (node,) = segmentations(scene)
    assert node.GetName() == "CBCT teeth"
    np.testing.assert_array_equal(labels_in(node), phantom[1].array)


# ---- input that cannot be used


def refused(panel, status, process_events):
    """Press Apply and hand back what is told; nothing runs."""
    panel.apply()
    assert process_events(lambda: not panel.running, MINUTE)
    return status()


@pytest.fixture
def empty_panel(makeWidget):
    """The panel in an empty scene."""
    return makeWidget().panel("SegmentPanel")


def test_without_a_volume_apply_is_off_and_the_panel_says_what_to_load(empty_panel, status, process_events):
    assert not empty_panel.ui.applyButton.enabled and "Load a CBCT" in empty_panel.ui.estimateLabel.text
    assert "No volume is chosen" in refused(empty_panel, status, process_events)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        ("vector", "several values"),
        ("no voxels", "has no voxels"),
        ("no spacing", "no usable spacing"),
        ("bent", "bends it"),
        ("sequence", "time sequence"),
    ],
)
def test_a_volume_that_cannot_be_used_is_refused_with_the_reason(
    make, told, empty_panel, status, process_events, scene, slicer, add_volume
):
    array = np.zeros((8, 8, 8), np.int16)
    if make == "vector":
        node = add_volume(np.zeros((8, 8, 8, 3), np.int16), kind="vtkMRMLVectorVolumeNode")
    elif make == "no voxels":
        node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Empty")
    else:
        node = add_volume(array)
    if make == "no spacing":
        node.SetIJKToRASDirections(1, 0, 0, 1, 0, 0, 0, 0, 1)
    if make == "bent":
        transform = scene.AddNewNodeByClass("vtkMRMLBSplineTransformNode", "Bend")
        bspline = slicer.vtkOrientedBSplineTransform()
        transform.SetAndObserveTransformToParent(bspline)
        node.SetAndObserveTransformNodeID(transform.GetID())
    if make == "sequence":
        put_in_sequence(scene, node)
    empty_panel._parameterNode.inputVolume = node
    before = contents(scene)
    assert told in refused(empty_panel, status, process_events)
    assert contents(scene) == before


def put_in_sequence(scene, node):
    sequence = scene.AddNewNodeByClass("vtkMRMLSequenceNode", "Breath")
    for moment in ("0", "1"):
        sequence.SetDataNodeAtValue(node, moment)
    browser = scene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "Browser")
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    browser.AddProxyNode(node, sequence, False)


def test_a_volume_that_shows_no_teeth_is_told(panel, add_volume, process_events, status):
    panel._parameterNode.inputVolume = add_volume(np.zeros((40, 48, 48), np.int16), "Air")
    told = refused(panel, status, process_events)
    assert "No teeth were found" in told and "Air" in told


def test_an_own_model_that_is_not_there_is_refused_before_anything_runs(panel, status, process_events):
    panel.ui.modelComboBox.currentIndex = 1
    assert "No model file is chosen" in refused(panel, status, process_events)
    panel.ui.modelPathEdit.currentPath = "/nowhere/own.onnx"
    assert "No model was found" in refused(panel, status, process_events)
    assert panel._parameterNode.modelPath == "/nowhere/own.onnx"


def test_a_device_that_is_not_there_is_told_by_the_process(panel, status, process_events, screenshot, slicer):
    panel.ui.optionsButton.collapsed = False
    panel.ui.deviceComboBox.currentIndex = 2
    assert "No CUDA device" in refused(panel, status, process_events)
    screenshot(slicer.modules.toothtoposeg.widgetRepresentation(), "segment_error")


def test_without_an_interpreter_the_panel_says_how_to_name_one(panel, status, process_events, monkeypatch):
    monkeypatch.setenv("TOOTHTOPOSEG_PYTHON", "/nowhere/python")
    assert "/nowhere/python" in refused(panel, status, process_events)
    monkeypatch.delenv("TOOTHTOPOSEG_PYTHON")
    monkeypatch.setenv("PATH", "")
    assert "PythonSlicer" in refused(panel, status, process_events)


def test_a_run_works_in_folders_with_spaces_umlauts_and_japanese_and_without_write_access_to_the_extension(
    panel, add_volume, process_events, status, tmp_path, application, monkeypatch
):
    place = tmp_path / "Müller 歯 data"
    place.mkdir()
    monkeypatch.setattr(application, "temporaryPath", str(place))
    panel._parameterNode.inputVolume = add_volume(np.zeros((24, 24, 24), np.int16), "Zähne 歯")
    assert "Zähne 歯" in refused(panel, status, process_events)
    assert process_events(lambda: not list(place.iterdir()))


# ---- what is kept


def test_the_choices_are_saved_with_the_scene(panel, scene, cbct, tmp_path, slicer, process_events):
    panel.ui.threadsSpinBox.value = 3
    panel.ui.jawsCheckBox.checked = False
    panel.ui.deviceComboBox.currentIndex = 1
    node = scene.GetSingletonNode("ToothTopoSeg", "vtkMRMLScriptedModuleNode")
    assert (node.GetParameter("threads"), node.GetParameter("jawsVisible")) == ("3", "False")
    assert (node.GetParameter("device"), node.GetNodeReference("inputVolume")) == ("cpu", cbct)


def test_the_estimate_learns_the_pace_of_the_computer(panel, cbct):
    before = panel.logic.expectedCost(cbct).seconds
    panel.logic.learnPace(cbct, None, 2 * before)
    assert before < panel.logic.expectedCost(cbct).seconds < 2 * before


def test_the_process_finds_module_and_engine_and_writes_nothing_beside_them(application):
    environment = importlib.import_module("ToothTopoSegGui.job")._environment()
    assert environment["PYTHONDONTWRITEBYTECODE"] == "1"
    found = subprocess.run(
        [sys.executable, "-c", "import ToothTopoSegGui.worker, ToothTopoSegLib"], env=environment, cwd=os.sep
    )
    assert found.returncode == 0
