"""The module's widget: what opening it takes and leaves alone, and how it follows the scene."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_opening_the_module_imports_nothing_heavy(tmp_path):
    code = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(ROOT)!r})
from Testing.Gui import harness
application = harness.start(Path({str(tmp_path)!r}))
import slicer
from Testing.Gui.harness.application import new_scene, qSlicerScriptedLoadableModule
kept = new_scene(Path({str(tmp_path)!r}))
before = set(sys.modules)
file = Path({str(ROOT / "ToothTopoSeg" / "ToothTopoSeg.py")!r})
slicer.modules.scripted["toothtoposeg"] = qSlicerScriptedLoadableModule(file)
named = {{"numpy", "scipy", "SimpleITK", "onnxruntime", "torch", "PIL"}}
assert not named & (set(sys.modules) - before), "loading the file"
slicer.util.getModuleLogic("ToothTopoSeg")
assert not {{"onnxruntime", "torch", "scipy", "SimpleITK"}} & (set(sys.modules) - before), "opening"
import os
os._exit(0)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_help_says_what_to_do_and_the_icon_is_there(makeWidget, slicer):
    makeWidget()
    module = slicer.modules.toothtoposeg
    assert "Apply" in module.helpText and "2605.04201" in module.acknowledgementText
    assert not module.icon.isNull()


def test_once_slicer_has_started_it_knows_the_sample_scan_and_the_codes_of_teeth(makeWidget, application, slicer):
    makeWidget()
    samples, terminologies = sys.modules["SampleData"].SampleDataLogic, slicer.modules.terminologies.logic()
    assert not samples.sources
    application.startupCompleted.emit()
    assert [source["sampleName"] for source in samples.sources] == ["DentalCBCT"]
    assert terminologies.IsTerminologyContextLoaded("Segmentation category and type - ToothTopoSeg")
    samples.sources.clear()


def test_the_tabs_are_the_panels(makeWidget):
    tabs = makeWidget().ui.panelTabs
    titles = [tabs.tabText(n) for n in range(tabs.count)]
    assert titles[0] == "Segment" and titles[-1] == "Fine-tune"


def test_the_first_volume_is_chosen_but_no_choice_is_changed(makeWidget, add_volume, slicer):
    first, second = (add_volume(np.zeros((4, 4, 4), np.int16), name) for name in ("First", "Second"))
    widget = makeWidget()
    panel = widget.panel("SegmentPanel")
    assert panel.ui.inputSelector.currentNode() is first
    panel.ui.inputSelector.setCurrentNode(second)
    widget.exit()
    widget.enter()
    assert panel._parameterNode.inputVolume is second
    assert slicer.app.layoutManager().layout == 4


def test_label_maps_are_not_offered_but_vector_volumes_are_for_their_refusal_explains(makeWidget, scene):
    scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "Labels")
    scene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", "Photo")
    selector = makeWidget().panel("SegmentPanel").ui.inputSelector
    assert [selector.nodeFromIndex(n).GetName() for n in range(selector.nodeCount())] == ["Photo"]


def test_a_closed_scene_leaves_a_working_panel(makeWidget, scene, add_volume):
    add_volume(np.zeros((4, 4, 4), np.int16))
    widget = makeWidget()
    scene.Clear(0)
    panel = widget.panel("SegmentPanel")
    assert panel._parameterNode.inputVolume is None
    node = add_volume(np.zeros((4, 4, 4), np.int16))
    panel.ui.inputSelector.setCurrentNode(node)
    assert panel._parameterNode.inputVolume is node and panel.ui.applyButton.enabled


def test_a_saved_scene_brings_the_choices_back(makeWidget, scene, add_volume, tmp_path):
    add_volume(np.zeros((4, 4, 4), np.int16))
    panel = makeWidget().panel("SegmentPanel")
    panel.ui.threadsSpinBox.value = 5
    panel._parameterNode.result = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Teeth")
    path = tmp_path / "scene.mrml"
    scene.SetURL(str(path))
    assert scene.Commit()
    scene.Clear(0)
    assert panel.ui.threadsSpinBox.value == 0
    scene.SetURL(str(path))
    scene.Connect()
    assert panel.ui.threadsSpinBox.value == 5
    assert panel._parameterNode.result.GetName() == "Teeth"
    assert panel.ui.inputSelector.currentNode().GetName() == "CBCT"


def test_what_the_scene_does_while_another_module_is_open_is_seen_on_coming_back(makeWidget, scene, add_volume):
    widget = makeWidget()
    widget.exit()
    scene.Clear(0)
    node = add_volume(np.zeros((4, 4, 4), np.int16))
    assert widget.panel("SegmentPanel")._parameterNode is None
    widget.enter()
    assert widget.panel("SegmentPanel")._parameterNode.inputVolume is node


def test_unloading_the_module_leaves_no_observer_behind(makeWidget, scene, slicer, add_volume):
    widget = makeWidget()
    slicer.modules.scripted.pop("toothtoposeg").unload()
    assert widget.Observations == []
    add_volume(np.zeros((4, 4, 4), np.int16))
    scene.Clear(0)


@pytest.mark.parametrize(("window", "answer"), [(True, True), (False, False)])
def test_a_question_is_asked_only_where_somebody_can_answer(
    makeWidget, application, slicer, monkeypatch, window, answer
):
    widget = makeWidget()
    application.setMainWindow(window)
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda *a, **k: True)
    assert widget.services.confirm("Really?") is answer


def test_an_error_text_is_shown_as_it_is(makeWidget):
    widget = makeWidget()
    widget.services.showError("a < b & c", "details")
    assert "a &lt; b &amp; c" in widget.ui.statusLabel.text and widget.ui.copyDiagnosticsButton.visible
    widget.services.showStatus("fine")
    assert not widget.ui.copyDiagnosticsButton.visible
    widget.services.clearStatus()
    assert not widget.ui.statusFrame.visible


def test_every_panel_that_wants_to_know_hears_of_a_new_segmentation(makeWidget, scene):
    widget = makeWidget()
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Teeth")

    class Listening:
        heard = None

        def teethSegmented(self, node):
            self.heard = node

        def __getattr__(self, name):
            return lambda *arguments: None

    panel = Listening()
    widget.panels.append(panel)
    widget.services.teethSegmented(node)
    assert panel.heard is node


def test_the_module_reloads(makeWidget, slicer):
    makeWidget()
    module = importlib.reload(importlib.import_module("ToothTopoSeg"))
    assert module.ToothTopoSegLogic().engineVersion()
