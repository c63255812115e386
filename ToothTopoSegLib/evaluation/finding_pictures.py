"""A small picture of each finding's place, so that a dentist sees at a glance what a sentence says.

In go the label map, the scan where there is one, and the findings; out comes one small PNG a finding: an axial cut and
the better one of a coronal and a sagittal cut through the place, 30 mm wide. Cuts lie in the patient (LPS mm), so that
the pictures are the same however the arrays are stored. Radiological convention: the patient's right, or the front of
a sagittal cut, is at the picture's left. The teeth named by the finding are blue, what is concerned is orange, a ring
marks the place; blue and orange of M. Okabe and K. Ito's palette are told apart by colour-blind people too.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import pi
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.anatomy import fdi
from ToothTopoSegLib.imaging.volume import Volume

if TYPE_CHECKING:
    from PIL.Image import Image as Picture
    from PIL.ImageDraw import ImageDraw as Pen

    from ToothTopoSegLib.topology.findings import Finding

Floats = NDArray[np.float64]
Labels = NDArray[np.int16]
Mask = NDArray[np.bool_]

PICTURE_MM = 30.0
"""What one cut shows, across and down."""
PIXELS = 140
"""Side of one cut in pixels."""
MOST_PICTURES = 40
MOST_BYTES = 12_000

_STEP_MM = PICTURE_MM / PIXELS
_GAP = 4
_SLAB_MM = 0.5
_OUTSIDE = -1
_PAPER, _BEYOND = 1.0, 0.88
_CONCERNED = ((0, 114, 178), (86, 180, 233))
_FAULT = (230, 96, 0)
_OTHER, _JAW = (96, 104, 116), (176, 160, 130)
_GREY_PIXELS = 100
_LEVELS = (32, 24, 18, 13, 9)
_SUBSAMPLE_TO = 60
_GAMMA = 0.8


@dataclass(frozen=True)
class View:
    """A direction of looking: the LPS directions of the picture's right and down, and what the left and top show."""

    name: str
    right: tuple[float, float, float]
    down: tuple[float, float, float]
    left_letter: str
    top_letter: str


AXIAL = View("axial", (1, 0, 0), (0, 1, 0), "R", "A")
CORONAL = View("coronal", (1, 0, 0), (0, 0, -1), "R", "S")
SAGITTAL = View("sagittal", (0, 1, 0), (0, 0, -1), "A", "S")


@dataclass(frozen=True, eq=False)
class Cut:
    """What a view shows: label of each pixel (-1 beyond the map), the finding's own voxels, tissue 0..1 if known."""

    view: View
    labels: Labels
    fault: Mask
    grey: Floats | None


def finding_pictures(
    labels: Volume, scan: Volume | None, findings: Sequence[Finding], most: int = MOST_PICTURES
) -> dict[int, bytes]:
    """PNG of each finding by its id, for at most ``most`` findings, the gravest first; errors come before warnings.

    ``labels`` holds FDI numbers, ``scan`` lies on the same grid (any orientation, z, y, x). A place where there is
    nothing to see (no label near, no scan) gets no picture. Raises ValueError if the grids differ.
    """
    from ToothTopoSegLib.topology.findings import SEVERITIES

    if scan is not None and scan.array.shape != labels.array.shape:
        raise ValueError(f"scan {scan.array.shape} and labels {labels.array.shape} must lie on one grid")
    window = None if scan is None else _window(scan, labels)
    gravest = sorted(findings, key=lambda f: (SEVERITIES.index(f.severity), f.id))[:most]
    pictures = {}
    for finding in gravest:
        place = _place(labels, finding)
        cuts = _cuts(labels, scan, window, finding, place)
        if scan is not None or any((cut.labels > 0).any() for cut in cuts):
            pictures[finding.id] = _png(_drawn(cuts, finding, labels))
    return pictures


# --- where and what ----------------------------------------------------------------------------------------------


def _place(labels: Volume, finding: Finding) -> Floats:
    """LPS mm (3,) to cut through: the concerned voxel nearest to the finding's position, or that position.

    The middle of a ring or of a curved plug lies beside it; a cut there would not show it.
    """
    position = np.asarray(finding.position_lps_mm, dtype=float)
    if not finding.voxels:
        return position
    at = labels.lps_to_index(position)
    indices = np.concatenate([body.indices for body in finding.voxels])
    away = (((indices - at) * labels.spacing) ** 2).sum(axis=1)
    return np.asarray(labels.index_to_lps(indices[int(away.argmin())]), dtype=float)


