"""The panel Fine-tune with an engine that only pretends to check and train: processes, curves and buttons are real."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

CASES = """
from dataclasses import asdict, dataclass
from pathlib import Path

from ToothTopoSegLib.errors import InputError


@dataclass(frozen=True)
class UserCase:
    name: str
    scan: Path
    labels: Path


class Checked:
    def __init__(self, case):
        self.case = case

    def as_dict(self):
        bad = self.case.name == "swapped"
        return {
            "name": self.case.name, "scan": str(self.case.scan), "labels": str(self.case.labels),
            "teeth": [36, 37], "usable": not bad,
            "problems": ["Left and right are swapped in swapped; mirror the labels."] if bad else [],
            "warnings": ["Only 2 teeth are labelled in b."] if self.case.name == "b" else [],
            "findings": [{"kind": "cavity", "severity": "error", "teeth": [36]}] if self.case.name == "b" else [],
        }


def find_cases(sources):
    found = [path for source in sources for path in (sorted(source.iterdir()) if source.is_dir() else [source])]
    pairs = [(path, path.name.partition(".")) for path in found if "_labels" not in path.name]
    cases = [UserCase(name, path, path.with_name(f"{name}_labels.{end}")) for path, (name, _, end) in pairs]
    cases = [case for case in cases if case.labels.is_file()]
    if not cases:
        raise InputError(f"{sources[0].name} holds no cases, expected scans with labels beside them; choose another.")
    return cases


def check_cases(cases, progress):
    progress(0.5, "checking the labels")
    assert not any(case.name == "broken" for case in cases)
    return [Checked(case) for case in cases]
"""

ENGINE = """
import json, shutil, time
from dataclasses import asdict, dataclass
from pathlib import Path

from ToothTopoSegLib.errors import InputError


@dataclass(frozen=True)
class Choices:
    rate: float = 0
    topology: float = 0
    held_out: float = 0
    patience: int = 0
    seed: int = 0


def finetune(cases, out, minutes, device, model, choices, on_point, go_on, progress):
    state = out.with_name(f"{out.stem}.run")
    state.mkdir(exist_ok=True)
    told = {"cases": [str(case) for case in cases], "minutes": minutes, "device": device, "model": model and str(model)}
    (state / "asked.json").write_text(json.dumps({**told, "choices": asdict(choices)}), encoding="utf-8")
    if minutes == 13:
        raise InputError("The loss is not a number at step 7, expected a finite one; lower the learning rate.")
    step, stopped = 0, "time"
    while step < 40:
        if not go_on():
            stopped = "stopped"
            break
        step += 1
        progress(step / 40, f"step {step}")
        on_point({"loss": 1.0 / step, "cross-entropy": 0.5 / step, **({"holes": 0.1} if step > 4 else {})})
        if step % 4 == 0:
            for suffix in (".onnx", ".json"):
                shutil.copy(BUNDLE.with_suffix(suffix), state / f"best{suffix}")
            on_point({"validation Dice": 1.0 - 1.0 / step, "validation wrong teeth": 1.0 / step})
        time.sleep(0.02)
        if minutes == 999 and step == 8:
            while go_on():
                time.sleep(0.02)
    shutil.copy(state / "best.onnx", out)
    better = minutes != 14
    return {
        "bundle": out, "better": better, "held_out": ["b"], "trained_on": ["a"], "steps": step, "minutes": 1.5,
        "before": {"dice": 0.8, "teeth_wrong": 0.25, "errors": 4.0},
        "after": {"dice": 0.9 if better else 0.7, "teeth_wrong": 0.125, "errors": 1.5}, "stopped": stopped,
    }
