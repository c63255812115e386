"""Check, repair and report on segmentation nodes: what the panel Check and scripts call; the engine computes.

In go segmentation nodes of any tool, out come a table node of findings with a person's verdicts and a markups node with
their places, both tied to the segmentation by node references, so that a saved scene brings them back. Methods whose
name ends in ``Steps`` are work for :mod:`ToothTopoSegGui.steps`; those without do it at once.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import slicer

from ToothTopoSegGui import finding_nodes, highlight, measure_nodes, nodes
from ToothTopoSegGui.steps import Progress, Steps, at_once

if TYPE_CHECKING:
    from ToothTopoSegLib.imaging.volume import Volume
    from ToothTopoSegLib.topology.findings import Finding
    from ToothTopoSegLib.topology.mouth import Mouth
    from ToothTopoSegLib.topology.repair import RepairResult
    from ToothTopoSegLib.topology.review import Reviewed

_SEGMENTATION = "ToothTopoSeg.Segmentation"
_VOLUME = "ToothTopoSeg.Volume"
_MARKUPS = "ToothTopoSeg.Markups"
_SCHEME = "ToothTopoSeg.Scheme"
_TEETH = "ToothTopoSeg.Teeth"
_NOTES = "ToothTopoSeg.Notes"
_MARK_COLOUR = (0.9, 0.35, 0.05)
SUFFIXES = (".json", ".csv", ".html", ".htm")


@dataclass(frozen=True, eq=False)
class Checkup:
    """What a check saw: the labels on their own grid, the mouth in canonical axes, the findings with their voxels."""

    labels: Volume
    mouth: Mouth
    findings: Sequence[Finding]
    notes: tuple[str, ...]
    scheme: str | None
    seconds: float


@dataclass
class _Session:
    """What is remembered of a segmentation node while it is in the scene; ``stamp`` belongs to ``checkup``."""

    node: Any
    history: nodes.History
    checkup: Checkup | None = None
    stamp: tuple[Any, ...] = field(default=())
    shows_before: bool = False


class CheckLogic:
    """The part of the module's logic that checks and repairs; needs no widget.

    Example::

        table = logic.check(segmentationNode)
        for row in logic.reviewed(segmentationNode):
            print(row.finding.id, row.finding.severity, row.finding.kind, row.finding.teeth, row.verdict)
        logic.setVerdict(segmentationNode, 2, "ignored", "an old root filling")
        mended = logic.repair(segmentationNode)
        logic.exportReport(segmentationNode, folder / "report.html")
        measures = logic.measure(segmentationNode)
        logic.undoRepair(segmentationNode)
    """

    def __init__(self) -> None:
        self._sessions: dict[str, _Session] = {}

    # ---- check

    def check(self, segmentationNode: Any, volumeNode: Any = None, scheme: str | None = None) -> Any:
        """Look for anatomical errors in a segmentation; returns the table node of findings.

        ``volumeNode`` is the scan the segmentation belongs to, if known; it helps to tell merged teeth. ``scheme`` is
        the label scheme of segments that have bare numbers only; None lets it be guessed. Verdicts on findings that are
        still the same are kept. Raises InputError where the segmentation cannot be used.
        """
        return at_once(self.checkSteps(segmentationNode, volumeNode, scheme))

    def checkSteps(self, segmentationNode: Any, volumeNode: Any = None, scheme: str | None = None) -> Steps[Any]:
        """:meth:`check` in steps."""
        checkup = yield from self._examineSteps(segmentationNode, volumeNode, scheme)
        return self._show(segmentationNode, volumeNode, checkup)

    def findingsTable(self, segmentationNode: Any) -> Any:
        """The table node of a segmentation's findings; None where it has not been checked."""
        return _tied_table(segmentationNode, finding_nodes.TABLE_ATTRIBUTE)

    def findingsMarkups(self, segmentationNode: Any) -> Any:
        """The markups node with the places of a segmentation's findings; None where there is none."""
        table = self.findingsTable(segmentationNode)
        return table.GetNodeReference(_MARKUPS) if table is not None else None

    def reviewed(self, segmentationNode: Any) -> list[Reviewed]:
        """The findings of a segmentation with their verdicts; none where it has not been checked."""
        table = self.findingsTable(segmentationNode)
        return [] if table is None else _reviewed(table)

    def teethAtCheck(self, segmentationNode: Any) -> list[int]:
        """FDI numbers of the teeth that were there at the last check."""
        return [int(tooth) for tooth in self._told(segmentationNode, _TEETH).split()]

    def checkedWith(self, segmentationNode: Any) -> tuple[Any, str]:
        """The scan and label scheme ("" for none named) of the last check, or else the scan it was made on."""
        table = self.findingsTable(segmentationNode)
        if table is not None:
            return table.GetNodeReference(_VOLUME), table.GetAttribute(_SCHEME) or ""
        made_on = segmentationNode.GetNodeReference(segmentationNode.GetReferenceImageGeometryReferenceRole())
        return (made_on if made_on is not None and made_on.IsA("vtkMRMLScalarVolumeNode") else None), ""

    def notesOfCheck(self, segmentationNode: Any) -> str:
        """What the last check has to tell of how the segmentation was read."""
        return self._told(segmentationNode, _NOTES)

    def isChangedSinceCheck(self, segmentationNode: Any) -> bool:
        """Whether the segmentation is known to have changed after its last check."""
        session = self._sessions.get(segmentationNode.GetID() or "")
        if session is None or session.node is not segmentationNode or session.checkup is None:
            return False
        return not session.shows_before and session.stamp != nodes.stamp_of(segmentationNode)

    # ---- one finding

    def showFinding(self, segmentationNode: Any, findingId: int) -> None:
        """Move all slice and 3D views to a finding and show its teeth clearly, the others faded."""
        finding = self._row(segmentationNode, findingId).finding
        x, y, z = finding.position_lps_mm
        logic = slicer.modules.markups.logic()
        logic.JumpSlicesToLocation(-x, -y, z, True)
        markups = self.findingsMarkups(segmentationNode)
        point = finding_nodes.point_of_finding(markups, findingId) if markups is not None else None
        if point is not None:
            logic.FocusCamerasOnNthPointInMarkup(markups.GetID(), point)
        self.showTeeth(segmentationNode, finding.teeth)

    def showTooth(self, segmentationNode: Any, fdi: int) -> None:
        """Move the slice views to the middle of a tooth and show it clearly; nothing happens where it is not there."""
        numbers = nodes.numbers_of(segmentationNode, self._told(segmentationNode, _SCHEME) or None)
        identifier = next((i for i, number in numbers.items() if number == fdi), None)
        if identifier is None:
            return
        slicer.modules.markups.logic().JumpSlicesToLocation(*nodes.middle_of(segmentationNode, identifier), True)
        highlight.highlight(segmentationNode, numbers, [fdi])

    def showTeeth(self, segmentationNode: Any, teeth: Sequence[int]) -> None:
        """Show these teeth clearly and the others faded."""
        numbers = nodes.numbers_of(segmentationNode, self._told(segmentationNode, _SCHEME) or None)
        highlight.highlight(segmentationNode, numbers, teeth)

    def giveBackLook(self, segmentationNode: Any) -> None:
        """Show the segments as they were before a finding was shown."""
        highlight.give_back(segmentationNode)

    def setVerdict(self, segmentationNode: Any, findingId: int, verdict: str, note: str = "") -> None:
        """Ignore a finding (or take that back: verdict "open"), with a note; both are saved with the scene."""
        finding_nodes.set_verdict(self._table(segmentationNode), findingId, verdict, note)
        self._mark(segmentationNode)

    # ---- repair

    def repair(self, segmentationNode: Any, findingId: int | None = None) -> list[int]:
        """Mend one finding, or all that can be mended safely and are not ignored; returns the ids of those mended.

        A repair that would make something else worse is not made, and its id not returned. The findings are looked for
        anew. Raises InputError where nothing was checked, where the finding has no repair, and where the segmentation
        cannot be changed; then it is as it was.
        """
        return at_once(self.repairSteps(segmentationNode, findingId))

    def repairSteps(self, segmentationNode: Any, findingId: int | None = None) -> Steps[list[int]]:
        """:meth:`repair` in steps."""
        self.showBefore(segmentationNode, False)
        table, rows = self._table(segmentationNode), _reviewed(self._table(segmentationNode))
        if findingId is not None:
            _check_repairable(self._row(segmentationNode, findingId).finding)
        nodes.check_editable(segmentationNode)
        session, volume = self._session(segmentationNode), table.GetNodeReference(_VOLUME)
        view = yield from nodes.view_steps(segmentationNode, table.GetAttribute(_SCHEME) or None)
        known = session.checkup if session.stamp == view.stamp else None
        scan = (yield from nodes.volume_steps(volume)) if known is None and volume is not None else None
        mending = partial(_mend, view, scan, known, rows, findingId)
        result, edit, checkup = yield mending
        yield from nodes.put_steps(segmentationNode, edit, session.history)
        self._remember(session, checkup, nodes.stamp_of(segmentationNode))
        self._show(segmentationNode, volume, checkup, result)
        return _mended_ids(rows, result)

    def canUndoRepair(self, segmentationNode: Any) -> bool:
        """Whether a repair of this session can be undone."""
        session = self._sessions.get(segmentationNode.GetID() or "") if segmentationNode is not None else None
        return session is not None and session.node is segmentationNode and session.history.can_undo

    def undoRepair(self, segmentationNode: Any) -> bool:
        """Take back the last repair by the segmentation's history and check again; False where there is none."""
        return at_once(self.undoRepairSteps(segmentationNode))

    def undoRepairSteps(self, segmentationNode: Any) -> Steps[bool]:
        """:meth:`undoRepair` in steps."""
        self.showBefore(segmentationNode, False)
        if not self._session(segmentationNode).history.undo():
            return False
        table = self._table(segmentationNode)
        scheme = table.GetAttribute(_SCHEME) or None
        yield from self.checkSteps(segmentationNode, table.GetNodeReference(_VOLUME), scheme)
        return True

    def showBefore(self, segmentationNode: Any, before: bool) -> bool:
        """Show the segmentation as it was before the last repair, or as it is; whether that is what shows now."""
        session = self._session(segmentationNode)
        if before != session.shows_before:
            if before and session.stamp != nodes.stamp_of(segmentationNode):
                session.checkup = None  # it was no longer that of the state after
            done = session.history.undo() if before else session.history.redo()
            session.shows_before = before and done
            if not before:
                session.stamp = nodes.stamp_of(segmentationNode)
        return session.shows_before == before

    # ---- report

    def exportReport(self, segmentationNode: Any, path: str | Path) -> Path:
        """Write the report on a checked segmentation, with verdicts: JSON, CSV or a page, as the file name ends.

        Where the segmentation changed after its last check, it is checked again first. Raises UsageError for another
        ending, InputError where nothing was checked and OutputError where the file cannot be written.
        """
        return at_once(self.exportReportSteps(segmentationNode, path))

    def exportReportSteps(self, segmentationNode: Any, path: str | Path) -> Steps[Path]:
        """:meth:`exportReport` in steps."""
        from ToothTopoSegLib.errors import UsageError

        path = Path(path)
        if path.suffix.lower() not in SUFFIXES:
            raise UsageError(f"{path.name} ends with {path.suffix!r}, expected .json, .csv or .html; rename it.")
        self.showBefore(segmentationNode, False)
        table = self._table(segmentationNode)
        session, volume = self._session(segmentationNode), table.GetNodeReference(_VOLUME)
        checkup = session.checkup
        if checkup is None or session.stamp != nodes.stamp_of(segmentationNode):
            checkup = yield from self._examineSteps(segmentationNode, volume, table.GetAttribute(_SCHEME) or None)
            self._show(segmentationNode, volume, checkup)
        names = segmentationNode.GetName(), volume.GetName() if volume is not None else None
        yield partial(_write, checkup, _reviewed(table), names, path)
        return path

    # ---- measures

    def measure(self, segmentationNode: Any, volumeNode: Any = None, scheme: str | None = None) -> Any:
        """Measure every tooth of a segmentation; returns the table node, which a second call fills anew.

        ``volumeNode`` is the scan the segmentation belongs to, in which enamel shows where crowns end; it needs no
        check before. Raises InputError where the segmentation cannot be used.
        """
        return at_once(self.measureSteps(segmentationNode, volumeNode, scheme))

    def measureSteps(self, segmentationNode: Any, volumeNode: Any = None, scheme: str | None = None) -> Steps[Any]:
        """:meth:`measure` in steps."""
        self._session(segmentationNode)
        self.showBefore(segmentationNode, False)
        view = yield from nodes.view_steps(nodes.straightened(segmentationNode), scheme)
        scan = (yield from nodes.volume_steps(volumeNode)) if volumeNode is not None else None
        rows = yield partial(_measured, view, scan)
        _check_there(segmentationNode)
        known = _tied_table(segmentationNode, measure_nodes.TABLE_ATTRIBUTE)
        name = f"{segmentationNode.GetName()} measures"
        table = measure_nodes.measures_table(rows, name, segmentationNode.GetScene(), known)
        table.SetNodeReferenceID(_SEGMENTATION, segmentationNode.GetID())
        return table

    # ---- what is remembered

    def forget(self) -> None:
        """Let go of what is remembered of segmentations that are no longer in a scene."""
        self._sessions = {i: s for i, s in self._sessions.items() if s.node.GetScene() is not None}

    def _session(self, node: Any) -> _Session:
        from ToothTopoSegLib.errors import InputError

        if node is None or not node.IsA("vtkMRMLSegmentationNode"):
            raise InputError("No segmentation is chosen; choose the segmentation of the teeth first.")
        self.forget()
        session = self._sessions.get(node.GetID())
        if session is None or session.node is not node:
            session = self._sessions[node.GetID()] = _Session(node, nodes.History(node))
        return session

    def _remember(self, session: _Session, checkup: Checkup, stamp: tuple[Any, ...]) -> None:
        """Keep the checkup of one segmentation alone: it holds the label map and the scan."""
        for other in self._sessions.values():
            other.checkup = None
        session.checkup, session.stamp = checkup, stamp

    def _examineSteps(self, node: Any, volumeNode: Any, scheme: str | None) -> Steps[Checkup]:
        session = self._session(node)
        self.showBefore(node, False)
        stamp = nodes.stamp_of(node)
        view = yield from nodes.view_steps(nodes.straightened(node), scheme)
        scan = (yield from nodes.volume_steps(volumeNode)) if volumeNode is not None else None
        checkup = yield partial(_examine, view, scan)
        _check_there(node)
        self._remember(session, checkup, stamp)
        return checkup

    # ---- nodes of findings

    def _show(self, node: Any, volumeNode: Any, checkup: Checkup, result: RepairResult | None = None) -> Any:
        """Write the findings into the segmentation's table and markups, which are made where there are none."""
        from ToothTopoSegLib.topology.review import carried_over

        table = self.findingsTable(node)
        before = _reviewed(table) if table is not None else []
        rows = carried_over(before, checkup.findings, result.repaired if result else ())
        verdicts = {row.finding.id: finding_nodes.Verdict(row.verdict, row.note) for row in rows}
        name = f"{node.GetName()} findings"
        findings = [row.finding for row in rows]
        table = finding_nodes.findings_table(findings, name, node.GetScene(), table, verdicts)
        table.SetNodeReferenceID(_SEGMENTATION, node.GetID())
        there = volumeNode is not None and volumeNode.GetScene() is not None
        table.SetNodeReferenceID(_VOLUME, volumeNode.GetID() if there else None)
        table.SetAttribute(_SCHEME, checkup.scheme or "")
        table.SetAttribute(_TEETH, " ".join(map(str, checkup.mouth.teeth)))
        table.SetAttribute(_NOTES, " ".join(checkup.notes))
        self._mark(node)
        return table

    def _mark(self, node: Any) -> None:
        """Put the open findings of a segmentation into its markups node."""
        table = self._table(node)
        markups = table.GetNodeReference(_MARKUPS)
        rows = [row.finding for row in _reviewed(table) if row.verdict == finding_nodes.OPEN]
        marked = finding_nodes.findings_markups(rows, f"{node.GetName()} findings", node.GetScene(), markups)
        if markups is None:
            table.SetNodeReferenceID(_MARKUPS, marked.GetID())
            display = marked.GetDisplayNode()
            display.SetSelectedColor(*_MARK_COLOUR)
            display.SetTextScale(2.5)
            display.SetOccludedVisibility(True)  # most findings lie inside a tooth

    def _table(self, node: Any) -> Any:
        from ToothTopoSegLib.errors import InputError

        self._session(node)
        table = self.findingsTable(node)
        if table is None:
            raise InputError(f"The segmentation {node.GetName()!r} has not been checked yet; check it first.")
        return table

    def _row(self, node: Any, finding_id: int) -> Reviewed:
        rows = {row.finding.id: row for row in _reviewed(self._table(node))}
        if finding_id not in rows:
            from ToothTopoSegLib.errors import UsageError

            raise UsageError(f"There is no finding {finding_id} in {node.GetName()!r}; choose one of the table.")
        return rows[finding_id]

    def _told(self, node: Any, attribute: str) -> str:
        table = self.findingsTable(node)
        return (table.GetAttribute(attribute) or "") if table is not None else ""


