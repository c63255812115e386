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
        else _(
            "The new model is not better than the one it started from, so keep that one; it can be used all the same."
        )
    )
    told = _("{verdict} Both were compared on cases that were not trained on: {cases}. Trained for {time}.")
    return told.format(verdict=verdict, cases=held_out, time=in_words(60.0 * report["minutes"]))


def rows(report: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Name, value before and value after of each measure that is known and that both sides have."""
    before, after = report["before"], report["after"]
    return [
        (told, form.format(before[name]), form.format(after[name]))
        for name, (told, form) in _measures().items()
        if name in before and name in after
    ]


def _measures() -> dict[str, tuple[str, str]]:
    """What the engine's measures are called, and how they are written."""
    return {
        "dice": (_("Mean Dice of the teeth"), "{:.3f}"),
        "teeth_wrong": (_("Teeth with a wrong topology"), "{:.1%}"),
        "identification": (_("Teeth with the right number"), "{:.1%}"),
        "errors": (_("Findings a case: errors"), "{:.1f}"),
        "warnings": (_("Findings a case: warnings"), "{:.1f}"),
    }
