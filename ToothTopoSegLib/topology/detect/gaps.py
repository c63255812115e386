"""Gaps: where in a row of teeth an absent one had its place.

In go a :class:`~ToothTopoSegLib.topology.mouth.Mouth` and the two teeth beside a gap, out comes a voxel index. Along
the arch the crowns beside the gap tell the place; outwards the fitted arch does as much as they, since teeth stand off
it each in its own way; and where the label map has the jaws, an empty socket in the bone shows where the root was.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ToothTopoSegLib.anatomy import fdi as teeth
from ToothTopoSegLib.anatomy.sizes import size_of
from ToothTopoSegLib.imaging.volume import Array, Volume
from ToothTopoSegLib.topology.arch import Arch, Floats, crown_points, fit_arches, seen_body
from ToothTopoSegLib.topology.betti import ToothTopology
from ToothTopoSegLib.topology.mouth import Mouth

_RIM = 2.0
"""Percentage of a crown's points that may lie beyond what counts as its side."""
_TO_ARCH, _MOST_TO_ARCH_MM = 0.75, 2.0
"""How much of what the neighbours stand off the arch a tooth between them does not."""
_DEEPER = 0.65
"""The place is this share of the way from the middle of the crown to that of the tooth."""
_REACH_MM, _SOCKET_MM = 9.0, 3.5
"""A socket is looked for this far around, and narrower than twice the second."""
_CORE_MM, _CORE_MM3 = 1.0, 8.0
"""What lies deeper in it than the first has the second volume at least."""
_SOCKET_BESIDE_MM, _SOCKET_HEIGHT_MM = 2.5, 5.0
"""How far its middle may be off what the crowns tell, across the long axis and along it."""
_SOCKET_SHARE = 0.65
GERM_MM = 5.0
"""A tooth whose crown ends this far from the plane of the bite has not come through."""


def partner_dentition(mouth: Mouth, fdi: int) -> bool | None:
    """Whether a milk tooth (True) or a permanent one (False) stands in the mirrored place; None if nothing does.

    Both sides of a mouth change their teeth at about the same time.
    """
    return _dentition_at(mouth, teeth.mirrored(fdi))


def opposing_dentition(mouth: Mouth, fdi: int) -> bool | None:
    """The same of the place in the other jaw, where teeth change within a year or so as well."""
    return _dentition_at(mouth, teeth.opposite_jaw(fdi))


def _dentition_at(mouth: Mouth, fdi: int) -> bool | None:
    permanent = fdi - 40 if teeth.is_deciduous(fdi) else fdi
    if permanent + 40 in mouth.teeth:
        return True
    return False if permanent in mouth.teeth else None


def place_between(
    mouth: Mouth, first: ToothTopology, second: ToothTopology, absent: int, gap: Sequence[int] = ()
) -> Array:
    """Voxel index (z, y, x) where an absent tooth has its middle, between two teeth of its row.

    ``gap`` are the numbers of all teeth that are absent between the two, in their order from the first to the second.
    """
    upper, arches, labels = teeth.is_upper(absent), fit_arches(mouth), mouth.labels
    up = np.array([0.0, 0.0, 1.0]) if arches is None else arches.axes[2]
    seen = [seen_body(labels, tooth.fdi, tooth.bodies[0]) for tooth in (first, second)]
    crowns = [crown_points(tooth, up, upper) for tooth in seen]
    middles = np.stack([crown.mean(axis=0) for crown in crowns])
    share = _share(crowns, middles, absent, gap or (absent,), (first.fdi, second.fdi))
    shares = np.array([1 - share, share])
    arch = None if arches is None else arches.upper if upper else arches.lower
    crown = shares @ middles if arch is None else _on_arch(arch, middles, shares)
    deeper = shares @ (np.stack([tooth.centroid for tooth in seen]) - middles)
    place = crown + _DEEPER * deeper
    socket = _socket(labels, place + deeper, up, upper)
    if socket is not None:
        place = _SOCKET_SHARE * socket + (1 - _SOCKET_SHARE) * place
    return np.asarray(labels.lps_to_index(place))


def _share(crowns: list[Floats], middles: Floats, absent: int, gap: Sequence[int], beside: tuple[int, int]) -> float:
    """How far from the middle of the first crown (n, 3) to that of the second an absent tooth has its place.

    The absent teeth share the gap by their average widths; a third molar may stand farther off than they are wide.
    """
    way = middles[1] - middles[0]
    length = float(np.linalg.norm(way))
    start = float(np.percentile((crowns[0] - middles[0]) @ way / length, 100 - _RIM))
    end = float(np.percentile((crowns[1] - middles[0]) @ way / length, _RIM))
    widths = np.cumsum([0.0, *(size_of(fdi).md_crown for fdi in gap)])
    spare = max(end - start - float(widths[-1]), 0.0)
    third = [teeth.is_tooth(fdi) and not teeth.is_deciduous(fdi) and teeth.position(fdi) == 8 for fdi in beside]
    start, end = start + spare * third[0], end - spare * third[1]
    at = gap.index(absent)
    part = float((widths[at] + widths[at + 1]) / 2 / widths[-1])
    return (start + part * (end - start)) / length


def _on_arch(arch: Arch, ends: Floats, shares: Floats) -> Floats:
    """The place between two points (2, 3) LPS mm along the curve of the jaw, at the height between them."""
    along, off = arch.place(ends)
    curve = arch.points(along, off)
    between = float(off @ shares)
    between -= float(np.clip(_TO_ARCH * between, -_MOST_TO_ARCH_MM, _MOST_TO_ARCH_MM))
    place = arch.points(np.array([along @ shares]), np.array([between]))[0]
    return np.asarray(place + shares @ (ends - curve))


def _socket(labels: Volume, place: Floats, up: Floats, upper: bool) -> Floats | None:
    """The middle (LPS mm) of an empty socket in the bone near a place; None without bone or without a socket.

    A socket is what a closing of jaw and teeth fills; gaps along roots are too narrow to count.
    """
    from scipy import ndimage

    step = np.asarray(labels.spacing)
    centre, room = labels.lps_to_index(place), _REACH_MM / step
    low = np.maximum(np.floor(centre - room), 0).astype(int)
    box = tuple(slice(int(a), int(b)) for a, b in zip(low, np.ceil(centre + room) + 1, strict=True))
    array = labels.array[box]
    solid = array > 0
    if not (array == (teeth.UPPER_JAW if upper else teeth.LOWER_JAW)).any():
        return None
    away = ndimage.distance_transform_edt(~solid, sampling=step)
    closed = ndimage.distance_transform_edt(away <= _SOCKET_MM, sampling=step) > _SOCKET_MM
    numbered, count = ndimage.label(closed & (away > _CORE_MM))
    if not count:
        return None
    middles = np.array(ndimage.center_of_mass(numbered > 0, numbered, range(1, count + 1)))
    off = labels.index_to_lps(middles + low) - place
    beside = np.linalg.norm(off - np.outer(off @ up, up), axis=1)
    near = (beside <= _SOCKET_BESIDE_MM) & (np.abs(off @ up) <= _SOCKET_HEIGHT_MM)
    core = np.argwhere(np.isin(numbered, np.flatnonzero(near) + 1))
    if len(core) * labels.voxel_volume < _CORE_MM3:
        return None
    return np.asarray(labels.index_to_lps(core.mean(axis=0) + low))
