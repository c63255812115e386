"""Swapped and mirrored teeth: numbers that do not agree with where the teeth stand.

In goes a :class:`~ToothTopoSegLib.topology.mouth.Mouth`, out come findings and the right numbers. Where a tooth stands
is told by the fitted arches (:mod:`ToothTopoSegLib.topology.arch`), which take no tooth's word for its side or jaw. A
swap is a wrong order along one side of one arch; mirrored is the right place in the wrong quadrant, of one tooth or
of many: left and right or upper and lower mistaken in a quadrant, a jaw or the whole mouth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from weakref import WeakKeyDictionary

import numpy as np

from ToothTopoSegLib.anatomy import fdi as teeth
from ToothTopoSegLib.anatomy.sizes import size_of
from ToothTopoSegLib.topology.arch import Arches, Floats, Standing, fit_arches, numbers_on, places, root_evidence
from ToothTopoSegLib.topology.betti import Body
from ToothTopoSegLib.topology.findings import Finding, lps
from ToothTopoSegLib.topology.mouth import Mouth

_BEYOND_MM = 5.0
"""A tooth this far on the other side of the midline is on the wrong side; central incisors stand nearer to it."""
_BEYOND_CENTRAL_MM = {True: 3.0, False: 2.5}
_MIDLINE_OFF_MM = 4.0
_ORDER_MM, _MIXED_ORDER_MM, _IMPACTED_ORDER_MM = 1.5, 4.0, 7.0
"""Neighbours are out of order if they stand the wrong way round by more than this; teeth of both dentitions and teeth
that have not come through stand above one another."""
_IMPACTED_MM, _CUT_MM = 3.5, 5.5
_FEW = 3
_WELL_ROOTED = 1.0
_MOST = 0.8
_MANY_SHARE, _MANY = 0.85, 4
_QUADRANT_SHARE, _QUADRANT = 0.7, 3
_MOST_NEAR = 5
_TWICE_COST, _FRESH_COST, _BEYOND_COST = 1.5, 0.5, 3.0
"""Of a number given twice, of one that no tooth of the row bears, of a tooth beyond the midline."""
_OFF_MM, _OFF_COST_PER_MM, _MOST_OFF_COST = 4.0, 0.1, 2.0


@dataclass(frozen=True, eq=False)
class _Placed:
    """A tooth in its row.

    ``own`` is its number, made one of the jaw where it stands; ``along`` (mm) its arc length from the midline of that
    jaw, ``beyond`` (mm) how far it stands on the other side than ``own`` says, ``limit`` how far it well may.
    """

    standing: Standing
    own: int
    along: float
    beyond: float
    limit: float

    @property
    def borne(self) -> int:
        """The number it bears."""
        return self.standing.tooth.fdi

    @property
    def body(self) -> Body:
        """Its voxels."""
        return self.standing.tooth.body


@dataclass(frozen=True, eq=False)
class _Wrong:
    """Teeth with wrong numbers: what kind of error, which teeth, and what each should be called."""

    kind: str
    scope: str
    moved: tuple[tuple[_Placed, int], ...]
    sure: bool


_JUDGED: WeakKeyDictionary[Mouth, tuple[_Wrong, ...]] = WeakKeyDictionary()


def find_swaps(mouth: Mouth) -> list[Finding]:
    """Teeth whose numbers are out of order along one side of an arch."""
    return [_swap(mouth, wrong) for wrong in _judged(mouth) if wrong.kind == "swap"]


def find_mirrored(mouth: Mouth) -> list[Finding]:
    """Teeth with the right place in the wrong quadrant; one finding for a quadrant, a jaw or the whole mouth."""
    return [_mirrored(mouth, wrong) for wrong in _judged(mouth) if wrong.kind == "mirrored"]


def renumbering(mouth: Mouth, finding: Finding) -> tuple[tuple[Body, int], ...]:
    """The right numbers for a finding of this module made on this mouth: bodies and the FDI number of each.

    Loose pieces go with the tooth of their number that is nearest. Empty for any other finding, and where the right
    numbers are not beyond doubt (``finding.repair`` is None).
    """
    concerned = {id(body) for body in finding.voxels}
    for wrong in _judged(mouth):
        if wrong.kind == finding.kind and concerned == {id(placed.body) for placed, _ in wrong.moved}:
            return _with_pieces(mouth, wrong) if wrong.sure else ()
    return ()


def _with_pieces(mouth: Mouth, wrong: _Wrong) -> tuple[tuple[Body, int], ...]:
    main = {id(standing.tooth.body): standing for standing in _standing(mouth)}
    given = [(placed.body, number) for placed, number in wrong.moved]
    targets = {id(placed.body): number for placed, number in wrong.moved}
    for fdi in {placed.borne for placed, _ in wrong.moved}:
        bodies = mouth.teeth[fdi].bodies
        owners = [body for body in bodies if id(body) in main]
        for piece in bodies:
            if id(piece) not in main:
                owner = min(owners, key=lambda body: _apart(mouth, body, piece))
                given += [(piece, targets[id(owner)])] if id(owner) in targets else []
    return tuple(given)


def _apart(mouth: Mouth, first: Body, second: Body) -> float:
    return float(np.linalg.norm(np.subtract(first.centroid, second.centroid) * mouth.labels.spacing))


def _standing(mouth: Mouth) -> tuple[Standing, ...]:
    arches = fit_arches(mouth)
    return () if arches is None else arches.standing


# ---------------------------------------------------------------------------------------------------- judging


def _judged(mouth: Mouth) -> tuple[_Wrong, ...]:
    """All wrong numbers of a mouth, kept as long as the mouth is."""
    if mouth not in _JUDGED:
        arches = fit_arches(mouth)
        _JUDGED[mouth] = () if arches is None else _judge(arches)
    return _JUDGED[mouth]


_Group = list[tuple[_Placed, int]]


def _judge(arches: Arches) -> tuple[_Wrong, ...]:
    rows = _placed(arches)
    given: dict[Body, int] | None = None
    swaps: list[_Wrong] = []
    mirrored: _Group = []
    for row in rows:
        if all(p.own == p.borne and p.beyond <= p.limit for p in row) and not _suspect(row):
            continue
        given = numbers_on(arches) if given is None else given
        for group, sure in _read(row, given):
            if all(new in namesakes(p.borne) for p, new in group):
                mirrored += group
            else:
                swaps.append(_Wrong("swap", "", tuple(group), sure))
    return (*swaps, *_grouped(mirrored, [p for row in rows for p in row]))


def _suspect(row: Sequence[_Placed]) -> bool:
    """Whether the numbers of a row are out of order or given twice."""
    numbers = [p.own for p in row]
    return len(set(numbers)) < len(numbers) or bool(_blocks(row, numbers))


def namesakes(number: int) -> set[int]:
    """The same place in the other quadrants."""
    over = teeth.opposite_jaw(number)
    return {over, teeth.mirrored(number), teeth.mirrored(over)}


def _read(row: Sequence[_Placed], given: dict[Body, int]) -> list[tuple[_Group, bool]]:
    """Groups of wrong numbers of a row with the right ones, and whether these are beyond doubt.

    Teeth may have changed places, may be on the wrong side one by one, or all of them may be; what is left is put in
    order. The reading that needs the fewest mistakes holds.
    """
    ways = [_ordered(row, numbers, given) for numbers in _sides(row)]
    prices = [_price(row, numbers, groups) for numbers, groups in zip(_sides(row), ways, strict=True)]
    return ways[int(np.argmin(prices))]


def _sides(row: Sequence[_Placed]) -> list[list[int]]:
    """Numbers of a row under each reading of its sides; teeth beside the midline could be on either."""
    near = [i for i, p in enumerate(row) if abs(p.along) <= _BEYOND_MM and teeth.position(p.own) <= 2][:_MOST_NEAR]
    clear = [p.own if p.beyond <= 0 or i in near else teeth.mirrored(p.own) for i, p in enumerate(row)]
    ways = [[p.own for p in row], [teeth.mirrored(p.own) for p in row]]
    for choice in product((False, True), repeat=len(near)):
        turned = {i for i, turn in zip(near, choice, strict=True) if turn}
        ways.append([teeth.mirrored(n) if i in turned else n for i, n in enumerate(clear)])
    return ways


def _price(row: Sequence[_Placed], base: Sequence[int], groups: Sequence[tuple[_Group, bool]]) -> float:
    """How many mistakes a reading takes: sides, places, numbers given twice, teeth beyond the midline or far off."""
    new = {id(p.body): number for group, _ in groups for p, number in group}
    after = [new.get(id(p.body), p.own) for p in row]
    turned = [p.own for p, number in zip(row, base, strict=True) if number != p.own]
    together = len(turned) >= _QUADRANT and (
        len({teeth.is_left(number) for number in turned}) == 1 or len(turned) >= _MANY_SHARE * len(row)
    )
    price = 2 + 0.05 * len(turned) if together else float(len(turned))
    price += sum(number != old for number, old in zip(after, base, strict=True))
    price += _FRESH_COST * len(set(after) - set(base))
    if together:
        # a mistake of a whole quadrant does not leave out the teeth beside the midline
        left_out = [p for p, number in zip(row, base, strict=True) if number == p.own]
        sides = {teeth.is_left(p.own) for p in left_out if abs(p.along) > _BEYOND_MM}
        price += 0.5 * sum(teeth.is_left(p.own) not in sides for p in left_out)
    price += _TWICE_COST * (len(after) - len(set(after))) + 4 * len(_blocks(row, after))
    for at, (p, number) in enumerate(zip(row, after, strict=True)):
        beyond = p.beyond if teeth.is_left(number) == teeth.is_left(p.own) else -p.beyond
        price += _BEYOND_COST * (beyond > p.limit) + 0.02 * max(beyond, 0.0)
        off = abs(p.along - float(np.clip(p.along, *_usual_places(row, after, at))))
        price += min(_OFF_COST_PER_MM * max(off - _OFF_MM, 0.0), _MOST_OFF_COST)
    return float(price)


def _usual_places(row: Sequence[_Placed], numbers: Sequence[int], at: int) -> tuple[float, float]:
    """From where to where along the arch (mm) a tooth of a row with these numbers may stand: at its average place, or
    nearer to the midline as far as the teeth that are absent before it left room."""
    number = numbers[at]
    usual = places(teeth.is_upper(number))[number]
    before = at + (-1 if teeth.is_left(number) else 1)
    if not 0 <= before < len(row) or not abs(_key(number)) - abs(_key(numbers[before])) > 1:
        return usual, usual
    if teeth.is_left(numbers[before]) != teeth.is_left(number):
        return usual, usual
    beside = (size_of(number).md_crown + size_of(numbers[before]).md_crown) / 2
    drifted = row[before].along + (beside if teeth.is_left(number) else -beside)
    return min(usual, drifted), max(usual, drifted)


def _ordered(row: Sequence[_Placed], numbers: Sequence[int], given: dict[Body, int]) -> list[tuple[_Group, bool]]:
    """The row with these numbers put in order: swaps, then the teeth that only bear another quadrant's number."""
    groups: list[tuple[_Group, bool]] = []
    touched: set[int] = set()
    for block in _blocks(row, numbers):
        moved, sure = _explained([(row[i], numbers[i]) for i in block], given)
        groups.append((moved, sure))
        touched |= {id(p.body) for p, _ in moved}
    rest = [(p, number) for p, number in zip(row, numbers, strict=True) if id(p.body) not in touched]
    others = [(p, number) for p, number in rest if number != p.borne]
    return groups + ([(others, True)] if others else [])


