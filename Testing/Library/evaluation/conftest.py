"""A crude synthetic scan for tests of pictures and figures: ellipsoid teeth standing on a parabola, known exactly."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from ToothTopoSegLib.anatomy import fdi
from ToothTopoSegLib.anatomy.sizes import size_of
from ToothTopoSegLib.imaging.volume import Volume

SPACING = 0.7
ALL_BUT_THIRD_MOLARS = tuple(tooth for tooth in fdi.PERMANENT if fdi.position(tooth) < 8)


def arch_point(arc_mm: float, centre: tuple[float, float]) -> tuple[float, float]:
    """LPS x, y on the parabola y = x^2 / 18 at a signed arc length from its vertex."""
    x = np.linspace(-40, 40, 4001)
    arc = np.concatenate([[0], np.cumsum(np.hypot(np.diff(x), np.diff(x**2 / 18)))])
    at = float(np.interp(arc_mm, arc - arc[2000], x))
    return centre[0] + at, centre[1] + at**2 / 18


def tooth_centre(tooth: int, centre: tuple[float, float] = (0.0, -20.0)) -> np.ndarray:
    """LPS centre of a tooth in mm: upper teeth at z = +11, lower teeth at z = -11."""
    side = 1 if fdi.is_left(tooth) else -1
    widths = [size_of(10 * fdi.quadrant(tooth) + i).md_crown for i in range(1, fdi.position(tooth) + 1)]
    x, y = arch_point(side * (sum(widths) - widths[-1] / 2), centre)
    return np.array([x, y, 11.0 if fdi.is_upper(tooth) else -11.0])


def make_scan(teeth: tuple[int, ...] = ALL_BUT_THIRD_MOLARS, spacing: float = SPACING) -> tuple[Volume, Volume]:
    """Scan (CBCT-like greys) and FDI label map on one canonical grid of about 84 x 78 x 66 mm."""
    shape = tuple(round(size / spacing) for size in (66, 78, 84))
    labels = Volume(np.zeros(shape, np.uint8), (spacing,) * 3, (-42.0, -39.0, -33.0))
    scan = np.full(shape, 400, np.int16)
    height = labels.index_to_lps(np.stack([np.arange(shape[0]), *np.zeros((2, shape[0]))], axis=-1))[:, 2]
    scan[np.abs(height) > 14] = 700
    for tooth in teeth:
        _put_tooth(tooth, labels, scan)
    noise = np.random.default_rng(0).normal(0, 40, shape)
    return labels.with_array((scan + noise).astype(np.int16)), labels


def _put_tooth(tooth: int, labels: Volume, scan: np.ndarray) -> None:
    """Write one ellipsoid into the label map and the scan, where no other tooth is yet."""
    width = min(size_of(tooth).md_crown * 0.95, 10.0)
    half = np.array([width, width, size_of(tooth).length]) / 2
    centre = tooth_centre(tooth)
    corners = labels.lps_to_index(np.array([centre - half, centre + half]))
    box = tuple(slice(int(a), int(b) + 2) for a, b in corners.T)
    index = np.stack(np.mgrid[box], axis=-1)
    inside = (((labels.index_to_lps(index) - centre) / half) ** 2).sum(axis=-1) <= 1
    labels.array[box][inside & (labels.array[box] == 0)] = tooth
    scan[box][inside] = 1200


@pytest.fixture(scope="session")
def full_mouth() -> tuple[Volume, Volume]:
    """Scan and labels with 28 teeth; never write to them."""
    return make_scan()


@pytest.fixture(scope="session")
def crude_scan() -> Callable[..., tuple[Volume, Volume]]:
    """The maker of scans, for tests that want other teeth."""
    return make_scan


@pytest.fixture(scope="session")
def true_centre() -> Callable[..., np.ndarray]:
    """Where a tooth of the crude scan truly stands, LPS mm."""
    return tooth_centre
