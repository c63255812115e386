"""The preview picture of a result: what a dentist looks at before opening anything else.

In go the scan, its FDI label map on the same canonical grid and the findings; out comes one PNG with a panoramic
view, axial slices through the upper and lower teeth, a coronal slice, the tooth chart and the list of findings.
Radiological convention throughout: the patient's right is at the picture's left.

Drawn with Pillow, not matplotlib: Slicer's own Python and a segmenting-only installation have it already, every
pixel is placed by us, and there is no global figure state to share between threads.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.anatomy import colours, fdi
from ToothTopoSegLib.errors import OutputError
from ToothTopoSegLib.evaluation.panoramic import Panoramic, panoramic, tooth_boxes, tooth_centres
from ToothTopoSegLib.imaging.boxes import Box
from ToothTopoSegLib.imaging.volume import Volume

if TYPE_CHECKING:
    from PIL.Image import Image as Picture
    from PIL.ImageDraw import ImageDraw as Pen
    from PIL.ImageFont import FreeTypeFont
    from PIL.ImageFont import ImageFont as BitmapFont

    from ToothTopoSegLib.topology.findings import Finding

Floats = NDArray[np.float64]
Colour = tuple[int, int, int]
SIZE = (1600, 1100)

_BACKGROUND: Colour = (13, 15, 19)
_PANEL: Colour = (24, 27, 33)
_LINE: Colour = (62, 68, 80)
_TEXT: Colour = (226, 230, 236)
_DIM: Colour = (142, 150, 163)
_DARK: Colour = (8, 9, 12)
_SEVERITY: dict[str, Colour] = {"error": (255, 82, 82), "warning": (255, 183, 51)}
_FILL, _CONTOUR, _JAW_CONTOUR = 0.28, 0.95, 0.5
_MARGIN_MM = 12.0
_VIEW_WITHOUT_TEETH_MM = 160.0


@dataclass(frozen=True)
class Frame:
    """A rectangle of the picture in pixels."""

    x: int
    y: int
    width: int
    height: int

    @property
    def corners(self) -> tuple[int, int, int, int]:
        """Left, top, right, bottom as Pillow wants them, last pixel included."""
        return self.x, self.y, self.x + self.width - 1, self.y + self.height - 1


_PANORAMIC = Frame(16, 58, 1084, 540)
_CHART = Frame(16, 610, 1084, 176)
_LIST = Frame(16, 798, 1084, 286)
_LIST_ROWS = 8
_SLICES = tuple(Frame(1112, 58 + i * 345, 472, 336) for i in range(3))


@dataclass(frozen=True)
class Cut:
    """A flat slice of the patient: LPS centre and the LPS directions of the picture's right and down."""

    name: str
    centre: Floats
    right: Floats
    down: Floats
    letters: tuple[str, str, str, str]
    """What the left, right, top and bottom edges show."""


def draw_preview(scan: Volume, labels: Volume, findings: Sequence[Finding], path: str | Path, title: str) -> None:
    """Write the preview of ``scan`` and FDI ``labels`` (z, y, x, one canonical grid) as a PNG at ``path``.

    Errors and warnings are marked by their id in the panoramic view and listed below it. Raises ValueError if the
    grids differ and OutputError if the file cannot be written.
    """
    from PIL import Image, ImageDraw

    if scan.array.shape != labels.array.shape:
        raise ValueError(f"scan {scan.array.shape} and labels {labels.array.shape} must lie on one grid")
    boxes = tooth_boxes(labels)
    centres = tooth_centres(labels, boxes)
    grave = _to_show(findings)
    shown = grave[: 2 * _LIST_ROWS]
    picture = Image.new("RGB", SIZE, _BACKGROUND)
    draw = ImageDraw.Draw(picture)
    _draw_header(draw, title, len(centres), grave)
    if centres:
        _draw_panoramic(picture, panoramic(scan, labels), shown)
    else:
        _draw_note(draw, _PANORAMIC, "No teeth found")
    for frame, cut in zip(_SLICES, _cuts(scan, labels, boxes, centres), strict=True):
        _draw_cut(picture, frame, cut, scan, labels, _view_width(scan, centres, frame))
    _draw_chart(draw, set(centres), findings)
    _draw_list(draw, shown, len(grave) - len(shown))
    _save(picture, Path(path))


