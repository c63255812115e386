"""Teeth that the first network has missed, beside teeth in places that are told."""

from __future__ import annotations

import numpy as np
import pytest

from ToothTopoSegLib.segmentation.classes import TEETH
from ToothTopoSegLib.segmentation.unseen import behind_the_last

ROW = {34: (-20.0, 20.0), 35: (-13.0, 22.0), 36: (-4.0, 24.0), 37: (7.0, 26.0)}
"""Where lower left teeth stand, (y, x) in mm."""
MISSED = {37: 0.6, 17: 0.4}
"""What the first network would have called the tooth it took for bone."""


def called(
    y: float,
    x: float = 27.0,
    row: tuple[int, ...] = (34, 35, 36, 37),
    volume: float = 600.0,
    unseen: bool = True,
    look: dict[int, float] = MISSED,
) -> dict[int, float]:
    """What a tooth at a place is called beside others that were seen."""
    looks = [{fdi: 1.0} for fdi in row] + [look]
    probability = np.array([[tooth.get(fdi, 0.0) for fdi in TEETH] for tooth in looks])
    centres = np.array([(0.0, *ROW[fdi]) for fdi in row] + [(-6.0, y, x)])
    volumes = np.array([700.0] * len(row) + [volume])
    found = behind_the_last(probability, volumes, centres, np.array([False] * len(row) + [unseen]))
    assert (found[:-1] == probability[:-1]).all(), "what was seen stays as it is"
    return {fdi: float(share) for fdi, share in zip(TEETH, found[-1], strict=True) if share}


def test_a_missed_tooth_behind_the_second_molar_is_the_wisdom_tooth() -> None:
    assert called(17.0) == pytest.approx({38: 1.0})


def test_behind_the_first_molar_it_may_be_either() -> None:
    assert called(8.0, row=(34, 35, 36)) == pytest.approx({37: 0.5, 38: 0.5})


def test_what_was_seen_or_lies_elsewhere_or_is_small_keeps_what_it_looks_like() -> None:
    assert called(17.0, unseen=False) == pytest.approx(MISSED)
    assert called(-28.0) == pytest.approx(MISSED), "in front"
    assert called(5.0) == pytest.approx(MISSED), "not behind the molar next to it"
    assert called(40.0) == pytest.approx(MISSED), "far from every tooth"
    assert called(17.0, volume=20.0) == pytest.approx(MISSED)
    assert called(17.0, row=()) == pytest.approx(MISSED)


def test_a_missed_tooth_whose_jaw_the_bite_has_told_follows_no_molar_of_the_other_jaw() -> None:
    assert called(17.0, look={17: 1.0}) == pytest.approx({17: 1.0})
    assert called(17.0, look={37: 1.0}) == pytest.approx({38: 1.0})
