"""The summary of a cohort as one web page that needs nothing else, in the looks of the report of one scan.

In go the rows of the summary (:mod:`ToothTopoSegLib.segmentation.summary`) and where the report of each scan lies; out
comes a single HTML file: how many scans have what, failures with their reasons, findings of each kind, how often each
tooth was found, and a row a scan with a link to its report. There is no script, and every text is escaped.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import quote

from ToothTopoSegLib.anatomy import fdi
from ToothTopoSegLib.errors import OutputError
from ToothTopoSegLib.evaluation.html import notice, page_of
from ToothTopoSegLib.evaluation.tooth_chart import SEVERITIES, badge
from ToothTopoSegLib.topology.findings import KINDS

Row = Mapping[str, Any]
_STYLE = """
.arch { table-layout: fixed; text-align: center; } .arch td { text-align: center; padding: 4px 1px; }
.arch td { border: 1px solid var(--line); } .arch b { display: block; font-size: .8rem; color: var(--dim); }
.arch td.none { color: var(--dim); background: var(--panel); }
td.reason { min-width: 16em; } tr.failed td.name { color: #a82a00; font-weight: 600; }
@media (max-width: 860px) {
  .cohort thead { display: none; } .cohort table, .cohort tbody, .cohort tr { display: block; }
  .cohort tr { border-bottom: 1px solid var(--line); padding: 8px 0; }
  .cohort td { display: inline-block; border: 0; padding: 1px 14px 1px 0; text-align: left; white-space: normal; }
  .cohort td.name, .cohort td.reason { display: block; overflow-wrap: anywhere; } .cohort td:empty { display: none; }
  .cohort td::before { content: attr(data-name) " "; color: var(--dim); font-size: .85rem; }
  .cohort td.name::before { content: none; }
  .arch { font-size: .8rem; } .arch b { font-size: .65rem; }
}
"""
_FIGURES = (
    ("Teeth", "teeth_found"),
    ("Errors", "error"),
    ("Warnings", "warning"),
    ("Notes", "info"),
    ("Repairs", "repairs"),
    ("Volume mm³", "mean_tooth_volume_mm3"),
    ("Length mm", "mean_tooth_length_mm"),
    ("Crown/root", "mean_crown_root_ratio"),
    ("Seconds", "seconds"),
)
"""Columns of figures in the table of scans: their names there and in the rows."""
_RIGHT = {"Findings", "Scans with them", *(name for name, _ in _FIGURES)}
"""Names over figures, which stand on the right."""


def write_cohort_page(rows: Sequence[Row], pages: Sequence[str], count: int, path: Path) -> None:
    """Write the page of ``rows``, of a cohort of ``count`` scans, to ``path``, whole or not at all.

    ``pages`` are the paths of the reports, from the page's folder, with ``/`` between folders. OutputError says why it
    cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        temporary.write_text(cohort_page(rows, pages, count), encoding="utf-8", newline="\n")
        temporary.replace(path)
    except OSError as error:
        raise OutputError(
            f"The summary page cannot be written to {path} ({error.strerror or error}); choose a folder that can be "
            "written and has space."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def cohort_page(rows: Sequence[Row], pages: Sequence[str], count: int) -> str:
    """The page as text; see :func:`write_cohort_page`."""
    done = [row for row in rows if not row["reason"]]
    body = f"""<h1>{_counted(count, "scan")}</h1>
{_verdict(rows, done, count)}
{_numbers(done)}
{_failures([row for row in rows if row["reason"]])}
<h2>Findings</h2>
{_findings(done)}
<h2>How often each tooth was found</h2>
{_arches(done)}
<h2>Scans</h2>
{_scans(rows, pages)}
{notice()}"""
    return page_of("Teeth of a cohort", body, _STYLE)


def _verdict(rows: Sequence[Row], done: Sequence[Row], count: int) -> str:
    """One plain sentence: what is there, and what to look at."""
    failed, waiting = len(rows) - len(done), count - len(rows)
    grave = sum(bool(row["error"]) for row in done)
    parts = [f"{_counted(len(done), 'scan')} segmented"]
    parts += [f"{grave} with anatomical errors to correct"] if grave else []
    parts += [f"{failed} failed"] if failed else []
    parts += [f"{waiting} still to do"] if waiting else []
    style = "error" if failed or grave else "none" if waiting or not done else "good"
    return f'<p class="verdict {style}">{", ".join(parts)}.</p>'


def _numbers(done: Sequence[Row]) -> str:
    """The numbers one wants first."""
    if not done:
        return ""
    boxes = [f"<div><b>{median(row['teeth_found'] for row in done):g}</b><span>teeth in a scan (median)</span></div>"]
    for severity, name in zip(SEVERITIES, ("errors", "warnings", "notes"), strict=True):
        total = sum(row[severity] for row in done)
        boxes.append(f"<div><b>{badge(severity, 0.9) if total else ''} {total}</b><span>{name}</span></div>")
    seconds = median(row["seconds"] for row in done)
    boxes.append(f"<div><b>{seconds:.0f} s</b><span>for a scan (median)</span></div>")
    return f'<div class="numbers">{"".join(boxes)}</div>'


def _failures(failed: Sequence[Row]) -> str:
    if not failed:
        return ""
    body = "".join(
        f'<tr class="failed">{_cell("Scan", row["scan"], "name")}{_cell("", row["reason"], "reason")}</tr>'
        for row in failed
    )
    return f"<h2>Failures</h2>\n{_table(('Scan', 'Reason'), body)}"


def _findings(done: Sequence[Row]) -> str:
    """A row a kind that was met."""
    body = ""
    for kind in KINDS:
        counts = [row[kind] for row in done if row[kind]]
        if counts:
            figures = _cell("Findings", sum(counts), "n") + _cell("Scans", len(counts), "n")
            body += f"<tr>{_cell('', kind, 'name')}{figures}</tr>"
    return _table(("Kind", "Findings", "Scans with them"), body) if body else "<p>No findings.</p>"


def _arches(done: Sequence[Row]) -> str:
    """The teeth in the places of a tooth chart, each with the number of scans that show it."""
    counts = Counter(int(tooth) for row in done for tooth in str(row["teeth"]).split())
    arches = [fdi.UPPER_PERMANENT, fdi.UPPER_DECIDUOUS, fdi.LOWER_DECIDUOUS, fdi.LOWER_PERMANENT]
    drawn = [arch for arch in arches if not fdi.is_deciduous(arch[0]) or any(counts[tooth] for tooth in arch)]
    body = "".join(f"<tr>{''.join(_place(tooth, counts[tooth], len(arch)) for tooth in arch)}</tr>" for arch in drawn)
    sides = '<div class="sides"><span>Patient’s right</span><span>Patient’s left</span></div>'
    return f'{sides}<div class="scroll"><table class="arch"><tbody>{body}</tbody></table></div>'


def _place(tooth: int, count: int, among: int) -> str:
    """A cell; the ten deciduous teeth of a jaw stand in the middle of the sixteen places."""
    margin = '<td colspan="3"></td>' if among == 10 else ""
    before = margin if tooth % 10 == 5 and tooth // 10 in (5, 8) else ""
    after = margin if tooth % 10 == 5 and tooth // 10 in (6, 7) else ""
    return f'{before}<td class="{"" if count else "none"}"><b>{tooth}</b>{count}</td>{after}'


def _scans(rows: Sequence[Row], pages: Sequence[str]) -> str:
    head = ("Scan", *(name for name, _ in _FIGURES), "Kinds")
    body = "".join(_scan(row, page) for row, page in zip(rows, pages, strict=True))
    means = "<p>Volume, length and crown/root ratio: means over the teeth of a scan that its border does not cut.</p>"
    return means + _table(head, body)


def _scan(row: Row, page: str) -> str:
    name = escape(str(row["scan"]))
    if row["reason"]:
        return f'<tr class="failed"><td class="name">{name}</td>{"<td></td>" * len(_FIGURES)}<td>failed</td></tr>'
    figures = "".join(_cell(label, row[key], "n") for label, key in _FIGURES)
    kinds = ", ".join(f"{row[kind]} {kind}" for kind in KINDS if row[kind])
    link = f'<td class="name"><a href="{escape(quote(page))}">{name}</a></td>'
    return f"<tr>{link}{figures}{_cell('', kinds, 'reason')}</tr>"


def _cell(label: str, value: object, style: str = "") -> str:
    """A cell that carries its column's name, because a phone shows the cells without the head."""
    return f'<td class="{style}" data-name="{escape(label)}">{escape(str(value))}</td>'


def _table(head: Iterable[str], body: str) -> str:
    names = "".join(f'<th class="n">{name}</th>' if name in _RIGHT else f"<th>{name}</th>" for name in head)
    return f'<div class="scroll cohort"><table><thead><tr>{names}</tr></thead><tbody>{body}</tbody></table></div>'


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