def _to_show(findings: Sequence[Finding]) -> list[Finding]:
    """Errors, then warnings, in their own order; what is merely informative is left to the report."""
    return [f for severity in _SEVERITY for f in findings if f.severity == severity]


def _save(picture: Picture, path: Path) -> None:
    """Write beside the target first, so that nobody ever sees half a picture."""
    temporary = path.with_name(f".{path.name}.part")
    try:
        picture.save(temporary, format="PNG", compress_level=6)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OutputError(
            f"The preview cannot be written to {path} ({error.strerror or error}); "
            "choose a folder that can be written and has space."
        ) from error


# --- pictures of tissue with teeth over them ---------------------------------------------------------------------


def _draw_panoramic(picture: Picture, view: Panoramic, shown: Sequence[Finding]) -> None:
    """The panoramic view as large as its frame allows, with tooth numbers and marks at the findings."""
    from PIL import ImageDraw

    rows, columns = view.grey.shape
    scale = min(_PANORAMIC.width / columns, _PANORAMIC.height / rows)
    height, width = int(rows * scale), int(columns * scale)
    frame = Frame(
        _PANORAMIC.x + (_PANORAMIC.width - width) // 2, _PANORAMIC.y + (_PANORAMIC.height - height) // 2, width, height
    )
    grey = _resized(_local_contrast(_windowed(view.grey, 4.0, 98.5), 6.0 / view.pixel_mm), frame)
    large = view.labels[_nearest(rows, height)][:, _nearest(columns, width)]
    _paste(picture, frame, _overlaid(grey, large, sigma=0.5 * scale))
    draw = ImageDraw.Draw(picture)
    _outline(draw, frame)
    taken = _draw_numbers(draw, frame, large, size=21)
    _letters(draw, frame, ("R", "L", "", ""))
    _draw_marks(draw, frame, view, scale, shown, taken)


def _draw_cut(picture: Picture, frame: Frame, cut: Cut, scan: Volume, labels: Volume, width_mm: float) -> None:
    """One slice that fills its frame, with the teeth in it and the letters of the patient's sides."""
    from PIL import ImageDraw
    from scipy import ndimage

    step = width_mm / frame.width
    down, right = np.mgrid[: frame.height, : frame.width]
    lps = (
        cut.centre
        + (right[..., None] - (frame.width - 1) / 2) * step * cut.right
        + (down[..., None] - (frame.height - 1) / 2) * step * cut.down
    )
    index = np.moveaxis(scan.lps_to_index(lps), -1, 0)
    outside = float(scan.array.min())
    grey = ndimage.map_coordinates(scan.array, index, output=np.float64, order=1, mode="constant", cval=outside)
    seen = ndimage.map_coordinates(labels.array, index, output=np.int32, order=0, mode="constant", cval=0)
    blur = 0.5 * min(scan.spacing) / step
    _paste(picture, frame, _overlaid(_windowed(grey, 10.0, 99.5), seen, sigma=max(blur, 0.8)))
    draw = ImageDraw.Draw(picture)
    _outline(draw, frame)
    _draw_numbers(draw, frame, seen, size=14)
    _letters(draw, frame, cut.letters)
    _text(draw, (frame.x + 8, frame.y + 6), cut.name, 14, _TEXT, "la", stroke=2)


def _windowed(grey: Floats, low: float, high: float) -> Floats:
    """Grey values as 0..1 between two percentiles, mid-tones lifted a little so that roots show in bone."""
    bottom, top = np.percentile(grey, [low, high])
    value: Floats = np.clip((grey - bottom) / max(top - bottom, 1e-6), 0.0, 1.0) ** 0.85
    return value


