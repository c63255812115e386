"""What the application adds to ``slicer``: ``slicer.app``, the modules' logics, and the classes of a scripted module.

``slicer.util`` is Slicer's own, as slicer-core brings it. A dialog that would wait for a person is an error here, until
a test answers it by replacing the function of ``slicer.util`` that asks.
"""

from __future__ import annotations

import importlib
import unittest
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import slicer
import slicer.util

from Testing.Gui.harness import mrml_widgets
from Testing.Gui.harness.pythonqt import QtCore, QtGui, QtWidgets

LOGICS = {
    "cameras": "vtkSlicerCamerasModuleLogic",
    "segmentations": "vtkSlicerSegmentationsModuleLogic",
    "subjecthierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
    "markups": "vtkSlicerMarkupsLogic",
    "tables": "vtkSlicerTablesLogic",
    "volumes": "vtkSlicerVolumesLogic",
    "sequences": "vtkSlicerSequencesLogic",
    "plots": "vtkSlicerPlotsLogic",
}


class Strict:
    """An object of which only what the harness supplies can be asked."""

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"the harness supplies no {type(self).__name__}.{name}")


class CommandOptions(Strict):
    """The command line: ``noMainWindow``."""

    noMainWindow = False
    runPythonAndExit = False


class ThreeDView(Strict):
    """A 3D view; counts how often it was centred."""

    def __init__(self) -> None:
        self.centred = 0

    def resetFocalPoint(self) -> None:
        """Look at the middle of all that is shown."""
        self.centred += 1

    def resetCamera(self, *_: Any) -> None:
        """Fit all that is shown."""


class LayoutManager(Strict):
    """The views; ``layout`` is what the user chose."""

    threeDViewCount = 1

    def __init__(self) -> None:
        self.layout = 4
        self.view = ThreeDView()

    def threeDWidget(self, index: int) -> Any:
        """The widget of a 3D view."""
        assert 0 <= index < self.threeDViewCount
        return self

    def threeDView(self) -> ThreeDView:
        """The view in a widget."""
        return self.view

    def resetThreeDViews(self) -> None:
        """Centre all 3D views."""
        self.view.resetFocalPoint()


class qSlicerScriptedLoadableModuleWidget(mrml_widgets.qMRMLWidget):  # noqa: N801
    """The C++ widget around a module's Python widget."""

    def __init__(self) -> None:
        super().__init__()
        self.setLayout(QtWidgets.QVBoxLayout())
        self._python: Any = None

    def self(self) -> Any:
        """The Python widget."""
        return self._python


class qSlicerScriptedLoadableModule(Strict):  # noqa: N801
    """A scripted module as the application sees it, loaded from its file; ``logic()`` knows no Python methods."""

    def __init__(self, path: Path) -> None:
        self.path, self.name = str(path), path.stem
        self.title, self.categories, self.dependencies, self.contributors = "", [], [], []
        self.helpText = self.acknowledgementText = ""
        self.icon: Any = None
        self._widget: Any = None
        self.python = getattr(importlib.import_module(self.name), self.name)(self)

    def logic(self) -> Any:
        """The generic C++ logic."""
        return slicer.vtkSlicerScriptedLoadableModuleLogic()

    def widgetRepresentation(self) -> Any:
        """The widget, made and set up on the first call."""
        if self._widget is None:
            self._widget = qSlicerScriptedLoadableModuleWidget()
            self._widget.setMRMLScene(slicer.mrmlScene)
            make = getattr(importlib.import_module(self.name), f"{self.name}Widget")
            self._widget._python = make(self._widget)
            self._widget._python.setup()
        return self._widget

    def unload(self) -> None:
        """What the application does with the widget when it ends."""
        if self._widget is not None:
            slicer.app.moduleManager().moduleAboutToBeUnloaded.emit(self.name)
            self._widget.deleteLater()
            self._widget = None


class ModuleManager(QtCore.QObject):
    """The modules by name."""

    moduleAboutToBeUnloaded = QtCore.Signal(str)

    def module(self, name: str) -> Any:
        """A scripted module or None."""
        return slicer.modules.scripted.get(name.lower())


class _CppModule(Strict):
    def __init__(self, logic: Any) -> None:
        self._logic = logic

    def logic(self) -> Any:
        return self._logic


class Modules:
    """``slicer.modules``: modules by their name in small letters."""

    def __init__(self) -> None:
        self.scripted: dict[str, Any] = {}
        self.logics: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        if name in self.scripted:
            return self.scripted[name]
        if name in self.logics:
            return _CppModule(self.logics[name])
        raise AttributeError(f"the harness supplies no slicer.modules.{name}")


class Application(QtWidgets.QApplication):
    """``slicer.app``."""

    startupCompleted = QtCore.Signal()

    applicationName, applicationVersion, revision = "Slicer", "5.10.0", "33000"

    def __init__(self, folder: Path) -> None:
        super().__init__(["Slicer"])
        self.temporaryPath = str(folder / "temporary")
        self.extensionsInstallPath = str(folder / "extensions")
        self.slicerHome = str(folder)
        Path(self.temporaryPath).mkdir()
        self._settings = QtCore.QSettings(str(folder / "Slicer.ini"), QtCore.QSettings.IniFormat)
        self._options, self._layouts, self._manager = CommandOptions(), LayoutManager(), ModuleManager()
        self._logic: Any = None
        self.environment = QtCore.QProcessEnvironment.systemEnvironment()
        self.window = QtWidgets.QMainWindow()
        self.window.objectName = "qSlicerMainWindow"

    def commandOptions(self) -> CommandOptions:
        """How Slicer was started."""
        return self._options

    def testingEnabled(self) -> bool:
        """Whether Slicer was started with --testing."""
        return False

    def layoutManager(self) -> LayoutManager | None:
        """The views; none without a main window."""
        return None if self._options.noMainWindow else self._layouts

    def moduleManager(self) -> ModuleManager:
        """The modules."""
        return self._manager

    def userSettings(self) -> Any:
        """The settings of the user."""
        return self._settings

    def settings(self) -> Any:
        """The settings of this revision."""
        return self._settings

    def startupEnvironment(self) -> Any:
        """The environment without Slicer's own variables."""
        return self.environment

    def applicationLogic(self) -> Any:
        """The logic of the application."""
        return self._logic

    def mrmlScene(self) -> Any:
        """The scene."""
        return slicer.mrmlScene

    def setMainWindow(self, there: bool) -> None:
        """For the tests: with a main window, or as with --no-main-window."""
        self._options.noMainWindow = not there
        self.window.objectName = "qSlicerMainWindow" if there else "none"


