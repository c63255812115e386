"""The cases for fine-tuning: those of a folder or of the scene, and what the label check says of each.

A folder is looked through in a thread. Cases of the scene are pairs of a volume and a segmentation node; they are
written as files into a temporary folder, in steps that do not hold Slicer up, under names that tell nothing of the
patient. The check itself is a background job.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import qt
import slicer
import vtk
from slicer.i18n import tr as _

from ToothTopoSegGui import nodes
from ToothTopoSegGui.job import Job, JobError, Listener, Request
from ToothTopoSegGui.logic import is_in_scene
from ToothTopoSegGui.steps import Background, Progress, Steps

if TYPE_CHECKING:
    from ToothTopoSegLib.imaging.volume import Volume

ENGINE = "ToothTopoSegLib.training.user_cases"
"""The engine's module that finds and checks cases."""
_TICK_MS = 30
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
        self._scratch: Path | None = None
        self._work: Background | None = None
        self._listing = False
        self._whenDone: Callable[[Any], None] = lambda result: None
        self._job: Job | None = None
        self._timer = qt.QTimer()
        self._timer.setInterval(_TICK_MS)
        self._timer.connect("timeout()", self._tick)

    @property
    def checking(self) -> bool:
        """Whether cases are being written or checked."""
        return self._job is not None or (self._work is not None and not self._listing)

    @property
    def used(self) -> list[Case]:
        """The cases that the user wants."""
        return [case for case in self.cases if case.used]

    def clear(self) -> None:
        """No cases, and nothing being done with them."""
        self.cancel()
        self.cases, self.remark = [], ""
        self._removeScratch()

    def listFolder(self, folder: str) -> None:
        """Look for cases in a folder; the list comes when it is known."""
        self.clear()
        if folder and Path(folder).is_dir():
            self.remark = _("Looking for cases.")
            self._listing = True
            self._begin(_finding(Path(folder)), self._takeFound)
        self._listener.changed()

    def listPairs(self, pairs: Sequence[tuple[Any, Any]]) -> None:
        """Take pairs of volume and segmentation node as the cases; what is known of a pair is kept."""
        self.cancel()
        known = [case for case in self.cases if case.pair is not None]
        self.remark = ""
        self.cases = [
            next((case for case in known if _same(case.pair, pair)), Case(pair[0].GetName(), pair=pair))
            for pair in pairs
        ]
        self._listener.changed()

    def check(self) -> None:
        """Check all cases; JobError where that cannot be started. Nothing happens while something is being done."""
        if self._work is not None or self._job is not None or not self.cases:
            return
        for case in self.cases:
            case.checked = None
        if self.cases[0].pair is None:
            self._startCheck()
        else:
            self._begin(self._writing(), lambda result: self._startCheck())
        self._listener.changed()

    def cancel(self) -> None:
        """End what is being done; nothing of it is kept."""
        if self._work is not None:
            self._work.cancel()
            self._endWork()
        if self._job is not None:
            self._job.cancel()

    # ---- looking and writing, in steps

    def _begin(self, steps: Steps[Any], whenDone: Callable[[Any], None]) -> None:
        self._work, self._whenDone = Background(steps), whenDone
        self._timer.start()

    def _tick(self) -> None:
        work = self._work
        if work is None:
            return
        work.advance()
        if not self._listing:
            self._listener.progress(_WRITING * work.fraction, work.text)
        if work.is_done:
            self._endWork()
            self._takeDone(work)

    def _endWork(self) -> None:
        self._timer.stop()
        self._work, self._listing = None, False

    def _takeDone(self, work: Background) -> None:
        from ToothTopoSegLib.errors import ToothTopoSegError

        if work.error is None:
            try:
                self._whenDone(work.result)
            except JobError as error:
                self._fail(error)
        elif isinstance(work.error, (ToothTopoSegError, OSError, MemoryError)):
            self._fail(work.error)
        else:
            raise work.error

    def _takeFound(self, found: tuple[list[Case], str]) -> None:
        self.cases, self.remark = found
        self._listener.changed()

    def _writing(self) -> Steps[None]:
        """Write the cases of the scene into a new temporary folder."""
        self._removeScratch()
        self._scratch = Path(tempfile.mkdtemp(prefix="ToothTopoSeg-cases-", dir=slicer.app.temporaryPath or None))
        for number, case in enumerate(self.cases, start=1):
            assert case.pair is not None and self._work is not None
            self._work.fraction = (number - 1) / len(self.cases)
            self._work.text = _("Reading {case}").format(case=case.title)
            stamp = stamp_of(*case.pair)
            written = yield from write_case_steps(*case.pair, self._scratch, f"case_{number:02d}")
            case.scan, case.labels, case.notes = written
            case.stamp = stamp

    def _removeScratch(self) -> None:
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)
        self._scratch = None

    # ---- the check, in a process

    def _startCheck(self) -> None:
        told = [{"name": _name(case), "scan": case.scan, "labels": case.labels} for case in self.cases]
        listener = Listener(self._hear, self._takeChecked, self._fail, self._cancelled)
        job = Job(Request("check_cases", {"engine": ENGINE, "cases": told}, {}), listener)
        job.start()
        self._job = job
        self._listener.changed()

    def _hear(self, message: dict[str, Any]) -> None:
        if message["event"] == "progress":
            start = 0.0 if self._scratch is None else _WRITING
            self._listener.progress(start + (1 - start) * message["fraction"], message["message"])

    def _takeChecked(self, result: dict[str, Any], folder: Path) -> None:
        self._job = None
        for case, checked in zip(self.cases, result["cases"], strict=True):
            case.checked = checked
        self._listener.changed()

    def _fail(self, error: Exception) -> None:
        self._job, self.remark = None, ""
        self._listener.failed(error)

    def _cancelled(self) -> None:
        self._job = None
        self._listener.changed()