def _tied_table(node: Any, attribute: str) -> Any:
    """The table node of a segmentation that bears an attribute; None where there is none."""
    scene = node.GetScene() if node is not None else None
    for number in range(scene.GetNumberOfNodesByClass("vtkMRMLTableNode") if scene else 0):
        table = scene.GetNthNodeByClass(number, "vtkMRMLTableNode")
        if table.GetAttribute(attribute) and table.GetNodeReference(_SEGMENTATION) is node:
            return table
    return None


def _reviewed(table: Any) -> list[Reviewed]:
    from ToothTopoSegLib.topology.review import Reviewed

    verdicts = finding_nodes.verdicts_of(table)
    told = ((finding, verdicts[finding.id]) for finding in finding_nodes.findings_of(table))
    return [Reviewed(finding, verdict.verdict, verdict.note) for finding, verdict in told]


def _check_there(node: Any) -> None:
    from ToothTopoSegLib.errors import InputError

    if node.GetScene() is None:
        raise InputError(f"The segmentation {node.GetName()!r} was removed while it was checked.")


def _check_repairable(finding: Finding) -> None:
    from ToothTopoSegLib.errors import InputError

    if finding.repair is None:
        raise InputError(
            f"Finding {finding.id} ({finding.kind}) has no safe repair; correct it in the Segment Editor or ignore it."
        )