"""


@pytest.fixture
def engine(application, tmp_path, monkeypatch):
    """Puts the pretended engine in place of the real one, here and in the processes; gives the panel's module."""
    from ToothTopoSegLib.quantization.bundle import model_path

    bundle = model_path(None)
    folder = tmp_path / "engine"
    folder.mkdir()
    (folder / "pretended_cases.py").write_text(CASES, encoding="utf-8")
    (folder / "pretended_engine.py").write_text(ENGINE + f"\nBUNDLE = Path({str(bundle)!r})\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(folder))
    for name, pretended in (("training_set", "pretended_cases"), ("training_run", "pretended_engine")):
        monkeypatch.setattr(importlib.import_module(f"ToothTopoSegGui.{name}"), "ENGINE", pretended)
    job = importlib.import_module("ToothTopoSegGui.job")
    environment = job._environment
    path = environment()["PYTHONPATH"] + os.pathsep + str(folder)
    monkeypatch.setattr(job, "_environment", lambda: {**environment(), "PYTHONPATH": path})
    return importlib.import_module("ToothTopoSegGui.finetune_panel")


@pytest.fixture
def folder_of_cases(tmp_path):
    """A folder with the cases a, b and swapped."""
    folder = tmp_path / "cases"
    folder.mkdir()
    for name in ("a", "b", "swapped"):
        (folder / f"{name}.nii.gz").touch()
        (folder / f"{name}_labels.nii.gz").touch()
    return folder


@pytest.fixture
def panel(makeWidget, engine, folder_of_cases, tmp_path, process_events):
    """The panel with a folder of cases and one for the new model."""
    found = makeWidget().panel("FineTunePanel")
    found.ui.casesEdit.currentPath = str(folder_of_cases)
    found.ui.outputEdit.currentPath = str(tmp_path)
    assert process_events(lambda: found.set.cases, 30)
    return found


@pytest.fixture
def checked(panel, process_events):
    """The panel after the check, without the case that cannot be used."""
    panel.ui.checkCasesButton.click()
    assert process_events(lambda: not panel.set.checking, 30)
    tick(panel, 2, False)
    return panel


@pytest.fixture
def training(checked, process_events):
    """Starts training of so many minutes and waits for the first validation; gives the panel."""

    def start(minutes=60):
        checked.ui.minutesSpinBox.value = minutes
        checked.ui.startButton.click()
        assert process_events(lambda: "validation Dice" in checked._curves.names, 30)
        return checked

    return start


@pytest.fixture
def pairs(scene, add_volume, phantom, slicer):
    """Two volumes of the scene with their segmentations, and what they are called."""
    nodes = importlib.import_module("ToothTopoSegGui.nodes")
    found = []
    for name in ("Miller^Ann", "Doe^Joe"):
        volume = add_volume(phantom[0].array, name)
        found.append((volume, nodes.show_teeth(nodes.volume_of(volume).with_array(phantom[1].array), volume, name)))
    return found


@pytest.fixture
def window(slicer):
    """Turns to the tab of the panel and makes room for all of it."""

    def turn():
        widget = slicer.modules.toothtoposeg.widgetRepresentation()
        tabs = widget.self().ui.panelTabs
        tabs.setCurrentIndex(tabs.count - 1)
        widget.resize(460, 1150)
        return widget

    return turn


@pytest.fixture
def status(slicer):
    return lambda: slicer.modules.toothtoposeg.widgetRepresentation().self().ui.statusLabel.text


@pytest.fixture
def yes(slicer, monkeypatch):
    """Answers every question with yes, and notes them."""
    asked = []
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda text, **_: asked.append(text) or True)
    return asked


def tick(panel, row, used):
    qt = importlib.import_module("qt")
    panel.ui.casesTable.item(row, 0).setCheckState(qt.Qt.Checked if used else qt.Qt.Unchecked)


def cells(panel, column):
    table = panel.ui.casesTable
    return [table.item(row, column).text() for row in range(table.rowCount)]


# ---- cases


