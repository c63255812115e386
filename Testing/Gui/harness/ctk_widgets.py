"""The widgets of the module ``ctk`` that the panels use, with CTK's documented properties and signals and no others."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from Testing.Gui.harness.pythonqt import QtCore, QtGui, QtWidgets

Property, Signal = QtCore.Property, QtCore.Signal


class ctkCollapsibleButton(QtWidgets.QAbstractButton):  # noqa: N801
    """A button that folds its contents away; ``checked`` is the opposite of ``collapsed``."""

    contentsCollapsed = Signal(bool)

    def __init__(self, parent: Any = None) -> None:
        # CTK also takes the text first.
        super().__init__(None if isinstance(parent, str) else parent)
        self.checkable = True
        self.checked = True
        self.setContentsMargins(0, self._header(), 0, 0)
        self.toggled.connect(self._fold)
        if isinstance(parent, str):
            self.text = parent

    def _header(self) -> int:
        return self.fontMetrics().height() + 8

    def _collapsed(self) -> bool:
        return not self.checked

    def _set_collapsed(self, folded: bool) -> None:
        self.checked = not folded

    collapsed = Property(bool, _collapsed, _set_collapsed)

    def _fold(self, checked: bool) -> None:
        for child in self.children():
            if isinstance(child, QtWidgets.QWidget):
                child.visible = checked
        # A layout that is nested in another of the same widget folds with its widgets.
        self.setMaximumHeight(16777215 if checked else self._header())
        self.updateGeometry()
        self.contentsCollapsed.emit(not checked)

    def childEvent(self, event: Any) -> None:
        """What is added to a folded button is not seen."""
        if event.added() and isinstance(event.child(), QtWidgets.QWidget) and not self.checked:
            event.child().visible = False

    def showEvent(self, event: Any) -> None:
        """Widgets that came while the button was folded stay hidden."""
        if not self.checked:
            for child in self.children():
                if isinstance(child, QtWidgets.QWidget):
                    child.visible = False

    def hitButton(self, position: Any) -> bool:
        """Only the header is pressed."""
        return bool(position.y() < self._header())

    def paintEvent(self, event: Any) -> None:
        """The header: an arrow and the text."""
        painter = QtGui.QPainter(self)
        header = QtCore.QRect(0, 0, self.width, self._header())
        painter.fillRect(header, self.palette.button())
        painter.drawText(
            header.adjusted(6, 0, 0, 0), QtCore.Qt.AlignVCenter, ("▾ " if self.checked else "▸ ") + self.text
        )
        painter.end()


class ctkCollapsibleGroupBox(QtWidgets.QGroupBox):  # noqa: N801
    """A group box that folds its contents away."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self.checkable = True
        self.checked = True
        self.toggled.connect(self._fold)

    def _collapsed(self) -> bool:
        return not self.checked

    def _set_collapsed(self, folded: bool) -> None:
        self.checked = not folded

    collapsed = Property(bool, _collapsed, _set_collapsed)

    def _fold(self, checked: bool) -> None:
        for child in self.children():
            if isinstance(child, QtWidgets.QWidget):
                child.visible = checked