def _local_contrast(grey: Floats, sigma: float) -> Floats:
    """Grey 0..1 with its slow changes halved, as panoramic units do: roots in dense bone stay visible."""
    from scipy import ndimage

    slow = ndimage.gaussian_filter(grey, sigma)
    value: Floats = np.clip(1.5 * (grey - 0.5 * slow + 0.5 * slow.mean()) - 0.15, 0.0, 1.0)
    return value


def _resized(grey: Floats, frame: Frame) -> Floats:
    """Grey 0..1 resampled smoothly to the size of a frame."""
    from PIL import Image

    small = Image.fromarray((grey * 255).astype(np.uint8))
    large = small.resize((frame.width, frame.height), Image.Resampling.BICUBIC)
    return np.asarray(large, dtype=float) / 255.0


def _nearest(n: int, size: int) -> NDArray[np.int_]:
    """Indices into ``n`` samples for ``size`` pixels showing them."""
    return np.minimum((np.arange(size) + 0.5) * n / size, n - 1).astype(int)


def _overlaid(grey: Floats, labels: NDArray[np.int32], sigma: float) -> Floats:
    """RGB (rows, columns, 3) 0..1: teeth as a translucent fill with a contour, jaws as a thin contour."""
    from scipy import ndimage

    rgb = np.repeat(grey[..., None], 3, axis=2)
    for value, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is None or not (fdi.is_tooth(value) or value in fdi.JAWS):
            continue
        pad = int(3 * sigma) + 2
        wide = tuple(slice(max(s.start - pad, 0), s.stop + pad) for s in box)
        # Blurring the mask smooths the voxel steps; its value near one half is the contour.
        soft = ndimage.gaussian_filter((labels[wide] == value).astype(float), sigma)
        contour = np.clip(1.0 - np.abs(soft - 0.5) * 2.6, 0.0, 1.0)
        if value in fdi.JAWS:
            cover = _JAW_CONTOUR * contour
        else:
            cover = np.maximum(_FILL * np.clip(2 * soft - 0.5, 0, 1), _CONTOUR * contour)
        tint = np.array(_colour(value)) / 255.0
        rgb[wide] = rgb[wide] * (1 - cover[..., None]) + tint * cover[..., None]
    return rgb


def _colour(value: int) -> Colour:
    """Anatomy's colour of a tooth or jaw in bytes."""
    red, green, blue = (round(255 * channel) for channel in colours.colour_of(value))
    return red, green, blue


def _paste(picture: Picture, frame: Frame, rgb: Floats) -> None:
    from PIL import Image

    picture.paste(Image.fromarray((rgb * 255 + 0.5).astype(np.uint8)), (frame.x, frame.y))


# --- which slices ------------------------------------------------------------------------------------------------


def _cuts(scan: Volume, labels: Volume, boxes: Mapping[int, Box], centres: dict[int, Floats]) -> tuple[Cut, Cut, Cut]:
    """Axial cuts through the upper and the lower teeth and a coronal cut through the middle of the teeth."""
    middle = scan.index_to_lps((np.array(scan.array.shape) - 1) / 2)
    focus = _middle_of(centres, middle)
    x, y, z = np.eye(3)
    axial = "R", "L", "A", "P"
    upper = _best_height(labels, boxes, upper=True, otherwise=focus[2] + 10.0)
    lower = _best_height(labels, boxes, upper=False, otherwise=focus[2] - 10.0)
    return (
        Cut("Axial, upper teeth" if centres else "Axial", np.array([*focus[:2], upper]), x, y, axial),
        Cut("Axial, lower teeth" if centres else "Axial", np.array([*focus[:2], lower]), x, y, axial),
        Cut("Coronal", focus, x, -z, ("R", "L", "S", "I")),
    )


def _middle_of(centres: dict[int, Floats], otherwise: Floats) -> Floats:
    """The middle of the box around all tooth centres."""
    if not centres:
        return otherwise
    points = np.array(list(centres.values()))
    middle: Floats = (points.min(axis=0) + points.max(axis=0)) / 2
    return middle


