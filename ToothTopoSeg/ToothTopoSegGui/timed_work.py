"""Work in steps driven by a timer: what a panel does with nodes and threads while Slicer goes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import qt

from ToothTopoSegGui.steps import Background, Steps

_TICK_MS = 30


@dataclass(frozen=True)
class WorkListener:
    """Whom work tells what: what came of it, or what was raised on purpose, or by files or memory."""

    done: Callable[[Any], None]
    failed: Callable[[Exception], None]
    progress: Callable[[float, str], None] = lambda fraction, text: None


class TimedWork:
    """Does one piece of work after the other; make it in the main thread."""

    def __init__(self) -> None:
        self._work: Background | None = None
        self._listener: WorkListener | None = None
        self._timer = qt.QTimer()
        self._timer.setInterval(_TICK_MS)
        self._timer.connect("timeout()", self._tick)

    @property
    def running(self) -> bool:
        """Whether something is being done."""
        return self._work is not None

    def start(self, steps: Steps[Any], listener: WorkListener) -> None:
        """Do something; what is being done is ended."""
        self.cancel()
        self._work, self._listener = Background(steps), listener
        self._timer.start()

    def cancel(self) -> None:
        """End what is being done; nobody is told."""
        if self._work is not None:
            self._work.cancel()
        self._end()

    def _end(self) -> None:
        self._timer.stop()
        self._work = None

    def _tick(self) -> None:
        work, listener = self._work, self._listener
        if work is None or listener is None:
            return
        work.advance()
        if not work.is_done:
            listener.progress(work.fraction, work.text)
            return
        self._end()
        if work.error is None:
            listener.done(work.result)
        elif isinstance(work.error, Exception) and _is_expected(work.error):
            listener.failed(work.error)
        else:
            raise work.error


def _is_expected(error: Exception) -> bool:
    from ToothTopoSegLib.errors import ToothTopoSegError

    return isinstance(error, (ToothTopoSegError, OSError, MemoryError))