# ---- computations, which touch arrays only


def _examine(view: nodes.SegmentationView, scan: Volume | None, progress: Progress) -> Checkup:
    from ToothTopoSegLib.topology.check import check_volume

    began = time.perf_counter()
    teeth = nodes.teeth_of(view)
    scan, notes = _fitting(teeth.labels, scan)
    findings, mouth = check_volume(teeth.labels, scan, progress)
    seconds = time.perf_counter() - began
    return Checkup(teeth.labels, mouth, findings, (*teeth.notes, *notes), teeth.scheme, seconds)


def _measured(view: nodes.SegmentationView, scan: Volume | None, progress: Progress) -> list[dict[str, Any]]:
    from ToothTopoSegLib.measurements.table import rows_of
    from ToothTopoSegLib.measurements.teeth import measured

    labels = nodes.teeth_of(view).labels
    return rows_of(measured(labels, _fitting(labels, scan)[0], None, progress))


def _fitting(labels: Volume, scan: Volume | None) -> tuple[Volume | None, tuple[str, ...]]:
    """The scan if it lies on the grid of the labels, else a note that it could not be used."""
    from ToothTopoSegLib.errors import InputError
    from ToothTopoSegLib.topology.check import check_same_grid

    if scan is None:
        return None, ()
    try:
        check_same_grid(labels, scan)
    except InputError:
        return None, ("The volume lies on another grid than the segmentation and was not used.",)
    return scan, ()