def _cuts(
    labels: Volume, scan: Volume | None, window: tuple[float, float] | None, finding: Finding, place: Floats
) -> tuple[Cut, Cut]:
    """The axial cut and the better of the two upright ones."""
    axial, *upright = (_cut(labels, view, finding, place) for view in (AXIAL, CORONAL, SAGITTAL))
    best = max(upright, key=lambda cut: _worth(cut, finding))
    if scan is None or window is None:
        return axial, best
    return _with_grey(axial, scan, window, place), _with_grey(best, scan, window, place)


def _cut(labels: Volume, view: View, finding: Finding, place: Floats) -> Cut:
    index = np.rint(labels.lps_to_index(_pixels(view, place))).astype(np.int64)
    inside: Mask = np.all((index >= 0) & (index < labels.array.shape), axis=-1)
    within = np.where(inside[..., None], index, 0)
    seen = labels.array[tuple(np.moveaxis(within, -1, 0))].astype(np.int16)
    seen[~inside] = _OUTSIDE
    fault = np.zeros(inside.shape, dtype=bool)
    for body in finding.voxels:
        start = np.array([s.start for s in body.box])
        local = index - start
        hit: Mask = np.all((local >= 0) & (local < body.mask.shape), axis=-1)
        fault[hit] |= body.mask[tuple(local[hit].T)]
    return Cut(view, seen, fault, None)


def _worth(cut: Cut, finding: Finding) -> tuple[int, int, int]:
    """How well a cut shows a finding: the named teeth in it, then how much of the fault, then how much of teeth."""
    named = [int(np.count_nonzero(cut.labels == tooth)) for tooth in finding.teeth]
    # More of a fault counts from a tenth on: a few pixels must not outweigh the tooth it belongs to.
    fault = int(10 * np.log10(1 + np.count_nonzero(cut.fault)))
    return sum(n > 0 for n in named), fault, sum(named) or int(np.count_nonzero(cut.labels > 0))


def _pixels(view: View, place: Floats, pixels: int = PIXELS) -> Floats:
    """LPS mm (rows, columns, 3) of the pixels of a cut."""
    along = ((np.arange(pixels) + 0.5) / pixels - 0.5) * PICTURE_MM
    grid: Floats = place + along[:, None, None] * np.array(view.down) + along[:, None] * np.array(view.right)
    return grid


def _with_grey(cut: Cut, scan: Volume, window: tuple[float, float], place: Floats) -> Cut:
    """The cut with the tissue beneath: the mean of three slices, which calms the noise of a thin one."""
    from PIL import Image
    from scipy import ndimage

    through = np.cross(cut.view.right, cut.view.down)
    offsets = np.array([-_SLAB_MM, 0.0, _SLAB_MM])[:, None, None, None] * through
    # Scans are coarser than the picture: sampling fewer points and enlarging them smoothly is twice as fast.
    index = np.moveaxis(scan.lps_to_index(_pixels(cut.view, place, _GREY_PIXELS) + offsets), -1, 0)
    values = ndimage.map_coordinates(scan.array, index, output=np.float32, order=1, mode="nearest").mean(axis=0)
    low, high = window
    small = Image.fromarray((255 * np.clip((values - low) / (high - low), 0.0, 1.0) ** _GAMMA).astype(np.uint8))
    large = small.resize((PIXELS, PIXELS), Image.Resampling.BICUBIC)
    return Cut(cut.view, cut.labels, cut.fault, np.asarray(large, dtype=float) / 255.0)