def _placed(arches: Arches) -> tuple[list[_Placed], list[_Placed]]:
    """Upper and lower row from the patient's right to the left."""
    jaws = _jaws(arches)
    rows = []
    for upper in (True, False):
        row = [s for s, is_upper in zip(arches.standing, jaws, strict=True) if is_upper == upper]
        rows.append(sorted(_sided(arches, row, upper), key=lambda p: p.along))
    return rows[0], rows[1]


def _jaws(arches: Arches) -> list[bool]:
    """Whether each tooth belongs to the upper jaw; where its stand and its roots do not agree, its number decides."""
    standing = arches.standing
    evidence = root_evidence([s.tooth for s in standing])
    borne = [teeth.is_upper(s.tooth.fdi) for s in standing]
    both = arches.upper is not None and arches.lower is not None
    if not arches.jaws_told:
        return borne
    heights = np.array([(s.tooth.centroid - arches.origin) @ arches.axes[2] for s in standing])
    layers = {
        u: np.median([h for h, s in zip(heights, standing, strict=True) if s.upper == u]) if both else 0.0
        for u in (True, False)
    }
    strange = sum(s.upper != b for s, b in zip(standing, borne, strict=True))
    exchanged = strange > _MOST * len(standing)
    jaws = []
    for s, root, height, said in zip(standing, evidence, heights, borne, strict=True):
        nearer = abs(height - layers[not s.upper]) - abs(height - layers[s.upper])
        clear = not both or nearer > (_CUT_MM if s.tooth.cut else _IMPACTED_MM)
        agreed = root * (1 if s.upper else -1) > -_WELL_ROOTED
        jaws.append(s.upper if clear and agreed else said != exchanged)
    return jaws


