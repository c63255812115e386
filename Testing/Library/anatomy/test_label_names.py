"""Names of labels in words: what data sets write, and what is no tooth."""

from __future__ import annotations

import pytest

from ToothTopoSegLib.anatomy import fdi
from ToothTopoSegLib.anatomy.label_names import meaning


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("11", 11),
        ("tooth_36", 36),
        ("FDI 48", 48),
        ("T-55", 55),
        ("Upper Right Central Incisor", 11),
        ("lower_left_first_molar", 36),
        ("Upper Left Third Molar (Wisdom Tooth)", 28),
        ("Lower Right Wisdom Tooth", 48),
        ("Lower Jawbone", fdi.LOWER_JAW),
        ("Maxilla", fdi.UPPER_JAW),
    ],
)
def test_names_of_teeth_and_jaws_are_understood(name, value):
    assert meaning(name) == value


@pytest.mark.parametrize("name", ["", "background", "19", "Left Inferior Alveolar Canal", "upper molar", "implant"])
def test_what_is_no_single_tooth_and_no_jaw_is_background(name):
    assert meaning(name) == 0


def test_every_tooth_is_understood_by_its_own_name():
    assert all(meaning(fdi.label_name(value)) == value for value in (*fdi.TEETH, *fdi.JAWS))
