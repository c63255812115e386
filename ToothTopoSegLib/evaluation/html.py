"""The report as one web page that needs nothing else: it opens anywhere, offline, on a phone or a desktop.

In go the report as the JSON contract has it (schema ``toothtoposeg.report/1``) and the preview picture; out comes a
single HTML file with the picture, the tooth chart, the findings, the measurements and the model's limits. There is
no script, no network access and no markup from the data: every text is escaped.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from ToothTopoSegLib.anatomy import colours, fdi
from ToothTopoSegLib.errors import InputError, OutputError

_SEVERITIES = ("error", "warning", "info")
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_NOTICE = (
    "ToothTopoSeg is research software and not a medical device. It must not be the sole basis of a diagnosis or "
    "treatment; a dentist has to check every tooth."
)
_STYLE = """
:root { color-scheme: dark; --line: #3e4450; --panel: #181b21; --dim: #a3abb8; --error: #ff5252; --warning: #ffb733; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1240px; padding: 16px; background: #0d0f13; color: #e2e6ec;
       font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
h1 { font-size: 1.5rem; margin: .2em 0 .6em; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 1.6em 0 .5em; }
img { display: block; width: 100%; height: auto; border: 1px solid var(--line); border-radius: 8px; }
.numbers, dl { display: flex; flex-wrap: wrap; gap: 8px; margin: 0 0 16px; }
.numbers div { flex: 1 1 120px; }
dl div { flex: 1 1 220px; }
.numbers div, dl div { background: var(--panel); border: 1px solid var(--line); border-radius: 8px; padding: 8px 12px; }
.numbers b { display: block; font-size: 1.5rem; }
dt, .numbers span, caption, .dim { color: var(--dim); font-size: .85rem; }
dd { margin: 0; overflow-wrap: anywhere; }
.arch { display: grid; grid-template-columns: repeat(16, minmax(0, 1fr)); gap: 3px; margin-bottom: 3px; }
.milk { grid-template-columns: repeat(10, minmax(0, 1fr)); width: 62.5%; margin-inline: auto; }
.tooth { padding: 10px 0; text-align: center; border-radius: 6px; border: 3px solid transparent; font-size: .95rem; }
.absent { border: 1px dashed var(--line); color: var(--dim); padding: 12px 0; }
.tooth.error { border: 3px solid var(--error); } .tooth.warning { border: 3px solid var(--warning); }
.sides { display: flex; justify-content: space-between; color: var(--dim); font-size: .85rem; margin-bottom: 4px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding-bottom: 4px; }
th, td { text-align: left; padding: 6px 10px; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--dim); font-weight: 600; }
td.n, th.n { text-align: right; }
td.n, th, td.name { white-space: nowrap; }
td.error, b.error { color: var(--error); } td.warning, b.warning { color: var(--warning); }
footer { margin-top: 2em; border-top: 1px solid var(--line); padding-top: 1em; color: var(--dim); }
@media (max-width: 640px) {
  .arch { gap: 1px; } .tooth { font-size: .62rem; padding: 8px 0; border-radius: 4px; border-width: 2px !important; }
  .findings thead { display: none; }
  .findings tr { display: block; border-bottom: 1px solid var(--line); padding: 6px 0; }
  .findings td { display: block; border: 0; padding: 1px 0; text-align: left; }
  .findings td:empty { display: none; }
  .findings td::before { content: attr(data-name) ": "; color: var(--dim); }
}
"""


def write_html(report: Mapping[str, Any], preview_png: Path | bytes, path: str | Path) -> None:
    """Write the page of ``report`` with the preview (a PNG file or its bytes) inside to ``path``.

    Raises InputError if the preview cannot be read and OutputError if the page cannot be written.
    """
    page = _page(report, _png(preview_png))
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


def _page(report: Mapping[str, Any], png: bytes) -> str:
    """The whole page."""
    title = _title(report.get("input"))
    findings = sorted(report.get("findings") or [], key=lambda f: _rank(f.get("severity")))
    teeth = list(report.get("teeth") or [])
    picture = base64.b64encode(png).decode("ascii")
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>{escape(title)}: teeth</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>{escape(title)}</h1>
{_numbers(teeth, findings)}
<img alt="Panoramic view, three slices and tooth chart" src="data:image/png;base64,{picture}">
<h2>Tooth chart</h2>
{_chart(teeth, findings)}
<h2>Findings</h2>
{_findings_table(findings)}
<h2>Measurements</h2>
{_teeth_table(teeth)}
<h2>Summary, time and memory</h2>
{_facts(_flat(report, ("summary", "timing_s", "peak_rss_mb")))}
<h2>Scan</h2>
{_facts(_flat(report, ("input",)))}
<h2>Model and limits</h2>
{_facts(_flat(report, ("model",)))}
<footer><p><b>{_NOTICE}</b></p><p>{escape(str(report.get("schema", "")))}</p></footer>
</body>
</html>
"""


def _title(source: object) -> str:
    """The scan's name, from what the report says of its input."""
    if isinstance(source, Mapping):
        source = next((source[key] for key in ("name", "case", "path", "file") if source.get(key)), None)
    # Both kinds of separators: a report from Windows may be read elsewhere.
    return str(source).replace("\\", "/").rstrip("/").rsplit("/", 1)[-1] if source else "Scan"


def _rank(severity: object) -> int:
    return _SEVERITIES.index(str(severity)) if severity in _SEVERITIES else len(_SEVERITIES)


