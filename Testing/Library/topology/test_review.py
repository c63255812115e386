"""Verdicts of a person on findings: how they outlive a new check, and how they reach the report."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ToothTopoSegLib.errors import OutputError
from ToothTopoSegLib.imaging.volume import Volume
from ToothTopoSegLib.topology.findings import Finding
from ToothTopoSegLib.topology.repair import Change, repair_all
from ToothTopoSegLib.topology.report import make_report
from ToothTopoSegLib.topology.review import IGNORED, REPAIRED, Reviewed, carried_over, reviewed_report, write_csv

CAVITY = Finding(1, "cavity", "error", (36,), (10.0, 20.0, 30.0), 2.0, "a void; =1+1", "fill cavity")
MERGE = Finding(2, "merge", "error", (11, 12), (1.0, 2.0, 3.0), 9.0, "one body, „zwei“ 歯", "split merge")
MISSING = Finding(3, "missing", "warning", (46,), (0.0, 0.0, 0.0), 0.0, "a gap")
NOTHING = np.zeros(0, np.int64)


def change_for(finding: Finding) -> Change:
    return Change(finding.repair or "", finding, NOTHING, NOTHING.astype(np.uint8), NOTHING.astype(np.uint8))


def test_a_finding_that_is_still_there_keeps_its_number_verdict_and_note() -> None:
    before = [Reviewed(CAVITY), Reviewed(MERGE, IGNORED, "a fused tooth")]
    moved = replace(MERGE, id=1, position_lps_mm=(1.5, 2.0, 3.0), evidence="said otherwise")
    assert carried_over(before, [moved]) == [Reviewed(replace(moved, id=2), IGNORED, "a fused tooth")]


def test_a_new_finding_gets_a_number_that_none_had() -> None:
    new = replace(CAVITY, id=1, teeth=(37,))
    assert [one.finding.id for one in carried_over([Reviewed(MERGE)], [new, MERGE])] == [3, 2]


def test_what_was_mended_stays_in_the_list_and_what_is_merely_gone_does_not() -> None:
    before = [Reviewed(CAVITY, note="mine"), Reviewed(MERGE), Reviewed(replace(MISSING, teeth=(47,)), REPAIRED)]
    after = carried_over(before, [MISSING], [change_for(CAVITY)])
    assert [(one.finding.teeth, one.verdict, one.note) for one in after] == [
        ((46,), "open", ""),
        ((36,), REPAIRED, "mine"),
        ((47,), REPAIRED, ""),
    ]
    assert len({one.finding.id for one in after}) == 3


def test_a_repaired_finding_that_is_there_again_is_open_again() -> None:
    assert carried_over([Reviewed(CAVITY, REPAIRED)], [CAVITY]) == [Reviewed(CAVITY)]


def test_two_alike_findings_do_not_share_one_verdict() -> None:
    beside = replace(CAVITY, id=2, position_lps_mm=(11.0, 20.0, 30.0))
    after = carried_over([Reviewed(CAVITY, IGNORED)], [CAVITY, beside])
    assert [one.verdict for one in after] == [IGNORED, "open"]


@pytest.fixture
def report() -> dict:
    labels = Volume(np.zeros((2, 2, 2), np.uint8))
    made = make_report(labels, [CAVITY, MERGE], timing_s={}, peak_rss_mb=1, model=None, input={"name": "x"})
    reviewed = [Reviewed(CAVITY), Reviewed(MERGE, IGNORED, "fused, so?"), Reviewed(MISSING, REPAIRED)]
    return reviewed_report(made, reviewed)


def test_the_report_tells_verdicts_and_lists_apart_what_was_repaired(report: dict) -> None:
    assert [(f["id"], f["verdict"], f["note"]) for f in report["findings"]] == [
        (1, "open", ""),
        (2, "ignored", "fused, so?"),
    ]
    assert [f["kind"] for f in report["repaired"]] == ["missing"]


def test_the_table_for_spreadsheets_has_every_finding_once(report: dict, tmp_path: Path) -> None:
    write_csv(report, tmp_path / "Befunde ü.csv")
    assert (tmp_path / "Befunde ü.csv").read_bytes().startswith(b"\xef\xbb\xbf")
    with (tmp_path / "Befunde ü.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["verdict"] for row in rows] == ["open", "ignored", "repaired"]
    assert (rows[1]["teeth"], rows[1]["evidence"], rows[1]["z_lps_mm"]) == ("11 12", "one body, „zwei“ 歯", "3.0")
    assert rows[2]["repair"] == ""


def test_a_report_without_verdicts_makes_a_table_too(tmp_path: Path) -> None:
    labels = Volume(np.zeros((2, 2, 2), np.uint8))
    made = make_report(labels, [CAVITY], timing_s={}, peak_rss_mb=1, model=None, input={})
    write_csv(made, tmp_path / "findings.csv")
    assert "cavity" in (tmp_path / "findings.csv").read_text(encoding="utf-8-sig")


def test_a_folder_that_is_not_there_is_told_and_nothing_is_left(report: dict, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        write_csv(report, tmp_path / "none" / "findings.csv")
    assert not list(tmp_path.iterdir())


def test_only_what_is_wanted_is_mended(tmp_path: Path) -> None:
    array = np.zeros((30, 30, 60), np.uint8)
    array[5:25, 5:25, 5:25] = 36
    array[5:25, 5:25, 35:55] = 46
    array[12:17, 12:17, 12:17] = array[12:17, 12:17, 42:47] = 0
    labels = Volume(array, (0.5, 0.5, 0.5))
    result = repair_all(labels, wanted=lambda finding: finding.kind == "cavity" and 46 in finding.teeth)
    assert [change.finding.teeth for change in result.repaired] == [(46,)]
    assert result.labels.array[14, 14, 44] == 46 and result.labels.array[14, 14, 14] == 0
    again = repair_all(result.labels, checked=(result.mouth, result.findings))
    assert (36,) in [change.finding.teeth for change in again.repaired]
