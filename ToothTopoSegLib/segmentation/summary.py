"""The summary of a cohort: one row for each scan, as a table for other programs and as a page for people.

In: the report of each scan (schema ``toothtoposeg.report/1``), or the reason why it has none. Out: ``summary.csv`` and
``summary.html``, each whole at any time. A further column is a function of the report in :data:`MEASURES`.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from ToothTopoSegLib.errors import OutputError
from ToothTopoSegLib.imaging.headers import shown
from ToothTopoSegLib.topology.findings import KINDS, SEVERITIES

SUMMARY, PAGE = "summary.csv", "summary.html"
DONE, FAILED = "done", "failed"
Row = dict[str, Any]
Report = Mapping[str, Any]


SHAPES = {
    "mean_tooth_volume_mm3": ("volume_mm3", 1),
    "mean_tooth_length_mm": ("length_mm", 2),
    "mean_crown_root_ratio": ("crown_root_ratio", 2),
}
"""Columns of measurements: the measure of single teeth whose mean they hold, and its digits."""


def _teeth(report: Report) -> Row:
    found = [tooth["fdi"] for tooth in report["teeth"] if tooth["present"]]
    return {"teeth_found": len(found), "teeth": " ".join(map(str, found))}


def _severities(report: Report) -> Row:
    return {name: sum(finding["severity"] == name for finding in report["findings"]) for name in SEVERITIES}


def _kinds(report: Report) -> Row:
    return {name: sum(finding["kind"] == name for finding in report["findings"]) for name in KINDS}


def _repairs(report: Report) -> Row:
    return {"repairs": len(report.get("repairs", []))}


def _shapes(report: Report) -> Row:
    """Means over the teeth that the border of the scan does not cut; empty where nothing could be measured."""
    rows = [row for row in report.get("measurements", ()) if not row["cut"]]
    return {name: _mean([row[measure] for row in rows], digits) for name, (measure, digits) in SHAPES.items()}


def _mean(values: Sequence[float | None], digits: int) -> float | str:
    known = [value for value in values if value is not None]
    return round(fmean(known), digits) if known else ""


def _seconds(report: Report) -> Row:
    return {"seconds": report["timing_s"]["total"]}


MEASURES: tuple[tuple[tuple[str, ...], Callable[[Report], Row]], ...] = (
    (("teeth_found", "teeth"), _teeth),
    (SEVERITIES, _severities),
    (KINDS, _kinds),
    (("repairs",), _repairs),
    (tuple(SHAPES), _shapes),
    (("seconds",), _seconds),
)
"""What is told of a scan that was segmented: names of columns, and the function of the report that fills them."""

COLUMNS = ("case", "scan", "status", *(name for names, _ in MEASURES for name in names), "reason")
"""Columns of the summary: severities and kinds hold how many findings there are, ``teeth`` FDI numbers."""


def row_of(case: str, scan: str, report: Report) -> Row:
    """The row of a scan from its report, or from ``{"reason": a sentence}`` where it has none."""
    row: Row = dict.fromkeys(COLUMNS, "")
    row |= {"case": case, "scan": scan, "status": FAILED if "reason" in report else DONE}
    if "reason" in report:
        return row | {"reason": " ".join(report["reason"].split())}
    for _, measure in MEASURES:
        row |= measure(report)
    return row


def write_csv(rows: Sequence[Row], path: Path) -> None:
    """Write the table whole or not at all; OutputError says why not."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        temporary.replace(path)
    except OSError as error:
        raise OutputError(
            f"The summary {shown(path)} cannot be written ({error.strerror}); close it where it is open, or free space."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
