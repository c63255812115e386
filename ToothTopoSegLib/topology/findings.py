"""Findings: places where a label map of teeth is anatomically suspect, each said in a sentence a dentist understands.

In goes a label map as a Volume of FDI numbers and the topology of its teeth (:func:`betti.tooth_topology`), out come
:class:`Finding` values with place (LPS mm), size (mm3) and severity. One function for each kind; :func:`find_all` runs
them and numbers the findings, errors first. Nothing is measured in voxels, so that scans of any resolution are held to
the same limits, and no function looks at the orientation of the array except to find its border.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ToothTopoSegLib.anatomy import fdi as teeth
from ToothTopoSegLib.anatomy.sizes import size_of
from ToothTopoSegLib.imaging.volume import Array, Vector3, Volume
from ToothTopoSegLib.topology.betti import Body, ToothTopology

KINDS = (
    "cavity",
    "tunnel",
    "fragment",
    "merge",
    "split",
    "missing",
    "duplicate",
    "swap",
    "mirrored",
    "contact",
    "outlier",
)
SEVERITIES = ("error", "warning", "info")

CRUMB_MM3 = 1.0
"""Voids and pieces below this are told in one finding for each tooth, and are no errors."""
FRAGMENT_ERROR_MM3 = 5.0
"""A loose piece from this size on is as large as a cusp or a root tip."""
DUPLICATE_SHARE = 0.3
DUPLICATE_MM3 = 30.0
"""A second body is a tooth of its own if it has this share of the largest one and more than this size."""

Teeth = Mapping[int, ToothTopology]
Detector = Callable[[Volume, Teeth], "list[Finding]"]


@dataclass(frozen=True)
class Finding:
    """One suspected anatomical error.

    ``position_lps_mm`` is the place to look at, ``size_mm3`` how much volume is concerned (0 where nothing is there),
    ``repair`` the name of the repair that mends it, None where a person has to decide.
    """

    id: int
    kind: str
    severity: str
    teeth: tuple[int, ...]
    position_lps_mm: Vector3
    size_mm3: float
    evidence: str
    repair: str | None = None


def find_all(labels: Volume, topology: Teeth) -> list[Finding]:
    """All findings of all kinds, numbered from 1, errors first, then by kind and tooth."""
    found = [finding for detector in DETECTORS for finding in detector(labels, topology)]
    return numbered(found)


def numbered(findings: Iterable[Finding]) -> list[Finding]:
    """The findings ordered by severity, kind, tooth and size, with ids from 1."""
    ordered = sorted(
        findings,
        key=lambda f: (SEVERITIES.index(f.severity), KINDS.index(f.kind), f.teeth, -f.size_mm3, f.position_lps_mm),
    )
    return [replace(finding, id=number) for number, finding in enumerate(ordered, start=1)]


def find_cavities(labels: Volume, topology: Teeth) -> list[Finding]:
    """Enclosed voids in a tooth: error from 1 mm3 on; a void that another label fills is none."""
    found = []
    for tooth in topology.values():
        holes = [hole for void in tooth.voids if (hole := _unlabelled(labels, void)) is not None]
        large, small = _by_size(holes, labels.voxel_volume)
        found += [_cavity(labels, tooth.fdi, [hole]) for hole in large]
        found += [_cavity(labels, tooth.fdi, small)] if small else []
    return found


def find_fragments(labels: Volume, topology: Teeth) -> list[Finding]:
    """Extra pieces of a tooth that are too small to be a tooth of their own: error from 5 mm3 on."""
    found = []
    for tooth in topology.values():
        pieces = [body for body in tooth.bodies[1:] if not _is_tooth_sized(tooth, body, labels.voxel_volume)]
        large, small = _by_size(pieces, labels.voxel_volume)
        found += [_fragment(labels, tooth, [piece]) for piece in large]
        found += [_fragment(labels, tooth, small)] if small else []
    return found


def find_duplicates(labels: Volume, topology: Teeth) -> list[Finding]:
    """One FDI number on two bodies each of tooth size."""
    return [
        _duplicate(labels, tooth, body)
        for tooth in topology.values()
        for body in tooth.bodies[1:]
        if _is_tooth_sized(tooth, body, labels.voxel_volume)
    ]


def find_missing(labels: Volume, topology: Teeth) -> list[Finding]:
    """Permanent teeth that are not there.

    A place between present teeth is a warning unless it lies at the edge of the view; the places beyond the last tooth
    of a row (often third molars) are one info for each end, a jaw without any tooth is one info, and so is a scan
    without any tooth. A deciduous tooth fills the place of its successor.
    """
    if not topology:
        return [_missing(labels, (), _centre(labels), "No tooth was found in this scan.")]
    found = []
    for upper in (True, False):
        row = _Row(labels, topology, teeth.arch_order(upper))
        found += [_empty_arch(labels, topology, upper)] if not row.filled else row.gaps() + row.ends()
    return found


DETECTORS: tuple[Detector, ...] = (find_cavities, find_fragments, find_duplicates, find_missing)


class _Row:
    """One permanent arch: which of its places are filled, and by which tooth."""

    def __init__(self, labels: Volume, topology: Teeth, arch: tuple[int, ...]) -> None:
        self.labels = labels
        self.topology = topology
        self.arch = arch
        standing = [_standing_at(place, topology) for place in arch]
        self.filled = {index: tooth for index, tooth in enumerate(standing) if tooth is not None}

    def gaps(self) -> list[Finding]:
        """One finding for each empty place between the first and the last tooth of the row."""
        inside = range(min(self.filled), max(self.filled))
        return [self._gap(index) for index in inside if index not in self.filled]

    def ends(self) -> list[Finding]:
        """One finding for each end of the row that stops before the last tooth a full arch has."""
        first, last = min(self.filled), max(self.filled)
        runs = ((self.arch[:first][::-1], first), (self.arch[last + 1 :], last))
        return [self._end(run, self.filled[at]) for run, at in runs if run]

    def _gap(self, index: int) -> Finding:
        before = max(i for i in self.filled if i < index)
        after = min(i for i in self.filled if i > index)
        first, second = self.topology[self.filled[before]], self.topology[self.filled[after]]
        share = (index - before) / (after - before)
        place = np.multiply(first.centroid, 1 - share) + np.multiply(second.centroid, share)
        tooth = self.arch[index]
        text = f"{_name(tooth)} was not found"
        if _at_edge(self.labels, place, tooth) or _cut_on_one_side(self.labels, first, second):
            return _missing(self.labels, (tooth,), place, f"{text}; its place lies at the edge of the scan.")
        adjacent = after - before == 2
        beside = (
            f"its neighbours {first.fdi} and {second.fdi} were"
            if adjacent
            else (f"there are teeth on both sides of its place ({first.fdi} and {second.fdi})")
        )
        return replace(_missing(self.labels, (tooth,), place, f"{text} although {beside}."), severity="warning")

    def _end(self, run: Sequence[int], last: int) -> Finding:
        place = np.asarray(self.topology[last].centroid)
        if len(run) == 1:
            often = "third molars are often absent" if teeth.position(run[0]) == 8 else "it may not be in view"
            return _missing(self.labels, tuple(run), place, f"{_name(run[0])} was not found; {often}.")
        which = ", ".join(str(tooth) for tooth in run[:-1]) + f" and {run[-1]}"
        text = f"Teeth {which} were not found: the row ends at tooth {last}; they may be absent or not in view."
        return _missing(self.labels, tuple(run), place, text)


def _standing_at(place: int, topology: Teeth) -> int | None:
    """The permanent tooth at this place of the arch, else its deciduous predecessor, else None."""
    if place in topology:
        return place
    predecessor = place + 40
    return predecessor if teeth.is_tooth(predecessor) and predecessor in topology else None


def _empty_arch(labels: Volume, topology: Teeth, upper: bool) -> Finding:
    jaw = "upper" if upper else "lower"
    place = np.mean([tooth.centroid for tooth in topology.values()], axis=0)
    text = f"No tooth of the {jaw} jaw was found; the jaw may be toothless or not in view."
    return _missing(labels, teeth.arch_order(upper), place, text)


def _missing(labels: Volume, which: tuple[int, ...], index_zyx: Array, evidence: str) -> Finding:
    return Finding(0, "missing", "info", which, _lps(labels, index_zyx), 0.0, evidence)


def _at_edge(labels: Volume, index_zyx: Array, tooth: int) -> bool:
    """Whether a tooth of average width with its centre there would reach the border of the array."""
    reach = size_of(tooth).md_crown / 2 / np.asarray(labels.spacing)
    return bool(np.any(index_zyx < reach) or np.any(index_zyx > np.array(labels.array.shape) - 1 - reach))


def _cut_on_one_side(labels: Volume, first: ToothTopology, second: ToothTopology) -> bool:
    """Whether both teeth touch one face of the array, other than its top and bottom where roots are cut off."""
    vertical = 2 - int(np.argmax(np.abs(np.asarray(labels.direction)[2])))
    shared = _faces_touched(labels, first) & _faces_touched(labels, second)
    return any(axis != vertical for axis, _ in shared)


def _faces_touched(labels: Volume, tooth: ToothTopology) -> set[tuple[int, str]]:
    faces = set()
    for body in tooth.bodies[:1]:
        for axis, (side, length) in enumerate(zip(body.box, labels.array.shape, strict=True)):
            faces |= {(axis, "start")} if side.start == 0 else set()
            faces |= {(axis, "end")} if side.stop == length else set()
    return faces


def _unlabelled(labels: Volume, void: Body) -> Body | None:
    """The part of a void that no other label fills."""
    mask = void.mask & (labels.array[void.box] == 0)
    voxels = int(np.count_nonzero(mask))
    return Body(void.box, mask, voxels) if voxels else None


def _by_size(found: Sequence[Body], voxel_volume: float) -> tuple[list[Body], list[Body]]:
    large = [body for body in found if body.voxels * voxel_volume >= CRUMB_MM3]
    return large, [body for body in found if body.voxels * voxel_volume < CRUMB_MM3]


def _is_tooth_sized(tooth: ToothTopology, body: Body, voxel_volume: float) -> bool:
    share = body.voxels / tooth.bodies[0].voxels
    return share >= DUPLICATE_SHARE and body.voxels * voxel_volume > DUPLICATE_MM3


def _cavity(labels: Volume, fdi: int, holes: Sequence[Body]) -> Finding:
    size = sum(hole.voxels for hole in holes) * labels.voxel_volume
    large = len(holes) == 1 and size >= CRUMB_MM3
    what = f"an enclosed hole of {_mm3(size)}"
    if len(holes) > 1:
        what = f"{len(holes)} enclosed holes smaller than {CRUMB_MM3:.0f} mm3 ({_mm3(size)} together)"
    place = _lps(labels, np.asarray(_largest(holes).centroid))
    text = f"{_name(fdi)} has {what}."
    return Finding(0, "cavity", "error" if large else "warning", (fdi,), place, size, text)


def _fragment(labels: Volume, tooth: ToothTopology, pieces: Sequence[Body]) -> Finding:
    size = sum(piece.voxels for piece in pieces) * labels.voxel_volume
    severity = "error" if len(pieces) == 1 and size >= FRAGMENT_ERROR_MM3 else "warning"
    away = _gap_mm(labels, tooth.bodies[0], pieces)
    text = f"{_name(tooth.fdi)} is in {len(tooth.bodies)} separate pieces; "
    if len(pieces) > 1:
        text += f"{len(pieces)} of them are crumbs smaller than {CRUMB_MM3:.0f} mm3 ({_mm3(size)} together)"
        text += f", the nearest {away:.1f} mm away."
    else:
        which = "the smaller one" if len(tooth.bodies) == 2 else "one of them"
        text += f"{which} ({_mm3(size)}) lies {away:.1f} mm away."
    place = _lps(labels, np.asarray(_largest(pieces).centroid))
    return Finding(0, "fragment", severity, (tooth.fdi,), place, size, text)


def _duplicate(labels: Volume, tooth: ToothTopology, body: Body) -> Finding:
    size, main = (b.voxels * labels.voxel_volume for b in (body, tooth.bodies[0]))
    away = _gap_mm(labels, tooth.bodies[0], [body])
    text = (
        f"The number {tooth.fdi} ({teeth.name(tooth.fdi)}) is on two bodies of tooth size ({_mm3(main)} and "
        f"{_mm3(size)}), {away:.1f} mm apart; one of them is probably another tooth."
    )
    return Finding(0, "duplicate", "error", (tooth.fdi,), _lps(labels, np.asarray(body.centroid)), size, text)


def _gap_mm(labels: Volume, main: Body, others: Sequence[Body]) -> float:
    """Distance in mm between the nearest voxel centres of a body and any of the others."""
    from scipy.spatial import cKDTree

    points = np.concatenate([other.indices for other in others])
    distance, _ = cKDTree(main.indices * labels.spacing).query(points * labels.spacing)
    return float(np.min(distance))


def _largest(found: Sequence[Body]) -> Body:
    return max(found, key=lambda body: body.voxels)


def _centre(labels: Volume) -> Array:
    return (np.array(labels.array.shape) - 1) / 2


def _lps(labels: Volume, index_zyx: Array) -> Vector3:
    x, y, z = labels.index_to_lps(index_zyx).tolist()
    return x, y, z


def _name(fdi: int) -> str:
    return f"Tooth {fdi} ({teeth.name(fdi)})"


def _mm3(volume: float) -> str:
    return f"{volume:.2g} mm3" if volume < 1 else f"{volume:.1f} mm3"