def _mend(
    view: nodes.SegmentationView,
    scan: Volume | None,
    known: Checkup | None,
    rows: Sequence[Reviewed],
    finding_id: int | None,
    progress: Progress,
) -> tuple[RepairResult, nodes.Edit, Checkup]:
    """What a repair changes, as a plan for the node, and what a check of the mended labels sees."""
    from ToothTopoSegLib.progress import part
    from ToothTopoSegLib.topology.repair import repair_all, same_finding

    began = time.perf_counter()
    seen = known or _examine(view, scan, part(progress, 0.0, 0.4))
    chosen = [row.finding for row in rows if row.finding.id == finding_id]
    ignored = [row.finding for row in rows if row.verdict == finding_nodes.IGNORED]

    def wanted(finding: Finding) -> bool:
        if finding_id is not None:
            return any(same_finding(finding, one) for one in chosen)
        return not any(same_finding(finding, one) for one in ignored)

    mouth = seen.mouth
    repairing = part(progress, 0.0 if known else 0.4, 0.95)
    result = repair_all(seen.labels, None, repairing, wanted, (mouth, list(seen.findings)))
    progress(0.95, "Writing the repaired teeth")
    edit = nodes.planned(view, result.labels)
    seconds = time.perf_counter() - began
    after = Checkup(result.labels, result.mouth, result.findings, seen.notes, seen.scheme, seconds)
    return result, edit, after


