"""The few operations on arrays that numpy and torch spell differently, so that one physics serves both.

The phantom command computes with numpy and training samples are made with torch on the device of their case. What a
scanner does (:mod:`ToothTopoSegLib.phantom.cone_beam`) is written once, against an :class:`ArrayLibrary`: the functions
that both libraries have under one name, and those given here. Axes are (z, y, x), values float32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.phantom.projection import Projector, projector

Array = Any
"""A numpy array or a torch tensor, float32 unless said otherwise."""
Shape = tuple[int, int, int]


@dataclass(frozen=True)
class ArrayLibrary:
    """Where arrays live and how they are made there.

    ``xp`` is numpy or torch; ``constant`` and ``integers`` bring a numpy array there, as float32 or as integers that
    ``take`` can look up in a table. ``normal`` draws standard normal numbers of a shape; ``projector`` gives the
    projections of square slices of a side in voxels under a number of angles.
    """

    xp: Any
    constant: Callable[[NDArray[Any]], Array]
    integers: Callable[[NDArray[Any]], Array]
    normal: Callable[[tuple[int, ...]], Array]
    take: Callable[[Array, Array], Array]
    projector: Callable[[int, int], Projector]


def numpy_library(rng: np.random.Generator) -> ArrayLibrary:
    """Arrays of numpy, with noise from ``rng``."""
    return ArrayLibrary(
        xp=np,
        constant=lambda values: np.asarray(values, np.float32),
        integers=lambda values: values,
        normal=lambda shape: rng.standard_normal(shape, dtype=np.float32),
        take=lambda table, index: table[index],
        projector=projector,
    )


def shape_of(array: Array) -> Shape:
    """The shape (z, y, x) of an array of either library."""
    z, y, x = array.shape
    return int(z), int(y), int(x)


def along_axes(matrices: Sequence[NDArray[Any] | None], array: Array, library: ArrayLibrary) -> Array:
    """The array with each axis multiplied by its matrix (out, in); None leaves an axis as it is."""
    first, second, third = (None if m is None else library.constant(m) for m in matrices)
    if first is not None:
        array = (first @ array.reshape(array.shape[0], -1)).reshape(-1, *array.shape[1:])
    if second is not None:
        array = second @ array
    return array if third is None else array @ third.T


def gaussian(length: int, sigma: NDArray[Any] | float) -> NDArray[np.float32]:
    """Weights (length, length) of a Gaussian blur of ``sigma`` voxels, one for all rows or one for each."""
    at = np.arange(length)
    width = np.maximum(np.broadcast_to(np.asarray(sigma, np.float64), (length,)), 0.05)[:, None]
    weights = np.exp(-0.5 * ((at[:, None] - at) / width) ** 2)
    return np.asarray(weights / weights.sum(1, keepdims=True), np.float32)


def grain(length: int, sigma: float) -> NDArray[np.float32]:
    """Weights (length, length) that give white noise a grain of ``sigma`` voxels and leave its deviation as it is."""
    weights = gaussian(length, sigma)
    return np.asarray(weights / np.sqrt((weights**2).sum(1, keepdims=True)), np.float32)


def blocks(length: int, size: int) -> NDArray[np.float32]:
    """Weights (length / size rounded up, length) of means over blocks of ``size`` voxels; the last may be smaller."""
    member = (np.arange(length) // size == np.arange(-(-length // size))[:, None]).astype(np.float32)
    return np.asarray(member / member.sum(1, keepdims=True), np.float32)


def between(length: int, points: int) -> NDArray[np.float32]:
    """Weights (length, points) of linear interpolation between points that span the whole length."""
    at = np.linspace(0, points - 1, length)
    return np.asarray(np.clip(1 - np.abs(at[:, None] - np.arange(points)), 0, 1), np.float32)


def between_blocks(length: int, size: int) -> NDArray[np.float32]:
    """Weights (length, length / size rounded up) of linear interpolation between the middles of blocks."""
    points = -(-length // size)
    at = np.clip((np.arange(length) + 0.5) / size - 0.5, 0, points - 1)
    return np.asarray(np.clip(1 - np.abs(at[:, None] - np.arange(points)), 0, 1), np.float32)


def smooth_field(shape: Shape, cells: Shape, library: ArrayLibrary) -> Array:
    """Smooth random field on ``shape``, of unit standard deviation at the ``cells`` lattice points it runs between."""
    return along_axes([between(n, c) for n, c in zip(shape, cells, strict=True)], library.normal(cells), library)
