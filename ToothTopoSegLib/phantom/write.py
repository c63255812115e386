"""Synthetic scans as files: ``./toothtopo phantom``.

Each phantom is a scan ``phantom_<seed>.nii.gz`` (int16, no Hounsfield units promised), its exact labels
``phantom_<seed>_labels.nii.gz`` (FDI numbers, 101 lower jaw, 102 upper jaw) and ``phantom_<seed>.json`` (how it was
made). The same seed always gives the same files.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ToothTopoSegLib.errors import OutputError, UsageError
from ToothTopoSegLib.imaging.volume import Volume
from ToothTopoSegLib.progress import Progress, silent

if TYPE_CHECKING:
    from ToothTopoSegLib.phantom.arch import Dentition
    from ToothTopoSegLib.phantom.head import Pose
    from ToothTopoSegLib.phantom.views import View

OVERLAP_MM3 = 1.0
"""Where crowded teeth overlap, smaller pieces of one are left within the other."""
LARGEST_VOXELS = 16_000_000


@dataclass(frozen=True, eq=False)
class Phantom:
    """A synthetic scan with its exact labels, both on one grid, and how it was made."""

    scan: Volume
    labels: Volume
    made: dict[str, Any]


def _tilt(rng: np.random.Generator, degrees: float) -> tuple[tuple[float, ...], ...]:
    from scipy.spatial.transform import Rotation

    angles = rng.normal(0, degrees, 3) * np.array([1, 0.6, 1])
    return tuple(tuple(float(v) for v in row) for row in Rotation.from_euler("xyz", angles, degrees=True).as_matrix())


def _view(rng: np.random.Generator) -> tuple[np.ndarray[Any, Any], tuple[float, float, float], str]:
    """Size (z, y, x) and centre (x, y, z) in mm of the field of view, and its name."""
    kind = str(rng.choice(["both jaws", "both jaws", "both jaws", "upper jaw", "lower jaw", "half"]))
    size = np.array([rng.uniform(62, 78), rng.uniform(78, 95), rng.uniform(82, 98)])
    centre = [rng.normal(0, 2), rng.uniform(2, 10), rng.normal(1, 2)]
    if kind in ("upper jaw", "lower jaw"):
        size[0] = rng.uniform(40, 50)
        centre[2] = rng.uniform(13, 17) * (1 if kind == "upper jaw" else -1)
    elif kind == "half":
        size[2] = rng.uniform(48, 60)
        centre[0] = rng.uniform(18, 22) * rng.choice([-1, 1])
    return size, (float(centre[0]), float(centre[1]), float(centre[2])), kind


def make_phantom(seed: int, hard: bool = False, setting: str = "plain", scanner: int | None = None) -> Phantom:
    """The phantom of a seed: random head, view, spacing and scanner; ``hard`` makes all of them worse.

    ``setting`` is one of :data:`ToothTopoSegLib.phantom.acquisition.SETTINGS`. With ``scanner``, a seed of its own, all
    heads are seen by the same scanner. Raises ValueError for a negative seed, UsageError for another setting, and for a
    scanner where the setting has none.
    """
    from ToothTopoSegLib.phantom.arch import draw_dentition
    from ToothTopoSegLib.phantom.head import Pose

    _check_setting(setting, scanner)
    if setting != "plain":
        from ToothTopoSegLib.phantom.views import draw_view

        rng = np.random.default_rng(seed)
        made = {"seed": seed} if scanner is None else {"seed": seed, "scanner": scanner}
        return _acquired(rng, draw_view(rng, LARGEST_VOXELS, hard), hard, setting, made, scanner)
    rng = np.random.default_rng(seed)
    dentition = draw_dentition(rng, hard)
    size, centre, kind = _view(rng)
    spacing = float(rng.uniform(0.4, 0.5) if hard else rng.uniform(0.2, 0.5))
    # A fine voxel on a large view would make a scan of hundreds of megabytes: such scanners show less of the head.
    spacing = round(max(spacing, float(np.prod(size) / LARGEST_VOXELS) ** (1 / 3)), 3)
    shape = (int(size[0] / spacing), int(size[1] / spacing), int(size[2] / spacing))
    pose = Pose(centre, _tilt(rng, 6 if hard else 4))
    return _scanned(rng, dentition, shape, spacing, pose, hard, {"seed": seed, "hard": hard, "view": kind})


def _scanned(
    rng: np.random.Generator,
    dentition: Dentition,
    shape: tuple[int, int, int],
    spacing: float,
    pose: Pose,
    hard: bool,
    made: dict[str, Any],
) -> Phantom:
    """The head with a dentition as a random scanner shows it around the middle of ``pose``."""
    from ToothTopoSegLib.imaging.pieces import give_away_slivers
    from ToothTopoSegLib.phantom.head import DENTINE, render
    from ToothTopoSegLib.phantom.scanner import add_noise, draw_imaging, expose
    from ToothTopoSegLib.phantom.whole_teeth import make_teeth_whole

    tissue, labels = render(dentition, shape, (spacing,) * 3, rng, pose, warp=float(rng.uniform(0.2, 1.2)))
    make_teeth_whole(tissue, labels, spacing, DENTINE)
    give_away_slivers(labels, OVERLAP_MM3 / spacing**3)
    imaging = draw_imaging(rng, hard)
    grey = add_noise(expose(tissue, (spacing,) * 3, imaging, rng), imaging, rng)
    offset = float(rng.choice([0.0, 1000.0]))
    x, y, z = (c - (n - 1) / 2 * spacing for c, n in zip(pose.centre, shape[::-1], strict=True))
    grid = Volume(np.rint(grey + offset).astype(np.int16), (spacing,) * 3, (x, y, z))
    made = made | {"spacing_mm": spacing, "shape_zyx": list(shape)}
    made |= {"teeth": sorted(int(v) for v in np.unique(labels) if 0 < v < 100), "imaging": asdict(imaging)}
    return Phantom(grid, grid.with_array(labels), made)


def _acquired(
    rng: np.random.Generator, view: View, hard: bool, setting: str, made: dict[str, Any], scanner: int | None = None
) -> Phantom:
    """A natural head in a field of view as a random cone-beam scanner of a setting, or that of a seed, shows it.

    Outside the cylinder that the scanner sees, the scan holds one grey value and nothing is labelled.
    """
    from ToothTopoSegLib.phantom.acquisition import draw_acquisition
    from ToothTopoSegLib.phantom.arch import draw_dentition
    from ToothTopoSegLib.phantom.arrays import numpy_library
    from ToothTopoSegLib.phantom.cone_beam import acquire
    from ToothTopoSegLib.phantom.head import render
    from ToothTopoSegLib.phantom.views import most_frequent, outside_value

    dentition = draw_dentition(rng, hard, natural=True)
    finer = 2 if 8 * np.prod(view.shape) <= LARGEST_VOXELS else 1
    z, y, x = (n * finer for n in view.shape)
    step = (view.spacing,) * 3
    fine = (view.spacing / finer,) * 3
    tissue, labels = render(dentition, (z, y, x), fine, rng, view.pose, warp=float(rng.uniform(0.2, 1.2)), natural=True)
    labels = most_frequent(labels, finer) if finer > 1 else labels
    acquisition = draw_acquisition(rng, hard, setting, scanner)
    grey = acquire(tissue, finer, step, acquisition, view.field, numpy_library(rng))
    seen = view.field.seen(view.shape, step)
    if view.outside is not None:
        grey = np.where(seen, grey, outside_value(grey, seen, view.outside))
        labels = np.where(seen, labels, 0).astype(np.uint8)
    x0, y0, z0 = (c - (n - 1) / 2 * view.spacing for c, n in zip(view.pose.centre, view.shape[::-1], strict=True))
    grid = Volume(np.rint(grey).astype(np.int16), step, (x0, y0, z0))
    made = made | {"hard": hard, "setting": setting, "view": view.kind, "outside": view.outside}
    made |= {"spacing_mm": view.spacing, "shape_zyx": list(view.shape)}
    made |= {"teeth": sorted(int(v) for v in np.unique(labels) if 0 < v < 100), "imaging": asdict(acquisition)}
    return Phantom(grid, grid.with_array(labels), made)


def _check_setting(setting: str, scanner: int | None = None) -> None:
    from ToothTopoSegLib.phantom.acquisition import SETTINGS

    if setting not in SETTINGS:
        raise UsageError(f"There is no setting {setting!r} of phantoms; choose one of {', '.join(SETTINGS)}.")
    if scanner is not None and (scanner < 0 or setting == "plain"):
        raise UsageError(
            f"The scanner {scanner} was asked for in the setting {setting}, but only natural and foreign phantoms have "
            "scanners by seeds of at least 0; choose one of these with --setting."
        )


def make_hard_view(
    seed: int, size_mm: tuple[float, float, float], spacing: float = 0.45, setting: str = "plain"
) -> Phantom:
    """A hard phantom that shows ``size_mm`` (z, y, x) of both jaws, in voxels of ``spacing`` mm.

    Raises UsageError for a setting that is none of :data:`ToothTopoSegLib.phantom.acquisition.SETTINGS`.
    """
    from ToothTopoSegLib.phantom.arch import draw_dentition
    from ToothTopoSegLib.phantom.head import Pose

    _check_setting(setting)
    rng = np.random.default_rng(seed)
    z, y, x = (int(n / spacing) for n in size_mm)
    if setting != "plain":
        from ToothTopoSegLib.phantom.views import view_of_jaws

        return _acquired(rng, view_of_jaws(rng, (z, y, x), spacing), True, setting, {"seed": seed})
    dentition = draw_dentition(rng, hard=True)
    centre = (float(rng.normal(0, 2)), float(rng.uniform(2, 8)), float(rng.normal(0, 3)))
    return _scanned(rng, dentition, (z, y, x), spacing, Pose(centre, _tilt(rng, 6)), True, {"seed": seed, "hard": True})


def make_natural_view(seed: int, view: View) -> Phantom:
    """The natural head of a seed as a random scanner shows it in a given field of view."""
    return _acquired(np.random.default_rng(seed), view, False, "natural", {"seed": seed})


def make_teeth(seed: int, spacing: float) -> Volume:
    """The teeth of a natural head alone, as labels in voxels of ``spacing`` mm: drawn in a second or two."""
    from ToothTopoSegLib.phantom.arch import draw_dentition
    from ToothTopoSegLib.phantom.views import view_of_jaws
    from ToothTopoSegLib.phantom.whole_head import draw_teeth

    rng = np.random.default_rng(seed)
    dentition = draw_dentition(rng, natural=True)
    z, y, x = (int(n / spacing) for n in (75, 85, 95))
    view = view_of_jaws(rng, (z, y, x), spacing)
    return Volume(draw_teeth(dentition, view.shape, (spacing,) * 3, rng, view.pose), (spacing,) * 3)


def make_small_phantom(seed: int) -> Phantom:
    """Both jaws of the head of a seed in 64 x 80 x 84 voxels of 1 mm: made and segmented in seconds."""
    from ToothTopoSegLib.phantom.arch import draw_dentition
    from ToothTopoSegLib.phantom.head import Pose, render
    from ToothTopoSegLib.phantom.scanner import add_noise, draw_imaging, expose

    rng = np.random.default_rng(seed)
    spacing = (1.0, 1.0, 1.0)
    tissue, labels = render(draw_dentition(rng), (64, 80, 84), spacing, rng, Pose((0.0, 8.0, 0.0)), warp=0.4)
    imaging = draw_imaging(rng)
    grey = add_noise(expose(tissue, spacing, imaging, rng), imaging, rng)
    scan = Volume(np.rint(grey).astype(np.int16), spacing)
    made = {"seed": seed, "shape_zyx": list(scan.array.shape), "spacing_mm": 1.0, "imaging": asdict(imaging)}
    return Phantom(scan, scan.with_array(labels), made)


def _write_scan(scan: Volume, path: Path) -> None:
    from ToothTopoSegLib.imaging.itk import image_from_volume, import_sitk

    try:
        import_sitk().WriteImage(image_from_volume(scan), str(path), True)
    except RuntimeError as error:
        raise OutputError(f"The scan {path.name} could not be written; check the folder and its free space.") from error


def write_phantoms(
    folder: Path,
    count: int = 1,
    seed: int = 0,
    hard: bool = False,
    setting: str = "plain",
    scanner: int | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Write ``count`` phantoms with seeds ``seed``, ``seed + 1``, ... into ``folder``; returns what was written.

    ``setting`` and ``scanner`` are as in :func:`make_phantom`. Raises UsageError for a count below 1, a negative seed,
    an unknown setting or a scanner that it does not have, OutputError when the folder cannot be written.
    """
    from ToothTopoSegLib.imaging.write import output_folder, write_label_map

    _check_setting(setting, scanner)
    if count < 1 or seed < 0:
        raise UsageError(f"Count {count} and seed {seed} were given; count must be at least 1 and seed at least 0.")
    written = []
    for number in range(seed, seed + count):
        progress((number - seed) / count, f"phantom {number - seed + 1} of {count}")
        phantom = make_phantom(number, hard, setting, scanner)
        name = f"phantom_{number:05d}"
        with output_folder(folder) as staged:
            _write_scan(phantom.scan, staged / f"{name}.nii.gz")
            write_label_map(phantom.labels, staged / f"{name}_labels.nii.gz")
            (staged / f"{name}.json").write_text(json.dumps(phantom.made, indent=2) + "\n", encoding="utf-8")
        written.append({"scan": f"{name}.nii.gz", "labels": f"{name}_labels.nii.gz", **phantom.made})
    progress(1.0, "done")
    return {"folder": str(folder), "phantoms": written}
