"""Missing teeth: places of the arch where no tooth was found.

In goes a :class:`~ToothTopoSegLib.topology.mouth.Mouth`, out come findings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from ToothTopoSegLib.anatomy import fdi as teeth
from ToothTopoSegLib.anatomy.sizes import size_of
from ToothTopoSegLib.imaging.volume import Array, Volume
from ToothTopoSegLib.topology.betti import ToothTopology
from ToothTopoSegLib.topology.detect.gaps import partner_dentition, place_between
from ToothTopoSegLib.topology.findings import Finding, lps, named
from ToothTopoSegLib.topology.mouth import Mouth

Teeth = Mapping[int, ToothTopology]


def find_missing(mouth: Mouth) -> list[Finding]:
    """Permanent teeth that are not there.

    A place between present teeth is a warning unless it lies at the edge of the view; the places beyond the last tooth
    of a row (often third molars) are one info for each end, a jaw without any tooth is one info, and so is a scan
    without any tooth. A deciduous tooth fills the place of its successor.
    """
    labels, topology = mouth.labels, mouth.teeth
    if not topology:
        return [_missing(labels, (), _centre(labels), "No tooth was found in this scan.")]
    found = []
    for upper in (True, False):
        row = _Row(mouth, teeth.arch_order(upper))
        found += [_empty_arch(labels, topology, upper)] if not row.filled else row.gaps() + row.ends()
    return found


class _Row:
    """One permanent arch: which of its places are filled, and by which tooth."""

    def __init__(self, mouth: Mouth, arch: tuple[int, ...]) -> None:
        self.mouth = mouth
        self.labels = mouth.labels
        self.topology = mouth.teeth
        self.arch = arch
        standing = [_standing_at(place, mouth.teeth) for place in arch]
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
        among_milk = teeth.is_deciduous(first.fdi) and teeth.is_deciduous(second.fdi)
        gap = [self._name(place, among_milk) for place in self.arch[before + 1 : after]]
        tooth = gap[index - before - 1]
        place = place_between(self.mouth, first, second, tooth, gap)
        text = f"{named(tooth)} was not found"
        if _at_edge(self.labels, place, tooth) or _cut_on_one_side(self.labels, first, second):
            return _missing(self.labels, (tooth,), place, f"{text}; its place lies at the edge of the scan.")
        adjacent = after - before == 2
        beside = (
            f"its neighbours {first.fdi} and {second.fdi} were"
            if adjacent
            else (f"there are teeth on both sides of its place ({first.fdi} and {second.fdi})")
        )
        return replace(_missing(self.labels, (tooth,), place, f"{text} although {beside}."), severity="warning")

    def _name(self, place: int, among_milk: bool) -> int:
        """The tooth that is absent from a place: milk or permanent as on the other side, or else as its neighbours."""
        milk = partner_dentition(self.mouth, place)
        return place + 40 if (among_milk if milk is None else milk) and teeth.is_tooth(place + 40) else place

    def _end(self, run: Sequence[int], last: int) -> Finding:
        place = np.asarray(self.topology[last].centroid)
        if len(run) == 1:
            often = "third molars are often absent" if teeth.position(run[0]) == 8 else "it may not be in view"
            return _missing(self.labels, tuple(run), place, f"{named(run[0])} was not found; {often}.")
        which = ", ".join(str(tooth) for tooth in run[:-1]) + f" and {run[-1]}"
        text = f"Teeth {which} were not found: the row ends at tooth {last}; they may be absent or not in view."
        return _missing(self.labels, tuple(run), place, text)


def _standing_at(place: int, topology: Teeth) -> int | None:
    """The tooth in this place of the arch: the milk tooth where it still stands, for then its successor is a germ."""
    predecessor = place + 40
    if teeth.is_tooth(predecessor) and predecessor in topology:
        return predecessor
    return place if place in topology else None


def _empty_arch(labels: Volume, topology: Teeth, upper: bool) -> Finding:
    jaw = "upper" if upper else "lower"
    place = np.mean([tooth.centroid for tooth in topology.values()], axis=0)
    text = f"No tooth of the {jaw} jaw was found; the jaw may be toothless or not in view."
    return _missing(labels, teeth.arch_order(upper), place, text)


def _missing(labels: Volume, which: tuple[int, ...], index_zyx: Array, evidence: str) -> Finding:
    return Finding(0, "missing", "info", which, lps(labels, index_zyx), 0.0, evidence)


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


def _centre(labels: Volume) -> Array:
    return (np.array(labels.array.shape) - 1) / 2
