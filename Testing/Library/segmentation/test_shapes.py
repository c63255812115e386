"""The form of a tooth: measures of bodies that are known, types told by them, and what is learnt from few teeth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ToothTopoSegLib.anatomy.fdi import is_upper, position
from ToothTopoSegLib.phantom.write import make_teeth
from ToothTopoSegLib.segmentation.shapes import DEPTHS_MM, FEATURES, POSITIONS, form, forms, learnt

SPACING = 0.5


def cylinder(height: int, radius: float, width: float = 1.0) -> np.ndarray:
    """An upright cylinder of so many voxels, ``width`` times as wide along y as along x."""
    z, y, x = np.ogrid[: height + 4, :50, :50]
    inside = (y - 25) ** 2 / width**2 + (x - 25) ** 2 <= radius**2
    return np.broadcast_to(inside, (height + 4, 50, 50)) & (z >= 2) & (z < height + 2)


def test_volume_length_and_cross_sections_of_a_cylinder_are_those_of_a_cylinder() -> None:
    found = np.exp(form(cylinder(40, 6.0, 1.5), SPACING, upper=False))
    area = np.pi * 3.0 * 4.5
    assert found[0] == pytest.approx(area * 20, rel=0.05) and found[1] == pytest.approx(20, abs=0.6)
    sections = found[2:].reshape(len(DEPTHS_MM), 3)
    assert sections[:, 0] == pytest.approx([area] * 5, rel=0.3), "a section may hold one layer of voxels more or less"
    assert sections[:, 1] == pytest.approx([3.0 / 2] * 5, rel=0.05)
    assert sections[:, 2] == pytest.approx([4.5 / 2] * 5, rel=0.05)


def test_sections_are_counted_from_the_biting_edge() -> None:
    cone = cylinder(40, 7.0)
    z, y, x = np.ogrid[:44, :50, :50]
    cone = cone & ((y - 25) ** 2 + (x - 25) ** 2 <= (7 * (z / 44)) ** 2)
    lower, upper = (form(cone, SPACING, jaw)[2::3] for jaw in (False, True))
    assert (np.diff(lower) < 0).all(), "the wide end of a lower tooth is up"
    assert (np.diff(upper) > 0).all()


@given(st.integers(4, 60))
def test_what_a_tooth_is_too_short_to_tell_is_left_out(height: int) -> None:
    found = form(cylinder(height, 4.0), SPACING, upper=True)
    assert found.shape == (FEATURES,) and np.isfinite(found[:2]).all()
    there = np.isfinite(found[2:].reshape(-1, 3)).all(1)
    assert (np.diff(there.astype(int)) <= 0).all()
    assert np.isfinite(forms().nats(found, upper=True)).all()


def test_of_a_tooth_whose_roots_are_out_of_view_only_the_crown_is_measured() -> None:
    found = form(cylinder(20, 5.0), SPACING, upper=False, whole=False)
    assert np.isnan(found[:2]).all() and np.isfinite(found[2:8]).all() and np.isnan(found[8:]).all()
    with pytest.raises(ValueError, match="no voxel"):
        form(np.zeros((3, 3, 3), bool), SPACING, upper=True)


def test_teeth_of_a_head_are_taken_for_their_own_kind() -> None:
    labels = make_teeth(45_001, SPACING).array
    kinds = (0, 0, 1, 2, 2, 3, 3, 3)
    right = []
    for fdi in (int(n) for n in np.unique(labels) if 0 < n < 49):
        places = np.argwhere(labels == fdi)
        low, high = places.min(0), places.max(0) + 1
        mask = labels[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] == fdi
        nats = forms().nats(form(mask, SPACING, is_upper(fdi)), is_upper(fdi))
        right.append(kinds[int(nats.argmax())] == kinds[position(fdi) - 1])
    assert len(right) > 20 and np.mean(right) > 0.9


def test_types_are_learnt_from_measures_of_which_some_are_missing() -> None:
    rng = np.random.default_rng(0)
    places, upper = np.tile(np.arange(POSITIONS), 40), np.repeat([True, False], 160)
    features = rng.normal(0, 0.1, (320, 4)) + places[:, None] * [1.0, 0.0, 0.5, 0.0] + upper[:, None]
    features[rng.random((320, 4)) < 0.2] = np.nan
    found = learnt(features, places, upper, 0.1)
    assert found.means[0, 3] == pytest.approx([4, 1, 2.5, 1], abs=0.1)
    assert np.linalg.eigvalsh(found.covariance).min() > 0
    told = [found.nats(f, bool(u)).argmax() for f, u in zip(features, upper, strict=True)]
    seen = np.isfinite(features[:, 0])
    assert (np.array(told)[seen] == places[seen]).mean() > 0.98
    with pytest.raises(ValueError, match="too few teeth of position 8"):
        learnt(features[places < 7], places[places < 7], upper[places < 7], 0.1)
