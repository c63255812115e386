"""Colours: none twice, neighbours clearly apart to the eye, and the shipped Slicer table up to date."""

from __future__ import annotations

from colorsys import rgb_to_hls
from pathlib import Path

import numpy as np
import pytest

from ToothTopoSegLib.anatomy import fdi
from ToothTopoSegLib.anatomy.colours import colour_of, colour_table

ROOT = Path(__file__).resolve().parents[3]
VALUES = (*sorted(fdi.TEETH), *fdi.JAWS)


def _difference(first: int, second: int) -> float:
    """CIEDE2000; about 2 is just noticeable, 10 is seen at a glance."""
    from skimage.color import deltaE_ciede2000, rgb2lab

    return float(deltaE_ciede2000(*(rgb2lab(np.array(colour_of(value))) for value in (first, second))))


def test_no_two_labels_share_a_colour() -> None:
    assert len({colour_of(value) for value in VALUES}) == len(VALUES)
    assert all(0.0 <= channel <= 1.0 for value in VALUES for channel in colour_of(value))


def test_neighbours_and_antagonists_differ_at_a_glance() -> None:
    for tooth in fdi.TEETH:
        for other in (*fdi.neighbours(tooth), *fdi.antagonists(tooth)):
            assert _difference(tooth, other) > 20, (tooth, other)


def test_a_tooth_stands_out_from_the_jaw_around_it_and_from_its_predecessor_or_successor() -> None:
    for tooth in fdi.TEETH:
        assert all(_difference(tooth, jaw) > 10 for jaw in fdi.JAWS)
        if fdi.is_deciduous(tooth):
            assert _difference(tooth, tooth - 40) > 2.5


def test_the_teeth_of_a_quadrant_share_a_family_of_hues() -> None:
    for quadrant in range(1, 9):
        hues = [rgb_to_hls(*colour_of(t))[0] * 360 for t in fdi.TEETH if fdi.quadrant(t) == quadrant]
        turned = np.angle(np.exp(1j * np.radians(np.array(hues) - hues[0])), deg=True)
        assert np.ptp(turned) < 90


def test_any_other_value_has_no_colour() -> None:
    with pytest.raises(ValueError, match="no FDI tooth number"):
        colour_of(99)


def test_the_shipped_slicer_table_is_the_one_the_code_makes_and_carries_fdi_values() -> None:
    text = (ROOT / "Resources" / "Colors" / "ToothTopoSeg.ctbl").read_text(encoding="utf-8")
    assert text == colour_table()
    rows = [line.split() for line in text.splitlines() if not line.startswith("#")]
    assert all(len(row) == 6 for row in rows)
    assert [int(row[0]) for row in rows] == [0, *VALUES]
