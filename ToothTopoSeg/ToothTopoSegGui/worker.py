"""What the background process runs: ``PythonSlicer -m ToothTopoSegGui.worker FOLDER``.

FOLDER holds ``request.json`` (a task and its arguments) and the arrays it needs, as :mod:`ToothTopoSegGui.job` writes
them. Each line of standard output is one JSON object: {"event": "progress", "fraction", "message"}, {"event": "point",
"values"}, {"event": "first", ...} for a result that a better one follows, and at the end {"event": "result", ...} or
{"event": "error", "message", "details"}. On standard input come the words hello, pause, resume and stop; where it
closes after a hello, Slicer is gone and the process ends. No Slicer, no Qt.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from ToothTopoSegLib.imaging.volume import Volume

_INTERNAL = "The computation failed by an error of the program ({error}); copy the diagnostics and report them."
_BROKEN = (
    "The Python package {name} cannot be loaded ({error}): its installation is broken. Install it again: in Slicer's "
    "Python console, slicer.util.pip_install('--force-reinstall {name}')."
)


class Reporter:
    """Tells the parent what goes on."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def tell(self, event: str, **content: Any) -> None:
        """Send one message."""
        with self._lock:
            self._stream.write(json.dumps({"event": event, **content}) + "\n")
            self._stream.flush()

    def progress(self, fraction: float, message: str) -> None:
        """The engine's progress callback."""
        self.tell("progress", fraction=float(fraction), message=message)


class Control:
    """What the parent wants: the task asks :meth:`go_on` between two steps."""

    def __init__(self) -> None:
        self._going = threading.Event()
        self._going.set()
        self._stopped = False

    def obey(self, word: str) -> None:
        """Take a word of the parent."""
        if word == "pause":
            self._going.clear()
        elif word in ("resume", "stop"):
            self._stopped |= word == "stop"
            self._going.set()

    def go_on(self) -> bool:
        """Wait while paused; False where the task shall come to its end."""
        self._going.wait()
        return not self._stopped


def segment(folder: Path, arguments: dict[str, Any], reporter: Reporter, control: Control) -> dict[str, Any]:
    """Segment ``volume.npy``; writes ``labels.npy`` (FDI, uint8) on the same grid and tells the box of each label.

    The first labels, where better ones follow, are written as ``first.npy`` and told by an event of that name.
    """
    import numpy as np

    from ToothTopoSegLib.quantization.bundle import load_bundle
    from ToothTopoSegLib.segmentation.pipeline import segment_volume
    from ToothTopoSegLib.segmentation.runner import Runner

    reporter.progress(0.0, "loading the model")
    bundle = load_bundle(Path(arguments["model"]) if arguments["model"] else None)
    runner = Runner(bundle, arguments["device"], arguments["threads"])
    scan = volume_from(np.load(folder / "volume.npy"), arguments["geometry"])

    def tell_first(found: Volume) -> None:
        boxes = boxes_of(found.array)
        if boxes:
            np.save(folder / "first.npy", found.array)
            reporter.tell("first", boxes=boxes)

    labels = segment_volume(scan, bundle, runner, reporter.progress, on_first=tell_first)
    np.save(folder / "labels.npy", labels.array)
    return {"boxes": boxes_of(labels.array), "model": bundle.identity}


def check_cases(folder: Path, arguments: dict[str, Any], reporter: Reporter, control: Control) -> dict[str, Any]:
    """Check the labelled scans of ``sources`` before fine-tuning, by the engine's module that ``arguments`` names."""
    engine = importlib.import_module(arguments["engine"])
    cases = engine.find_cases([Path(source) for source in arguments["sources"]])
    return {"cases": [checked.as_dict() for checked in engine.check_cases(cases, reporter.progress)]}


def finetune(folder: Path, arguments: dict[str, Any], reporter: Reporter, control: Control) -> dict[str, Any]:
    """Fine-tune by the engine's module that ``arguments`` names; points of its curves are told as they come."""
    engine = importlib.import_module(arguments["engine"])
    report = engine.finetune(
        cases=[Path(case) for case in arguments["cases"]],
        out=Path(arguments["out"]),
        minutes=arguments["minutes"],
        device=arguments["device"],
        model=Path(arguments["model"]) if arguments["model"] else None,
        choices=engine.Choices(**arguments["choices"]),
        on_point=lambda values: reporter.tell("point", values={name: float(value) for name, value in values.items()}),
        go_on=control.go_on,
        progress=reporter.progress,
    )
    return {"report": {**report, "bundle": str(report["bundle"])}}


TASKS: dict[str, Callable[[Path, dict[str, Any], Reporter, Control], dict[str, Any]]] = {
    "segment": segment,
    "check_cases": check_cases,
    "finetune": finetune,
}


def geometry_of(volume: Volume) -> dict[str, Any]:
    """The geometry of a volume as JSON."""
    return {"spacing": volume.spacing, "origin": volume.origin, "direction": volume.direction}


def volume_from(array: Any, geometry: dict[str, Any]) -> Volume:
    """A volume of an array (z, y, x) and its geometry as :func:`geometry_of` tells it."""
    from ToothTopoSegLib.imaging.volume import Volume

    z, y, x = geometry["spacing"]
    i, j, k = geometry["origin"]
    rows = [tuple(float(value) for value in row) for row in geometry["direction"]]
    return Volume(array, (z, y, x), (i, j, k), (rows[0], rows[1], rows[2]))  # type: ignore[arg-type]


def boxes_of(array: Any) -> dict[str, list[list[int]]]:
    """Start and stop along z, y, x of each label of an array, as JSON."""
    from scipy import ndimage

    found = enumerate(ndimage.find_objects(array), start=1)
    return {str(label): [[axis.start, axis.stop] for axis in box] for label, box in found if box is not None}


def run(folder: Path, reporter: Reporter, control: Control) -> int:
    """Do what the folder asks; the exit code."""
    try:
        request = json.loads((folder / "request.json").read_text(encoding="utf-8"))
        reporter.tell("result", **TASKS[request["task"]](folder, request["arguments"], reporter, control))
    except Exception as error:
        reporter.tell("error", message=_in_words(error), details=traceback.format_exc())
        return 1
    return 0


def _in_words(error: Exception) -> str:
    """One sentence for a person: the engine's own, or what is to be done about another error."""
    from ToothTopoSegLib.errors import ToothTopoSegError

    if isinstance(error, ToothTopoSegError):
        return str(error)
    if isinstance(error, MemoryError):
        return "There is not enough memory for this volume; close other programs or crop the volume to the teeth."
    if isinstance(error, ImportError):
        return _BROKEN.format(name=(error.name or "that is needed").partition(".")[0], error=error)
    if isinstance(error, OSError):
        reason = error.strerror or str(error)
        return f"A file could not be read or written ({reason}); make room on the disk and start again."
    return _INTERNAL.format(error=f"{type(error).__name__}: {error}")


def _obey_parent(control: Control) -> None:
    greeted = False  # a launcher between Slicer and this process may keep its standard input to itself
    for line in sys.stdin:
        greeted = True
        control.obey(line.strip())
    if greeted:
        os._exit(1)  # nobody is there to take a result


def main() -> int:
    """Run the folder of the command line."""
    # What libraries print must not come between the messages.
    stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    control = Control()
    threading.Thread(target=_obey_parent, args=(control,), daemon=True).start()
    code = run(Path(sys.argv[1]), Reporter(stream), control)
    stream.flush()
    os._exit(code)  # the thread that listens to the parent holds standard input


if __name__ == "__main__":
    main()
