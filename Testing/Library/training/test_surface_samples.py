"""Samples of the second network: around teeth, with the border that parts them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ToothTopoSegLib.phantom import head
from ToothTopoSegLib.segmentation.surface import CORE, OWN_GRID
from ToothTopoSegLib.training import cases
from ToothTopoSegLib.training.cases import CASE_CENTRE, FIRST_HARD, FIRST_PLAIN, cache_case, load_case, spacing_of
from ToothTopoSegLib.training.loop import Schedule
from ToothTopoSegLib.training.surface_samples import core_and_border, draw_surface_sample, draw_surface_window


@pytest.fixture(scope="module")
def case() -> np.ndarray:
    """Two teeth of dentine that touch, in soft tissue (2, z, y, x)."""
    tissue, labels = np.full((60, 60, 60), head.SOFT, np.uint8), np.zeros((60, 60, 60), np.uint8)
    tissue[10:50, 20:40, 10:50] = head.DENTINE
    labels[10:50, 20:40, 10:30], labels[10:50, 20:40, 30:50] = 11, 21
    return np.stack([tissue, labels])


def test_windows_lie_around_teeth(case):
    windows = [draw_surface_window(case, np.random.default_rng(seed), 0.5) for seed in range(200)]
    voxel = spacing_of(case.shape[1:])
    origin = (np.array(case.shape[1:]) - 1) / 2 - np.asarray(CASE_CENTRE[::-1]) / voxel
    at = np.array([window.centre for window in windows]) / voxel + origin
    near = ((at > [-14, -4, -14]) & (at < [74, 64, 74])).all(axis=1)
    assert near.mean() > 0.8
    sizes = np.array([window.spacing for window in windows])
    assert sizes.mean() == pytest.approx(0.5, rel=0.05)
    assert sizes.min() < OWN_GRID[0] * 0.5 and sizes.max() > OWN_GRID[1] * 0.5


@pytest.mark.parametrize("setting", ["plain", "natural"])
def test_teeth_have_a_core_within_a_border_that_parts_neighbours(case, setting, monkeypatch):
    from ToothTopoSegLib.training import sampling

    seen = {}

    def remembered(labels):
        seen["classes"] = real(labels)
        return seen["classes"]

    real = sampling._classes
    monkeypatch.setattr(sampling, "_classes", remembered)
    monkeypatch.setattr(sampling, "MIRROR_SHARE", 0.0)
    for seed in range(8):
        image, drawn = draw_surface_sample(case, np.random.default_rng(seed), (32, 32, 32), 0.5, setting)
        classes = core_and_border(drawn[None])[0]
        assert image.shape == classes.shape == (32, 32, 32) and set(classes.unique().tolist()) <= {0, 1, 2}
        numbers = torch.where(classes > 0, seen["classes"], 0)
        for axis in range(3):
            here, there = (numbers.narrow(axis, start, 31) for start in (0, 1))
            assert not any((classes.narrow(axis, start, 31)[here != there] == CORE).any() for start in (0, 1))


@pytest.mark.parametrize("first", [0, 240])
def test_a_schedule_of_surfaces_draws_from_plain_heads_as_well_and_from_the_first_one_on(tmp_path, first):
    schedule = Schedule(
        setting="natural", target="surfaces", cases=3, crania=0, plain_share=0.5, plain_cases=2, first_case=first
    )
    late = schedule.cranium_from + 1
    numbers = [schedule.case_number(late, np.random.default_rng(seed)) for seed in range(60)]
    there = {n + first for n in (0, 1, 2, FIRST_PLAIN, FIRST_PLAIN + 1)}
    assert set(numbers) == there == set(schedule.case_numbers)
    assert 15 < sum(number >= FIRST_PLAIN for number in numbers) < 45


def test_a_schedule_draws_its_share_of_hard_heads_and_for_them_mostly_hard_scanners(monkeypatch):
    from ToothTopoSegLib.phantom import scanner

    schedule = Schedule(
        setting="natural", cases=3, crania=0, plain_share=0.5, plain_cases=2, first_case=5, hard_share=0.6, hard_cases=2
    )
    numbers = np.array([schedule.case_number(0, np.random.default_rng(seed)) for seed in range(400)])
    assert set(numbers) == {5, 6, 7, *(FIRST_PLAIN + n for n in (5, 6)), *(FIRST_HARD + n for n in (5, 6))}
    assert set(numbers) == set(schedule.case_numbers)
    assert abs(np.mean(numbers >= FIRST_HARD) - 0.6) < 0.08
    assert abs(np.mean((numbers >= FIRST_PLAIN) & (numbers < FIRST_HARD)) - 0.2) < 0.08

    seen: list[bool] = []
    real = scanner.draw_imaging

    def remembered(rng: np.random.Generator, hard: bool) -> scanner.Imaging:
        seen.append(hard)
        return real(rng, hard)

    monkeypatch.setattr(scanner, "draw_imaging", remembered)
    case = np.zeros((2, 24, 24, 24), np.uint8)
    for number, share in ((FIRST_PLAIN, 0.4), (FIRST_HARD, 0.8)):
        seen.clear()
        for seed in range(120):
            schedule.draw(case, number, np.random.default_rng(seed), ((8, 8, 8), 1.0))
        assert abs(np.mean(seen) - share) < 0.12


def test_a_plain_head_is_the_same_beside_natural_ones(tmp_path, monkeypatch):
    monkeypatch.setattr(cases, "CASE_SHAPE", tuple(n // 4 for n in cases.CASE_SHAPE))
    monkeypatch.setattr(cases, "CASE_SPACING", cases.CASE_SPACING * 4)
    cache_case(tmp_path, FIRST_PLAIN, natural=True)
    cache_case(tmp_path, 0)
    np.testing.assert_array_equal(load_case(tmp_path, FIRST_PLAIN), load_case(tmp_path, 0))


def test_numbers_are_drawn_as_before_where_there_are_no_plain_heads():
    schedule = Schedule(cases=7, crania=0)
    assert [schedule.case_number(0, np.random.default_rng(seed)) for seed in range(5)] == [
        int(np.random.default_rng(seed).integers(7)) for seed in range(5)
    ]
