"""The panel Segment: choose a volume, see what it will cost, press Apply, get a segmentation with every tooth.

The network runs in a background process; its result comes into the scene step by step, so that Slicer can be used
meanwhile, and so do first labels as soon as there are some. Cancel, a closed scene or a deleted volume leave the scene
as it was.
"""

from __future__ import annotations

from typing import Any

import slicer
import vtk
from slicer.i18n import tr as _

from ToothTopoSegGui import nodes, packages
from ToothTopoSegGui.job import JobError, in_words
from ToothTopoSegGui.segment_run import RunListener, SegmentRun


class SegmentPanel:
    """The widgets of ``SegmentPanel.ui`` in action."""

    def __init__(self, ui: Any, logic: Any, services: Any) -> None:
        self.ui, self.logic, self.services = ui, logic, services
        self._parameterNode: Any = None
        self._guiTag: Any = None
        self._run: SegmentRun | None = None
        self._volume: Any = None
        self._centred = False
        self._connect()
        self._showRunning(False)

    # ---- what the widget calls

    def setParameterNode(self, parameterNode: Any) -> None:
        """Show the choices of another scene, or none while the scene is closing, which ends a run."""
        if self._parameterNode is not None:
            self._parameterNode.disconnectGui(self._guiTag)
            self.services.removeObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self._update)
        self._parameterNode = parameterNode
        if parameterNode is None:
            if self.running:
                self.cancel()
                self.services.showStatus(_("The scene was closed, so the run was ended."))
            self._list(None)
            return
        self._guiTag = parameterNode.connectGui(self.ui)
        self.services.addObserver(parameterNode, vtk.vtkCommand.ModifiedEvent, self._update)
        self._update()

    def enter(self) -> None:
        """The user opens the module."""
        self._update()

    def exit(self) -> None:
        """The user goes to another module; a run goes on."""

    def cleanup(self) -> None:
        """The module goes away, and a run with it."""
        self.cancel()
        self.setParameterNode(None)

    # ---- the user

    @property
    def running(self) -> bool:
        """Whether a volume is being segmented or its result being shown."""
        return self._run is not None

    def apply(self) -> None:
        """Segment the chosen volume; nothing happens while one is being segmented."""
        if self.running or self._parameterNode is None:
            return
        from ToothTopoSegLib.errors import ToothTopoSegError

        chosen = self._parameterNode
        self.services.clearStatus()
        try:
            packages.ensure(self.services.confirm)
            request = self.logic.segmentRequest(
                chosen.inputVolume, self._ownModel(), chosen.device.value, chosen.threads or None
            )
            self._volume, self._centred = chosen.inputVolume, False
            listener = RunListener(self._showProgress, self._finish, self._fail, self._cancelled, first=self._showFirst)
            self._run = SegmentRun(self.logic, request, self._volume, listener, self.ui.jawsCheckBox.checked)
            self._run.start()
        except (ToothTopoSegError, packages.PackageError, JobError) as error:
            self._fail(error)
            return
        self._showRunning(True)

    def cancel(self) -> None:
        """End a run; the scene stays as it was."""
        if self._run is not None:
            self._run.cancel()

    # ---- the run

    def _showProgress(self, fraction: float, said: str) -> None:
        self.ui.progressBar.value = round(100 * fraction)
        self.ui.progressLabel.text = said

    def _showFirst(self, node: Any) -> None:
        self._centreOnce()
        self.services.showStatus(
            _("“{name}” is a first result. Surfaces and numbers of its teeth may still change.").format(
                name=node.GetName()
            )
        )

    def _finish(self, node: Any, seconds: float) -> None:
        self._run = None
        self._showRunning(False)
        if self._parameterNode is not None:
            self.logic.learnPace(self._volume, self._parameterNode.threads or None, seconds)
            self._parameterNode.result = node
            self._centreOnce()
        self.services.showStatus(_told(node, seconds))
        self.services.teethSegmented(node)

    def _centreOnce(self) -> None:
        """Centre what a run has brought into the scene first; the user may turn the view then."""
        if self._parameterNode is not None and self._parameterNode.centre3D and not self._centred:
            _centre3D()
            self._centred = True

    def _fail(self, error: Exception) -> None:
        self._run = None
        self._showRunning(False)
        self.services.showError(str(error) or repr(error), getattr(error, "details", ""))

    def _cancelled(self) -> None:
        self._run = None
        self._showRunning(False)
        self.services.showStatus(_("Cancelled. The scene is as it was before."))

    # ---- the widgets

    def _connect(self) -> None:
        self.ui.applyButton.connect("clicked()", self.apply)
        self.ui.cancelButton.connect("clicked()", self.cancel)
        self.ui.jawsCheckBox.connect("toggled(bool)", self._showJaws)
        self.ui.modelComboBox.connect("currentIndexChanged(int)", self._chooseModel)
        self.ui.modelPathEdit.connect("currentPathChanged(QString)", self._chooseModel)
        self.ui.modelPathEdit.nameFilters = [_("Models (*.onnx)")]

    def _update(self, caller: Any = None, event: Any = None) -> None:
        if self._parameterNode is None:
            return
        path = self._parameterNode.modelPath
        if path and path != self.ui.modelPathEdit.currentPath:
            self.ui.modelPathEdit.currentPath = path
            self.ui.modelComboBox.currentIndex = 1
        self._list(self._parameterNode.result)
        volume = self._parameterNode.inputVolume
        self.ui.applyButton.enabled = volume is not None and not self.running
        self.ui.applyButton.toolTip = "" if volume is not None else _("Choose a CBCT volume first.")
        self.ui.estimateLabel.text = self._estimate(volume)

    def _list(self, segmentation: Any) -> None:
        """List the teeth of a segmentation, where there is one."""
        if segmentation is not self.ui.teethTable.segmentationNode():
            self.ui.teethTable.setSegmentationNode(segmentation)
        self.ui.teethTable.visible = segmentation is not None

    def _estimate(self, volume: Any) -> str:
        if volume is None:
            return _("Load a CBCT, by the module DICOM or by Add Data, and choose it here.")
        cost = self.logic.expectedCost(volume, self._parameterNode.threads or None)
        if cost is None:
            return ""
        return _("Takes about {time} and {memory:.1f} GB of memory on this computer.").format(
            time=in_words(cost.seconds), memory=cost.megabytes / 1000
        )

    def _ownModel(self) -> str | None:
        """The path of the user's own model, None for the bundled one."""
        from ToothTopoSegLib.errors import ModelError

        if self.ui.modelComboBox.currentIndex == 0:
            return None
        if not self.ui.modelPathEdit.currentPath:
            raise ModelError(_("No model file is chosen; choose an .onnx file in the options, or the bundled model."))
        return str(self.ui.modelPathEdit.currentPath)

    def _chooseModel(self) -> None:
        own = self.ui.modelComboBox.currentIndex == 1
        self.ui.modelPathEdit.visible = own
        if self._parameterNode is not None:
            self._parameterNode.modelPath = self.ui.modelPathEdit.currentPath if own else ""

    def _showJaws(self) -> None:
        node = self._parameterNode.result if self._parameterNode is not None else None
        if node is not None:
            nodes.show_jaws(node, self.ui.jawsCheckBox.checked)

    def _showRunning(self, running: bool) -> None:
        for widget in (self.ui.inputSelector, self.ui.optionsButton):
            widget.enabled = not running
        self.ui.progressFrame.visible = running
        self.ui.applyButton.visible = not running
        self.ui.progressBar.value = 0
        self.ui.progressLabel.text = _("Starting")
        self.ui.modelPathEdit.visible = self.ui.modelComboBox.currentIndex == 1
        self._update()


def _centre3D() -> None:
    """Look at the middle of what is shown; the layout stays what the user chose."""
    manager = slicer.app.layoutManager()
    for index in range(manager.threeDViewCount if manager is not None else 0):
        manager.threeDWidget(index).threeDView().resetFocalPoint()


def _told(node: Any, seconds: float) -> str:
    segmentation = node.GetSegmentation()
    values = [segmentation.GetSegment(i).GetLabelValue() for i in segmentation.GetSegmentIDs()]
    teeth = sum(value < nodes.FIRST_JAW for value in values)
    return _("{n} teeth in “{name}” after {time}. Check them before you use them: the result is a proposal.").format(
        n=teeth, name=node.GetName(), time=in_words(seconds)
    )
