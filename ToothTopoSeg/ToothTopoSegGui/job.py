"""A long computation in a process of its own: started, listened to, cancelled with all its children.

In goes a request: the name of a task, its arguments and the arrays it needs, written to a folder of its own. The
process (:mod:`ToothTopoSegGui.worker`) answers with one JSON object a line on its standard output; a thread reads them,
a timer hands them on in the main thread, so that nothing here ever waits. The process ends when it is cancelled, and by
itself when Slicer is gone. Qt is touched in the main thread alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

PYTHON_SETTING = "ToothTopoSeg/PythonExecutable"
PYTHON_VARIABLE = "TOOTHTOPOSEG_PYTHON"
_LISTEN_EVERY_MS = 50
_FIRST_ESTIMATE = 0.05  # of the work done, before which the remaining time is a guess
_GRACE_S = 1.0


class JobError(Exception):
    """A process that could not be started or that failed; ``details`` is for those who look after the program."""

    def __init__(self, message: str, details: str = "") -> None:
        super().__init__(message)
        self.details = details


@dataclass(frozen=True)
class Request:
    """What a process is to do: a task of the worker, its arguments (as JSON) and arrays by name."""

    task: str
    arguments: Mapping[str, Any]
    arrays: Mapping[str, Any]


@dataclass(frozen=True)
class Listener:
    """Whom a job tells what, in the main thread.

    ``event`` gets every message between start and end; then exactly one of the others is called. ``finished`` gets the
    result and the folder with its files, which is removed when the call returns.
    """

    event: Callable[[dict[str, Any]], None]
    finished: Callable[[dict[str, Any], Path], None]
    failed: Callable[[JobError], None]
    cancelled: Callable[[], None]


def python_executable() -> str:
    """The interpreter for a process: that of the setting or variable, else Slicer's; JobError where there is none."""
    chosen = os.environ.get(PYTHON_VARIABLE) or slicer.app.userSettings().value(PYTHON_SETTING)
    if chosen and not shutil.which(str(chosen)):
        raise JobError(
            _(
                "The Python interpreter {path} of the setting {name} cannot be run; correct the setting or remove it."
            ).format(path=chosen, name=PYTHON_SETTING)
        )
    found = chosen or shutil.which("PythonSlicer")
    if not found:
        raise JobError(
            _(
                "No Python interpreter was found for the computation: PythonSlicer, which comes with Slicer, is not on "
                "the path. Start Slicer by its own launcher, or name an interpreter in the setting {name}."
            ).format(name=PYTHON_SETTING)
        )
    return str(found)


def remaining_seconds(elapsed: float, fraction: float) -> float | None:
    """Seconds until the end at the pace so far; None while too little is done to tell."""
    return None if fraction < _FIRST_ESTIMATE else elapsed * (1.0 - fraction) / fraction


def in_words(seconds: float) -> str:
    """A time as a person would say it."""
    if seconds < 55:
        return _("{n} s").format(n=max(5, 5 * round(seconds / 5)))
    if seconds < 7200:
        return _("{n} min").format(n=round(seconds / 60))
    return _("{n:.1f} h").format(n=seconds / 3600)


