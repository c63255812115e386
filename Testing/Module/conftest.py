"""Fixtures of the module's tests on real MRML nodes: slicer-core, a scene with the logics it needs, small volumes.

slicer-core (PyPI) is 3D Slicer's MRML without the application; it brings the vtk it was built with.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

# Slicer puts the folder of the module on the path, and so do we.
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "ToothTopoSeg"))

MakeVolume = Callable[..., Any]


@pytest.fixture(scope="session")
def slicer_core() -> ModuleType:
    """The package slicer; missing is a failure in CI and a skip elsewhere."""
    try:
        slicer = importlib.import_module("slicer")
        _ = slicer.vtkMRMLScene
        return slicer
    except (ImportError, AttributeError) as error:
        message = f"Slicer's MRML is not installed ({error}); run ./toothtopo test, which installs it"
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(message)
        pytest.skip(message)


@pytest.fixture(scope="session")
def vtk(slicer_core: ModuleType) -> ModuleType:
    """The vtk that slicer-core brings; imported here, so that no test needs it where slicer-core is missing."""
    importlib.import_module("vtk.util.numpy_support")
    return importlib.import_module("vtk")


@pytest.fixture(scope="session")
def nodes(slicer_core: ModuleType) -> ModuleType:
    """The adapter of volumes and segmentations."""
    return importlib.import_module("ToothTopoSegGui.nodes")


@pytest.fixture(scope="session")
def finding_nodes(slicer_core: ModuleType) -> ModuleType:
    """The adapter of findings."""
    return importlib.import_module("ToothTopoSegGui.finding_nodes")


@pytest.fixture
def new_scene(slicer_core: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Any]:
    """Makes scenes in which the modules' nodes are registered, as the application does at its start."""
    kept: list[Any] = []

    def make() -> Any:
        scene = slicer_core.vtkMRMLScene()
        files, cache = slicer_core.vtkDataIOManager(), slicer_core.vtkCacheManager()
        cache.SetRemoteCacheDirectory(str(tmp_path_factory.mktemp("cache")))
        files.SetCacheManager(cache)
        scene.SetDataIOManager(files)
        application = slicer_core.vtkSlicerApplicationLogic()
        application.SetMRMLScene(scene)
        kept.append(application)
        for name in ("SegmentationsModule", "SubjectHierarchyModule", "Markups", "Tables", "Volumes", "Sequences"):
            logic = getattr(slicer_core, f"vtkSlicer{name}Logic")()
            logic.SetMRMLApplicationLogic(application)
            logic.SetMRMLScene(scene)
            kept.append(logic)
        return scene

    return make


@pytest.fixture
def scene(new_scene: Callable[[], Any]) -> Any:
    """A scene such as the application has."""
    return new_scene()


@pytest.fixture
def make_volume(vtk: ModuleType, scene: Any) -> MakeVolume:
    """Adds a volume node: array (z, y, x), spacing (i, j, k), RAS directions of the axes as columns, RAS origin."""
    numpy_to_vtk = importlib.import_module("vtk.util.numpy_support").numpy_to_vtk

    def make(
        array: Any,
        spacing: Any = (1.0, 1.0, 1.0),
        directions: Any = None,
        origin: Any = (0.0, 0.0, 0.0),
        name: str = "CBCT",
        kind: str = "vtkMRMLScalarVolumeNode",
    ) -> Any:
        image = vtk.vtkImageData()
        image.SetDimensions(*array.shape[2::-1])
        image.GetPointData().SetScalars(numpy_to_vtk(array.reshape(-1, *array.shape[3:]), deep=True))
        matrix = np.eye(4)
        matrix[:3, :3] = (np.eye(3) if directions is None else np.asarray(directions)) * np.asarray(spacing)
        matrix[:3, 3] = origin
        ijk_to_ras = vtk.vtkMatrix4x4()
        ijk_to_ras.DeepCopy(matrix.ravel())
        node = scene.AddNewNodeByClass(kind, name)
        node.SetIJKToRASMatrix(ijk_to_ras)
        node.SetAndObserveImageData(image)
        return node

    return make