def _window(scan: Volume, labels: Volume) -> tuple[float, float]:
    """Grey values shown as black and white: soft tissue stays dark, enamel is white, metal may burn out."""
    thin = tuple(slice(None, None, max(n // _SUBSAMPLE_TO, 1)) for n in scan.array.shape)
    values = scan.array[thin].astype(float)
    teeth = values[labels.array[thin] > 0]
    low = float(np.percentile(values, 20))
    high = float(np.percentile(teeth if teeth.size > 100 else values, 99))
    return low, max(high, low + 1.0)


# --- drawing -----------------------------------------------------------------------------------------------------


def _drawn(cuts: Sequence[Cut], finding: Finding, labels: Volume) -> Picture:
    """The cuts side by side."""
    from PIL import Image

    width = len(cuts) * PIXELS + (len(cuts) - 1) * _GAP
    picture = Image.new("RGB", (width, PIXELS), (255, 255, 255))
    sigma = max(0.45 * float(np.mean(labels.spacing)) / _STEP_MM, 0.7)
    for number, cut in enumerate(cuts):
        picture.paste(_drawn_cut(cut, finding, sigma), (number * (PIXELS + _GAP), 0))
    return picture


def _drawn_cut(cut: Cut, finding: Finding, sigma: float) -> Picture:
    from PIL import Image, ImageDraw

    rgb, places = _coloured(cut, finding.teeth, sigma)
    picture = Image.fromarray((rgb * 255 + 0.5).astype(np.uint8))
    pen = ImageDraw.Draw(picture)
    radius = _ring_radius(finding)
    _ring(pen, radius)
    for tooth, place in places.items():
        named = tooth in finding.teeth
        _write(pen, _beside_the_ring(place, radius), str(tooth), 14 if named else 11, named)
    frame = _frame(cut.view)
    picture.paste(frame, (0, 0), frame)
    return picture


def _coloured(cut: Cut, named: Sequence[int], sigma: float) -> tuple[Floats, dict[int, tuple[float, float]]]:
    """RGB (rows, columns, 3) 0..1 of a cut, and where the number of each tooth in it belongs (row, column)."""
    base = np.full(cut.labels.shape, _PAPER) if cut.grey is None else cut.grey.copy()
    base[cut.labels == _OUTSIDE] = _BEYOND
    rgb = np.repeat(base[..., None], 3, axis=2)
    places = {}
    for value in np.unique(cut.labels[cut.labels > 0]).tolist():
        mask = cut.labels == value
        tint, fill, line = _look(value, named, cut.grey is not None)
        _tint(rgb, mask, sigma, tint, fill, line)
        if fdi.is_tooth(value) and np.count_nonzero(mask) > 150:
            places[value] = _thickest_point(mask)
    if cut.fault.any():
        _tint(rgb, cut.fault, min(sigma, 0.8), _FAULT, 0.75, 1.0)
    return rgb, places


def _look(value: int, named: Sequence[int], on_scan: bool) -> tuple[tuple[int, int, int], float, float]:
    """Colour, cover of the area and cover of the outline."""
    if value in named:
        return _CONCERNED[list(named).index(value) % 2], 0.32 if on_scan else 0.45, 1.0
    if fdi.is_tooth(value):
        return ((235, 235, 235), 0.0, 0.55) if on_scan else (_OTHER, 0.16, 0.7)
    return _JAW, 0.0, 0.3 if on_scan else 0.6


def _tint(rgb: Floats, mask: Mask, sigma: float, tint: tuple[int, int, int], fill: float, line: float) -> None:
    """Lay a translucent area with an outline over ``rgb``; blurring the mask smooths the steps of its voxels."""
    from scipy import ndimage

    pad = int(3 * sigma) + 2
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = slice(max(rows[0] - pad, 0), rows[-1] + pad + 1), slice(max(columns[0] - pad, 0), columns[-1] + pad + 1)
    soft = ndimage.gaussian_filter(mask[box].astype(np.float32), sigma, mode="nearest")
    cover = np.maximum(fill * np.clip(2 * soft - 0.5, 0, 1), line * np.clip(1.0 - np.abs(soft - 0.5) * 2.6, 0, 1))
    rgb[box] += (np.array(tint) / 255.0 - rgb[box]) * cover[..., None]


def _thickest_point(mask: Mask) -> tuple[float, float]:
    """Row and column of the pixel farthest from the border of a body."""
    from scipy import ndimage

    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    inside = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    depth = ndimage.distance_transform_cdt(np.pad(inside, 1), metric="taxicab")
    row, column = np.unravel_index(int(depth.argmax()), depth.shape)
    return float(rows[0] + row - 1), float(columns[0] + column - 1)


def _ring_radius(finding: Finding) -> float:
    """Pixels: a little larger than a ball of the finding's size."""
    ball_mm = float(np.cbrt(3 * max(finding.size_mm3, 0.0) / (4 * pi)))
    return min(max(1.5 * ball_mm + 1.2, 2.2), 6.0) / _STEP_MM


def _ring(pen: Pen, radius: float) -> None:
    """A black ring with a white rim around the middle of the picture."""
    for grow, width, colour in ((1, 4, (255, 255, 255)), (0, 2, (0, 0, 0))):
        first, last = (PIXELS - 1) / 2 - radius - grow, (PIXELS - 1) / 2 + radius + grow
        pen.ellipse((first, first, last, last), None, colour, width)


def _beside_the_ring(place: tuple[float, float], radius: float) -> tuple[float, float]:
    """Where a number goes, as (x, y): ``place`` (row, column) unless it would hide what the ring shows."""
    away = np.array(place[::-1]) - (PIXELS - 1) / 2
    distance = float(np.hypot(*away))
    if distance < radius + 9:
        # Up and to the right where the tooth's middle is that of the ring.
        away = away / distance if distance > 1 else np.array([0.7, -0.7])
        away *= radius + 10
    x, y = np.clip(away + (PIXELS - 1) / 2, 10, PIXELS - 10).tolist()
    return x, y


@lru_cache
def _frame(view: View) -> Picture:
    """What every cut of a view carries, on glass: the patient's sides, the view's name, a bar of 10 mm, a border."""
    from PIL import Image, ImageDraw

    glass = Image.new("RGBA", (PIXELS, PIXELS), (255, 255, 255, 0))
    pen = ImageDraw.Draw(glass)
    _write(pen, (8, PIXELS / 2), view.left_letter, 11, True)
    _write(pen, (PIXELS / 2, 9), view.top_letter, 11, True)
    _write(pen, (5, PIXELS - 4), view.name, 11, True, anchor="ls")
    right, below = PIXELS - 7, PIXELS - 7
    bar = (right - 10.0 / _STEP_MM, below, right, below)
    pen.line(bar, fill=(255, 255, 255), width=5)
    pen.line(bar, fill=(0, 0, 0), width=2)
    pen.rectangle((0, 0, PIXELS - 1, PIXELS - 1), outline=(120, 126, 136))
    return glass


def _write(pen: Pen, at: tuple[float, float], text: str, size: int, strong: bool, anchor: str = "mm") -> None:
    """Letters with a white rim, legible on any grey and on paper: black and bold, or grey and thin."""
    colour, rim = ((0, 0, 0), 2) if strong else ((70, 76, 86), 1)
    pen.text(at, text, font=_font(size), fill=colour, anchor=anchor, stroke_width=rim, stroke_fill=(255, 255, 255))


@lru_cache
def _font(size: int) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size)


def _png(picture: Picture) -> bytes:
    """A palette PNG of at most ``MOST_BYTES``: fewer shades, and at last fewer pixels, where noise needs it."""
    from PIL import Image

    for shrink in (1.0, 0.7, 0.5):
        size = int(picture.width * shrink), int(picture.height * shrink)
        rgb = np.asarray(picture if shrink == 1 else picture.resize(size, Image.Resampling.BOX))
        for levels in _LEVELS:
            data = _palette_png(rgb, levels)
            if len(data) <= MOST_BYTES:
                return data
    return data


def _palette_png(rgb: NDArray[np.uint8], levels: int) -> bytes:
    """PNG bytes of a picture (rows, columns, 3) with that many shades of each of red, green and blue."""
    from PIL import Image

    shades = (np.arange(256) * (levels - 1) + 127) // 255
    code = shades[rgb] @ np.array([levels * levels, levels, 1])
    counts = np.bincount(code.reshape(-1), minlength=levels**3)
    kept = np.flatnonzero(counts)
    colours = np.stack([kept // levels**2, kept // levels % levels, kept % levels], axis=1)
    order = np.argsort(-counts[kept], kind="stable")
    place = np.zeros(levels**3, dtype=np.uint8)
    frequent, rare = order[:256], order[256:]
    place[kept[frequent]] = np.arange(len(frequent))
    for other in rare:  # a handful of pixels on blurred edges
        place[kept[other]] = int(np.abs(colours[frequent] - colours[other]).sum(axis=1).argmin())
    picture = Image.fromarray(place[code], mode="P")
    picture.putpalette((colours[frequent] * 255 // (levels - 1)).astype(np.uint8).tobytes())
    data = io.BytesIO()
    picture.save(data, format="PNG", compress_level=9)
    return data.getvalue()