class Job:
    """One run of a request. Make it and call :meth:`start` in the main thread."""

    def __init__(self, request: Request, listener: Listener) -> None:
        self._request, self._listener = request, listener
        self._folder = Path()
        self._messages: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._over = False
        self._began = time.monotonic()
        self._timer = qt.QTimer()
        self._timer.setInterval(_LISTEN_EVERY_MS)
        self._timer.connect("timeout()", self._listen)

    @property
    def running(self) -> bool:
        """Whether the job was neither finished nor cancelled yet."""
        return not self._over

    @property
    def folder(self) -> Path:
        """The folder that the process writes to, which is removed when the job is over."""
        return self._folder

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._began

    def start(self) -> None:
        """Write the request and start the process, in a thread; JobError where there is no interpreter."""
        python, environment = python_executable(), _environment()
        self._folder = Path(tempfile.mkdtemp(prefix="ToothTopoSeg-", dir=temporary_folder()))
        command = [python, "-m", "ToothTopoSegGui.worker", str(self._folder)]
        slicer.app.connect("aboutToQuit()", self._quit)
        threading.Thread(target=self._run, args=(command, environment), daemon=True).start()
        self._timer.start()

    def send(self, word: str) -> None:
        """Tell the process a word: pause, resume or stop."""
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError):  # it has just ended, which its last message tells
                self._process.stdin.write(f"{word}\n".encode())
                self._process.stdin.flush()

    def cancel(self) -> None:
        """End the process and its children, and forget what they did; nothing happens when the job is over."""
        if self._over:
            return
        self._stop()
        self._clearUp()
        self._listener.cancelled()

    # ---- the reading thread: no Qt, no MRML

    def _run(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        try:
            write_request(self._folder, self._request)
            with (self._folder / "log.txt").open("wb") as log, self._lock:
                if self._over:
                    shutil.rmtree(self._folder, ignore_errors=True)
                    return
                self._process = _start(command, environment, log)
            self.send("hello")
            assert self._process.stdout is not None
            for line in self._process.stdout:
                self._messages.put(_message(line))
            self._messages.put({"event": "ended", "code": self._process.wait()})
        except OSError as error:
            self._messages.put({"event": "error", "message": _cannot_start(error), "details": repr(error)})

    # ---- the main thread

    def _listen(self) -> None:
        while not self._over:
            try:
                message = self._messages.get_nowait()
            except queue.Empty:
                return
            self._take(message)

    def _take(self, message: dict[str, Any]) -> None:
        kind = message.get("event")
        if kind == "result":
            self._hand_over(message)
        elif kind == "error":
            self._fail(JobError(message["message"], self._diagnosis(message.get("details", ""))))
        elif kind == "ended":
            self._fail(JobError(_ended(message["code"]), self._diagnosis(f"exit code {message['code']}")))
        else:
            self._listener.event(message)

    def _hand_over(self, result: dict[str, Any]) -> None:
        self._stop()
        try:
            self._listener.finished(result, self._folder)
        finally:
            self._clearUp()

    def _fail(self, error: JobError) -> None:
        self._stop()
        self._clearUp()
        self._listener.failed(error)

    def _quit(self) -> None:
        """Slicer ends, and there will be no thread to tidy up."""
        process, folder = self._process, self._folder
        self.cancel()
        _clear_up(process, folder)

    def _diagnosis(self, details: str) -> str:
        log = self._folder / "log.txt"
        told = log.read_text(encoding="utf-8", errors="replace")[-4000:] if log.is_file() else ""
        return f"{details}\n{told}".strip()

    def _stop(self) -> None:
        """No more messages, and no process that goes on."""
        self._timer.stop()
        slicer.app.disconnect("aboutToQuit()", self._quit)
        with self._lock:
            self._over = True
        if self._process is not None:
            kill_tree(self._process)

    def _clearUp(self) -> None:
        """Remove the folder, in a thread: a process with much memory takes its time to be gone."""
        threading.Thread(target=_clear_up, args=(self._process, self._folder), daemon=True).start()


def write_request(folder: Path, request: Request) -> None:
    """Write a request as the worker reads it: ``<name>.npy`` for each array, then ``request.json``."""
    import numpy as np

    for name, array in request.arrays.items():
        np.save(folder / f"{name}.npy", array)
    text = json.dumps({"task": request.task, "arguments": dict(request.arguments)})
    (folder / "request.json").write_text(text, encoding="utf-8")


def kill_tree(process: subprocess.Popen[bytes]) -> None:
    """Tell the system to end a process that :class:`Job` started, with all its children; does not wait for it."""
    if os.name == "nt":
        subprocess.Popen(
            ["taskkill", "/T", "/F", "/PID", str(process.pid)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
    else:
        # It and all its children may have ended by themselves; macOS then speaks of a lack of permission.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)


def _clear_up(process: subprocess.Popen[bytes] | None, folder: Path) -> None:
    """Wait until a process is gone, then remove its folder."""
    if process is not None:
        if process.stdin is not None:
            with contextlib.suppress(OSError):  # what was not sent yet is lost with the process
                process.stdin.close()
        try:
            process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
    shutil.rmtree(folder, ignore_errors=True)


def _start(command: Sequence[str], environment: Mapping[str, str], log: Any) -> subprocess.Popen[bytes]:
    """The process in a session of its own, so that its whole tree can be ended; without a console on Windows."""
    options: dict[str, Any] = {"start_new_session": True}
    if os.name == "nt":
        options = {"creationflags": getattr(subprocess, "CREATE_NO_WINDOW", 0)}
    return subprocess.Popen(
        list(command), env=dict(environment), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, **options
    )


def _environment() -> dict[str, str]:
    """Slicer's start-up environment, with the module and the engine on the path of the interpreter."""
    import ToothTopoSegLib

    environment = dict(slicer.util.startupEnvironment())
    places = [Path(__file__).resolve().parents[1], Path(ToothTopoSegLib.__file__).resolve().parents[1]]
    known = [environment["PYTHONPATH"]] if environment.get("PYTHONPATH") else []
    environment["PYTHONPATH"] = os.pathsep.join([*dict.fromkeys(map(str, places)), *known])
    environment["PYTHONUTF8"] = "1"
    # An installed extension may lie where the user cannot write.
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    return environment


def temporary_folder() -> str | None:
    """Slicer's temporary folder where it can be used, else the system's."""
    folder = slicer.app.temporaryPath
    return folder if folder and os.access(folder, os.W_OK) else None


def _message(line: bytes) -> dict[str, Any]:
    """A line of the process as a message; what is none is noted as a remark."""
    try:
        message = json.loads(line)
    except ValueError:
        message = None
    return message if isinstance(message, dict) else {"event": "remark", "text": line.decode("utf-8", "replace")}


def _cannot_start(error: OSError) -> str:
    return _(
        "The computation could not be started ({reason}); make room on the disk or correct the interpreter."
    ).format(reason=error.strerror or error)


def _ended(code: int) -> str:
    if code in (-signal.SIGTERM, -getattr(signal, "SIGKILL", 9), 137):
        return _(
            "The computation was ended by the system, most often because memory ran out; close other programs or crop "
            "the volume to the teeth, then press Apply again."
        )
    return _("The computation ended without a result (exit code {code}); copy the diagnostics and report them.").format(
        code=code
    )


def describe_environment() -> str:
    """Versions and paths that explain a failure."""
    python = sys.version.split()[0]
    lines = [f"Slicer {slicer.app.applicationVersion} ({slicer.app.revision}), {sys.platform}, Python {python}"]
    try:
        lines.append(f"interpreter: {python_executable()}")
    except JobError as error:
        lines.append(f"interpreter: {error}")
    return "\n".join(lines)