def _numbers(teeth: Sequence[Mapping[str, Any]], findings: Sequence[Mapping[str, Any]]) -> str:
    """The four numbers one wants first."""
    boxes = [f"<div><b>{len(_present(teeth))}</b><span>teeth found</span></div>"]
    for severity, name in (("error", "errors"), ("warning", "warnings"), ("info", "notes")):
        n = sum(f.get("severity") == severity for f in findings)
        boxes.append(f'<div><b class="{severity if n else ""}">{n}</b><span>{name}</span></div>')
    return f'<div class="numbers">{"".join(boxes)}</div>'


def _present(teeth: Iterable[Mapping[str, Any]]) -> set[int]:
    return {int(tooth["fdi"]) for tooth in teeth if tooth.get("present", True)}


def _chart(teeth: Sequence[Mapping[str, Any]], findings: Sequence[Mapping[str, Any]]) -> str:
    """Both arches, and those of the milk teeth where there are any, with the patient's right at the left."""
    present = _present(teeth)
    worst: dict[int, str] = {}
    for finding in reversed(findings):
        if finding.get("severity") in ("error", "warning"):
            worst.update(dict.fromkeys((int(tooth) for tooth in finding.get("teeth") or []), finding["severity"]))
    milk = any(fdi.is_tooth(tooth) and fdi.is_deciduous(tooth) for tooth in present)
    arches: list[tuple[tuple[int, ...], str]] = [(fdi.UPPER_PERMANENT, "arch"), (fdi.LOWER_PERMANENT, "arch")]
    if milk:
        arches[1:1] = [(fdi.UPPER_DECIDUOUS, "arch milk"), (fdi.LOWER_DECIDUOUS, "arch milk")]
    rows = "".join(
        f'<div class="{style}">{"".join(_chart_tooth(t, t in present, worst.get(t, "")) for t in arch)}</div>'
        for arch, style in arches
    )
    sides = '<div class="sides"><span>Right of the patient</span><span>Left of the patient</span></div>'
    legend = "Filled: present. Dashed: absent. Red or amber frame: an error or warning names this tooth."
    return f'{sides}{rows}<p class="dim">{legend}</p>'


def _chart_tooth(tooth: int, there: bool, severity: str) -> str:
    """One box of the chart; what colours say is in its title too."""
    state = ("present" if there else "absent") + (f", {severity}" if severity else "")
    style = ""
    if there:
        red, green, blue = (round(255 * channel) for channel in colours.colour_of(tooth))
        text = "#08090c" if 0.299 * red + 0.587 * green + 0.114 * blue > 110 else "#f4f6f9"
        style = f' style="background: rgb({red},{green},{blue}); color: {text}"'
    classes = " ".join(filter(None, ("tooth", "present" if there else "absent", severity)))
    return f'<div class="{classes}"{style} title="{tooth} {escape(fdi.name(tooth))}: {state}">{tooth}</div>'


def _findings_table(findings: Sequence[Mapping[str, Any]]) -> str:
    """One row a finding, the gravest first."""
    if not findings:
        return "<p>No findings.</p>"
    names = ("No.", "Severity", "Kind", "Teeth", "Evidence", "Size (mm³)", "Position (LPS mm)", "Repair")
    body = "".join(_finding_row(finding, names) for finding in findings)
    return _table([f"<th>{name}</th>" for name in names], body, style="findings")


def _finding_row(finding: Mapping[str, Any], names: Sequence[str]) -> str:
    """The cells carry their column's name, because a phone shows them below each other without the head."""
    severity = str(finding.get("severity"))
    values = (
        _text(finding.get("id")),
        _text(finding.get("severity")),
        _text(finding.get("kind")),
        _text(finding.get("teeth") or []),
        _text(finding.get("evidence")),
        _number(finding.get("size_mm3")),
        _position(finding.get("position_lps_mm")),
        _text(finding.get("repair")),
    )
    colour = severity if severity in _SEVERITIES else ""
    cells = (
        f'<td class="{colour if name == "Severity" else ""}" data-name="{name}">{value}</td>'
        for name, value in zip(names, values, strict=True)
    )
    return f"<tr>{''.join(cells)}</tr>"


def _teeth_table(teeth: Sequence[Mapping[str, Any]]) -> str:
    """One row a tooth that is there; Betti numbers of a sound tooth are 1, 0, 0."""
    body = "".join(_tooth_row(tooth) for tooth in teeth if _present([tooth]))
    if not body:
        return "<p>No teeth found.</p>"
    figures = ("Volume (mm³)", "Voxels", "Betti 0, 1, 2", "Centre (LPS mm)")
    head = ["<th>FDI</th>", "<th>Tooth</th>", *(f'<th class="n">{name}</th>' for name in figures)]
    caption = "<caption>Betti numbers count pieces, tunnels and voids; a sound tooth has 1, 0, 0.</caption>"
    return _table(head, body, caption=caption)


def _tooth_row(tooth: Mapping[str, Any]) -> str:
    number = int(tooth["fdi"])
    figures = (
        _number(tooth.get("volume_mm3")),
        _text(tooth.get("voxels")),
        _text(tooth.get("betti") or []),
        _position(tooth.get("centroid_lps_mm")),
    )
    cells = "".join(f'<td class="n">{figure}</td>' for figure in figures)
    name = fdi.name(number) if fdi.is_tooth(number) else ""
    return f'<tr><td>{number}</td><td class="name">{escape(name)}</td>{cells}</tr>'


def _table(head: Iterable[str], body: str, style: str = "", caption: str = "") -> str:
    """A table that scrolls sideways by itself where the screen is narrower."""
    return (
        f'<div class="scroll"><table class="{style}">{caption}<thead><tr>{"".join(head)}</tr></thead>'
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
