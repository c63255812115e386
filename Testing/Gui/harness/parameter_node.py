"""``slicer.parameterNodeWrapper``: typed parameters on a MRML node, bound to widgets by ``SlicerParameterName``.

Supplied: bool, int, float, str, Enum, pathlib.Path, MRML nodes, list[str], dict[str, int], Optional of these, and the
annotations Default, WithinRange, Minimum, Maximum, Choice. Texts on the node are those that Slicer writes for the plain
types. A value is read anew from the node each time.
"""

from __future__ import annotations

import ast
import enum
import pathlib
import types
import typing
from dataclasses import dataclass
from typing import Any

import slicer
import slicer.util
import vtk

from Testing.Gui.harness import ctk_widgets, mrml_widgets
from Testing.Gui.harness.pythonqt import QtWidgets


@dataclass(frozen=True)
class Default:
    """The value of a parameter that was never set."""

    value: Any


@dataclass(frozen=True)
class WithinRange:
    """A number from minimum to maximum."""

    minimum: float
    maximum: float

    def validate(self, value: Any) -> None:
        """ValueError outside."""
        if not self.minimum <= value <= self.maximum:
            raise ValueError(f"{value} is not within {self.minimum} and {self.maximum}")


@dataclass(frozen=True)
class Minimum:
    """A number that is not smaller."""

    minimum: float

    def validate(self, value: Any) -> None:
        """ValueError below."""
        if value < self.minimum:
            raise ValueError(f"{value} is below {self.minimum}")


@dataclass(frozen=True)
class Maximum:
    """A number that is not larger."""

    maximum: float

    def validate(self, value: Any) -> None:
        """ValueError above."""
        if value > self.maximum:
            raise ValueError(f"{value} is above {self.maximum}")


class Choice:
    """One of several values."""

    def __init__(self, choices: Any) -> None:
        self.choices = choices

    def validate(self, value: Any) -> None:
        """ValueError for another."""
        if value not in self.choices:
            raise ValueError(f"{value!r} is none of {self.choices}")


class _Kind:
    """How values of a type are written on a node."""

    def __init__(self, annotated: Any) -> None:
        told = typing.get_args(annotated) if typing.get_origin(annotated) is typing.Annotated else (annotated,)
        self.type, self.annotations = told[0], told[1:]
        self.optional = typing.get_origin(self.type) in (typing.Union, types.UnionType)
        if self.optional:
            (self.type,) = (t for t in typing.get_args(self.type) if t is not type(None))
        origin = typing.get_origin(self.type) or self.type
        self.is_node = issubclass(origin, slicer.vtkMRMLNode)
        plain = (bool, int, float, str, list, dict, pathlib.Path)
        if not (self.is_node or origin in plain or issubclass(origin, enum.Enum)):
            raise TypeError(f"the harness writes no {self.type} on a parameter node")
        self.origin = origin

    def default(self) -> Any:
        if self.optional or self.is_node:
            return None
        return next(iter(self.origin)) if issubclass(self.origin, enum.Enum) else self.origin()

    def check(self, value: Any) -> None:
        if value is None:
            if not (self.optional or self.is_node):
                raise ValueError("Value must not be None")
            return
        fits = (int, float) if self.origin is float else self.origin
        if not isinstance(value, fits) or (self.origin is int and isinstance(value, bool)):
            raise TypeError(f"Value is not of type {self.origin}")
        for annotation in self.annotations:
            if hasattr(annotation, "validate"):
                annotation.validate(value)

    def write(self, node: Any, name: str, value: Any) -> None:
        self.check(value)
        if self.is_node:
            node.SetParameter(name, "")
            node.SetNodeReferenceID(name, value.GetID() if value is not None else None)
        elif isinstance(value, enum.Enum):
            node.SetParameter(name, value.name)
        else:
            node.SetParameter(name, repr(value) if isinstance(value, list | dict) else str(value))

    def read(self, node: Any, name: str) -> Any:
        if self.is_node:
            return node.GetNodeReference(name)
        text = node.GetParameter(name)
        if self.optional and text == "None":
            return None
        if self.origin in (list, dict):
            return ast.literal_eval(text)
        if self.origin is bool:
            return text == "True"
        return self.origin[text] if issubclass(self.origin, enum.Enum) else self.origin(text)


def parameterNodeWrapper(cls: type) -> type:
    """Make the annotations of a class parameters of a node."""
    kinds = {name: _Kind(hint) for name, hint in typing.get_type_hints(cls, include_extras=True).items()}
    defaults = {}
    for name, kind in kinds.items():
        told = [annotation.value for annotation in kind.annotations if isinstance(annotation, Default)]
        defaults[name] = getattr(cls, name) if hasattr(cls, name) else (told or [kind.default()])[0]
        setattr(cls, name, property(lambda self, n=name: self.getValue(n), lambda self, v, n=name: self.setValue(n, v)))
    cls.allParameters = kinds
    cls._defaults = defaults
    for method in (
        _init,
        _get_value,
        _set_value,
        _connect_gui,
        _disconnect_gui,
        _start,
        _end,
        _add,
        _remove,
        _modified,
    ):
        setattr(cls, method.__doc__ or "", method)
    return cls


def _init(self: Any, parameterNode: Any) -> None:
    """__init__"""
    self.parameterNode = parameterNode
    self._guis: dict[int, tuple[list[Any], int]] = {}
    self._updating = False
    for name, kind in self.allParameters.items():
        if not parameterNode.HasParameter(name):
            kind.write(parameterNode, name, self._defaults[name])


