"""The tooth chart: what it tells of each tooth, and where on the drawing each tooth stands."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from ToothTopoSegLib.anatomy import fdi
from ToothTopoSegLib.evaluation.tooth_chart import badge, crown_and_roots, lay_out, state_of, tooth_chart

ALL_THERE = [{"fdi": tooth, "present": True} for tooth in fdi.PERMANENT]


def finding(number: int, severity: str, *teeth: int, kind: str = "cavity") -> dict:
    return {"id": number, "severity": severity, "kind": kind, "teeth": list(teeth), "evidence": f"reason {number}"}


class Chart(HTMLParser):
    """Teeth of a chart by number: classes, link, title and the place (x, y) of the number."""

    def __init__(self, teeth: list[dict], findings: list[dict]) -> None:
        super().__init__()
        self.teeth: dict[int, dict] = {}
        self.signs: dict[str, int] = {}
        self._now: dict = {}
        self._in = ""
        self.feed(tooth_chart(teeth, findings).split('<ul class="legend">')[0])

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        got = dict(attrs)
        if "tooth" in (got.get("class") or "").split():
            self._now = {"classes": set(got["class"].split()) - {"tooth"}, "link": got.get("href"), "hatched": False}
        self._now["hatched"] = self._now.get("hatched") or "hatch" in (got.get("fill") or "")
        self._now["crossed"] = self._now.get("crossed") or got.get("class") == "cross"
        self._now["drawn"] = self._now.get("drawn") or got.get("class") == "body"
        if tag == "text":
            self._now["at"] = float(got["x"]), float(got["y"])
        self._in = tag

    def handle_data(self, data: str) -> None:
        if self._in == "title":
            self._now["title"] = data
        if self._in == "text":
            self.teeth[int(data)] = self._now

    def handle_endtag(self, tag: str) -> None:
        self._in = ""


def test_the_patients_right_is_at_the_left_and_the_upper_jaw_on_top() -> None:
    teeth = Chart(ALL_THERE, []).teeth
    assert set(teeth) == set(fdi.PERMANENT)
    for arch in (fdi.UPPER_PERMANENT, fdi.LOWER_PERMANENT):
        across = [teeth[tooth]["at"][0] for tooth in arch]
        assert across == sorted(across)
    assert max(teeth[t]["at"][1] for t in fdi.UPPER_PERMANENT) < min(teeth[t]["at"][1] for t in fdi.LOWER_PERMANENT)
    assert all(teeth[t]["at"][0] == pytest.approx(teeth[fdi.opposite_jaw(t)]["at"][0]) for t in fdi.UPPER_PERMANENT)


def test_a_tooth_shows_its_gravest_finding_and_leads_to_it() -> None:
    chart = Chart(ALL_THERE, [finding(3, "info", 16), finding(2, "warning", 16, 17), finding(1, "error", 16)])
    assert chart.teeth[16]["classes"] == {"present", "error"} and chart.teeth[16]["link"] == "#finding-1"
    assert chart.teeth[17]["classes"] == {"present", "warning"} and chart.teeth[17]["link"] == "#finding-2"
    assert chart.teeth[15]["classes"] == {"present"} and chart.teeth[15]["link"] == "#tooth-15"
    for words in ("16 upper right first molar: present, error", "reason 1", "reason 2", "reason 3"):
        assert words in chart.teeth[16]["title"]


def test_a_missing_tooth_differs_from_one_that_may_not_be_in_view() -> None:
    there = [entry for entry in ALL_THERE if entry["fdi"] not in (24, 28, 38)]
    chart = Chart(there, [finding(1, "warning", 24, kind="missing"), finding(2, "info", 28, kind="missing")])
    assert chart.teeth[24]["classes"] == {"absent", "warning"} and chart.teeth[24]["crossed"]
    assert chart.teeth[28]["classes"] == {"absent", "info"} and not chart.teeth[28]["crossed"]
    assert chart.teeth[38]["classes"] == {"absent"} and chart.teeth[38]["link"] is None
    assert "missing" in chart.teeth[24]["title"] and "not in view" in chart.teeth[28]["title"]


def test_no_state_is_told_by_colour_alone() -> None:
    chart = Chart(ALL_THERE, [finding(1, "error", 11), finding(2, "warning", 12), finding(3, "info", 13)])
    assert [chart.teeth[t]["hatched"] for t in (11, 12, 13, 14)] == [True, True, False, False]
    signs = [re.search(r'<path d="([^"]+)"', badge(severity)) for severity in ("error", "warning", "info")]
    assert len({sign[1] for sign in signs if sign}) == 3
    assert badge("<b>") == ""


def test_milk_teeth_get_rows_only_where_there_are_any() -> None:
    assert not set(Chart(ALL_THERE, []).teeth) & set(fdi.DECIDUOUS)
    chart = Chart([{"fdi": 55, "present": True}], [])
    assert chart.teeth[55]["classes"] == {"present"} and chart.teeth[55]["drawn"]
    assert chart.teeth[65]["classes"] == {"absent"} and not chart.teeth[65]["drawn"]
    heights = [chart.teeth[tooth]["at"][1] for tooth in (15, 55, 85, 45)]
    assert heights == sorted(heights)


def test_an_unknown_severity_is_no_state() -> None:
    assert state_of(11, True, [finding(1, "<b>", 11)]).classes == "tooth present"


def test_text_of_the_data_is_escaped() -> None:
    assert "<script>" not in tooth_chart(ALL_THERE, [finding(1, "error", 11) | {"evidence": "<script>"}])


def test_ignored_and_repaired_findings_leave_no_severity_and_ignored_ones_show() -> None:
    ignored, repaired = (finding(n, "error", 10 + n) | {"verdict": v} for n, v in ((1, "ignored"), (2, "repaired")))
    chart = Chart(ALL_THERE, [ignored, repaired, finding(3, "info", 13) | {"verdict": "open"}])
    assert chart.teeth[11]["classes"] == {"present", "ignored"} and "finding ignored" in chart.teeth[11]["title"]
    assert chart.teeth[12]["classes"] == {"present"} and chart.teeth[13]["classes"] == {"present", "info"}
    assert not state_of(11, True, [ignored, finding(2, "warning", 11)]).ignored


def test_the_chart_as_data_stands_where_the_drawn_one_does() -> None:
    laid = lay_out([tooth["fdi"] for tooth in ALL_THERE], [finding(1, "warning", 24)])
    drawn = Chart(ALL_THERE, [finding(1, "warning", 24)]).teeth
    assert [tooth.fdi for tooth in laid.teeth] == list(drawn)
    for tooth in laid.teeth:
        assert drawn[tooth.fdi]["at"][0] == pytest.approx(tooth.x, abs=0.01)
        assert 0 < tooth.x < laid.width and 0 < tooth.edge < laid.height
    assert {tooth.fdi: tooth.state.severity for tooth in laid.teeth}[24] == "warning"


@pytest.mark.parametrize("tooth", [*fdi.PERMANENT_NUMERIC, *fdi.DECIDUOUS_NUMERIC])
def test_an_outline_is_as_long_and_wide_as_such_a_tooth(tooth: int) -> None:
    from ToothTopoSegLib.anatomy.sizes import size_of

    curve = crown_and_roots(tooth)[0].removeprefix("M").removesuffix("Z").split("C")
    # the last pair of each piece lies on the curve, the others only pull at it
    points = [tuple(map(float, piece.split()[-2:])) for piece in curve]
    x, y = zip(*points, strict=True)
    assert max(x) - min(x) == pytest.approx(size_of(tooth).md_crown, rel=0.1)
    assert max(y) - min(y) == pytest.approx(size_of(tooth).length, rel=0.03)
