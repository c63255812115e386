"""One fine-tuning in the background: its process, its clock, and where its files are.

The engine keeps the state of a run in a folder beside the new model, so that an interrupted one can go on later.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ToothTopoSegGui.job import Job, JobError, Listener, Request
from ToothTopoSegGui.steps import Progress, Steps

ENGINE = "ToothTopoSegLib.training.finetune"
"""The engine's module that fine-tunes."""


@dataclass(frozen=True)
class RunFiles:
    """Where the files of a training are, told from the folder and the name of the new model."""

    folder: str
    name: str

    @property
    def model(self) -> Path:
        """The new model."""
        return Path(self.folder) / f"{self.name}.onnx"

    @property
    def state(self) -> Path:
        """The folder in which the engine keeps what it needs to go on."""
        return Path(self.folder) / f"{self.name}.run"

    @property
    def best(self) -> Path:
        """The best model so far, while training goes on."""
        return self.state / "best.onnx"

    @property
    def resumable(self) -> bool:
        """Whether there is a training that can go on: one that was interrupted, or one that gets more time."""
        return bool(self.folder and self.name) and self.state.is_dir()


class Clock:
    """Time without pauses."""

    def __init__(self) -> None:
        self._before, self._since = 0.0, time.monotonic()
        self._runs = True

    @property
    def seconds(self) -> float:
        """Seconds since the start, without those of pauses."""
        return self._before + (time.monotonic() - self._since if self._runs else 0.0)

    def pause(self) -> None:
        """Stand still."""
        self._before, self._runs = self.seconds, False

    def resume(self) -> None:
        """Go on."""
        if not self._runs:
            self._since, self._runs = time.monotonic(), True


@dataclass(frozen=True)
class TrainingListener:
    """Whom a training tells what: how far it is, a point of its curves, and then one of the others.

    ``finished`` gets the engine's report; ``ended`` is called where the training was discarded or interrupted.
    """

    progress: Callable[[float, str], None]
    point: Callable[[Mapping[str, float]], None]
    finished: Callable[[dict[str, Any]], None]
    failed: Callable[[JobError], None]
    ended: Callable[[], None]


class TrainingRun:
    """A fine-tuning with ``arguments`` as the engine's function takes them, without ``out``."""

    def __init__(self, files: RunFiles, arguments: Mapping[str, Any], listener: TrainingListener) -> None:
        self.files, self.clock = files, Clock()
        self.paused = self.stopping = False
        self._listener, self._minutes = listener, arguments["minutes"]
        request = Request("finetune", {"engine": ENGINE, "out": str(files.model), **arguments}, {})
        self._job = Job(request, Listener(self._hear, self._finish, listener.failed, listener.ended))

    def secondsLeft(self, fraction: float) -> float:
        """Seconds until the time is over; training may end before."""
        return 60.0 * self._minutes * (1.0 - fraction)

    def start(self) -> None:
        """Start the process; JobError where there is no interpreter."""
        self._job.start()

    def pause(self, paused: bool) -> None:
        """Pause or go on."""
        self.paused = paused
        (self.clock.pause if paused else self.clock.resume)()
        self._job.send("pause" if paused else "resume")

    def stop(self) -> None:
        """End early with the best model so far."""
        self.paused, self.stopping = False, True
        self.clock.resume()
        self._job.send("stop")

    def interrupt(self) -> None:
        """End at once; the training can go on later."""
        self._job.cancel()

    def discard(self) -> None:
        """End at once and for good."""
        self._job.cancel()
        remove_state(self.files)

    def _hear(self, message: dict[str, Any]) -> None:
        if message["event"] == "progress":
            self._listener.progress(message["fraction"], message["message"])
        elif message["event"] == "point":
            self._listener.point(message["values"])

    def _finish(self, result: dict[str, Any], folder: Path) -> None:
        self._listener.finished(result["report"])


def copy_steps(model: Path, folder: Path) -> Steps[Path]:
    """Copy a model with its card and its second network, if one lies beside it; the copy.

    The engine may write them anew at any moment. Raises ModelError where they do not fit together for longer than that
    takes.
    """
    return (yield partial(_copy, model, folder))


def _copy(model: Path, folder: Path, progress: Progress) -> Path:
    from ToothTopoSegLib.errors import ModelError
    from ToothTopoSegLib.quantization.bundle import SECOND, load_bundle, surface_bundle

    copy, tries = folder / model.name, 5
    second = model.with_name(f"{model.stem}{SECOND}.onnx")
    for left in reversed(range(tries)):
        progress(0.0, "")
        try:
            for file in (model, second) if second.exists() else (model,):
                for suffix in (".onnx", ".json"):
                    shutil.copyfile(file.with_suffix(suffix), (folder / file.name).with_suffix(suffix))
            surface_bundle(load_bundle(copy))
            break
        except (ModelError, OSError):
            if not left:
                raise
            time.sleep(0.1)  # this is not the main thread
    return copy


def remove_state(files: RunFiles) -> None:
    """Remove what a training has kept to go on; in a thread, because it may be much.

    It is put aside first, so that a training that begins at once does not find half of it.
    """
    if not files.resumable:
        return
    aside = files.state.with_name(f".{files.state.name}-{time.time_ns()}")
    try:
        files.state.rename(aside)
    except OSError:  # Windows keeps files of a process that is just ending
        aside = files.state
    threading.Thread(target=_remove, args=(aside,), daemon=True).start()


def _remove(folder: Path, tries: int = 50) -> None:
    while tries and folder.exists():
        shutil.rmtree(folder, ignore_errors=True)
        tries -= 1
        time.sleep(0.1)  # this is not the main thread
