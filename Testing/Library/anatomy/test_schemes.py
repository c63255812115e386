"""Label schemes: exact maps there and back, spot values from the public definitions, and guesses from values."""

from __future__ import annotations

import numpy as np
import pytest

from ToothTopoSegLib.anatomy import fdi, schemes


@pytest.mark.parametrize("name", schemes.scheme_names())
def test_teeth_and_jaws_survive_the_way_there_and_back(name: str) -> None:
    own = np.array([0, *schemes.scheme(name).labels], dtype=np.uint8)
    assert np.array_equal(schemes.from_fdi(schemes.to_fdi(own, name), name), own)
    numbers = np.array([0, *schemes.scheme(name).labels.values()], dtype=np.uint8)
    assert np.array_equal(schemes.to_fdi(schemes.from_fdi(numbers, name), name), numbers)


@pytest.mark.parametrize("name", schemes.scheme_names())
def test_every_permanent_tooth_has_exactly_one_value(name: str) -> None:
    targets = list(schemes.scheme(name).labels.values())
    assert set(fdi.PERMANENT) <= set(targets)
    assert len(targets) == len(set(targets))


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("toothfairy2", 1, fdi.LOWER_JAW),
        ("toothfairy2", 2, fdi.UPPER_JAW),
        ("toothfairy2", 36, 36),
        ("toothfairy2", 10, 0),
        ("toothfairy3", 136, 36),
        ("toothfairy3", 104, 0),
        ("totalsegmentator-teeth", 11, 11),
        ("totalsegmentator-teeth", 19, 21),
        ("totalsegmentator-teeth", 34, 38),
        ("totalsegmentator-teeth", 42, 48),
        ("totalsegmentator-teeth", 45, 0),
        ("totalsegmentator-teeth", 46, 11),
        ("totalsegmentator-teeth", 77, 48),
        ("universal", 1, 18),
        ("universal", 8, 11),
        ("universal", 9, 21),
        ("universal", 16, 28),
        ("universal", 17, 38),
        ("universal", 32, 48),
    ],
)
def test_known_values_mean_what_their_source_says(name: str, value: int, expected: int) -> None:
    assert schemes.to_fdi(np.array([value], dtype=np.int32), name)[0] == expected


def test_universal_notation_numbers_permanent_and_letters_deciduous_teeth() -> None:
    known = {18: "1", 28: "16", 38: "17", 48: "32", 55: "A", 65: "J", 75: "K", 85: "T"}
    assert {n: schemes.universal_name(n) for n in known} == known
    assert all(schemes.fdi_from_universal(schemes.universal_name(n)) == n for n in fdi.TEETH)
    with pytest.raises(ValueError, match="1-32 or A-T"):
        schemes.fdi_from_universal("33")


def test_unknown_values_are_named_and_nothing_is_silently_dropped() -> None:
    with pytest.raises(schemes.UnknownLabelsError, match="9, 99") as caught:
        schemes.to_fdi(np.array([[0, 11], [99, 9]], dtype=np.uint8), "fdi")
    assert caught.value.values == (9, 99)
    with pytest.raises(schemes.UnknownLabelsError):
        schemes.from_fdi(np.array([fdi.LOWER_JAW], dtype=np.uint8), "universal")


def test_an_unknown_scheme_is_refused_with_the_known_names() -> None:
    with pytest.raises(ValueError, match="known are fdi, toothfairy2"):
        schemes.scheme("palmer")


def test_schemes_are_guessed_from_the_values_that_occur() -> None:
    assert schemes.guess_schemes([0, 11, 48, fdi.LOWER_JAW]) == ["fdi"]
    assert schemes.guess_schemes([1, 2, 8, 21, 48]) == ["toothfairy2", "toothfairy3", "totalsegmentator-teeth"]
    assert schemes.guess_schemes([1, 36, 103, 136]) == ["toothfairy3"]
    assert schemes.guess_schemes([1, 19, 20, 77]) == ["totalsegmentator-teeth"]
    assert schemes.guess_schemes(range(1, 33)) == ["totalsegmentator-teeth", "universal"]
    assert schemes.guess_schemes([99]) == []
    assert schemes.guess_schemes([fdi.LOWER_JAW]) == [], "jaws alone say nothing about the numbering of teeth"


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.int64])
def test_values_are_listed_for_any_integer_type_and_shape(dtype: type) -> None:
    array = np.zeros((3, 4, 5), dtype=dtype)
    array[1, 2, 3], array[0, 0, 0] = 48, 11
    assert schemes.label_values(array) == (11, 48)
    assert schemes.label_values(array[:, ::-1]) == (11, 48)
    assert schemes.label_values(array.reshape(-1)) == (11, 48)


def test_negative_and_huge_values_are_listed_too() -> None:
    assert schemes.label_values(np.array([-3, 0, 11], dtype=np.int32)) == (-3, 11)
    assert schemes.label_values(np.array([[[7_000_000]]], dtype=np.int64)) == (7_000_000,)
    with pytest.raises(TypeError, match="whole numbers"):
        schemes.label_values(np.array([11.0]))


def test_a_long_list_of_values_is_cut() -> None:
    assert schemes.listed([1, 2]) == "1, 2"
    assert schemes.listed(range(1, 9)) == "1, 2, 3, 4, 5 and 3 more"
