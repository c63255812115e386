"""What fine-tuning has changed, in words and as rows of a table: the engine's report for a person."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slicer.i18n import tr as _

from ToothTopoSegGui.job import in_words


def headline(report: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """What came of a fine-tuning in two or three sentences; ``names`` are the titles of cases that the engine names."""
    held_out = ", ".join(names.get(name, name) for name in report["held_out"])
    verdict = (
        _("The new model is better than the one it started from.")
        if report["better"]
        else _("The new model is not better than the one it started from; keep that one unless you know why not.")
    )
    told = _("{verdict} Both were compared on cases that were not trained on: {cases}. Trained for {time}.")
    return told.format(verdict=verdict, cases=held_out, time=in_words(60.0 * report["minutes"]))


def rows(report: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Name, value before and value after of each measure that both sides have."""
    before, after = report["before"], report["after"]
    return [
        (_measure(name), _figure(before[name]), _figure(after[name]))
        for name in before
        if isinstance(before[name], (int, float)) and isinstance(after.get(name), (int, float))
    ]


def _figure(value: float) -> str:
    return f"{value:d}" if isinstance(value, int) else f"{value:.3f}"


def _measure(name: str) -> str:
    names = {
        "dice": _("Dice of the teeth"),
        "wrong_teeth": _("Topologically wrong teeth"),
        "findings": _("Findings"),
        "score": _("Score"),
    }
    return names.get(name, name.replace("_", " "))
