"""Detectors: one function for each kind of finding, all with the signature ``(mouth) -> list[Finding]``."""

from __future__ import annotations

from collections.abc import Callable

from ToothTopoSegLib.topology.detect.bodies import find_merges, find_splits
from ToothTopoSegLib.topology.detect.contacts import find_contacts
from ToothTopoSegLib.topology.detect.missing import find_missing
from ToothTopoSegLib.topology.detect.order import find_mirrored, find_swaps
from ToothTopoSegLib.topology.detect.outliers import find_outliers
from ToothTopoSegLib.topology.detect.pieces import find_cavities, find_duplicates, find_fragments
from ToothTopoSegLib.topology.detect.tunnels import find_tunnels
from ToothTopoSegLib.topology.findings import Finding, numbered
from ToothTopoSegLib.topology.mouth import Mouth

Detector = Callable[[Mouth], "list[Finding]"]
DETECTORS: tuple[Detector, ...] = (
    find_cavities,
    find_tunnels,
    find_fragments,
    find_merges,
    find_splits,
    find_missing,
    find_duplicates,
    find_swaps,
    find_mirrored,
    find_contacts,
    find_outliers,
)


def find_all(mouth: Mouth) -> list[Finding]:
    """All findings of all kinds, numbered from 1, errors first, then by kind and tooth."""
    return numbered(finding for detector in DETECTORS for finding in detector(mouth))
