"""The table of findings on the terminal: aligned, and never wider than the terminal."""

from __future__ import annotations

import pytest

from ToothTopoSegLib.evaluation.terminal import findings_table

EVIDENCE = "Tooth 16 (upper right first molar) has an enclosed hole of 8.7 mm3, which no tooth has."
FINDINGS = [
    {
        "severity": "error",
        "kind": "cavity",
        "teeth": [16],
        "size_mm3": 8.7,
        "position_lps_mm": [-27.14, 9.8, 4.1],
        "evidence": EVIDENCE,
    },
    {
        "severity": "info",
        "kind": "missing",
        "teeth": [18, 17, 16, 15, 14, 13],
        "size_mm3": 0.0,
        "position_lps_mm": None,
        "evidence": "",
    },
]


def test_no_finding_is_no_table() -> None:
    assert findings_table([], 80) == []


def test_a_wide_terminal_has_the_evidence_in_a_column_of_its_own() -> None:
    assert findings_table(FINDINGS, 110) == [
        "",
        "severity  kind     teeth        size mm3  place, LPS mm  evidence",
        "error     cavity   16                8.7  -27.1 9.8 4.1  Tooth 16 (upper right first molar) has an enclosed",
        "                                                         hole of 8.7 mm3, which no tooth has.",
        "info      missing  18 17 16 15         -  -",
        "                   14 13",
        "",
    ]


def test_a_narrow_terminal_has_the_evidence_below() -> None:
    lines = findings_table(FINDINGS, 60)
    assert lines[2:5] == [
        "error     cavity   16                8.7  -27.1 9.8 4.1",
        "    Tooth 16 (upper right first molar) has an enclosed hole",
        "    of 8.7 mm3, which no tooth has.",
    ]


@pytest.mark.parametrize("width", [60, 80, 93, 94, 120, 200])
def test_no_line_is_wider_than_the_terminal_and_no_word_is_lost(width: int) -> None:
    lines = findings_table(FINDINGS, width)
    assert max(map(len, lines)) <= width
    assert set(EVIDENCE.split()) <= set(" ".join(lines).split())


def test_a_finding_that_lacks_a_value_is_still_listed() -> None:
    assert findings_table([{"severity": "warning", "kind": "cavity", "teeth": []}], 80)[2].split() == [
        *("warning", "cavity", "-", "-", "-")
    ]
