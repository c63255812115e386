"""One training sample: a cached head, seen by a random scanner, cut out at a random place, tilt and size.

In: a case (2, z, y, x) of tissue and labels. Out: a normalised image patch and its class indices on the network's grid,
made on the device where the case lies. The scanner is that of :mod:`ToothTopoSegLib.phantom.scanner`, written for
torch, with metal artefacts from projections on top; augmentations follow nnU-Net (rotation, scaling, mirroring, noise,
blur, gamma, low resolution) and SynthSeg (smooth deformation; Billot et al., Medical Image Analysis 2023). Nothing here
waits for the device, so that a GPU is never kept idle between samples. Samples of the other settings are made in
:mod:`ToothTopoSegLib.training.natural`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.phantom import head, scanner
from ToothTopoSegLib.segmentation.classes import MIRRORED, label_to_class
from ToothTopoSegLib.segmentation.normalise import HIGH_PERCENTILE, LOW_PERCENTILE
from ToothTopoSegLib.training.cases import CASE_CENTRE, spacing_of

if TYPE_CHECKING:
    from torch import Generator, Tensor

Array = NDArray[Any]
Patch = tuple[int, int, int]
Bend = Callable[[int, Patch], Any]

FINER = 2
"""Tissues are looked up on a grid this many times finer than the patch, then averaged as a detector would."""
BEND_SHARE = 0.5
"""Share of samples that are deformed smoothly, and ..."""
MIRROR_SHARE = 0.5
"""... of those that show the head as in a mirror."""
HARD_SHARE = 0.4
"""Share of scanners of plain samples that are hard: more blur, noise and metal artefact."""
DETERMINED_BY = 25_000
"""About how many values the grey scale of a sample rests on."""


@dataclass(frozen=True)
class Window:
    """Where a patch lies in the head: centre (z, y, x) mm, rotation (3x3, acting on z, y, x), mm per voxel."""

    centre: Array
    rotation: Array
    spacing: float
    dental: bool


def _turn(angles: Array) -> Array:
    """Rotation matrix on (z, y, x) from three angles in degrees about the z, y and x axes."""
    from scipy.spatial.transform import Rotation

    return np.asarray(Rotation.from_euler("xyz", angles, degrees=True).as_matrix())


def draw_window(rng: np.random.Generator, spacing: float) -> Window:
    """A random window: mostly around the teeth, sometimes anywhere in the head; at times coarser, to see more."""
    dental = bool(rng.random() < 0.88)
    if dental:
        centre = np.array([rng.normal(0, 7), rng.normal(2, 7), rng.normal(0, 5)])
        # Single quadrants and one-jaw fields of view are common in dental practice.
        if rng.random() < 0.25:
            centre += np.array([rng.choice([-16, 0, 16]), rng.uniform(-15, 15), rng.choice([-22, 0, 22])])
    else:
        centre = np.array([rng.uniform(-45, 50), rng.uniform(-35, 55), rng.uniform(-45, 45)])
    rotation = _turn(np.array([rng.normal(0, 6), rng.normal(0, 5), rng.normal(0, 9)]))
    wider = rng.uniform(1.15, 1.7) if rng.random() < 0.15 else 1.0
    return Window(centre, rotation, spacing * wider * float(np.exp(rng.normal(0, 0.07))), dental)


@dataclass(frozen=True)
class _Grid:
    """Points at which a case is looked up: ``shape`` of them (z, y, x), ``step`` mm apart, around a window's centre."""

    window: Window
    shape: Patch
    step: Array

    def look_up(self, size: tuple[int, ...], bend: Bend | None, device: Any) -> tuple[Tensor, Tensor]:
        """Flat index int32 of the nearest voxel of a case of ``size`` for every point, and whether it lies inside.

        ``bend`` says for an axis and a shape how many mm points move. Outside, the nearest border voxel is named.
        """
        import torch

        spacing = spacing_of(size)
        origin = (np.asarray(size) - 1) / 2 - np.asarray(CASE_CENTRE[::-1]) / spacing
        flat, seen = torch.zeros(self.shape, dtype=torch.int32, device=device), None
        for n, at in zip(size, self.places(origin, spacing, bend, device), strict=True):
            inside = (at >= -0.5) & (at < n - 0.5)
            seen = inside if seen is None else seen & inside
            flat = flat * n + at.round_().clamp_(0, n - 1).int()
        assert seen is not None
        return flat, seen

    def places(self, origin: Array, spacing: float, bend: Bend | None, device: Any) -> Iterator[Tensor]:
        """For each axis (z, y, x) the fractional index of every point on a grid of ``spacing`` mm.

        The window's centre counts from the voxel ``origin`` (z, y, x); ``bend`` is as in :meth:`look_up`.
        """
        import torch

        start = origin + self.window.centre / spacing
        turn = self.window.rotation * self.step / spacing
        axes = [torch.arange(n, device=device, dtype=torch.float32) - (n - 1) / 2 for n in self.shape]
        for i in range(3):
            z, y, x = (float(turn[i, j]) * axes[j] for j in range(3))
            at = (z + float(start[i]))[:, None, None] + y[None, :, None] + x[None, None, :]
            yield at if bend is None else at + bend(i, self.shape) / spacing


