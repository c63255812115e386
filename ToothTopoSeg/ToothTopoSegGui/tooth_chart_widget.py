"""The tooth chart as a widget: both arches, each tooth coloured by its state; a click on a tooth chooses it.

In go the teeth that are there and the rows of the findings, out comes the number of the clicked tooth. Places, outlines
and states are those of the report's chart (``ToothTopoSegLib.evaluation.tooth_chart``), drawn to the widget's size.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import qt
from slicer.i18n import tr as _

_FILLS = {"error": "#e8663f", "warning": "#ffd667", "info": "#d3e6f7", "ignored": "#c9ced6", "": "#fffdf5"}
_HATCHES = {"error": ("#b03a14", "DiagCrossPattern"), "warning": ("#c79a1e", "BDiagPattern")}
_LINE, _GAP_LINE, _ABSENT_LINE, _CHOSEN_LINE = "#4a5260", "#a82a00", "#8a93a0", "#0057b8"
_PAPER, _INK, _DIM = "#ffffff", "#1a1d22", "#5d6673"
_SIDES_MM = 4.0
_LEAST_HEIGHT = 205


class ToothChartWidget(qt.QWidget):
    """Both arches, the patient's right at the left. ``onTooth`` is called with the FDI number of a clicked tooth."""

    def __init__(self, parent: Any = None, onTooth: Callable[[int], None] | None = None) -> None:
        super().__init__(parent)
        self.onTooth = onTooth
        self._chart: Any = None
        self._chosen: frozenset[int] = frozenset()
        self.minimumHeight = _LEAST_HEIGHT
        self.mouseTracking = True

    def showTeeth(self, present: Collection[int], findings: Sequence[Mapping[str, Any]]) -> None:
        """Show which teeth are there and what was found; findings are entries of the report with their verdict."""
        from ToothTopoSegLib.evaluation.tooth_chart import lay_out

        self._chart = lay_out(present, findings)
        self.update()

    def clear(self) -> None:
        """Show no teeth."""
        self._chart = None
        self.update()

    def choose(self, teeth: Collection[int]) -> None:
        """Draw these teeth as chosen."""
        self._chosen = frozenset(teeth)
        self.update()

    def toothAt(self, x: float, y: float) -> int | None:
        """The FDI number of the tooth at a place of the widget in pixels; None where there is none."""
        if self._chart is None:
            return None
        scale, left, top = self._placing()
        across, down = (x - left) / scale, (y - top) / scale
        beside = [tooth for tooth in self._chart.teeth if abs(tooth.x - across) < 5 and self._covers(tooth, down)]
        nearest = min(beside, key=lambda tooth: abs(tooth.x - across), default=None)
        return None if nearest is None else nearest.fdi

    def middleOf(self, fdi: int) -> tuple[float, float] | None:
        """The place in pixels of the middle of a tooth's crown; None where it is not on the chart."""
        scale, left, top = self._placing() if self._chart is not None else (1.0, 0.0, 0.0)
        for tooth in self._chart.teeth if self._chart is not None else ():
            if tooth.fdi == fdi:
                return left + tooth.x * scale, top + tooth.sign_y * scale
        return None

    # ---- what Qt calls

    def mousePressEvent(self, event: Any) -> None:
        """A click on a tooth."""
        tooth = self.toothAt(event.pos().x(), event.pos().y())
        if tooth is not None and self.onTooth is not None:
            self.onTooth(tooth)

    def mouseMoveEvent(self, event: Any) -> None:
        """The tooth under the mouse in words."""
        tooth = self.toothAt(event.pos().x(), event.pos().y())
        told = next((t for t in self._chart.teeth if t.fdi == tooth), None) if tooth is not None else None
        self.toolTip = _in_words(told) if told is not None else ""

    def paintEvent(self, event: Any) -> None:
        """The chart on white, as on paper, whatever the application's colours."""
        painter = qt.QPainter(self)
        painter.setRenderHint(qt.QPainter.Antialiasing)
        painter.fillRect(0, 0, self.width, self.height, qt.QColor(_PAPER))
        if self._chart is None:
            painter.setPen(qt.QColor(_DIM))
            painter.drawText(self.rect, qt.Qt.AlignCenter, _("The chart shows the teeth after a check."))
        else:
            self._draw(painter)
        painter.end()

    # ---- drawing

    def _placing(self) -> tuple[float, float, float]:
        """Pixels for a mm of the chart, and where its upper left corner lies."""
        scale = min(self.width / self._chart.width, self.height / (self._chart.height + _SIDES_MM))
        left = (self.width - scale * self._chart.width) / 2
        top = (self.height - scale * (self._chart.height - _SIDES_MM)) / 2
        return scale, left, top

    @staticmethod
    def _covers(tooth: Any, y: float) -> bool:
        """Whether a height in mm lies between the number and the root tip of a tooth."""
        from ToothTopoSegLib.anatomy.sizes import size_of

        along = (y - tooth.edge) * tooth.down
        return -2 * abs(tooth.number_y - tooth.edge) <= along <= size_of(tooth.fdi).length

    def _draw(self, painter: Any) -> None:
        scale, left, top = self._placing()
        painter.translate(left, top)
        painter.scale(scale, scale)
        font = qt.QFont(painter.font())
        font.setPixelSize(4)
        painter.setFont(font)
        middle = self._chart.width / 2
        painter.setPen(_pen("#b4bbc6", 0.3))
        painter.drawLine(qt.QPointF(middle, 1), qt.QPointF(middle, self._chart.height - 1))
        for tooth in self._chart.teeth:
            self._drawTooth(painter, tooth)
        painter.setPen(qt.QColor(_DIM))
        for place, side, words in (
            (2, qt.Qt.AlignLeft, _("Patient's right")),
            (0, qt.Qt.AlignRight, _("Patient's left")),
        ):
            painter.drawText(qt.QRectF(place, -_SIDES_MM, self._chart.width - 2, 6), side | qt.Qt.AlignTop, words)

    def _drawTooth(self, painter: Any, tooth: Any) -> None:
        state, chosen = tooth.state, tooth.fdi in self._chosen
        if tooth.outline is not None:
            path = _path(tooth)
            painter.setPen(_pen(_CHOSEN_LINE, 1.1) if chosen else _outline_pen(state))
            painter.setBrush(qt.QBrush(qt.QColor(_fill(state))))
            painter.drawPath(path)
            if state.present and state.severity in _HATCHES:
                colour, pattern = _HATCHES[state.severity]
                painter.setBrush(qt.QBrush(qt.QColor(colour), getattr(qt.Qt, pattern)))
                painter.drawPath(path)
        _draw_sign(painter, tooth)
        painter.setPen(qt.QColor(_CHOSEN_LINE if chosen else _INK if state.present or state.is_gap else _DIM))
        place = qt.QRectF(tooth.x - 5, tooth.number_y - 3, 10, 6)
        painter.drawText(place, qt.Qt.AlignCenter, str(tooth.fdi))