@pytest.fixture
def make_transform(vtk: ModuleType, scene: Any) -> Callable[[Any], Any]:
    """Adds a linear transform node of a 4 x 4 matrix."""

    def make(matrix: Any) -> Any:
        values = vtk.vtkMatrix4x4()
        values.DeepCopy(np.asarray(matrix, float).ravel())
        node = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Moved")
        node.SetMatrixTransformToParent(values)
        return node

    return make


@pytest.fixture
def make_segmentation(slicer_core: ModuleType, vtk: ModuleType, scene: Any) -> Callable[..., Any]:
    """Adds a segmentation node with a layer for each of ``layers``: (array, {name: label value})."""
    numpy_to_vtk = importlib.import_module("vtk.util.numpy_support").numpy_to_vtk

    def make(*layers: Any, like: Any = None, name: str = "Drawn") -> Any:
        node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
        if like is not None:
            node.SetReferenceImageGeometryParameterFromVolumeNode(like)
        for array, members in layers:
            image = slicer_core.vtkOrientedImageData()
            image.SetDimensions(*array.shape[::-1])
            image.GetPointData().SetScalars(numpy_to_vtk(array.reshape(-1), deep=True))
            if like is not None:
                matrix = vtk.vtkMatrix4x4()
                like.GetIJKToRASMatrix(matrix)
                image.SetGeometryFromImageToWorldMatrix(matrix)
            for segment_name, value in members.items():
                segment = slicer_core.vtkSegment()
                segment.SetName(segment_name)
                segment.SetLabelValue(value)
                segment.AddRepresentation("Binary labelmap", image)
                node.GetSegmentation().AddSegment(segment)
        return node

    return make


@pytest.fixture
def teeth_array() -> Any:
    """A label map (z, y, x) of 20 x 24 x 28 voxels: the teeth 11, 36 and 37 as blocks, the lower jaw under them."""
    array = np.zeros((20, 24, 28), np.uint8)
    array[2:6, 2:22, 2:26] = 101
    array[4:12, 4:10, 4:10] = 36
    array[4:12, 4:10, 10:16] = 37
    array[13:19, 10:16, 16:20] = 11
    return array


@pytest.fixture(scope="session")
def oblique() -> Any:
    """Three axes at right angles that lie along no axis of the patient, as columns."""
    return np.linalg.qr(np.array([[0.9, 0.1, -0.3], [0.2, 0.8, 0.4], [0.3, -0.4, 0.7]]))[0]


@pytest.fixture
def scan(make_volume: MakeVolume, teeth_array: Any, oblique: Any) -> Any:
    """An empty scan on an oblique, anisotropic grid of the size of ``teeth_array``."""
    return make_volume(np.zeros(teeth_array.shape, np.int16), (0.3, 0.4, 0.5), oblique, (10, -20, 30))


@pytest.fixture
def labels(nodes: ModuleType, scan: Any, teeth_array: Any) -> Any:
    """``teeth_array`` as a label map on the grid of ``scan``."""
    return nodes.volume_of(scan).with_array(teeth_array)


@pytest.fixture
def faulty_array() -> Any:
    """A label map (z, y, x) at 0.5 mm: 36 and 46, round, with a void each, a crumb of 36, the lower jaw beneath."""
    array = np.zeros((48, 40, 90), np.uint8)
    array[2:8, 4:36, 4:86] = 101
    z, y, x = np.mgrid[:48, :40, :90]
    for tooth, middle in ((36, 20), (46, 70)):
        array[((x - middle) / 10) ** 2 + ((y - 20) / 9) ** 2 + ((z - 24) / 18) ** 2 < 1] = tooth
        array[22:26, 18:22, middle - 2 : middle + 2] = 0
    array[30:34, 16:20, 43:46] = 36
    return array


@pytest.fixture
def faulty(nodes: ModuleType, make_volume: MakeVolume, faulty_array: Any) -> Any:
    """``faulty_array`` as our segmentation node, beside an empty scan named CBCT."""
    scan = make_volume(np.zeros(faulty_array.shape, np.int16), (0.5, 0.5, 0.5), origin=(10, -20, 30))
    return nodes.show_teeth(nodes.volume_of(scan).with_array(faulty_array), scan, "Teeth", closed_surface=True)


@pytest.fixture
def check_logic(slicer_core: ModuleType) -> Any:
    """The part of the module's logic that checks and repairs."""
    return importlib.import_module("ToothTopoSegGui.check_logic").CheckLogic()
