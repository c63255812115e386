"""The tooth chart: both arches as a dentist draws them, each tooth coloured by what was found there.

In go the teeth and findings of a report (schema ``toothtoposeg.report/1``), out comes the chart as data for whoever
draws it (:func:`lay_out`), or as inline SVG with its legend as HTML text (:func:`tooth_chart`). The patient's right is
at the picture's left; teeth are seen from the cheek, drawn from the average sizes of
:mod:`ToothTopoSegLib.anatomy.sizes`, upper roots up. No state is told by colour alone: each has a sign, a hatching or
a dashed line of its own. There is no script; text of the data is escaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from ToothTopoSegLib.anatomy import fdi
from ToothTopoSegLib.anatomy.sizes import ToothSize, size_of

Point = tuple[float, float]
Curve = tuple[Point, Point, Point]
"""A cubic Bezier curve from where the one before ends: its two control points and its end."""
SEVERITIES = ("error", "warning", "info")

STYLE = """
.chart svg { display: block; width: 100%; max-width: 900px; height: auto; margin: 0 auto; }
.chart .body { fill: #fffdf5; stroke: #4a5260; stroke-width: .45; }
.chart .neck { fill: none; stroke: #4a5260; stroke-width: .3; }
.chart .info .body { fill: #d3e6f7; }
.chart .warning .body { fill: #ffd667; }
.chart .error .body { fill: #e8663f; }
.chart .error .body, .chart .warning .body { stroke: #1a1d22; stroke-width: .6; }
.chart .ignored .body { fill: #e3e6ea; }
.chart .absent .body { fill: #fff; stroke: #8a93a0; stroke-width: .4; stroke-dasharray: 1 1; }
.chart .absent.warning .body { stroke: #7a5200; stroke-width: .6; stroke-dasharray: 1.8 1; }
.chart .absent.error .body { stroke: #a82a00; stroke-width: .6; stroke-dasharray: 1.8 1; }
.chart .cross { stroke: #1a1d22; stroke-width: .7; stroke-linecap: round; }
.chart text { font: 600 4px system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; fill: #1a1d22;
              text-anchor: middle; }
.chart .absent text { fill: #5d6673; font-weight: 400; }
.chart a:hover .body, .chart a:focus .body { stroke: #0057b8; stroke-width: 1; }
.chart .midline { stroke: #b4bbc6; stroke-width: .3; }
.badge { vertical-align: -.2em; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 18px; list-style: none; padding: 0; margin: 8px 0 0;
          font-size: .9rem; justify-content: center; }
.legend li { display: flex; align-items: center; gap: 6px; }
.legend svg { width: 17px; max-width: none; height: 34px; margin: 0; flex: none; }
@media (max-width: 640px) {
  .chart text { font-size: 5px; }
  .legend { justify-content: flex-start; }
}
"""

_GAP_MM = 0.9
_MIDDLE_MM = 2.4
_NUMBER_MM = 6.0
_ROW_GAP_MM = 3.0
_LEAST_COLUMN_MM = 7.2
_TEXT_DROP = 1.5
_HATCH = """<defs>
<pattern id="hatch-warning" width="2" height="2" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">
<path d="M0 0V2" stroke="#7a5200" stroke-width=".5"/></pattern>
<pattern id="hatch-error" width="1.8" height="1.8" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">
<path d="M0 0V1.8M0 0H1.8" stroke="#5e1500" stroke-width=".5"/></pattern>
</defs>"""
# Outlines of badges about 0, 0: a diamond, a triangle and a disc are told apart without reading or colour.
_BADGES = {
    "error": ("M0 -3L3 0L0 3L-3 0Z", "#8f1d00", "#fff", "!"),
    "warning": ("M0 -3L3.1 2.4H-3.1Z", "#ffd667", "#1a1d22", "!"),
    "info": ("M-2.4 0a2.4 2.4 0 1 0 4.8 0a2.4 2.4 0 1 0 -4.8 0Z", "#0b5cad", "#fff", "i"),
}


@dataclass(frozen=True)
class State:
    """What the chart tells of one tooth: whether it is there, the gravest severity, and the words for it.

    ``ignored`` where all that was found there was ignored by a person; then it has no severity.
    """

    present: bool
    severity: str
    words: str
    link: str
    ignored: bool = False

    @property
    def is_gap(self) -> bool:
        """Whether a tooth is missing that should be there, rather than absent or out of view."""
        return not self.present and self.severity in ("error", "warning")

    @property
    def classes(self) -> str:
        """Names for the style sheet and for tests."""
        there = "present" if self.present else "absent"
        return " ".join(filter(None, ("tooth", there, self.severity, "ignored" if self.ignored else "")))


@dataclass(frozen=True)
class Outline:
    """A closed curve in mm through points of a tooth seen from the cheek; see :func:`crown_and_roots` for its axes."""

    start: Point
    curves: tuple[Curve, ...]


@dataclass(frozen=True)
class ChartTooth:
    """One tooth in its place on the chart, in mm from the chart's upper left corner.

    ``outline`` is to be scaled by (``across``, ``down``) and moved to (``x``, ``edge``), the middle of the biting edge;
    it is None where only the number is shown. The number stands about (``x``, ``number_y``), the sign about
    (``x``, ``sign_y``).
    """

    fdi: int
    state: State
    x: float
    edge: float
    across: float
    down: int
    number_y: float
    sign_y: float
    outline: Outline | None


@dataclass(frozen=True)
class Chart:
    """The laid-out chart: its size in mm and its teeth, row by row from above, each from the patient's right."""

    width: float
    height: float
    teeth: tuple[ChartTooth, ...]


def tooth_chart(teeth: Sequence[Mapping[str, Any]], findings: Sequence[Mapping[str, Any]]) -> str:
    """HTML of the chart and its legend, from the lists ``teeth`` and ``findings`` of a report.

    A tooth links to the row of its gravest finding (``#finding-<id>``), else to its own row (``#tooth-<fdi>``).
    Deciduous rows are drawn only where a deciduous tooth is there or named.
    """
    present = {int(tooth["fdi"]) for tooth in teeth if tooth.get("present", True)}
    sides = '<div class="sides"><span>Patient’s right</span><span>Patient’s left</span></div>'
    return f'<div class="chart">{sides}{_drawing(lay_out(present, findings))}{_legend()}</div>'


def lay_out(present: Iterable[int], findings: Sequence[Mapping[str, Any]]) -> Chart:
    """Places and states of all teeth to be drawn, from the FDI numbers that are there and the findings of a report.

    Deciduous rows are there only where a deciduous tooth is there or named.
    """
    there = frozenset(present)
    states = {tooth: state_of(tooth, tooth in there, findings) for tooth in fdi.TEETH}
    milk = any(fdi.is_deciduous(t) and (s.present or s.severity) for t, s in states.items())
    rows: list[tuple[int, ...]] = [fdi.UPPER_PERMANENT, fdi.LOWER_PERMANENT]
    if milk:
        rows[1:1] = [fdi.UPPER_DECIDUOUS, fdi.LOWER_DECIDUOUS]
    width = 2 * _column_left(9) + 2
    placed, top = [], 1.0
    for row in rows:
        tall = max(size_of(tooth).length for tooth in row) + _NUMBER_MM
        # The biting edges lie towards the middle of the chart, the numbers between them.
        edge = top + tall - _NUMBER_MM if fdi.is_upper(row[0]) else top + _NUMBER_MM
        placed += [_placed(tooth, states[tooth], width / 2, edge) for tooth in row]
        top += tall + _ROW_GAP_MM
    return Chart(width, top - _ROW_GAP_MM + 1, tuple(placed))


def state_of(tooth: int, present: bool, findings: Iterable[Mapping[str, Any]]) -> State:
    """The state of one tooth; a missing tooth told as mere information only may not be in view.

    Findings whose ``verdict`` is that they are ignored or repaired do not count.
    """
    named = [f for f in findings if tooth in (f.get("teeth") or [])]
    naming = [f for f in named if f.get("verdict", "open") == "open"]
    ignored = not naming and any(f.get("verdict") == "ignored" for f in named)
    naming.sort(key=lambda f: rank(f.get("severity")))
    worst = str(naming[0].get("severity")) if naming and rank(naming[0].get("severity")) < len(SEVERITIES) else ""
    if present:
        words = {"": "present, no finding", "info": "present, with a note"}.get(worst, f"present, {worst}")
    else:
        words = "not found; absent or not in view" if worst in ("", "info") else "missing"
    evidence = "\n".join(str(f.get("evidence") or "") for f in naming)
    link = anchor(naming[0]) if naming else (f"tooth-{tooth}" if present else "")
    words += ", finding ignored" if ignored else ""
    return State(present, worst, f"{words}\n{evidence}".strip(), link, ignored)


def anchor(finding: Mapping[str, Any]) -> str:
    """The name of a finding's row on the page; nothing without a number."""
    number = finding.get("id")
    return f"finding-{number}" if isinstance(number, int) else ""


def rank(severity: object) -> int:
    """0 for an error, growing as findings get lighter; unknown severities come last."""
    return SEVERITIES.index(str(severity)) if severity in SEVERITIES else len(SEVERITIES)


def badge(severity: str, em: float = 1.1) -> str:
    """The sign of a severity as a small picture for running text; nothing for an unknown severity."""
    if severity not in _BADGES:
        return ""
    return f'<svg class="badge" width="{em}em" height="{em}em" viewBox="-3.4 -3.4 6.8 6.8">{_sign(severity)}</svg>'


def sign(severity: str, pixels: int) -> str:
    """The same sign as an SVG file of its own, so many pixels wide and high; nothing for an unknown severity."""
    if severity not in _BADGES:
        return ""
    size = f'xmlns="http://www.w3.org/2000/svg" width="{pixels}" height="{pixels}" viewBox="-3.4 -3.4 6.8 6.8"'
    return f"<svg {size}>{_sign(severity)}</svg>"


# --- the drawing -------------------------------------------------------------------------------------------------


def _drawing(chart: Chart) -> str:
    middle = f'<path class="midline" d="M{chart.width / 2:.1f} 1V{chart.height - 1:.1f}"/>'
    return (
        f'<svg viewBox="0 0 {chart.width:.1f} {chart.height:.1f}" role="img" aria-label="Tooth chart">'
        f"{_HATCH}{middle}{''.join(map(_tooth, chart.teeth))}</svg>"
    )


def _column_left(position: int) -> float:
    """Distance in mm of a column's mesial side from the midline; permanent and deciduous teeth share columns."""
    return _MIDDLE_MM / 2 + sum(_column_width(p) for p in range(1, position))


def _column_width(position: int) -> float:
    widest = max(size_of(10 * quadrant + position).md_crown for quadrant in (1, 4))
    return max(widest, _LEAST_COLUMN_MM) + _GAP_MM


def _placed(tooth: int, state: State, middle: float, edge: float) -> ChartTooth:
    """One tooth in its column; ``edge`` is the height of its biting edge."""
    distal, down = (1 if fdi.is_left(tooth) else -1), (-1 if fdi.is_upper(tooth) else 1)
    place, size = fdi.position(tooth), size_of(tooth)
    x = middle + distal * (_column_left(place) + _column_width(place) / 2)
    # Milk molars are wider than the premolars whose columns they share.
    across = distal * min(1.0, (_column_width(place) - 0.3) / size.md_crown)
    # A milk tooth that has gone, or has not been looked for, leaves its number only.
    bare = not state.present and fdi.is_deciduous(tooth) and not state.is_gap
    number, sign = edge - down * _NUMBER_MM / 2, edge + down * size.crown_length * 0.55
    return ChartTooth(tooth, state, x, edge, across, down, number, sign, None if bare else outline_of(tooth))


def _tooth(tooth: ChartTooth) -> str:
    """One tooth with its number, sign, hover text and link."""
    state, outline, neck = tooth.state, *crown_and_roots(tooth.fdi)
    shape = f'<path class="body" d="{outline}"/>' if tooth.outline else ""
    if state.present and state.severity in ("error", "warning"):
        shape += f'<path d="{outline}" fill="url(#hatch-{state.severity})"/>'
    shape += f'<path class="neck" d="{neck}"/>' if state.present else ""
    parts = [
        f'<g transform="translate({tooth.x:.2f} {tooth.edge:.2f}) scale({tooth.across:.3g} {tooth.down})">{shape}</g>',
        _mark(state, tooth.x, tooth.sign_y),
        f'<text x="{tooth.x:.2f}" y="{tooth.number_y + _TEXT_DROP:.2f}">{tooth.fdi}</text>',
    ]
    title = f"<title>{tooth.fdi} {escape(fdi.name(tooth.fdi))}: {escape(state.words)}</title>"
    inner = title + "".join(parts)
    if state.link:
        return f'<a class="{state.classes}" data-tooth="{tooth.fdi}" href="#{escape(state.link)}">{inner}</a>'
    return f'<g class="{state.classes}">{inner}</g>'


def _mark(state: State, x: float, y: float) -> str:
    """The sign on the crown: a badge, or a cross where a tooth is missing that should be there."""
    if state.present:
        return f'<g transform="translate({x:.2f} {y:.2f})">{_sign(state.severity)}</g>' if state.severity else ""
    if not state.is_gap:
        return ""
    return f'<path class="cross" d="M{x - 2:.2f} {y - 2:.2f}l4 4m0 -4l-4 4"/>'


def _sign(severity: str) -> str:
    outline, fill, ink, letter = _BADGES[severity]
    # Drawn, not written: a letter of 4 units would not survive a small screen.
    stroke = f'<path d="{outline}" fill="{fill}" stroke="#1a1d22" stroke-width=".4"/>'
    if letter == "i":
        return stroke + f'<path d="M0 -.4V1.5M0 -1.5V-1.4" stroke="{ink}" stroke-width=".8" stroke-linecap="round"/>'
    return stroke + f'<path d="M0 -1.5V.4M0 1.5V1.55" stroke="{ink}" stroke-width=".8" stroke-linecap="round"/>'


def _legend() -> str:
    """Every state with a small tooth, in the order of their gravity."""
    entries = (
        (State(True, "error", "", ""), "error"),
        (State(True, "warning", "", ""), "warning"),
        (State(True, "info", "", ""), "note"),
        (State(True, "", "", ""), "present, no finding"),
        (State(False, "warning", "", ""), "missing"),
        (State(False, "", "", ""), "absent or not in view"),
    )
    items = []
    for state, words in entries:
        outline, _ = crown_and_roots(44)
        hatch = ""
        if state.present and state.severity in ("error", "warning"):
            hatch = f'<path d="{outline}" fill="url(#hatch-{state.severity})"/>'
        drawing = f'<path class="body" d="{outline}"/>{hatch}{_mark(state, 0, 5)}'
        picture = f'<svg viewBox="-5.5 -1 11 24.5" aria-hidden="true"><g class="{state.classes}">{drawing}</g></svg>'
        items.append(f"<li>{picture}{words}</li>")
    return f'<ul class="legend">{"".join(items)}</ul>'


# --- the outline of a tooth --------------------------------------------------------------------------------------


def crown_and_roots(tooth: int) -> tuple[str, str]:
    """SVG path data of a tooth's outline and of its neck line, seen from the cheek, in mm.

    The biting edge lies at y = 0, the root tip at y = length, x grows to distal, 0 is the middle of the tooth.
    """
    size = size_of(tooth)
    half, top = size.md_cervix / 2, size.crown_length
    neck = f"M{-half:.2f} {top:.2f}Q0 {top + 1.4:.2f} {half:.2f} {top:.2f}"
    return _svg_path(outline_of(tooth)), neck


def outline_of(tooth: int) -> Outline:
    """The outline of a tooth in mm, in the axes of :func:`crown_and_roots`."""
    size = size_of(tooth)
    crown = [(x * size.md_crown / 2, y * size.crown_length) for x, y in _CROWNS[_form(tooth)]]
    half, top = size.md_cervix / 2, size.crown_length
    roots = [(x * half, top + y * size.root_length) for x, y in _ROOTS[_roots(tooth, size)]]
    return _smooth([*crown, *roots])


def _form(tooth: int) -> str:
    kind = fdi.kind(tooth)
    if kind.endswith("molar") and not kind.endswith("premolar"):
        return "upper molar" if fdi.is_upper(tooth) else "lower molar"
    return kind.split()[-1]


def _roots(tooth: int, size: ToothSize) -> int:
    return size.roots if size.roots in _ROOTS else 1


def _smooth(points: Sequence[Point]) -> Outline:
    """A closed curve through all points (Catmull-Rom splines as cubic Bezier curves)."""
    n = len(points)
    curves = []
    for i in range(n):
        (ax, ay), (bx, by), (cx, cy), (dx, dy) = (points[(i + k) % n] for k in (-1, 0, 1, 2))
        first = bx + (cx - ax) / 6, by + (cy - ay) / 6
        second = cx - (dx - bx) / 6, cy - (dy - by) / 6
        curves.append((first, second, (cx, cy)))
    return Outline(points[0], tuple(curves))


def _svg_path(outline: Outline) -> str:
    pieces = ("C" + " ".join(f"{v:.2f}" for point in curve for v in point) for curve in outline.curves)
    return f"M{outline.start[0]:.2f} {outline.start[1]:.2f}{''.join(pieces)}Z"


# From mesial to distal over the crown: x in half crown widths, y in crown lengths from the biting edge.
_CROWNS: dict[str, tuple[Point, ...]] = {
    "incisor": ((-0.82, 0.8), (-1, 0.4), (-0.96, 0.08), (-0.8, 0), (0.75, 0), (0.95, 0.1), (1, 0.42), (0.82, 0.8)),
    "canine": ((-0.85, 0.8), (-1, 0.42), (-0.8, 0.22), (-0.12, 0), (0, -0.01), (0.75, 0.26), (1, 0.46), (0.85, 0.8)),
    "premolar": (
        *((-0.85, 0.8), (-1, 0.4), (-0.85, 0.17), (-0.25, 0.01), (0.2, 0.01)),
        *((0.82, 0.18), (1, 0.42), (0.85, 0.8)),
    ),
    "upper molar": (
        *((-0.9, 0.85), (-1, 0.45), (-0.92, 0.14), (-0.55, 0), (-0.2, 0.1), (-0.05, 0.2)),
        *((0.12, 0.1), (0.5, 0.02), (0.88, 0.16), (1, 0.45), (0.9, 0.85)),
    ),
    "lower molar": (
        *((-0.9, 0.85), (-1, 0.45), (-0.94, 0.14), (-0.66, 0), (-0.36, 0.14), (-0.04, 0.01)),
        *((0.28, 0.14), (0.6, 0.05), (0.9, 0.2), (1, 0.45), (0.9, 0.85)),
    ),
}
# From distal to mesial round the roots: x in half widths of the neck, y in root lengths from the neck.
_ROOTS: dict[int, tuple[Point, ...]] = {
    1: ((1, 0), (0.85, 0.35), (0.5, 0.78), (0.2, 0.99), (-0.05, 0.97), (-0.42, 0.72), (-0.85, 0.33), (-1, 0)),
    2: (
        *((1, 0), (0.98, 0.35), (0.95, 0.75), (0.78, 1), (0.6, 0.97), (0.35, 0.68), (0.05, 0.28)),
        *((-0.28, 0.68), (-0.42, 0.97), (-0.6, 1), (-0.88, 0.72), (-0.98, 0.35), (-1, 0)),
    ),
    3: (
        *((1, 0), (1.02, 0.35), (1, 0.72), (0.84, 0.93), (0.68, 0.88), (0.44, 0.42), (0.3, 0.75), (0.08, 1)),
        *((-0.12, 1), (-0.3, 0.75), (-0.4, 0.42), (-0.56, 0.86), (-0.7, 0.96), (-0.94, 0.72), (-1.02, 0.35), (-1, 0)),
    ),
}
