"""Settings of scanners: decided by the generator alone, in range, and worse where asked for."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest

from ToothTopoSegLib.phantom import head
from ToothTopoSegLib.phantom.acquisition import Foreign, draw_acquisition

SETTINGS = ("natural", "foreign")


def drawn(setting: str, hard: bool = False, count: int = 200):
    return [draw_acquisition(np.random.default_rng(seed), hard, setting) for seed in range(count)]


def numbers(value: object) -> list[float]:
    if isinstance(value, dict):
        return [n for part in value.values() for n in numbers(part)]
    if isinstance(value, tuple | list):
        return [n for part in value for n in numbers(part)]
    return [] if value is None else [float(value)]  # type: ignore[arg-type]


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_generator_alone_decides(setting):
    assert drawn(setting, count=3) == drawn(setting, count=3)
    assert drawn(setting, count=2)[0] != drawn(setting, count=2)[1]


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("hard", (False, True))
def test_every_value_is_finite_and_lengths_are_positive(setting, hard):
    for acquisition in drawn(setting, hard):
        assert np.isfinite(numbers(asdict(acquisition))).all()
        assert min(acquisition.blur_mm) > 0
        assert min(acquisition.noise, acquisition.smear, acquisition.rings, acquisition.truncation) >= 0
        assert acquisition.span > 0
        assert acquisition.contrast > 0


@pytest.mark.parametrize("setting", SETTINGS)
def test_files_of_all_kinds_occur_and_none_is_inverted(setting):
    responses = [a.response for a in drawn(setting)]
    assert {r.levels for r in responses} >= {255, 4095}
    assert all(r.high > r.low and r.top > r.floor for r in responses)
    assert all(min(r.low, r.high) >= -32768 and max(r.low, r.high) <= 32767 for r in responses)


def test_some_8_bit_files_cut_off_enamel_and_some_files_cut_off_the_dark_end():
    acquisitions = drawn("natural")
    assert any(a.response.top < a.grey[head.ENAMEL] for a in acquisitions)
    assert any(a.response.floor > a.grey[head.AIR] for a in acquisitions)
    assert all(a.response.floor < a.grey[head.SOFT] < a.grey[head.DENTINE] < a.response.top for a in acquisitions)


def test_every_effect_is_there_in_some_scans_and_not_in_others():
    for name in ("beam", "veil", "truncation", "rings", "moves", "sharpen", "smear"):
        there = np.mean([bool(getattr(a, name)) for a in drawn("natural")])
        assert 0.05 < there < 0.95, name


def test_what_only_foreign_scanners_do_natural_ones_never_do():
    assert all(a.foreign == Foreign() and (a.beam is None or not a.beam.blind) for a in drawn("natural"))
    assert all(a.foreign != Foreign() for a in drawn("foreign"))


def test_hard_scanners_have_more_noise_motion_and_blur():
    easy, hard = drawn("natural"), drawn("natural", hard=True)
    for measure in (lambda a: a.noise, lambda a: len(a.moves), lambda a: a.blur_mm[0]):
        assert np.mean([measure(a) for a in hard]) > np.mean([measure(a) for a in easy])


@pytest.mark.parametrize("setting", ("plain", "real", ""))
def test_another_setting_is_refused_by_name(setting):
    with pytest.raises(ValueError, match="natural, foreign"):
        draw_acquisition(np.random.default_rng(0), setting=setting)
