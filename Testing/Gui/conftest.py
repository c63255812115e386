"""Fixtures of the tests of the panels; :mod:`Testing.Gui.harness` tells how to use them."""

from __future__ import annotations

import gc
import importlib
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
FAULTS: list[str] = []


@pytest.fixture(scope="session")
def application(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """``slicer.app``; missing packages are a failure in CI and a skip elsewhere."""
    try:
        harness = importlib.import_module("Testing.Gui.harness")
        started = harness.start(tmp_path_factory.mktemp("slicer"))
    except ImportError as error:
        message = f"PySide6 or Slicer's MRML is not installed ({error}); run ./toothtopo test, which installs both"
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(message)
        pytest.skip(message)
    yield started
    started.processEvents()


@pytest.fixture(scope="session")
def slicer(application: Any) -> ModuleType:
    """The package slicer with what the application adds to it."""
    return importlib.import_module("slicer")


@pytest.fixture(scope="session")
def qt(application: Any) -> ModuleType:
    """The module qt."""
    return importlib.import_module("qt")


@pytest.fixture(scope="session")
def ctk(application: Any) -> ModuleType:
    """The module ctk."""
    return importlib.import_module("ctk")


@pytest.fixture(autouse=True)
def no_silent_faults(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An exception that Qt or VTK swallows fails the test."""
    FAULTS.clear()

    def note(kind: type[BaseException], error: BaseException, trace: Any) -> None:
        FAULTS.append(f"{kind.__name__}: {error}")
        sys.__excepthook__(kind, error, trace)

    monkeypatch.setattr(sys, "excepthook", note)
    yield
    assert not FAULTS, f"exceptions in slots or observers: {FAULTS}"


@pytest.fixture
def scene(application: Any, slicer: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A new ``slicer.mrmlScene``."""
    make = importlib.import_module("Testing.Gui.harness.application").new_scene
    kept = make(tmp_path_factory.mktemp("cache"))
    application.setMainWindow(True)
    application.userSettings().clear()
    yield slicer.mrmlScene
    slicer.mrmlScene.Clear(1)
    kept.clear()
    gc.collect()


@pytest.fixture
def makeWidget(scene: Any, application: Any, slicer: ModuleType) -> Iterator[Callable[[], Any]]:
    """Makes the module's widget as Slicer does when the user opens the module; it is cleaned up at the end."""
    module = importlib.import_module("Testing.Gui.harness.application").qSlicerScriptedLoadableModule

    def make() -> Any:
        if "toothtoposeg" not in slicer.modules.scripted:
            importlib.import_module("ToothTopoSeg")
            slicer.modules.scripted["toothtoposeg"] = module(ROOT / "ToothTopoSeg" / "ToothTopoSeg.py")
        widget = slicer.modules.toothtoposeg.widgetRepresentation().self()
        widget.parent.resize(460, 900)
        widget.parent.show()
        widget.enter()
        application.processEvents()
        return widget

    yield make
    if "toothtoposeg" in slicer.modules.scripted:
        slicer.modules.scripted.pop("toothtoposeg").unload()
    application.processEvents()


@pytest.fixture
def process_events(application: Any) -> Callable[..., bool]:
    """Handles events until a condition holds; whether it came to hold within ``seconds``."""

    def wait(until: Callable[[], Any] = lambda: False, seconds: float = 10.0) -> bool:
        end = time.monotonic() + seconds
        while not until():
            if time.monotonic() > end:
                return False
            application.processEvents()
            time.sleep(0.005)
        return True

    return wait


@pytest.fixture
def screenshot(tmp_path: Path, application: Any) -> Callable[[Any, str], Path]:
    """Writes a picture of a widget as PNG into the folder TOOTHTOPO_SCREENSHOTS, or the folder of the test."""

    def take(widget: Any, name: str) -> Path:
        folder = Path(os.environ.get("TOOTHTOPO_SCREENSHOTS", tmp_path))
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{re.sub(r'[^a-z0-9_]+', '_', name.lower())}.png"
        application.processEvents()
        assert widget.grab().save(str(path)), f"no picture could be written to {path}"
        return path

    return take


@pytest.fixture(autouse=True)
def interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Background processes run in the Python of the tests, as PythonSlicer would."""
    monkeypatch.setenv("TOOTHTOPOSEG_PYTHON", sys.executable)


@pytest.fixture(scope="session")
def phantom() -> tuple[Any, Any]:
    """A small scan of both jaws as Volume, 64 x 80 x 84 voxels of 1 mm, and its true labels."""
    from ToothTopoSegLib.phantom.write import make_small_phantom

    made = make_small_phantom(seed=3)
    return made.scan, made.labels


@pytest.fixture
def add_volume(scene: Any, slicer: ModuleType) -> Callable[..., Any]:
    """Adds a volume node of an array (z, y, x), its axes those of LPS, with voxels of ``spacing`` mm."""

    def add(array: Any, name: str = "CBCT", spacing: float = 1.0, kind: str = "vtkMRMLScalarVolumeNode") -> Any:
        node = scene.AddNewNodeByClass(kind, name)
        slicer.util.updateVolumeFromArray(node, array)
        node.SetIJKToRASDirections(-1, 0, 0, 0, -1, 0, 0, 0, 1)
        node.SetSpacing(spacing, spacing, spacing)
        return node

    return add


@pytest.fixture
def tag_of(application: Any) -> Callable[[Any, str], str]:
    """The value of a tag of a segment, "" where it has none."""
    vtk = importlib.import_module("vtk")

    def value(segment: Any, name: str) -> str:
        found = vtk.reference("")
        segment.GetTag(name, found)
        return str(found)

    return value


@pytest.fixture
def cbct(phantom: tuple[Any, Any], add_volume: Callable[..., Any]) -> Any:
    """The volume node of the small scan."""
    return add_volume(phantom[0].array)
