"""The report as one web page that needs nothing else: it opens anywhere, offline, on a phone, a desktop or paper.

In go the report as the JSON contract has it (schema ``toothtoposeg.report/1``), the preview picture, a small picture
of each finding's place and the teeth as meshes; out comes a single HTML file with the verdict, the tooth chart, a 3D
view, the findings, the measurements and the model's limits. What a person chose to ignore is listed, but not counted.
There is no network access, no script but that of the 3D view, and no markup from the data: every text is escaped.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ToothTopoSegLib.anatomy import fdi
from ToothTopoSegLib.errors import InputError, OutputError
from ToothTopoSegLib.evaluation import teeth_3d, tooth_chart
from ToothTopoSegLib.evaluation.teeth_3d import View3d, show_link
from ToothTopoSegLib.evaluation.tooth_chart import SEVERITIES, anchor, badge, rank

if TYPE_CHECKING:
    from ToothTopoSegLib.imaging.volume import Volume
    from ToothTopoSegLib.measurements.table import Column
    from ToothTopoSegLib.surfaces.mesh import TriangleMesh
    from ToothTopoSegLib.topology.findings import Finding

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_NOTICE = (
    "ToothTopoSeg is research software and not a medical device. It must not be the sole basis of a diagnosis or "
    "treatment; a dentist has to check every tooth."
)
_MEASURES = (
    "length_mm",
    "crown_length_mm",
    "root_length_mm",
    "crown_root_ratio",
    "tip_deg",
    "torque_deg",
    "mesial_distance_mm",
    "distal_distance_mm",
)
_NEIGHBOURS = {"mesial_distance_mm": "mesial_neighbour", "distal_distance_mm": "distal_neighbour"}
"""Distances, and the teeth they are told of."""
_ABOUT_MEASURES = (
    "Length: from the longest root’s tip to the highest point, along the long axis; crown and root meet at the "
    "estimated neck. Tip: crown to mesial is positive; torque: crown to the lips or cheek is positive. A dash: the "
    "border of the scan cuts the tooth, or too little of it is there; for an angle also: the tooth lies down across "
    "it. Mesial and distal distance: to the surface of the next tooth, whose number stands in brackets; 0.0 where they "
    "touch, a dash where there is none."
)
_MEANING = {
    "cavity": "hole enclosed in a tooth",
    "tunnel": "hole right through a tooth",
    "fragment": "loose piece",
    "merge": "two teeth under one number",
    "split": "one tooth under two numbers",
    "missing": "no tooth at this place",
    "duplicate": "number given twice",
    "swap": "neighbours out of order",
    "mirrored": "wrong side or jaw",
    "contact": "touching that cannot be",
    "outlier": "unusual size or shape",
}
_STYLE = (
    """
