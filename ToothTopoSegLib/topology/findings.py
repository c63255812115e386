"""Findings: places where a label map of teeth is anatomically suspect, each said in a sentence a dentist understands.

What a finding is, how findings are ordered, and the words all detectors share. The detectors themselves live in
:mod:`ToothTopoSegLib.topology.detect`, one module for what goes together. Nothing is measured in voxels, so that scans
of any resolution are held to the same limits.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from ToothTopoSegLib.anatomy import fdi as teeth
from ToothTopoSegLib.imaging.volume import Array, Vector3, Volume
from ToothTopoSegLib.topology.betti import Body

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


@dataclass(frozen=True)
class Robustness:
    """How sure the scores of a network are of a piece, tunnel or void: the class of persistent homology that it is.

    Scores are 0 to 1, for no tooth to tooth. It appears in those above ``birth`` and vanishes again in those above
    ``death``, at ``position_lps_mm``: scores have to change by the difference to undo it.
    """

    dimension: int
    birth: float
    death: float
    position_lps_mm: Vector3

    @property
    def persistence(self) -> float:
        """By how much scores have to change to undo it."""
        return self.birth - self.death


@dataclass(frozen=True)
class Finding:
    """One suspected anatomical error.

    ``position_lps_mm`` is the place to look at, ``size_mm3`` how much volume is concerned (0 where nothing is there),
    ``repair`` the name of the repair that mends it, None where a person has to decide. ``voxels`` are the voxels
    concerned, for the repair and for pictures: the piece, the void, what plugs a tunnel. They are not part of the
    report. ``robustness`` is known where the labels were made from scores.
    """

    id: int
    kind: str
    severity: str
    teeth: tuple[int, ...]
    position_lps_mm: Vector3
    size_mm3: float
    evidence: str
    repair: str | None = None
    voxels: tuple[Body, ...] = field(default=(), repr=False, compare=False)
    robustness: Robustness | None = None


def numbered(findings: Iterable[Finding]) -> list[Finding]:
    """The findings ordered by severity, kind, tooth and size, with ids from 1."""
    ordered = sorted(
        findings,
        key=lambda f: (SEVERITIES.index(f.severity), KINDS.index(f.kind), f.teeth, -f.size_mm3, f.position_lps_mm),
    )
    return [replace(finding, id=number) for number, finding in enumerate(ordered, start=1)]


def lps(labels: Volume, index_zyx: Array) -> Vector3:
    """LPS position (x, y, z) in mm of a voxel index (z, y, x)."""
    x, y, z = labels.index_to_lps(index_zyx).tolist()
    return x, y, z


def named(fdi: int) -> str:
    """The tooth as a sentence begins with it, such as 'Tooth 16 (upper right first molar)'."""
    return f"Tooth {fdi} ({teeth.name(fdi)})"


def mm3(volume: float) -> str:
    """A volume in mm3 as people write it."""
    return f"{volume:.2g} mm3" if volume < 1 else f"{volume:.1f} mm3"
