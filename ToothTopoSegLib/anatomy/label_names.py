"""Names of labels in words, as data sets write them, and the tooth or jaw that each of them means.

In: names such as ``11``, ``tooth_36``, ``FDI 48``, ``Upper Right Central Incisor``, ``Lower Jawbone``. Out: FDI numbers
and jaw labels. Names that mean neither (canals, sinuses, crowns) map to 0, the background, as in
:mod:`ToothTopoSegLib.anatomy.schemes`.
"""

from __future__ import annotations

import re

from ToothTopoSegLib.anatomy import fdi as teeth

_NUMBER = re.compile(r"(?:tooth|fdi|t)?(\d\d)")
_SYNONYMS = {
    "wisdom tooth": "third molar",
    "jawbone": "jaw",
    "jaw bone": "jaw",
    "cuspid": "canine",
    "milk": "deciduous",
}
_JAWS = {
    "lower jaw": teeth.LOWER_JAW,
    "mandible": teeth.LOWER_JAW,
    "upper jaw": teeth.UPPER_JAW,
    "maxilla": teeth.UPPER_JAW,
}


def meaning(name: str) -> int:
    """The FDI number or jaw label that a name means; 0 where it means neither."""
    words = re.sub(r"\(.*?\)|[^a-z0-9]+", " ", name.lower()).strip()
    number = _NUMBER.fullmatch(words.replace(" ", ""))
    if number and teeth.is_tooth(int(number[1])):
        return int(number[1])
    for said, meant in _SYNONYMS.items():
        words = words.replace(said, meant)
    return _JAWS.get(words, _TEETH.get(frozenset(words.split()), 0))


_TEETH = {frozenset(teeth.name(fdi).split()): fdi for fdi in teeth.TEETH}
