"""Fields of view: sizes and places as scanners have them, within the size limit."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ToothTopoSegLib.phantom.views import (
    COARSEST,
    FINEST,
    KINDS,
    OUTSIDE,
    draw_tilt,
    draw_view,
    most_frequent,
    outside_value,
    view_of_jaws,
)

LIMIT = 16_000_000


def views(hard: bool = False):
    return [draw_view(np.random.default_rng(seed), LIMIT, hard) for seed in range(200)]


def test_every_kind_occurs_and_grows_from_quadrant_to_whole_head():
    widths = {kind: [v.shape[2] * v.spacing for v in views() if v.kind == kind] for kind in KINDS}
    assert all(widths.values())
    means = [np.mean(widths[kind]) for kind in KINDS]
    assert (np.diff(means) > -5).all()
    assert min(widths["quadrant"]) < 45
    assert max(widths["whole head"]) > 230


@pytest.mark.parametrize("hard", (False, True))
def test_no_view_is_larger_than_the_limit_and_spacing_is_a_scanners(hard):
    for view in views(hard):
        assert np.prod(view.shape) <= LIMIT * 1.01
        assert view.spacing >= FINEST
        assert view.spacing <= COARSEST + 0.001 or view.kind == "whole head"


def test_cylinders_fit_into_their_grids_and_boxes_show_everything():
    for view in views():
        seen = view.field.seen(view.shape, (view.spacing,) * 3)
        assert seen.all() == (view.outside is None)
        if view.outside is not None:
            assert view.outside in OUTSIDE
            assert seen.mean() == pytest.approx(np.pi / 4, abs=0.02)


def test_heads_are_mostly_upright_and_at_times_tilted_by_25_degrees_and_more():
    angles = [
        np.abs(Rotation.from_matrix(draw_tilt(np.random.default_rng(s))).as_rotvec(degrees=True)).max()
        for s in range(400)
    ]
    assert np.median(angles) < 15
    assert 0.03 < np.mean(np.array(angles) > 20) < 0.3
    assert max(angles) < 60


def test_the_same_generator_gives_the_same_view():
    assert draw_view(np.random.default_rng(3), LIMIT) == draw_view(np.random.default_rng(3), LIMIT)
    assert view_of_jaws(np.random.default_rng(3), (20, 30, 30), 1.0).shape == (20, 30, 30)


def test_the_outside_of_a_view_is_zero_or_the_darkest_or_the_mean_value_inside():
    scan, seen = np.arange(8.0).reshape(2, 2, 2), np.array([[True, False], [True, False]])
    assert [outside_value(scan, seen, outside) for outside in OUTSIDE] == [0.0, 0.0, 3.0]


def test_a_coarser_voxel_has_the_label_most_of_its_parts_have():
    fine = np.zeros((2, 2, 4), np.uint8)
    fine[..., :2].flat[:5] = 11
    fine[..., 2:] = np.array([[[12, 12], [12, 13]], [[13, 12], [12, 0]]])
    assert most_frequent(fine, 2).tolist() == [[[11, 12]]]
    assert (most_frequent(np.full((4, 4, 4), 200, np.uint8), 2) == 200).all()