def test_without_an_engine_the_panel_says_that_it_cannot_fine_tune(makeWidget, engine, monkeypatch):
    monkeypatch.setattr(importlib.import_module("ToothTopoSegGui.training_run"), "ENGINE", "ToothTopoSegLib.none.such")
    panel = makeWidget().panel("FineTunePanel")
    assert not engine.available()
    assert not panel.ui.startButton.enabled and "cannot fine-tune" in panel.ui.stateLabel.text


def test_the_cases_of_a_folder_are_listed_and_have_to_be_checked_first(panel, window, screenshot):
    screenshot(window(), "finetune_listed")
    assert cells(panel, 0) == ["a", "b", "swapped"] and cells(panel, 3) == ["Not checked yet"] * 3
    assert not panel.ui.startButton.enabled and panel.ui.stateLabel.text == "Check the cases first."


def test_a_folder_without_cases_says_so_and_another_one_is_looked_through_again(panel, tmp_path, process_events):
    cases = panel.ui.casesEdit.currentPath
    panel.ui.casesEdit.currentPath = str(tmp_path / "engine")
    assert process_events(lambda: "holds no cases" in panel.ui.stateLabel.text, 30)
    assert panel.ui.casesTable.rowCount == 0 and not panel.ui.checkCasesButton.enabled
    panel.ui.casesEdit.currentPath = cases
    assert process_events(lambda: panel.ui.casesTable.rowCount == 3, 30)


def test_the_check_tells_of_each_case_what_is_wrong(panel, process_events, window, screenshot):
    panel.ui.checkCasesButton.click()
    assert panel.ui.checkCasesButton.text == "Cancel the check"
    assert process_events(lambda: not panel.set.checking, 30)
    assert cells(panel, 3) == [
        "Fine",
        "Only 2 teeth are labelled in b.",
        "Cannot be used: Left and right are swapped in swapped; mirror the labels.",
    ]
    assert cells(panel, 1) == ["2"] * 3 and cells(panel, 2) == ["0", "1", "0"]
    assert panel.ui.caseLabel.text.startswith("Usable cases: 2 of 3.")
    panel.ui.casesTable.setCurrentCell(1, 0)
    assert panel.ui.caseLabel.text == "Only 2 teeth are labelled in b.\nFound in the labels: Cavity 36."
    panel.ui.casesTable.setCurrentCell(2, 0)
    assert "Left and right are swapped" in panel.ui.caseLabel.text
    screenshot(window(), "finetune_checked")


def test_a_case_that_cannot_be_used_is_left_out_only_when_the_user_says_so(checked):
    assert checked.ui.startButton.enabled
    tick(checked, 2, True)
    assert not checked.ui.startButton.enabled and "One case cannot be used" in checked.ui.stateLabel.text
    tick(checked, 2, False)
    tick(checked, 1, False)
    assert not checked.ui.startButton.enabled and "At least two" in checked.ui.stateLabel.text


def test_a_check_can_be_cancelled_and_repeated(panel, process_events):
    panel.ui.checkCasesButton.click()
    panel.ui.checkCasesButton.click()
    assert not panel.set.checking and cells(panel, 3) == ["Not checked yet"] * 3
    panel.ui.checkCasesButton.click()
    assert process_events(lambda: not panel.set.checking, 30)
    assert cells(panel, 3)[0] == "Fine"


def test_a_case_that_went_away_is_not_usable(panel, process_events, folder_of_cases):
    (folder_of_cases / "a_labels.nii.gz").unlink()
    panel.ui.checkCasesButton.click()
    assert process_events(lambda: not panel.set.checking, 30)
    assert "not there any more" in cells(panel, 3)[0] and not panel.ui.startButton.enabled


def test_many_remarks_on_a_case_are_shortened(engine):
    view = importlib.import_module("ToothTopoSegGui.cases_view")
    assert view.shortened("a\nb\nc\nd\ne") == "a\nb\nc\nd\ne"
    lines = view.shortened("\n".join("abcdefgh")).split("\n")
    assert lines[:3] == [*"abc"] and "4 more" in lines[3] and lines[4:] == ["h"]


