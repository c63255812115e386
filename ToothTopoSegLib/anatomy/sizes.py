"""How large teeth are: average dimensions, roots and canals per tooth type, and the volumes such a tooth can have.

In goes an FDI number, out comes a :class:`ToothSize` in mm and mm3. Left and right share one size.

Sources: permanent teeth: S. J. Nelson, M. M. Ash, *Wheeler's Dental Anatomy, Physiology and Occlusion* (table
"measurements of the teeth: specifications for drawing and carving teeth of average size"); deciduous teeth: G. V.
Black's averages as reprinted there (chapter on the primary teeth). Buccal and lingual root lengths are averaged.
Roots and canals are the most frequent numbers (F. J. Vertucci, Endodontic Topics 2005;10:3-29); variants are common.
How much sizes vary: mesiodistal widths as C. F. A. Moorrees et al. (J Dent Res 1957;36:39-47) found them in North
Americans, both sexes together, rounded to 0.05 mm; the other dimensions are taken to vary as the ranges of extracted
teeth that R. C. Scheid and G. Weiss (*Woelfel's Dental Anatomy*) give, read as three standard deviations to each side.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import pi, sqrt

from ToothTopoSegLib.anatomy import fdi as teeth

CROWN_FILL = 0.80
"""Share of the straight crown (cervix to greatest width) that cusps, incisal edge and fissures leave."""
ROOT_FILL = 0.50
"""Share of the cylinder under the cervix that a root fills: a cone has 1/3, a paraboloid 1/2, a cylinder 1."""
SMALLEST_FACTOR, LARGEST_FACTOR = 0.3, 2.2
"""Plausible volumes relative to the average tooth: worn, short or partly seen teeth; large teeth with crowns."""


@dataclass(frozen=True)
class ToothSize:
    """Average dimensions of one tooth type in mm.

    ``md`` is mesiodistal, ``bl`` buccolingual; ``crown`` the greatest width of the crown, ``cervix`` the width at the
    cementoenamel junction. ``root_length`` is the mean over the roots.
    """

    fdi_type: str
    crown_length: float
    root_length: float
    md_crown: float
    md_cervix: float
    bl_crown: float
    bl_cervix: float
    roots: int
    canals: int

    @property
    def length(self) -> float:
        """Overall length in mm."""
        return self.crown_length + self.root_length

    @property
    def volume(self) -> float:
        """Volume in mm3 of the average tooth, derived from its dimensions.

        The crown is the frustum between the cervical ellipse and the ellipse of greatest width times
        :data:`CROWN_FILL`, the root the cylinder over the cervical ellipse times :data:`ROOT_FILL`.
        """
        wide = pi / 4 * self.md_crown * self.bl_crown
        neck = pi / 4 * self.md_cervix * self.bl_cervix
        frustum = self.crown_length / 3 * (wide + neck + sqrt(wide * neck))
        return CROWN_FILL * frustum + ROOT_FILL * neck * self.root_length

    @property
    def volume_range(self) -> tuple[float, float]:
        """Smallest and largest plausible volume in mm3: the average times the two factors of this module."""
        return SMALLEST_FACTOR * self.volume, LARGEST_FACTOR * self.volume


@dataclass(frozen=True)
class SizeSpread:
    """How the dimensions of a tooth type vary: standard deviations as shares of the means.

    ``md_mean`` is the mean mesiodistal width in mm of the same people as ``md``; it differs from the width in
    :class:`ToothSize`, whose round figures are meant for carving.
    """

    md_mean: float
    md: float
    bl: float
    crown: float
    root: float


def spread_of(fdi: int) -> SizeSpread:
    """How much the sizes of the tooth with this FDI number vary between people; ValueError if it is no tooth."""
    table = _UPPER_WIDTHS if teeth.is_upper(fdi) else _LOWER_WIDTHS
    place = teeth.position(fdi) - 1
    # Neither third molars nor deciduous teeth are in that table; they vary more, and about as much.
    mean, sd = table[place] if place < 7 and not teeth.is_deciduous(fdi) else (size_of(fdi).md_crown, 0.7)
    if teeth.is_deciduous(fdi):
        sd = 0.055 * mean
    return SizeSpread(mean, sd / mean, bl=0.065, crown=0.08, root=0.11)


def size_of(fdi: int) -> ToothSize:
    """Size of the tooth with this FDI number (permanent or deciduous); ValueError if it is no tooth."""
    table = _DECIDUOUS if teeth.is_deciduous(fdi) else _PERMANENT
    return table["upper" if teeth.is_upper(fdi) else "lower"][teeth.position(fdi) - 1]


_UPPER_WIDTHS = ((8.6, 0.55), (6.55, 0.6), (7.75, 0.45), (6.95, 0.4), (6.7, 0.4), (10.65, 0.55), (10.1, 0.6))
_LOWER_WIDTHS = ((5.35, 0.35), (5.85, 0.4), (6.7, 0.4), (6.95, 0.4), (7.15, 0.45), (10.95, 0.55), (10.55, 0.65))
"""Mesiodistal widths of permanent teeth, mean and standard deviation in mm, positions 1 to 7."""

_PERMANENT = {
    "upper": (
        ToothSize("upper central incisor", 10.5, 13.0, 8.5, 7.0, 7.0, 6.0, 1, 1),
        ToothSize("upper lateral incisor", 9.0, 13.0, 6.5, 5.0, 6.0, 5.0, 1, 1),
        ToothSize("upper canine", 10.0, 17.0, 7.5, 5.5, 8.0, 7.0, 1, 1),
        ToothSize("upper first premolar", 8.5, 14.0, 7.0, 5.0, 9.0, 8.0, 2, 2),
        ToothSize("upper second premolar", 8.5, 14.0, 7.0, 5.0, 9.0, 8.0, 1, 1),
        ToothSize("upper first molar", 7.5, 12.5, 10.0, 8.0, 11.0, 10.0, 3, 4),
        ToothSize("upper second molar", 7.0, 11.5, 9.0, 7.0, 11.0, 10.0, 3, 3),
        ToothSize("upper third molar", 6.5, 11.0, 8.5, 6.5, 10.0, 9.5, 3, 3),
    ),
    "lower": (
        ToothSize("lower central incisor", 8.8, 12.5, 5.0, 3.5, 6.0, 5.3, 1, 1),
        ToothSize("lower lateral incisor", 9.5, 14.0, 5.5, 4.0, 6.5, 5.8, 1, 1),
        ToothSize("lower canine", 11.0, 16.0, 7.0, 5.5, 7.5, 7.0, 1, 1),
        ToothSize("lower first premolar", 8.5, 14.0, 7.0, 5.0, 7.5, 6.5, 1, 1),
        ToothSize("lower second premolar", 8.0, 14.5, 7.0, 5.0, 8.0, 7.0, 1, 1),
        ToothSize("lower first molar", 7.5, 14.0, 11.0, 9.0, 10.5, 9.0, 2, 3),
        ToothSize("lower second molar", 7.0, 13.0, 10.5, 8.0, 10.0, 9.0, 2, 3),
        ToothSize("lower third molar", 7.0, 11.0, 10.0, 7.5, 9.5, 9.0, 2, 3),
    ),
}

_DECIDUOUS = {
    "upper": (
        ToothSize("upper deciduous central incisor", 6.0, 10.0, 6.5, 4.5, 5.0, 4.0, 1, 1),
        ToothSize("upper deciduous lateral incisor", 5.6, 11.4, 5.1, 3.7, 4.0, 3.7, 1, 1),
        ToothSize("upper deciduous canine", 6.5, 13.5, 7.0, 5.1, 7.0, 5.5, 1, 1),
        ToothSize("upper deciduous first molar", 5.1, 10.0, 7.3, 5.2, 8.5, 6.9, 3, 3),
        ToothSize("upper deciduous second molar", 5.7, 11.7, 8.2, 6.4, 10.0, 8.3, 3, 3),
    ),
    "lower": (
        ToothSize("lower deciduous central incisor", 5.0, 9.0, 4.2, 3.0, 4.0, 3.5, 1, 1),
        ToothSize("lower deciduous lateral incisor", 5.2, 10.0, 4.1, 3.0, 4.0, 3.5, 1, 1),
        ToothSize("lower deciduous canine", 6.0, 11.5, 5.0, 3.7, 4.8, 4.0, 1, 1),
        ToothSize("lower deciduous first molar", 6.0, 9.8, 7.7, 6.5, 7.0, 5.3, 2, 3),
        ToothSize("lower deciduous second molar", 5.5, 11.3, 9.9, 7.2, 8.7, 6.4, 2, 3),
    ),
}