def _in_words(tooth: Any) -> str:
    from ToothTopoSegLib.anatomy import fdi

    return f"{tooth.fdi} {fdi.name(tooth.fdi)}: {tooth.state.words}"


def _fill(state: Any) -> str:
    if not state.present:
        return _PAPER
    return _FILLS["ignored" if state.ignored else state.severity]


def _outline_pen(state: Any) -> Any:
    if state.present:
        return _pen(_LINE, 0.45)
    pen = _pen(_GAP_LINE, 0.6) if state.is_gap else _pen(_ABSENT_LINE, 0.4)
    pen.setStyle(qt.Qt.DashLine)
    return pen


def _pen(colour: str, width: float) -> Any:
    pen = qt.QPen(qt.QColor(colour))
    pen.setWidthF(width)
    return pen


def _path(tooth: Any) -> Any:
    """The outline of a tooth in its place on the chart, in mm."""

    def at(point: tuple[float, float]) -> Any:
        return qt.QPointF(tooth.x + tooth.across * point[0], tooth.edge + tooth.down * point[1])

    path = qt.QPainterPath()
    path.moveTo(at(tooth.outline.start))
    for first, second, end in tooth.outline.curves:
        path.cubicTo(at(first), at(second), at(end))
    path.closeSubpath()
    return path


def _draw_sign(painter: Any, tooth: Any) -> None:
    """A cross where a tooth is missing, a bar where it is ignored, else an exclamation mark or an i on a crown."""
    state, x, y = tooth.state, tooth.x, tooth.sign_y
    painter.setPen(_pen(_INK, 0.8))
    lines: tuple[tuple[float, float, float, float], ...] = ()
    if state.is_gap:
        lines = ((-2, -2, 2, 2), (-2, 2, 2, -2))
    elif state.present and state.ignored:
        lines = ((-1.8, 0, 1.8, 0),)
    elif state.present and state.severity:
        painter.setBrush(qt.QBrush(qt.QColor(_PAPER)))
        painter.setPen(_pen(_INK, 0.4))
        painter.drawEllipse(qt.QPointF(x, y), 2.4, 2.4)
        painter.setPen(_pen(_INK, 0.8))
        lines = (
            ((0, -0.4, 0, 1.5), (0, -1.5, 0, -1.4))
            if state.severity == "info"
            else ((0, -1.5, 0, 0.4), (0, 1.4, 0, 1.5))
        )
    for x0, y0, x1, y1 in lines:
        painter.drawLine(qt.QPointF(x + x0, y + y0), qt.QPointF(x + x1, y + y1))
