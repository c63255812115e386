"""Repairs: what a finding proposes, made into voxels, tried, and kept only if it makes nothing worse.

In goes a label map of FDI numbers, out come the mended one and every :class:`Change` that was kept, voxel by voxel, so
that each can be undone. :func:`repair_all` proposes the repairs of one kind at a time, looks at the mouth again, and
rolls back what left its finding standing or brought up a new one. Repairs that were refused once are not tried again,
so that repairing a repaired map changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.anatomy import fdi as teeth
from ToothTopoSegLib.imaging.boxes import Box
from ToothTopoSegLib.imaging.canonical import from_canonical
from ToothTopoSegLib.imaging.volume import Volume
from ToothTopoSegLib.progress import Progress, silent
from ToothTopoSegLib.topology.betti import Body, betti_numbers, box_around
from ToothTopoSegLib.topology.detect import find_all
from ToothTopoSegLib.topology.detect.order import namesakes, renumbering
from ToothTopoSegLib.topology.detect.pieces import CRUMB_MM3, adhering_to, around_it, lost_number
from ToothTopoSegLib.topology.findings import Finding
from ToothTopoSegLib.topology.mouth import Mouth, mouth_of
from ToothTopoSegLib.topology.shape import Mask, closed, narrowest_cut

ORDER = (
    "split merge",
    "split and trim merge",
    "join split",
    "renumber",
    "join fragment",
    "reassign fragment",
    "drop fragment",
    "close tunnel",
    "fill cavity",
)
"""Which body is which tooth first, then its pieces, then its holes: each rests on what stands before it."""
INSTEAD = {"split and trim merge": "split merge", "drop fragment": "join fragment"}
"""What is tried where another repair of the same finding was refused."""
SAME_PLACE_MM = 3.0
OUTSIDE_MM = 1.0
BORE_MM, BORE_WIDER = 12.0, 1.6
"""A bore is looked for this far from the plug that closes it, and may be so many times as wide as there."""
STUMP_MM, JOINT_MM = 1.0, 3.0
"""What joined two teeth reaches at least so far from the cut, and at most the second farther."""
ROUNDS = 3


@dataclass(frozen=True, eq=False)
class Change:
    """One repair: the voxels it concerns and what they hold before and after.

    ``indices`` are flat voxel indices (n,) in C order of the array (z, y, x), ascending; ``before`` and ``after`` are
    label values (n,), uint8.
    """

    repair: str
    finding: Finding
    indices: NDArray[np.int64]
    before: NDArray[np.uint8]
    after: NDArray[np.uint8]

    @property
    def voxels(self) -> int:
        """Number of voxels that change."""
        return len(self.indices)


@dataclass(frozen=True, eq=False)
class RepairResult:
    """The mended label map, the changes that were kept in their order, what was refused, and the findings left.

    ``labels`` and ``repaired`` are on the given grid, ``mouth`` and the voxels of ``findings`` in canonical axes.
    """

    labels: Volume
    repaired: list[Change]
    rejected: list[Finding]
    findings: list[Finding]
    mouth: Mouth


def applied(labels: Volume, changes: Iterable[Change]) -> Volume:
    """The label map after these changes; ValueError where it does not hold what a change expects to find."""
    return _written(labels, [(c.indices, c.before, c.after) for c in changes])


def undone(labels: Volume, changes: Sequence[Change]) -> Volume:
    """The label map before these changes, which are given in the order they were made; ValueError as above."""
    return _written(labels, [(c.indices, c.after, c.before) for c in reversed(changes)])


def _written(labels: Volume, steps: Iterable[tuple[Any, Any, Any]]) -> Volume:
    array = np.ascontiguousarray(labels.array).copy()
    flat = array.reshape(-1)
    for indices, expected, value in steps:
        if not np.array_equal(flat[indices], expected):
            raise ValueError("the label map is not the one this change was made for")
        flat[indices] = value
    return labels.with_array(array)


def propose(mouth: Mouth, finding: Finding) -> Change | None:
    """The change that mends a finding; None where no repair is named or nothing would change."""
    planner = PLANNERS.get(finding.repair or "")
    if planner is None:
        return None
    indices, after = planner(mouth, finding)
    order = np.argsort(indices, kind="stable")
    indices, after = indices[order], after[order].astype(np.uint8)
    before = mouth.labels.array.reshape(-1)[indices].astype(np.uint8)
    differs = before != after
    if not differs.any():
        return None
    return Change(finding.repair or "", finding, indices[differs], before[differs], after[differs])


def repair_all(
    labels: Volume,
    scan: Volume | None = None,
    progress: Progress = silent,
    wanted: Callable[[Finding], bool] = lambda finding: True,
    checked: tuple[Mouth, list[Finding]] | None = None,
) -> RepairResult:
    """Mend all that can be mended safely. ``scan`` lies on the grid of ``labels`` and helps to part merged teeth.

    Only findings that are ``wanted`` are mended. ``checked`` spares the first look at the mouth: the mouth of these
    very labels and its findings, where they are known.
    """
    mouth = checked[0] if checked else mouth_of(labels.with_array(labels.array.astype(np.uint8)), scan)
    findings = checked[1] if checked else find_all(mouth)
    kept: list[Change] = []
    refused: dict[tuple[Any, ...], Finding] = {}
    for turn in range(ROUNDS):
        before = len(kept)
        for place, name in enumerate(ORDER):
            progress((turn + place / len(ORDER)) / ROUNDS, f"Repairing: {name}")
            due = [f for f in _offered(findings, name, refused) if _key(f) not in refused and wanted(f)]
            changes = _disjoint([c for f in due if (c := propose(mouth, f)) is not None])
            good, mouth, findings = _try(mouth, findings, changes, refused)
            kept += good
        if len(kept) == before:
            break
    progress(1.0, "Repaired")
    back = from_canonical(mouth.labels, labels)
    kept = [_stored(change, mouth.labels, labels) for change in kept]
    rejected = [f for f in refused.values() if any(same_finding(f, left) for left in findings)]
    return RepairResult(back, kept, rejected, findings, mouth)


def _offered(findings: Iterable[Finding], name: str, refused: Mapping[tuple[Any, ...], Finding]) -> list[Finding]:
    """The findings that offer a repair, and those whose own one was refused and has this one instead."""
    first = INSTEAD.get(name)
    again = [replace(f, repair=name) for f in findings if f.repair == first and first and _key(f) in refused]
    return [f for f in findings if f.repair == name] + again


def _stored(change: Change, canonical: Volume, labels: Volume) -> Change:
    """A change of the canonical array as one of the array as it is stored."""
    index = np.stack(np.unravel_index(change.indices, canonical.array.shape), axis=1)
    there = np.rint(labels.lps_to_index(canonical.index_to_lps(index))).astype(np.int64)
    flat = np.ravel_multi_index(tuple(there.T), labels.array.shape).astype(np.int64)
    order = np.argsort(flat)
    return replace(change, indices=flat[order], before=change.before[order], after=change.after[order])


def _try(
    mouth: Mouth, findings: list[Finding], changes: list[Change], refused: dict[tuple[Any, ...], Finding]
) -> tuple[list[Change], Mouth, list[Finding]]:
    """Make the changes together; take back, and remember, those that made things worse, until none does."""
    while changes:
        tried = Mouth(applied(mouth.labels, changes), mouth.scan)
        found = find_all(tried)
        bad = _blamed(mouth, tried, changes, findings, found)
        if not bad:
            return changes, tried, found
        refused |= {_key(change.finding): change.finding for change in bad}
        changes = [change for change in changes if change not in bad]
    return [], mouth, findings


def _blamed(
    mouth: Mouth, tried: Mouth, changes: Sequence[Change], before: Sequence[Finding], after: Sequence[Finding]
) -> list[Change]:
    """The changes from ``mouth`` to ``tried`` whose finding still stands, and those that touch the teeth of a finding
    that is new."""
    standing = [c for c in changes if any(same_finding(c.finding, f) for f in after)]
    known = [*before, *_renamed(changes, before)]
    new = [f for f in after if f.severity != "info" and not any(same_finding(f, old) for old in known)]
    new = [f for f in new if not (_is_crumb(f) or _known_contact(mouth, tried, f))]
    new = [f for f in new if not _known_gap(mouth, changes, f, before)]
    guilty = [c for c in changes if any(_touched(c) & set(f.teeth) for f in new)]
    if not guilty and any(f.severity == "error" for f in new):
        # a warning on teeth that nothing has touched is one of the measures that rest on all teeth, near its limit
        return list(changes)
    return [c for c in changes if c in standing or c in guilty]


def _renamed(changes: Iterable[Change], findings: Iterable[Finding]) -> list[Finding]:
    """Findings with the numbers that teeth get: a hole in a tooth is no new one because the tooth is renumbered."""
    new: dict[int, int] = {}
    for change in changes:
        if change.repair == "renumber":
            new |= dict(zip(change.before.tolist(), change.after.tolist(), strict=True))
    return [replace(f, teeth=tuple(new.get(t, t) for t in f.teeth)) for f in findings] if new else []


def _known_gap(mouth: Mouth, changes: Sequence[Change], finding: Finding, before: Sequence[Finding]) -> bool:
    """Whether a missing tooth was missing before as well, whatever was said of its number or its gap."""
    if finding.kind != "missing":
        return False
    absent = not set(finding.teeth) & set(mouth.teeth)
    return absent or _uncovered(changes, finding, mouth) or _gap_renamed(changes, finding, before)


def _known_contact(mouth: Mouth, tried: Mouth, finding: Finding) -> bool:
    """Whether two teeth that touch over much in ``tried`` met there before, too, under whatever numbers.

    Of a tooth in two pieces, neither may have touched the other tooth over as much as both do.
    """
    if finding.kind != "contact" or finding.severity == "error":
        return False
    layer = _flat(mouth.labels, finding.voxels)
    before, after = (some.labels.array.reshape(-1)[layer] for some in (mouth, tried))
    one, two = (set(before[after == fdi].tolist()) for fdi in finding.teeth)
    return not one & two and one | two <= teeth.TEETH


def _gap_renamed(changes: Iterable[Change], finding: Finding, before: Iterable[Finding]) -> bool:
    """Whether a gap only goes by another number, as the teeth beside it do: it is no new one."""
    gaps = [f for f in before if f.kind == "missing" and len(f.teeth) == len(finding.teeth)]
    if any(_apart_mm(finding, gap) <= SAME_PLACE_MM for gap in gaps):
        return True
    # where a row had the numbers of another one, the place of its gap was told by that one's arch
    others = set().union(*(namesakes(fdi) for fdi in finding.teeth))
    return any(change.repair == "renumber" for change in changes) and any(others.issuperset(gap.teeth) for gap in gaps)


def _is_crumb(finding: Finding) -> bool:
    """Whether a later repair mends it and it is next to nothing: a cut may leave a ragged edge."""
    return finding.severity == "warning" and finding.repair is not None and finding.size_mm3 < CRUMB_MM3


def _uncovered(changes: Iterable[Change], finding: Finding, mouth: Mouth) -> bool:
    """Whether a tooth is missing only because another one, or a part of it, no longer bears its number and stands
    elsewhere.

    Were that part the tooth itself, the place of the missing tooth would lie in it.
    """
    place = np.asarray(finding.position_lps_mm)
    for change in changes:
        given_up = set(change.before.tolist()) - set(change.after.tolist())
        if change.repair in ("join split", "renumber") and given_up >= set(finding.teeth):
            index = np.column_stack(np.unravel_index(change.indices, mouth.labels.array.shape))
            away = np.linalg.norm(mouth.labels.index_to_lps(index) - place, axis=1)
            return bool(away.min() > OUTSIDE_MM)
    return False


def _touched(change: Change) -> set[int]:
    values = np.concatenate([np.unique(change.before), np.unique(change.after)]).tolist()
    return {value for value in values if teeth.is_tooth(value)} | set(change.finding.teeth)


def same_finding(first: Finding, second: Finding) -> bool:
    """Whether two findings tell of the same thing; that it became milder or smaller is no new finding."""
    if first.kind != second.kind or set(first.teeth) != set(second.teeth):
        return False
    if first.kind == "missing":
        # its place is told from its neighbours, whose numbers a repair may change
        return True
    return _apart_mm(first, second) <= SAME_PLACE_MM


def _apart_mm(first: Finding, second: Finding) -> float:
    return float(np.linalg.norm(np.subtract(first.position_lps_mm, second.position_lps_mm)))


def _key(finding: Finding) -> tuple[Any, ...]:
    return (finding.kind, finding.repair, finding.teeth, tuple(round(v, 1) for v in finding.position_lps_mm))


def _disjoint(changes: Iterable[Change]) -> list[Change]:
    """The changes that share no voxel with one before them, and give no number that one before them gives; the others
    have their turn in the next round."""
    taken: list[Change] = []
    seen, given = np.zeros(0, np.int64), set[int]()
    for change in changes:
        numbers = set(change.after.tolist()) if change.repair == "renumber" else set()
        if not np.isin(change.indices, seen, assume_unique=True).any() and not numbers & given:
            taken.append(change)
            seen, given = np.union1d(seen, change.indices), given | numbers
    return taken


def _flat(labels: Volume, bodies: Iterable[Body]) -> NDArray[np.int64]:
    """Flat voxel indices of bodies."""
    parts = [np.ravel_multi_index(tuple(body.indices.T), labels.array.shape) for body in bodies]
    return np.unique(np.concatenate(parts)).astype(np.int64) if parts else np.zeros(0, np.int64)


Plan = tuple[NDArray[np.int64], NDArray[Any]]


def _fill(mouth: Mouth, finding: Finding) -> Plan:
    """All voxels of the finding become its first tooth."""
    indices = _flat(mouth.labels, finding.voxels)
    return indices, np.full(len(indices), finding.teeth[0], np.uint8)


def _fill_bore(mouth: Mouth, finding: Finding) -> Plan:
    """The plug of a tunnel becomes tooth, and with it what is left of the bore on both sides, where that adds no hole:
    a mere membrane would leave two pits. The many tiny tunnels of a ragged edge need no more than their plugs."""
    labels, fdi = mouth.labels, finding.teeth[0]
    plugs = indices = _flat(labels, finding.voxels)
    if len(finding.voxels) == 1:
        indices = np.union1d(plugs, _bore(labels, fdi, finding.voxels[0]))
    tooth = mouth.teeth[fdi].bodies[0]
    box = box_around([tooth, *finding.voxels])
    filled = [_with(labels, box, fdi, some) for some in (plugs, indices)]
    if any(now > before for now, before in zip(*map(betti_numbers, reversed(filled)), strict=True)):
        indices = plugs
    return indices, np.full(len(indices), fdi, np.uint8)


def _bore(labels: Volume, fdi: int, plug: Body) -> NDArray[np.int64]:
    """Flat indices of the free voxels beside a plug that its tooth encloses nearly as narrowly as the plug."""
    from scipy import ndimage

    step = np.asarray(labels.spacing)
    room = np.ceil(BORE_MM / step).astype(int)
    sides = zip(plug.box, room, labels.array.shape, strict=True)
    z, y, x = (slice(max(s.start - n, 0), min(s.stop + n, size)) for s, n, size in sides)
    box = (z, y, x)
    own, mask = labels.array[box] == fdi, plug.in_box(box)
    to_own = ndimage.distance_transform_edt(~own, sampling=step)
    radius = BORE_WIDER * (float(to_own[mask].max()) + float(step.max()) / 2)
    pits = closed(own | mask, labels.spacing, radius) & ~own & (labels.array[box] == 0)
    numbered, _ = ndimage.label(pits | mask)
    touching = np.isin(numbered, np.unique(numbered[mask]))
    start = np.array([side.start for side in box])
    return np.ravel_multi_index(tuple((np.argwhere(touching & pits) + start).T), labels.array.shape).astype(np.int64)


def _with(labels: Volume, box: Box, fdi: int, indices: NDArray[np.int64]) -> NDArray[np.bool_]:
    """A tooth in a box, with some more voxels."""
    mask: NDArray[np.bool_] = labels.array[box] == fdi
    places = np.column_stack(np.unravel_index(indices, labels.array.shape)) - [side.start for side in box]
    inside = places[((places >= 0) & (places < mask.shape)).all(axis=1)]
    mask[tuple(inside.T)] = True
    return mask


def _dissolve(mouth: Mouth, finding: Finding) -> Plan:
    """Each piece becomes the other tooth it adheres to, or else what lies around it: bone or nothing."""
    labels, own = mouth.labels, finding.teeth[0]
    indices = [_flat(labels, [piece]) for piece in finding.voxels]
    values = [adhering_to(labels, piece, own) or around_it(labels, piece) for piece in finding.voxels]
    return np.concatenate(indices), np.repeat(values, [len(i) for i in indices])


def _join(mouth: Mouth, finding: Finding) -> Plan:
    """Fill the gap between a piece and its tooth: closing by half the gap, and only if one sound body comes of it."""
    from scipy import ndimage

    tooth, piece = mouth.teeth[finding.teeth[0]], finding.voxels[0]
    labels, step = mouth.labels, np.asarray(mouth.labels.spacing)
    margin = np.ceil(3.0 / step).astype(int)
    size = labels.array.shape
    box = tuple(slice(max(s.start - m, 0), min(s.stop + m, n)) for s, m, n in zip(piece.box, margin, size, strict=True))
    own = tooth.bodies[0].in_box(box)
    part = piece.in_box(box)
    free = (labels.array[box] == 0) | (labels.array[box] >= teeth.LOWER_JAW)
    to_own, to_part = (ndimage.distance_transform_edt(~mask, sampling=step) for mask in (own, part))
    gap, alone = to_own[part].min(), betti_numbers(own)
    between = closed(own | part, labels.spacing, gap) & free & ~own & ~part
    # voxels on no long detour from one to the other; a bridge should be as wide as what it joins
    for slack in (1.5, 0.8, 0.3):
        bridge = between & (to_own + to_part <= gap + slack * step.max())
        if all(now <= before for now, before in zip(betti_numbers(own | part | bridge), alone, strict=True)):
            start = np.array([s.start for s in box])
            indices = np.ravel_multi_index(tuple((np.argwhere(bridge) + start).T), size).astype(np.int64)
            return indices, np.full(len(indices), finding.teeth[0], np.uint8)
    return _dissolve(mouth, finding)


def _hand_over(mouth: Mouth, finding: Finding) -> Plan:
    """The voxels of the finding, which bear one of its two numbers, become the other one."""
    indices = _flat(mouth.labels, finding.voxels)
    own = int(np.bincount(mouth.labels.array.reshape(-1)[indices], minlength=256).argmax()) if len(indices) else 0
    others = [fdi for fdi in finding.teeth if fdi != own]
    return indices, np.full(len(indices), others[0] if others else own, np.uint8)


def _part_teeth(mouth: Mouth, finding: Finding) -> Plan:
    """The part of a merge that the finding shows becomes its second tooth, but for the voxels that lie at the first.

    A cut is as wide as the teeth were merged; without that gap they would touch over more than teeth can.
    """
    from scipy import ndimage

    box, own, part = _merged(mouth, finding)
    return _parted(mouth, finding, box, part & ~ndimage.binary_dilation(own), np.zeros_like(part))


def _part_and_trim(mouth: Mouth, finding: Finding) -> Plan:
    """As :func:`_part_teeth`, but what joined the two goes as well: it must not stay behind as a stump on either.

    A stump is what lies between the cut and the narrowest place near by.
    """
    from scipy import ndimage

    spacing = mouth.labels.spacing
    box, own, part = _merged(mouth, finding)
    stumps = []
    for side, other in ((own, part), (part, own)):
        end = side & (ndimage.distance_transform_edt(~other, sampling=spacing) <= STUMP_MM)
        stumps.append(narrowest_cut(end, side & ~end, spacing, JOINT_MM)[0])
    return _parted(mouth, finding, box, part & ~stumps[1], stumps[0])


def _merged(mouth: Mouth, finding: Finding) -> tuple[Box, Mask, Mask]:
    """The body of a merge in its box: what keeps the number, and the part that the finding shows."""
    body = mouth.teeth[finding.teeth[0]].bodies[0]
    part = finding.voxels[0].in_box(body.box)
    return body.box, body.mask & ~part, part


def _parted(mouth: Mouth, finding: Finding, box: Box, kept: Mask, lost: Mask) -> Plan:
    """Of a merge, ``kept`` becomes the second tooth; the rest of its part and what the first one has ``lost`` are 0."""
    size, start = mouth.labels.array.shape, np.array([side.start for side in box])
    second, gone = (np.ravel_multi_index(tuple((np.argwhere(some) + start).T), size) for some in (kept, lost))
    indices = np.union1d(_flat(mouth.labels, finding.voxels), gone).astype(np.int64)
    return indices, np.where(np.isin(indices, second), finding.teeth[1], 0)


def _renumber(mouth: Mouth, finding: Finding) -> Plan:
    """The bodies of the finding get the numbers the arch gives them."""
    given = _relabelled(mouth, finding) if finding.kind == "duplicate" else renumbering(mouth, finding)
    if not given:
        return np.zeros(0, np.int64), np.zeros(0, np.uint8)
    indices = [_flat(mouth.labels, [body]) for body, _ in given]
    return np.concatenate(indices), np.repeat([number for _, number in given], [len(i) for i in indices])


def _relabelled(mouth: Mouth, finding: Finding) -> tuple[tuple[Body, int], ...]:
    """The body of a duplicate that is another tooth, with that tooth's number."""
    fdi = finding.teeth[0]
    found = (lost_number(mouth, fdi, body) for body in mouth.teeth[fdi].bodies[1:])
    return tuple(lost for lost in found if lost is not None and lost[0] is finding.voxels[0])[:1]


PLANNERS: dict[str, Callable[[Mouth, Finding], Plan]] = {
    "fill cavity": _fill,
    "close tunnel": _fill_bore,
    "reassign fragment": _dissolve,
    "drop fragment": _dissolve,
    "join fragment": _join,
    "split merge": _part_teeth,
    "split and trim merge": _part_and_trim,
    "join split": _hand_over,
    "renumber": _renumber,
}
