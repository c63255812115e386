"""FDI tooth numbers (ISO 3950) and what follows from a number alone: side, jaw, order along the arch, partners.

In goes an FDI number (11-48 permanent, 51-85 deciduous), out come names, neighbours and antagonists. The first digit
is the quadrant as the patient sees it (1/5 upper right, 2/6 upper left, 3/7 lower left, 4/8 lower right), the second
counts from the midline. Functions raise ValueError for a number that is no tooth. The jaws get label values of our own
that are no FDI numbers and fit into uint8.
"""

from __future__ import annotations

LOWER_JAW = 101
UPPER_JAW = 102
JAWS = (LOWER_JAW, UPPER_JAW)

UPPER_PERMANENT = (18, 17, 16, 15, 14, 13, 12, 11, 21, 22, 23, 24, 25, 26, 27, 28)
LOWER_PERMANENT = (48, 47, 46, 45, 44, 43, 42, 41, 31, 32, 33, 34, 35, 36, 37, 38)
UPPER_DECIDUOUS = (55, 54, 53, 52, 51, 61, 62, 63, 64, 65)
LOWER_DECIDUOUS = (85, 84, 83, 82, 81, 71, 72, 73, 74, 75)
PERMANENT = UPPER_PERMANENT + LOWER_PERMANENT
"""The 32 permanent teeth in arch order, upper arch first, each from the patient's right to the left."""
DECIDUOUS = UPPER_DECIDUOUS + LOWER_DECIDUOUS
"""The 20 deciduous teeth in the same order."""
PERMANENT_NUMERIC = tuple(sorted(PERMANENT))
DECIDUOUS_NUMERIC = tuple(sorted(DECIDUOUS))
TEETH = frozenset(PERMANENT + DECIDUOUS)

_PERMANENT_NAMES = (
    "central incisor",
    "lateral incisor",
    "canine",
    "first premolar",
    "second premolar",
    "first molar",
    "second molar",
    "third molar",
)
_DECIDUOUS_NAMES = ("central incisor", "lateral incisor", "canine", "first molar", "second molar")
_MIRRORED_QUADRANT = {1: 2, 2: 1, 3: 4, 4: 3, 5: 6, 6: 5, 7: 8, 8: 7}
_OPPOSITE_QUADRANT = {1: 4, 4: 1, 2: 3, 3: 2, 5: 8, 8: 5, 6: 7, 7: 6}
_ARCHES = (UPPER_PERMANENT, LOWER_PERMANENT, UPPER_DECIDUOUS, LOWER_DECIDUOUS)


def is_tooth(value: int) -> bool:
    """Whether ``value`` is the FDI number of a permanent or deciduous tooth."""
    return value in TEETH


def quadrant(fdi: int) -> int:
    """1..4 for permanent, 5..8 for deciduous teeth."""
    return _checked(fdi) // 10


def position(fdi: int) -> int:
    """Place counted from the midline: 1 central incisor ... 8 third molar (5 second molar if deciduous)."""
    return _checked(fdi) % 10


def is_upper(fdi: int) -> bool:
    """Whether the tooth stands in the upper jaw."""
    return quadrant(fdi) in (1, 2, 5, 6)


def is_left(fdi: int) -> bool:
    """Whether the tooth stands on the patient's left."""
    return quadrant(fdi) in (2, 3, 6, 7)


def is_deciduous(fdi: int) -> bool:
    """Whether the tooth is a milk tooth."""
    return quadrant(fdi) >= 5


def kind(fdi: int) -> str:
    """What tooth it is without the side and jaw, such as 'first molar'."""
    names = _DECIDUOUS_NAMES if is_deciduous(fdi) else _PERMANENT_NAMES
    return names[position(fdi) - 1]


def name(fdi: int) -> str:
    """Plain English name, such as 'upper right first molar' or 'lower left deciduous canine'."""
    jaw = "upper" if is_upper(fdi) else "lower"
    side = "left" if is_left(fdi) else "right"
    milk = "deciduous " if is_deciduous(fdi) else ""
    return f"{jaw} {side} {milk}{kind(fdi)}"


def label_name(value: int) -> str:
    """Plain English name of a tooth or of one of the two jaw labels."""
    if value in JAWS:
        return "lower jaw" if value == LOWER_JAW else "upper jaw"
    return name(value)


def arch_order(upper: bool, deciduous: bool = False) -> tuple[int, ...]:
    """The teeth of one arch from the patient's right to the patient's left."""
    return _ARCHES[2 * int(deciduous) + int(not upper)]


def neighbours(fdi: int) -> tuple[int, ...]:
    """The one or two teeth beside it in the same arch and dentition, the one to the patient's right first.

    The partner across the midline counts; third molars (and deciduous second molars) have one neighbour.
    """
    arch = arch_order(is_upper(fdi), is_deciduous(fdi))
    place = arch.index(fdi)
    return arch[max(place - 1, 0) : place] + arch[place + 1 : place + 2]


def are_neighbours(first: int, second: int) -> bool:
    """Whether the two teeth stand side by side in a complete arch."""
    return _checked(second) in neighbours(first)


def antagonists(fdi: int) -> tuple[int, ...]:
    """The opposing teeth it bites on in a neutral (Angle class I) occlusion, its namesake first.

    Lower teeth stand half a tooth further mesially, so an upper tooth meets its namesake and the one distal to
    that, a lower tooth its namesake and the one mesial to that. Lower central incisors and the last upper molars
    meet one tooth only (Nelson & Ash, Wheeler's Dental Anatomy, 10th ed., chapter 16).
    """
    second = _checked(opposite_jaw(fdi)) + (1 if is_upper(fdi) else -1)
    return (opposite_jaw(fdi), second) if is_tooth(second) else (opposite_jaw(fdi),)


def mirrored(fdi: int) -> int:
    """The same tooth on the other side of the mouth."""
    return 10 * _MIRRORED_QUADRANT[quadrant(fdi)] + position(fdi)


def opposite_jaw(fdi: int) -> int:
    """The same tooth on the same side of the other jaw."""
    return 10 * _OPPOSITE_QUADRANT[quadrant(fdi)] + position(fdi)


def _checked(fdi: int) -> int:
    if not is_tooth(fdi):
        raise ValueError(f"{fdi} is no FDI tooth number; expected 11-18, 21-28, 31-38, 41-48 or 51-85")
    return int(fdi)