def _at(values: Tensor, flat: Tensor) -> Tensor:
    """Values of a map at flat indices, in the shape of the indices."""
    return values.reshape(-1).index_select(0, flat.reshape(-1)).reshape(flat.shape)


def _table(values: Tensor | Array, index: Tensor) -> Tensor:
    """A table's value for every index."""
    import torch

    table = torch.as_tensor(np.asarray(values, np.float32)).to(index.device, non_blocking=True)
    return table.index_select(0, index.reshape(-1).int()).reshape(index.shape)


def _normal(shape: tuple[int, ...], chance: Generator) -> Tensor:
    import torch

    return torch.randn(shape, generator=chance, device=chance.device)


def _smooth_noise(shape: Patch, cells: Patch, chance: Generator) -> Tensor:
    """Smooth random field on ``shape``, of unit standard deviation at the ``cells`` lattice points it runs between."""
    from torch.nn import functional

    lattice = _normal((1, 1, *cells), chance)
    return functional.interpolate(lattice, shape, mode="trilinear", align_corners=True)[0, 0]


def _averaging(fine: int, sigma: float) -> Array:
    """Weights (fine / FINER, fine): Gaussian blur of ``sigma`` fine voxels, then the mean of FINER neighbours."""
    at = np.arange(fine)
    weights = np.exp(-0.5 * ((at[:, None] - at) / max(sigma, 0.05)) ** 2)
    weights /= weights.sum(1, keepdims=True)
    return np.asarray(weights.reshape(fine // FINER, FINER, fine).mean(1), np.float32)


def _blurred(fine: Tensor, sigmas: Array) -> Tensor:
    """A fine grid (z, y, x) seen through a point spread with ``sigmas`` fine voxels, on the patch's grid."""
    import torch

    weights = [
        torch.from_numpy(_averaging(n, float(s))).to(fine.device, non_blocking=True)
        for n, s in zip(fine.shape, sigmas, strict=True)
    ]
    out = (weights[0] @ fine.reshape(fine.shape[0], -1)).reshape(-1, *fine.shape[1:])
    return (weights[1] @ out) @ weights[2].T


def _grain(noise: Tensor, sigma: float) -> Tensor:
    """Noise with a grain of ``sigma`` voxels and unit standard deviation."""
    import torch
    from torch.nn import functional

    reach = int(np.ceil(3 * sigma))
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, device=noise.device) / sigma) ** 2)
    kernel = kernel / kernel.square().sum().sqrt()
    noise = noise[None, None]
    for axis in range(3):
        shape = [1] * 5
        shape[2 + axis] = len(kernel)
        pad = [0] * 3
        pad[axis] = reach
        noise = functional.conv3d(noise, kernel.reshape(shape), padding=pad)
    return noise[0, 0]


ANGLES = 32


