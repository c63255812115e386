"""The report: the contract's fields with true values, plain JSON, and a file that is whole or absent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from Testing.Library.topology.drawings import dentition
from ToothTopoSegLib.anatomy import fdi
from ToothTopoSegLib.errors import OutputError
from ToothTopoSegLib.imaging.volume import Volume
from ToothTopoSegLib.topology.check import check_volume
from ToothTopoSegLib.topology.report import make_report, peak_rss_mb, write_json


def _report(labels: Volume) -> dict[str, Any]:
    findings, mouth = check_volume(labels)
    facts: dict[str, Any] = {"timing_s": {"total": 1.23456}, "peak_rss_mb": 512.34, "model": None, "input": {"a": "b"}}
    report = make_report(labels, findings, topology=mouth.teeth, **facts)
    assert report == make_report(labels, findings, **facts), "known topology spares work and changes nothing"
    return report


def test_the_report_has_the_fields_of_the_contract_and_is_plain_json() -> None:
    report = _report(dentition(absent=(36,)))
    assert list(report) == [
        "schema",
        "teeth",
        "findings",
        "summary",
        "timing_s",
        "peak_rss_mb",
        "model",
        "input",
    ]
    assert report["schema"] == "toothtoposeg.report/1"
    assert report["timing_s"] == {"total": 1.235} and report["peak_rss_mb"] == 512.3
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    (finding,) = report["findings"]
    assert list(finding) == [
        "id",
        "kind",
        "severity",
        "teeth",
        "position_lps_mm",
        "size_mm3",
        "evidence",
        "repair",
    ]
    assert finding["teeth"] == [36] and len(finding["position_lps_mm"]) == 3


def test_all_32_permanent_teeth_are_listed_and_deciduous_ones_only_if_they_are_there() -> None:
    report = _report(dentition(absent=(36,), also={13: 53}))
    listed = [tooth["fdi"] for tooth in report["teeth"]]
    assert listed == [*sorted(fdi.PERMANENT), 53]
    absent = [tooth["fdi"] for tooth in report["teeth"] if not tooth["present"]]
    assert absent == [13, 36]
    entry = next(tooth for tooth in report["teeth"] if tooth["fdi"] == 36)
    assert entry == {
        "fdi": 36,
        "name": "lower left first molar",
        "present": False,
        "voxels": 0,
        "volume_mm3": 0.0,
        "betti": [0, 0, 0],
        "centroid_lps_mm": None,
    }


def test_volume_betti_numbers_and_centroid_are_those_of_the_label() -> None:
    labels = np.zeros((20, 20, 20), dtype=np.uint8)
    labels[4:9, 4:9, 4:9] = 11
    labels[6, 6, 6] = 0
    volume = Volume(labels, spacing=(0.5, 0.4, 0.3), origin=(10.0, 20.0, 30.0))
    entry = _report(volume)["teeth"][0]
    assert entry["voxels"] == 124 and entry["volume_mm3"] == pytest.approx(124 * 0.06)
    assert entry["betti"] == [1, 0, 1]
    assert entry["centroid_lps_mm"] == [11.8, 22.4, 33.0]


def test_the_summary_counts_kinds_severities_and_teeth() -> None:
    summary = _report(dentition(absent=(36, 18)))["summary"]
    assert summary == {
        "teeth_found": 30,
        "findings": 2,
        "by_kind": {"missing": 2},
        "by_severity": {"error": 0, "warning": 1, "info": 1},
    }


def test_a_report_without_teeth_is_valid() -> None:
    report = _report(Volume(np.zeros((5, 5, 5), dtype=np.uint8)))
    assert report["summary"]["teeth_found"] == 0
    assert report["findings"][0]["evidence"] == "No tooth was found in this scan."


def test_the_written_file_reads_back_and_replaces_an_older_one(tmp_path: Path) -> None:
    path = tmp_path / "bericht ü.json"
    path.write_text("old", encoding="utf-8")
    write_json({"name": "Zähne", "n": [1, 2]}, path)
    assert json.loads(path.read_text(encoding="utf-8")) == {"name": "Zähne", "n": [1, 2]}
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_that_cannot_be_written_gives_one_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"cannot be written to .*; choose a writable folder"):
        write_json({}, tmp_path / "nowhere" / "report.json")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    with pytest.raises(OutputError):
        write_json({}, tmp_path / "taken")
    assert [p.name for p in tmp_path.iterdir()] == ["taken"]


def test_a_full_disk_leaves_the_older_report_untouched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.json"
    path.write_text("old", encoding="utf-8")

    def full(self: Path, *_: object, **__: object) -> int:
        self.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OutputError, match="No space left on device"):
        write_json({}, path)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_values_that_are_no_json_numbers_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json({"x": float("nan")}, tmp_path / "report.json")
    assert list(tmp_path.iterdir()) == []


def test_peak_memory_is_that_of_a_python_process() -> None:
    before = peak_rss_mb()
    block = np.ones(64 * 1024 * 1024, dtype=np.uint8)
    assert 10 < before < 1_000_000 and peak_rss_mb() >= before
    assert block[-1] == 1
