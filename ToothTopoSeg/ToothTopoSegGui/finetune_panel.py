"""The panel Fine-tune: choose cases and a time, start, watch the curves, pause, stop.

The engine runs in a background process and tells the points of its curves, which go through a table node to Slicer's
plots. Where this version of the engine cannot fine-tune, the panel says so.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import ctk
import slicer
import vtk
from slicer.i18n import tr as _

from ToothTopoSegGui.job import Job, JobError, Listener, Request, in_words

ENGINE = "ToothTopoSegLib.training.finetune:finetune"
"""The engine's function as module:function."""
_X = "minute"
_COLOURS = ((0.12, 0.47, 0.71), (0.84, 0.15, 0.16), (0.17, 0.63, 0.17), (0.58, 0.40, 0.74))


class FineTunePanel:
    """The widgets of ``FineTunePanel.ui`` in action."""

    def __init__(self, ui: Any, logic: Any, services: Any) -> None:
        self.ui, self.logic, self.services = ui, logic, services
        self._parameterNode: Any = None
        self._guiTag: Any = None
        self._job: Job | None = None
        self._curves: Curves | None = None
        self._connect()
        self._showRunning(False)

    # ---- what the widget calls

    def setParameterNode(self, parameterNode: Any) -> None:
        """Show the choices of another scene, or none while the scene is closing: training goes on, its curves end."""
        if self._parameterNode is not None:
            self._parameterNode.disconnectGui(self._guiTag)
        self._parameterNode = parameterNode
        self._curves = self._curves if parameterNode is not None else None
        if parameterNode is not None:
            self._guiTag = parameterNode.connectGui(self.ui)
            self.ui.casesEdit.currentPath = parameterNode.casesFolder
            self.ui.outputEdit.currentPath = parameterNode.outputFolder
            self._update()

    def enter(self) -> None:
        """The user opens the module."""
        self._update()

    def exit(self) -> None:
        """The user goes to another module; training goes on."""

    def cleanup(self) -> None:
        """The module goes away, and training with it."""
        self.discard()
        self.setParameterNode(None)

    # ---- the user

    @property
    def running(self) -> bool:
        """Whether training runs or is paused."""
        return self._job is not None

    def start(self) -> None:
        """Start training on the chosen cases."""
        if self.running or self._parameterNode is None:
            return
        self.services.clearStatus()
        chosen = self._parameterNode
        arguments = {
            "engine": ENGINE,
            "cases": [str(case) for case in cases_in(chosen.casesFolder)],
            "out": chosen.outputFolder,
            "minutes": chosen.minutes,
            "device": chosen.trainingDevice.value,
        }
        listener = Listener(self._hear, self._finish, self._fail, self._discarded)
        self._job = Job(Request("finetune", arguments, {}), listener)
        try:
            self._job.start()
        except JobError as error:
            self._fail(error)
            return
        self._curves = None
        self._showRunning(True)

    def pause(self) -> None:
        """Pause, or go on where it is paused."""
        if self._job is not None:
            paused = self.ui.pauseButton.checked
            self._job.send("pause" if paused else "resume")
            self.ui.pauseButton.text = _("Go on") if paused else _("Pause")
            self.ui.stateLabel.text = _("Paused.") if paused else _("Training.")

    def stop(self) -> None:
        """End training early and keep the best model so far."""
        if self._job is not None:
            self._job.send("stop")
            self.ui.stopButton.enabled = False
            self.ui.stateLabel.text = _("Stopping: the model is being written.")

    def discard(self) -> None:
        """End training at once; no model is kept."""
        if self._job is not None:
            self._job.cancel()

    # ---- the run

    def _hear(self, message: dict[str, Any]) -> None:
        if message["event"] == "progress":
            self.ui.progressBar.value = round(100 * message["fraction"])
            self.ui.stateLabel.text = message["message"][:1].upper() + message["message"][1:]
        elif message["event"] == "point" and self._job is not None and self._parameterNode is not None:
            if self._curves is None:
                self._curves = Curves(list(message["values"]))
                self.ui.plotWidget.setMRMLPlotViewNode(self._curves.view)
            self._curves.add(self._job.elapsed / 60, message["values"])

    def _finish(self, result: dict[str, Any], folder: Path) -> None:
        elapsed = self._job.elapsed if self._job is not None else 0.0
        self._over()
        self.services.showStatus(
            _("The new model is {path}, after {time}. Choose it in the tab Segment as own model.").format(
                path=result["bundle"], time=in_words(elapsed)
            )
        )

    def _fail(self, error: JobError) -> None:
        self._over()
        self.services.showError(str(error), error.details)

    def _discarded(self) -> None:
        self._over()
        self.services.showStatus(_("Training was ended; no model was kept."))

    def _over(self) -> None:
        self._job = None
        self._showRunning(False)

    # ---- the widgets

    def _connect(self) -> None:
        for edit in (self.ui.casesEdit, self.ui.outputEdit):
            edit.filters = ctk.ctkPathLineEdit.Dirs
            edit.connect("currentPathChanged(QString)", self._chooseFolders)
        self.ui.startButton.connect("clicked()", self.start)
        self.ui.pauseButton.connect("clicked()", self.pause)
        self.ui.stopButton.connect("clicked()", self.stop)
        self.ui.discardButton.connect("clicked()", self.discard)

    def _chooseFolders(self) -> None:
        if self._parameterNode is not None:
            self._parameterNode.casesFolder = self.ui.casesEdit.currentPath
            self._parameterNode.outputFolder = self.ui.outputEdit.currentPath
        self._update()

    def _update(self) -> None:
        cases, folder = cases_in(self.ui.casesEdit.currentPath), self.ui.outputEdit.currentPath
        self.ui.casesFoundLabel.text = (
            _("{n} cases with scan and labels.").format(n=len(cases))
            if cases
            else _("A case is a scan <name>.nii.gz with <name>_labels.nii.gz or <name>_teeth.nii.gz beside it.")
        )
        self.ui.startButton.enabled = available() and bool(cases) and bool(folder) and not self.running
        if not available():
            self.ui.stateLabel.text = _("This version cannot fine-tune yet: the engine for it has not been released.")

    def _showRunning(self, running: bool) -> None:
        for widget in (self.ui.casesEdit, self.ui.outputEdit, self.ui.minutesSpinBox, self.ui.trainingDeviceComboBox):
            widget.enabled = not running
        for button in (self.ui.pauseButton, self.ui.stopButton, self.ui.discardButton):
            button.enabled = running
        self.ui.pauseButton.checked = False
        self.ui.pauseButton.text = _("Pause")
        self.ui.progressBar.visible = running
        self.ui.plotWidget.visible = running or self._curves is not None
        self.ui.stateLabel.text = _("Starting.") if running else ""
        self._update()


