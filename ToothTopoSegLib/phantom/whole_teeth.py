"""Teeth of a drawn head in one piece each, without voids and slits.

In: tissue and label maps into which teeth were drawn one after the other. Out: the same maps, changed at the few teeth
of which drawing made what no jaw holds: crowded teeth overlap and cut one another to pieces, and roots that part and
meet again leave a slit of a voxel or two right through the tooth. Fused roots have grooves there, and no scanner shows
the slit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.anatomy.fdi import is_tooth

if TYPE_CHECKING:
    from ToothTopoSegLib.topology.betti import Body

WIDEST_SLIT_MM = 2.0
"""Wider gaps between roots are none that drawing makes."""
_CUBE = np.ones((3, 3, 3))
_OF_TEETH = np.array([is_tooth(value) for value in range(256)])


def make_teeth_whole(tissue: NDArray[np.uint8], labels: NDArray[np.uint8], spacing: float, dentine: int) -> None:
    """Mend the teeth of a label map (FDI numbers) and its tissues, both (z, y, x), in place.

    A piece of a tooth that another cut off goes to that one, unless the border of the map cuts it. Voids and slits of
    up to ``WIDEST_SLIT_MM`` are filled with ``dentine``. ``spacing`` is that of the cubic voxels in mm.
    """
    from ToothTopoSegLib.topology.betti import tooth_topology

    for fdi, tooth in tooth_topology(labels).items():
        if tooth.betti == (1, 0, 0):
            continue
        for piece in tooth.bodies[1:]:
            if not piece.reaches_border(labels.shape):
                _give_away(piece, labels)
        _fill(tooth.bodies[0], fdi, tissue, labels, spacing, dentine)


def _give_away(piece: Body, labels: NDArray[np.uint8]) -> None:
    """Give a piece to the tooth it touches most, if any."""
    from scipy import ndimage

    box = tuple(slice(s.start - 1, s.stop + 1) for s in piece.box)
    mask = np.pad(piece.mask, 1)
    around = labels[box][ndimage.binary_dilation(mask, _CUBE) & ~mask]
    touched = np.bincount(around[_OF_TEETH[around]], minlength=1)
    if touched.any():
        labels[box][mask] = touched.argmax()


def _fill(
    body: Body, fdi: int, tissue: NDArray[np.uint8], labels: NDArray[np.uint8], spacing: float, dentine: int
) -> None:
    """Close a body by the smallest ball that leaves neither void nor slit; other teeth stay as they are."""
    from scipy import ndimage

    from ToothTopoSegLib.topology.betti import betti_numbers

    inside = labels[body.box]
    # A void may hold a corner of the tooth beside, which joins it between two corners of this one.
    filled = ndimage.binary_fill_holes(body.mask)
    free = filled | ~_OF_TEETH[inside]
    for diameter in np.arange(1.0, WIDEST_SLIT_MM / spacing + 0.5):
        reach = int(diameter / 2)
        offsets = np.indices((2 * reach + 1,) * 3) - reach
        ball = (offsets**2).sum(0) <= (diameter / 2) ** 2
        closed = ndimage.binary_closing(np.pad(filled, reach), ball)
        whole = filled | closed[tuple(slice(reach, reach + n) for n in filled.shape)] & free
        if betti_numbers(whole) == (1, 0, 0):
            tissue[body.box][whole & ~_OF_TEETH[inside]] = dentine
            inside[whole & ~body.mask] = fdi
            return
