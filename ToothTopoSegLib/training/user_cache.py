"""The cache of a user's cases: each scan and its labels once on a fine grid, as fine-tuning draws its samples from.

In: a scan and its FDI label map on one grid. Out: grey values on the scale that segmentation gives this scan
(:mod:`ToothTopoSegLib.segmentation.normalise`), not yet clipped, because the network that draws surfaces has limits of
its own in every tile, and class indices, both on a canonical grid :data:`FINER` times as fine as the network's, cut to
the teeth and some surroundings. Files bear the number of the case, so that no name of a patient enters the cache.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.anatomy.fdi import DECIDUOUS, JAWS, LOWER_JAW, UPPER_JAW
from ToothTopoSegLib.imaging.canonical import to_canonical
from ToothTopoSegLib.imaging.resample import resample_linear
from ToothTopoSegLib.imaging.volume import Volume
from ToothTopoSegLib.segmentation.classes import CLASSES, to_classes
from ToothTopoSegLib.segmentation.normalise import grey_scale
from ToothTopoSegLib.segmentation.region import LARGEST_MM, MARGIN_MM
from ToothTopoSegLib.training.losses.partial import IGNORED
from ToothTopoSegLib.training.sampling import FINER

Array = NDArray[Any]
Box = tuple[slice, slice, slice]
SURROUNDINGS_MM = 25.0
"""How far around the teeth a case reaches: rotated patches look beyond the dental region, and a network that forgets
what lies there finds teeth in it."""
FAR = 1000.0
"""No grey value is kept farther from the mean than so many standard deviations: half precision ends at 65504."""


@dataclass(frozen=True, eq=False)
class UserSamples:
    """A case to draw samples from: normalised grey values float16 and classes uint8, both (z, y, x).

    ``spacing`` is mm of the cubic voxels, ``region`` the dental region as segmentation sees it, (low, high) for each
    axis, ``jaws`` tells for the lower and the upper jaw whether they are labelled at all. ``limits`` are the grey
    values to which segmentation clips the dental region.
    """

    image: Array
    classes: Array
    spacing: float
    region: tuple[tuple[int, int], ...]
    jaws: tuple[bool, bool]
    limits: tuple[float, float]

    @property
    def box(self) -> Box:
        """The dental region as slices (z, y, x)."""
        z, y, x = (slice(low, high) for low, high in self.region)
        return z, y, x


def prepare(scan: Volume, labels: Volume, spacing: float) -> UserSamples:
    """The case of a scan and its FDI labels (with at least one tooth), on one grid, for a network at ``spacing`` mm."""
    canonical, truth = to_canonical(scan), to_canonical(labels)
    region, reach = _boxes(truth)
    scale = grey_scale(resample_linear(canonical, (spacing,) * 3, _corners(region)).array)
    fine = resample_linear(canonical, (spacing / FINER,) * 3, _corners(reach))
    ends = (region - reach[0]) * np.asarray(truth.spacing) * FINER / spacing
    low, high = np.clip(np.rint(ends), 0, fine.array.shape).astype(int).tolist()
    return UserSamples(
        np.clip((fine.array - scale.mean) / scale.std, -FAR, FAR).astype(np.float16),
        _classes_on(fine, truth),
        spacing / FINER,
        tuple(zip(low, high, strict=True)),
        (bool((truth.array == LOWER_JAW).any()), bool((truth.array == UPPER_JAW).any())),
        ((scale.low - scale.mean) / scale.std, (scale.high - scale.mean) / scale.std),
    )


def _boxes(labels: Volume) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and behind-last voxels (2, 3) of the dental region, and of it with the surroundings that are kept.

    A scan no larger than a dentition is its own dental region, as in segmentation.
    """
    shape, spacing = np.array(labels.array.shape), np.asarray(labels.spacing)
    tooth = (labels.array > 0) & (labels.array < min(JAWS))
    spans = [np.flatnonzero(tooth.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    teeth = np.array([[span[0] for span in spans], [span[-1] + 1 for span in spans]])
    if (shape * spacing <= LARGEST_MM).all():
        region = np.array([[0, 0, 0], shape])
    else:
        half = np.minimum((teeth[1] - teeth[0]) / 2 + MARGIN_MM / spacing, np.asarray(LARGEST_MM) / spacing / 2)
        region = np.rint(teeth.mean(0) + np.outer([-1, 1], half)).astype(int)
    beyond = np.outer([-1, 1], np.ceil(SURROUNDINGS_MM / spacing)).astype(int)
    reach = np.stack([np.minimum(region[0], teeth[0] + beyond[0]), np.maximum(region[1], teeth[1] + beyond[1])])
    return np.clip(region, 0, shape), np.clip(reach, 0, shape)


def _corners(box: NDArray[np.int64]) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    (a, b, c), (d, e, f) = box.tolist()
    return (a, b, c), (d, e, f)


def _classes_on(grid: Volume, labels: Volume) -> NDArray[np.uint8]:
    """Class indices (z, y, x) on a grid with the axes of the labels: those of the nearest voxels."""
    nearest = []
    for axis, (count, size) in enumerate(zip(grid.array.shape, labels.array.shape, strict=True)):
        points = np.zeros((count, 3))
        points[:, axis] = np.arange(count)
        at = labels.lps_to_index(grid.index_to_lps(points))[:, axis]
        nearest.append(np.clip(np.rint(np.round(at, 6)), 0, size - 1).astype(int))
    found = labels.array[np.ix_(*nearest)]
    classes = to_classes(found)
    classes[np.isin(found, DECIDUOUS)] = IGNORED
    return classes


def merged_classes(jaws: tuple[bool, bool]) -> list[int]:
    """The classes that count as background in a case: those of jaws it does not label."""
    return [CLASSES - 2 + i for i, labelled in enumerate(jaws) if not labelled]


def write_case(case: UserSamples, folder: Path, number: int) -> None:
    """Put a case into the cache; its description is written last, so that a case that is there is whole.

    Raises OSError when the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in (("image", case.image), ("classes", case.classes)):
        with _replacing(folder / f"{number:03d}_{name}.npy") as staged, staged.open("wb") as file:
            np.save(file, array)
    note = {"spacing": case.spacing, "region": case.region, "jaws": case.jaws, "limits": case.limits}
    with _replacing(folder / f"{number:03d}.json") as staged:
        staged.write_text(json.dumps(note), encoding="utf-8")


def has_case(folder: Path, number: int) -> bool:
    """Whether the cache holds a case."""
    return (folder / f"{number:03d}.json").is_file()


def read_case(folder: Path, number: int) -> UserSamples:
    """A case of the cache, its arrays as memory maps; FileNotFoundError when it is not there."""
    note = json.loads((folder / f"{number:03d}.json").read_text(encoding="utf-8"))
    image, classes = (np.load(folder / f"{number:03d}_{name}.npy", mmap_mode="r") for name in ("image", "classes"))
    (lower, upper), (low, high) = note["jaws"], note["limits"]
    region = tuple((a, b) for a, b in note["region"])
    return UserSamples(image, classes, note["spacing"], region, (lower, upper), (low, high))


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A temporary name that becomes ``path`` when the block ends well, and is removed when it does not."""
    staged = path.with_name(f".{path.name}.part")
    try:
        yield staged
        staged.replace(path)
    finally:
        staged.unlink(missing_ok=True)
