"""FDI numbers: names, order along the arch and partners, held against what every dentist knows."""

from __future__ import annotations

import pytest

from ToothTopoSegLib.anatomy import fdi


def test_there_are_32_permanent_and_20_deciduous_teeth_and_all_numbers_fit_uint8() -> None:
    assert (len(set(fdi.PERMANENT)), len(set(fdi.DECIDUOUS)), len(fdi.TEETH)) == (32, 20, 52)
    assert max(fdi.TEETH | set(fdi.JAWS)) <= 255
    assert not fdi.TEETH & set(fdi.JAWS)


@pytest.mark.parametrize("value", [0, 1, 10, 19, 29, 49, 50, 56, 86, 99, 101, 102, -11])
def test_a_number_that_is_no_tooth_is_refused(value: int) -> None:
    assert not fdi.is_tooth(value)
    with pytest.raises(ValueError, match=f"{value} is no FDI tooth number"):
        fdi.name(value)


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (16, "upper right first molar"),
        (21, "upper left central incisor"),
        (34, "lower left first premolar"),
        (48, "lower right third molar"),
        (53, "upper right deciduous canine"),
        (75, "lower left deciduous second molar"),
    ],
)
def test_a_tooth_has_its_plain_english_name(number: int, expected: str) -> None:
    assert fdi.name(number) == expected


def test_all_names_differ() -> None:
    assert len({fdi.label_name(value) for value in (*fdi.TEETH, *fdi.JAWS)}) == 54


def test_side_and_jaw_follow_from_the_quadrant() -> None:
    assert [fdi.is_upper(n) for n in (11, 21, 31, 41, 51, 61, 71, 81)] == [True, True, False, False] * 2
    assert [fdi.is_left(n) for n in (11, 21, 31, 41, 51, 61, 71, 81)] == [False, True, True, False] * 2
    assert fdi.is_deciduous(51) and not fdi.is_deciduous(48)


def test_the_arch_runs_from_the_patients_right_to_the_left() -> None:
    for upper in (True, False):
        for milk in (True, False):
            arch = fdi.arch_order(upper, milk)
            sides = [fdi.is_left(n) for n in arch]
            assert sides == sorted(sides)
            assert all(fdi.is_upper(n) == upper and fdi.is_deciduous(n) == milk for n in arch)
    assert fdi.arch_order(False)[0] == 48 and fdi.arch_order(False)[-1] == 38


def test_neighbours_include_the_partner_across_the_midline() -> None:
    assert fdi.neighbours(11) == (12, 21)
    assert fdi.neighbours(36) == (35, 37)
    assert fdi.neighbours(48) == (47,)
    assert fdi.neighbours(75) == (74,)
    assert fdi.are_neighbours(41, 31) and not fdi.are_neighbours(41, 43) and not fdi.are_neighbours(11, 41)


def test_being_neighbours_and_being_antagonists_is_mutual() -> None:
    for tooth in fdi.TEETH:
        assert all(tooth in fdi.neighbours(other) for other in fdi.neighbours(tooth))
        assert all(tooth in fdi.antagonists(other) for other in fdi.antagonists(tooth))


def test_a_tooth_bites_on_its_namesake_and_the_next_one_of_class_i_occlusion() -> None:
    assert fdi.antagonists(13) == (43, 44)
    assert fdi.antagonists(36) == (26, 25)
    assert fdi.antagonists(41) == (11,)
    assert fdi.antagonists(28) == (38,)


def test_mirroring_swaps_sides_and_the_opposite_jaw_keeps_the_side() -> None:
    assert (fdi.mirrored(16), fdi.mirrored(38), fdi.mirrored(54)) == (26, 48, 64)
    assert (fdi.opposite_jaw(16), fdi.opposite_jaw(23), fdi.opposite_jaw(71)) == (46, 33, 61)
    for tooth in fdi.TEETH:
        assert fdi.mirrored(fdi.mirrored(tooth)) == tooth == fdi.opposite_jaw(fdi.opposite_jaw(tooth))
        assert fdi.is_left(fdi.mirrored(tooth)) != fdi.is_left(tooth)
        assert fdi.is_upper(fdi.opposite_jaw(tooth)) != fdi.is_upper(tooth)
