"""The list of findings: a table that is sorted by its head and filtered by severity, kind and verdict.

In go findings with their verdicts, out comes the id of the one a person chooses. The list is a QStandardItemModel seen
through a QSortFilterProxyModel; each row carries what it is sorted and filtered by.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import qt
from slicer.i18n import tr as _

SEVERITIES = ("error", "warning", "info")
_ID_ROLE = qt.Qt.UserRole
_SORT_ROLE = qt.Qt.UserRole + 1
_FILTER_ROLE = qt.Qt.UserRole + 2
_ICON_PIXELS = 32
_GREY = "#8a93a0"


class FindingsView:
    """A QTableView in action, first sorted by severity with what is settled last.

    ``onChosen`` is called with the id of the finding that a person chooses.
    """

    def __init__(self, table: Any, onChosen: Callable[[int], None]) -> None:
        self.table, self._onChosen = table, onChosen
        self._filling = False
        self._icons = {severity: _icon(severity) for severity in SEVERITIES}
        self.model = qt.QStandardItemModel(0, 5, table)
        self.model.setHorizontalHeaderLabels([_("No."), _("Severity"), _("Kind"), _("State"), _("Teeth")])
        self.proxy = qt.QSortFilterProxyModel(table)
        self.proxy.setSourceModel(self.model)
        self.proxy.sortRole, self.proxy.filterRole = _SORT_ROLE, _FILTER_ROLE
        self.proxy.filterKeyColumn = 0
        table.setModel(self.proxy)
        table.sortByColumn(1, qt.Qt.AscendingOrder)
        table.selectionModel().connect("currentRowChanged(QModelIndex,QModelIndex)", self._chosen)

    def show(self, rows: Sequence[Any]) -> None:
        """List findings (Reviewed) anew; the chosen one stays chosen where it is still listed."""
        chosen = self.chosenId()
        self._filling = True
        self.model.setRowCount(0)
        self.model.setRowCount(len(rows))
        for number, row in enumerate(rows):
            self._fill(number, row)
        self._filling = False
        for column in range(4):  # the teeth get what is left
            self.table.resizeColumnToContents(column)
        self._chooseQuietly(chosen)

    def filter(self, severities: Collection[str], kind: str, verdicts: Collection[str]) -> None:
        """List only findings of these severities and verdicts, and of one kind unless it is ""."""
        wanted = (_either(severities), kind or r"\w+", _either(verdicts))
        chosen = self.chosenId()
        self._filling = True
        self.proxy.setFilterRegularExpression("^{} {} {}$".format(*wanted))
        self._filling = False
        self._chooseQuietly(chosen)

    def listedIds(self) -> list[int]:
        """The ids of the listed findings from above."""
        return [self._idAt(row) for row in range(self.proxy.rowCount())]

    def chosenId(self) -> int | None:
        """The id of the chosen finding; None where none is chosen."""
        row = self.table.currentIndex().row()
        return self._idAt(row) if row >= 0 else None

    def choose(self, findingId: int) -> bool:
        """Choose a finding as a click on it does; False where it is not listed."""
        listed = self.listedIds()
        if findingId in listed:
            self.table.setCurrentIndex(self.proxy.index(listed.index(findingId), 0))
        return findingId in listed

    def step(self, by: int) -> None:
        """Choose the next (1) or the previous (-1) finding of the list, from the ends on again."""
        listed, chosen = self.listedIds(), self.chosenId()
        if listed:
            at = listed.index(chosen) + by if chosen in listed else min(by, 0)
            self.choose(listed[at % len(listed)])

    def _chooseQuietly(self, findingId: int | None) -> None:
        self._filling = True
        if findingId is None or not self.choose(findingId):
            self.table.setCurrentIndex(qt.QModelIndex())
            self.table.clearSelection()
        self._filling = False

    def _idAt(self, row: int) -> int:
        return int(self.proxy.data(self.proxy.index(row, 0), _ID_ROLE))

    def _chosen(self, current: Any, previous: Any) -> None:
        if not self._filling and current.row() >= 0:
            self._onChosen(self._idAt(current.row()))

    def _fill(self, number: int, row: Any) -> None:
        finding = row.finding
        settled, rank = row.verdict != "open", SEVERITIES.index(finding.severity)
        cells = (
            (str(finding.id), finding.id),
            (severityName(finding.severity), settled * 1_000_000 + rank * 10_000 + finding.id),
            (kindName(finding.kind), kindName(finding.kind)),
            (verdictName(row.verdict), verdictName(row.verdict)),
            (" ".join(map(str, finding.teeth)), finding.teeth[0] if finding.teeth else 0),
        )
        for column, (text, order) in enumerate(cells):
            item = qt.QStandardItem(text)
            item.setData(finding.id, _ID_ROLE)
            item.setData(order, _SORT_ROLE)
            item.setData(f"{finding.severity} {finding.kind} {row.verdict}", _FILTER_ROLE)
            item.setToolTip(finding.evidence)
            if row.verdict != "open":
                item.setForeground(qt.QBrush(qt.QColor(_GREY)))
            if column == 1:
                item.setIcon(self._icons[finding.severity])
            self.model.setItem(number, column, item)


def severityName(severity: str) -> str:
    """What people read for a severity."""
    return {"error": _("Error"), "warning": _("Warning"), "info": _("Note")}[severity]


def verdictName(verdict: str) -> str:
    """What people read for a verdict."""
    return {"open": _("Open"), "ignored": _("Ignored"), "repaired": _("Repaired")}[verdict]


def kindName(kind: str) -> str:
    """What people read for a kind of finding."""
    names = {
        "cavity": _("Cavity"),
        "tunnel": _("Tunnel"),
        "fragment": _("Fragment"),
        "merge": _("Merged teeth"),
        "split": _("Split tooth"),
        "missing": _("Missing tooth"),
        "duplicate": _("Double number"),
        "swap": _("Swapped numbers"),
        "mirrored": _("Wrong side or jaw"),
        "contact": _("Impossible contact"),
        "outlier": _("Unusual shape"),
    }
    return names.get(kind, kind)


def _either(words: Collection[str]) -> str:
    # A word that no row has, where none is wanted.
    return f"({'|'.join(words) or '-'})"


def _icon(severity: str) -> Any:
    from ToothTopoSegLib.evaluation.tooth_chart import sign

    pixmap = qt.QPixmap()
    pixmap.loadFromData(sign(severity, _ICON_PIXELS).encode())
    return qt.QIcon(pixmap)
