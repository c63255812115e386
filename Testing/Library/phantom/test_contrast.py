"""Contrast laws: finite values in the order of tissues that a law promises, over many scanners."""

from __future__ import annotations

import numpy as np
import pytest

from ToothTopoSegLib.phantom import contrast, head

SEEDS = range(300)
LAWS = (contrast.natural_contrast, contrast.foreign_contrast)


def grey(law, tissue: int) -> np.ndarray:
    return np.array([law(np.random.default_rng(seed))[tissue] for seed in SEEDS])


@pytest.mark.parametrize("law", LAWS)
def test_every_tissue_has_a_finite_grey_value_and_air_is_darkest(law):
    values = np.stack([law(np.random.default_rng(seed)) for seed in SEEDS])
    assert values.shape == (len(SEEDS), contrast.TISSUES)
    assert np.isfinite(values).all()
    assert (values.argmin(axis=1) == head.AIR).all()


@pytest.mark.parametrize("law", LAWS)
def test_dentine_is_brighter_than_soft_tissue_and_mostly_darker_than_enamel(law):
    dentine = grey(law, head.DENTINE)
    assert (dentine > grey(law, head.SOFT)).all()
    assert np.mean(grey(law, head.ENAMEL) > dentine) > 0.9


def test_natural_bone_and_dentine_overlap_and_marrow_lies_between_soft_tissue_and_bone():
    dentine, bone, marrow = (grey(LAWS[0], t) for t in (head.DENTINE, head.CORTICAL, head.TRABECULAR))
    assert 0.2 < np.mean(bone > dentine) < 0.8
    assert (marrow > grey(LAWS[0], head.SOFT)).all()
    assert np.mean(marrow < bone) > 0.95


def test_natural_enamel_is_always_the_brightest_of_a_tooth():
    assert (grey(LAWS[0], head.ENAMEL) > grey(LAWS[0], head.DENTINE)).all()


@pytest.mark.parametrize("law", LAWS)
def test_metal_is_far_brighter_than_any_tissue_of_most_heads(law):
    assert np.mean(grey(law, head.METAL) > 2 * grey(law, head.DENTINE)) > 0.9
    assert np.mean(grey(law, head.TITANIUM) > grey(law, head.ENAMEL)) > 0.7


def test_foreign_heads_have_orders_that_natural_ones_never_have():
    """Pulp darker than soft tissue, fat as bright as muscle."""
    for law, occurs in zip(LAWS, (False, True), strict=True):
        soft = grey(law, head.SOFT)
        assert bool(np.mean(grey(law, head.PULP) < soft - 10) > 0.2) == occurs
        assert bool(np.mean(grey(law, head.FAT) > soft) > 0.1) == occurs
