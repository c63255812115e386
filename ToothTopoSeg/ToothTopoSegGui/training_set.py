"""The cases for fine-tuning: those of a folder or of the scene, and what the label check says of each.

A folder is looked through in a thread. Cases of the scene are pairs of a volume and a segmentation node; they are
written as files into a temporary folder, in steps that do not hold Slicer up, under names that tell nothing of the
patient. The check itself is a background job.
"""

from __future__ import annotations

import importlib
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

from ToothTopoSegGui.case_files import stamp_of, write_case_steps
from ToothTopoSegGui.job import Job, JobError, Listener, Request, temporary_folder
from ToothTopoSegGui.steps import Progress, Steps
from ToothTopoSegGui.timed_work import TimedWork, WorkListener

ENGINE = "ToothTopoSegLib.training.user_cases"
"""The engine's module that finds and checks cases."""
_WRITING = 0.3  # the share of a check that writing the cases of a scene takes


@dataclass
class Case:
    """A labelled scan.

    ``pair`` is its volume and segmentation node where it is of the scene, then ``scan`` and ``labels`` are known once
    it was written. ``used`` is whether the user wants it, ``checked`` what the check said (None before), ``stamp``
    tells whether the nodes are still those that were checked.
    """

    title: str
    scan: str = ""
    labels: str = ""
    pair: tuple[Any, Any] | None = None
    used: bool = True
    checked: dict[str, Any] | None = None
    stamp: tuple[Any, ...] = field(default=())
    notes: tuple[str, ...] = ()

    @property
    def usable(self) -> bool:
        """Whether it was checked and has no problem."""
        return self.checked is not None and bool(self.checked["usable"])

    @property
    def changed(self) -> bool:
        """Whether its nodes are others than those that were checked."""
        return self.pair is not None and bool(self.stamp) and stamp_of(*self.pair) != self.stamp


@dataclass(frozen=True)
class SetListener:
    """Whom the cases tell what: that they are others or are being worked on, how far that is, what went wrong."""

    changed: Callable[[], None]
    progress: Callable[[float, str], None]
    failed: Callable[[Exception], None]


