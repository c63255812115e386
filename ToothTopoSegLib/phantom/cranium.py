"""The rest of the head: bone that is no jaw, so that a network learns what teeth are not.

Out: a tissue map of a piece of cranial vault with frontal sinus and orbits, or of cervical spine and skull base. A
whole-head CBCT shows all of them, and the curved, dense vault looks more like a dental arch than one would think.
There is no label in them: everything is background. Natural heads need no pieces of their own:
:func:`render_elsewhere` shows one of them where it has no teeth.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.phantom.arch import Dentition
from ToothTopoSegLib.phantom.head import AIR, CORTICAL, FAT, MUSCLE, SOFT, TRABECULAR, Pose, smooth_noise

Array = NDArray[Any]


def _axes(shape: tuple[int, int, int], spacing: float, centre: Array) -> tuple[Array, Array, Array]:
    """Open coordinate grids (x, y, z) in mm around ``centre`` (x, y, z)."""
    z, y, x = (((np.arange(n) - (n - 1) / 2) * spacing).astype(np.float32) for n in shape)
    return x[None, None, :] + centre[0], y[None, :, None] + centre[1], z[:, None, None] + centre[2]


def _vault(shape: tuple[int, int, int], spacing: float, rng: np.random.Generator) -> Array:
    """Skull vault: scalp, outer and inner table with diploe between, brain; orbits and frontal sinus in front."""
    radii = np.array([rng.uniform(62, 78), rng.uniform(78, 95), rng.uniform(62, 80)])
    # Looking mostly at the forehead, where teeth have been seen by mistake, and anywhere else on the vault.
    angle = rng.normal(-np.pi / 2, 0.5) if rng.random() < 0.6 else rng.uniform(0, 2 * np.pi)
    height = rng.uniform(-0.7, 0.8)
    wide = np.sqrt(1 - height**2)
    centre = radii * np.array([np.cos(angle) * wide, np.sin(angle) * wide, height]) + rng.normal(0, 10, 3)
    x, y, z = _axes(shape, spacing, centre)
    depth = (1 - np.sqrt((x / radii[0]) ** 2 + (y / radii[1]) ** 2 + (z / radii[2]) ** 2)) * radii.mean()
    depth = depth + rng.uniform(0.5, 2.5) * smooth_noise(shape, 6, rng)
    thick, table = rng.uniform(4, 10), rng.uniform(0.8, 2.2)
    tissue = np.full(shape, AIR, np.uint8)
    tissue[depth > -rng.uniform(4, 8)] = SOFT
    tissue[(depth > -3.5) & (depth < -1)] = FAT
    tissue[depth > 0] = CORTICAL
    tissue[(depth > table) & (depth < thick - table)] = TRABECULAR
    marrow = smooth_noise(shape, max(8, int(min(shape) * spacing / 3)), rng)
    tissue[(depth > table) & (depth < thick - table) & (marrow > 0.8)] = FAT
    tissue[depth > thick] = SOFT
    for sign in (-1, 1):
        orbit = np.array(
            [sign * rng.uniform(30, 36), -radii[1] * rng.uniform(0.72, 0.85), -radii[2] * rng.uniform(0.3, 0.5)]
        )
        r = np.sqrt((x - orbit[0]) ** 2 + ((y - orbit[1]) / 1.4) ** 2 + (z - orbit[2]) ** 2)
        size = rng.uniform(17, 21)
        tissue[(r < size + rng.uniform(1.2, 3)) & (depth > 0)] = CORTICAL
        tissue[r < size] = FAT
        tissue[r < size * 0.65] = SOFT
    sinus = np.sqrt(
        (x / rng.uniform(10, 25)) ** 2 + ((depth - thick / 2 - 2) / 4) ** 2 + ((z + radii[2] * 0.15) / 12) ** 2
    )
    front = np.broadcast_to(y < 0, shape)
    tissue[(sinus < 1) & front] = AIR
    tissue[(sinus >= 1) & (sinus < 1.25) & front & (depth > 0)] = CORTICAL
    return tissue


def _spine(shape: tuple[int, int, int], spacing: float, rng: np.random.Generator) -> Array:
    """Cervical vertebrae with arches and processes below pieces of skull base with air cells."""
    x, y, z = _axes(shape, spacing, rng.normal(0, 12, 3))
    tissue = np.full(shape, SOFT, np.uint8)
    tissue[np.broadcast_to(np.abs(x) > rng.uniform(18, 40), shape)] = MUSCLE
    pitch = rng.uniform(15, 21)
    level = np.mod(z + rng.uniform(0, pitch), pitch)
    bend = y - 0.004 * z**2 * rng.uniform(-1, 1)
    body = np.sqrt((x / rng.uniform(9, 13)) ** 2 + (bend / rng.uniform(7, 10)) ** 2)
    ring = np.abs(np.sqrt((x / 1.15) ** 2 + (bend - 16) ** 2) - rng.uniform(10, 13))
    side = np.sqrt(((np.abs(x) - 20) / 7) ** 2 + ((bend - 8) / 6) ** 2)
    rough = smooth_noise(shape, 14, rng)
    for shell, gap in ((body, 3.5), (side, 6.0)):
        tissue[(shell < 1 + 0.1 * rough) & (level > gap)] = CORTICAL
        tissue[(shell < 0.8 + 0.1 * rough) & (level > gap + 1.2)] = TRABECULAR
    tissue[(ring < rng.uniform(1.5, 3)) & (level > pitch * 0.5)] = CORTICAL
    cells = smooth_noise(shape, max(8, int(min(shape) * spacing / 7)), rng)
    base = np.broadcast_to(z > rng.uniform(0, 35), shape)
    tissue[base & (cells > 0.35)] = CORTICAL
    tissue[base & (cells > 0.75)] = AIR if rng.random() < 0.6 else TRABECULAR
    tissue[np.broadcast_to(bend < -rng.uniform(14, 24), shape) & (np.abs(x) < rng.uniform(6, 14))] = AIR
    return tissue


def render_cranium(shape: tuple[int, int, int], spacing: float, rng: np.random.Generator) -> tuple[Array, Array]:
    """Tissue and (empty) label map, both uint8 (z, y, x), of a random piece of head without jaws; ``spacing`` in mm."""
    make = _vault if rng.random() < 0.65 else _spine
    return make(shape, spacing, rng), np.zeros(shape, np.uint8)


def render_elsewhere(
    dentition: Dentition, shape: tuple[int, int, int], spacing: float, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Tissue and label map, both uint8 (z, y, x), of a natural head where it has no teeth; ``spacing`` in mm.

    The view lies above the palate or behind the jaws; pieces of the jaws can reach into it.
    """
    from ToothTopoSegLib.phantom.whole_head import render_whole_head

    z, y, _ = (n * spacing / 2 for n in shape)
    if rng.random() < 0.6:
        place = (rng.uniform(-40, 40), rng.uniform(-15, 70), 36 + z + rng.uniform(0, 30))
    else:
        place = (rng.uniform(-30, 30), 54 + y + rng.uniform(0, 15), rng.uniform(-20, 60))
    pose = Pose((float(place[0]), float(place[1]), float(place[2])))
    return render_whole_head(dentition, shape, (spacing,) * 3, rng, pose, float(rng.uniform(0.2, 1.6)))
