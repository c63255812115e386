"""A mouth: a label map of teeth with everything that detectors and repairs measure on it, measured once.

In go a label map as a Volume of FDI numbers and, where there is one, the scan on the same grid. Detectors look at it
along the patient's own axes, however the array is stored, so that they come to the same findings.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from ToothTopoSegLib.imaging.canonical import to_canonical
from ToothTopoSegLib.imaging.volume import Volume
from ToothTopoSegLib.topology.betti import ToothTopology, tooth_topology


def mouth_of(labels: Volume, scan: Volume | None = None) -> Mouth:
    """The mouth of a label map stored along any axes, and of the scan on the same grid; both in canonical axes."""
    return Mouth(to_canonical(labels), None if scan is None else to_canonical(scan))


@dataclass(frozen=True, eq=False)
class Mouth:
    """Label map (FDI numbers, jaws, 0) and the scan it belongs to, if known; see :func:`mouth_of`."""

    labels: Volume
    scan: Volume | None = None

    @cached_property
    def teeth(self) -> dict[int, ToothTopology]:
        """Bodies, voids and Betti numbers of every tooth by FDI number, ascending."""
        return tooth_topology(self.labels.array)
