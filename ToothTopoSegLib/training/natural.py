"""Training samples of the natural setting: a cached head seen by a random cone-beam scanner.

The scanner is that of the phantom command (:mod:`ToothTopoSegLib.phantom.cone_beam`), computed with torch on the device
where the case lies. Augmentations on top are those of nnU-Net (Isensee et al., Nature Methods 2021): rotation, scaling,
smooth deformation, noise, brightness, contrast, low resolution per axis, gamma also of the inverted image, mirroring
with the numbers of the other side. Nothing here waits for the device.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from ToothTopoSegLib.imaging.field import nearest_seen
from ToothTopoSegLib.phantom import head, projection
from ToothTopoSegLib.phantom.acquisition import Acquisition, draw_acquisition
from ToothTopoSegLib.phantom.arrays import ArrayLibrary, along_axes, between
from ToothTopoSegLib.phantom.cone_beam import Field, acquire, respond
from ToothTopoSegLib.phantom.views import draw_centre, draw_size, draw_tilt
from ToothTopoSegLib.training import sampling
from ToothTopoSegLib.training.sampling import FINER, Bend, Patch, Window

if TYPE_CHECKING:
    from torch import Generator, Tensor

SMALL_SHARE, ROUND_SHARE = 0.2, 0.75
"""Share of samples that show a quadrant and end around it, as its scan does, and of those that end at a cylinder."""
CYLINDER_SHARE, CUT_SHARE = 0.35, 0.35
"""Shares of samples at the border of a scanner's cylinder, and of scans that end within the patch at a plane."""
STRETCH = 0.06
"""Each axis is scaled on its own by up to this share."""


@lru_cache(maxsize=8)
def _projector(side: int, angles: int, device: str) -> projection.Projector:
    """The projections of slices, kept on a device."""
    import torch

    on_host = projection.projector(side, angles)

    def brought(matrix: Any) -> Tensor:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Sparse CSR tensor support")
            parts = (torch.from_numpy(part) for part in (matrix.indptr, matrix.indices, matrix.data))
            return torch.sparse_csr_tensor(*parts, matrix.shape, check_invariants=True).to(device)

    return replace(on_host, forward=brought(on_host.forward), back=brought(on_host.back))


def torch_library(chance: Generator) -> ArrayLibrary:
    """Arrays of torch on the device of a generator, with noise from it."""
    import torch

    device = chance.device

    def constant(values: Any) -> Tensor:
        return torch.from_numpy(np.array(values, np.float32)).to(device, non_blocking=True)

    return ArrayLibrary(
        xp=torch,
        constant=constant,
        integers=lambda values: torch.from_numpy(np.array(values, np.int32)).to(device, non_blocking=True),
        normal=lambda shape: torch.randn(shape, generator=chance, device=device),
        take=lambda table, index: table.index_select(0, index.reshape(-1).int()).reshape(index.shape),
        projector=lambda side, angles: _projector(side, angles, str(device)),
    )


def draw_natural_window(rng: np.random.Generator, spacing: float, window: Window | None = None) -> Window:
    """``window``, or one that :func:`.sampling.draw_window` draws, of a head that may be tilted by up to 30 degrees."""
    window = window or sampling.draw_window(rng, spacing)
    scale = float(np.exp(rng.normal(0, 0.08)))
    if rng.random() < 0.4:
        return replace(window, spacing=window.spacing * scale, rotation=draw_tilt(rng, 6.0, 30.0))
    return replace(window, spacing=window.spacing * scale)


def _smooth_bend(rng: np.random.Generator, library: ArrayLibrary) -> Bend:
    """A smooth deformation of up to some millimetres."""
    strength = float(rng.uniform(0.2, 1.2) if rng.random() < 0.8 else rng.uniform(1.2, 2.2))
    lattice = strength * library.normal((3, 4, 5, 5))
    return lambda axis, shape: along_axes(
        [between(n, c) for n, c in zip(shape, lattice.shape[1:], strict=True)], lattice[axis], library
    )


def _draw_field(rng: np.random.Generator, patch: Patch, spacing: float) -> Field:
    """Where the axis of the scanner lies; in some samples the border of its cylinder runs through the patch."""
    size = np.array(patch) * spacing
    axis = (float(rng.normal(0, 0.3) * size[1]), float(rng.normal(0, 0.3) * size[2]))
    mid_plane = float(rng.normal(0, 0.7) * size[0])
    if rng.random() >= CYLINDER_SHARE:
        return Field(axis, mid_plane=mid_plane)
    return Field(axis, float(rng.uniform(0.35, 0.75) * max(size[1:])), mid_plane)


