"""The harness behaves as SLICER_API observed PythonQt and Slicer to behave, statement by statement."""

from __future__ import annotations

import enum
import importlib
import pathlib
import threading
from typing import Annotated, Optional

import pytest


def test_properties_are_attributes_and_calling_one_is_a_type_error(qt):
    spin, button = qt.QSpinBox(), qt.QPushButton("Go")
    spin.value = 4
    button.enabled = False
    assert (spin.value, button.enabled, button.text) == (4, False, "Go")
    with pytest.raises(TypeError):
        spin.value()
    combo, table, tree, bar = qt.QComboBox(), qt.QTableWidget(2, 3), qt.QTreeWidget(), qt.QProgressBar()
    combo.addItem("one", 1)
    bar.format = "%p"
    assert (combo.currentText, combo.count, table.rowCount, tree.topLevelItemCount) == ("one", 1, 2, 0)


def test_slots_and_other_methods_are_calls(qt):
    label, combo, timer, box = qt.QLabel(), qt.QComboBox(), qt.QTimer(), qt.QCheckBox()
    label.setText("x")
    combo.addItem("one", 7)
    box.setChecked(True)
    assert (label.text, combo.itemData(0), timer.isActive(), box.isChecked()) == ("x", 7, False, True)
    assert qt.QTableWidgetItem("cell").text() == "cell"
    label.setMinimumSize(30, 40)
    assert label.minimumWidth == 30


def test_signals_connect_by_attribute_and_by_signature_and_slots_may_take_fewer_arguments(qt):
    heard, button = [], qt.QPushButton()
    button.clicked.connect(lambda: heard.append("attribute"))
    button.connect("clicked(bool)", lambda checked: heard.append(checked))
    slot = lambda: heard.append("none")  # noqa: E731
    button.connect("clicked()", slot)
    button.click()
    button.disconnect("clicked()", slot)
    button.click()
    assert heard == ["attribute", False, "none", "attribute", False]
    with pytest.raises(ValueError, match="no signal"):
        button.connect("pressedHard()", slot)


def test_signals_with_typed_arguments_connect_by_their_signature(qt):
    heard, model, table = [], qt.QStandardItemModel(), qt.QTableView()
    model.appendRow(qt.QStandardItem("a"))
    model.appendRow(qt.QStandardItem("b"))
    table.setModel(model)
    table.selectionModel().connect(
        "currentRowChanged(QModelIndex,QModelIndex)", lambda now, before: heard.append(now.row())
    )
    table.selectRow(1)
    assert heard == [1]
    assert qt.QProcess().connect("finished(int,QProcess::ExitStatus)", lambda code, status: None)


def test_enums_are_ints(qt):
    assert qt.Qt.Horizontal == 1 and isinstance(qt.Qt.AlignRight, int)


def test_what_the_harness_does_not_supply_is_an_attribute_error(qt, ctk, slicer):
    for ask in (
        lambda: qt.Signal,
        lambda: ctk.ctkDICOMBrowser,
        lambda: slicer.modules.dicom,
        lambda: slicer.app.layoutManager().sliceWidget,
        lambda: slicer.packaging,
    ):
        with pytest.raises(AttributeError):
            ask()


@pytest.mark.filterwarnings("ignore:.*QMouseEvent.pos")  # Qt 6 warns of it, Qt 5 has no other
def test_a_python_subclass_of_a_widget_paints_and_hears_the_mouse(qt, application):
    class Chart(qt.QWidget):
        def __init__(self, parent=None):
            super().__init__(parent)
            self.painted, self.pressed = 0, []

        def paintEvent(self, event):
            self.painted += 1

        def mousePressEvent(self, event):
            self.pressed.append(event.pos().x())

    chart = Chart()
    chart.show()
    chart.grab()
    event = qt.QMouseEvent(
        qt.QEvent.MouseButtonPress,
        qt.QPointF(7, 3),
        qt.QPointF(7, 3),
        qt.Qt.LeftButton,
        qt.Qt.LeftButton,
        qt.Qt.NoModifier,
    )
    application.sendEvent(chart, event)
    assert chart.painted and chart.pressed == [7]


def test_named_children_of_a_ui_file_become_variables(slicer, scene, tmp_path):
    path = tmp_path / "Panel.ui"
    path.write_text(UI, encoding="utf-8")
    panel = slicer.util.loadUI(str(path))
    ui = slicer.util.childWidgetVariables(panel)
    panel.setMRMLScene(scene)
    assert ui.selector.mrmlScene() is scene
    assert ui.fold.collapsed and ui.fold.text == "Advanced"
    path.write_text(UI.replace('name="noneEnabled"', 'name="noneAllowed"'), encoding="utf-8")
    with pytest.raises(ValueError, match="noneAllowed"):
        slicer.util.loadUI(str(path))


UI = """<?xml version="1.0" encoding="UTF-8"?>
<ui version="4.0"><class>Panel</class><widget class="qMRMLWidget" name="Panel"><layout class="QVBoxLayout" name="box">
<item><widget class="qMRMLNodeComboBox" name="selector">
<property name="nodeTypes"><stringlist><string>vtkMRMLScalarVolumeNode</string></stringlist></property>
<property name="noneEnabled"><bool>true</bool></property></widget></item>
<item><widget class="ctkCollapsibleButton" name="fold"><property name="text"><string>Advanced</string></property>
<property name="collapsed"><bool>true</bool></property></widget></item></layout></widget>
<customwidgets>
<customwidget><class>qMRMLWidget</class><extends>QWidget</extends><header>qMRMLWidget.h</header><container>1</container>
</customwidget>
<customwidget><class>qMRMLNodeComboBox</class><extends>QWidget</extends><header>qMRMLNodeComboBox.h</header></customwidget>
<customwidget><class>ctkCollapsibleButton</class><extends>QWidget</extends><header>ctkCollapsibleButton.h</header>
<container>1</container></customwidget></customwidgets>
<connections><connection><sender>Panel</sender><signal>mrmlSceneChanged(vtkMRMLScene*)</signal>
<receiver>selector</receiver><slot>setMRMLScene(vtkMRMLScene*)</slot></connection></connections></ui>
"""


