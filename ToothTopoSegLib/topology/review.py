"""What a person decides on findings, carried from one check of a label map to the next and into the report.

In go the findings of a check and those of the check before with a verdict each; out comes the list a person goes on
with, in which a finding that is still the same keeps its number, its verdict and its note, and the report of the
contract with the verdicts in it, as JSON values and as a table for spreadsheets (CSV).
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ToothTopoSegLib.errors import OutputError
from ToothTopoSegLib.topology.findings import Finding
from ToothTopoSegLib.topology.repair import Change, same_finding
from ToothTopoSegLib.topology.report import finding_entry

OPEN, IGNORED, REPAIRED = "open", "ignored", "repaired"
_PLACE = ("x_lps_mm", "y_lps_mm", "z_lps_mm")
CSV_COLUMNS = ("id", "severity", "kind", "teeth", "size_mm3", *_PLACE, "evidence", "repair", "verdict", "note")


@dataclass(frozen=True)
class Reviewed:
    """A finding with the verdict on it (open, ignored or repaired) and a note in a person's own words."""

    finding: Finding
    verdict: str = OPEN
    note: str = ""


def carried_over(
    before: Sequence[Reviewed], findings: Sequence[Finding], changes: Sequence[Change] = ()
) -> list[Reviewed]:
    """The findings of a new check, with number, verdict and note of those before that tell of the same thing.

    New findings get numbers that none had. What ``changes`` mended, and what had been mended before, stays in the list
    after them as repaired; a repaired finding that is there again is open again. Others that are gone are left out.
    """
    left = list(before)
    known: list[Reviewed] = []
    following = max((old.finding.id for old in before), default=0)
    for finding in findings:
        old = next((old for old in left if same_finding(old.finding, finding)), None)
        if old is None:
            following += 1
            known.append(Reviewed(replace(finding, id=following)))
            continue
        left.remove(old)
        verdict = OPEN if old.verdict == REPAIRED else old.verdict
        known.append(Reviewed(replace(finding, id=old.finding.id), verdict, old.note))
    mended = [old for old in left if old.verdict == REPAIRED or is_mended(old.finding, changes)]
    return [*known, *(replace(old, verdict=REPAIRED) for old in mended)]


def is_mended(finding: Finding, changes: Sequence[Change]) -> bool:
    """Whether one of the changes was made for this finding."""
    return any(same_finding(finding, change.finding) for change in changes)


def reviewed_report(report: Mapping[str, Any], reviewed: Sequence[Reviewed]) -> dict[str, Any]:
    """A report of the same check with a ``verdict`` and a ``note`` for each finding, and the list ``repaired``."""
    told = entries(reviewed)
    standing = [entry for entry in told if entry["verdict"] != REPAIRED]
    gone = [entry for entry in told if entry["verdict"] == REPAIRED]
    return {**report, "findings": standing, "repaired": gone}


def entries(reviewed: Sequence[Reviewed]) -> list[dict[str, Any]]:
    """The findings as the report lists them, each with its ``verdict`` and ``note``."""
    return [finding_entry(one.finding) | {"verdict": one.verdict, "note": one.note} for one in reviewed]


def write_csv(report: Mapping[str, Any], path: Path) -> None:
    """Write the findings of a report, and what was repaired, one a row; positions are LPS mm.

    UTF-8 with a byte order mark, by which spreadsheets tell it from other encodings. The file is complete or not there;
    raises OutputError if it cannot be written.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, CSV_COLUMNS, restval="")
    writer.writeheader()
    for entry in (*report["findings"], *report.get("repaired", ())):
        writer.writerow(_row(entry))
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        temporary.write_text(text.getvalue(), encoding="utf-8-sig", newline="")
        temporary.replace(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"The findings cannot be written to {path} ({reason}); choose a writable folder.") from error
    finally:
        temporary.unlink(missing_ok=True)


def _row(entry: Mapping[str, Any]) -> dict[str, Any]:
    row = {name: entry[name] for name in CSV_COLUMNS if name in entry}
    row |= dict(zip(_PLACE, entry["position_lps_mm"], strict=True))
    return row | {"teeth": " ".join(map(str, entry["teeth"])), "repair": entry["repair"] or ""}