def _best_height(labels: Volume, boxes: Mapping[int, Box], upper: bool, otherwise: float) -> float:
    """LPS z of the slice that shows the most teeth of one jaw, and among such slices the most of them."""
    teeth, voxels = np.zeros((2, len(labels.array)), dtype=int)
    for tooth, box in boxes.items():
        if fdi.is_upper(tooth) == upper:
            here = (labels.array[box] == tooth).sum(axis=(1, 2))
            teeth[box[0]] += here > 0
            voxels[box[0]] += here
    if not teeth.any():
        return otherwise
    rows, columns = ((n - 1) / 2 for n in labels.array.shape[1:])
    best = np.argmax(teeth + voxels / labels.array[0].size)
    return float(labels.index_to_lps(np.array([best, rows, columns]))[2])


def _view_width(scan: Volume, centres: dict[int, Floats], frame: Frame) -> float:
    """Millimetres across a slice's frame: the teeth with a margin, or the scan as far as it is worth seeing."""
    aspect = frame.width / frame.height
    if not centres:
        size = np.array(scan.array.shape) * scan.spacing
        return float(min(max(size[2], size[1] * aspect), _VIEW_WITHOUT_TEETH_MM))
    points = np.array(list(centres.values()))
    wide, deep, _ = points.max(axis=0) - points.min(axis=0) + 2 * _MARGIN_MM
    return float(max(wide, deep * aspect))


# --- numbers, letters, marks -------------------------------------------------------------------------------------


def _draw_numbers(draw: Pen, frame: Frame, labels: NDArray[np.int32], size: int) -> list[tuple[float, float]]:
    """FDI numbers in the thickest part of each tooth seen; returns where they are."""
    from scipy import ndimage

    places = []
    for value, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is None or not fdi.is_tooth(value):
            continue
        inside = np.pad(labels[box] == value, 1)
        if inside.sum() < size * size // 4:
            continue
        row, column = _thickest_point(inside)
        place = frame.x + box[1].start + column - 1, frame.y + box[0].start + row - 1
        _text(draw, place, str(value), size, (255, 255, 255), "mm", stroke=3 if size > 16 else 2)
        places.append(place)
    return places


def _thickest_point(mask: NDArray[np.bool_]) -> tuple[float, float]:
    """Row and column in the middle of a body: the mean of where it is nearly thickest."""
    from scipy import ndimage

    depth = ndimage.distance_transform_edt(mask)
    rows, columns = np.nonzero(depth >= 0.9 * depth.max())
    middle = int(np.argmin(np.hypot(rows - rows.mean(), columns - columns.mean())))
    return float(rows[middle]), float(columns[middle])


def _draw_marks(
    draw: Pen,
    frame: Frame,
    view: Panoramic,
    scale: float,
    shown: Sequence[Finding],
    taken: list[tuple[float, float]],
) -> None:
    """A dot at each finding and, on a short leader, its number in a disc that hides neither teeth nor others."""
    marks = []
    for finding in shown:
        row, column = view.to_picture(np.asarray(finding.position_lps_mm, dtype=float))
        x = frame.x + float(np.clip((column + 0.5) * scale, 10, frame.width - 10))
        y = frame.y + float(np.clip((row + 0.5) * scale, 10, frame.height - 10))
        place = _free_place(frame, (x, y), taken)
        taken.append(place)
        marks.append((finding.id, (x, y), place, _SEVERITY[finding.severity]))
    # All leaders before all discs, so that no line crosses a number.
    for _, at, place, colour in marks:
        draw.line([at, place], fill=_DARK, width=5)
        draw.line([at, place], fill=colour, width=2)
        _disc(draw, at, 5, colour)
    for number, _, place, colour in marks:
        _disc(draw, place, 12, colour)
        _text(draw, place, str(number), 15, _DARK, "mm")


def _free_place(frame: Frame, at: tuple[float, float], taken: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """The place near ``at``, inside the frame, that is farthest from numbers and discs already drawn."""
    best, best_room = at, -1.0
    for radius in (28, 44, 62, 80):
        for angle in np.arange(8) * np.pi / 4 - np.pi / 4:
            place = at[0] + radius * float(np.cos(angle)), at[1] + radius * float(np.sin(angle))
            if not (16 <= place[0] - frame.x <= frame.width - 16 and 16 <= place[1] - frame.y <= frame.height - 16):
                continue
            room = min((float(np.hypot(place[0] - t[0], place[1] - t[1])) for t in taken), default=99.0)
            if room > 30:
                return place
            if room > best_room:
                best, best_room = place, room
    return best


def _disc(draw: Pen, at: tuple[float, float], radius: int, colour: Colour) -> None:
    x, y = at
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour, outline=_DARK, width=2)


