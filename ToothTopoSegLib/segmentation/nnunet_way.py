"""Segmentation with an imported nnU-Net model, as nnU-Net itself goes about it, in bounded memory.

In: a scan and a bundle whose card has ``"pipeline": "nnunet"``. Out: the label values of the model on the grid of the
scan. The order is nnU-Net's: transpose, crop to what is not zero, normalise, resample, tiles with half overlap and
Gaussian weights, mirrored along the axes the training allowed, mean over mirrorings and folds, resample the scores,
best class or regions in their order. Like nnU-Net it takes the axes of the file as they come.

nnU-Net holds the scores of the whole scan, and several times so while it resamples them. Here tiles are taken slab by
slab: a slice of scores that no further tile will touch is turned into labels at once and forgotten, so that only as
many slices of scores exist as a patch is deep. ONNX Runtime does the rest: torch is not needed.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.errors import ModelError
from ToothTopoSegLib.imaging.volume import Volume
from ToothTopoSegLib.nnunet.plans import Preprocessing, Size3
from ToothTopoSegLib.nnunet.prepare import from_network_axes, prepare
from ToothTopoSegLib.nnunet.resample import positions, separate_axis
from ToothTopoSegLib.progress import Progress, silent
from ToothTopoSegLib.segmentation.regrid import Axis, best_classes, mix
from ToothTopoSegLib.segmentation.tiling import padded, starts

if TYPE_CHECKING:
    from ToothTopoSegLib.quantization.bundle import Bundle

Array = NDArray[Any]
Network = Callable[[Array], Array]
OVERLAP = 0.5
GOLDEN = 0.618
"""Turn of the colour wheel from one label to the next, so that any few in a row look different."""
PEAK = 10.0
"""nnU-Net's largest Gaussian weight; it rounds weights to half precision, which makes the smallest ones zero."""


def segment_nnunet(scan: Volume, how: Preprocessing, network: Network, progress: Progress = silent) -> Array:
    """Label values of the model (z, y, x), uint8 or uint16, on the grid of ``scan``.

    ``network`` gives real class scores (heads, z, y, x) of a normalised patch.
    """
    progress(0.0, "preparing the scan")
    ready = prepare(scan, how)
    labels = np.zeros(ready.shape, np.uint16 if max(how.regions or (0,)) > 255 else np.uint8)
    slices = blended_slices(ready.image, how, network, progress)
    axis = separate_axis(how.scores, how.spacing, ready.spacing)
    _write_labels(slices, ready.image.shape, labels[ready.box], how, axis)
    return from_network_axes(labels, how, scan)


@dataclass(frozen=True, eq=False)
class OwnLabels:
    """A label map in a model's own values, and the name of each."""

    labels: Volume
    names: dict[int, str]

    def write(self, folder: Path, case: str) -> None:
        """Write it as a label map and as a segmentation with names."""
        from ToothTopoSegLib.imaging.write import Segment, write_label_map, write_segmentation

        colours = {value: colorsys.hsv_to_rgb(i * GOLDEN % 1, 0.6, 0.9) for i, value in enumerate(self.names)}
        segments = [Segment(v, name, colours[v], "", f"Segment_{v}") for v, name in self.names.items()]
        write_label_map(self.labels, folder / f"{case}_labels.nii.gz")
        write_segmentation(self.labels, folder / f"{case}_labels.seg.nrrd", segments)


def preprocessing(bundle: Bundle) -> Preprocessing:
    """How a bundle's model takes scans; ModelError when its card does not say so."""
    try:
        return Preprocessing.from_dict(bundle.card["nnunet"])
    except (KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"The card of {bundle.path.name} lacks how scans are prepared; import it again.") from error


def own_labels(labels: Volume, bundle: Bundle) -> OwnLabels:
    """The label map of a model with the names on its card."""
    return OwnLabels(labels, {int(label["value"]): str(label["name"]) for label in bundle.card["labels"]})


def fdi_labels(values: Array, bundle: Bundle) -> NDArray[np.uint8]:
    """FDI numbers and jaw labels, uint8, of a model's label values (z, y, x); what is neither becomes 0."""
    meant = {int(label["value"]): int(label["fdi"]) for label in bundle.card["labels"]}
    table = np.zeros(max(meant, default=0) + 1, np.uint8)
    table[list(meant)] = list(meant.values())
    return np.stack([table[plane] for plane in values])


