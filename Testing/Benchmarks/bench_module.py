"""What the Slicer module takes: to open, to show a result of 400 x 400 x 400 voxels, and of the GUI thread.

usage: .venv/bin/python Testing/Benchmarks/bench_module.py [--size N] [--steps]

The module runs in the harness of Testing/Gui: real MRML and real closed surfaces, but no rendering. The GUI thread is
watched by a timer of 5 ms while the background process segments a phantom and while a result comes into the scene;
what is printed is the longest time without a beat. ``--steps`` prints the longest steps of showing.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "Testing" / "Benchmarks")]
HEAVY = ("onnxruntime", "torch", "numpy", "scipy", "SimpleITK")


class Beat:
    """A timer that notes the seconds between two of its beats."""

    def __init__(self) -> None:
        import qt

        self.longest, self._last = 0.0, time.perf_counter()
        self.timer = qt.QTimer()
        self.timer.setInterval(5)
        self.timer.connect("timeout()", self._tick)
        self.timer.start()

    def _tick(self) -> None:
        now = time.perf_counter()
        self.longest, self._last = max(self.longest, now - self._last), now

    def restart(self) -> None:
        self.longest, self._last = 0.0, time.perf_counter()


def open_module(folder: Path) -> Any:
    """Start the harness and open the module; prints what opening takes and what it imports."""
    from Testing.Gui import harness

    application = harness.start(folder)
    import slicer

    from Testing.Gui.harness.application import new_scene, qSlicerScriptedLoadableModule

    application.kept = new_scene(folder)
    before = set(sys.modules)
    began = time.perf_counter()
    module = qSlicerScriptedLoadableModule(ROOT / "ToothTopoSeg" / "ToothTopoSeg.py")
    loaded = time.perf_counter()
    slicer.modules.scripted["toothtoposeg"] = module
    widget = module.widgetRepresentation().self()
    widget.enter()
    application.processEvents()
    ended = time.perf_counter()
    heavy = [name for name in HEAVY if name in set(sys.modules) - before]
    print(f"load the module's file: {loaded - began:.3f} s; open the module: {ended - loaded:.3f} s")
    print(f"heavy packages imported by both: {', '.join(heavy) or 'none'}")
    return widget


def volume_node(array: Any, spacing: float, name: str) -> Any:
    """A volume node of an array (z, y, x) whose axes are those of LPS."""
    import slicer

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    slicer.util.updateVolumeFromArray(node, array)
    node.SetIJKToRASDirections(-1, 0, 0, 0, -1, 0, 0, 0, 1)
    node.SetSpacing(spacing, spacing, spacing)
    return node


def wait(until: Callable[[], bool]) -> None:
    """Handle events until a condition holds."""
    import slicer

    while not until():
        slicer.app.processEvents()
        time.sleep(0.001)


def resident_mb() -> float:
    """Memory of this process in MB (Linux; 0 elsewhere)."""
    told = Path("/proc/self/statm")
    return int(told.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6 if told.exists() else 0.0


def show_result(widget: Any, size: int, beat: Beat, steps: bool) -> None:
    """A finished label map of a background job to nodes with closed surfaces, as the panel does it."""
    import numpy as np
    from bench_check import EXTENT_MM, label_map
    from ToothTopoSegGui.worker import boxes_of

    labels = label_map(size)
    node = volume_node(np.zeros(labels.array.shape, np.int16), EXTENT_MM / size, "CBCT")
    panel = widget.panel("SegmentPanel")
    folder = Path(tempfile.mkdtemp())
    np.save(folder / "labels.npy", labels.array)
    result = {"boxes": boxes_of(labels.array)}
    panel._volume = node
    took: list[tuple[float, float]] = []
    step = panel._step

    def timed() -> None:
        began = time.perf_counter()
        step()
        took.append((time.perf_counter() - began, len(took)))
        most.append(resident_mb())

    panel._stepTimer.disconnect("timeout()", step)
    panel._stepTimer.connect("timeout()", timed)
    beat.restart()
    began, cpu, memory = time.perf_counter(), time.process_time(), resident_mb()
    most = [memory]
    panel._showTeeth(result, folder)
    first = time.perf_counter() - began
    wait(lambda: not panel.running)
    took_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu
    print(f"{size}^3 voxels, {len(result['boxes'])} labels to nodes with closed surfaces: {took_s:.2f} s")
    print(f"  processor {cpu_s:.2f} s; longest time without events {beat.longest:.3f} s")
    growth = max(most) - memory
    print(f"  memory grew by {growth:.0f} MB at most, {growth / (labels.array.nbytes / 1e6):.1f} times the label map")
    if steps:
        print(f"  before the first step {first:.3f} s; longest steps:", sorted(took, reverse=True)[:5])


def watch_a_run(widget: Any, beat: Beat) -> None:
    """The GUI thread while the background process segments a phantom."""
    from ToothTopoSegLib.phantom.write import make_phantom

    phantom = make_phantom(3).scan
    node = volume_node(phantom.array, phantom.spacing[0], "Phantom")
    panel = widget.panel("SegmentPanel")
    panel._parameterNode.inputVolume = node
    beat.restart()
    began = time.perf_counter()
    panel.apply()
    wait(lambda: panel._job is None or panel.ui.progressBar.value > 0)
    print(f"from Apply to the first progress: {time.perf_counter() - began:.2f} s")
    wait(lambda: panel._job is None)
    print(f"a job of {time.perf_counter() - began:.0f} s on {phantom.array.shape} voxels")
    print(f"  longest time without events while it ran: {beat.longest:.3f} s")
    beat.restart()
    wait(lambda: not panel.running)
    print(f"  and while its result came into the scene: {beat.longest:.3f} s")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=400, help="voxels along each side (default: 400)")
    parser.add_argument("--steps", action="store_true", help="print the longest steps of showing")
    options = parser.parse_args()
    os.environ["TOOTHTOPOSEG_PYTHON"] = sys.executable
    widget = open_module(Path(tempfile.mkdtemp()))
    beat = Beat()
    watch_a_run(widget, beat)
    show_result(widget, options.size, beat, options.steps)
    sys.stdout.flush()
    os._exit(0)  # Qt and VTK are not taken down in an order of their own


if __name__ == "__main__":
    main()