def _get_value(self: Any, name: str) -> Any:
    """getValue"""
    return self.allParameters[name].read(self.parameterNode, name)


def _set_value(self: Any, name: str, value: Any) -> None:
    """setValue"""
    with slicer.util.NodeModify(self.parameterNode):
        self.allParameters[name].write(self.parameterNode, name, value)


def _connect_gui(self: Any, gui: Any) -> int:
    """connectGui"""
    connectors = []
    for widget in vars(gui).values():
        name = widget.property("SlicerParameterName")
        if name:
            connectors.append((name, _Connector(widget, self.allParameters[name])))

    def show(*_: Any) -> None:
        if not self._updating:
            self._updating = True
            try:
                for name, connector in connectors:
                    connector.write(self.getValue(name))
            finally:
                self._updating = False

    def changed(name: str, connector: _Connector) -> None:
        if not self._updating:
            self.setValue(name, connector.read())

    for name, connector in connectors:
        connector.write(self.getValue(name))
        connector.listen(lambda *_, name=name, connector=connector: changed(name, connector))
    tag = len(self._guis)
    self._guis[tag] = ([connector for _, connector in connectors], self.AddObserver(vtk.vtkCommand.ModifiedEvent, show))
    return tag


def _disconnect_gui(self: Any, tag: int) -> None:
    """disconnectGui"""
    connectors, observer = self._guis.pop(tag, ([], None))
    for connector in connectors:
        connector.stop()
    if observer is not None:
        self.RemoveObserver(observer)


def _start(self: Any) -> int:
    """StartModify"""
    return int(self.parameterNode.StartModify())


def _end(self: Any, was: int) -> None:
    """EndModify"""
    self.parameterNode.EndModify(was)


def _add(self: Any, event: Any, callback: Any, priority: float = 0.0) -> int:
    """AddObserver"""
    return int(self.parameterNode.AddObserver(event, callback, priority))


def _remove(self: Any, tag: int) -> None:
    """RemoveObserver"""
    self.parameterNode.RemoveObserver(tag)


def _modified(self: Any) -> None:
    """Modified"""
    self.parameterNode.Modified()


class _Connector:
    """One widget as the place of one parameter; TypeError where Slicer has no connector for the pair."""

    def __init__(self, widget: Any, kind: _Kind) -> None:
        self.widget, self.kind = widget, kind
        self._slot: Any = None
        self.property, self.signal = self._fitting()
        if self.property == "currentIndex" and issubclass(kind.origin, enum.Enum):
            widget.clear()
            for member in kind.origin:
                widget.addItem(getattr(kind.origin, "label", lambda e: e.name)(member))

        for bounds in kind.annotations:
            if isinstance(bounds, WithinRange) and self.property == "value":
                widget.setRange(bounds.minimum, bounds.maximum)

    def _fitting(self) -> tuple[str, str]:
        origin, widget = self.kind.origin, type(self.widget)
        pairs = [
            (bool, QtWidgets.QCheckBox, "checked", "toggled"),
            (int, QtWidgets.QSpinBox, "value", "valueChanged"),
            (int, QtWidgets.QSlider, "value", "valueChanged"),
            (int, QtWidgets.QDoubleSpinBox, "value", "valueChanged"),
            (int, ctk_widgets.ctkSliderWidget, "value", "valueChanged"),
            (float, QtWidgets.QDoubleSpinBox, "value", "valueChanged"),
            (float, ctk_widgets.ctkSliderWidget, "value", "valueChanged"),
            (str, QtWidgets.QLineEdit, "text", "textChanged"),
            (str, QtWidgets.QLabel, "text", ""),
            (str, QtWidgets.QComboBox, "currentText", "currentTextChanged"),
            (pathlib.Path, ctk_widgets.ctkPathLineEdit, "currentPath", "currentPathChanged"),
            (pathlib.Path, ctk_widgets.ctkDirectoryButton, "directory", "directoryChanged"),
        ]
        if widget is mrml_widgets.qMRMLNodeComboBox and self.kind.is_node:
            self.widget.nodeTypes = [self.kind.origin.__name__]
            return "node", "currentNodeChanged"
        if widget is QtWidgets.QComboBox and issubclass(origin, enum.Enum):
            return "currentIndex", "currentIndexChanged"
        for told, cls, name, signal in pairs:
            if origin is told and widget is cls and not self.kind.optional:
                return name, signal
        raise TypeError(f"no connector for a {widget.__name__} and {origin.__name__}")

    def read(self) -> Any:
        """The value that the widget shows."""
        if self.property == "node":
            return self.widget.currentNode()
        value = getattr(self.widget, self.property)
        if self.property == "currentIndex":
            return list(self.kind.origin)[value]
        return self.kind.origin(value)

    def write(self, value: Any) -> None:
        """Show a value."""
        if self.property == "node":
            self.widget.setCurrentNode(value)
        elif self.property == "currentIndex":
            self.widget.setCurrentIndex(list(self.kind.origin).index(value))
        else:
            setattr(self.widget, self.property, str(value) if self.kind.origin is pathlib.Path else value)

    def listen(self, slot: Any) -> None:
        """Call back when the widget shows another value."""
        self._slot = slot
        if self.signal:
            getattr(self.widget, self.signal).connect(slot)

    def stop(self) -> None:
        """Call back no more."""
        if self.signal:
            getattr(self.widget, self.signal).disconnect(self._slot)


def findChildWidgetForParameter(widget: Any, parameter: str) -> Any:
    """The child widget that shows a parameter, None where there is none."""
    children = widget.findChildren(QtWidgets.QWidget)
    return next((child for child in children if child.property("SlicerParameterName") == parameter), None)
