"""Label schemes: which value means which tooth in the label maps of other tools.

In goes an integer label map in a named scheme, out comes one in FDI numbers (jaws as ``LOWER_JAW``/``UPPER_JAW``), and
back. Tooth and jaw values map one to one. A pulp value maps to its tooth, since a tooth includes its pulp; structures
that are neither tooth nor jaw (canals, sinuses, restorations) become background. Neither comes back by ``from_fdi``.

Sources: ToothFairy2 and ToothFairy3 data sets (Bolelli et al., CVPR 2025); TotalSegmentator 2.x, task ``teeth``
(``class_map["teeth"]`` of ``map_to_binary.py``); Universal Numbering System (American Dental Association).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.anatomy import fdi as teeth

_LARGEST_LISTED = 65_535


@dataclass(frozen=True)
class Scheme:
    """One numbering.

    ``labels`` maps a value to its FDI number or jaw one to one, ``pulps`` a value to the FDI number of the tooth it
    lies in, ``others`` a value to the name of a structure that is neither tooth nor jaw.
    """

    name: str
    title: str
    labels: Mapping[int, int]
    pulps: Mapping[int, int]
    others: Mapping[int, str]

    @property
    def values(self) -> frozenset[int]:
        """Every value but 0 that may occur in a label map of this scheme."""
        return frozenset(self.labels) | frozenset(self.pulps) | frozenset(self.others)


class UnknownLabelsError(ValueError):
    """A label map holds values that the scheme does not know; ``values`` lists them."""

    def __init__(self, values: Iterable[int], scheme: str) -> None:
        self.values = tuple(values)
        self.scheme = scheme
        super().__init__(f"the label values {listed(self.values)} do not exist in the label scheme {scheme}")


def scheme_names() -> tuple[str, ...]:
    """The names of all known schemes, FDI first."""
    return tuple(_SCHEMES)


def scheme(name: str) -> Scheme:
    """The scheme of this name; ValueError naming the known ones otherwise."""
    if name not in _SCHEMES:
        raise ValueError(f"there is no label scheme {name!r}; known are {', '.join(_SCHEMES)}")
    return _SCHEMES[name]


def to_fdi(array: NDArray[Any], name: str) -> NDArray[np.uint8]:
    """Turn an integer label map of any shape into FDI numbers and jaw labels; UnknownLabelsError for other values."""
    known = scheme(name)
    return _mapped(array, {**dict.fromkeys(known.others, 0), **known.pulps, **known.labels}, name)


def from_fdi(array: NDArray[Any], name: str) -> NDArray[np.uint8]:
    """Turn FDI numbers and jaw labels into the values of a scheme; UnknownLabelsError where it has no such value."""
    return _mapped(array, {fdi: value for value, fdi in scheme(name).labels.items()}, name)


def guess_schemes(values: Iterable[int]) -> list[str]:
    """The schemes in which all the values exist and at least one is a tooth, likeliest first (0 is ignored)."""
    wanted = {int(v) for v in values} - {0}
    return [s.name for s in _SCHEMES.values() if wanted <= s.values and any(_is_tooth_in(s, v) for v in wanted)]


def label_values(array: NDArray[Any]) -> tuple[int, ...]:
    """The distinct values but 0 in an integer array, ascending; TypeError for an array of another kind."""
    if array.dtype.kind not in "iub":
        raise TypeError(f"label values are whole numbers, not {array.dtype}")
    if array.size == 0:
        return ()
    if int(array.min()) < 0 or int(array.max()) > _LARGEST_LISTED:
        return tuple(int(v) for v in np.unique(array) if v != 0)
    seen = np.zeros(int(array.max()) + 1, dtype=bool)
    for row in _rows(array):
        seen[row.astype(np.intp)] = True
    return tuple(int(v) for v in np.flatnonzero(seen) if v != 0)


def universal_name(fdi: int) -> str:
    """The tooth in Universal notation: '1'..'32' for permanent, 'A'..'T' for deciduous teeth."""
    order = _UNIVERSAL_DECIDUOUS if teeth.is_deciduous(fdi) else _UNIVERSAL_PERMANENT
    place = order.index(fdi)
    return chr(ord("A") + place) if teeth.is_deciduous(fdi) else str(place + 1)


def fdi_from_universal(text: str) -> int:
    """The FDI number of a tooth in Universal notation; ValueError if there is none."""
    for fdi in _UNIVERSAL_PERMANENT + _UNIVERSAL_DECIDUOUS:
        if universal_name(fdi) == text.strip().upper():
            return fdi
    raise ValueError(f"{text!r} is no tooth in Universal notation; expected 1-32 or A-T")


def listed(values: Iterable[int], limit: int = 5) -> str:
    """The first few values as text, such as '1, 2, 3 and 4 more'."""
    values = tuple(values)
    text = ", ".join(str(v) for v in values[:limit])
    return text if len(values) <= limit else f"{text} and {len(values) - limit} more"


def _is_tooth_in(known: Scheme, value: int) -> bool:
    return teeth.is_tooth(known.labels.get(value, 0))


def _mapped(array: NDArray[Any], table: Mapping[int, int], name: str) -> NDArray[np.uint8]:
    unknown = [v for v in label_values(array) if v not in table]
    if unknown:
        raise UnknownLabelsError(unknown, name)
    lookup = np.zeros(max(table) + 1, dtype=np.uint8)
    lookup[list(table)] = list(table.values())
    result = np.empty(array.shape, dtype=np.uint8)
    for source, target in zip(_rows(array), _rows(result), strict=True):
        target[...] = lookup[source.astype(np.intp)]
    return result


def _rows(array: NDArray[Any]) -> NDArray[Any]:
    """The array as 2D, to be indexed row by row: indexing with all of it would make 64-bit indices of every voxel."""
    if array.ndim < 2 or array.size == 0:
        return array.reshape(1, array.size)
    return array.reshape(array.shape[0], -1)


_JAW_VALUES = {1: teeth.LOWER_JAW, 2: teeth.UPPER_JAW}
_TOOTHFAIRY2_OTHERS = {
    3: "left inferior alveolar canal",
    4: "right inferior alveolar canal",
    5: "left maxillary sinus",
    6: "right maxillary sinus",
    7: "pharynx",
    8: "bridge",
    9: "crown",
    10: "implant",
}
_CANALS = ("left mandibular incisive canal", "right mandibular incisive canal", "lingual canal")
_UNIVERSAL_PERMANENT = teeth.UPPER_PERMANENT + tuple(reversed(teeth.LOWER_PERMANENT))
_UNIVERSAL_DECIDUOUS = teeth.UPPER_DECIDUOUS + tuple(reversed(teeth.LOWER_DECIDUOUS))
_NUMERIC = teeth.PERMANENT_NUMERIC

_SCHEMES = {
    s.name: s
    for s in (
        Scheme("fdi", "FDI numbers (ISO 3950)", {v: v for v in (*sorted(teeth.TEETH), *teeth.JAWS)}, {}, {}),
        Scheme("toothfairy2", "ToothFairy2", {**_JAW_VALUES, **{v: v for v in _NUMERIC}}, {}, _TOOTHFAIRY2_OTHERS),
        Scheme(
            "toothfairy3",
            "ToothFairy3",
            {**_JAW_VALUES, **{v: v for v in _NUMERIC}},
            {100 + v: v for v in _NUMERIC},
            {**_TOOTHFAIRY2_OTHERS, **dict(enumerate(_CANALS, start=103))},
        ),
        Scheme(
            "totalsegmentator-teeth",
            "TotalSegmentator, task teeth",
            {**_JAW_VALUES, **dict(enumerate(_NUMERIC, start=11))},
            dict(enumerate(_NUMERIC, start=46)),
            {**_TOOTHFAIRY2_OTHERS, **dict(enumerate(_CANALS, start=43))},
        ),
        Scheme("universal", "Universal Numbering System", dict(enumerate(_UNIVERSAL_PERMANENT, start=1)), {}, {}),
    )
}
