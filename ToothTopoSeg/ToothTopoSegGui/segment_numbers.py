"""Which tooth each segment of a segmentation is: from its terminology, its name or its label value.

In goes what a segment says of itself, whoever made it; out come FDI numbers and jaw labels. A SNOMED CT code and a name
in words ("lower left first molar") speak for themselves; a bare number is read in the label scheme that is named, or
else as an FDI number, or else in the one scheme it fits. Nothing here touches Slicer. Sources: ISO 3950; Palmer's
notation as written in British practice ("LL6"); the segment names of TotalSegmentator's and ToothFairy's label maps.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

_GENERIC = re.compile(r"(?:segment|label|tooth|teeth|value|class)?[\s_.:#-]*(\d{1,3})?", re.IGNORECASE)
_FDI_MARK = re.compile(r"\bfdi[\s_]*(\d{2,3})\b", re.IGNORECASE)
_PALMER = re.compile(r"([UL])([RL])\s*([1-8A-E])", re.IGNORECASE)
_PALMER_QUADRANTS = {"UR": 1, "UL": 2, "LL": 3, "LR": 4}
_FILLERS = {"tooth", "permanent", "the", "of", "pulp", "fdi"}
_SAME_WORD = {
    "maxillary": "upper",
    "mandibular": "lower",
    "medial": "central",
    "primary": "deciduous",
    "milk": "deciduous",
    "bicuspid": "premolar",
    "cuspid": "canine",
    "1st": "first",
    "2nd": "second",
    "3rd": "third",
}
_JAW_WORDS = {
    "lower jaw": ({"mandible"}, {"lower", "jaw"}, {"lower", "jawbone"}),
    "upper jaw": ({"maxilla"}, {"upper", "jaw"}, {"upper", "jawbone"}),
}


@dataclass(frozen=True)
class SegmentLabel:
    """What a segment says of itself; ``terminology`` is Slicer's serialised entry or ""."""

    identifier: str
    name: str
    label_value: int
    terminology: str = ""


@dataclass(frozen=True)
class Numbering:
    """FDI number or jaw label of each segment that is one, the scheme bare numbers were read in, and what to tell.

    ``scheme`` is None where no bare number had to be read.
    """

    numbers: Mapping[str, int]
    scheme: str | None
    notes: tuple[str, ...]


def number_segments(
    segments: Sequence[SegmentLabel], scheme: str | None = None, title: str = "the segmentation"
) -> Numbering:
    """The tooth or jaw of each segment; those that are neither are left out and noted.

    Raises UsageError for an unknown scheme, InputError where no segment is a tooth or bare numbers fit several schemes;
    ``title`` is what the messages call the segmentation.
    """
    from ToothTopoSegLib.anatomy import fdi as teeth
    from ToothTopoSegLib.anatomy import schemes
    from ToothTopoSegLib.errors import InputError, UsageError

    if scheme is not None and scheme not in schemes.scheme_names():
        raise UsageError(f"There is no label scheme {scheme!r}; choose one of {', '.join(schemes.scheme_names())}.")
    spoken = {s.identifier: _spoken(s) for s in segments}
    numbers = {identifier: number for identifier, number in spoken.items() if number}
    bare = {s.identifier: value for s in segments if not spoken[s.identifier] and (value := _bare(s, scheme))}
    notes = [_disagreement(s) for s in segments if _disagreement(s)]
    used, read = _read_numbers(bare, scheme, notes, title)
    numbers |= {identifier: read[value] for identifier, value in bare.items() if read.get(value)}
    left_out = [s.name for s in segments if s.identifier not in numbers]
    if not any(teeth.is_tooth(number) for number in numbers.values()):
        raise InputError(_no_teeth(left_out, scheme, title))
    if left_out:
        notes.append(f"No teeth and left out: {schemes.listed(left_out)}.")
    ordered = {s.identifier: numbers[s.identifier] for s in segments if s.identifier in numbers}
    return Numbering(ordered, used, tuple(notes))


def number_in_words(name: str) -> int | None:
    """The tooth or jaw that a name says in words, by Palmer's notation or as "FDI 36"; None where it says none."""
    from ToothTopoSegLib.anatomy import fdi as teeth

    marked = _FDI_MARK.search(name.replace("_", " "))
    words = {_SAME_WORD.get(word, word) for word in re.findall(r"\d(?:st|nd|rd)|[^\W\d_]+", _spaced(name).lower())}
    if marked:
        # Pulps are told apart by a hundred in front: 136 is the pulp of 36.
        number = int(marked[1]) - (100 if "pulp" in words else 0)
        return number if teeth.is_tooth(number) else None
    palmer = _PALMER.fullmatch(name.strip())
    if palmer:
        return _from_palmer(*palmer.groups())
    said = words - _FILLERS
    if "wisdom" in said:
        said = said - {"wisdom"} | {"third", "molar"}
    return _numbers_by_words().get(frozenset(said))


