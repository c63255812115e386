"""The seeded-fault experiment: what counts as found, what repair is charged with, and the table."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ToothTopoSegLib.errors import UsageError
from ToothTopoSegLib.evaluation import fault_table
from ToothTopoSegLib.evaluation.clean_maps import clean_map
from ToothTopoSegLib.evaluation.fault_table import judge, run, table
from ToothTopoSegLib.evaluation.faults import Accepted, Planted
from ToothTopoSegLib.imaging.volume import Volume
from ToothTopoSegLib.topology.findings import Finding

SEED = 308


def _planted(*accept: Accepted) -> Planted:
    labels = Volume(np.zeros((3, 3, 3), np.uint8))
    return Planted(labels, accept[0].kind, (11,), (0.0, 0.0, 0.0), 5.0, {}, accept)


def _finding(kind: str, *teeth: int, x: float = 0.0, severity: str = "error") -> Finding:
    return Finding(0, kind, severity, teeth, (x, 0.0, 0.0), 1.0, "")


SWAP = _planted(Accepted("swap", frozenset((11, 12)), frozenset((11, 12)), ((0.0, 0.0, 0.0), (8.0, 0.0, 0.0)), 2))


@pytest.mark.parametrize(
    ("findings", "found"),
    [
        ([_finding("swap", 11, 12, x=1.9)], True),
        ([_finding("swap", 12, 11, x=9.0, severity="warning")], True),
        ([_finding("swap", 11), _finding("swap", 12, x=8.0)], True),
        ([_finding("swap", 11)], False),
        ([_finding("swap", 11, 12, x=4.0)], False),
        ([_finding("swap", 11, 12, 13)], False),
        ([_finding("mirrored", 11, 12)], False),
        ([_finding("swap", 11, 12, severity="info")], False),
        ([], False),
    ],
)
def test_a_fault_is_found_by_its_kind_its_teeth_and_its_place(findings: list[Finding], found: bool) -> None:
    assert judge(SWAP, findings)["found"] is found


def test_a_near_miss_is_told_apart_by_kind_teeth_and_distance() -> None:
    far = judge(SWAP, [_finding("swap", 11, 12, x=4.0)])
    assert (far["kind_right"], far["teeth_right"], far["position_error_mm"]) == (True, True, 4.0)
    other = judge(SWAP, [_finding("swap", 13, 14)])
    assert (other["kind_right"], other["teeth_right"], other["position_error_mm"]) == (True, False, None)


def test_a_fault_of_a_whole_row_needs_a_share_of_its_teeth() -> None:
    row = _planted(Accepted("mirrored", frozenset((11, 12, 13)), frozenset(), ((0.0, 0.0, 0.0),), 2))
    assert not judge(row, [_finding("mirrored", 11)])["found"]
    assert judge(row, [_finding("mirrored", 11), _finding("mirrored", 13)])["found"]


@dataclass
class _Mended:
    labels: Volume


@pytest.fixture(scope="module")
def result() -> dict[str, Any]:
    return run([SEED], kinds=("cavity", "missing"), repair=False)


def test_a_planted_cavity_is_found_and_the_clean_map_is_not_blamed(result: dict[str, Any]) -> None:
    cavity = next(fault for fault in result["faults"] if fault["kind"] == "cavity")
    assert cavity["found"] and cavity["position_error_mm"] < 0.5
    assert result["clean"][0]["errors"] == []


def test_the_result_can_be_written_as_json(result: dict[str, Any]) -> None:
    assert json.loads(json.dumps(result))["per_kind"] == 1


def test_the_table_has_a_line_for_each_kind_and_for_the_clean_maps(result: dict[str, Any]) -> None:
    text = table(result)
    assert "| cavity | 1 | 1 | 1.000 |" in text
    assert "| missing | 1 |" in text
    assert "Clean maps: 1; errors of severity error per map: 0.000" in text
    assert "repairable" not in text


def test_repair_that_restores_the_clean_map_changes_nothing_untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    clean = clean_map(SEED).labels
    monkeypatch.setattr(fault_table, "repair_all", lambda labels: _Mended(clean))
    repaired = run([SEED], kinds=("cavity",))
    record = repaired["faults"][0]["repair"]
    assert (record["gone"], record["untouched_changed"], record["restored"], record["new"]) == (True, 0.0, 1.0, [])
    assert "untouched changed" in table(repaired)


def test_repair_is_charged_with_a_tooth_it_wipes_out_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    def careless(labels: Volume) -> _Mended:
        array = labels.array.copy()
        tooth = 16 if np.any(array == 16) else int(array[array > 0][0])
        array[array == tooth] = 0
        return _Mended(labels.with_array(array))

    monkeypatch.setattr(fault_table, "repair_all", careless)
    record = run([SEED], kinds=("missing",))["faults"][0]["repair"]
    assert record["untouched_changed"] > 0.02


@pytest.mark.parametrize("wrong", [{"kinds": ("caries",)}, {"per_kind": 0}, {"seeds": []}, {"workers": 0}])
def test_what_cannot_be_run_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        run(**{"seeds": [SEED], **wrong})


def test_every_kind_of_fault_is_found_in_a_whole_dentition() -> None:
    result = run([302], repair=False)
    assert {f["kind"] for f in result["faults"] if f["planted"] and f["found"]} == set(fault_table.KINDS)
    assert result["clean"][0]["errors"] == []


def test_the_evidence_is_a_table_to_read_and_figures_to_compute_with(result: dict[str, Any], tmp_path: Path) -> None:
    fault_table.write_evidence(result, tmp_path / "evidence")
    assert (tmp_path / "evidence" / "faults.md").read_text(encoding="utf-8").count("| fault | planted |") == 1
    assert json.loads((tmp_path / "evidence" / "faults.json").read_text(encoding="utf-8")) == result
