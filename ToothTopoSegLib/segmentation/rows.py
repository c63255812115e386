"""Whether a row of teeth was counted one too far: numbers looked at in rows, after single teeth have taken theirs.

In: the number of every piece, what it looks like, its volume, and how far pieces are apart. Out: the numbers again,
with runs of teeth moved on by one where that explains better how large they are and where there is room between them.
What the network says of the teeth of a row are no votes independent of each other: it has counted them together, so the
look of a run counts once. The size of each tooth and the room between two of them are evidence of their own: where the
canine is as small as an incisor, the first molar no larger than a premolar, and next to a tooth that is called missing
there is no gap, the row is most likely one off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.anatomy.fdi import arch_order
from ToothTopoSegLib.anatomy.sizes import size_of
from ToothTopoSegLib.segmentation.classes import TEETH

Array = NDArray[Any]
Apart = Callable[[int, int], float]

SMALLER, LARGER = 0.3, 0.2
"""How far teeth are from their type's average volume in this mouth (standard deviations of the logarithm): smaller ones
may have lost a part to the border of the view, to metal or to noise."""
LARGEST_MISFIT = 4.0
"""What a size that does not fit costs at most, in nats: teeth may be halved or fused."""
MISSING_NATS, CLOSED_NATS = 0.5, 4.0
"""What it costs that a tooth is missing, and that it is although next to no room is left where it stood ..."""
ROOM_SHARE = 0.4
"""... which is less than this share of the widths of the teeth that are missing there."""
OPEN_NATS, OPEN_MM = 1.5, 5.0
"""What a gap costs that is wider than this between teeth next to each other by their numbers."""
LEAST_GAIN = 1.0
"""In nats: by less than this no row is moved."""
LEAST_PROBABILITY = 1e-3
MAIN_SHARE = 0.2
"""With less of its type's average volume a tooth, or a piece of one, has no say."""
MOST_MOVES = 4

_CLASS = {fdi: k for k, fdi in enumerate(TEETH)}
_WIDTHS = np.array([size_of(fdi).md_crown for fdi in TEETH])


def misfit(volumes: Array, average: Array, most: float = LARGEST_MISFIT) -> Array:
    """What it costs in nats that a tooth of a volume is of a type of which the ``average`` one has another volume."""
    off = np.log(volumes / average)
    return np.asarray(np.minimum(0.5 * (off / np.where(off < 0, SMALLER, LARGER)) ** 2, most))


def counted_again(
    taken: NDArray[np.intp], probability: Array, volumes: Array, average: Array, apart: Apart
) -> NDArray[np.intp]:
    """The tooth class 0..31 (n + 1,) of every piece, row 0 being none, with rows that were counted one off put right.

    ``taken`` are the classes so far, ``probability`` (n + 1, 32) is how much pieces look like each number, ``volumes``
    (n + 1,) are in mm3, ``average`` (32,) those that teeth of each class have in this mouth, and ``apart`` tells how
    many mm lie between two pieces.
    """
    out = taken.copy()
    for upper in (True, False):
        order = np.array([_CLASS[fdi] for fdi in arch_order(upper)])
        for _ in range(MOST_MOVES):
            row = _Row(order, tuple(_teeth(out, order, probability, volumes, average)), average, apart)
            gain, first, last, by = max(row.moves(), default=(0.0, 0, 0, 0))
            if gain < LEAST_GAIN:
                break
            becomes = np.arange(len(TEETH))
            places = np.array([tooth.place for tooth in row.teeth[first : last + 1]])
            becomes[order[places]] = order[places + by]
            out = becomes[out]
    return out


@dataclass(frozen=True, eq=False)
class _Tooth:
    """A tooth of a row: its place in the order of the arch, its pieces, its volume, and what it looks like (32,)."""

    place: int
    pieces: tuple[int, ...]
    volume: float
    look: Array


def _teeth(
    taken: NDArray[np.intp], order: Array, probability: Array, volumes: Array, average: Array
) -> Iterator[_Tooth]:
    """The teeth of a jaw that have a say, from right to left."""
    for place, k in enumerate(order.tolist()):
        pieces = np.flatnonzero((taken[1:] == k) & (volumes[1:] > 0)) + 1
        volume = float(volumes[pieces].sum())
        if len(pieces) and volume >= MAIN_SHARE * average[k]:
            yield _Tooth(place, tuple(pieces.tolist()), volume, volumes[pieces] @ probability[pieces] / volume)


@dataclass(frozen=True, eq=False)
class _Row:
    """The teeth of a jaw in the ``order`` (16,) of its classes."""

    order: Array
    teeth: tuple[_Tooth, ...]
    average: Array
    apart: Apart

    def moves(self) -> Iterator[tuple[float, int, int, int]]:
        """What is gained in nats by moving the teeth from a first to a last one by one number, and these three."""
        last_place = len(self.order) - 1
        for first in range(len(self.teeth)):
            before = self.teeth[first - 1].place if first else -1
            for last in range(first, len(self.teeth)):
                after = self.teeth[last + 1].place if last + 1 < len(self.teeth) else last_place + 1
                for by in (-1, 1):
                    if before < self.teeth[first].place + by and self.teeth[last].place + by < after:
                        yield self._gain(first, last, by), first, last, by

    def _gain(self, first: int, last: int, by: int) -> float:
        run = self.teeth[first : last + 1]
        volumes, looks = np.array([tooth.volume for tooth in run]), np.stack([tooth.look for tooth in run])
        own = self.order[[tooth.place for tooth in run]]
        other = self.order[[tooth.place + by for tooth in run]]
        nats = np.log(looks + LEAST_PROBABILITY)
        each = np.arange(len(run))
        look = volumes @ (nats[each, other] - nats[each, own]) / volumes.sum()
        size = (misfit(volumes, self.average[own]) - misfit(volumes, self.average[other])).sum()
        room = self._room(first - 1, first, 0, 0) + self._room(last, last + 1, 0, 0)
        return float(look + size + room - self._room(first - 1, first, 0, by) - self._room(last, last + 1, by, 0))

    def _room(self, one: int, two: int, one_by: int, two_by: int) -> float:
        """What the room between two teeth of the row, each moved by some numbers, costs in nats."""
        if one < 0 or two >= len(self.teeth):
            return 0.0
        left, right = self.teeth[one], self.teeth[two]
        missing = self.order[left.place + one_by + 1 : right.place + two_by]
        room = min(self.apart(a, b) for a in left.pieces for b in right.pieces)
        if len(missing) == 0:
            return OPEN_NATS if room > OPEN_MM else 0.0
        return len(missing) * (CLOSED_NATS if room < ROOM_SHARE * _WIDTHS[missing].sum() else MISSING_NATS)