def _sided(arches: Arches, row: Sequence[Standing], upper: bool) -> list[_Placed]:
    """The teeth of one jaw from the midline of that jaw, which may lie beside that of the face."""
    if not row:
        return []
    own = [s.tooth.fdi if teeth.is_upper(s.tooth.fdi) == upper else teeth.opposite_jaw(s.tooth.fdi) for s in row]
    expected = np.array([abs(places(upper)[number]) for number in own])
    along = np.array([s.along for s in row])
    shift = _midline_shift(along, expected)
    along = along - (shift or 0.0)
    placed = []
    for s, number, at in zip(row, own, along, strict=True):
        limit = _BEYOND_CENTRAL_MM[upper] if teeth.position(number) == 1 else _BEYOND_MM
        limit += _BEYOND_CENTRAL_MM[upper] if shift is None else 0.0
        if not arches.curved:
            # without the front of the arch only the axes of the scan tell the side, which a turned head defies
            at = abs(at) if teeth.is_left(number) else -abs(at)
        placed.append(_Placed(s, number, float(at), float(-at if teeth.is_left(number) else at), limit))
    return placed


def _midline_shift(along: Floats, expected: Floats) -> float | None:
    """How far (mm) the midline of a jaw lies beside that of the face; None where too few teeth or one side tell it.

    ``along`` and ``expected`` (n,) are the places of its teeth and how far from the midline their numbers stand on
    average. Both sides together tell it: on one side alone it looks the same as large teeth or a gap that has closed.
    """
    left, far = along >= 0, expected > 2 * _BEYOND_MM
    shifts = along - expected * np.where(left, 1, -1)
    sides = [shifts[far & left], shifts[far & ~left]]
    if np.count_nonzero(far) < _FEW or not all(len(side) for side in sides):
        return None
    return float(np.clip(np.mean([np.median(side) for side in sides]), -_MIDLINE_OFF_MM, _MIDLINE_OFF_MM))