:root { color-scheme: light; --line: #d5dae1; --panel: #f5f7f9; --dim: #5d6673; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1180px; padding: 16px; background: #fff; color: #1a1d22;
       font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
h1 { font-size: 1.5rem; margin: .2em 0 .4em; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 1.8em 0 .5em; }
a { color: #0057b8; }
.verdict { font-size: 1.1rem; margin: 0 0 16px; padding: 10px 14px; background: var(--panel);
           border-left: 6px solid #4a7d4a; border-radius: 4px; }
.verdict.error { border-color: #c23a12; } .verdict.warning { border-color: #e0a100; }
.verdict.none { border-color: #8a93a0; }
.overview { display: block; width: 100%; height: auto; border-radius: 8px; }
.numbers, dl { display: flex; flex-wrap: wrap; gap: 8px; margin: 0 0 16px; }
.numbers div { flex: 1 1 120px; }
dl div { flex: 1 1 220px; }
.numbers div, dl div { background: var(--panel); border: 1px solid var(--line); border-radius: 8px; padding: 8px 12px; }
.numbers b { display: block; font-size: 1.5rem; }
dt, .numbers span, caption, .dim { color: var(--dim); font-size: .85rem; }
dd { margin: 0; overflow-wrap: anywhere; }
.sides { display: flex; justify-content: space-between; color: var(--dim); font-size: .85rem; max-width: 900px;
         margin: 0 auto; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding-bottom: 4px; }
th, td { text-align: left; padding: 7px 10px 7px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--dim); font-weight: 600; font-size: .85rem; }
td.n, th.n { text-align: right; padding-right: 18px; }
td.n, th, td.name, td.severity, td.place { white-space: nowrap; }
td.place { font-size: .9rem; }
.unsound { font-weight: 700; color: #a82a00; }
tr:target { background: #fff6d6; }
.findings img { display: block; width: 284px; max-width: none; height: auto; }
.findings .evidence { min-width: 16em; }
.findings small { display: block; color: var(--dim); line-height: 1.3; }
footer { margin-top: 2em; border-top: 1px solid var(--line); padding-top: 1em; color: var(--dim); }
"""
    + tooth_chart.STYLE
    + teeth_3d.STYLE
    + """
@media print, (max-width: 860px) {
  .findings thead { display: none; }
  .findings tbody, .findings table, .findings caption { display: block; }
  .findings tr { display: block; border-bottom: 1px solid var(--line); padding: 10px 0; }
  .findings td { display: block; border: 0; padding: 1px 0; text-align: left; }
  .findings td.short { display: inline-block; margin-right: 16px; }
  .findings td:empty { display: none; }
  .findings td::before { content: attr(data-name) ": "; color: var(--dim); }
  .findings td.severity::before, .findings td.picture::before, .findings td.evidence::before { content: none; }
  .findings small { display: inline; }
  .findings small::before { content: " ("; } .findings small::after { content: ")"; }
  .findings img { width: 100%; max-width: 420px; margin: 4px 0; }
}
@media (max-width: 640px) { .overview { width: 900px; max-width: none; } }
@media print {
  @page { margin: 12mm; }
  body { max-width: none; padding: 0; font-size: 10pt; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  .scroll { overflow: visible; }
  tr, .chart, .numbers, .overview, dl div { break-inside: avoid; } h2 { break-after: avoid; }
  thead { display: table-header-group; }
  h2 { margin-top: 1.2em; } th, td, td.n, th.n { padding: 3px 6px 3px 0; }
  table, td.place { font-size: 8.5pt; } th { white-space: normal; }
  .measures table { font-size: 7.5pt; } .measures td, .measures td.n, .measures th.n { padding-right: 4px; }
  .overview { width: 100%; }
  .findings td:not(.evidence, .picture, :empty) { display: inline-block; margin-right: 12px; }
  .illustrated tr { position: relative; padding-right: 62mm; min-height: 31mm; }
  .illustrated td.picture { position: absolute; top: 2mm; right: 0; }
  .findings img { width: 56mm; margin: 0; } a { color: inherit; text-decoration: none; }
}
"""
)


def write_html(
    report: Mapping[str, Any],
    preview_png: Path | bytes | None,
    path: str | Path,
    pictures: Mapping[int, bytes] | None = None,
    meshes: Mapping[int, TriangleMesh] | None = None,
    measures: Iterable[Mapping[str, Any]] = (),
) -> None:
    """Write the page of ``report`` to ``path``, with the preview (a PNG file or its bytes, if any) inside.

    ``pictures`` are PNGs of the findings' places by finding id, from
    :func:`ToothTopoSegLib.evaluation.finding_pictures.finding_pictures`; ``meshes`` are the teeth by FDI number in LPS
    mm, from :func:`ToothTopoSegLib.surfaces.display.display_surfaces`; without any there is no 3D view.
    ``measures`` are rows of :func:`ToothTopoSegLib.measurements.table.rows_of`; without any there are volumes only.
    Raises InputError if the preview cannot be read and OutputError if the page cannot be written.
    """
    png = None if preview_png is None else _png(preview_png)
    page = _page(report, png, pictures or {}, meshes or {}, list(measures))
    path = Path(path)
    temporary = path.with_name(f".{path.name}.part")
    try:
        temporary.write_text(page, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OutputError(
            f"The report page cannot be written to {path} ({error.strerror or error}); "
            "choose a folder that can be written and has space."
        ) from error


def write_check_page(
    report: Mapping[str, Any], labels: Volume, scan: Volume | None, findings: Sequence[Finding], path: Path
) -> None:
    """Draw all pictures of a checked label map (FDI numbers, with or without its scan) and write the page to ``path``.

    Without a scan the overview shows the teeth themselves, as an X-ray would show them without any tissue around.
    Raises OutputError if the page cannot be written.
    """
    import tempfile
    from contextlib import suppress

    from ToothTopoSegLib.evaluation.finding_pictures import finding_pictures
    from ToothTopoSegLib.evaluation.preview import draw_preview
    from ToothTopoSegLib.imaging.canonical import to_canonical
    from ToothTopoSegLib.measurements.table import rows_of
    from ToothTopoSegLib.measurements.teeth import mouth_measured
    from ToothTopoSegLib.surfaces.display import display_surfaces
    from ToothTopoSegLib.topology.mouth import Mouth

    with suppress(OSError):  # a folder that cannot be made is told when the page is written
        path.parent.mkdir(parents=True, exist_ok=True)
    teeth = to_canonical(labels)
    tissue = _teeth_alone(teeth) if scan is None else to_canonical(scan)
    with tempfile.TemporaryDirectory() as folder:
        preview = Path(folder) / "preview.png"
        draw_preview(tissue, teeth, findings, preview, _title(report.get("input")))
        pictures = finding_pictures(labels, scan, findings)
        measures = rows_of(mouth_measured(Mouth(teeth, None if scan is None else tissue)))
        write_html(report, preview, path, pictures, display_surfaces(teeth), measures)


def page_of(title: str, body: str, style: str = "", policy: str = _POLICY, scripts: str = "") -> str:
    """A whole page in the looks of the report.

    ``title`` is plain text, ``body`` markup, ``style`` further rules, ``scripts`` markup for its end that ``policy``
    must allow.
    """
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{escape(title)}</title>
<style>{_STYLE}{style}</style>
</head>
<body>
{body}
{scripts}
</body>
</html>
"""


def notice(more: str = "") -> str:
    """The foot of a page: what the program is not, and ``more`` plain text."""
    return f"<footer><p><b>{_NOTICE}</b></p>{f'<p>{escape(more)}</p>' if more else ''}</footer>"


def _teeth_alone(labels: Volume) -> Volume:
    """A scan in which only teeth are bright and jaws are dim, in place of one that is not there."""
    import numpy as np

    greys = np.zeros(256, dtype=np.int16)
    greys[list(fdi.JAWS)] = 150
    greys[list(fdi.TEETH)] = 1000
    return labels.with_array(greys[labels.array])


def _png(preview: Path | bytes) -> bytes:
    """The picture's bytes."""
    if isinstance(preview, bytes):
        return preview
    try:
        return preview.read_bytes()
    except OSError as error:
        raise InputError(
            f"The preview picture {preview} cannot be read ({error.strerror or error}); "
            "give the PNG that was written with this report."
        ) from error


def _page(
    report: Mapping[str, Any],
    png: bytes | None,
    pictures: Mapping[int, bytes],
    meshes: Mapping[int, TriangleMesh],
    measures: Sequence[Mapping[str, Any]],
) -> str:
    """The whole page."""
    title = _title(report.get("input"))
    findings = sorted(report.get("findings") or [], key=lambda f: rank(f.get("severity")))
    standing = [finding for finding in findings if finding.get("verdict") != "ignored"]
    teeth = list(report.get("teeth") or [])
    view = teeth_3d.view_3d(meshes, teeth, findings) if meshes else None
    body = f"""<h1>{escape(title)}</h1>
{_verdict(teeth, standing)}
{_numbers(teeth, standing)}
<h2>Tooth chart</h2>
{tooth_chart.tooth_chart(teeth, findings)}
{_in_3d(view)}
{_overview(png)}
<h2>Findings</h2>
{_findings_table(findings, pictures, view is not None)}
<h2>Measurements</h2>
{_measures_table(teeth, measures)}
<h2>Labels</h2>
{_teeth_table(teeth)}
<h2>Summary, time and memory</h2>
{_facts(_flat(report, ("summary", "timing_s", "peak_rss_mb")))}
<h2>Scan</h2>
{_facts(_flat(report, ("input",)))}
<h2>Model and limits</h2>
{_facts(_flat(report, ("model",)))}
{notice(str(report.get("schema", "")))}"""
    return page_of(f"{title}: teeth", body, policy=_policy(view), scripts=view.scripts if view else "")


def _policy(view: View3d | None) -> str:
    """What a browser may do with the page: scripts are named by their digest."""
    return f"{_POLICY}; script-src {view.allowed}" if view else _POLICY


def _in_3d(view: View3d | None) -> str:
    return f"<h2>Teeth in 3D</h2>\n{view.html}" if view else ""


def _overview(png: bytes | None) -> str:
    if png is None:
        return ""
    picture = _image(png, "Panoramic view, three slices, tooth chart and list of findings", "overview")
    return f'<h2>Overview</h2>\n<div class="scroll">{picture}</div>'


def _image(png: bytes, words: str, style: str = "") -> str:
    data = base64.b64encode(png).decode("ascii")
    return f'<img class="{style}" alt="{escape(words)}" src="data:image/png;base64,{data}">'


def _title(source: object) -> str:
    """The scan's name, from what the report says of its input."""
    if isinstance(source, Mapping):
        source = next((source[key] for key in ("name", "case", "path", "file") if source.get(key)), None)
    # Both kinds of separators: a report from Windows may be read elsewhere.
    return str(source).replace("\\", "/").rstrip("/").rsplit("/", 1)[-1] if source else "Scan"


def _verdict(teeth: Sequence[Mapping[str, Any]], findings: Sequence[Mapping[str, Any]]) -> str:
    """One plain sentence: can this be used as it is, and where not."""
    grave = {name: [f for f in findings if f.get("severity") == name] for name in ("error", "warning")}
    found = _counted(len(_present(teeth)), "tooth was", "teeth were") + " found"
    if not _present(teeth):
        return _sentence("none", "No teeth were found: there is nothing to judge.")
    if grave["error"]:
        also = f", and {_counted(len(grave['warning']), 'warning', 'warnings')} to look at" if grave["warning"] else ""
        errors = _counted(len(grave["error"]), "anatomical error", "anatomical errors")
        text = f"{found}, with {errors}{_at_teeth(grave['error'])} to correct before the result is used{also}."
        return _sentence("error", text)
    if grave["warning"]:
        warnings = _counted(len(grave["warning"]), "warning", "warnings")
        return _sentence(
            "warning", f"{found} without anatomical errors; look at {warnings}{_at_teeth(grave['warning'])}."
        )
    return _sentence("good", f"{found}, and nothing about them is anatomically impossible.")


def _sentence(style: str, text: str) -> str:
    return f'<p class="verdict {style}">{escape(text)}</p>'


def _counted(n: int, one: str, many: str) -> str:
    return f"{n} {one if n == 1 else many}"


def _at_teeth(findings: Sequence[Mapping[str, Any]]) -> str:
    """Which teeth, as far as a sentence can carry them."""
    named = sorted({int(tooth) for f in findings for tooth in f.get("teeth") or []})
    if not named:
        return ""
    if len(named) > 10:
        return f" at {len(named)} teeth"
    return f" at {'tooth' if len(named) == 1 else 'teeth'} {', '.join(map(str, named))}"


def _numbers(teeth: Sequence[Mapping[str, Any]], findings: Sequence[Mapping[str, Any]]) -> str:
    """The four numbers one wants first."""
    boxes = [f"<div><b>{len(_present(teeth))}</b><span>teeth found</span></div>"]
    for severity, name in (("error", "errors"), ("warning", "warnings"), ("info", "notes")):
        n = sum(f.get("severity") == severity for f in findings)
        boxes.append(f"<div><b>{badge(severity, 0.9) if n else ''} {n}</b><span>{name}</span></div>")
    return f'<div class="numbers">{"".join(boxes)}</div>'


def _present(teeth: Iterable[Mapping[str, Any]]) -> set[int]:
    return {int(tooth["fdi"]) for tooth in teeth if tooth.get("present", True)}


def _findings_table(findings: Sequence[Mapping[str, Any]], pictures: Mapping[int, bytes], in_3d: bool) -> str:
    """One row a finding, the gravest first, with a link to its place ``in_3d``."""
    if not findings:
        return "<p>No findings.</p>"
    names = ["No.", "Severity", "Kind", "Teeth", "Evidence", "Size", "Place (LPS mm)", "Repair"]
    if pictures:
        names.append("Picture")
    body = "".join(_finding_row(finding, names, pictures, in_3d) for finding in findings)
    caption = f"<caption>{_about_pictures(findings, pictures)}</caption>" if pictures else ""
    return _table(
        [f"<th>{name}</th>" for name in names],
        body,
        style="findings illustrated" if pictures else "findings",
        caption=caption,
    )


def _about_pictures(findings: Sequence[Mapping[str, Any]], pictures: Mapping[int, bytes]) -> str:
    text = (
        "Pictures show 30 mm: an axial cut, and a coronal or sagittal one, with the patient’s right (R) or front (A) "
        "at the left. Blue: the teeth named; orange: what is concerned; ring: the place; bar: 10 mm."
    )
    if len(pictures) < len(findings):
        text += f" {len(pictures)} of {len(findings)} findings have a picture, the gravest first."
    return text


def _finding_row(finding: Mapping[str, Any], names: Sequence[str], pictures: Mapping[int, bytes], in_3d: bool) -> str:
    """The cells carry their column's name, because a phone shows them below each other without the head."""
    severity, kind = str(finding.get("severity")), str(finding.get("kind"))
    number, size = finding.get("id"), finding.get("size_mm3")
    meaning = f"<small>{_MEANING[kind]}</small>" if kind in _MEANING else ""
    png = pictures.get(number) if isinstance(number, int) else None
    note = f": {finding['note']}" if finding.get("note") else ""
    ignored = f"<small>Ignored{escape(note)}</small>" if finding.get("verdict") == "ignored" else ""
    cells = {
        "No.": ("short", _text(number)),
        "Severity": ("severity short", f"{badge(severity)} {_text(finding.get('severity'))}"),
        "Kind": ("", f"{_text(finding.get('kind'))}{meaning}"),
        "Teeth": ("short", f"{_text(finding.get('teeth') or [])} {_shown(finding) if in_3d else ''}"),
        "Evidence": ("evidence", _text(finding.get("evidence")) + ignored),
        "Size": ("name short", f"{_number(size)} mm³" if size else ""),
        "Place (LPS mm)": ("place", _position(finding.get("position_lps_mm"))),
        "Repair": ("", _text(finding.get("repair"))),
        "Picture": ("picture", _image(png, f"Cuts through the place of finding {number}") if png else ""),
    }
    row = "".join(f'<td class="{cells[n][0]}" data-name="{n}">{cells[n][1]}</td>' for n in names)
    return f'<tr id="{escape(anchor(finding))}" class="{severity if severity in SEVERITIES else ""}">{row}</tr>'


def _shown(finding: Mapping[str, Any]) -> str:
    """The link from a finding to its teeth and place in the 3D view."""
    place = finding.get("position_lps_mm")
    named = f"Finding {finding.get('id')}: {_plain(finding.get('kind'))} {_plain(finding.get('teeth') or [])}"
    return show_link([int(tooth) for tooth in finding.get("teeth") or []], named, list(place) if place else None)


def _measures_table(teeth: Sequence[Mapping[str, Any]], measures: Sequence[Mapping[str, Any]]) -> str:
    """One row a tooth that is there, its volume from the report and what else was measured."""
    from ToothTopoSegLib.measurements.table import COLUMNS

    present = [tooth for tooth in teeth if _present([tooth])]
    if not present:
        return "<p>No teeth found.</p>"
    columns = [column for column in COLUMNS if column.name in _MEASURES] if measures else []
    names = [f"{c.title} ({c.unit})" if c.unit else c.title.replace("/", "/&#8203;") for c in columns]
    measured = {row["fdi"]: row for row in measures}
    rows = []
    for tooth in present:
        row = measured.get(int(tooth["fdi"]), {})
        figures = [_measured(row, column) for column in columns]
        rows.append(_row_of(tooth, [_number(tooth.get("volume_mm3")), *figures], anchored=True))
    head = ["<th>FDI</th>", "<th>Tooth</th>", *(f'<th class="n">{name}</th>' for name in ["Volume (mm³)", *names])]
    caption = f"<caption>{escape(_ABOUT_MEASURES)}</caption>" if measures else ""
    return _table(head, "".join(rows), "measures", caption)


def _measured(row: Mapping[str, Any], column: Column) -> str:
    """The figure of one measure of a tooth, of a distance with the tooth it leads to."""
    figure = _measure(row.get(column.name), 2 if column.unit == "" else 1)
    other = row.get(_NEIGHBOURS.get(column.name, ""))
    return figure if other is None else f"{figure} ({other})"


def _measure(value: object, digits: int) -> str:
    """A figure with a true minus, or a dash where there is none."""
    return f"{value:.{digits}f}".replace("-", "−") if isinstance(value, (int, float)) else "–"


def _row_of(tooth: Mapping[str, Any], figures: Iterable[str], anchored: bool = False) -> str:
    """A row of a table of teeth: number, name and figures; ``anchored`` where links to the tooth lead to."""
    number = int(tooth["fdi"])
    name = escape(fdi.name(number)) if fdi.is_tooth(number) else ""
    cells = "".join(f'<td class="n">{figure}</td>' for figure in figures)
    place = f' id="tooth-{number}"' if anchored else ""
    return f'<tr{place}><td>{number}</td><td class="name">{name}</td>{cells}</tr>'


def _teeth_table(teeth: Sequence[Mapping[str, Any]]) -> str:
    """One row a tooth that is there; other Betti numbers than those of a sound tooth stand out."""
    body = "".join(_tooth_row(tooth) for tooth in teeth if _present([tooth]))
    if not body:
        return "<p>No teeth found.</p>"
    figures = ("Voxels", "Pieces, tunnels, voids", "Centre (LPS mm)")
    head = ["<th>FDI</th>", "<th>Tooth</th>", *(f'<th class="n">{name}</th>' for name in figures)]
    caption = "<caption>Pieces, tunnels and voids (the Betti numbers): a sound tooth has 1, 0, 0.</caption>"
    return _table(head, body, caption=caption)


def _tooth_row(tooth: Mapping[str, Any]) -> str:
    betti = list(tooth.get("betti") or [])
    shape = _text(betti) if betti == [1, 0, 0] else f'<b class="unsound">{_text(betti)}</b>'
    return _row_of(tooth, [_text(tooth.get("voxels")), shape, _position(tooth.get("centroid_lps_mm"))])


def _table(head: Iterable[str], body: str, style: str = "", caption: str = "") -> str:
    """A table that scrolls sideways by itself where the screen is narrower."""
    return (
        f'<div class="scroll {style}"><table>{caption}<thead><tr>{"".join(head)}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _flat(report: Mapping[str, Any], keys: Iterable[str]) -> list[tuple[str, str]]:
    """Some branches of the report as (name, value) pairs, nested names joined by a space."""
    pairs: list[tuple[str, str]] = []

    def walk(name: str, value: object) -> None:
        if isinstance(value, Mapping):
            for key, inner in value.items():
                walk(f"{name} {key}".strip().replace("_", " "), inner)
        else:
            pairs.append((name, _plain(value)))

    for key in keys:
        if report.get(key) is not None:
            walk("" if isinstance(report[key], Mapping) and key != "timing_s" else key.replace("_", " "), report[key])
    return pairs


def _facts(pairs: Sequence[tuple[str, str]]) -> str:
    """Pairs as a definition list."""
    if not pairs:
        return '<p class="dim">Not recorded.</p>'
    return "<dl>" + "".join(f"<div><dt>{escape(n)}</dt><dd>{escape(v)}</dd></div>" for n, v in pairs) + "</dl>"


def _text(value: object) -> str:
    """A value as escaped text; nothing for None."""
    return escape(_plain(value))


def _plain(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, (list, tuple)):
        return ", ".join(_plain(item) for item in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) and abs(value) < 1e4 else str(value)


def _number(value: object) -> str:
    """A measure with one decimal."""
    return f"{value:.1f}" if isinstance(value, (int, float)) else _text(value)


def _position(value: object) -> str:
    """Three coordinates with one decimal."""
    return ", ".join(_number(v) for v in value) if isinstance(value, (list, tuple)) else _text(value)