def _outline(draw: Pen, frame: Frame) -> None:
    draw.rectangle(frame.corners, outline=_LINE)


def _letters(draw: Pen, frame: Frame, letters: tuple[str, str, str, str]) -> None:
    """The patient's sides at the left, right, top and bottom edge."""
    x, y = frame.x + frame.width / 2, frame.y + frame.height / 2
    right, bottom = frame.x + frame.width - 8, frame.y + frame.height - 6
    for letter, place, anchor in zip(
        letters, ((frame.x + 8, y), (right, y), (x, frame.y + 6), (x, bottom)), ("lm", "rm", "ma", "md"), strict=True
    ):
        _text(draw, place, letter, 20, (255, 226, 122), anchor, stroke=2)


# --- header, chart and list --------------------------------------------------------------------------------------


def _draw_header(draw: Pen, title: str, teeth: int, grave: Sequence[Finding]) -> None:
    """The case's name and, at the right, the result in numbers."""
    counts = [f"{teeth} {'tooth' if teeth == 1 else 'teeth'} found"]
    for severity in _SEVERITY:
        n = sum(f.severity == severity for f in grave)
        counts.append(f"{n} {severity}{'' if n == 1 else 's'}")
    text = ",  ".join(counts)
    _text(draw, (SIZE[0] - 16, 30), text, 20, _DIM, "rm")
    room = SIZE[0] - 64 - int(_font(text, 20).getlength(text))
    _text(draw, (16, 30), _shortened(title, 26, room), 26, _TEXT, "lm")


def _draw_note(draw: Pen, frame: Frame, text: str) -> None:
    draw.rectangle(frame.corners, fill=_PANEL, outline=_LINE)
    _text(draw, (frame.x + frame.width / 2, frame.y + frame.height / 2), text, 34, _DIM, "mm")