def gaussian_weights(patch: Size3) -> NDArray[np.float32]:
    """nnU-Net's weight of each voxel of a tile, float32 values that half precision can hold."""
    from scipy.ndimage import gaussian_filter1d

    axes = [gaussian_filter1d((np.arange(n) == n // 2).astype(float), n / 8, mode="constant") for n in patch]
    weight = axes[0][:, None, None] * axes[1][None, :, None] * axes[2][None, None, :]
    half = (weight * (PEAK / weight.max())).astype(np.float16).astype(np.float32)
    return np.maximum(half, half[half > 0].min())


def mirrored_scores(patch: Array, network: Network, axes: Sequence[int]) -> NDArray[np.float32]:
    """Mean of the scores (heads, z, y, x) of a patch seen in every combination of mirrors along ``axes``."""
    total = network(patch).astype(np.float32)
    flips = list(chain.from_iterable(combinations(axes, n + 1) for n in range(len(axes))))
    for flip in flips:
        seen = network(np.flip(patch, flip))
        total += np.flip(seen, tuple(axis + 1 for axis in flip))
    return total / np.float32(len(flips) + 1)


def blended_slices(
    image: Array, how: Preprocessing, network: Network, progress: Progress = silent
) -> Iterator[NDArray[np.float32]]:
    """Blended scores (heads, y, x) of one slice of the prepared image after the other.

    They are summed in half precision, as nnU-Net does: where two classes nearly tie, its rounding decides.
    """
    grown, inside = padded(image, how.patch)
    weight = gaussian_weights(how.patch)
    first, rows, columns = (starts(n, p, OVERLAP) for n, p in zip(grown.shape, how.patch, strict=True))
    total, norm = None, np.zeros((how.patch[0], *grown.shape[1:]), np.float16)
    steps = len(first) * len(rows) * len(columns)
    for i, z in enumerate(first):
        for j, (y, x) in enumerate((y, x) for y in rows for x in columns):
            progress((i * len(rows) * len(columns) + j) / steps, "segmenting with the imported model")
            tile = tuple(slice(a, a + n) for a, n in zip((z, y, x), how.patch, strict=True))
            scores = mirrored_scores(grown[tile], network, how.mirror_axes)
            if total is None:
                total = np.zeros((len(scores), *norm.shape), np.float16)
            scores *= weight
            total[:, :, tile[1], tile[2]] += scores
            norm[:, tile[1], tile[2]] += weight
        assert total is not None
        ready = (first[i + 1] if i + 1 < len(first) else grown.shape[0]) - z
        for k in range(ready):
            if inside[0].start <= z + k < inside[0].stop:
                yield (total[:, k] / norm[k])[:, inside[1], inside[2]].astype(np.float32)
        _move_up(total, norm, ready)


def _move_up(total: Array, norm: Array, by: int) -> None:
    """Forget the first ``by`` slices of a slab and make room for as many at its end."""
    for slab in (*total, norm):
        slab[: len(slab) - by] = slab[by:].copy()
        slab[len(slab) - by :] = 0


def _write_labels(
    slices: Iterable[Array], shape: Sequence[int], labels: Array, how: Preprocessing, separate: int | None
) -> None:
    """Fill ``labels`` (z, y, x), a view, from slices of scores on a grid of ``shape`` that covers the same space."""
    maps = [
        axis_map(n, m, nearest=(axis == separate and how.scores.order_z == 0) or how.scores.order == 0)
        for axis, (n, m) in enumerate(zip(shape, labels.shape, strict=True))
    ]
    across, rows, columns = maps
    target, before = 0, np.empty(0)
    for z, scores in enumerate(slices):
        while target < len(labels) and across.high[target] <= z:
            sheet = scores if across.low[target] == z else mix(before, scores, across.part[target])
            labels[target] = decided(sheet, rows, columns, how.regions)
            target += 1
        before = scores


def axis_map(count: int, target: int, nearest: bool = False) -> Axis:
    """Where ``target`` voxels lie among ``count`` that cover the same length, for linear or nearest interpolation."""
    at = positions(count, target)
    if nearest:
        low = np.floor(at + 0.5).astype(int)
        return Axis(np.arange(target), low, low, np.zeros(target, np.float32))
    low = np.minimum(np.floor(at).astype(int), max(count - 2, 0))
    return Axis(np.arange(target), low, np.minimum(low + 1, count - 1), (at - low).astype(np.float32))


def decided(sheet: Array, rows: Axis, columns: Axis, regions: Sequence[int] | None) -> Array:
    """Labels (rows, columns) of a slice of scores (heads, y, x): the best class, or of regions the last one met."""
    if regions is None:
        return best_classes(sheet, rows, columns)
    out = np.zeros((len(rows.low), len(columns.low)), np.uint16)
    for scores, label in zip(sheet, regions, strict=True):
        lines = mix(scores[rows.low], scores[rows.high], rows.part[:, None])
        # The sigmoid of a score exceeds one half where the score exceeds zero.
        out[mix(lines[:, columns.low], lines[:, columns.high], columns.part) > 0] = label
    return out