def _mended_ids(rows: Sequence[Reviewed], result: RepairResult) -> list[int]:
    from ToothTopoSegLib.topology.review import is_mended

    mended = (row for row in rows if row.verdict != finding_nodes.REPAIRED)
    return [row.finding.id for row in mended if is_mended(row.finding, result.repaired)]


def _write(
    checkup: Checkup, rows: Sequence[Reviewed], names: tuple[str, str | None], path: Path, progress: Progress
) -> None:
    """Write the report; the findings of the checkup get the ids and verdicts of the table's rows."""
    from ToothTopoSegLib.evaluation.html import write_check_page
    from ToothTopoSegLib.topology.report import make_report, peak_rss_mb, write_json
    from ToothTopoSegLib.topology.review import carried_over, reviewed_report, write_csv

    progress(0.0, "Writing the report")
    mouth = checkup.mouth
    told = carried_over(rows, checkup.findings)
    standing = [row.finding for row in told if row.verdict != finding_nodes.REPAIRED]
    report = make_report(
        mouth.labels,
        standing,
        timing_s={"check": checkup.seconds},
        peak_rss_mb=peak_rss_mb(),
        model=None,
        input=_described(checkup, names),
        topology=mouth.teeth,
    )
    report = reviewed_report(report, told)
    if path.suffix.lower() == ".json":
        write_json(report, path)
    elif path.suffix.lower() == ".csv":
        write_csv(report, path)
    else:
        write_check_page(report, mouth.labels, mouth.scan, standing, path)


def _described(checkup: Checkup, names: tuple[str, str | None]) -> dict[str, Any]:
    labels = checkup.labels
    return {
        "name": names[0],
        "image": names[1],
        "scheme": checkup.scheme or "fdi",
        "shape_zyx": list(labels.array.shape),
        "spacing_zyx_mm": [float(step) for step in labels.spacing],
    }