def _draw_chart(draw: Pen, present: set[int], findings: Sequence[Finding]) -> None:
    """Both arches as boxes: coloured where the tooth is there, hollow where not, ringed where a finding names it."""
    draw.rectangle(_CHART.corners, fill=_PANEL, outline=_LINE)
    milk = any(fdi.is_deciduous(tooth) for tooth in present)
    rows: list[tuple[int, ...]] = [fdi.UPPER_PERMANENT, fdi.LOWER_PERMANENT]
    if milk:
        rows[1:1] = [fdi.UPPER_DECIDUOUS, fdi.LOWER_DECIDUOUS]
    height = (_CHART.height - 32) // len(rows)
    worst = worst_severity(findings)
    for i, teeth in enumerate(rows):
        y = _CHART.y + 10 + i * (height + 4)
        left = _CHART.x + _CHART.width // 2 - len(teeth) * 31
        for j, tooth in enumerate(teeth):
            frame = Frame(left + j * 62 + (8 if j >= len(teeth) // 2 else 0) - 4, y, 58, height)
            _draw_chart_tooth(draw, frame, tooth, tooth in present, worst.get(tooth))
    middle = _CHART.y + _CHART.height / 2
    _text(draw, (_CHART.x + 10, middle), "R", 20, (255, 226, 122), "lm")
    _text(draw, (_CHART.x + _CHART.width - 10, middle), "L", 20, (255, 226, 122), "rm")


def _draw_chart_tooth(draw: Pen, frame: Frame, tooth: int, there: bool, severity: str | None) -> None:
    ring = _SEVERITY.get(severity or "")
    draw.rounded_rectangle(
        frame.corners,
        radius=9,
        fill=_colour(tooth) if there else _PANEL,
        outline=ring or (_LINE if not there else None),
        width=4 if ring else 1,
    )
    bright = float(np.dot(_colour(tooth), (0.299, 0.587, 0.114))) > 110
    text = ((_DARK if bright else _TEXT) if there else _DIM) if there else (104, 111, 124)
    size = 20 if frame.height > 40 else 16
    _text(draw, (frame.x + frame.width / 2, frame.y + frame.height / 2), str(tooth), size, text, "mm")


def worst_severity(findings: Sequence[Finding]) -> dict[int, str]:
    """The gravest of error and warning that names each tooth."""
    worst: dict[int, str] = {}
    for finding in reversed(_to_show(findings)):
        worst.update(dict.fromkeys(finding.teeth, finding.severity))
    return worst


def _draw_list(draw: Pen, shown: Sequence[Finding], more: int) -> None:
    """The findings with their ids, in two columns if one is not enough."""
    draw.rectangle(_LIST.corners, fill=_PANEL, outline=_LINE)
    if not shown:
        _text(draw, (_LIST.x + 16, _LIST.y + 16), "No errors or warnings.", 18, _DIM, "la")
    width = _LIST.width // (2 if len(shown) > _LIST_ROWS else 1)
    for i, finding in enumerate(shown):
        x, y = _LIST.x + i // _LIST_ROWS * width, _LIST.y + 20 + i % _LIST_ROWS * 29
        _disc(draw, (x + 24, y), 12, _SEVERITY[finding.severity])
        _text(draw, (x + 24, y), str(finding.id), 15, _DARK, "mm")
        teeth = ", ".join(map(str, finding.teeth))
        text = f"{finding.kind}{' ' + teeth if teeth else ''}: {finding.evidence}"
        _text(draw, (x + 46, y), _shortened(text, 17, width - 58), 17, _TEXT, "lm")
    note = f"and {more} more in the report.  " if more else ""
    note += "Automatic result; not a medical device."
    _text(draw, (_LIST.x + _LIST.width - 12, _LIST.y + _LIST.height - 8), note, 15, _DIM, "rd")


# --- text --------------------------------------------------------------------------------------------------------


def _text(
    draw: Pen,
    at: tuple[float, float],
    text: str,
    size: int,
    colour: Colour,
    anchor: str,
    stroke: int = 0,
) -> None:
    """Text with an optional dark outline, which keeps it legible on any grey."""
    draw.text(
        at, _drawable(text), font=_font(text, size), fill=colour, anchor=anchor, stroke_width=stroke, stroke_fill=_DARK
    )


def _font(text: str, size: int) -> FreeTypeFont | BitmapFont:
    """Pillow's own font; for letters it lacks, a common one of the system where there is one."""
    from PIL import ImageFont

    other = None if text.isascii() else _system_font(size)
    return other or ImageFont.load_default(size)


@lru_cache
def _system_font(size: int) -> FreeTypeFont | None:
    """The first of the usual fonts with accents and symbols that this computer has."""
    from PIL import ImageFont

    for name in ("DejaVuSans.ttf", "arial.ttf", "Arial Unicode.ttf", "NotoSans-Regular.ttf"):
        with suppress(OSError):
            return ImageFont.truetype(name, size)
    return None


def _drawable(text: str) -> str:
    """The text without accents and symbols if only Pillow's own font, which knows none, is at hand."""
    if text.isascii() or _system_font(12):
        return text
    plain = unicodedata.normalize("NFKD", text)
    return "".join(c if c.isascii() else "?" for c in plain if not unicodedata.combining(c))


def _shortened(text: str, size: int, room: int) -> str:
    """The text on one line, cut with an ellipsis so that it is at most ``room`` pixels long."""
    text = " ".join(text.split())
    font: Any = _font(text, size)
    if font.getlength(_drawable(text)) <= room:
        return text
    # Measuring text is slow: what is too long even without the dots is passed over by halves.
    text = text[: bisect_right(range(1, len(text) + 1), room, key=lambda n: font.getlength(_drawable(text[:n])))]
    while text and font.getlength(_drawable(text) + "...") > room:
        text = text[:-1]
    return text.rstrip() + "..."
