"""Slicer's widgets on MRML nodes that the panels use, with their documented properties, methods and signals."""

from __future__ import annotations

from typing import Any

from Testing.Gui.harness.pythonqt import QtCore, QtGui, QtWidgets

Property, Signal = QtCore.Property, QtCore.Signal


class _Observations:
    """Observers of a scene, taken away when the widget they are for is destroyed."""

    def __init__(self) -> None:
        self._known: list[tuple[Any, int]] = []

    def add(self, scene: Any, event: Any, callback: Any) -> None:
        self._known.append((scene, scene.AddObserver(event, callback)))

    def clear(self, *_: Any) -> None:
        for scene, tag in self._known:
            scene.RemoveObserver(tag)
        self._known.clear()


class _WithScene(QtWidgets.QWidget):
    """What all widgets on MRML share: a scene that is handed in and told on."""

    SIGNALS = {"mrmlSceneChanged(vtkMRMLScene*)": "mrmlSceneChanged"}  # noqa: RUF012
    mrmlSceneChanged = Signal(object)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._scene: Any = None
        self._observations = observations = _Observations()
        # By the time of the signal the widget's own attributes are gone.
        self.destroyed.connect(lambda *_: observations.clear())

    def mrmlScene(self) -> Any:
        """The scene, None before one was set."""
        return self._scene

    def setMRMLScene(self, scene: Any) -> None:
        """Show another scene."""
        if scene is self._scene:
            return
        self._observations.clear()
        self._scene = scene
        self.sceneSet()
        self.mrmlSceneChanged.emit(scene)

    def sceneSet(self) -> None:
        """Called when there is another scene."""

    def observe(self, event: Any, callback: Any) -> None:
        """Call back on an event of the scene as long as it is this widget's."""
        self._observations.add(self._scene, event, callback)


class qMRMLWidget(_WithScene):  # noqa: N801
    """A widget that hands its scene on."""