class ctkComboBox(QtWidgets.QComboBox):  # noqa: N801
    """A combo box that shows a default text where nothing is chosen."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._default = ""

    def _default_text(self) -> str:
        return self._default

    def _set_default_text(self, text: str) -> None:
        self._default = text
        self.placeholderText = text

    defaultText = Property(str, _default_text, _set_default_text)


class ctkCheckableComboBox(QtWidgets.QComboBox):  # noqa: N801
    """A combo box whose items have check boxes."""

    checkedIndexesChanged = Signal()

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self.model().itemChanged.connect(lambda item: self.checkedIndexesChanged.emit())
        self.model().rowsInserted.connect(self._make_checkable)

    def _make_checkable(self, parent: Any, first: int, last: int) -> None:
        self.model().blockSignals(True)
        for row in range(first, last + 1):
            item = self.model().item(row)
            item.setCheckable(True)
            item.setCheckState(QtCore.Qt.Unchecked)
        self.model().blockSignals(False)

    def checkableModel(self) -> Any:
        """The model of the items."""
        return self.model()

    def checkedIndexes(self) -> list[Any]:
        """Indexes of the checked items."""
        rows = range(self.count)
        return [self.model().index(row, 0) for row in rows if self.model().item(row).checkState() == QtCore.Qt.Checked]

    def checkState(self, index: Any) -> Any:
        """Whether an item is checked."""
        return self.model().itemFromIndex(index).checkState()

    def setCheckState(self, index: Any, state: Any) -> None:
        """Check or uncheck an item."""
        self.model().itemFromIndex(index).setCheckState(state)

    def allChecked(self) -> bool:
        """Whether every item is checked."""
        return len(self.checkedIndexes()) == self.count

    def noneChecked(self) -> bool:
        """Whether no item is checked."""
        return not self.checkedIndexes()


class ctkPathLineEdit(QtWidgets.QWidget):  # noqa: N801
    """A line for the path of a file, with a button to browse."""

    Dirs, Files, Readable, Writable = 0x001, 0x002, 0x010, 0x020
    currentPathChanged = Signal(str)
    validInputChanged = Signal(bool)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        self._line, self._values = QtWidgets.QLineEdit(), {}
        row.addWidget(self._line)
        row.addWidget(QtWidgets.QPushButton("..."))
        self._line.textChanged.connect(self.currentPathChanged.emit)

    def _path(self) -> str:
        return self._line.text

    def _set_path(self, path: str) -> None:
        self._line.text = path

    currentPath = Property(str, _path, _set_path)
    nameFilters = Property(
        "QStringList",
        lambda self: self._values.get("nameFilters", []),
        lambda self, v: self._values.update(nameFilters=v),
    )
    filters = Property(int, lambda self: self._values.get("filters", 0), lambda self, v: self._values.update(filters=v))
    showHistoryButton = Property(
        bool, lambda self: self._values.get("history", True), lambda self, v: self._values.update(history=v)
    )
    settingKey = Property(str, lambda self: self._values.get("key", ""), lambda self, v: self._values.update(key=v))

    def setCurrentPath(self, path: str) -> None:
        """Set the path."""
        self._set_path(path)

    def addCurrentPathToHistory(self) -> None:
        """Remember the path for the next time."""


class ctkDirectoryButton(QtWidgets.QWidget):  # noqa: N801
    """A button that shows and changes a folder."""

    directoryChanged = Signal(str)
    directorySelected = Signal(str)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        self._button = QtWidgets.QPushButton(QtCore.QDir.currentPath())
        row.addWidget(self._button)

    def _directory(self) -> str:
        return self._button.text

    def _set_directory(self, path: str) -> None:
        if path != self._button.text:
            self._button.text = path
            self.directoryChanged.emit(path)

    directory = Property(str, _directory, _set_directory)


class ctkSliderWidget(QtWidgets.QWidget):  # noqa: N801
    """A slider and a spin box of one value."""

    valueChanged = Signal(float)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        self._slider, self._box = QtWidgets.QSlider(QtCore.Qt.Horizontal), QtWidgets.QDoubleSpinBox()
        row.addWidget(self._slider)
        row.addWidget(self._box)
        self._box.valueChanged.connect(self.valueChanged.emit)

    value = Property(float, lambda self: self._box.value, lambda self, v: setattr(self._box, "value", v))
    minimum = Property(float, lambda self: self._box.minimum, lambda self, v: setattr(self._box, "minimum", v))
    maximum = Property(float, lambda self: self._box.maximum, lambda self, v: setattr(self._box, "maximum", v))
    singleStep = Property(float, lambda self: self._box.singleStep, lambda self, v: setattr(self._box, "singleStep", v))
    decimals = Property(int, lambda self: self._box.decimals, lambda self, v: setattr(self._box, "decimals", v))
    suffix = Property(str, lambda self: self._box.suffix, lambda self, v: setattr(self._box, "suffix", v))

    def setValue(self, value: float) -> None:
        """Set the value."""
        self._box.value = value


class ctkSearchBox(QtWidgets.QLineEdit):  # noqa: N801
    """A line with a magnifying glass."""

    showSearchIcon = Property(bool, lambda self: True, lambda self, v: None)


class ctkMenuButton(QtWidgets.QPushButton):  # noqa: N801
    """A button with a menu beside it."""


WIDGETS = {
    widget.__name__: widget
    for widget in (
        ctkCheckableComboBox,
        ctkCollapsibleButton,
        ctkCollapsibleGroupBox,
        ctkComboBox,
        ctkDirectoryButton,
        ctkMenuButton,
        ctkPathLineEdit,
        ctkSearchBox,
        ctkSliderWidget,
    )
}


class CtkModule(ModuleType):
    """The module ``ctk``."""

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"the harness has no ctk.{name}; check CTK's header, then write it in ctk_widgets.py")


def ctk_module() -> ModuleType:
    """The module ``ctk``."""
    module = CtkModule("ctk", __doc__)
    for name, widget in WIDGETS.items():
        setattr(module, name, widget)
    return module