def metal_artefact(metal: Tensor, spacing: float, rng: np.random.Generator, chance: Generator) -> Tensor:
    """What beam hardening and photon starvation by metal add to axial slices, between -1 and 1; 0 without metal.

    ``metal`` is the share of metal in each voxel (z, y, x). Its line integrals are bent as a polychromatic beam bends
    them, made noisy where little comes through, filtered and projected back (Kak & Slaney, Principles of Computerized
    Tomographic Imaging, chapters 3 and 4): dark bands between pieces of metal, bright and dark rays around them.
    """
    import torch
    from torch.nn import functional

    height, width = metal.shape[1:]
    side = max(height, width)
    device = metal.device
    angles = (torch.arange(ANGLES, device=device) + float(rng.random())) * (np.pi / ANGLES)
    cos, sin = angles.cos()[:, None, None], angles.sin()[:, None, None]
    y, x = (torch.linspace(-1, 1, side, device=device).reshape(s) for s in ((1, -1, 1), (1, 1, -1)))
    square = functional.pad(metal, (0, side - width, 0, side - height))
    turned = torch.stack([x * cos - y * sin, x * sin + y * cos], -1)
    rays = functional.grid_sample(square.expand(ANGLES, -1, -1, -1), turned, align_corners=True).sum(2) * spacing
    starved = _normal(tuple(rays.shape), chance) * (torch.exp((rays / 3).clamp(max=4)) - 1)
    bent = float(rng.uniform(0.3, 1.0)) * rays**1.5 + float(rng.uniform(0, 0.4)) * starved
    ramp = torch.fft.rfftfreq(2 * side, device=device) * torch.hann_window(2 * (side + 1), device=device)[side + 1 :]
    filtered = torch.fft.irfft(torch.fft.rfft(bent, 2 * side) * ramp, 2 * side)[..., :side]
    across = (x * cos + y * sin).expand(ANGLES, side, side)
    back = functional.grid_sample(
        filtered[:, :, None], torch.stack([across, torch.zeros_like(across)], -1), align_corners=True
    )
    artefact = -back.sum(0)[:, :height, :width]
    return artefact / (artefact.abs().amax() + 1e-6)


def _fans(metal: Tensor, spacing: float, rng: np.random.Generator) -> Tensor:
    """Bright and dark rays in the slices through some pieces of metal, as the phantom's scanner draws them."""
    import torch

    there = (metal > 0.3).float()
    flat = there.amax(0).reshape(-1)
    y, x = (torch.arange(n, device=metal.device, dtype=torch.float32) for n in metal.shape[1:])
    reach, out = float(rng.uniform(10, 35)), torch.zeros_like(metal)
    rays = [(int(rng.integers(3, 17)), float(rng.uniform(0, 2 * np.pi)), float(rng.normal())) for _ in range(5)]
    for _ in range(int(rng.integers(1, 5))):
        # The source is the first piece of metal behind a random place, found without waiting for the device.
        shift = int(rng.integers(len(flat)))
        source = (flat.roll(-shift).argmax() + shift) % len(flat)
        cy, cx = source // metal.shape[2], source % metal.shape[2]
        dy, dx = ((y - cy) * spacing)[:, None], ((x - cx) * spacing)[None, :]
        angle, radius = torch.atan2(dy.expand(-1, len(x)), dx.expand(len(y), -1)), torch.hypot(dy, dx)
        fan = sum(a * torch.cos(n * angle + p) for n, p, a in rays) * torch.exp(-radius / reach)
        near = there.reshape(len(there), -1).index_select(1, source[None])[:, :, None]
        out += float(rng.uniform(0.5, 1.5)) * near * fan
    return out


def _view(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.bool_]:
    """A random field of view (z, y, x) that ends within the patch: at a plane, most often between the jaws, or at a
    cylinder; scanners show one jaw, one side or a few teeth as often as whole dentitions."""
    axes = [np.linspace(-1, 1, n, dtype=np.float32) for n in shape]
    if rng.random() < 0.75:
        axis = int(rng.choice([0, 0, 0, 1, 2, 2]))
        along = [1, 1, 1]
        along[axis] = -1
        seen = (axes[axis] * rng.choice([-1, 1]) < rng.uniform(0.0, 0.8)).reshape(along)
        return np.asarray(np.broadcast_to(seen, shape))
    y, x = axes[1][:, None] - rng.uniform(-0.4, 0.4), axes[2][None, :] - rng.uniform(-0.4, 0.4)
    return np.asarray(np.broadcast_to(np.hypot(y, x) < rng.uniform(0.4, 1.0), shape))


@dataclass(frozen=True)
class _Response:
    """How grey values above air end up in a file: limits, bend and rounding of a scanner."""

    floor: float
    top: float
    gamma: float

    @staticmethod
    def of(imaging: scanner.Imaging) -> _Response:
        floor = imaging.grey[head.AIR]
        return _Response(floor, floor + (imaging.grey[head.ENAMEL] - floor) * imaging.saturation, imaging.gamma)

    def apply(self, grey: Tensor) -> Tensor:
        span = max(self.top - self.floor, 1e-3)
        return ((grey - self.floor) / span).clamp_(0, 1).pow_(self.gamma).mul_(span).add_(self.floor)