def test_a_check_that_fails_is_told_in_one_sentence(panel, process_events, status, folder_of_cases):
    for name in ("broken.nii.gz", "broken_labels.nii.gz"):
        (folder_of_cases / name).touch()
    panel.ui.checkCasesButton.click()
    assert process_events(lambda: not panel.set.checking, 30)
    assert "AssertionError" in status() and not panel.ui.startButton.enabled


@pytest.fixture
def scene_panel(panel, pairs):
    """The panel with both pairs of the scene as cases."""
    panel.ui.caseSourceComboBox.setCurrentIndex(1)
    for volume, segmentation in pairs:
        panel.ui.pairVolumeSelector.setCurrentNode(volume)
        panel.ui.pairTeethSelector.setCurrentNode(segmentation)
        panel.ui.addPairButton.click()
    return panel


def test_pairs_of_the_scene_become_cases_once_each(scene_panel, pairs, window, screenshot):
    panel = scene_panel
    assert cells(panel, 0) == ["Miller^Ann", "Doe^Joe"]
    panel.ui.addPairButton.click()
    assert panel.ui.casesTable.rowCount == 2
    screenshot(window(), "finetune_scene")
    panel.ui.casesTable.setCurrentCell(0, 0)
    panel.ui.removePairButton.click()
    assert cells(panel, 0) == ["Doe^Joe"]


def test_cases_of_the_scene_are_trained_on_under_names_that_tell_nothing(
    scene_panel, process_events, tmp_path, pairs, slicer
):
    panel = scene_panel
    panel.ui.checkCasesButton.click()
    assert process_events(lambda: not panel.set.checking, 60)
    assert cells(panel, 3) == ["Fine", "Fine"] and panel.ui.startButton.enabled
    panel.ui.minutesSpinBox.value = 999
    panel.ui.startButton.click()
    asked = tmp_path / "my_model.run" / "asked.json"
    assert process_events(asked.is_file, 30)
    scans = json.loads(asked.read_text(encoding="utf-8"))["cases"]
    assert [Path(scan).name for scan in scans] == ["case_01.nrrd", "case_02.nrrd"]
    assert all(Path(scan).is_file() for scan in scans)
    slicer.modules.scripted.pop("toothtoposeg").unload()
    assert not Path(scans[0]).parent.exists()


def test_teeth_that_were_changed_after_the_check_have_to_be_checked_again(scene_panel, process_events, pairs):
    panel = scene_panel
    panel.ui.checkCasesButton.click()
    assert process_events(lambda: not panel.set.checking, 60)
    segmentation = pairs[0][1].GetSegmentation()
    segmentation.RemoveSegment(segmentation.GetNthSegmentID(0))
    panel.enter()
    assert not panel.ui.startButton.enabled and "changed since the check" in panel.ui.stateLabel.text


