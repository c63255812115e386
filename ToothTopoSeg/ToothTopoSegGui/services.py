"""What the panels ask of the module's widget: to show an error, to ask the user, to observe, to hand a result on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import slicer
from slicer.i18n import tr as _

from ToothTopoSegGui.job import describe_environment


class Services:
    """The widget as the panels know it. ``ui`` has the status line under the tabs."""

    def __init__(self, ui: Any, observations: Any, panels: Callable[[], list[Any]]) -> None:
        self.addObserver, self.removeObserver = observations.addObserver, observations.removeObserver
        self._ui, self._panels = ui, panels
        self._diagnostics = ""
        ui.copyDiagnosticsButton.connect("clicked()", self._copyDiagnostics)
        self.clearStatus()

    def showError(self, message: str, details: str = "") -> None:
        """Show what went wrong and what to do about it under the panels, with a button to copy the diagnostics."""
        self._diagnostics = f"{message}\n\n{details}\n\n{describe_environment()}"
        self._show(f'<span style="color:#c0392b">⚠</span> {_escaped(message)}')
        self._ui.copyDiagnosticsButton.visible = True

    def showStatus(self, message: str) -> None:
        """Show a message under the panels."""
        self._show(_escaped(message))
        self._ui.copyDiagnosticsButton.visible = False

    def clearStatus(self) -> None:
        """Take the message under the panels away."""
        self._ui.statusFrame.visible = False

    def confirm(self, text: str) -> bool:
        """Ask the user; False in batch, where nobody answers."""
        if slicer.util.mainWindow() is None:
            return False
        return bool(slicer.util.confirmOkCancelDisplay(text, windowTitle="ToothTopoSeg"))

    def teethSegmented(self, segmentationNode: Any) -> None:
        """Tell every panel that wants to know (by a method of this name) that there is a new segmentation."""
        for panel in self._panels():
            if hasattr(panel, "teethSegmented"):
                panel.teethSegmented(segmentationNode)

    def turnTo(self, name: str) -> None:
        """Turn to the tab of a panel, told by the name of its class."""
        names = [type(panel).__name__ for panel in self._panels()]
        self._ui.panelTabs.setCurrentIndex(names.index(name))

    def _show(self, text: str) -> None:
        self._ui.statusLabel.text = text
        self._ui.statusFrame.visible = True

    def _copyDiagnostics(self) -> None:
        slicer.app.clipboard().setText(self._diagnostics)
        self._ui.copyDiagnosticsButton.toolTip = _("Copied.")


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("\n", "<br>")
