"""The panel Fine-tune with an engine that only pretends to train: the process, its curves and its buttons are real."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import pytest

ENGINE = """
import time

def train(cases, out, minutes, device, progress, on_point, go_on):
    assert len(cases) == 2 and device == "auto" and minutes == 60, (cases, device, minutes)
    step = 0
    while go_on():
        step += 1
        progress(min(step / 40, 1.0), f"step {step}")
        on_point({"loss": 1.0 / step, "Dice": 1.0 - 1.0 / step})
        if step == 40:
            break
        time.sleep(0.02)
    return f"{out}/mine.onnx"
"""


@pytest.fixture
def module(application):
    return importlib.import_module("ToothTopoSegGui.finetune_panel")


@pytest.fixture
def panel(makeWidget, module, tmp_path, monkeypatch):
    """The panel with two cases and an engine that is there."""
    (tmp_path / "pretended_engine.py").write_text(ENGINE, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(module, "ENGINE", "pretended_engine:train")
    job = importlib.import_module("ToothTopoSegGui.job")
    environment = job._environment
    monkeypatch.setattr(
        job,
        "_environment",
        lambda: {**environment(), "PYTHONPATH": environment()["PYTHONPATH"] + os.pathsep + str(tmp_path)},
    )
    cases = tmp_path / "cases"
    cases.mkdir()
    for name in ("a.nii.gz", "a_labels.nii.gz", "b.nii.gz", "b_teeth.nii.gz", "lonely.nii.gz"):
        (cases / name).touch()
    found = makeWidget().panel("FineTunePanel")
    found.ui.casesEdit.currentPath = str(cases)
    found.ui.outputEdit.currentPath = str(tmp_path)
    return found


@pytest.fixture
def status(slicer):
    return lambda: slicer.modules.toothtoposeg.widgetRepresentation().self().ui.statusLabel.text


@pytest.fixture
def show(slicer):
    """Turns to the tab of the panel."""
    widget = slicer.modules.toothtoposeg.widgetRepresentation

    def turn():
        tabs = widget().self().ui.panelTabs
        tabs.setCurrentIndex(tabs.count - 1)
        return widget()

    return turn


def test_without_an_engine_the_panel_says_that_it_cannot_fine_tune_yet(makeWidget, module, monkeypatch):
    monkeypatch.setattr(module, "ENGINE", "ToothTopoSegLib.no_such_module:train")
    panel = makeWidget().panel("FineTunePanel")
    assert not module.available()
    assert not panel.ui.startButton.enabled and "cannot fine-tune yet" in panel.ui.stateLabel.text


def test_cases_are_scans_with_labels_beside_them(module, panel, tmp_path):
    assert [path.name for path in module.cases_in(str(tmp_path / "cases"))] == ["a.nii.gz", "b.nii.gz"]
    assert panel.ui.casesFoundLabel.text.startswith("2 cases") and panel.ui.startButton.enabled
    panel.ui.casesEdit.currentPath = str(tmp_path / "nowhere")
    assert not panel.ui.startButton.enabled


def test_the_curves_grow_while_training_runs(panel, process_events, status, show, screenshot, tmp_path):
    window = show()
    panel.ui.startButton.click()
    assert process_events(lambda: panel._curves is not None, 30)
    assert panel.ui.plotWidget.mrmlPlotViewNode() is panel._curves.view
    assert process_events(lambda: not panel.running, 60)
    curves = dict(panel.ui.plotWidget.curves())
    assert list(curves) == ["loss", "Dice"] and len(curves["loss"]) == 40
    assert [value for _, value in curves["loss"]] == [1.0 / step for step in range(1, 41)]
    assert str(Path(tmp_path) / "mine.onnx") in status()
    screenshot(window, "finetune_done")


def test_training_pauses_goes_on_and_stops_with_its_model(panel, process_events, status):
    panel.ui.startButton.click()
    assert process_events(lambda: panel._curves is not None, 30)
    panel.ui.pauseButton.click()
    assert panel.ui.pauseButton.text == "Go on" and "Paused" in panel.ui.stateLabel.text
    panel.ui.pauseButton.click()
    panel.ui.stopButton.click()
    assert process_events(lambda: not panel.running, 60)
    assert "mine.onnx" in status()


def test_discarding_ends_training_at_once(panel, process_events, status):
    panel.ui.startButton.click()
    assert process_events(lambda: panel._curves is not None, 30)
    process = panel._job._process
    panel.ui.discardButton.click()
    assert process.poll() is not None and "no model was kept" in status()


def test_a_closed_scene_does_not_end_training(panel, process_events, scene, status):
    panel.ui.startButton.click()
    assert process_events(lambda: panel._curves is not None, 30)
    scene.Clear(0)
    assert panel.running
    assert process_events(lambda: not panel.running, 60)
    assert "mine.onnx" in status()


def test_an_engine_that_fails_is_shown(panel, process_events, status):
    panel._parameterNode.minutes = 5
    panel.ui.startButton.click()
    assert process_events(lambda: not panel.running, 60)
    assert "AssertionError" in status()