def _exposed(
    tissue: Tensor, window: Window, imaging: scanner.Imaging, rng: np.random.Generator, chance: Generator
) -> Tensor:
    """Grey values of the patch without noise, from the tissues on the finer grid."""
    import torch
    from torch.nn import functional

    grey = _table(imaging.grey, tissue)
    step = window.spacing / FINER
    contrast = imaging.grey[head.DENTINE] - imaging.grey[head.SOFT]
    if imaging.texture > 0:
        share = np.zeros(11, np.float32)
        share[head.TRABECULAR] = imaging.texture * 0.5
        share[[head.DENTINE, head.CORTICAL]] = 0.04
        grain = float(rng.choice([3.0, rng.uniform(0.6, 4.0)]))
        z, y, x = (max(6, int(n * step / grain)) for n in tissue.shape)
        grey += contrast * _table(share, tissue) * _smooth_noise(_shape(tissue), (z, y, x), chance)
    sigmas = np.full(3, imaging.blur_mm / step)
    if rng.random() < 0.3:
        sigmas = np.hypot(sigmas, rng.uniform(0.3, 0.9, 3) * FINER)
    if rng.random() < 0.1:  # thick slices
        sigmas[rng.integers(3)] += rng.uniform(0.5, 1.5) / step
    image = _blurred(grey, sigmas)
    # On a CPU looking whether there is any metal costs less than its artefacts; a GPU must not wait for the answer.
    solid = tissue == head.METAL
    if imaging.streaks and (solid.device.type != "cpu" or bool(solid.any())):
        metal = functional.avg_pool3d(solid[None].float(), FINER)[0]
        if rng.random() < 0.6:
            strength = float(imaging.streaks * rng.uniform(1.0, 6.0) * contrast)
            image += strength * metal_artefact(metal, window.spacing, rng, chance)
        if rng.random() < 0.5:
            image += float(imaging.streaks * contrast) * _fans(metal, window.spacing, rng)
    y, x = (torch.linspace(-1, 1, n, device=image.device) for n in image.shape[1:])
    centre = 1 - y[:, None] ** 2 * 0.5 - x[None, :] ** 2 * 0.5
    field = 1 + imaging.bias * _smooth_noise(_shape(image), (3, 3, 3), chance) - imaging.cupping * centre
    response = _Response.of(imaging)
    return response.apply((image - response.floor) * field + response.floor)


def _shape(array: Tensor) -> Patch:
    z, y, x = array.shape
    return z, y, x


def _noisy(grey: Tensor, imaging: scanner.Imaging, chance: Generator) -> Tensor:
    """Grey values with white or grainy noise and the scanner's rounding."""
    noise = _normal(tuple(grey.shape), chance)
    if imaging.noise_grain > 0.3:
        noise = _grain(noise, imaging.noise_grain)
    low, high = grey.amin(), grey.amax()
    step = (high - low).clamp(min=1e-3) / (2 ** min(imaging.bits, 12) - 1)
    noisy = _clamped(grey + imaging.noise * noise, low, high)
    return ((noisy - low) / step).round_() * step + low