def _plane(patch: Patch, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """A field of view (z, y, x) that ends at a plane within the patch, most often between the jaws."""
    axis = int(rng.choice([0, 0, 0, 1, 2, 2]))
    along = [1, 1, 1]
    along[axis] = -1
    at = np.linspace(-1, 1, patch[axis]) * rng.choice([-1, 1])
    return np.broadcast_to((at < rng.uniform(0.0, 0.8)).reshape(along), patch)


def _view(patch: Patch, spacing: float, field: Field, rng: np.random.Generator) -> np.ndarray[Any, Any] | None:
    """What of the patch a scan shows, or None where it shows all of it."""
    if np.isfinite(field.radius):
        seen = field.seen(patch, (spacing,) * 3)
        # A cylinder beside the patch shows nothing to learn from.
        return np.broadcast_to(seen, patch) if seen.mean() > 0.1 else None
    return _plane(patch, rng) if rng.random() < CUT_SHARE else None


def draw_natural_sample(
    case: Tensor,
    rng: np.random.Generator,
    patch: Patch,
    spacing: float,
    setting: str = "natural",
    window: Window | None = None,
) -> tuple[Tensor, Tensor]:
    """Image float32 (z, y, x) and class indices uint8 (z, y, x); see :func:`.sampling.draw_sample`."""
    import torch

    chance = torch.Generator(case.device).manual_seed(int(rng.integers(2**62)))
    library = torch_library(chance)
    if window is None and rng.random() < SMALL_SHARE:
        image, classes = _quadrant(case, rng, patch, spacing, setting, library)
    else:
        window = draw_natural_window(rng, spacing, window)
        image, classes = _anywhere(case, rng, patch, window, setting, library)
    if rng.random() < sampling.MIRROR_SHARE:
        image, classes = image.flip(-1), sampling._mirrored(classes).flip(-1)
    return image.contiguous(), classes.contiguous()


def _anywhere(
    case: Tensor, rng: np.random.Generator, patch: Patch, window: Window, setting: str, library: ArrayLibrary
) -> tuple[Tensor, Tensor]:
    """A part of a scan, or the end of one."""
    import torch

    acquisition = draw_acquisition(rng, bool(rng.random() < 0.4), setting)
    field = _draw_field(rng, patch, window.spacing)
    image, classes = _seen(case, rng, patch, window, acquisition, field, library)
    view = _view(patch, window.spacing, field, rng)
    if view is None:
        values = _surroundings(case[0], window, patch, acquisition, rng, library)
        return _augmented(sampling._normalised(image, values), rng, library), classes
    # A scan that ends here is also normalised on what it shows.
    shows = torch.from_numpy(np.array(view)).to(case.device, non_blocking=True)
    return _augmented(_ended(image, shows, rng), rng, library), classes.masked_fill(~shows, 0)


def _quadrant(
    case: Tensor, rng: np.random.Generator, patch: Patch, spacing: float, setting: str, library: ArrayLibrary
) -> tuple[Tensor, Tensor]:
    """All of a scan of a quadrant: what it does not show is filled as before segmentation.

    The corners around its cylinder go on as what is beside them (:mod:`ToothTopoSegLib.imaging.field`), and beyond the
    scan there is the mean.
    """
    import torch
    from torch.nn import functional

    (height, width), centre = draw_size("quadrant", rng), np.array(draw_centre("quadrant", rng)[::-1])
    window = Window(centre, sampling.draw_window(rng, spacing).rotation, spacing, dental=True)
    window = draw_natural_window(rng, spacing, window)
    z, y, x = (min(n, round(mm / window.spacing)) for n, mm in zip(patch, (height, width, width), strict=True))
    radius = min(y, x) * window.spacing / 2 if rng.random() < ROUND_SHARE else float("inf")
    field = Field(radius=radius, mid_plane=float(rng.uniform(-0.5, 0.5) * height))
    acquisition = draw_acquisition(rng, bool(rng.random() < 0.4), setting)
    image, classes = _seen(case, rng, (z, y, x), window, acquisition, field, library)
    unseen = ~field.seen((z, y, x), (window.spacing,) * 3)
    if unseen.any():
        rows, columns = (torch.from_numpy(i).to(case.device) for i in nearest_seen(unseen))
        image = image[:, rows, columns]
        classes = classes.masked_fill(torch.from_numpy(unseen).to(case.device), 0)
    image = _augmented(sampling._normalised(image, image.reshape(-1)), rng, library)
    around = [n for have, need in zip((x, y, z), patch[::-1], strict=True) for n in _shared_out(need - have)]
    return functional.pad(image, around), functional.pad(classes, around)


def _shared_out(need: int) -> tuple[int, int]:
    """Voxels before and behind, as :func:`ToothTopoSegLib.segmentation.tiling.padded` shares them out."""
    return need // 2, need - need // 2


def _seen(
    case: Tensor,
    rng: np.random.Generator,
    patch: Patch,
    window: Window,
    acquisition: Acquisition,
    field: Field,
    library: ArrayLibrary,
) -> tuple[Tensor, Tensor]:
    """Grey values and class indices (z, y, x) of what a scanner shows in a window; no classes outside the case."""
    bend = _smooth_bend(rng, library) if rng.random() < sampling.BEND_SHARE else None
    step = window.spacing * rng.uniform(1 - STRETCH, 1 + STRETCH, 3)
    z, y, x = (n * FINER for n in patch)
    size = tuple(case.shape[1:])
    fine, _ = sampling._Grid(window, (z, y, x), step / FINER).look_up(size, bend, case.device)
    coarse, inside = sampling._Grid(window, patch, step).look_up(size, bend, case.device)
    image = acquire(sampling._at(case[0], fine), FINER, (window.spacing,) * 3, acquisition, field, library)
    return image, sampling._classes(sampling._at(case[1], coarse)).masked_fill(~inside, 0)


def _ended(image: Tensor, shows: Tensor, rng: np.random.Generator) -> Tensor:
    """The image normalised on what a scan shows, with one value where it shows nothing."""
    import torch

    values = image.masked_fill(~shows, float("nan")).reshape(-1)
    image = sampling._normalised(image, values[:: max(1, image.numel() // (4 * sampling.DETERMINED_BY))])
    outside = image.amin() if rng.random() < 0.6 else torch.zeros((), device=image.device)
    return torch.where(shows, image, outside)


def _surroundings(
    tissues: Tensor,
    window: Window,
    patch: Patch,
    acquisition: Acquisition,
    rng: np.random.Generator,
    library: ArrayLibrary,
) -> Tensor:
    """Grey values in and around the patch, thinned: what the scale of a whole scan rests on."""
    margin = rng.uniform(0, 12 if window.dental else 60, 3)
    reach = np.asarray(patch) * window.spacing + 2 * margin
    step = float((reach.prod() / sampling.DETERMINED_BY) ** (1 / 3))
    z, y, x = (int(max(2, round(r / step))) for r in reach)
    grid = sampling._Grid(window, (z, y, x), reach / np.array([z, y, x]))
    flat, inside = grid.look_up(tuple(tissues.shape), None, tissues.device)
    grey = library.take(library.constant(np.array(acquisition.grey)), sampling._at(tissues, flat))
    air, veil = acquisition.grey[head.AIR], acquisition.veil
    grey = grey - veil * (grey.mean() - air) + acquisition.noise * acquisition.contrast * library.normal((z, y, x))
    grey = respond(grey, acquisition.response, library)
    return grey.masked_fill(~inside & inside.any(), float("nan")).reshape(-1)


def _augmented(image: Tensor, rng: np.random.Generator, library: ArrayLibrary) -> Tensor:
    """The intensity transforms of nnU-Net on a normalised image, each in a share of samples."""
    if rng.random() < 0.1:
        image = image + float(rng.uniform(0, 0.3)) * library.normal(tuple(image.shape))
    if rng.random() < 0.15:
        image = image * float(rng.uniform(0.75, 1.25))
    if rng.random() < 0.15:
        image = image + float(rng.normal(0, 0.15))
    if rng.random() < 0.2:
        image = _low_resolution(image, rng, library)
    for inverted, share in ((True, 0.1), (False, 0.25)):
        if rng.random() < share:
            image = _with_gamma(image, float(np.exp(rng.uniform(-0.35, 0.35))), inverted)
    return image


def _low_resolution(image: Tensor, rng: np.random.Generator, library: ArrayLibrary) -> Tensor:
    """Each axis, or one of them, seen at a resolution down to half and brought back."""
    chosen = rng.integers(3) if rng.random() < 0.5 else None
    matrices: list[np.ndarray[Any, Any] | None] = []
    for axis, length in enumerate(image.shape):
        points = max(2, round(length * rng.uniform(0.5, 1.0)))
        kept = np.zeros((points, length), np.float32)
        kept[np.arange(points), np.rint(np.linspace(0, length - 1, points)).astype(int)] = 1
        matrices.append(between(length, points) @ kept if chosen in (None, axis) else None)
    return along_axes(matrices, image, library)


def _with_gamma(image: Tensor, gamma: float, inverted: bool) -> Tensor:
    """Grey values bent between their limits, from the dark end or, inverted, from the bright one; mean and deviation
    stay."""
    values = -image if inverted else image
    low, high = values.amin(), values.amax()
    mean, deviation = values.mean(), values.std()
    bent = ((values - low) / (high - low + 1e-6)).clamp(0, 1) ** gamma
    bent = (bent - bent.mean()) / (bent.std() + 1e-6) * deviation + mean
    return -bent if inverted else bent
