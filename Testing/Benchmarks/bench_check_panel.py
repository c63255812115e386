"""How long the panel Check holds Slicer up: 32 teeth in 400 x 400 x 400 voxels with faults, on real nodes.

usage: .venv/bin/python Testing/Benchmarks/bench_check_panel.py [--size N]

Checks, chooses every finding, repairs one, shows before and after, undoes, and prints for each the whole time and the
longest stretch in the main thread, in which Slicer does not answer. It takes slicer-core, no window.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "ToothTopoSeg"))

import slicer
import vtk
from bench_check import damaged, label_map
from ToothTopoSegGui import nodes
from ToothTopoSegGui.check_logic import CheckLogic
from ToothTopoSegGui.steps import PATIENCE_S, Background


def make_scene() -> tuple[object, list[object]]:
    """A scene with the logics that the panel needs, as ``slicer.mrmlScene``."""
    scene, application = slicer.vtkMRMLScene(), slicer.vtkSlicerApplicationLogic()
    application.SetMRMLScene(scene)
    kept: list[object] = [application]
    for name in ("SegmentationsModule", "SubjectHierarchyModule", "Markups", "Tables", "Volumes"):
        logic = getattr(slicer, f"vtkSlicer{name}Logic")()
        logic.SetMRMLApplicationLogic(application)
        logic.SetMRMLScene(scene)
        kept.append(logic)
    markups = kept[3]
    slicer.mrmlScene, slicer.modules = scene, SimpleNamespace(markups=SimpleNamespace(logic=lambda: markups))
    return scene, kept


def make_teeth(scene: object, size: int) -> tuple[object, object]:
    """The damaged teeth as a segmentation with surfaces, and an empty scan."""
    labels = damaged(label_map(size))
    image = vtk.vtkImageData()
    image.SetDimensions(*labels.array.shape[::-1])
    image.AllocateScalars(vtk.VTK_SHORT, 1)
    image.GetPointData().GetScalars().Fill(0)
    scan = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "CBCT")
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy(np.diag([-labels.spacing[2], -labels.spacing[1], labels.spacing[0], 1.0]).ravel())
    scan.SetIJKToRASMatrix(matrix)
    scan.SetAndObserveImageData(image)
    grid = nodes.volume_of(scan, copy=False)
    return nodes.show_teeth(grid.with_array(labels.array), scan, "Teeth", closed_surface=True), scan


def timed(name: str, steps: object) -> object:
    """Do work as the panel does it, and print how long it took and held up the main thread."""
    began, longest, work = time.perf_counter(), 0.0, Background(steps)
    while not work.is_done:
        start = time.perf_counter()
        waited = PATIENCE_S if work.is_computing else 0.0
        work.advance()
        longest = max(longest, time.perf_counter() - start - waited)
    if work.error is not None:
        raise work.error
    print(f"{name:<34} {time.perf_counter() - began:8.2f} s   longest stretch {longest:6.3f} s")
    return work.result


def now(name: str, work: object) -> None:
    start = time.perf_counter()
    work()  # type: ignore[operator]
    print(f"{name:<34} {time.perf_counter() - start:8.3f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=400)
    size = parser.parse_args().size
    scene, kept = make_scene()
    node, scan = make_teeth(scene, size)
    logic = CheckLogic()
    timed(f"check of {size}^3 with its scan", logic.checkSteps(node, scan))
    rows = logic.reviewed(node)
    print(f"{len(rows)} findings")
    slowest = 0.0
    for row in rows:
        start = time.perf_counter()
        logic.showFinding(node, row.finding.id)
        slowest = max(slowest, time.perf_counter() - start)
    print(f"{'choosing a finding, the slowest':<34} {slowest:8.3f} s")
    mendable = next(row.finding.id for row in rows if row.finding.repair)
    print("repaired", timed("repair of one finding", logic.repairSteps(node, mendable)))
    now("show before", lambda: logic.showBefore(node, True))
    now("show after", lambda: logic.showBefore(node, False))
    timed("undo and check again", logic.undoRepairSteps(node))
    del kept


if __name__ == "__main__":
    main()
