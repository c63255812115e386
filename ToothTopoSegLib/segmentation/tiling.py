"""Sliding windows with Gaussian blending, as nnU-Net does it (Isensee et al., Nature Methods 2021).

Scores are blended as they come: uint8 scores of the integer graph, an affine image of the float ones, in integers, so
that the sums are exact in whatever order tiles are added. Only the dental region is ever blended, which bounds the
memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.progress import Progress, silent
from ToothTopoSegLib.segmentation.normalise import grey_scale

Array = NDArray[Any]

QUICK_OVERLAP = 0.25
WEIGHT_UNIT = 1 << 14
SURROUNDINGS = 8
"""Voxels around a tile that its grey scale is measured on too, as in training."""


def starts(length: int, patch: int, overlap: float) -> list[int]:
    """First voxels of the tiles along one axis, evenly spread.

    Neighbours share at least ``overlap`` (0..1, below 1) of a patch, rounded down to voxels.
    """
    if length <= patch:
        return [0]
    count = int(np.ceil((length - patch) / (patch * (1 - overlap)))) + 1
    return [round(i * (length - patch) / (count - 1)) for i in range(count)]


def corners(shape: tuple[int, ...], patch: tuple[int, ...], overlap: float) -> list[tuple[int, int, int]]:
    """First corner (z, y, x) of every tile covering ``shape``."""
    z, y, x = (starts(n, p, overlap) for n, p in zip(shape, patch, strict=True))
    return [(a, b, c) for a in z for b in y for c in x]


def corners_around(
    wanted: NDArray[np.bool_], patch: tuple[int, int, int], overlap: float, context: int
) -> list[tuple[int, int, int]]:
    """First corner (z, y, x) of tiles that cover every true voxel of ``wanted``, of at least a patch along each axis.

    Layers of tiles are laid over what is wanted, rows over what of it is in a layer, tiles over what is in a row. Where
    as many tiles reach farther than what is wanted, they show up to ``context`` voxels more of its surroundings.
    """

    def along(mask: NDArray[np.bool_], axis: int) -> list[int]:
        others = tuple(a for a in range(mask.ndim) if a != axis)
        hit, size, length = np.flatnonzero(mask.any(axis=others)), patch[axis], mask.shape[axis]
        if not len(hit):
            return []
        first, last = int(hit[0]), int(hit[-1]) + 1
        count = len(starts(last - first, size, overlap))
        most = size + int((count - 1) * size * (1 - overlap))
        span = min(max(min(last - first + 2 * context, most), size), length)
        low = min(max((first + last - span) // 2, 0), length - span)
        return [low + s for s in starts(span, size, overlap)]

    found = []
    for z in along(wanted, 0):
        layer = wanted[z : z + patch[0]]
        for y in along(layer, 1):
            row = layer[:, y : y + patch[1]]
            found += [(z, y, x) for x in along(row, 2) if row[:, :, x : x + patch[2]].any()]
    return found


def gaussian(patch: tuple[int, ...]) -> NDArray[np.float32]:
    """Weight of each voxel of a tile: Gaussian with sigma = patch / 8, at least 1 % of its peak."""
    axes = [np.exp(-0.5 * ((np.arange(n) - (n - 1) / 2) / (n / 8)) ** 2) for n in patch]
    weight = axes[0][:, None, None] * axes[1][None, :, None] * axes[2][None, None, :]
    return np.maximum(weight / weight.max(), 0.01).astype(np.float32)


def padded(image: Array, patch: tuple[int, ...], value: float = 0.0) -> tuple[Array, tuple[slice, ...]]:
    """The image grown to at least a patch (0 outside, the mean after normalising), and where it lies in there."""
    need = [max(0, p - n) for n, p in zip(image.shape, patch, strict=True)]
    before = [n // 2 for n in need]
    if any(need):
        image = np.pad(image, [(b, n - b) for b, n in zip(before, need, strict=True)], constant_values=value)
    inside = tuple(slice(b, s - (n - b)) for b, n, s in zip(before, need, image.shape, strict=True))
    return image, inside


def tile_at(corner: tuple[int, ...], patch: tuple[int, ...]) -> tuple[slice, ...]:
    """The voxels of the tile with that first corner."""
    return tuple(slice(c, c + p) for c, p in zip(corner, patch, strict=True))


class Blend:
    """The Gaussian-weighted mean of tiles of class scores (classes, z, y, x).

    Integer scores are summed as 32-bit integers with weights of 14 bits: exact for uint8 scores of up to a thousand
    tiles over one voxel, and no larger than their float32 mean.
    """

    def __init__(self, classes: int, shape: tuple[int, ...], patch: tuple[int, int, int]) -> None:
        self._shape = (classes, *shape)
        self._weight: Array = gaussian(patch)
        self._total: Array | None = None
        self._norm = np.zeros(0, np.float32)

    def add(self, tile: tuple[slice, ...], *views: Sequence[Array] | Array) -> None:
        """Add the scores of one tile, or of several views of it; all tiles have the same number type."""
        if self._total is None:
            if np.issubdtype(views[0][0].dtype, np.integer):
                self._weight = np.rint(self._weight * WEIGHT_UNIT).astype(np.uint32)
            self._total = np.zeros(self._shape, self._weight.dtype)
            self._norm = np.zeros(self._shape[1:], self._weight.dtype)
        # Class by class, so that what is multiplied and added stays in the processor's cache.
        for total, *scores in zip(self._total, *views, strict=True):
            total[tile] += self._weight * sum(scores[1:], scores[0].astype(self._weight.dtype))
        self._norm[tile] += self._weight * self._weight.dtype.type(len(views))

    def looked_at(self) -> NDArray[np.bool_]:
        """Which voxels (z, y, x) any tile showed."""
        return np.zeros(self._shape[1:], bool) if self._total is None else np.asarray(self._norm > 0)

    def scores(self) -> NDArray[np.float32]:
        """The mean, float32, in the scores' own scale; 0 where no tile was."""
        if self._total is None:
            return np.zeros(self._shape, np.float32)
        mean: NDArray[np.float32] = self._total.view(np.float32)  # takes the place of the sums
        for total, out in zip(self._total, mean, strict=True):
            np.divide(total, self._norm, out=out, where=self._norm > 0, casting="unsafe")
        return mean


