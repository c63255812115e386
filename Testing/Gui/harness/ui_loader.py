"""``qt.QUiLoader``: Qt's own loader with the widgets of CTK and Slicer, and with connections that hand MRML on.

Qt cannot connect ``mrmlSceneChanged(vtkMRMLScene*)`` of a widget that is written in Python, so such connections of a
``.ui`` file are made in Python, after the rest is loaded.
"""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

from Testing.Gui.harness import ctk_widgets, mrml_widgets
from Testing.Gui.harness.pythonqt import QtCore, QtUiTools, signal_of


class QUiLoader(QtUiTools.QUiLoader):
    """Loads a ``.ui`` file; an unknown class or a property that its class does not have is a ValueError."""

    def __init__(self) -> None:
        super().__init__()
        self._custom = {**ctk_widgets.WIDGETS, **mrml_widgets.WIDGETS}
        for widget in self._custom.values():
            self.registerCustomWidget(widget)

    def load(self, device: Any) -> Any:
        """The top widget of the file."""
        root = ElementTree.fromstring(bytes(device.readAll().data()))
        self._check(root)
        connections = _take_mrml_connections(root)
        buffer = QtCore.QBuffer()
        buffer.setData(ElementTree.tostring(root))
        buffer.open(QtCore.QIODevice.ReadOnly)
        widget = super().load(buffer)
        for sender, signal, receiver, slot in connections:
            signal_of(_named(widget, sender), signal).connect(getattr(_named(widget, receiver), slot.partition("(")[0]))
        return widget

    def _check(self, root: ElementTree.Element) -> None:
        known = set(self.availableWidgets()) | set(self._custom)
        for element in root.iter("widget"):
            name = element.get("class", "")
            if name not in known:
                raise ValueError(f"the harness has no widget {name}")
            for told in element.findall("property") if name in self._custom else ():
                dynamic = told.get("stdset") == "0"
                if not dynamic and self._custom[name].staticMetaObject.indexOfProperty(told.get("name", "")) < 0:
                    raise ValueError(f"{name} has no property {told.get('name')}")


def _take_mrml_connections(root: ElementTree.Element) -> list[tuple[str, ...]]:
    taken = []
    for parent in root.findall("connections"):
        for element in list(parent):
            told = tuple((element.findtext(part) or "") for part in ("sender", "signal", "receiver", "slot"))
            if "*" in told[1]:
                parent.remove(element)
                taken.append(told)
    return taken


def _named(widget: Any, name: str) -> Any:
    return widget if widget.objectName == name else widget.findChild(QtCore.QObject, name)
