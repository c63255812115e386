"""One colour per tooth and jaw, so that quadrants read as families and neighbours never look alike.

In goes a label value (FDI number or jaw), out comes RGB as three floats in 0..1. Each quadrant has one family of hues,
the lightness alternates from tooth to tooth along the arch, and the jaws are the colour of bone. The same table is
shipped for 3D Slicer as ``Resources/Colors/ToothTopoSeg.ctbl``.
"""

from __future__ import annotations

from colorsys import hls_to_rgb

from ToothTopoSegLib.anatomy import fdi as teeth

RGB = tuple[float, float, float]

# hue of the central incisor and of the last tooth; green needs a wide range because the eye tells greens apart badly
_HUES_DEGREES = {
    1: (-26.0, 16.0),
    2: (240.0, 190.0),
    3: (32.0, 60.0),
    4: (86.0, 172.0),
    5: (340.0, 306.0),
    6: (252.0, 294.0),
    7: (62.0, 92.0),
    8: (164.0, 198.0),
}
_LIGHTNESS_PERMANENT = (0.34, 0.70)
_LIGHTNESS_DECIDUOUS = (0.36, 0.80)
_SATURATION = 0.72
_JAW_COLOURS: dict[int, RGB] = {teeth.LOWER_JAW: (0.80, 0.76, 0.68), teeth.UPPER_JAW: (0.92, 0.89, 0.82)}


def colour_of(value: int) -> RGB:
    """RGB in 0..1, in steps of 1/255, of a tooth or jaw label; ValueError for any other value."""
    if value in _JAW_COLOURS:
        return _in_bytes(_JAW_COLOURS[value])
    place = teeth.position(value)
    milk = teeth.is_deciduous(value)
    first, last = _HUES_DEGREES[teeth.quadrant(value)]
    hue = first + (last - first) * (place - 1) / (4 if milk else 7)
    # light and dark swap sides, so that the two central incisors differ as well
    light = (_LIGHTNESS_DECIDUOUS if milk else _LIGHTNESS_PERMANENT)[(place + int(teeth.is_left(value))) % 2]
    return _in_bytes(hls_to_rgb(hue % 360.0 / 360.0, light, _SATURATION))


def colour_table() -> str:
    """The text of a 3D Slicer colour table (.ctbl) whose entries carry the FDI numbers and jaw labels as values."""
    lines = ["# Color table file ToothTopoSeg.ctbl", "# label value, name, red, green, blue, alpha (0-255)"]
    lines.append("0 background 0 0 0 0")
    for value in (*teeth.PERMANENT_NUMERIC, *teeth.DECIDUOUS_NUMERIC, *teeth.JAWS):
        red, green, blue = (round(255 * channel) for channel in colour_of(value))
        lines.append(f"{value} {_table_name(value)} {red} {green} {blue} 255")
    return "\n".join(lines) + "\n"


def _table_name(value: int) -> str:
    # the format separates by spaces; Slicer shows underscores as spaces again
    prefix = f"{value}_" if teeth.is_tooth(value) else ""
    return prefix + teeth.label_name(value).replace(" ", "_")


def _in_bytes(rgb: RGB) -> RGB:
    red, green, blue = (round(255 * channel) / 255 for channel in rgb)
    return red, green, blue