def _clamped(values: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Values between two bounds that lie on the device."""
    import torch

    return torch.minimum(torch.maximum(values, low), high)


def _normalised(image: Tensor, values: Tensor) -> Tensor:
    """The image on the grey scale of ``values``, of which NaN are left out; see segmentation.normalise."""
    import torch

    ends = torch.tensor([LOW_PERCENTILE / 100, HIGH_PERCENTILE / 100], device=values.device)
    low, high = torch.nanquantile(values, ends)
    clipped = _clamped(values, low, high)
    mean = clipped.nanmean()
    std = (clipped - mean).square().nanmean().sqrt().clamp(min=1e-6)
    return (_clamped(image, low, high) - mean) / std


def _surroundings(
    tissues: Tensor, window: Window, patch: Patch, imaging: scanner.Imaging, rng: np.random.Generator, chance: Generator
) -> Tensor:
    """Grey values of the patch and of some millimetres around it, thinned: what a whole scan's scale rests on."""
    margin = rng.uniform(0, 12 if window.dental else 60, 3)
    reach = np.asarray(patch) * window.spacing + 2 * margin
    step = float((reach.prod() / DETERMINED_BY) ** (1 / 3))
    z, y, x = (int(max(2, round(r / step))) for r in reach)
    grid = _Grid(window, (z, y, x), reach / np.array([z, y, x]))
    flat, inside = grid.look_up(tuple(tissues.shape), None, tissues.device)
    grey = _table(imaging.grey, _at(tissues, flat))
    grey = _Response.of(imaging).apply(grey + imaging.noise * _normal(tuple(grey.shape), chance))
    return grey.masked_fill(~inside & inside.any(), float("nan"))


def _plain_bend(rng: np.random.Generator, chance: Generator) -> Bend:
    """A smooth deformation of up to about a millimetre."""
    from torch.nn import functional

    lattice = float(rng.uniform(0.2, 1.2)) * _normal((3, 4, 5, 5), chance)

    def bend(axis: int, shape: Patch) -> Tensor:
        part = lattice[None, axis : axis + 1]
        return functional.interpolate(part, shape, mode="trilinear", align_corners=True)[0, 0]

    return bend


def draw_sample(
    case: Tensor | Array,
    rng: np.random.Generator,
    patch: Patch,
    spacing: float,
    setting: str = "plain",
    window: Window | None = None,
    hard: float = HARD_SHARE,
) -> tuple[Tensor, Tensor]:
    """Image float32 (z, y, x) and class indices uint8 (z, y, x) of shape ``patch`` at about ``spacing`` mm.

    ``case`` is uint8 (2, z, y, x), tissue and labels; the sample is made on its device. ``setting`` is one of
    :data:`ToothTopoSegLib.phantom.acquisition.SETTINGS`; ValueError for another. ``window`` says where to look, else a
    random place is drawn. ``hard`` is how often a plain sample is seen by a hard scanner.
    """
    import torch

    from ToothTopoSegLib.training.natural import draw_natural_sample

    if not isinstance(case, torch.Tensor):
        case = torch.from_numpy(np.require(case, requirements="W"))  # torch takes no read-only maps
    if setting != "plain":
        return draw_natural_sample(case, rng, patch, spacing, setting, window)
    device, size = case.device, tuple(case.shape[1:])
    chance = torch.Generator(device).manual_seed(int(rng.integers(2**62)))
    window = window or draw_window(rng, spacing)
    bend = _plain_bend(rng, chance) if rng.random() < BEND_SHARE else None
    z, y, x = (n * FINER for n in patch)
    fine, _ = _Grid(window, (z, y, x), np.full(3, window.spacing / FINER)).look_up(size, bend, device)
    coarse, seen = _Grid(window, patch, np.full(3, window.spacing)).look_up(size, bend, device)
    imaging = scanner.draw_imaging(rng, hard=bool(rng.random() < hard))
    image = _noisy(_exposed(_at(case[0], fine), window, imaging, rng, chance), imaging, chance)
    classes = _classes(_at(case[1], coarse))
    if rng.random() < 0.4:
        # A scan that ends here is also normalised on what it shows.
        view = torch.from_numpy(np.ascontiguousarray(_view(patch, rng))).to(device, non_blocking=True)
        seen = seen & view
        shown = image.masked_fill(~view, float("nan")).reshape(-1)
        image = _normalised(image, shown[:: max(1, image.numel() // (4 * DETERMINED_BY))])
        outside = image.amin() if rng.random() < 0.5 else torch.zeros((), device=device)
        image = torch.where(view, image, outside)
    else:
        values = _surroundings(case[0], window, patch, imaging, rng, chance).reshape(-1)
        image = _normalised(image, values)
    if rng.random() < 0.3:
        image = image * float(rng.uniform(0.8, 1.25)) + float(rng.normal(0, 0.15))
    classes = classes.masked_fill(~seen, 0)
    if rng.random() < MIRROR_SHARE:
        image, classes = image.flip(-1), _mirrored(classes).flip(-1)
    return image.contiguous(), classes.contiguous()


def _classes(labels: Tensor) -> Tensor:
    """Class indices, uint8, of label values."""
    import torch

    return _table(label_to_class(), labels).to(torch.uint8)


def _mirrored(classes: Tensor) -> Tensor:
    """The classes that teeth are when left and right are exchanged."""
    import torch

    return _table(np.asarray(MIRRORED), classes).to(torch.uint8)
