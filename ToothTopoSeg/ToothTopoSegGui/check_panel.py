"""The panel Check: look for anatomical errors in a segmentation, walk through them, mend them or ignore them.

Checking and mending run in a thread on arrays alone, watched by a timer; nodes and widgets are touched in the main
thread only, in steps that do not hold Slicer up. What is shown comes from the findings table of the scene, so that a
scene that is loaded again shows all of it.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from typing import Any

import ctk
import qt
import vtk
from slicer.i18n import tr as _

from ToothTopoSegGui.findings_view import SEVERITIES, FindingsView, kindName, severityName, verdictName
from ToothTopoSegGui.steps import Background, Steps
from ToothTopoSegGui.tooth_chart_widget import ToothChartWidget

_TICK_MS = 30


class CheckPanel:
    """The widgets of ``CheckPanel.ui`` in action."""

    def __init__(self, ui: Any, logic: Any, services: Any) -> None:
        self.ui, self.logic, self.services = ui, logic, services
        self._parameterNode: Any = None
        self._guiTag: Any = None
        self._shown: Any = None
        self._rows: list[Any] = []
        self._attempted: list[int] = []
        self._work: Background | None = None
        self._worked: Any = None
        self._whenDone: Callable[[Any], None] = lambda result: None
        self._timer = qt.QTimer()
        self._timer.setInterval(_TICK_MS)
        self._timer.connect("timeout()", self._tick)
        self.chart = ToothChartWidget(onTooth=self.chooseTooth)
        ui.chartFrame.layout().addWidget(self.chart)
        self.view = FindingsView(ui.findingsTable, self._showFinding)
        self._listSchemes()
        self._connect()
        self._showRunning(False)

    # ---- what the widget calls

    def setParameterNode(self, parameterNode: Any) -> None:
        """Show the choices of another scene, or none while the scene is closing, which ends a check."""
        if self._parameterNode is not None:
            self._parameterNode.disconnectGui(self._guiTag)
            self.services.removeObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self._onChosen)
        self._parameterNode = parameterNode
        if parameterNode is None:
            self.cancel()
            self._shown = None
            self.logic.forget()
            self._update()
            return
        self._guiTag = parameterNode.connectGui(self.ui)
        self.services.addObserver(parameterNode, vtk.vtkCommand.ModifiedEvent, self._onChosen)
        self._shown = None
        self._onChosen()

    def enter(self) -> None:
        """The user opens the module."""
        self._update()

    def exit(self) -> None:
        """The user goes to another module: the segmentation looks as it did, a check goes on."""
        self._leave(self._segmentation())

    def cleanup(self) -> None:
        """The module goes away."""
        self.exit()
        self.setParameterNode(None)
        self._timer.stop()

    def teethSegmented(self, segmentationNode: Any) -> None:
        """Choose a segmentation that was just made."""
        if self._parameterNode is not None:
            self._parameterNode.checkedSegmentation = segmentationNode

    # ---- what the user does

    @property
    def running(self) -> bool:
        """Whether something is being computed."""
        return self._work is not None

    def check(self) -> None:
        """Check the chosen segmentation; nothing happens while something is being computed."""
        node, scheme = self._segmentation(), self.ui.schemeComboBox.itemData(self.ui.schemeComboBox.currentIndex)
        volume = self._parameterNode.checkedVolume if self._parameterNode is not None else None
        self._start(lambda: self.logic.checkSteps(node, volume, scheme or None), lambda table: None)

    def repair(self) -> None:
        """Mend the chosen finding."""
        chosen = self.view.chosenId()
        if chosen is not None and not self.running:
            self._attempted = [chosen]
            self._start(lambda: self.logic.repairSteps(self._segmentation(), chosen), self._tellRepaired)

    def repairAll(self) -> None:
        """Mend all findings that can be mended safely and are not ignored."""
        if not self.running:
            self._attempted = [row.finding.id for row in self._rows if row.finding.repair and row.verdict == "open"]
            self._start(lambda: self.logic.repairSteps(self._segmentation()), self._tellRepaired)

    def undo(self) -> None:
        """Take back the last repair."""
        self._start(lambda: self.logic.undoRepairSteps(self._segmentation()), lambda done: None)

    def showBefore(self) -> None:
        """Show the segmentation as it was before the last repair while the button is down."""
        if self._segmentation() is not None and not self.running:
            shown = self.logic.showBefore(self._segmentation(), self.ui.beforeButton.checked)
            if not shown:
                self._setChecked(self.ui.beforeButton, False)
            self._enable()

    def ignore(self) -> None:
        """Ignore the chosen finding with the note, or open an ignored one again."""
        row = self._chosenRow()
        if row is not None:
            verdict = "open" if row.verdict == "ignored" else "ignored"
            note = str(self.ui.noteEdit.text).strip()
            self.logic.setVerdict(self._segmentation(), row.finding.id, verdict, note)
            self._update()

    def export(self) -> None:
        """Write the report to the chosen file."""
        path = str(self.ui.reportPathEdit.currentPath)
        if not path:
            self.services.showError(_("No file is chosen for the report; choose one that ends with .html or .csv."))
            return
        self._start(lambda: self.logic.exportReportSteps(self._segmentation(), path), self._tellExported)

    def measure(self) -> None:
        """Measure the teeth of the chosen segmentation, checked or not."""
        node, scheme = self._segmentation(), self.ui.schemeComboBox.itemData(self.ui.schemeComboBox.currentIndex)
        volume = self._parameterNode.checkedVolume if self._parameterNode is not None else None
        self._start(lambda: self.logic.measureSteps(node, volume, scheme or None), self._tellMeasured)

    def chooseTooth(self, fdi: int) -> None:
        """Choose the first listed finding of a tooth; where there is none, show the tooth alone."""
        listed = self.view.listedIds()
        of_tooth = [row.finding.id for row in self._rows if fdi in row.finding.teeth and row.finding.id in listed]
        if of_tooth:
            self.view.choose(min(of_tooth, key=listed.index))
        elif self._segmentation() is not None and not self.running:
            self.logic.showTooth(self._segmentation(), fdi)
            self.chart.choose([fdi])

    def cancel(self) -> None:
        """End what is being computed; nothing of it is kept."""
        if self._work is not None:
            self._work.cancel()
            self.ui.progressLabel.text = _("Cancelling")

    # ---- work in the background

    def _start(self, steps: Callable[[], Steps[Any]], whenDone: Callable[[Any], None]) -> None:
        if self.running or self._parameterNode is None:
            return
        self.services.clearStatus()
        self._setChecked(self.ui.beforeButton, False)
        self._worked, self._whenDone = self._segmentation(), whenDone
        self._work = Background(steps())
        self._showRunning(True)
        self._timer.start()

    def _tick(self) -> None:
        work = self._work
        if work is None:
            return
        if self._worked is not None and self._worked.GetScene() is None:
            work.cancel()
        work.advance()
        self.ui.progressBar.value = round(100 * work.fraction)
        if work.text:
            self.ui.progressLabel.text = _(work.text)
        if work.is_done:
            self._timer.stop()
            self._work, self._worked = None, None
            self._showRunning(False)
            self._finish(work)

    def _finish(self, work: Background) -> None:
        from ToothTopoSegLib.errors import Cancelled, ToothTopoSegError

        self._update()
        if isinstance(work.error, Cancelled):
            self.services.showStatus(_("Cancelled."))
        elif isinstance(work.error, ToothTopoSegError):
            self.services.showError(str(work.error))
        elif isinstance(work.error, MemoryError):
            self.services.showError(
                _("There is not enough memory; close other programs or crop the scan, then try again.")
            )
        elif work.error is not None:
            details = "".join(traceback.format_exception(work.error))
            told = _("This failed unexpectedly ({error}); copy the diagnostics and report it.")
            self.services.showError(told.format(error=type(work.error).__name__), details)
        else:
            self._whenDone(work.result)

    def _tellRepaired(self, ids: list[int]) -> None:
        told = [_("Repaired: {numbers}. Undo takes it back.").format(numbers=_listed(ids))] if ids else []
        left = [n for n in self._attempted if n not in ids]
        if left:
            refused = _("Not repaired, because it would make something else worse: {numbers}. Use the Segment Editor.")
            told.append(refused.format(numbers=_listed(left)))
        self.services.showStatus(" ".join(told) or _("There was nothing to repair."))

    def _tellExported(self, path: Any) -> None:
        self.services.showStatus(_("The report was written to {path}.").format(path=path))

    def _tellMeasured(self, table: Any) -> None:
        told = _("{count} teeth were measured; the table {name} is in the module Tables.")
        self.services.showStatus(told.format(count=table.GetNumberOfRows(), name=table.GetName()))

    # ---- what is shown

    def _onChosen(self, caller: Any = None, event: Any = None) -> None:
        """Another segmentation may have been chosen, or the chosen one be gone."""
        node = self._segmentation()
        if node is not self._shown:
            self._leave(self._shown)
            self._shown = node
            self._chooseWhatBelongsTo(node)
        self._update()

    def _leave(self, node: Any) -> None:
        """Show a segmentation as it is and as it looked before."""
        if node is not None and node.GetScene() is not None:
            self.logic.giveBackLook(node)
            if self.ui.beforeButton.checked:
                self.logic.showBefore(node, False)
        self._setChecked(self.ui.beforeButton, False)

    def _chooseWhatBelongsTo(self, node: Any) -> None:
        """The scan and scheme of the last check, else the scan the segmentation was made on."""
        if node is None:
            return
        volume, scheme = self.logic.checkedWith(node)
        self._parameterNode.checkedVolume = volume
        self.ui.schemeComboBox.currentIndex = max(self.ui.schemeComboBox.findData(scheme), 0)

    def _update(self) -> None:
        """Show the findings of the chosen segmentation as the scene has them."""
        node = self._segmentation()
        self._rows = self.logic.reviewed(node) if node is not None else []
        self._listKinds()
        self.view.show(self._rows)
        self._filter()
        if node is None or self.logic.findingsTable(node) is None:
            self.chart.clear()
        else:
            from ToothTopoSegLib.topology.review import entries

            self.chart.showTeeth(self.logic.teethAtCheck(node), entries(self._rows))
        self.ui.summaryLabel.text = self._summary(node)
        self._showDetails()

    def _summary(self, node: Any) -> str:
        if node is None:
            return _("Choose a segmentation of teeth, of this module or of any other tool, and press Check.")
        if self.logic.findingsTable(node) is None:
            return _("Not checked yet.")
        if self.logic.isChangedSinceCheck(node):
            return _("The segmentation has changed since it was checked; check it again.")
        open_ones = [row.finding.severity for row in self._rows if row.verdict == "open"]
        counts = [open_ones.count(severity) for severity in SEVERITIES]
        told = _("Teeth: {teeth}. Open errors: {errors}, warnings: {warnings}, notes: {notes}.")
        teeth = len(self.logic.teethAtCheck(node))
        text = told.format(teeth=teeth, errors=counts[0], warnings=counts[1], notes=counts[2])
        return f"{text} {self.logic.notesOfCheck(node)}".strip()

    def _filter(self) -> None:
        listed = [severity for severity in SEVERITIES if getattr(self.ui, f"{severity}Button").checked]
        kind = self.ui.kindComboBox.itemData(self.ui.kindComboBox.currentIndex) or ""
        settled = ("ignored", "repaired") if self.ui.settledCheckBox.checked else ()
        self.view.filter(listed, kind, ("open", *settled))
        self._showDetails()

    def _listKinds(self) -> None:
        """Offer the kinds that occur; the chosen one stays chosen where it does."""
        combo = self.ui.kindComboBox
        chosen = combo.itemData(combo.currentIndex)
        was = combo.blockSignals(True)
        combo.clear()
        combo.addItem(_("All kinds"), "")
        for kind in sorted({row.finding.kind for row in self._rows}, key=kindName):
            combo.addItem(kindName(kind), kind)
        combo.currentIndex = max(combo.findData(chosen), 0)
        combo.blockSignals(was)
        for severity, text in zip(SEVERITIES, (_("Errors"), _("Warnings"), _("Notes")), strict=True):
            count = sum(row.finding.severity == severity and row.verdict == "open" for row in self._rows)
            getattr(self.ui, f"{severity}Button").text = f"{text} ({count})"

    def _showFinding(self, findingId: int) -> None:
        """The user chose a finding: all views go there."""
        if self._segmentation() is None:
            return
        self.logic.showFinding(self._segmentation(), findingId)
        if not self.ui.highlightCheckBox.checked:
            self.logic.giveBackLook(self._segmentation())
        self._showDetails()

    def _showDetails(self) -> None:
        """What the chosen finding says, and what can be done about it."""
        row = self._chosenRow()
        self.chart.choose(row.finding.teeth if row is not None else ())
        self.ui.noteEdit.text = row.note if row is not None else ""
        if row is not None:
            self.ui.evidenceLabel.text = _in_words(row)
        else:
            self.ui.evidenceLabel.text = _("Choose a finding to see its place.") if self._rows else ""
        self._enable()

    def _enable(self) -> None:
        """Only what can be done now can be pressed."""
        node, row, idle = self._segmentation(), self._chosenRow(), not self.running
        checked = idle and node is not None and self.logic.findingsTable(node) is not None
        can_undo = checked and self.logic.canUndoRepair(node)
        ignored = row is not None and row.verdict == "ignored"
        open_one = row is not None and row.verdict == "open"
        self.ui.checkButton.enabled = idle and node is not None
        self.ui.measureButton.enabled = idle and node is not None
        self.ui.repairButton.enabled = checked and open_one and row.finding.repair is not None
        self.ui.repairAllButton.enabled = checked and any(r.finding.repair and r.verdict == "open" for r in self._rows)
        self.ui.undoButton.enabled = can_undo
        self.ui.beforeButton.enabled = can_undo or self.ui.beforeButton.checked
        self.ui.ignoreButton.enabled = checked and (open_one or ignored)
        self.ui.ignoreButton.text = _("Open again") if ignored else _("Ignore")
        self.ui.noteEdit.enabled = checked and open_one
        self.ui.exportButton.enabled = checked
        for button in (self.ui.previousButton, self.ui.nextButton):
            button.enabled = bool(self.view.listedIds())

    def _showRunning(self, running: bool) -> None:
        for widget in (self.ui.segmentationSelector, self.ui.volumeSelector, self.ui.schemeComboBox):
            widget.enabled = not running
        self.ui.checkButton.visible = not running
        self.ui.progressFrame.visible = running
        self.ui.progressBar.value = 0
        self.ui.progressLabel.text = _("Reading the segmentation")
        self._enable()

    # ---- helpers

    def _segmentation(self) -> Any:
        return self._parameterNode.checkedSegmentation if self._parameterNode is not None else None

    def _chosenRow(self) -> Any:
        chosen = self.view.chosenId()
        return next((row for row in self._rows if row.finding.id == chosen), None)

    @staticmethod
    def _setChecked(button: Any, checked: bool) -> None:
        was = button.blockSignals(True)
        button.checked = checked
        button.blockSignals(was)

    def _listSchemes(self) -> None:
        from ToothTopoSegLib.anatomy import schemes

        self.ui.schemeComboBox.addItem(_("Guess"), "")
        for name in schemes.scheme_names():
            self.ui.schemeComboBox.addItem(schemes.scheme(name).title, name)

    def _connect(self) -> None:
        for name in ("check", "cancel", "repair", "undo", "ignore", "measure", "export"):
            getattr(self.ui, f"{name}Button").connect("clicked()", getattr(self, name))
        self.ui.repairAllButton.connect("clicked()", self.repairAll)
        self.ui.previousButton.connect("clicked()", lambda: self.view.step(-1))
        self.ui.nextButton.connect("clicked()", lambda: self.view.step(1))
        self.ui.beforeButton.connect("toggled(bool)", self.showBefore)
        self.ui.highlightCheckBox.connect("toggled(bool)", self._fade)
        for severity in SEVERITIES:
            getattr(self.ui, f"{severity}Button").connect("toggled(bool)", self._filter)
        self.ui.settledCheckBox.connect("toggled(bool)", self._filter)
        self.ui.kindComboBox.connect("currentIndexChanged(int)", self._filter)
        # Without Writable the button would only let existing files be chosen.
        self.ui.reportPathEdit.filters = ctk.ctkPathLineEdit.Files | ctk.ctkPathLineEdit.Writable
        self.ui.reportPathEdit.nameFilters = [_("Page (*.html)"), _("Table (*.csv)"), _("For programs (*.json)")]

    def _fade(self) -> None:
        row = self._chosenRow()
        if self._segmentation() is None:
            return
        if self.ui.highlightCheckBox.checked and row is not None:
            self.logic.showTeeth(self._segmentation(), row.finding.teeth)
        else:
            self.logic.giveBackLook(self._segmentation())


def _in_words(row: Any) -> str:
    """A finding as people read it; the evidence is the engine's sentence."""
    finding = row.finding
    head = f"{finding.id}. {severityName(finding.severity)}: {kindName(finding.kind)}"
    repair = _("Repair: {name}.").format(name=finding.repair) if finding.repair else _("To be corrected by hand.")
    last = repair if row.verdict == "open" else verdictName(row.verdict)
    return f"<b>{head}</b><br>{_escaped(finding.evidence)}<br><i>{last}</i>"


def _listed(ids: Sequence[int]) -> str:
    return ", ".join(map(str, ids))


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")