def _blocks(row: Sequence[_Placed], numbers: Sequence[int]) -> list[list[int]]:
    """Groups of teeth of a row (indices) that with these numbers stand the wrong way round to one another."""
    group = list(range(len(row)))
    for i, first in enumerate(row):
        for j in range(i + 1, len(row)):
            apart = row[j].along - first.along
            if _key(numbers[i]) > _key(numbers[j]) and apart > _margin(first, row[j]):
                group = [group[i] if g == group[j] else g for g in group]
    blocks = [[i for i, g in enumerate(group) if g == name] for name in sorted(set(group))]
    return [block for block in blocks if len(block) > 1]


def _margin(first: _Placed, second: _Placed) -> float:
    if abs(first.standing.depth - second.standing.depth) > _IMPACTED_MM:
        return _IMPACTED_ORDER_MM
    if teeth.is_deciduous(first.borne) != teeth.is_deciduous(second.borne):
        return _MIXED_ORDER_MM
    return _ORDER_MM


def _explained(block: Sequence[tuple[_Placed, int]], given: dict[Body, int]) -> tuple[_Group, bool]:
    """The fewest new numbers that put a block in order, and whether they are beyond doubt.

    Either its numbers change places, or single teeth get the numbers that the whole arch has for them.
    """
    ordered = sorted((number for _, number in block), key=_key)
    exchanged = [(p, new) for (p, _), new in zip(block, ordered, strict=True) if new != p.borne]
    matched = [(p, given.get(p.body, 0)) for p, _ in block if given.get(p.body, 0) != p.borne]
    if len(exchanged) > 2 and 0 < len(matched) < len(exchanged) and all(number for _, number in matched):
        return matched, True
    same = {id(p.body): n for p, n in exchanged} == {id(p.body): n for p, n in matched}
    return exchanged, same or len(exchanged) == 2