class TrainingSet:
    """The cases that the user has chosen."""

    def __init__(self, listener: SetListener) -> None:
        self.cases: list[Case] = []
        self.remark = ""
        self._listener = listener
        self._folder = ""
        self._scratch: Path | None = None
        self._looking, self._writing = TimedWork(), TimedWork()
        self._job: Job | None = None

    @property
    def checking(self) -> bool:
        """Whether cases are being written or checked."""
        return self._job is not None or self._writing.running

    @property
    def used(self) -> list[Case]:
        """The cases that the user wants."""
        return [case for case in self.cases if case.used]

    @property
    def sources(self) -> list[str]:
        """The wanted cases as the engine takes them: the folder where it is all of it, else the scans."""
        wanted = self.used
        return [self._folder] if self._folder and len(wanted) == len(self.cases) else [case.scan for case in wanted]

    def clear(self) -> None:
        """No cases, and nothing being done with them."""
        self.cancel()
        self.cases, self.remark = [], ""
        self._removeScratch()

    def listFolder(self, folder: str) -> None:
        """Look for cases in a folder; the list comes when it is known."""
        self.clear()
        self._folder = folder
        if folder and Path(folder).is_dir():
            self.remark = _("Looking for cases.")
            self._looking.start(_finding(Path(folder)), WorkListener(self._takeFound, self._fail))
        self._listener.changed()

    def listPairs(self, pairs: Sequence[tuple[Any, Any]]) -> None:
        """Take pairs of volume and segmentation node as the cases; what is known of a pair is kept."""
        self.cancel()
        self._folder = ""
        known = [case for case in self.cases if case.pair is not None]
        self.remark = ""
        self.cases = [
            next((case for case in known if _same(case.pair, pair)), Case(pair[0].GetName(), pair=pair))
            for pair in pairs
        ]
        self._listener.changed()

    def check(self) -> None:
        """Check all cases; JobError where that cannot be started. Nothing happens while something is being done."""
        if self.checking or not self.cases:
            return
        for case in self.cases:
            case.checked, case.stamp = None, ()
        if self._folder:
            self._startCheck()
        else:
            self._writing.start(self._writeSteps(), WorkListener(self._takeWritten, self._fail, self._tellWriting))
        self._listener.changed()

    def cancel(self) -> None:
        """End what is being done; nothing of it is kept."""
        self._looking.cancel()
        self._writing.cancel()
        if self._job is not None:
            self._job.cancel()

    # ---- looking and writing

    def _takeFound(self, found: tuple[list[Case], str]) -> None:
        self.cases, self.remark = found
        self._listener.changed()

    def _writeSteps(self) -> Steps[None]:
        """Write the cases of the scene into a new temporary folder; those that cannot be are not usable."""
        from ToothTopoSegLib.errors import Cancelled, ToothTopoSegError

        self._removeScratch()
        self._scratch = Path(tempfile.mkdtemp(prefix="ToothTopoSeg-cases-", dir=temporary_folder()))
        for number, case in enumerate(self.cases, start=1):
            assert case.pair is not None
            case.stamp = stamp_of(*case.pair)
            try:
                written = yield from write_case_steps(*case.pair, self._scratch, f"case_{number:02d}")
                case.scan, case.labels, case.notes = written
            except Cancelled:
                raise
            except ToothTopoSegError as error:
                case.checked = _unusable(str(error))

    def _tellWriting(self, fraction: float, said: str) -> None:
        begun = sum(bool(case.stamp) for case in self.cases)
        told = _("Reading case {n} of {all}").format(n=begun, all=len(self.cases))
        self._listener.progress(_WRITING * begun / len(self.cases), told)

    def _takeWritten(self, result: None) -> None:
        try:
            if self._toCheck():
                self._startCheck()
        except JobError as error:
            self._fail(error)
        self._listener.changed()

    def _removeScratch(self) -> None:
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)
        self._scratch = None

    # ---- the check, in a process

    def _startCheck(self) -> None:
        arguments = {"engine": ENGINE, "sources": self._toCheck()}
        job = Job(
            Request("check_cases", arguments, {}), Listener(self._hear, self._takeChecked, self._fail, self._over)
        )
        job.start()
        self._job = job
        self._listener.changed()

    def _toCheck(self) -> list[str]:
        return [self._folder] if self._folder else [case.scan for case in self.cases if case.checked is None]

    def _hear(self, message: dict[str, Any]) -> None:
        if message["event"] == "progress":
            start = 0.0 if self._scratch is None else _WRITING
            self._listener.progress(start + (1 - start) * message["fraction"], message["message"])

    def _takeChecked(self, result: dict[str, Any], folder: Path) -> None:
        self._job = None
        found = {checked["scan"]: checked for checked in result["cases"]}
        for case in self.cases:
            gone = _("This case is not there any more; choose the folder again.")
            case.checked = case.checked or found.get(case.scan) or _unusable(gone)
        self._listener.changed()

    def _fail(self, error: Exception) -> None:
        self._job, self.remark = None, ""
        self._listener.failed(error)

    def _over(self) -> None:
        self._job = None
        self._listener.changed()


def _finding(folder: Path) -> Steps[tuple[list[Case], str]]:
    """The cases of a folder, and a remark where there are none."""
    return (yield partial(_found, folder))


def _found(folder: Path, progress: Progress) -> tuple[list[Case], str]:
    from ToothTopoSegLib.errors import ToothTopoSegError

    try:
        found = importlib.import_module(ENGINE).find_cases([folder])
    except ToothTopoSegError as error:
        return [], str(error)
    return [Case(case.name, str(case.scan), str(case.labels)) for case in found], ""


def _unusable(problem: str) -> dict[str, Any]:
    """What the engine would say of a case that cannot even be written."""
    return {"teeth": [], "usable": False, "problems": [problem], "warnings": [], "findings": []}


def _same(one: tuple[Any, Any] | None, other: tuple[Any, Any]) -> bool:
    return one is not None and one[0] is other[0] and one[1] is other[1]