class Curves:
    """Curves in the scene: a table node with a column for each, and a chart that a plot view shows."""

    def __init__(self, names: list[str]) -> None:
        self._names = [_X, *names]
        self.table = self._make("vtkMRMLTableNode", _("Fine-tuning"))
        for name in self._names:
            column = vtk.vtkDoubleArray()
            column.SetName(name)
            self.table.AddColumn(column)
        self.chart = self._make("vtkMRMLPlotChartNode", _("Fine-tuning"))
        self.chart.SetXAxisTitle(_("minutes"))
        for number, name in enumerate(names):
            self.chart.AddAndObservePlotSeriesNodeID(self._series(name, _COLOURS[number % len(_COLOURS)]).GetID())
        self.view = self._make("vtkMRMLPlotViewNode", _("Fine-tuning"))
        self.view.SetPlotChartNodeID(self.chart.GetID())

    def add(self, minute: float, values: dict[str, float]) -> None:
        """Add one point to each curve."""
        table = self.table.GetTable()
        for name, value in {_X: minute, **values}.items():
            column = table.GetColumnByName(name)
            if column is not None:
                column.InsertNextValue(float(value))
        table.Modified()
        self.table.Modified()

    def _series(self, name: str, colour: tuple[float, float, float]) -> Any:
        series = self._make("vtkMRMLPlotSeriesNode", name)
        series.SetAndObserveTableNodeID(self.table.GetID())
        series.SetPlotType(slicer.vtkMRMLPlotSeriesNode.PlotTypeScatter)
        series.SetXColumnName(_X)
        series.SetYColumnName(name)
        series.SetMarkerStyle(slicer.vtkMRMLPlotSeriesNode.MarkerStyleNone)
        series.SetColor(*colour)
        return series

    def _make(self, kind: str, name: str) -> Any:
        return slicer.mrmlScene.AddNewNodeByClass(kind, name)


def available() -> bool:
    """Whether the engine can fine-tune."""
    try:
        return importlib.util.find_spec(ENGINE.partition(":")[0]) is not None
    except ModuleNotFoundError:
        return False


def cases_in(folder: str) -> list[Path]:
    """The scans of a folder that have a label map beside them."""
    place = Path(folder) if folder else None
    if place is None or not place.is_dir():
        return []
    scans = [
        path for path in sorted(place.glob("*.nii.gz")) if not path.name.endswith(("_labels.nii.gz", "_teeth.nii.gz"))
    ]
    ends = ("_labels.nii.gz", "_teeth.nii.gz")
    return [path for path in scans if any(path.with_name(path.name[: -len(".nii.gz")] + end).is_file() for end in ends)]
