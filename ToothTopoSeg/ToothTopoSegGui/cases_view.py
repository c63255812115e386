"""The table of cases for fine-tuning: a row for each with a check box, its teeth, and what the label check says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import qt
from slicer.i18n import tr as _

from ToothTopoSegGui.findings_view import kindName
from ToothTopoSegGui.training_set import Case

_RED, _AMBER, _GREEN, _GREY = "#c0392b", "#9a6700", "#1e7d34", "#8a93a0"


class CasesView:
    """A QTableWidget in action; ``onUsed`` is called when a check box has changed, ``onChosen`` with a chosen row."""

    def __init__(self, table: Any, onUsed: Callable[[], None], onChosen: Callable[[], None]) -> None:
        self.table, self._onUsed = table, onUsed
        self._cases: list[Case] = []
        self._filling = False
        table.setColumnCount(4)
        table.setHorizontalHeaderLabels([_("Case"), _("Teeth"), _("Findings"), _("Labels")])
        table.connect("itemChanged(QTableWidgetItem*)", self._changed)
        table.connect("currentCellChanged(int,int,int,int)", lambda row, column, oldRow, oldColumn: onChosen())

    def show(self, cases: Sequence[Case]) -> None:
        """List cases anew."""
        self._filling = True
        self._cases = list(cases)
        self.table.setRowCount(len(cases))
        for row, case in enumerate(cases):
            self._fill(row, case)
        self.table.resizeColumnToContents(0)
        self.table.setColumnWidth(0, min(self.table.columnWidth(0), 170))
        for column in (1, 2):
            self.table.resizeColumnToContents(column)
        self._filling = False

    def chosen(self) -> Case | None:
        """The case of the chosen row."""
        row = self.table.currentRow()
        return self._cases[row] if 0 <= row < len(self._cases) else None

    def _fill(self, row: int, case: Case) -> None:
        words, colour = verdict(case)
        counts = ["" if case.checked is None else str(len(case.checked[what])) for what in ("teeth", "findings")]
        for column, text in enumerate((case.title, *counts, words)):
            item = qt.QTableWidgetItem(text)
            item.setToolTip(details(case) or text)
            item.setFlags(qt.Qt.ItemIsEnabled | qt.Qt.ItemIsSelectable)
            if column == 0:
                item.setFlags(qt.Qt.ItemIsEnabled | qt.Qt.ItemIsSelectable | qt.Qt.ItemIsUserCheckable)
                item.setCheckState(qt.Qt.Checked if case.used else qt.Qt.Unchecked)
            if column == 3:
                item.setForeground(qt.QBrush(qt.QColor(colour)))
            self.table.setItem(row, column, item)

    def _changed(self, item: Any) -> None:
        if not self._filling and item.column() == 0:
            self._cases[item.row()].used = item.checkState() == qt.Qt.Checked
            self._onUsed()


def verdict(case: Case) -> tuple[str, str]:
    """What the label check says of a case in a few words, and their colour."""
    if case.checked is None:
        return _("Not checked yet"), _GREY
    if not case.usable:
        return _("Cannot be used: {problem}").format(problem=case.checked["problems"][0]), _RED
    if case.changed:
        return _("Changed since the check"), _RED
    warnings = [*case.checked["warnings"], *case.notes]
    if warnings or case.checked["findings"]:
        return (warnings[0] if warnings else _("Usable; look at the findings")), _AMBER
    return _("Fine"), _GREEN


def details(case: Case) -> str:
    """Everything that the label check says of a case, a line for each."""
    if case.checked is None:
        return ""
    lines = [*case.checked["problems"], *case.checked["warnings"], *case.notes]
    findings = case.checked["findings"]
    return "\n".join([*lines, _told(findings)] if findings else lines)


def shortened(text: str, most: int = 3) -> str:
    """The first lines of a text, the last one, and how many are between."""
    lines = text.split("\n")
    left_out = len(lines) - most - 1
    if left_out < 2:
        return text
    more = _("… and {n} more, which the pointer shows on the case.").format(n=left_out)
    return "\n".join([*lines[:most], more, lines[-1]])


def _told(findings: Sequence[Mapping[str, Any]]) -> str:
    """The findings by kind, with their teeth."""
    teeth: dict[str, list[int]] = {}
    for told in findings:
        teeth.setdefault(kindName(told["kind"]), []).extend(told["teeth"])
    kinds = [f"{kind} {' '.join(str(n) for n in sorted(set(numbers)))}".strip() for kind, numbers in teeth.items()]
    return _("Found in the labels: {findings}.").format(findings="; ".join(kinds))