def number_of_terminology(entry: str) -> int | None:
    """The tooth or jaw whose SNOMED CT code stands in a serialised terminology entry; None where none does."""
    fields = entry.split("~")
    for field in (fields[2:3] + fields[5:6]) if len(fields) > 2 else []:
        scheme, _, rest = field.partition("^")
        if scheme in ("SCT", "SNOMED-CT"):
            number = _numbers_by_code().get(rest.partition("^")[0])
            if number:
                return number
    return None


def _spoken(segment: SegmentLabel) -> int | None:
    """What name or terminology says without a scheme; the name first, because it is what people change."""
    return number_in_words(segment.name) or number_of_terminology(segment.terminology)


def _bare(segment: SegmentLabel, scheme: str | None) -> int | None:
    """The bare number of a segment: of a name that is no more than a number, else of a label that nobody named.

    Where a scheme is named, the label value of any segment counts.
    """
    generic = _GENERIC.fullmatch(segment.name.strip())
    if generic and generic[1]:
        return int(generic[1])
    return segment.label_value if generic or scheme is not None else None


def _read_numbers(
    bare: Mapping[str, int], scheme: str | None, notes: list[str], title: str
) -> tuple[str | None, dict[int, int]]:
    """The scheme of the bare numbers and what they mean in it; the numbers it does not know are not in the result."""
    from ToothTopoSegLib.anatomy import schemes
    from ToothTopoSegLib.errors import InputError

    if not bare:
        return None, {}
    values = sorted(set(bare.values()))
    if scheme is not None:
        return scheme, _meanings(scheme, values)
    # Anything is numbered like this when it is counted; so are universal numbers, which therefore have to be named.
    if values == list(range(1, len(values) + 1)):
        return None, {}
    fitting = [name for name in schemes.guess_schemes(values) if name != "universal"]
    if "fdi" in fitting or not fitting:
        return "fdi", _meanings("fdi", values)
    meanings = [_meanings(name, values) for name in fitting]
    if any(other != meanings[0] for other in meanings):
        raise InputError(
            f"The segments of {title} have numbers that fit several label schemes ({', '.join(fitting)}); choose the "
            "one they were made with."
        )
    notes.append(f"The numbers of the segments were read as {schemes.scheme(fitting[0]).title}.")
    return fitting[0], meanings[0]


def _meanings(scheme: str, values: Sequence[int]) -> dict[int, int]:
    from ToothTopoSegLib.anatomy import schemes

    known = schemes.scheme(scheme)
    table = {**known.pulps, **known.labels}
    return {value: table[value] for value in values if value in table}


def _disagreement(segment: SegmentLabel) -> str:
    """A sentence where the words of the name and the terminology mean different teeth."""
    from ToothTopoSegLib.anatomy import fdi as teeth

    name, code = number_in_words(segment.name), number_of_terminology(segment.terminology)
    if not name or not code or name == code:
        return ""
    return (
        f"The segment {segment.name!r} has the terminology of {teeth.label_name(code)} ({code}); its name was followed."
    )


def _no_teeth(names: Sequence[str], scheme: str | None, title: str) -> str:
    from ToothTopoSegLib.anatomy import schemes

    found = f"No segment of {title} is a tooth by name, terminology or number (found {schemes.listed(names)})"
    if scheme is None:
        return f"{found}; name the segments by FDI number or choose the label scheme they were made with."
    return f"{found} in the label scheme {scheme}; choose the scheme they were made with or name them by FDI number."


def _spaced(name: str) -> str:
    """The name with words parted that CamelCase or underscores join."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).replace("_", " ")


def _from_palmer(jaw: str, side: str, place: str) -> int | None:
    quadrant = _PALMER_QUADRANTS[(jaw + side).upper()]
    if place.isdigit():
        return 10 * quadrant + int(place)
    return 10 * (quadrant + 4) + "ABCDE".index(place.upper()) + 1


@cache
def _numbers_by_words() -> dict[frozenset[str], int]:
    from ToothTopoSegLib.anatomy import fdi as teeth

    spelled = {frozenset(teeth.name(number).split()): number for number in teeth.TEETH}
    jaws = {teeth.label_name(jaw): jaw for jaw in teeth.JAWS}
    return spelled | {frozenset(words): jaws[jaw] for jaw, spellings in _JAW_WORDS.items() for words in spellings}


@cache
def _numbers_by_code() -> dict[str, int]:
    from ToothTopoSegLib.anatomy import fdi as teeth
    from ToothTopoSegLib.anatomy.snomed import code_of

    return {code_of(number).value: number for number in (*teeth.TEETH, *teeth.JAWS)}