def blend(
    image: Array,
    patch: tuple[int, int, int],
    network: Callable[[Array], Array],
    mirrored: Sequence[int],
    overlap: float = 0.5,
    progress: Progress = silent,
) -> NDArray[np.float32]:
    """Blended class scores (classes, z, y, x), float32, of a normalised image (z, y, x).

    Every tile is also seen as in a mirror, as nnU-Net does: ``mirrored`` names for each class the one that it is when
    left and right (the last axis) are exchanged.
    """
    grown, inside = padded(image, patch)
    mean = Blend(len(mirrored), grown.shape, patch)
    places = corners(grown.shape, patch, overlap)
    for i, corner in enumerate(places):
        progress(i / len(places), "segmenting the teeth")
        tile = tile_at(corner, patch)
        mirror = network(grown[tile][..., ::-1])
        mean.add(tile, network(grown[tile]), [mirror[k][..., ::-1] for k in mirrored])
    return mean.scores()[(slice(None), *inside)]


class QuickLook:
    """Class index of every voxel of an image (z, y, x), in the scan's grey values, from the tiles looked at so far.

    Each tile is normalised on its own surroundings, because a network that learnt from fields of view around the jaws
    takes the bone of a whole head, measured against all the air around it, for enamel. Tiles without contrast are
    skipped. Each voxel takes the class of the tile in whose middle it lies deepest; no class scores are kept.
    """

    def __init__(self, image: Array, patch: tuple[int, int, int], network: Callable[[Array], Array]) -> None:
        self._grown, self._inside = padded(image, patch, float(image.min()))
        self._patch, self._network, self._depth = patch, network, gaussian(patch)
        # Teeth are among the brightest tissues of any scan: a tile with nothing bright holds none.
        self._level = float(np.percentile(image[::4, ::4, ::4], 90))
        self._best = np.zeros(self._grown.shape, np.float32)
        self._classes = np.zeros(self._grown.shape, np.uint8)
        self._seen: set[tuple[int, ...]] = set()

    @property
    def classes(self) -> NDArray[np.uint8]:
        """Classes (z, y, x), 0 where no tile was looked at."""
        return self._classes[self._inside]

    def everywhere(self, progress: Progress = silent) -> NDArray[np.uint8]:
        """The classes after a look at tiles that cover the image and barely overlap."""
        self.look(corners(self._grown.shape, self._patch, QUICK_OVERLAP), progress)
        return self.classes

    def look(self, places: Sequence[tuple[int, int, int]], progress: Progress = silent) -> None:
        """Look at those tiles, given by their first corners, that were not looked at before."""
        new = [corner for corner in places if corner not in self._seen]
        for i, corner in enumerate(new):
            progress(i / len(new), "looking for the teeth")
            self._look_at(tile_at(corner, self._patch))
            self._seen.add(corner)

    def _look_at(self, tile: tuple[slice, ...]) -> None:
        grey = self._grown[tile]
        if np.percentile(grey[::2, ::2, ::2], 99.7) < self._level:
            return
        around = tuple(slice(max(0, s.start - SURROUNDINGS), s.stop + SURROUNDINGS) for s in tile)
        scale = grey_scale(self._grown[around], 200_000)
        found = self._network(scale.apply(grey)).argmax(0).astype(np.uint8)
        better = self._depth > self._best[tile]
        self._classes[tile][better] = found[better]
        self._best[tile][better] = self._depth[better]
