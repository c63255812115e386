"""Which number each tooth of a jaw bears: the row as a whole, from the back on the right to the back on the left.

In: single teeth, what the first network calls each, what their form is like, and how far they are apart. Out: a number
for each, rising along the arch. Evidence is weighed in nats, and the cheapest way along the row is found by dynamic
programming (Viterbi, IEEE Trans Inf Theory 1967;13:260-269):

- the *look* a tooth has for the first network. That network has counted the teeth of a row together, so what it says of
  them are no votes independent of each other: where it is overruled by the same step as at the tooth before, that costs
  next to nothing more;
- the *form* of each tooth (:mod:`ToothTopoSegLib.segmentation.shapes`), which is evidence of its own: no molar is a
  premolar, however its row was counted;
- the *bite*: where the teeth of the other jaw are (:mod:`ToothTopoSegLib.segmentation.antagonists`);
- the *room* between two teeth: where one is missing there is a gap, unless it has closed, as it mostly does where a
  premolar was taken out to straighten the others, and that is the first more often than the second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.anatomy.fdi import arch_order, is_upper, position
from ToothTopoSegLib.anatomy.sizes import size_of
from ToothTopoSegLib.segmentation.antagonists import beside
from ToothTopoSegLib.segmentation.classes import TEETH

Array = NDArray[Any]
Apart = Callable[[int, int], float]
"""How many mm lie between two pieces."""

MOST_LOOK, LARGER_STEP, SAME_STEP = 3.0, 2.0, 0.1
"""What it costs at most to overrule the look of a tooth by one place, how much more by each further one, since rows are
counted one off but hardly ever three, and which share of it where the one before is overruled by the same step."""
MOST_FORM = 6.0
"""What it costs at most that a tooth is unlike its type: teeth may be halved or fused."""
ASIDE_NATS = 5.0
"""What it costs that a tooth gets no number."""
MISSING_NATS, MOST_MISSING = 0.5, 2.0
"""What it costs that a tooth is missing from a gap, at most for all of a gap ..."""
CLOSED_NATS, CLOSED_FIRST_PREMOLAR, CLOSED_SECOND_PREMOLAR = 4.0, 1.5, 3.0
"""... and that it is although next to no room is left where it stood ..."""
ROOM_SHARE = 0.4
"""... which is less than this share of the widths of the teeth that are missing there."""
OPEN_NATS, OPEN_MM = 1.5, 5.0
"""What a gap costs that is wider than this between teeth next to each other by their numbers."""
SAME_PLACE, BEHIND_MM = 0.3, 5.0
"""What differs less in the mean place it looks like is ordered by where it stands, seen from so far behind the last
tooth."""
LEAST_PROBABILITY = 1e-3
MOST_ASIDE = 2
"""So many teeth in a row may get no number."""

_PLACES = {upper: np.array([TEETH.index(fdi) for fdi in arch_order(upper)]) for upper in (True, False)}
_WIDTHS = np.array([size_of(fdi).md_crown for fdi in TEETH])
_UPPER = np.array([is_upper(fdi) for fdi in TEETH])
_CLOSED = np.array(
    [{4: CLOSED_FIRST_PREMOLAR, 5: CLOSED_SECOND_PREMOLAR}.get(position(fdi), CLOSED_NATS) for fdi in TEETH]
)


@dataclass(frozen=True, eq=False)
class Body:
    """A tooth without a number: its pieces, the largest first, the probabilities (32,) of the classes by its look, how
    many nats it is unlike a tooth of each class (32,) by its form, and where it bites (2,) in mm in the horizontal
    plane, if that is known."""

    pieces: tuple[int, ...]
    look: Array
    unlike: Array
    bite: Array | None = None

    @cached_property
    def upper(self) -> bool:
        """Whether it is a tooth of the upper jaw by its look."""
        return bool(self.look[_UPPER].sum() > self.look[~_UPPER].sum())


def numbered(bodies: Sequence[Body], apart: Apart) -> list[int | None]:
    """The class 0..31 of each tooth, None for one that gets no number; no class is there twice.

    Each jaw is numbered alone and the other one with regard to it; the cheaper of the two ways is taken.
    """
    rows = {upper: _row(bodies, upper, apart) for upper in _PLACES}
    ways = []
    for first in _PLACES:
        cost, places = rows[first].best()
        other = rows[not first]
        more, others = replace(other, beside=_beside(other, rows[first], places)).best()
        ways.append((cost + more, {first: places, not first: others}))
    found: list[int | None] = [None] * len(bodies)
    for upper, places in min(ways, key=lambda way: way[0])[1].items():
        for n, place in places.items():
            found[rows[upper].which[n]] = int(_PLACES[upper][place])
    return found


def _row(bodies: Sequence[Body], upper: bool, apart: Apart) -> _Row:
    """The teeth of a jaw in the order in which they look like its classes, and stand where they look alike."""
    order, turns = _PLACES[upper], _turns(bodies)
    mine = [n for n, body in enumerate(bodies) if body.upper == upper]
    places = [float(_shares(bodies[n], order) @ np.arange(len(order))) for n in mine]
    mine = [mine[i] for i in _from_right_to_left(places, turns[mine])]
    return _Row(order, tuple(mine), tuple(bodies[n] for n in mine), apart)


def _turns(bodies: Sequence[Body]) -> Array:
    """How far along the arch each tooth stands (n,): an angle in radians that grows from right to left, NaN if unknown.

    It is seen from a point between the last teeth.
    """
    bites = np.array([(np.nan, np.nan) if body.bite is None else body.bite for body in bodies]).reshape(-1, 2)
    if np.isnan(bites).all():
        return np.full(len(bites), np.nan)
    behind, middle = np.nanmax(bites[:, 0]) + BEHIND_MM, np.nanmean(bites[:, 1])
    return np.asarray(-np.arctan2(behind - bites[:, 0], bites[:, 1] - middle))


def _from_right_to_left(places: Sequence[float], turns: Array) -> list[int]:
    """The order of teeth by the places they look like; neighbours of nearly the same place stand as they do."""
    order = [int(i) for i in np.argsort(places, kind="stable")]
    for end in range(1, len(order)):
        for j in range(end, 0, -1):
            one, two = order[j - 1], order[j]
            if abs(places[two] - places[one]) >= SAME_PLACE or not turns[one] > turns[two]:
                break
            order[j - 1], order[j] = two, one
    return order


def _beside(row: _Row, other: _Row, places: dict[int, int]) -> Array:
    """What the numbered teeth of the other jaw make it cost that those of a row have each place (n, 16)."""
    cost = np.zeros((len(row.teeth), len(row.order)))
    bites = {place: other.teeth[n].bite for n, place in places.items()}
    known = {place: bite for place, bite in bites.items() if bite is not None}
    mine = [(n, tooth.bite) for n, tooth in enumerate(row.teeth) if tooth.bite is not None]
    if mine:
        cost[[n for n, _ in mine]] = beside(np.array([bite for _, bite in mine]), known, bool(_UPPER[row.order[0]]))
    return cost


def _shares(body: Body, order: Array) -> Array:
    look = body.look[order]
    return np.asarray(look / max(float(look.sum()), 1e-9))


@dataclass(frozen=True, eq=False)
class _Row:
    """The teeth of a jaw from right to left, ``which`` among all they are, and the ``order`` (16,) of its classes.

    ``beside`` is what the other jaw makes it cost that a tooth has a place (n, 16).
    """

    order: Array
    which: tuple[int, ...]
    teeth: tuple[Body, ...]
    apart: Apart
    beside: Array | None = None

    @cached_property
    def own(self) -> Array:
        """The place 0..15 each tooth looks like most."""
        return np.array([_shares(body, self.order).argmax() for body in self.teeth])

    @cached_property
    def look(self) -> Array:
        """What it costs to give a tooth another place (n, 16) than that."""
        nats = np.log(np.stack([_shares(body, self.order) for body in self.teeth]) + LEAST_PROBABILITY)
        steps = np.abs(np.arange(len(self.order)) - self.own[:, None])
        return np.minimum(nats.max(1, keepdims=True) - nats, MOST_LOOK + LARGER_STEP * np.maximum(steps - 1, 0))

    @cached_property
    def alone(self) -> Array:
        """What it costs that a tooth of that form has a place (n, 16), whatever the others have."""
        nats = np.minimum(np.stack([body.unlike[self.order] for body in self.teeth]), MOST_FORM)
        return nats if self.beside is None else nats + self.beside

    @cached_property
    def rooms(self) -> dict[tuple[int, int], float]:
        """How many mm lie between two teeth that may follow each other."""
        pairs = [(m, n) for n in range(len(self.teeth)) for m in range(max(0, n - 1 - MOST_ASIDE), n)]
        pieces = {(m, n): (self.teeth[m].pieces, self.teeth[n].pieces) for m, n in pairs}
        return {pair: min(self.apart(a, b) for a in one for b in two) for pair, (one, two) in pieces.items()}

    def best(self) -> tuple[float, dict[int, int]]:
        """What it costs in nats to number the row, and the place of each tooth that gets one."""
        if not self.teeth:
            return 0.0, {}
        count, places = self.alone.shape
        cost = self.alone + self.look + ASIDE_NATS * np.arange(count)[:, None]
        before = np.full((count, places, 2), -1)
        for n in range(count):
            for m in range(max(0, n - 1 - MOST_ASIDE), n):
                for place in range(1, places):
                    total, q = min(self._steps(cost, m, n, place))
                    if total < cost[n, place]:
                        cost[n, place], before[n, place] = total, (m, q)
        last = cost + ASIDE_NATS * np.arange(count)[::-1, None]
        n, place = (int(i) for i in np.unravel_index(last.argmin(), last.shape))
        least, chosen = float(last[n, place]), {}
        while n >= 0:
            chosen[n] = place
            n, place = (int(i) for i in before[n, place])
        return least, chosen

    def _steps(self, cost: Array, m: int, n: int, place: int) -> Iterator[tuple[float, int]]:
        """What it costs that tooth ``n`` has a place if ``m`` is the one before that has any, by the place of that."""
        here, step = self.alone[n, place] + ASIDE_NATS * (n - m - 1), place - self.own[n]
        for q in range(place):
            same = SAME_STEP if step == q - self.own[m] else 1.0
            yield float(cost[m, q] + here + same * self.look[n, place] + self._room(m, n, q, place)), q

    def _room(self, m: int, n: int, one: int, two: int) -> float:
        """What the room between two teeth costs that have these places."""
        missing, room = self.order[one + 1 : two], self.rooms[m, n]
        if len(missing) == 0:
            return OPEN_NATS if room > OPEN_MM else 0.0
        if room >= ROOM_SHARE * _WIDTHS[missing].sum():
            return min(MISSING_NATS * len(missing), MOST_MISSING)
        return float(_CLOSED[missing].sum())