def test_a_pair_without_teeth_cannot_be_used_and_does_not_keep_others_from_being_checked(
    scene_panel, add_volume, scene, process_events
):
    panel = scene_panel
    volume = add_volume(np.zeros((8, 8, 8), np.int16))
    panel.ui.pairVolumeSelector.setCurrentNode(volume)
    panel.ui.pairTeethSelector.setCurrentNode(scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Nothing"))
    panel.ui.addPairButton.click()
    panel.ui.checkCasesButton.click()
    assert process_events(lambda: not panel.set.checking, 30)
    assert cells(panel, 3)[:2] == ["Fine", "Fine"]
    assert cells(panel, 3)[2].startswith("Cannot be used") and "Nothing" in cells(panel, 3)[2]


def test_a_deleted_volume_is_no_case_any_more(scene_panel, pairs, scene):
    scene.RemoveNode(pairs[0][0])
    scene_panel.enter()
    assert cells(scene_panel, 0) == ["Doe^Joe"]


# ---- training


def test_the_engine_gets_what_was_chosen(checked, process_events, tmp_path):
    ui = checked.ui
    ui.nameEdit.text, ui.rateSpinBox.value, ui.topologySpinBox.value = "mine", 0.001, 0.5
    ui.heldOutSpinBox.value, ui.patienceSpinBox.value, ui.seedSpinBox.value = 0.4, 3, 7
    base = tmp_path / "base.onnx"
    ui.baseEdit.currentPath = str(base)
    assert not ui.startButton.enabled and "not there" in ui.stateLabel.text
    base.touch()
    checked.enter()
    ui.minutesSpinBox.value = 999
    ui.startButton.click()
    asked = tmp_path / "mine.run" / "asked.json"
    assert process_events(lambda: (tmp_path / "mine.run" / "best.onnx").is_file(), 30)
    cases = Path(ui.casesEdit.currentPath)
    assert json.loads(asked.read_text(encoding="utf-8")) == {
        "cases": [str(cases / "a.nii.gz"), str(cases / "b.nii.gz")],
        "minutes": 999,
        "device": "auto",
        "model": str(base),
        "choices": {"rate": 0.001, "topology": 0.5, "held_out": 0.4, "patience": 3, "seed": 7},
    }


def test_a_name_that_is_none_for_a_file_is_refused(checked):
    for name in ("", "a/b", "..", "what?"):
        checked.ui.nameEdit.text = name
        assert not checked.ui.startButton.enabled and "name" in checked.ui.stateLabel.text


def test_the_curves_grow_while_training_runs_and_late_terms_join_them(training, process_events, window, screenshot):
    panel = training()
    screenshot(window(), "finetune_running")
    assert "left" in panel.ui.stateLabel.text
    assert panel.ui.plotWidget.mrmlPlotViewNode() is not None
    assert process_events(lambda: not panel.running, 60)
    curves = dict(panel.ui.plotWidget.curves())
    assert list(curves) == ["loss", "cross-entropy", "holes"]
    assert [len(curve) for curve in curves.values()] == [40, 40, 36]
    assert [value for _, value in curves["loss"]] == [1.0 / step for step in range(1, 41)]
    panel.ui.curvesComboBox.setCurrentIndex(1)
    measures = dict(panel.ui.plotWidget.curves())
    assert list(measures) == ["Dice", "wrong teeth"] and len(measures["Dice"]) == 10
    panel.ui.curvesComboBox.setCurrentIndex(panel.ui.curvesComboBox.findData("validation Dice"))
    assert list(dict(panel.ui.plotWidget.curves())) == ["Dice"]


def test_the_end_compares_before_and_after_and_the_model_can_be_used(
    training, process_events, tmp_path, status, window, screenshot, slicer
):
    panel = training()
    assert process_events(lambda: not panel.running, 60)
    assert str(tmp_path / "my_model.onnx") in status()
    assert panel.ui.resultLabel.text.startswith("The new model is better") and ": b." in panel.ui.resultLabel.text
    table = panel.ui.resultTable
    rows = [[table.item(row, column).text() for column in range(3)] for row in range(table.rowCount)]
    assert rows[0] == ["Mean Dice of the teeth", "0.800", "0.900"]
    assert [row[1:] for row in rows[1:]] == [["25.0%", "12.5%"], ["4.0", "1.5"]]
    screenshot(window(), "finetune_done")
    panel.ui.useButton.click()
    widget = slicer.modules.toothtoposeg.widgetRepresentation().self()
    assert panel._parameterNode.modelPath == str(tmp_path / "my_model.onnx")
    assert widget.ui.panelTabs.currentIndex == 0
    segment = widget.panel("SegmentPanel").ui
    assert segment.modelComboBox.currentIndex == 1 and segment.modelPathEdit.currentPath.endswith("my_model.onnx")


def test_a_model_that_is_not_better_is_called_so_and_can_be_used_all_the_same(training, process_events):
    panel = training(14)
    assert process_events(lambda: not panel.running, 60)
    assert panel.ui.resultLabel.text.startswith("The new model is not better")
    assert panel.ui.useButton.enabled


def test_training_pauses_goes_on_and_stops_with_its_model(training, process_events, status):
    panel = training(999)
    panel.ui.pauseButton.click()
    before = panel._run.clock.seconds
    assert panel.ui.pauseButton.text == "Go on" and "Paused" in panel.ui.stateLabel.text
    assert process_events(lambda: time.monotonic() > panel._run.clock._since + before + 0.05, 30)
    assert panel._run.clock.seconds == before
    panel.ui.pauseButton.click()
    assert panel.ui.pauseButton.text == "Pause"
    panel.ui.stopButton.click()
    assert not panel.ui.stopButton.enabled and not panel.ui.pauseButton.enabled
    assert process_events(lambda: not panel.running, 60)
    assert "my_model.onnx" in status()


def test_a_paused_training_can_be_stopped(training, process_events, status):
    panel = training(999)
    panel.ui.pauseButton.click()
    panel.ui.stopButton.click()
    assert process_events(lambda: not panel.running, 60)
    assert "my_model.onnx" in status()


def test_discarding_ends_training_at_once_and_for_good(training, status, tmp_path, yes, process_events):
    panel = training(999)
    process = panel._run._job._process
    panel.ui.discardButton.click()
    assert "discarded" in status() and len(yes) == 1
    assert process_events(lambda: process.poll() is not None, 2)
    assert not (tmp_path / "my_model.run").exists() and not (tmp_path / "my_model.onnx").exists()
    assert panel.ui.startButton.enabled and panel.ui.startButton.text == "Start"


def test_a_closed_scene_does_not_end_training_and_its_curves_come_back(training, process_events, scene, status):
    panel = training(999)
    scene.Clear(0)
    assert panel.running
    assert process_events(lambda: len(panel.ui.plotWidget.curves()) == 3, 30)
    panel.ui.stopButton.click()
    assert process_events(lambda: not panel.running, 60)
    assert "my_model.onnx" in status() and panel.ui.useButton.enabled


def test_training_goes_on_while_another_module_is_open(training, process_events, slicer, tmp_path, scene):
    panel = training(999)
    widget = slicer.modules.toothtoposeg.widgetRepresentation().self()
    widget.exit()
    scene.Clear(0)
    assert panel._parameterNode is None and panel.running
    panel._run.stop()
    assert process_events(lambda: not panel.running, 60)
    widget.enter()
    assert panel.ui.resultLabel.text.startswith("The new model is better")
    panel.ui.useButton.click()
    assert panel._parameterNode.modelPath == str(tmp_path / "my_model.onnx")


def test_an_interrupted_training_is_offered_to_go_on(training, makeWidget, slicer, tmp_path, process_events, yes):
    training(999)
    slicer.modules.scripted.pop("toothtoposeg").unload()
    assert (tmp_path / "my_model.run").is_dir()
    panel = makeWidget().panel("FineTunePanel")
    assert process_events(lambda: panel.set.cases, 30)
    panel.ui.checkCasesButton.click()
    assert process_events(lambda: not panel.set.checking, 30)
    tick(panel, 2, False)
    assert "was interrupted" in panel.ui.stateLabel.text and panel.ui.startButton.text == "Go on"
    panel.ui.discardButton.click()
    assert panel.ui.startButton.text == "Start" and not (tmp_path / "my_model.run").exists()


def test_a_training_that_is_done_can_be_trained_further_or_tidied_up(training, process_events, tmp_path, yes):
    panel = training()
    assert process_events(lambda: not panel.running, 60)
    assert "trains it further" in panel.ui.stateLabel.text and panel.ui.startButton.text == "Go on"
    panel.ui.discardButton.click()
    assert "The model stays" in yes[0] and (tmp_path / "my_model.onnx").is_file()
    assert not (tmp_path / "my_model.run").exists() and panel.ui.startButton.text == "Start"


def test_the_choices_begin_as_the_engine_has_them(checked):
    module = importlib.import_module("ToothTopoSegLib.training.finetune")
    engine, chosen = module.Choices(), checked._parameterNode
    names = importlib.import_module("ToothTopoSegGui.finetune_panel")._CHOICES
    assert {name: getattr(chosen, parameter) for name, parameter in names.items()} == {
        name: getattr(engine, name) for name in names
    }


def test_a_model_of_the_same_name_is_mentioned_before_it_is_replaced(checked, tmp_path):
    (tmp_path / "my_model.onnx").touch()
    checked.enter()
    assert "replaced" in checked.ui.stateLabel.text and checked.ui.startButton.enabled


def test_an_engine_that_fails_is_shown_in_its_own_words_with_diagnostics(checked, process_events, status, slicer):
    checked.ui.minutesSpinBox.value = 13
    checked.ui.startButton.click()
    assert process_events(lambda: not checked.running, 60)
    assert "lower the learning rate" in status()
    widget = slicer.modules.toothtoposeg.widgetRepresentation().self()
    assert "Traceback" in widget.services._diagnostics
    assert "was interrupted" in checked.ui.stateLabel.text


# ---- preview


def test_the_best_model_so_far_is_previewed_while_training_goes_on(
    training, process_events, cbct, scene, window, screenshot
):
    panel = training(999)
    assert not panel.ui.previewButton.enabled
    panel._parameterNode.previewVolume = cbct
    assert panel.ui.previewButton.enabled
    panel.ui.previewButton.click()
    assert panel.ui.previewButton.text == "Cancel the preview"
    assert process_events(lambda: not panel.previewing, 120)
    assert "CBCT preview my_model" in panel.ui.previewLabel.text and panel.running
    (node,) = [n for n in scene.GetNodesByClass("vtkMRMLSegmentationNode")]
    assert node.GetName().startswith("CBCT preview my_model") and node.GetSegmentation().GetNumberOfSegments() > 3
    screenshot(window(), "finetune_preview")


def test_a_preview_can_be_cancelled(training, process_events, cbct, scene):
    panel = training(999)
    panel._parameterNode.previewVolume = cbct
    panel.ui.previewButton.click()
    panel.ui.previewButton.click()
    assert not panel.previewing and panel.running
    assert scene.GetFirstNodeByClass("vtkMRMLSegmentationNode") is None


def test_a_preview_of_a_broken_model_is_told_and_training_goes_on(training, cbct, status, tmp_path, process_events):
    panel = training(999)
    panel.ui.pauseButton.click()
    panel._parameterNode.previewVolume = cbct
    shutil.copy(__file__, tmp_path / "my_model.run" / "best.onnx")
    panel.ui.previewButton.click()
    assert process_events(lambda: not panel.previewing, 30)
    assert "best.onnx" in status() and panel.running and panel.ui.previewLabel.text == ""


def test_a_copied_model_takes_the_second_network_along_that_was_trained_with_it(application, tmp_path):
    from ToothTopoSegGui.training_run import copy_steps

    from ToothTopoSegLib.quantization.bundle import load_bundle, surface_bundle

    bundle, (trained, copied) = load_bundle(), (tmp_path / name for name in ("trained", "copied"))
    for folder in (trained, copied):
        folder.mkdir()
    second = surface_bundle(bundle)
    for found, name in ((bundle, "best"), (second, "best_surface")):
        for suffix in (".onnx", ".json"):
            shutil.copy(found.path.with_suffix(suffix), trained / f"{name}{suffix}")
    card = bundle.card | {"surface": {"name": "best_surface", "sha256": second.card["sha256"]}}
    (trained / "best.json").write_text(json.dumps(card), encoding="utf-8")
    copy = next(copy_steps(trained / "best.onnx", copied))(lambda fraction, message: None)
    shutil.rmtree(trained)
    assert surface_bundle(load_bundle(copy)).path == copied / "best_surface.onnx"