def new_scene(cache: Path) -> list[Any]:
    """Make ``slicer.mrmlScene`` a new scene in which the modules' nodes are registered; what must be kept alive."""
    scene = slicer.vtkMRMLScene()
    files, manager = slicer.vtkDataIOManager(), slicer.vtkCacheManager()
    manager.SetRemoteCacheDirectory(str(cache))
    files.SetCacheManager(manager)
    scene.SetDataIOManager(files)
    logic = slicer.vtkSlicerApplicationLogic()
    logic.SetMRMLScene(scene)
    slicer.mrmlScene, slicer.app._logic = scene, logic
    slicer.modules.logics = {}
    for name, class_name in LOGICS.items():
        made = getattr(slicer, class_name)()
        made.SetMRMLApplicationLogic(logic)
        made.SetMRMLScene(scene)
        slicer.modules.logics[name] = made
    # Told of a scene, it would look for files that only the application has.
    slicer.modules.logics["terminologies"] = slicer.vtkSlicerTerminologiesModuleLogic()
    return [files, manager, logic]


class ScriptedLoadableModule:
    """Base of a module; its icon is ``Resources/Icons/<name>.png`` beside its file."""

    def __init__(self, parent: Any) -> None:
        self.parent, self.moduleName = parent, type(self).__name__
        icon = Path(parent.path).parent / "Resources" / "Icons" / f"{self.moduleName}.png"
        if icon.is_file():
            parent.icon = QtGui.QIcon(str(icon))

    def resourcePath(self, name: str) -> str:
        """Path of a file in the module's Resources."""
        return str(Path(self.parent.path).parent / "Resources" / name)


class ScriptedLoadableModuleWidget:
    """Base of a module's widget."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__()
        self.moduleName = type(self).__name__.removesuffix("Widget")
        self.developerMode = False
        self.parent = parent
        self.layout = parent.layout()
        slicer.app.moduleManager().connect("moduleAboutToBeUnloaded(QString)", self._onModuleAboutToBeUnloaded)

    def resourcePath(self, name: str) -> str:
        """Path of a file in the module's Resources."""
        return str(Path(slicer.util.modulePath(self.moduleName)).parent / "Resources" / name)

    def setup(self) -> None:
        """Make the developer's section, which is not shown here."""

    def cleanup(self) -> None:
        """Called before the module is unloaded."""

    def _onModuleAboutToBeUnloaded(self, name: str) -> None:
        if name == self.moduleName:
            self.cleanup()
            slicer.app.moduleManager().disconnect("moduleAboutToBeUnloaded(QString)", self._onModuleAboutToBeUnloaded)


class ScriptedLoadableModuleLogic:
    """Base of a module's logic, with a parameter node that is single in its scene."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__()
        self.moduleName = type(self).__name__.removesuffix("Logic")
        self.isSingletonParameterNode = True

    def getParameterNode(self) -> Any:
        """The parameter node of the scene, made where there is none."""
        node = slicer.mrmlScene.GetSingletonNode(self.moduleName, "vtkMRMLScriptedModuleNode")
        if node is None:
            return slicer.mrmlScene.AddNode(self.createParameterNode())
        node.SetAttribute("ModuleName", self.moduleName)
        return node

    def createParameterNode(self) -> Any:
        """A new parameter node."""
        node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLScriptedModuleNode")
        node.UnRegister(None)
        node.SetSingletonTag(self.moduleName)
        node.SetAttribute("ModuleName", self.moduleName)
        node.SetName(slicer.mrmlScene.GenerateUniqueName(self.moduleName))
        return node


class ScriptedLoadableModuleTest(unittest.TestCase):
    """Base of a module's tests."""

    def delayDisplay(self, message: str, requestedDelay: Any = None, msec: Any = None) -> None:
        """Show a message while the test runs; here only events are handled."""
        slicer.app.processEvents()

    def runTest(self) -> None:
        """Run all tests of the class."""
        for name in [name for name in dir(self) if name.startswith("test")]:
            self.setUp()
            getattr(self, name)()
            self.tearDown()


def tr(text: str) -> str:
    """The text in the user's language: English here."""
    if not isinstance(text, str):
        raise TypeError(f"a text to translate is a str, not {type(text).__name__}")
    return text


def translate(context: str, text: str) -> str:
    """The text of a context in the user's language."""
    return tr(text)


def unanswered(text: str, *arguments: Any, **options: Any) -> Any:
    """In place of a dialog."""
    raise AssertionError(f"a dialog that nobody answers: {text}")


def module_of(name: str, **content: Callable[..., Any]) -> ModuleType:
    """A module with this content."""
    module = ModuleType(name)
    vars(module).update(content)
    return module