def test_a_node_selector_follows_the_scene(slicer, scene):
    selector = slicer.qMRMLNodeComboBox()
    selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    assert not selector.enabled and selector.currentNode() is None
    heard = []
    selector.connect("currentNodeChanged(vtkMRMLNode*)", lambda node: heard.append(node and node.GetName()))
    selector.setMRMLScene(scene)
    first = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "First")
    scene.AddNewNodeByClass("vtkMRMLModelNode", "Model")
    second = scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "Second")
    assert selector.currentNode() is first and selector.nodeCount() == 2
    scene.RemoveNode(first)
    assert selector.currentNode() is second
    selector.noneEnabled = True
    selector.setCurrentNode(None)
    assert selector.currentNodeID == "" and heard == ["First", "Second", None]


class Way(enum.Enum):
    """Two ways."""

    UP = "up"
    DOWN = "down"

    def label(self):
        """What the combo box shows."""
        return f"go {self.value}"


@pytest.fixture
def parameters(slicer, scene):
    wrap = importlib.import_module("slicer.parameterNodeWrapper")

    class Parameters:
        volume: slicer.vtkMRMLScalarVolumeNode
        way: Way
        share: Annotated[float, wrap.WithinRange(0, 1)]
        path: pathlib.Path
        names: list[str]
        counts: dict[str, int]
        limit: Optional[int]  # noqa: UP045
        loud: bool = True

    # Annotations written in a function are texts that name what lies around them.
    names = {**globals(), "slicer": slicer, "wrap": wrap}
    Parameters.__annotations__ = {name: eval(text, names) for name, text in Parameters.__annotations__.items()}
    node = scene.AddNewNodeByClass("vtkMRMLScriptedModuleNode")
    return wrap.parameterNodeWrapper(Parameters)(node)


def test_a_parameter_node_keeps_typed_values(parameters, scene):
    assert (parameters.way, parameters.limit, parameters.loud, parameters.volume) == (Way.UP, None, True, None)
    volume = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "CBCT")
    parameters.volume, parameters.way, parameters.limit = volume, Way.DOWN, 4
    parameters.names, parameters.counts, parameters.path = ["a"], {"b": 2}, pathlib.Path("/c")
    assert (parameters.volume, parameters.way, parameters.limit) == (volume, Way.DOWN, 4)
    assert (parameters.names, parameters.counts, parameters.path) == (["a"], {"b": 2}, pathlib.Path("/c"))
    with pytest.raises(ValueError, match="not within"):
        parameters.share = 2.0
    with pytest.raises(TypeError):
        parameters.limit = "four"


def test_widgets_are_bound_by_their_parameter_name(parameters, qt):
    class Ui:
        pass

    ui = Ui()
    ui.loud, ui.way = qt.QCheckBox(), qt.QComboBox()
    ui.loud.setProperty("SlicerParameterName", "loud")
    ui.way.setProperty("SlicerParameterName", "way")
    tag = parameters.connectGui(ui)
    assert ui.loud.checked and [ui.way.itemText(n) for n in range(ui.way.count)] == ["go up", "go down"]
    ui.loud.checked = False
    parameters.way = Way.DOWN
    assert not parameters.loud and ui.way.currentText == "go down"
    parameters.disconnectGui(tag)
    ui.loud.checked = True
    assert not parameters.loud


def test_without_a_main_window_there_is_none_and_no_layout(application, slicer, scene):
    assert slicer.util.mainWindow() is not None
    application.setMainWindow(False)
    assert slicer.util.mainWindow() is None and slicer.app.layoutManager() is None
    assert slicer.app.commandOptions().noMainWindow


def test_the_module_is_found_by_name_and_its_cpp_logic_knows_no_python(makeWidget, slicer):
    widget = makeWidget()
    assert slicer.util.getModuleLogic("ToothTopoSeg") is widget.logic
    assert not hasattr(slicer.modules.toothtoposeg.logic(), "segment")


def test_settings_the_clipboard_and_pictures_from_svg_work(application, qt, scene):
    application.userSettings().setValue("ToothTopoSeg/x", "1")
    assert application.userSettings().value("ToothTopoSeg/x") == "1"
    application.clipboard().setText("told")
    assert application.clipboard().text() == "told"
    pixmap = qt.QPixmap()
    assert pixmap.loadFromData(b'<svg xmlns="http://www.w3.org/2000/svg" width="4" height="4"/>')
    assert pixmap.width() == 4


def test_python_threads_run_while_events_are_handled(process_events):
    done = threading.Event()
    threading.Thread(target=done.set).start()
    assert process_events(done.is_set, seconds=5)


def test_a_fault_in_a_slot_is_noted(qt, monkeypatch):
    noted = []
    monkeypatch.setattr("sys.excepthook", lambda kind, error, trace: noted.append(str(error)))
    button = qt.QPushButton()
    button.clicked.connect(lambda: 1 / 0)
    button.click()
    assert noted == ["division by zero"]
