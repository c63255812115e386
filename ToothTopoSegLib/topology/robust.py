"""How robust findings are: persistent homology of the scores that a label map was made from.

In go findings with their label map, and :class:`ToothScores`; out come the same findings, of which cavities, tunnels
and fragments say between which scores they exist. A hole that only a score of 0.45 keeps open is noise, one at 0.02 is
seen by the network. Only the surroundings of a finding are looked at, and only the first findings, so that the time is
bounded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.imaging.volume import Vector3, Volume
from ToothTopoSegLib.topology.betti import Body, body_at
from ToothTopoSegLib.topology.findings import Finding, Robustness
from ToothTopoSegLib.topology.persistence import robustness

DIMENSIONS = {"fragment": 0, "tunnel": 1, "cavity": 2}
MARGINS = {"fragment": 12, "tunnel": 4, "cavity": 4}
"""Voxels around a finding; a fragment has to be seen with a part of its tooth."""
MOST_FINDINGS = 24
MOST_VOXELS = 60_000
LEAST, CLEAR = 0.05, 0.5
"""Below the first persistence scores say nothing of a piece, tunnel or void; from the second on it is clear."""
_HIGHEST = 255


@dataclass(frozen=True, eq=False)
class ToothScores:
    """Scores of a network on a grid of its own, in 8 bits to spare memory.

    ``tooth`` holds how sure it is of any tooth against everything else (uint8, 255 for 1), ``number`` the FDI number
    (uint8) that it would give a voxel if it is a tooth.
    """

    tooth: Volume
    number: NDArray[np.uint8]

    def of(self, fdi: int) -> NDArray[np.float64]:
        """Scores 0..1 (z, y, x) of one tooth; 0 where another one would win."""
        return np.where(self.number == fdi, self.tooth.array / _HIGHEST, 0.0)


def with_robustness(findings: Sequence[Finding], labels: Volume, scores: ToothScores) -> list[Finding]:
    """The findings, cavities, tunnels and fragments with their robustness; ``labels`` is the map of their voxels."""
    judged = [f for f in findings if f.kind in DIMENSIONS and f.severity != "info" and f.voxels][:MOST_FINDINGS]
    known = {f.id: _judged(f, labels, scores) for f in judged}
    return [known.get(f.id, f) for f in findings]


def _judged(finding: Finding, labels: Volume, scores: ToothScores) -> Finding:
    found = _robustness(finding, labels, scores)
    if found is None:
        return finding
    return replace(finding, robustness=found, evidence=f"{finding.evidence} {_sentence(finding.kind, found)}")


def _robustness(finding: Finding, labels: Volume, scores: ToothScores) -> Robustness | None:
    largest = max(finding.voxels, key=lambda body: body.voxels)
    body = _on_grid(largest, labels, scores.tooth)
    dimension, margin = DIMENSIONS[finding.kind], MARGINS[finding.kind]
    if body is None or np.prod([s.stop - s.start + 2 * margin for s in body.box]) > MOST_VOXELS:
        return None
    values = scores.of(finding.teeth[0])
    # of equal scores those of the finding decide: pieces begin and tunnels close there first, voids fill there last
    values[body.box] += body.mask * (-0.5 if dimension == 2 else 0.5) / _HIGHEST
    pair = robustness(values, body, dimension, margin=margin)
    # labels come of scores between voxels: what they cut off need not be apart on the grid of the scores
    if pair is None or pair.death_place is None or pair.persistence < LEAST:
        return None
    place = pair.birth_place if dimension == 0 else pair.death_place
    birth, death = (min(max(score, 0.0), 1.0) for score in (pair.birth, pair.death))
    return Robustness(dimension, birth, death, _lps(scores.tooth, place))


def _lps(grid: Volume, index: tuple[int, int, int]) -> Vector3:
    x, y, z = grid.index_to_lps(np.asarray(index)).tolist()
    return x, y, z


def _on_grid(body: Body, labels: Volume, grid: Volume) -> Body | None:
    """The voxels of a grid that hold voxels of a body of ``labels``, and those beside them; None if it lies outside.

    One voxel more, because a surface between two grids is nowhere exact.
    """
    index = np.unique(np.rint(grid.lps_to_index(labels.index_to_lps(body.indices))).astype(np.int64), axis=0)
    beside = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    around = np.unique((index[:, None] + beside).reshape(-1, 3), axis=0)
    around = around[((around >= 0) & (around < grid.array.shape)).all(axis=1)]
    return body_at(around) if len(around) else None


def _sentence(kind: str, found: Robustness) -> str:
    clear = "clearly seen" if found.persistence >= CLEAR else "faint"
    what = {
        "fragment": f"{found.birth:.2f} in it and {found.death:.2f} on the way to the tooth",
        "tunnel": f"{found.birth:.2f} around it and {found.death:.2f} within",
        "cavity": f"{found.birth:.2f} around it and {found.death:.2f} within",
    }[kind]
    return f"In the scores of the network it is {clear}: {what} (0 for no tooth, 1 for tooth)."
