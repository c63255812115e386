"""Pieces of head without jaws: bone, but nothing to label."""

from __future__ import annotations

import numpy as np
import pytest

from ToothTopoSegLib.phantom.cranium import render_cranium
from ToothTopoSegLib.phantom.head import CORTICAL, DENTINE, ENAMEL, METAL, PULP

SHAPE, SPACING = (32, 36, 34), 2.5


@pytest.mark.parametrize("seed", range(6))
def test_a_cranium_shows_bone_and_soft_tissue_but_no_tooth_and_no_label(seed):
    tissue, labels = render_cranium(SHAPE, SPACING, np.random.default_rng(seed))
    assert tissue.shape == labels.shape == SHAPE and tissue.dtype == labels.dtype == np.uint8
    assert not labels.any()
    assert (tissue == CORTICAL).mean() > 0.002
    assert not np.isin(tissue, (DENTINE, ENAMEL, PULP, METAL)).any()


def test_the_same_seed_gives_the_same_cranium_and_another_seed_another():
    first, again, other = (render_cranium(SHAPE, SPACING, np.random.default_rng(seed))[0] for seed in (3, 3, 4))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