def _finding(folder: Path) -> Steps[tuple[list[Case], str]]:
    """The cases of a folder, and a remark where there are none."""
    return (yield partial(_found, folder))


def _found(folder: Path, progress: Progress) -> tuple[list[Case], str]:
    import importlib

    from ToothTopoSegLib.errors import ToothTopoSegError

    try:
        found = importlib.import_module(ENGINE).find_cases([folder])
    except ToothTopoSegError as error:
        return [], str(error)
    return [Case(case.name, str(case.scan), str(case.labels)) for case in found], ""


def write_case_steps(
    volume_node: Any, segmentation_node: Any, folder: Path, name: str
) -> Steps[tuple[str, str, tuple[str, ...]]]:
    """Write a volume and its teeth (FDI numbers, on the volume's grid) as ``<name>.nrrd`` and ``<name>_labels.nrrd``.

    Returns both paths and the notes on the teeth. Raises as ``nodes.volume_of`` and ``nodes.labels_of`` do, OutputError
    where the folder cannot be written.
    """
    scan = yield from nodes.volume_steps(volume_node)
    view = yield from nodes.view_steps(segmentation_node, reference_volume_node=volume_node)
    return (yield partial(_write, scan, view, folder, name))


def _write(
    scan: Volume, view: nodes.SegmentationView, folder: Path, name: str, progress: Progress
) -> tuple[str, str, tuple[str, ...]]:
    from ToothTopoSegLib.imaging.itk import image_from_volume, import_sitk
    from ToothTopoSegLib.imaging.write import output_folder, write_label_map

    teeth = nodes.teeth_of(view)
    progress(0.0, "")
    paths = [folder / f"{name}.nrrd", folder / f"{name}_labels.nrrd"]
    with output_folder(folder) as staging:
        import_sitk().WriteImage(image_from_volume(scan), str(staging / paths[0].name))
        write_label_map(teeth.labels, staging / paths[1].name)
        progress(1.0, "")  # where it was cancelled, nothing is left
    return str(paths[0]), str(paths[1]), teeth.notes


def stamp_of(volume_node: Any, segmentation_node: Any) -> tuple[Any, ...]:
    """What differs as soon as a volume or its segmentation has changed; () where one of them is gone."""
    if not (is_in_scene(volume_node) and is_in_scene(segmentation_node)):
        return ()
    image, matrix = volume_node.GetImageData(), vtk.vtkMatrix4x4()
    volume_node.GetIJKToRASMatrix(matrix)
    place = tuple(matrix.GetElement(row, column) for row in range(3) for column in range(4))
    return (image and image.GetMTime(), place, nodes.stamp_of(segmentation_node))


def _same(one: tuple[Any, Any] | None, other: tuple[Any, Any]) -> bool:
    return one is not None and one[0] is other[0] and one[1] is other[1]


def _name(case: Case) -> str:
    """The name that the engine gets to know: the title of a case of the scene may be a patient's."""
    return Path(case.scan).stem if case.pair is not None else case.title