def _key(number: int) -> int:
    return teeth.position(number) * (1 if teeth.is_left(number) else -1)


def _grouped(moved: Sequence[tuple[_Placed, int]], everybody: Sequence[_Placed]) -> list[_Wrong]:
    """Mirrored teeth as few findings: the whole mouth, a jaw, a pair of quadrants, else tooth by tooth."""
    rest, found = list(moved), []
    for scope, members in _scopes(everybody):
        inside = {id(p.body) for p in members}
        for change in ("side", "jaw", "both"):
            group = [(p, n) for p, n in rest if id(p.body) in inside and _change(p.borne, n) == change]
            least = max(_MANY, _MANY_SHARE * len(members))
            if "quadrant" in scope:
                least = max(_QUADRANT, _QUADRANT_SHARE * len(members))
            if len(group) >= least:
                found.append(_wrong(scope, group, everybody))
                taken = {id(p.body) for p, _ in group}
                rest = [(p, n) for p, n in rest if id(p.body) not in taken]
    found = _joined(found, everybody)
    while rest:
        first = rest[0]
        pair = [(p, n) for p, n in rest if {p.borne, n} == {first[0].borne, first[1]}]
        found.append(_wrong("", pair, everybody))
        rest = [entry for entry in rest if entry not in pair]
    return found


def _scopes(everybody: Sequence[_Placed]) -> list[tuple[str, list[_Placed]]]:
    scopes = [("all teeth", list(everybody))]
    for upper in (True, False):
        jaw = "upper" if upper else "lower"
        scopes.append((f"the {jaw} jaw", [p for p in everybody if teeth.is_upper(p.own) == upper]))
    for quadrant in (1, 2, 3, 4):
        inside = [p for p in everybody if _stands_in(p) == quadrant]
        scopes.append((f"quadrant {quadrant}", inside))
    return [(scope, members) for scope, members in scopes if members]


def _stands_in(placed: _Placed) -> int:
    """The quadrant 1..4 where a tooth stands, whatever its number."""
    own = placed.own if placed.beyond <= 0 else teeth.mirrored(placed.own)
    return (teeth.quadrant(own) - 1) % 4 + 1


def _joined(found: list[_Wrong], everybody: Sequence[_Placed]) -> list[_Wrong]:
    """Two quadrants that took each other's numbers are one finding."""
    done: list[_Wrong] = []
    for wrong in found:
        partner = next((d for d in done if "quadrant" in d.scope and _quadrants(d) == _quadrants(wrong)), None)
        if partner is None or "quadrant" not in wrong.scope:
            done.append(wrong)
            continue
        done.remove(partner)
        numbers = " and ".join(str(q) for q in sorted(_quadrants(wrong)))
        done.append(_wrong(f"quadrants {numbers}", [*partner.moved, *wrong.moved], everybody))
    return done


