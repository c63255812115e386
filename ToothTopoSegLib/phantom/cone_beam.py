"""What a cone-beam scanner makes of a tissue map, for numpy and torch alike.

In: a tissue map (z, y, x) as fine as the scan or finer, and an :class:`~.acquisition.Acquisition`. Out: float32 grey
values of the scan. In the order of a real machine: the point spread and the mean over voxels, errors of projection
(beam hardening, scatter, noise that grows along dense paths, metal), scattered light, truncation and rings of the
detector, motion between projections, noise, the filter of the maker, limits and depth of the file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ToothTopoSegLib.phantom import head
from ToothTopoSegLib.phantom.acquisition import Acquisition, Foreign, Response
from ToothTopoSegLib.phantom.arrays import (
    Array,
    ArrayLibrary,
    Shape,
    along_axes,
    between,
    between_blocks,
    blocks,
    gaussian,
    grain,
    shape_of,
    smooth_field,
)
from ToothTopoSegLib.phantom.contrast import MINERAL
from ToothTopoSegLib.phantom.projection import WATER, reconstruction_error

RING_PATTERNS = 2
"""Neighbouring rows of a detector are uneven alike; so many patterns change places along z."""
HEAD_MM = 160.0
"""What lies outside a field of view up to this length is on the way of every ray."""
RAYS, ANGLES = 240, 0.8
"""Errors of projection are computed on at most so many voxels across, from so many angles for each of them."""


@dataclass(frozen=True)
class Field:
    """The cylinder that a scanner sees, in mm from the middle of the grid: its axis (y, x), radius and mid-plane (z).

    A radius of infinity means that the cylinder is wider than the grid.
    """

    axis: tuple[float, float] = (0.0, 0.0)
    radius: float = float("inf")
    mid_plane: float = 0.0

    def radii(self, shape: Shape, step: Any) -> np.ndarray:
        """Distance in mm from the axis of every (y, x) of a grid with ``step`` (z, y, x) in mm."""
        y, x = ((np.arange(n) - (n - 1) / 2) * s for n, s in zip(shape[1:], step[1:], strict=True))
        return np.asarray(np.hypot(y[:, None] - self.axis[0], x[None, :] - self.axis[1]), np.float32)

    def seen(self, shape: Shape, step: Any) -> np.ndarray:
        """Which (y, x) of a grid lie in the cylinder."""
        return np.asarray(self.radii(shape, step) < self.radius)


def acquire(
    tissue: Array, finer: int, spacing: Any, acquisition: Acquisition, field: Field, library: ArrayLibrary
) -> Array:
    """Grey values as in a file, float32 (z, y, x), of a tissue map with ``finer`` voxels along each edge of one of the
    scan's; ``spacing`` (z, y, x) is the scan's, in mm."""
    step = np.asarray(spacing, np.float64)
    image = exposed(tissue, finer, step, acquisition, field, library)
    if acquisition.beam:
        image = projected(image, step, acquisition, library)
    image = veiled(image, step, acquisition, library)
    image = shaded(image, acquisition, library)
    image = ringed(image, step, acquisition, field, library)
    if acquisition.moves:
        image = moved(image, step, acquisition, library)
    image = noisy(image, acquisition, library)
    image = filtered(image, step, acquisition, library)
    return respond(image, acquisition.response, library)


def exposed(
    tissue: Array, finer: int, step: np.ndarray, acquisition: Acquisition, field: Field, library: ArrayLibrary
) -> Array:
    """Grey values with marrow texture seen through the point spread, without any error."""
    grey = library.take(library.constant(np.array(acquisition.grey)), tissue)
    if acquisition.texture > 0:
        share = np.zeros(len(acquisition.grey))
        share[head.TRABECULAR] = 0.5 * acquisition.texture
        share[[head.DENTINE, head.CORTICAL]] = 0.04
        shape = shape_of(tissue)
        z, y, x = (int(max(2, n * s / finer / acquisition.texture_mm)) for n, s in zip(shape, step, strict=True))
        strength = library.take(library.constant(share * acquisition.contrast), tissue)
        grey = grey + strength * smooth_field(shape, (z, y, x), library)
    return along_axes(_point_spread(shape_of(tissue), finer, step, acquisition, field), grey, library)


def _point_spread(
    shape: Shape, finer: int, step: np.ndarray, acquisition: Acquisition, field: Field
) -> list[np.ndarray | None]:
    """Blur, wider along z away from the mid-plane (cone angle), then the mean over the finer voxels of each voxel."""
    fine = step / finer
    height = (np.arange(shape[0]) - (shape[0] - 1) / 2) * fine[0] - field.mid_plane
    # A tissue map as coarse as the scan knows one point of each voxel: its mean is then that of a blur as wide.
    aperture = 12**-0.5 if finer == 1 else 0.0
    sigmas: list[Any] = [np.hypot(mm / s, aperture) for mm, s in zip(acquisition.blur_mm, fine, strict=True)]
    sigmas[0] = np.hypot(sigmas[0], acquisition.smear * np.abs(height) / fine[0])
    return [blocks(n, finer) @ gaussian(n, sigma) for n, sigma in zip(shape, sigmas, strict=True)]


def projected(image: Array, step: np.ndarray, acquisition: Acquisition, library: ArrayLibrary) -> Array:
    """An ``image`` with beam hardening, scatter and lack of photons; what is denser than teeth comes from projections
    alone."""
    assert acquisition.beam is not None
    shape, xp = shape_of(image), library.xp
    unit, air, soft_tissue = acquisition.span / WATER, acquisition.grey[head.AIR], acquisition.grey[head.SOFT]
    densest = max(acquisition.grey[tissue] for tissue in MINERAL)
    body = xp.clip(image, None, densest + 0.1 * (densest - soft_tissue))
    size = -(-max(shape[1:]) // RAYS)
    sizes = (max(1, round(size * step[1] / step[0])), size, size)
    means = [blocks(n, s) if s > 1 else None for n, s in zip(shape, sizes, strict=True)]
    soft = xp.clip(along_axes(means, (body - air) / unit, library), 0, None)
    metal = along_axes(means, (image - body) / unit, library)
    beyond = WATER * max(0.0, HEAD_MM - float(max(shape[1] * step[1], shape[2] * step[2])))
    angles = max(8, round(ANGLES * max(int(n) for n in soft.shape[1:])))
    error = reconstruction_error(soft, metal, float(step[1] * size), beyond, acquisition.beam, angles, library)
    spread = [between_blocks(n, s) if s > 1 else None for n, s in zip(shape, sizes, strict=True)]
    return body + along_axes(spread, error * unit, library)


def veiled(image: Array, step: np.ndarray, acquisition: Acquisition, library: ArrayLibrary) -> Array:
    """Scattered light lowers the contrast, most where much attenuates around: a share of a wide blur is taken away."""
    if not acquisition.veil:
        return image
    shape = shape_of(image)
    sizes = [max(1, int(acquisition.veil_mm / 4 / s)) for s in step]
    coarse = along_axes([blocks(n, s) for n, s in zip(shape, sizes, strict=True)], image, library)
    sigmas = [acquisition.veil_mm / s / b for s, b in zip(step, sizes, strict=True)]
    coarse = along_axes([gaussian(n, s) for n, s in zip(shape_of(coarse), sigmas, strict=True)], coarse, library)
    wide = along_axes([between_blocks(n, s) for n, s in zip(shape, sizes, strict=True)], coarse, library)
    return image - acquisition.veil * (wide - acquisition.grey[head.AIR])


def shaded(image: Array, acquisition: Acquisition, library: ArrayLibrary) -> Array:
    """Gain that varies smoothly over the view."""
    air = acquisition.grey[head.AIR]
    gain = 1 + acquisition.bias * smooth_field(shape_of(image), (3, 3, 3), library)
    return (image - air) * gain + air


def ringed(image: Array, step: np.ndarray, acquisition: Acquisition, field: Field, library: ArrayLibrary) -> Array:
    """Truncation brightens the border of a narrow view; uneven elements of the detector leave rings around its axis."""
    radii = field.radii(shape_of(image), step)
    if acquisition.truncation and np.isfinite(field.radius):
        depth = np.maximum(field.radius - radii, 0)
        rim = library.constant(acquisition.truncation * np.exp(-depth / acquisition.truncation_mm))
        # Where the head ends within the view, nothing is cut off.
        tissue = library.xp.clip(image - acquisition.grey[head.AIR], 0, acquisition.span)
        image = image + rim * tissue
    if not acquisition.rings:
        return image
    return image + _rings(radii / step[1], int(image.shape[0]), library) * (acquisition.rings * acquisition.contrast)


def _rings(radii: np.ndarray, depth: int, library: ArrayLibrary) -> Array:
    """Rings of unit strength near the axis, (z, y, x), that come and go along z; ``radii`` (y, x) are in voxels."""
    element = library.integers(np.rint(radii).astype(np.int64))
    # An uneven element is wrong by the same share on every ray; far from the axis more of them share a voxel.
    fading = library.constant(1 / np.sqrt(1 + radii / 10))
    total = 0
    for _ in range(RING_PATTERNS):
        along = library.constant(between(depth, max(2, depth // 8))) @ library.normal((max(2, depth // 8), 1))
        uneven = library.normal((int(radii.max()) + 2,))
        total = total + along[:, :, None] * (library.take(uneven, element) * fading)
    return total


def moved(image: Array, step: np.ndarray, acquisition: Acquisition, library: ArrayLibrary) -> Array:
    """The patient moves between projections: directions of the axial frequency plane belong to one position each.

    A parallel projection at an angle is a line of the plane's spectrum at that angle (central slice theorem). Only what
    a move changes is taken through the spectrum, because what differs between opposite borders would throw streaks, and
    so would metal were it not saturated.
    """
    fft, (height, width) = library.xp.fft, (int(n) for n in image.shape[1:])
    angle = np.arctan2(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :]) / np.pi
    turn = np.mod(angle - acquisition.first_angle, 1.0)
    still = library.xp.clip(image, acquisition.response.floor, acquisition.response.top)
    changed = 0
    for i, move in enumerate(acquisition.moves):
        end = acquisition.moves[i + 1].start if i + 1 < len(acquisition.moves) else 1.0
        shifts = [_shift(n, mm / s) for n, mm, s in zip(shape_of(image), move.mm, step, strict=True)]
        difference = along_axes(shifts, still, library) - still
        changed = changed + fft.rfft2(difference) * library.constant((turn >= move.start) & (turn < end))
    return image + fft.irfft2(changed, s=(height, width))


def _shift(length: int, by: float) -> np.ndarray:
    """Weights (length, length) of a displacement by so many voxels; beyond the ends the last value goes on."""
    at = np.clip(np.arange(length) - by, 0, length - 1)
    return np.asarray(np.clip(1 - np.abs(at[:, None] - np.arange(length)), 0, 1), np.float32)


def noisy(image: Array, acquisition: Acquisition, library: ArrayLibrary) -> Array:
    """White or grainy noise; in the foreign setting also blotches, slices that flicker and moire."""
    if acquisition.noise:
        noise = library.normal(shape_of(image))
        if acquisition.noise_grain > 0.3:
            noise = along_axes([grain(n, acquisition.noise_grain) for n in shape_of(image)], noise, library)
        image = image + acquisition.noise * acquisition.contrast * noise
    if acquisition.foreign != Foreign():
        image = image + acquisition.contrast * _foreign_noise(shape_of(image), acquisition.foreign, library)
    return image


def _foreign_noise(shape: Shape, foreign: Foreign, library: ArrayLibrary) -> Array:
    """Noise whose power falls with frequency, brightness that jumps from slice to slice, crossed waves."""
    noise = foreign.flicker * library.normal((shape[0], 1, 1))
    for voxels in (3, 6, 12):
        z, y, x = (max(2, n // voxels) for n in shape)
        noise = noise + foreign.blotches * smooth_field(shape, (z, y, x), library)
    y, x = (np.sin(wave * np.arange(n)) for wave, n in zip(foreign.moire_waves, shape[1:], strict=True))
    return noise + library.constant(foreign.moire * y[:, None] * x[None, :])


def filtered(image: Array, step: np.ndarray, acquisition: Acquisition, library: ArrayLibrary) -> Array:
    """The maker's filter: sharper or smoother edges, and noise with them."""
    if not acquisition.sharpen:
        return image
    sigmas = acquisition.sharpen_mm / step
    blurred = along_axes([gaussian(n, s) for n, s in zip(shape_of(image), sigmas, strict=True)], image, library)
    return image + acquisition.sharpen * (image - blurred)


def respond(image: Array, response: Response, library: ArrayLibrary) -> Array:
    """Grey values as the file holds them."""
    unit = library.xp.clip((image - response.floor) / max(response.top - response.floor, 1e-3), 0, 1)
    unit = library.xp.round(unit**response.gamma * response.levels) / response.levels
    return unit * (response.high - response.low) + response.low
