"""Long work on nodes in small steps, so that the application goes on while it is done.

Such work is a generator that runs in the main thread, where alone nodes may be touched. At each bare ``yield`` the
application may go on. What it yields otherwise is a function of a progress callback that touches nothing but arrays:
it is computed elsewhere, and ``yield`` gives its result. :func:`at_once` does all of it in one go, for scripts;
:class:`Background` lets a thread compute and is driven by a timer.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from typing import Any, TypeVar

Progress = Callable[[float, str], None]
Computation = Callable[[Progress], Any]
T = TypeVar("T")
Steps = Generator["Computation | None", Any, T]

PATIENCE_S = 0.02
"""How long one step waits for the thread that computes."""


def at_once(steps: Steps[T], progress: Progress = lambda fraction, text: None) -> T:
    """The result of the work, all of it done here and now; what it raises is raised."""
    answer: Any = None
    error: BaseException | None = None
    try:
        while True:
            asked = steps.send(answer) if error is None else steps.throw(error)
            answer, error = None, None
            try:
                answer = asked(progress) if asked is not None else None
            except Exception as raised:
                error = raised
    except StopIteration as done:
        return done.value


class Background:
    """Work being done while the application goes on: call :meth:`advance` again and again until ``is_done``.

    Then ``result`` is what came of it and ``error`` what it raised, Cancelled where it was cancelled. ``fraction`` and
    ``text`` tell how far it is.
    """

    def __init__(self, steps: Steps[Any]) -> None:
        self.result: Any = None
        self.error: BaseException | None = None
        self.is_done = False
        self.fraction, self.text = 0.0, ""
        self._steps = steps
        self._computing: _Computing | None = None
        self._cancelled = threading.Event()

    @property
    def is_computing(self) -> bool:
        """Whether a thread was asked for something that has not been taken yet."""
        return self._computing is not None

    def advance(self) -> None:
        """Do one step in this thread, or give the thread that computes a moment."""
        if self.is_done:
            return
        if self._computing is not None and not self._computing.wait():
            return
        try:
            self._next()
        except StopIteration as done:
            self.result, self.is_done = done.value, True
        except Exception as error:
            self.error, self.is_done = error, True

    def cancel(self) -> None:
        """Ask the work to end; it does so at its next step."""
        self._cancelled.set()

    def _next(self) -> None:
        from ToothTopoSegLib.errors import Cancelled

        finished, self._computing = self._computing, None
        answer = None if finished is None else finished.answer
        error = None if finished is None else finished.error
        if error is None and self._cancelled.is_set():
            error = Cancelled("Cancelled.")
        asked = self._steps.throw(error) if error is not None else self._steps.send(answer)
        if asked is not None:
            self._computing = _Computing(asked, self._progress)

    def _progress(self, fraction: float, text: str) -> None:
        """Called in the thread that computes."""
        from ToothTopoSegLib.errors import Cancelled

        self.fraction, self.text = fraction, text
        if self._cancelled.is_set():
            raise Cancelled("Cancelled.")


class _Computing:
    """One computation in a thread that does not keep the application from ending."""

    def __init__(self, computation: Computation, progress: Progress) -> None:
        self.answer: Any = None
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(computation, progress), daemon=True)
        self._thread.start()

    def wait(self) -> bool:
        """Whether it is finished. Waiting a moment lets the thread run where the application keeps Python's lock."""
        self._thread.join(PATIENCE_S)
        return not self._thread.is_alive()

    def _run(self, computation: Computation, progress: Progress) -> None:
        try:
            self.answer = computation(progress)
        except BaseException as error:
            self.error = error
