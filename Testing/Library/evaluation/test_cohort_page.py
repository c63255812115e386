"""The page over a cohort: what it counts, what it links to, and that nothing of the data becomes markup."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from ToothTopoSegLib.errors import OutputError
from ToothTopoSegLib.evaluation.cohort_page import cohort_page, write_cohort_page
from ToothTopoSegLib.segmentation.summary import row_of


def _report(teeth: tuple[int, ...], *findings: tuple[str, str], seconds: float = 20.0) -> dict[str, Any]:
    return {
        "teeth": [{"fdi": tooth, "present": True} for tooth in teeth],
        "findings": [{"severity": severity, "kind": kind} for severity, kind in findings],
        "measurements": [
            {"volume_mm3": 400.0 + tooth, "length_mm": 20.0, "crown_root_ratio": None, "cut": tooth == 36}
            for tooth in teeth
        ],
        "timing_s": {"total": seconds},
    }


ROWS = [
    row_of("a", "a.nii.gz", _report((11, 12, 36), ("error", "merge"), ("error", "merge"))),
    row_of("b", "deep/b ü.nrrd", _report((11, 55), ("warning", "cavity"), seconds=40.0)),
    row_of("c", "<b>c</b>.mha", {"reason": "<i>c</i> is cut short; copy it again."}),
]
PAGES = ["a_report.html", "deep/b ü_report.html", "c_report.html"]


def _text(page: str) -> str:
    body = re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", body).split())


def test_the_page_sums_the_cohort_up() -> None:
    text = _text(cohort_page(ROWS, PAGES, 4))
    assert "2 scans segmented, 1 with anatomical errors to correct, 1 failed, 1 still to do." in text
    assert "2.5 teeth in a scan (median)" in text and "30 s for a scan (median)" in text
    assert "merge 2 1" in text and "cavity 1 1" in text and "tunnel" not in text
    assert " 11 2 21 0 " in text and " 36 1 " in text and " 55 1 " in text


def test_the_means_of_measures_leave_out_teeth_that_are_cut_and_what_is_not_known() -> None:
    assert ROWS[0]["mean_tooth_volume_mm3"] == 411.5 and ROWS[0]["mean_tooth_length_mm"] == 20.0
    assert ROWS[0]["mean_crown_root_ratio"] == "" == ROWS[2]["mean_tooth_volume_mm3"]
    page = cohort_page(ROWS, PAGES, 3)
    assert '<th class="n">Volume mm³</th>' in page and "411.5" in _text(page)


def test_each_scan_links_to_its_report_and_a_failure_tells_its_reason() -> None:
    page = cohort_page(ROWS, PAGES, 3)
    assert re.findall(r'href="([^"]+)"', page) == ["a_report.html", "deep/b%20%C3%BC_report.html"]
    assert "&lt;i&gt;c&lt;/i&gt; is cut short; copy it again." in page
    assert "<i>" not in page and "<b>c</b>" not in page and "<script" not in page


def test_a_cohort_of_which_nothing_could_be_segmented_has_a_page_too() -> None:
    text = _text(cohort_page(ROWS[2:], PAGES[2:], 1))
    assert "0 scans segmented, 1 failed." in text and "No findings." in text


def test_deciduous_teeth_are_listed_only_where_one_was_found() -> None:
    assert " 55 " not in _text(cohort_page(ROWS[:1], PAGES[:1], 1))


def test_a_page_that_cannot_be_written_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "summary.html").mkdir()
    with pytest.raises(OutputError, match="summary page"):
        write_cohort_page(ROWS, PAGES, 3, tmp_path / "summary.html")
    assert [path.name for path in tmp_path.iterdir()] == ["summary.html"]