class qMRMLNodeComboBox(_WithScene):  # noqa: N801
    """Chooses a node of the scene. Without a scene it is disabled; without "none" it takes the first node."""

    SIGNALS = {  # noqa: RUF012
        **_WithScene.SIGNALS,
        "currentNodeChanged(vtkMRMLNode*)": "currentNodeChanged",
        "nodeAddedByUser(vtkMRMLNode*)": "nodeAddedByUser",
        "nodeActivated(vtkMRMLNode*)": "nodeActivated",
    }
    currentNodeChanged = Signal(object)
    currentNodeIDChanged = Signal(str)
    nodeAddedByUser = Signal(object)
    nodeActivated = Signal(object)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        self._box = QtWidgets.QComboBox()
        row.addWidget(self._box)
        self._values: dict[str, Any] = {}
        self._attributes: dict[str, dict[str, str]] = {}
        self._nodes: list[Any] = []
        self._current: Any = None
        self._box.activated.connect(self._activated)
        self.enabled = False

    def _get(self, name: str, default: Any) -> Any:
        return self._values.get(name, default)

    def _put(self, name: str, value: Any) -> None:
        self._values[name] = value
        self._refresh()

    nodeTypes = Property(
        "QStringList", lambda self: self._get("types", []), lambda self, v: self._put("types", [str(t) for t in v])
    )
    noneEnabled = Property(bool, lambda self: self._get("none", False), lambda self, v: self._put("none", v))
    noneDisplay = Property(str, lambda self: self._get("display", "None"), lambda self, v: self._put("display", v))
    showHidden = Property(bool, lambda self: self._get("hidden", False), lambda self, v: self._put("hidden", v))
    showChildNodeTypes = Property(
        bool, lambda self: self._get("children", True), lambda self, v: self._put("children", v)
    )
    hideChildNodeTypes = Property(
        "QStringList", lambda self: self._get("hide", []), lambda self, v: self._put("hide", [str(t) for t in v])
    )
    addEnabled = Property(bool, lambda self: self._get("add", True), lambda self, v: self._put("add", v))
    removeEnabled = Property(bool, lambda self: self._get("remove", True), lambda self, v: self._put("remove", v))
    renameEnabled = Property(bool, lambda self: self._get("rename", False), lambda self, v: self._put("rename", v))
    editEnabled = Property(bool, lambda self: self._get("edit", False), lambda self, v: self._put("edit", v))
    selectNodeUponCreation = Property(
        bool, lambda self: self._get("select", True), lambda self, v: self._put("select", v)
    )
    currentNodeID = Property(
        str, lambda self: self._current.GetID() if self._current else "", lambda self, v: self.setCurrentNodeID(v)
    )

    def sceneSet(self) -> None:
        """List the nodes of the scene and keep the list true."""
        self.enabled = self._scene is not None
        if self._scene is not None:
            for event in ("NodeAddedEvent", "NodeRemovedEvent", "EndImportEvent", "EndCloseEvent"):
                self.observe(getattr(self._scene, event), self._refresh)
        self._refresh()

    def addAttribute(self, node_type: str, name: str, value: Any = None) -> None:
        """Offer only nodes of this type that have the attribute."""
        self._attributes.setdefault(node_type, {})[name] = value
        self._refresh()

    def currentNode(self) -> Any:
        """The chosen node or None."""
        return self._current

    def nodeCount(self) -> int:
        """How many nodes can be chosen."""
        return len(self._nodes)

    def nodeFromIndex(self, index: int) -> Any:
        """A node that can be chosen."""
        return self._nodes[index] if 0 <= index < len(self._nodes) else None

    def setCurrentNode(self, node: Any) -> None:
        """Choose a node, or none; a node that is not offered leaves none chosen."""
        self._choose(node if node is not None and any(node is offered for offered in self._nodes) else None)

    def setCurrentNodeID(self, identifier: str) -> None:
        """Choose a node by its ID."""
        self.setCurrentNode(self._scene.GetNodeByID(identifier) if self._scene and identifier else None)

    def _offered(self, node: Any) -> bool:
        types = self._get("types", [])
        fits = any(node.IsA(t) if self._get("children", True) else node.GetClassName() == t for t in types)
        fits = fits and node.GetClassName() not in self._get("hide", [])
        wanted = self._attributes.get(node.GetClassName(), {})
        told = all(node.GetAttribute(k) == v if v is not None else node.GetAttribute(k) for k, v in wanted.items())
        return bool(fits and told and (self._get("hidden", False) or not node.GetHideFromEditors()))

    def _refresh(self, *_: Any) -> None:
        scene = self._scene
        count = scene.GetNumberOfNodes() if scene is not None else 0
        self._nodes = [node for node in (scene.GetNthNode(n) for n in range(count)) if self._offered(node)]
        offset = int(self._get("none", False))
        self._box.clear()
        self._box.addItems([self._get("display", "None")] * offset + [node.GetName() for node in self._nodes])
        kept = self._current is not None and any(self._current is node for node in self._nodes)
        first = None if offset or not self._nodes else self._nodes[0]
        self._choose(self._current if kept else first)

    def _choose(self, node: Any) -> None:
        offset = int(self._get("none", False))
        index = next((n for n, other in enumerate(self._nodes) if other is node), -1)
        self._box.currentIndex = index + offset if node is not None else offset - 1
        if node is not self._current:
            self._current = node
            self.currentNodeChanged.emit(node)
            self.currentNodeIDChanged.emit(node.GetID() if node is not None else "")

    def _activated(self, index: int) -> None:
        self._choose(self.nodeFromIndex(index - int(self._get("none", False))))
        self.nodeActivated.emit(self._current)


