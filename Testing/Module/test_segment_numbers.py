"""The tooth of each segment as its name, its terminology or its number says it."""

from __future__ import annotations

import pytest
from ToothTopoSegGui.segment_numbers import (
    SegmentLabel,
    number_in_words,
    number_of_terminology,
    number_segments,
)

from ToothTopoSegLib.anatomy import fdi
from ToothTopoSegLib.anatomy.snomed import terminology_entry
from ToothTopoSegLib.errors import InputError, UsageError


def segments(*told: tuple[str, int]) -> list[SegmentLabel]:
    return [SegmentLabel(f"id{n}", name, value) for n, (name, value) in enumerate(told)]


def numbers(*told: tuple[str, int], scheme: str | None = None) -> list[int]:
    return list(number_segments(segments(*told), scheme).numbers.values())


@pytest.mark.parametrize("value", [*sorted(fdi.TEETH), *fdi.JAWS])
def test_every_tooth_and_jaw_is_known_by_our_own_name_and_terminology(value):
    assert number_in_words(f"{value} {fdi.label_name(value)}") == value
    assert number_of_terminology(terminology_entry(value)) == value


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("Lower_Left_First_Molar", 36),
        ("LowerLeftFirstMolar", 36),
        ("mandibular left 1st molar", 36),
        ("lower left wisdom tooth", 38),
        ("primary maxillary right cuspid", 53),
        ("upper_right_central_incisor_fdi11", 11),
        ("upper_right_central_incisor_pulp_fdi111", 11),
        ("FDI 36", 36),
        ("LL6", 36),
        ("ura", 51),
        ("Mandible", 101),
        ("upper jawbone", 102),
    ],
)
def test_names_in_words_are_understood_as_people_and_other_tools_write_them(name, number):
    assert number_in_words(name) == number


@pytest.mark.parametrize("name", ["Tumor", "mandibular canal", "lower left first molar crown", "left", "", "FDI 19"])
def test_a_name_that_is_no_tooth_is_none(name):
    assert number_in_words(name) is None


@pytest.mark.parametrize("entry", ["", "a~b", "Segmentation~SCT^85756007^Tissue~SCT^85756007^Tissue~^^~A~^^~^^"])
def test_a_terminology_that_is_no_tooth_is_none(entry):
    assert number_of_terminology(entry) is None


def test_a_bare_number_of_a_name_goes_before_the_label_value():
    assert numbers(("36", 1), ("Label_37", 2), ("Tooth 38", 3)) == [36, 37, 38]


def test_the_label_value_counts_where_the_name_says_nothing():
    assert numbers(("Segment", 36), ("", 37)) == [36, 37]


def test_a_label_value_does_not_make_a_tooth_of_a_segment_that_is_called_something_else():
    found = number_segments(segments(("36", 36), ("Tumor", 37)))
    assert dict(found.numbers) == {"id0": 36}
    assert found.notes == ("No teeth and left out: Tumor.",)


def test_the_scheme_is_guessed_where_only_one_fits():
    found = number_segments(segments(("Label_11", 11), ("Label_19", 19), ("Label_29", 29)))
    assert found.scheme == "totalsegmentator-teeth"
    assert list(found.numbers.values()) == [11, 21, 33]
    assert "TotalSegmentator" in found.notes[0]


def test_two_schemes_that_mean_the_same_teeth_need_no_choice():
    assert numbers(("Label_9", 9), ("Label_48", 48), ("Label_31", 31), ("Label_2", 2), ("Label_111", 111)) == [
        48,
        31,
        102,
        11,
    ]


def test_numbers_that_fit_several_schemes_have_to_be_chosen_for():
    with pytest.raises(InputError, match=r"fit several label schemes .*choose the one"):
        number_segments(segments(("Label_1", 1), ("Label_11", 11), ("Label_21", 21)))


def test_universal_numbers_count_only_where_the_scheme_is_named():
    with pytest.raises(InputError, match="No segment of the segmentation is a tooth"):
        number_segments(segments(("Segment_3", 1), ("Segment_9", 9)))
    assert numbers(("Segment_3", 1), ("Segment_19", 9), scheme="universal") == [16, 36]


def test_segments_that_are_merely_counted_are_no_teeth():
    with pytest.raises(InputError, match="No segment of the segmentation is a tooth"):
        number_segments(segments(*((f"Segment_{n}", n) for n in range(1, 13))))


def test_in_a_named_scheme_any_label_value_counts_but_words_go_first():
    assert numbers(("Zahn links", 19), ("lower left first molar", 1), scheme="universal") == [36, 36]


def test_a_renamed_segment_is_what_its_name_says_and_that_is_told():
    told = [SegmentLabel("a", "37 lower left second molar", 36, terminology_entry(36))]
    found = number_segments(told)
    assert found.numbers == {"a": 37}
    assert "has the terminology of lower left first molar (36); its name was followed." in found.notes[0]


def test_a_segmentation_without_teeth_names_what_it_has():
    with pytest.raises(InputError, match=r"No segment of 'Brain' is a tooth .*found Tumor, Vessel.*name the segments"):
        number_segments(segments(("Tumor", 1), ("Vessel", 2)), title="'Brain'")


def test_an_unknown_scheme_lists_the_known_ones():
    with pytest.raises(UsageError, match="There is no label scheme 'palmer'; choose one of fdi"):
        number_segments(segments(("36", 36)), "palmer")
