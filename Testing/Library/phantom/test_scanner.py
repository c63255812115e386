"""The scanner: finite grey values in the order of the tissues, from settings that a generator alone decides."""

from __future__ import annotations

from dataclasses import astuple, replace

import numpy as np
import pytest

from ToothTopoSegLib.phantom import head
from ToothTopoSegLib.phantom.scanner import Imaging, add_noise, draw_imaging, expose

SLABS = (head.AIR, head.SOFT, head.DENTINE, head.ENAMEL)
SPACING = (0.5, 0.5, 0.5)


@pytest.fixture(scope="module")
def slabs() -> np.ndarray:
    """Four thick layers along x: air, soft tissue, dentine, enamel."""
    return np.broadcast_to(np.repeat(np.array(SLABS, np.uint8), 10), (20, 20, 40)).copy()


def scan(tissue: np.ndarray, seed: int, hard: bool = False, **changes: object) -> np.ndarray:
    rng = np.random.default_rng(seed)
    imaging = replace(draw_imaging(rng, hard), **changes)
    return add_noise(expose(tissue, SPACING, imaging, rng), imaging, rng)


def plain(**changes: object) -> Imaging:
    """A scanner without texture, noise, artefacts or bend, with grey values 100 times the number of the tissue."""
    clean = replace(
        draw_imaging(np.random.default_rng(0)),
        grey=tuple(100.0 * t for t in range(11)),
        texture=0.0,
        blur_mm=0.01,
        noise=0.0,
        bias=0.0,
        cupping=0.0,
        streaks=0.0,
        gamma=1.0,
        bits=12,
        saturation=2.0,
    )
    return replace(clean, **changes)


def test_the_same_generator_gives_the_same_scanner_and_the_same_scan(slabs):
    assert draw_imaging(np.random.default_rng(1)) == draw_imaging(np.random.default_rng(1))
    assert draw_imaging(np.random.default_rng(1)) != draw_imaging(np.random.default_rng(2))
    assert (scan(slabs, 1) == scan(slabs, 1)).all()
    assert (scan(slabs, 1) != scan(slabs, 2)).any()


@pytest.mark.parametrize("hard", (False, True))
def test_every_setting_is_finite_and_in_range(hard):
    for imaging in (draw_imaging(np.random.default_rng(seed), hard) for seed in range(50)):
        assert np.isfinite(np.hstack(astuple(imaging))).all()
        assert len(imaging.grey) == 11
        assert imaging.bits in (8, 12, 16)
        assert imaging.noise >= 0
        assert imaging.blur_mm > 0


def test_air_is_darker_than_soft_tissue_than_dentine_than_enamel_in_every_setting():
    for imaging in (draw_imaging(np.random.default_rng(seed)) for seed in range(50)):
        assert (np.diff([imaging.grey[t] for t in SLABS]) > 0).all()
        assert imaging.grey[head.METAL] > imaging.grey[head.ENAMEL]
        assert imaging.grey[head.SOFT] <= imaging.grey[head.PULP] < imaging.grey[head.DENTINE]


def test_scans_keep_that_order_on_average(slabs):
    scans = np.stack([scan(slabs, seed) for seed in range(12)])
    assert (np.diff([scans[:, slabs == t].mean() for t in SLABS]) > 100).all()


@pytest.mark.parametrize("seed", range(6))
def test_scans_are_finite_float32_of_the_same_shape(slabs, seed):
    grey = scan(slabs, seed, hard=True)
    assert grey.dtype == np.float32
    assert grey.shape == slabs.shape
    assert np.isfinite(grey).all()


def test_a_plain_scanner_shows_each_tissue_at_its_grey_value(slabs):
    grey = expose(slabs, SPACING, plain(), np.random.default_rng(0))
    for tissue in SLABS:
        assert grey[slabs == tissue] == pytest.approx(100.0 * tissue, abs=0.1)


@pytest.mark.parametrize(("bits", "levels"), ((8, 256), (12, 4096), (16, 4096)))
def test_the_depth_in_bits_limits_the_number_of_grey_values(slabs, bits, levels):
    grey = scan(slabs, 3, bits=bits, noise=80.0)
    assert len(np.unique(grey)) <= levels
    assert len(np.unique(grey)) > levels / 8


def test_noise_has_the_strength_of_the_setting(slabs):
    imaging = plain(noise=20.0, noise_grain=0.6)
    clean = expose(slabs, SPACING, imaging, np.random.default_rng(0))
    noisy = add_noise(clean, imaging, np.random.default_rng(0))
    middle = (slabs == head.SOFT) | (slabs == head.DENTINE)
    assert (noisy - clean)[middle].std() == pytest.approx(20.0, rel=0.1)


def test_blur_is_in_millimetres_whatever_the_spacing():
    """An edge blurred with sigma 1 mm has 84 % of its step 1 mm behind it."""
    for step in (0.25, 0.5):
        tissue = np.zeros((16, 16, round(20 / step)), np.uint8)
        tissue[..., tissue.shape[2] // 2 :] = head.SOFT
        imaging = plain(blur_mm=1.0, gamma=1.0)
        profile = expose(tissue, (step,) * 3, imaging, np.random.default_rng(0))[8, 8]
        edge = tissue.shape[2] // 2 - 0.5
        assert np.interp(edge + 1 / step, np.arange(len(profile)), profile) == pytest.approx(84.1, abs=1.5)


def test_metal_throws_streaks_across_its_own_slices_only(slabs):
    tissue = np.full((20, 30, 30), head.SOFT, np.uint8)
    tissue[5:8, 12:15, 12:15] = head.METAL
    without, streaked = (expose(tissue, SPACING, plain(streaks=s), np.random.default_rng(0)) for s in (0.0, 0.5))
    changed = (np.abs(streaked - without) > 1).any(axis=(1, 2))
    assert changed[5:8].all()
    assert not changed[:5].any()
    assert not changed[8:].any()
    assert (np.abs(streaked - without)[6, 25:] > 1).any()


def test_without_metal_the_strength_of_streaks_does_not_matter(slabs):
    first, second = (expose(slabs, SPACING, plain(streaks=s), np.random.default_rng(0)) for s in (0.0, 0.5))
    assert (first == second).all()


def test_an_even_scan_survives_every_step():
    imaging = draw_imaging(np.random.default_rng(0))
    grey = expose(np.zeros((8, 8, 8), np.uint8), SPACING, imaging, np.random.default_rng(0))
    assert np.isfinite(add_noise(grey, imaging, np.random.default_rng(0))).all()


def test_hard_scanners_blur_streak_and_rustle_more():
    easy, hard = ([draw_imaging(np.random.default_rng(s), h) for s in range(50)] for h in (False, True))
    for name in ("blur_mm", "noise", "streaks"):
        assert np.mean([getattr(i, name) for i in hard]) > np.mean([getattr(i, name) for i in easy])