class qMRMLSegmentationShow3DButton(QtWidgets.QPushButton):  # noqa: N801
    """Shows the closed surfaces of a segmentation in 3D."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__("Show 3D", parent)
        self._node: Any = None

    def segmentationNode(self) -> Any:
        """The segmentation or None."""
        return self._node

    def setSegmentationNode(self, node: Any) -> None:
        """Show another segmentation."""
        self._node = node


class qMRMLSegmentsTableView(_WithScene):  # noqa: N801
    """Lists the segments of a segmentation with colour and visibility."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        box = QtWidgets.QVBoxLayout(self)
        box.setContentsMargins(0, 0, 0, 0)
        self._table = QtWidgets.QTableWidget(0, 2)
        self._table.setHorizontalHeaderLabels(["", "Name"])
        self._table.horizontalHeader().setStretchLastSection(True)
        box.addWidget(self._table)
        self._node: Any = None
        self._values: dict[str, bool] = {}

    readOnly = Property(bool, lambda self: self._get("readOnly"), lambda self, v: self._put("readOnly", v))
    opacityColumnVisible = Property(bool, lambda self: self._get("opacity"), lambda self, v: self._put("opacity", v))
    statusColumnVisible = Property(bool, lambda self: self._get("status"), lambda self, v: self._put("status", v))

    def _get(self, name: str) -> bool:
        return self._values.get(name, True)

    def _put(self, name: str, value: bool) -> None:
        self._values[name] = value

    def segmentationNode(self) -> Any:
        """The segmentation or None."""
        return self._node

    def setSegmentationNode(self, node: Any) -> None:
        """List another segmentation."""
        self._node = node
        segmentation = node.GetSegmentation() if node is not None else None
        count = segmentation.GetNumberOfSegments() if segmentation is not None else 0
        self._table.rowCount = count
        for row in range(count):
            segment = segmentation.GetNthSegment(row)
            colour = QtWidgets.QTableWidgetItem()
            colour.setBackground(QtGui.QColor.fromRgbF(*segment.GetColor()))
            self._table.setItem(row, 0, colour)
            self._table.setItem(row, 1, QtWidgets.QTableWidgetItem(segment.GetName()))


class qMRMLPlotWidget(_WithScene):  # noqa: N801
    """Draws the chart of a plot view node."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._view: Any = None
        self.minimumHeight = 120

    def mrmlPlotViewNode(self) -> Any:
        """The view node or None."""
        return self._view

    def setMRMLPlotViewNode(self, node: Any) -> None:
        """Draw another view node."""
        self._view = node
        self.update()

    def curves(self) -> list[tuple[str, list[tuple[float, float]]]]:
        """Name and points of each series of the chart, as Slicer draws them (for the tests)."""
        chart = self._view.GetPlotChartNode() if self._view is not None else None
        found = []
        for n in range(chart.GetNumberOfPlotSeriesNodes()) if chart is not None else ():
            series = chart.GetNthPlotSeriesNode(n)
            table = series.GetTableNode().GetTable()
            columns = [table.GetColumnByName(name) for name in (series.GetXColumnName(), series.GetYColumnName())]
            points = [
                tuple(float(column.GetValue(row)) for column in columns) for row in range(table.GetNumberOfRows())
            ]
            found.append((series.GetName(), points))
        return found

    def paintEvent(self, event: Any) -> None:
        """The curves, scaled to the widget."""
        painter = QtGui.QPainter(self)
        painter.fillRect(self.rect, QtGui.QColor("white"))
        points = [point for _, curve in self.curves() for point in curve]
        if points:
            (x0, x1), (y0, y1) = ((min(axis), max(axis)) for axis in zip(*points, strict=True))
            for number, (name, curve) in enumerate(self.curves()):
                colour = self._view.GetPlotChartNode().GetNthPlotSeriesNode(number).GetColor()
                painter.setPen(QtGui.QPen(QtGui.QColor.fromRgbF(*colour), 2))
                width = painter.fontMetrics().horizontalAdvance(name)
                painter.drawText(self.width - 14 - width, 14 + 14 * number, name)
                places = [
                    QtCore.QPointF(
                        10 + (self.width - 20) * (x - x0) / ((x1 - x0) or 1),
                        self.height - 10 - (self.height - 20) * (y - y0) / ((y1 - y0) or 1),
                    )
                    for x, y in curve
                ]
                painter.drawPolyline(places)
        painter.end()


WIDGETS = {
    widget.__name__: widget
    for widget in (
        qMRMLNodeComboBox,
        qMRMLPlotWidget,
        qMRMLSegmentationShow3DButton,
        qMRMLSegmentsTableView,
        qMRMLWidget,
    )
}
