"""A volume on its way to a segmentation: the network in a background process, then its result into the scene in steps.

The panels Segment and Fine-tune (its preview) run it. It ends by itself where its volume is deleted. First labels of
the process come into the scene while it goes on, as a preliminary segmentation; the result takes its place, and of a
run without a result nothing stays.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from ToothTopoSegGui import nodes
from ToothTopoSegGui.job import Job, JobError, Listener, Request, in_words, remaining_seconds
from ToothTopoSegGui.logic import is_in_scene

_SHOWING_FROM = 0.97  # of the progress: the rest is the way into the scene


@dataclass(frozen=True)
class RunListener:
    """Whom a run tells what, in the main thread.

    ``progress`` gets the fraction done and what is being done, with the time left, ``first`` the preliminary
    segmentation node where there is one; then exactly one of the others is called. ``finished`` gets the segmentation
    node, the preliminary one where it is still there, and the seconds that the network took.
    """

    progress: Callable[[float, str], None]
    finished: Callable[[Any, float], None]
    failed: Callable[[Exception], None]
    cancelled: Callable[[], None]
    first: Callable[[Any], None] = lambda node: None


class SegmentRun:
    """One run of a request of ``logic.segmentRequest``; :meth:`start` it in the main thread.

    ``name`` is that of the segmentation, made of the volume's unless given.
    """

    def __init__(
        self,
        logic: Any,
        request: Request,
        volume: Any,
        listener: RunListener,
        jawsVisible: bool = True,
        name: str | None = None,
    ) -> None:
        self._logic, self._volume, self._listener = logic, volume, listener
        self._jawsVisible, self._name = jawsVisible, name
        self.job = Job(request, Listener(self._hear, self._showTeeth, self._failed, self._cancelled))
        self._elapsed = 0.0
        self._preliminary: Any = None
        self._steps: Generator[float, None, Any] | None = None
        self._timer = qt.QTimer()
        self._timer.setInterval(0)
        self._timer.connect("timeout()", self._step)

    def start(self) -> None:
        """Start the process; JobError where there is no interpreter."""
        self.job.start()
        # While the process works: when its result comes, there is no time for that in the main thread.
        threading.Thread(target=_importWhatShowingNeeds, daemon=True).start()

    def cancel(self) -> None:
        """End the run; the scene stays as it was."""
        if self._steps is not None and not self.job.running:
            self._forget()
            self._listener.cancelled()
        else:
            self.job.cancel()

    def _hear(self, message: dict[str, Any]) -> None:
        if not is_in_scene(self._volume):
            self.job.cancel()
        elif message["event"] == "progress":
            left = remaining_seconds(self.job.elapsed, message["fraction"])
            said = message["message"][:1].upper() + message["message"][1:]
            if left is not None:
                said = _("{step}: about {time} left").format(step=said, time=in_words(left))
            self._listener.progress(_SHOWING_FROM * message["fraction"], said)
        elif message["event"] == "first":
            self._showFirst(message)

    def _cancelled(self) -> None:
        self._forget()
        if is_in_scene(self._volume):
            self._listener.cancelled()
        else:
            self._failed(_volumeGone())

    def _failed(self, error: Exception) -> None:
        self._forget()
        self._listener.failed(error)

    def _showFirst(self, first: dict[str, Any]) -> None:
        from ToothTopoSegLib.errors import ToothTopoSegError

        try:
            self._steps = self._logic.showFirst(first, self.job.folder, self._volume, self._jawsVisible, self._name)
        except ToothTopoSegError:
            return  # what is amiss is told when the result cannot be shown either
        self._timer.start()

    def _showTeeth(self, result: dict[str, Any], folder: Path) -> None:
        from ToothTopoSegLib.errors import ToothTopoSegError

        self._elapsed = self.job.elapsed
        self._endSteps()  # of first labels that are not in the scene yet
        if not is_in_scene(self._volume):
            self._failed(_volumeGone())
            return
        self._listener.progress(_SHOWING_FROM, _("Showing the teeth"))
        shown = self._volume, self._jawsVisible, self._name, self._preliminary
        try:
            self._steps = self._logic.showResult(result, folder, *shown)
        except ToothTopoSegError as error:
            self._failed(error)
            return
        self._timer.start()

    def _step(self) -> None:
        from ToothTopoSegLib.errors import ToothTopoSegError

        if self._steps is None:
            return
        try:
            if not is_in_scene(self._volume):
                raise _volumeGone()
            done = next(self._steps)
            if not self.job.running:
                self._listener.progress(_SHOWING_FROM + (1 - _SHOWING_FROM) * done, _("Showing the teeth"))
        except StopIteration as end:
            self._endSteps()
            self._shown(end.value)
        except (ToothTopoSegError, JobError, MemoryError) as error:
            self._endSteps()
            if not self.job.running:
                self._failed(error)

    def _shown(self, node: Any) -> None:
        if self.job.running:
            self._preliminary = node
            self._listener.first(node)
        else:
            self._preliminary = None
            self._listener.finished(node, self._elapsed)

    def _endSteps(self) -> None:
        self._timer.stop()
        if self._steps is not None:
            self._steps.close()
        self._steps = None

    def _forget(self) -> None:
        """Show nothing more, and take back what is preliminary."""
        self._endSteps()
        if is_in_scene(self._preliminary):
            nodes.remove_with_segments(slicer.mrmlScene, self._preliminary)
        self._preliminary = None


def _importWhatShowingNeeds() -> None:
    for name in ("topology.check", "imaging.segments", "imaging.volume"):
        importlib.import_module(f"ToothTopoSegLib.{name}")


def _volumeGone() -> JobError:
    return JobError(
        _("The volume was deleted while it was being segmented, so the run was ended; load it again, then start again.")
    )
