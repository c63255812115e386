"""The panel Fine-tune: choose labelled scans, have them checked, give a time, watch the curves, use the new model.

The check and the training are background jobs: they go on while another module is open, and training also where the
scene is closed. What an interrupted training has done is kept beside the new model and can go on later. A preview of
the best model so far is an ordinary run of segmenting.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ctk
import qt
import slicer
import vtk
from slicer.i18n import tr as _

from ToothTopoSegGui import comparison, packages, training_run
from ToothTopoSegGui.cases_view import CasesView, details, shortened
from ToothTopoSegGui.curves import LOSSES, MEASURES, VALIDATION, Curves
from ToothTopoSegGui.job import JobError, in_words, temporary_folder
from ToothTopoSegGui.parameters import CaseSource
from ToothTopoSegGui.segment_run import RunListener, SegmentRun
from ToothTopoSegGui.timed_work import TimedWork, WorkListener
from ToothTopoSegGui.training_run import RunFiles, TrainingListener, TrainingRun
from ToothTopoSegGui.training_set import SetListener, TrainingSet

FEWEST_CASES = 2
"""One to train on and one to hold out."""
_DRAW_EVERY_MS = 500
_CHOICES = {
    "rate": "learningRate",
    "topology": "topologyWeight",
    "held_out": "heldOut",
    "patience": "patience",
    "seed": "seed",
}
"""The engine's names of the expert's choices, and those of the parameter node."""


class FineTunePanel:
    """The widgets of ``FineTunePanel.ui`` in action."""

    def __init__(self, ui: Any, logic: Any, services: Any) -> None:
        self.ui, self.logic, self.services = ui, logic, services
        self._parameterNode: Any = None
        self._guiTag: Any = None
        self._listed: Any = None
        self._run: TrainingRun | None = None
        self._preview: SegmentRun | None = None
        self._copying = TimedWork()
        self._copyFolder: Path | None = None
        self._curves = Curves()
        self._report: dict[str, Any] | None = None
        self._titles: dict[str, str] = {}
        self._drawTimer = qt.QTimer()
        self._drawTimer.setInterval(_DRAW_EVERY_MS)
        self._drawTimer.setSingleShot(True)
        self._drawTimer.connect("timeout()", self._draw)
        self.set = TrainingSet(SetListener(self._showCases, self._showProgress, self._failCheck))
        self.view = CasesView(ui.casesTable, self._update, self._showDetails)
        self._listChoicesOfCurves()
        self._connect()
        self._update()

    # ---- what the widget calls

    def setParameterNode(self, parameterNode: Any) -> None:
        """Show the choices of another scene, or none while the scene is closing: only training goes on then."""
        if self._parameterNode is not None:
            self._parameterNode.disconnectGui(self._guiTag)
            self.services.removeObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self._onChosen)
            self.services.removeObserver(slicer.mrmlScene, slicer.vtkMRMLScene.NodeRemovedEvent, self._onChosen)
        self._parameterNode = parameterNode
        if parameterNode is None:
            self._leaveScene()
            return
        self._guiTag = parameterNode.connectGui(self.ui)
        for edit, name in self._pathEdits():
            edit.currentPath = getattr(parameterNode, name)
        self.services.addObserver(parameterNode, vtk.vtkCommand.ModifiedEvent, self._onChosen)
        self.services.addObserver(slicer.mrmlScene, slicer.vtkMRMLScene.NodeRemovedEvent, self._onChosen)
        self._onChosen()
        self._draw()

    def enter(self) -> None:
        """The user opens the module."""
        self._update()

    def exit(self) -> None:
        """The user goes to another module; what runs goes on."""

    def cleanup(self) -> None:
        """The module goes away: training ends, and can go on another time."""
        if self._run is not None:
            self._run.interrupt()
        self.setParameterNode(None)
        self.set.clear()
        self._drawTimer.stop()

    # ---- the user: cases

    @property
    def running(self) -> bool:
        """Whether training runs or is paused."""
        return self._run is not None

    def addPair(self) -> None:
        """Add the chosen volume and segmentation of the scene to the cases."""
        pair = (self.ui.pairVolumeSelector.currentNode(), self.ui.pairTeethSelector.currentNode())
        if self._parameterNode is None or None in pair:
            return
        told = " ".join(node.GetID() for node in pair)
        if told not in self._parameterNode.trainingPairs:
            self._parameterNode.trainingPairs = [*self._parameterNode.trainingPairs, told]

    def removePair(self) -> None:
        """Take the chosen case of the scene from the list; its nodes stay."""
        case = self.view.chosen()
        if self._parameterNode is not None and case is not None and case.pair is not None:
            told = " ".join(node.GetID() for node in case.pair)
            self._parameterNode.trainingPairs = [pair for pair in self._parameterNode.trainingPairs if pair != told]

    def check(self) -> None:
        """Check the labels of all cases, or end a check that is going on."""
        if self.set.checking:
            self.set.cancel()
            self._showCases()
            return
        self.services.clearStatus()
        try:
            packages.ensure(self.services.confirm)
            self.set.check()
        except (JobError, packages.PackageError) as error:
            self._failCheck(error)

    # ---- the user: training

    def start(self) -> None:
        """Start training on the wanted cases, or let an interrupted one go on."""
        if self.running or self._whyNot():
            return
        self.services.clearStatus()
        listener = TrainingListener(self._showProgress, self._takePoint, self._finish, self._fail, self._ended)
        try:
            packages.ensure_training(self.services.confirm)
            run = TrainingRun(self._files(), self._arguments(), listener)
            run.start()
        except (JobError, packages.PackageError) as error:
            self._fail(error)
            return
        self._run, self._report = run, None
        self._titles = {Path(case.scan).stem: case.title for case in self.set.used}
        self._curves.removeNodes()
        self._curves = Curves()
        self._listChoicesOfCurves()
        self.ui.stateLabel.text = _("Starting.")
        self._update()

    def pause(self) -> None:
        """Pause, or go on where it is paused."""
        if self._run is not None:
            self._run.pause(self.ui.pauseButton.checked)
            self.ui.stateLabel.text = _("Paused.") if self._run.paused else _("Training.")
            self._update()

    def stop(self) -> None:
        """End training early and keep the best model so far."""
        if self._run is not None:
            self._run.stop()
            self.ui.stateLabel.text = _("Stopping: the best model so far is being written.")
            self._update()

    def discard(self) -> None:
        """End training for good, or remove what an interrupted one has left; asks first."""
        told = _("Discard the training “{name}”? What it has learned so far is lost.")
        if self._run is None and self._files().model.exists():
            told = _("Remove what the training “{name}” has kept to go on? The model stays.")
        if not self.services.confirm(told.format(name=self._files().name)):
            return
        if self._run is not None:
            self._run.discard()
        else:
            training_run.remove_state(self._files())
        self.services.showStatus(_("The training was discarded."))
        self._update()

    def preview(self) -> None:
        """Segment a volume with the best model so far, or end that."""
        if self.previewing:
            self._endPreview()
            return
        volume = self._previewVolume()
        try:
            packages.ensure(self.services.confirm)
        except packages.PackageError as error:
            self._failPreview(error)
            return
        self.ui.previewLabel.text = _("Starting.")
        if self._report is not None:
            self._previewWith(self._previewModel(), volume)
        else:
            self._copyFolder = Path(tempfile.mkdtemp(prefix="ToothTopoSeg-preview-", dir=temporary_folder()))
            copying = training_run.copy_steps(self._previewModel(), self._copyFolder)
            listener = WorkListener(lambda model: self._previewWith(model, volume), self._failPreview)
            self._copying.start(copying, listener)
        self._enable()

    def useModel(self) -> None:
        """Make the new model the own model of the panel Segment, and turn there."""
        if self._report is not None and self._parameterNode is not None:
            self._parameterNode.modelPath = self._report["bundle"]
            self.services.turnTo("SegmentPanel")

    # ---- the run

    def _files(self) -> RunFiles:
        """Where the files of the running training are, else those of the one that would be started."""
        if self._run is not None:
            return self._run.files
        chosen = self._parameterNode
        return RunFiles(chosen.outputFolder, chosen.modelName.strip()) if chosen is not None else RunFiles("", "")

    def _arguments(self) -> dict[str, Any]:
        chosen = self._parameterNode
        return {
            "cases": self.set.sources,
            "minutes": chosen.minutes,
            "device": chosen.trainingDevice.value,
            "model": chosen.basePath or None,
            "choices": {name: getattr(chosen, parameter) for name, parameter in _CHOICES.items()},
        }

    def _takePoint(self, values: Mapping[str, float]) -> None:
        if self._run is not None:
            if self._curves.add(self._run.clock.seconds / 60, values):
                self._listChoicesOfCurves()
                self._draw()
            if not self._drawTimer.isActive():
                self._drawTimer.start()
            if any(name.startswith(VALIDATION) for name in values):
                self._update()

    def _finish(self, report: dict[str, Any]) -> None:
        self._report = report
        self._over()
        self.services.showStatus(_("Training is done: the new model is {path}.").format(path=report["bundle"]))

    def _fail(self, error: JobError | packages.PackageError) -> None:
        self._over()
        self.services.showError(str(error), error.details)

    def _ended(self) -> None:
        self._over()

    def _over(self) -> None:
        self._run = None
        self.ui.stateLabel.text = ""
        self._draw()
        if self._parameterNode is not None:
            self._onChosen()  # the scene may have been closed meanwhile

    # ---- the check

    def _failCheck(self, error: Exception) -> None:
        self._showCases()
        self.services.showError(str(error) or repr(error), getattr(error, "details", ""))

    # ---- the preview

    @property
    def previewing(self) -> bool:
        """Whether a preview is being made."""
        return self._preview is not None or self._copying.running

    def _previewWith(self, model: Path, volume: Any) -> None:
        from ToothTopoSegLib.errors import ToothTopoSegError

        chosen = self._parameterNode
        listener = RunListener(self._showPreviewing, self._previewed, self._failPreview, self._previewCancelled)
        try:
            request = self.logic.segmentRequest(volume, str(model), chosen.device.value, chosen.threads or None)
            self._preview = SegmentRun(self.logic, request, volume, listener, False, self._previewName(volume))
            self._preview.start()
        except (ToothTopoSegError, JobError) as error:
            self._failPreview(error)

    def _endPreview(self) -> None:
        if self._copying.running:
            self._copying.cancel()
            self._previewCancelled()
        elif self._preview is not None:
            self._preview.cancel()

    def _previewModel(self) -> Path:
        """The model that a preview uses: the best so far, or the finished one."""
        return Path(self._report["bundle"]) if self._report is not None else self._files().best

    def _previewVolume(self) -> Any:
        chosen = self._parameterNode
        return None if chosen is None else chosen.previewVolume or chosen.inputVolume

    def _previewName(self, volume: Any) -> str:
        model = Path(self._report["bundle"]).stem if self._report is not None else self._files().name
        told = _("{volume} preview {model}").format(volume=volume.GetName(), model=model)
        if self._run is not None:
            told = _("{preview} {minutes} min").format(preview=told, minutes=round(self._run.clock.seconds / 60))
        return str(slicer.mrmlScene.GenerateUniqueName(told))

    def _showPreviewing(self, fraction: float, said: str) -> None:
        self.ui.previewLabel.text = said

    def _previewed(self, node: Any, seconds: float) -> None:
        self._previewOver(_("The preview is “{name}”.").format(name=node.GetName()))

    def _failPreview(self, error: Exception) -> None:
        self._previewOver("")
        self.services.showError(str(error) or repr(error), getattr(error, "details", ""))

    def _previewCancelled(self) -> None:
        self._previewOver("")

    def _previewOver(self, said: str) -> None:
        self._preview = None
        if self._copyFolder is not None:
            shutil.rmtree(self._copyFolder, ignore_errors=True)
        self._copyFolder = None
        self.ui.previewLabel.text = said
        self._enable()

    # ---- the widgets

    def _pathEdits(self) -> tuple[tuple[Any, str], ...]:
        """The widgets of paths, and the parameter that each shows."""
        return (
            (self.ui.casesEdit, "casesFolder"),
            (self.ui.outputEdit, "outputFolder"),
            (self.ui.baseEdit, "basePath"),
        )

    def _connect(self) -> None:
        for edit in (self.ui.casesEdit, self.ui.outputEdit):
            edit.filters = ctk.ctkPathLineEdit.Dirs
        self.ui.baseEdit.nameFilters = [_("Models (*.onnx)")]
        for edit, name in self._pathEdits():
            edit.connect("currentPathChanged(QString)", lambda path, name=name: self._choosePath(name, path))
        for button, slot in (
            (self.ui.addPairButton, self.addPair),
            (self.ui.removePairButton, self.removePair),
            (self.ui.checkCasesButton, self.check),
            (self.ui.startButton, self.start),
            (self.ui.pauseButton, self.pause),
            (self.ui.stopButton, self.stop),
            (self.ui.discardButton, self.discard),
            (self.ui.previewButton, self.preview),
            (self.ui.useButton, self.useModel),
        ):
            button.connect("clicked()", slot)
        for selector in (self.ui.pairVolumeSelector, self.ui.pairTeethSelector):
            selector.connect("currentNodeChanged(vtkMRMLNode*)", self._update)
        self.ui.curvesComboBox.connect("currentIndexChanged(int)", self._draw)

    def _choosePath(self, name: str, path: str) -> None:
        if self._parameterNode is not None:
            setattr(self._parameterNode, name, path)

    def _leaveScene(self) -> None:
        """The scene is closing: what belongs to its nodes ends."""
        self._endPreview()
        self._listed = None
        self._curves.forgetNodes()
        self.ui.plotWidget.setMRMLPlotViewNode(None)
        if self._run is None:
            self.set.clear()
        self._update()

    def _onChosen(self, caller: Any = None, event: Any = None) -> None:
        """A choice has changed: where it concerns the cases, they are listed anew."""
        chosen, pairs = self._parameterNode, self._pairs()
        listed = (chosen.caseSource, chosen.casesFolder, [node.GetID() for pair in pairs for node in pair])
        if listed != self._listed and not self.running:
            self._listed = listed
            if chosen.caseSource is CaseSource.folder:
                self.set.listFolder(chosen.casesFolder)
            else:
                self.set.listPairs(pairs)
        self._update()

    def _pairs(self) -> list[tuple[Any, Any]]:
        """The pairs of nodes of the scene that were chosen and are still there."""
        found = []
        for told in self._parameterNode.trainingPairs:
            volume, segmentation = (slicer.mrmlScene.GetNodeByID(name) for name in told.split())
            if volume is not None and segmentation is not None:
                found.append((volume, segmentation))
        return found

    def _showCases(self) -> None:
        self.view.show(self.set.cases)
        self._showDetails()
        self._update()

    def _showDetails(self) -> None:
        """What the check says of the chosen case, else what can be said of all."""
        case = self.view.chosen()
        self.ui.caseLabel.text = shortened(details(case)) if case is not None else self._summary()
        self.ui.caseLabel.visible = bool(self.ui.caseLabel.text)
        self._enable()

    def _summary(self) -> str:
        cases = self.set.cases
        if self.set.checking or not any(case.checked is not None for case in cases):
            return ""
        told = _("Usable cases: {usable} of {all}. Choose a case to read what was found in its labels.")
        return told.format(usable=sum(case.usable for case in cases), all=len(cases))

    def _showProgress(self, fraction: float, said: str) -> None:
        self.ui.progressBar.value = round(100 * fraction)
        told = said[:1].upper() + said[1:]
        if self._run is not None:
            if self._run.paused:  # this was said before
                return
            told = _("{step}: about {time} left").format(step=told, time=in_words(self._run.secondsLeft(fraction)))
            if not self.ui.previewButton.enabled:
                self._enablePreview()
        self.ui.stateLabel.text = told

    def _update(self) -> None:
        """Show what is chosen and what is going on."""
        chosen = self._parameterNode
        if chosen is None:
            return
        from_scene = chosen.caseSource is CaseSource.scene
        for widget in (self.ui.casesLabel, self.ui.casesEdit):
            widget.visible = not from_scene
        for widget in (self.ui.pairVolumeLabel, self.ui.pairVolumeSelector, self.ui.pairTeethLabel):
            widget.visible = from_scene
        for widget in (self.ui.pairTeethSelector, self.ui.addPairButton, self.ui.removePairButton):
            widget.visible = from_scene
        self.ui.runFrame.visible = self.running or bool(self._curves.names)
        self.ui.progressBar.visible = self.running or self.set.checking
        if not self.running and not self.set.checking:
            self.ui.stateLabel.text = self._whyNot() or self._hint()
        self._showReport()
        self._enable()

    def _hint(self) -> str:
        """What pressing Start does, where that is not plain."""
        files = self._files()
        if files.resumable and files.model.exists():
            return _(
                "The training of this name is done. Go on trains it further where cases and choices are the same and "
                "the time is longer; for another training choose another name."
            )
        if files.resumable:
            return _(
                "A training of this name was interrupted. Go on continues it where cases and choices are the same; "
                "Discard removes it."
            )
        if files.model.exists():
            return _("There is a model of this name; it is replaced when training ends.")
        return ""

    def _whyNot(self) -> str:
        """Why training cannot be started now, in a sentence; "" where it can."""
        chosen, used = self._parameterNode, self.set.used
        unusable = sum(case.checked is not None and not case.usable for case in used)
        reasons = (
            (not available(), _("This version cannot fine-tune: its engine is not installed.")),
            (chosen is None, _("The scene is being closed.")),
            (self.set.checking, _("The cases are being checked.")),
            (bool(self.set.remark), self.set.remark),
            (not self.set.cases, _("Choose scans whose teeth are labelled, five or more if you can.")),
            (any(case.checked is None for case in used), _("Check the cases first.")),
            (any(case.changed for case in used), _("Cases have changed since the check; check them again.")),
            (unusable == 1, _("One case cannot be used: correct it and check again, or untick it.")),
            (unusable > 1, _("{n} cases cannot be used: correct them or untick them.").format(n=unusable)),
            (len(used) < FEWEST_CASES, _("At least two usable cases are needed: one of them is held out for testing.")),
        )
        return next((told for holds, told in reasons if holds), "") or self._whyNotThere()

    def _whyNotThere(self) -> str:
        """Why the new model cannot be made of what is chosen for it; "" where it can."""
        chosen = self._parameterNode
        if not chosen.outputFolder:
            return _("Choose a folder for the new model.")
        if not re.fullmatch(r'[^\\/:*?"<>|.][^\\/:*?"<>|]*', chosen.modelName.strip()):
            return _("The name of the new model is no name for a file; use letters, digits and spaces.")
        if chosen.basePath and not Path(chosen.basePath).is_file():
            return _("The model to start from is not there; choose another, or none for the bundled one.")
        return ""

    def _enable(self) -> None:
        """Only what can be done now can be pressed."""
        chosen, idle = self._parameterNode, not self.running and not self.set.checking
        if chosen is None:
            return
        for widget in (self.ui.sourceFrame, self.ui.modelFrame, self.ui.advancedButton, self.ui.casesTable):
            widget.enabled = idle
        pair = (self.ui.pairVolumeSelector.currentNode(), self.ui.pairTeethSelector.currentNode())
        self.ui.addPairButton.enabled = idle and None not in pair
        self.ui.removePairButton.enabled = idle and self.view.chosen() is not None
        self.ui.checkCasesButton.enabled = bool(self.set.cases) and not self.running
        self.ui.checkCasesButton.text = _("Cancel the check") if self.set.checking else _("Check the cases")
        self.ui.startButton.enabled = idle and not self._whyNot()
        self.ui.startButton.text = _("Go on") if idle and self._files().resumable else _("Start")
        going = self._run is not None and not self._run.stopping
        self.ui.stopButton.enabled = self.ui.pauseButton.enabled = going
        self.ui.pauseButton.checked = self._run is not None and self._run.paused
        self.ui.pauseButton.text = _("Go on") if self.ui.pauseButton.checked else _("Pause")
        self.ui.discardButton.enabled = self.running or (idle and self._files().resumable)
        self._enablePreview()

    def _enablePreview(self) -> None:
        button, volume = self.ui.previewButton, self._previewVolume()
        there = self._previewModel().is_file()
        button.enabled = self.previewing or (there and volume is not None)
        button.text = _("Cancel the preview") if self.previewing else _("Preview")
        if not there:
            button.toolTip = _("There is a model to try after the first validation.")
        elif volume is None:
            button.toolTip = _("Choose a scan to try the model on.")
        else:
            button.toolTip = _("Segments the scan with the best model so far, while training goes on.")

    def _showReport(self) -> None:
        self.ui.resultFrame.visible = self._report is not None
        if self._report is None:
            return
        self.ui.resultLabel.text = comparison.headline(self._report, self._titles)
        told, table = comparison.rows(self._report), self.ui.resultTable
        table.setRowCount(len(told))
        for row, cells in enumerate(told):
            for column, text in enumerate(cells):
                table.setItem(row, column, qt.QTableWidgetItem(text))
        table.resizeColumnToContents(0)

    # ---- the curves

    def _listChoicesOfCurves(self) -> None:
        """Offer all loss terms, all validation measures, and each curve alone; the chosen one stays chosen."""
        combo = self.ui.curvesComboBox
        chosen = combo.itemData(combo.currentIndex)
        was = combo.blockSignals(True)
        combo.clear()
        for text, choice in ((_("All loss terms"), LOSSES), (_("All validation measures"), MEASURES)):
            combo.addItem(text, choice)
        for name in self._curves.names:
            combo.addItem(name[:1].upper() + name[1:], name)
        combo.currentIndex = max(combo.findData(chosen), 0)
        combo.blockSignals(was)

    def _draw(self) -> None:
        """Draw the chosen curves as they are now."""
        if self._parameterNode is not None and self._curves.names:
            view = self._curves.show(self.ui.curvesComboBox.itemData(self.ui.curvesComboBox.currentIndex))
            if view is not self.ui.plotWidget.mrmlPlotViewNode():
                self.ui.plotWidget.setMRMLPlotViewNode(view)


def available() -> bool:
    """Whether the engine can fine-tune."""
    try:
        return importlib.util.find_spec(training_run.ENGINE) is not None
    except ModuleNotFoundError:
        return False