def _quadrants(wrong: _Wrong) -> set[int]:
    return {(teeth.quadrant(n) - 1) % 4 + 1 for placed, new in wrong.moved for n in (placed.borne, new)}


def _change(old: int, new: int) -> str:
    side, jaw = teeth.is_left(old) != teeth.is_left(new), teeth.is_upper(old) != teeth.is_upper(new)
    return "both" if side and jaw else "side" if side else "jaw"


def _wrong(scope: str, moved: Sequence[tuple[_Placed, int]], everybody: Sequence[_Placed]) -> _Wrong:
    """A finding of mirrored teeth; the right numbers are sure if no other tooth bears them afterwards."""
    own = {id(p.body) for p, _ in moved}
    others = {p.borne for p in everybody if id(p.body) not in own}
    new = [number for _, number in moved]
    return _Wrong("mirrored", scope, tuple(moved), len(set(new)) == len(new) and not others & set(new))


# ---------------------------------------------------------------------------------------------------- telling


def _swap(mouth: Mouth, wrong: _Wrong) -> Finding:
    numbers = [placed.borne for placed, _ in wrong.moved]
    if len(numbers) == 2:
        text = (
            f"Teeth {_listed(numbers)} stand in each other's place along the arch; their numbers were probably "
            "exchanged, although real transpositions, mostly of canine and first premolar, exist."
        )
    elif len(numbers) == 1:
        ((placed, new),) = wrong.moved
        text = f"Tooth {placed.borne} stands out of order among its neighbours, in the place of tooth {new}."
    else:
        text = (
            f"Teeth {_listed(numbers)} are out of order along the arch; their numbers were probably mixed up, "
            "although real transpositions exist."
        )
    return _finding(mouth, wrong, text)


def _mirrored(mouth: Mouth, wrong: _Wrong) -> Finding:
    (first, new), *_ = wrong.moved
    mistaken = {"side": "left and right", "jaw": "upper and lower", "both": "left and right and upper and lower"}
    what = mistaken[_change(first.borne, new)]
    if wrong.scope == "all teeth":
        text = (
            f"The whole mouth is mirrored: {what} are exchanged in the numbers of all {len(wrong.moved)} teeth "
            f"(tooth {first.borne} stands where {new} belongs); check the orientation of the file."
        )
    elif wrong.scope:
        text = (
            f"In {wrong.scope} {what} are mistaken: {len(wrong.moved)} teeth bear the numbers of the wrong "
            f"quadrant (tooth {first.borne} stands where {new} belongs)."
        )
    elif len(wrong.moved) == 1:
        text = f"Tooth {first.borne} stands in the place of tooth {new}: {what} were mistaken in its number."
    else:
        text = f"Teeth {_listed([p.borne for p, _ in wrong.moved])} bear each other's numbers: {what} were mistaken."
    return _finding(mouth, wrong, text)


def _finding(mouth: Mouth, wrong: _Wrong, text: str) -> Finding:
    entries = sorted((placed for placed, _ in wrong.moved), key=lambda placed: (placed.borne, -placed.body.voxels))
    size = sum(placed.body.voxels for placed in entries) * mouth.labels.voxel_volume
    which = tuple(sorted({placed.borne for placed in entries}))
    place = lps(mouth.labels, np.asarray(entries[0].body.centroid))
    repair = "renumber" if wrong.sure else None
    return Finding(0, wrong.kind, "error", which, place, size, text, repair, tuple(p.body for p in entries))


def _listed(numbers: Sequence[int]) -> str:
    ordered = sorted(set(numbers))
    return (
        " and ".join(str(n) for n in ordered)
        if len(ordered) < 3
        else (", ".join(str(n) for n in ordered[:-1]) + f" and {ordered[-1]}")
    )
