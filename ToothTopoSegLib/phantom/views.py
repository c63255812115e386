"""What of a head a scanner shows: fields of view from one quadrant to the whole head, with the patient off-centre.

Sizes are those of the machines on the market: cylinders of 4 x 4 cm for a few teeth, 8 to 10 cm wide for one or both
jaws, 12 to 16 cm for a face, up to 23 x 26 cm for a head, in voxels of 0.15 to 0.6 mm.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.phantom.cone_beam import Field
from ToothTopoSegLib.phantom.head import Pose

FINEST, COARSEST = 0.15, 0.6
KINDS = {"quadrant": 0.15, "one jaw": 0.2, "both jaws": 0.35, "face": 0.2, "whole head": 0.1}
"""Names of fields of view, and in what share of scans they occur."""
OUTSIDE = ("minimum", "zero", "mean")
"""What a file may hold where nothing was seen."""


@dataclass(frozen=True)
class View:
    """A field of view: its name, grid (z, y, x), spacing in mm, place in the head, and what lies outside its cylinder.

    ``outside`` is None where the grid holds nothing but what was seen.
    """

    kind: str
    shape: tuple[int, int, int]
    spacing: float
    pose: Pose
    field: Field
    outside: str | None


def draw_tilt(rng: np.random.Generator, usual: float = 5.0, largest: float = 25.0) -> NDArray[np.float64]:
    """Rotation matrix of a head: mostly some degrees about each axis, at times anything up to ``largest``, and rarely
    half as much again."""
    from scipy.spatial.transform import Rotation

    angles = rng.normal(0, usual, 3)
    if rng.random() < 0.3:
        angles = rng.uniform(-largest, largest, 3)
    elif rng.random() < 0.07:
        angles[rng.integers(3)] = rng.choice([-1.5, 1.5]) * largest
    return np.asarray(
        Rotation.from_euler("xyz", np.clip(angles, -1.5 * largest, 1.5 * largest), degrees=True).as_matrix()
    )


def draw_size(kind: str, rng: np.random.Generator) -> tuple[float, float]:
    """Height and width of a field of view in mm."""
    heights = {"quadrant": (37, 52), "one jaw": (37, 55), "both jaws": (62, 90), "face": (80, 130)}
    widths = {"quadrant": (40, 56), "one jaw": (78, 105), "both jaws": (78, 110), "face": (120, 165)}
    height, width = heights.get(kind, (170, 230)), widths.get(kind, (200, 260))
    return float(rng.uniform(*height)), float(rng.uniform(*width))


def draw_centre(kind: str, rng: np.random.Generator) -> tuple[float, float, float]:
    """Middle of a field of view as (x, y, z) LPS mm in the head; the origin lies between the teeth."""
    centre = {"face": (0.0, 22.0, 6.0), "whole head": (0.0, 45.0, 35.0)}.get(kind, (0.0, 7.0, 0.0))
    off = rng.normal(0, 3, 3) if rng.random() < 0.8 else rng.uniform(-12, 12, 3)
    x, y, z = (float(c + o) for c, o in zip(centre, off, strict=True))
    if kind in ("quadrant", "one jaw"):
        z += float(rng.choice([-1, 1]) * rng.uniform(8, 17))
    if kind == "quadrant":
        x, y = x + float(rng.choice([-1, 1]) * rng.uniform(5, 24)), y + float(rng.uniform(-22, 12))
    return x, y, z


def draw_view(rng: np.random.Generator, largest: int, hard: bool = False) -> View:
    """A random field of view of at most ``largest`` voxels; ``hard`` means coarser voxels and more tilt."""
    kind = str(rng.choice(list(KINDS), p=list(KINDS.values())))
    height, width = draw_size(kind, rng)
    spacing = float(np.exp(rng.uniform(np.log(0.3 if hard else FINEST), np.log(COARSEST))))
    # A fine voxel on a large view would make a scan of hundreds of megabytes: such files are thinned.
    spacing = round(max(spacing, float(height * width**2 / largest) ** (1 / 3)), 3)
    depth, side = max(1, int(height / spacing)), max(1, int(width / spacing))
    rotation = draw_tilt(rng, 7.0 if hard else 5.0)
    pose = Pose(draw_centre(kind, rng), tuple(tuple(float(v) for v in row) for row in rotation))
    mid_plane = float(rng.uniform(-0.5, 0.5) * height)
    cylinder = rng.random() < 0.75
    field = Field(radius=side * spacing / 2 if cylinder else float("inf"), mid_plane=mid_plane)
    outside = str(rng.choice(OUTSIDE)) if cylinder else None
    return View(kind, (depth, side, side), spacing, pose, field, outside)


def view_of_jaws(rng: np.random.Generator, shape: tuple[int, int, int], spacing: float) -> View:
    """A box of ``shape`` around both jaws, somewhat off-centre and tilted."""
    rotation = draw_tilt(rng, 7.0)
    pose = Pose(draw_centre("both jaws", rng), tuple(tuple(float(v) for v in row) for row in rotation))
    return View("both jaws", shape, spacing, pose, Field(), None)


def outside_value(scan: NDArray[Any], seen: NDArray[np.bool_], outside: str) -> float:
    """The grey value with which a file fills up what lies outside (y, x) ``seen``."""
    if outside == "zero":
        return 0.0
    inside = scan[:, seen]
    return float(inside.min() if outside == "minimum" else inside.mean())


def most_frequent(labels: NDArray[np.uint8], finer: int) -> NDArray[np.uint8]:
    """The label map (z, y, x) of voxels ``finer`` times as long: the label most of its smaller voxels have."""
    z, y, x = (n // finer for n in labels.shape)
    parts = labels.reshape(z, finer, y, finer, x, finer).transpose(1, 3, 5, 0, 2, 4).reshape(finer**3, z, y, x)
    best, votes = parts[0].copy(), np.zeros((z, y, x), np.uint8)
    for part in parts:
        count = (parts == part).sum(axis=0, dtype=np.uint8)
        better = count > votes
        best[better], votes[better] = part[better], count[better]
    return best
