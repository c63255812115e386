"""Findings as a table for the terminal.

In go the findings of a report (schema ``toothtoposeg.report/1``) and the width of the terminal, out come lines of plain
text: severity, kind, teeth, size, place and evidence in aligned columns. Where the terminal is too narrow for a column
of evidence, it stands below its finding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from textwrap import wrap
from typing import Any

_HEAD = ("severity", "kind", "teeth", "size mm3", "place, LPS mm")
_TEETH_WIDTH = 11
"""Four FDI numbers; longer lists go on in the next line."""
_BETWEEN = "  "
_INDENT = "    "
_LEAST_EVIDENCE = 36
_LEAST_WIDTH = 40


def findings_table(findings: Sequence[Mapping[str, Any]], width: int) -> list[str]:
    """Lines of at most ``width`` characters (40 at least); none where there is no finding."""
    if not findings:
        return []
    rows = [_cells(finding) for finding in findings]
    widths = [
        max(len(line) for row in (_HEAD, *rows) for line in _lines(row[column], column)) for column in range(len(_HEAD))
    ]
    used = sum(widths) + len(_BETWEEN) * len(widths)
    beside = width - used >= _LEAST_EVIDENCE
    room = width - used if beside else max(width, _LEAST_WIDTH) - len(_INDENT)
    lines = ["", _joined([*_HEAD, *(["evidence"] if beside else [])], widths)]
    for row, finding in zip(rows, findings, strict=True):
        evidence = wrap(" ".join(str(finding.get("evidence") or "").split()), room)
        cells = [_lines(cell, column) for column, cell in enumerate(row)]
        block = zip_longest(*cells, *([evidence] if beside else []), fillvalue="")
        lines += [_joined(line, widths) for line in block]
        lines += [] if beside else [_INDENT + line for line in evidence]
    return [*lines, ""]


def _cells(finding: Mapping[str, Any]) -> tuple[str, ...]:
    size, place = finding.get("size_mm3"), finding.get("position_lps_mm")
    return (
        str(finding.get("severity")),
        str(finding.get("kind")),
        " ".join(map(str, finding.get("teeth") or [])) or "-",
        f"{size:.1f}" if size else "-",
        "-" if place is None else " ".join(f"{value:.1f}" for value in place),
    )


def _lines(cell: str, column: int) -> list[str]:
    return wrap(cell, _TEETH_WIDTH) if column == _HEAD.index("teeth") else [cell]


def _joined(cells: Sequence[str], widths: Sequence[int]) -> str:
    return _BETWEEN.join(_aligned(cells, widths)).rstrip()


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    """Sizes to the right, words to the left; evidence, which comes last, as it is."""
    for column, cell in enumerate(cells):
        width = widths[column] if column < len(widths) else 0
        yield cell.rjust(width) if column == _HEAD.index("size mm3") else cell.ljust(width)
