"""Which label of an imported model is which tooth.

In: the labels of dataset.json, and the user's mapping where there is one. Out: an FDI number, a jaw label or 0 for
every value that the model writes. Names say it in words or numbers (ToothFairy2 and 3, TotalSegmentator); a mapping
file has the last word. Bare values mean different teeth in different schemes: which one is meant is never guessed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ToothTopoSegLib.anatomy import fdi as teeth
from ToothTopoSegLib.anatomy.label_names import meaning
from ToothTopoSegLib.anatomy.schemes import scheme, scheme_names
from ToothTopoSegLib.errors import UsageError
from ToothTopoSegLib.nnunet.plans import Labels

_MORE_JAWS = {"upper skull": teeth.UPPER_JAW, "maxilla upper skull": teeth.UPPER_JAW, "mandibula": teeth.LOWER_JAW}
_FDI_IN_NAME = re.compile(r"fdi[ _-]*(\d\d)$")
_PULP = re.compile(r"pulp", re.IGNORECASE)


def fdi_of_labels(labels: Labels, mapping: Path | None = None) -> dict[int, int]:
    """FDI number, jaw label or 0 of every value that the model writes.

    ``mapping`` is a JSON file {"name or value of a label": FDI number, jaw label or 0}, or the name of a scheme of
    :mod:`ToothTopoSegLib.anatomy.schemes` that the values follow. A pulp counts to its tooth. Raises UsageError when
    the file cannot be read, names a label that the model does not have, or means no tooth, or the scheme lacks a value.
    """
    if mapping is not None and str(mapping) in scheme_names():
        return _by_scheme(labels, str(mapping))
    found = {value: tooth_named(name) for value, name in labels.written.items()}
    return found | (_given(labels, mapping) if mapping is not None else {})


def tooth_named(name: str) -> int:
    """The FDI number or jaw that a label's name means, else 0; the pulp of a tooth means the tooth."""
    number = _FDI_IN_NAME.search(name.lower())
    if number and teeth.is_tooth(int(number[1])):
        return int(number[1])
    words = " ".join(re.sub(r"[^a-z0-9]+", " ", _PULP.sub("", name.lower())).split())
    return meaning(words) or _MORE_JAWS.get(words, 0)


def _by_scheme(labels: Labels, name: str) -> dict[int, int]:
    known = scheme(name)
    if unknown := sorted(set(labels.written) - known.values):
        raise UsageError(f"The scheme {name} has no value {unknown[0]}, but the model writes it; give a mapping file.")
    return {value: {**known.labels, **known.pulps}.get(value, 0) for value in labels.written}


def _given(labels: Labels, path: Path) -> dict[int, int]:
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f'The mapping {path.name} cannot be read; write JSON such as {{"tooth a": 11}}.') from error
    if not isinstance(content, Mapping):
        raise UsageError(f'The mapping {path.name} holds no object; write JSON such as {{"tooth a": 11}}.')
    by_name = {name: value for value, name in labels.written.items()}
    by_name |= {str(value): value for value in labels.written}
    found = {}
    for name, fdi in content.items():
        if name not in by_name:
            raise UsageError(f"The mapping {path.name} names {name!r}, but the model has {', '.join(by_name)}.")
        if not isinstance(fdi, int) or not (fdi == 0 or fdi in teeth.JAWS or teeth.is_tooth(fdi)):
            raise UsageError(
                f"The mapping {path.name} says {name!r} is {fdi!r}; expected an FDI number, 101, 102 or 0."
            )
        found[by_name[name]] = fdi
    return found
