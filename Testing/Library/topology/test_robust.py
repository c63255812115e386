"""Robustness of findings: holes and pieces drawn into scores whose heights are known."""

from __future__ import annotations

import numpy as np
import pytest

from Testing.Library.topology.drawings import ball
from ToothTopoSegLib.imaging.volume import Array, Volume
from ToothTopoSegLib.topology import robust
from ToothTopoSegLib.topology.check import check_volume
from ToothTopoSegLib.topology.findings import Finding, Robustness
from ToothTopoSegLib.topology.report import finding_entry
from ToothTopoSegLib.topology.robust import ToothScores, with_robustness

TOOTH = 36
MM = 1.0
ORIGIN = (4.0, -7.0, 11.0)


def _scores(drawn: Array, number: int = TOOTH) -> ToothScores:
    """Scores (z, y, x) from 0 to 1, all voxels of which would be the one tooth."""
    grid = Volume(np.rint(drawn * 255).astype(np.uint8), (MM,) * 3, ORIGIN)
    return ToothScores(grid, np.full(drawn.shape, number, np.uint8))


def _labels(scores: ToothScores, fine: int = 2) -> Volume:
    """The labels that scores above one half give, on a grid ``fine`` times as fine."""
    large = scores.tooth.array > 127
    for axis in range(3):
        large = np.repeat(large, fine, axis)
    step = MM / fine
    x, y, z = (at - MM / 2 + step / 2 for at in ORIGIN)
    return Volume(large.astype(np.uint8) * np.uint8(TOOTH), (step,) * 3, (x, y, z))


def _found(scores: ToothScores, kind: str) -> Finding:
    labels = _labels(scores)
    findings, mouth = check_volume(labels)
    (finding,) = (f for f in with_robustness(findings, mouth.labels, scores) if f.kind == kind)
    return finding


def _solid() -> Array:
    """A tooth of 15 voxels across of score 0.9 in nothing."""
    return np.pad(np.where(ball(7.0), 0.9, 0.0), 8)


def test_a_void_lies_between_the_score_of_its_wall_and_the_lowest_within() -> None:
    drawn = _solid()
    drawn[14:17, 14:17, 14:17] = 0.3
    drawn[15, 15, 15] = 0.1
    found = _found(_scores(drawn), "cavity")
    assert found.robustness is not None and found.robustness.dimension == 2
    assert found.robustness.birth == pytest.approx(0.9, abs=0.01)
    assert found.robustness.death == pytest.approx(0.1, abs=0.01)
    assert found.robustness.position_lps_mm == pytest.approx([at + 15 * MM for at in ORIGIN])
    assert "clearly seen: 0.90 around it and 0.10 within" in found.evidence


def test_a_void_that_the_scores_hardly_show_is_faint() -> None:
    drawn = _solid()
    drawn[14:17, 14:17, 14:17] = 0.45
    found = _found(_scores(drawn), "cavity")
    assert found.robustness is not None and found.robustness.persistence == pytest.approx(0.45, abs=0.01)
    assert "faint" in found.evidence


def test_a_piece_lies_between_its_best_score_and_the_best_way_to_its_tooth() -> None:
    drawn = _solid()
    drawn[14:17, 14:17, 23:26] = 0.2
    drawn[14:17, 14:17, 26:29] = 0.8
    found = _found(_scores(drawn), "fragment")
    assert found.robustness is not None and found.robustness.dimension == 0
    assert (found.robustness.birth, found.robustness.death) == pytest.approx((0.8, 0.2), abs=0.01)
    assert "0.80 in it and 0.20 on the way to the tooth" in found.evidence


def test_a_tunnel_lies_between_the_score_around_and_the_lowest_within() -> None:
    drawn = _solid()
    drawn[:, 14:17, 14:17] = np.minimum(drawn[:, 14:17, 14:17], 0.2)
    found = _found(_scores(drawn), "tunnel")
    assert found.robustness is not None and found.robustness.dimension == 1
    assert (found.robustness.birth, found.robustness.death) == pytest.approx((0.9, 0.2), abs=0.01)


def test_voxels_that_would_be_another_tooth_do_not_count() -> None:
    drawn = _solid()
    drawn[14:17, 14:17, 14:17] = 0.3
    scores = _scores(drawn)
    labels = _labels(scores)
    scores.number[14:17, 14:17, 14:17] = 37
    findings, mouth = check_volume(labels)
    (found,) = (f for f in with_robustness(findings, mouth.labels, scores) if f.kind == "cavity")
    assert found.robustness is not None and found.robustness.death == 0


def test_findings_that_the_scores_do_not_show_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = _solid()
    findings, mouth = check_volume(_labels(_scores(np.where(ball(6.0, 31) & ~ball(2.0, 31), 0.9, 0.0))))
    assert any(f.kind == "cavity" for f in findings)
    for scores in (_scores(drawn), _scores(drawn, 37)):
        assert with_robustness(findings, mouth.labels, scores) == findings
    monkeypatch.setattr(robust, "MOST_VOXELS", 10)
    assert with_robustness(findings, mouth.labels, _scores(drawn)) == findings


def test_the_report_has_the_robustness_of_a_finding_that_has_one_and_else_no_such_entry() -> None:
    plain = Finding(1, "cavity", "error", (TOOTH,), (1.0, 2.0, 3.0), 4.0, "A hole.")
    assert "robustness" not in finding_entry(plain)
    known = Finding(
        1, "cavity", "error", (TOOTH,), (1.0, 2.0, 3.0), 4.0, "A hole.", None, (), Robustness(2, 0.9, 0.1, (1.0, 2, 3))
    )
    assert finding_entry(known)["robustness"] == {
        "dimension": 2,
        "birth": 0.9,
        "death": 0.1,
        "position_lps_mm": [1.0, 2.0, 3.0],
    }
