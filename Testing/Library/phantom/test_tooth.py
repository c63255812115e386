"""Single teeth on a lattice in their own frame: outline, tissues, roots and size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from ToothTopoSegLib.anatomy import fdi
from ToothTopoSegLib.anatomy.sizes import size_of
from ToothTopoSegLib.phantom import tooth
from ToothTopoSegLib.phantom.tooth import ToothShape, draw_tooth, form_of, tooth_distance

EVERY_TYPE = tuple(t for t in fdi.PERMANENT + fdi.DECIDUOUS if not fdi.is_left(t))


@dataclass(frozen=True, eq=False)
class Solid:
    """A tooth on a lattice: heights ``w`` in mm and masks, all of one shape."""

    shape: ToothShape
    step: float
    w: NDArray[np.float64]
    inside: NDArray[np.bool_]
    enamel: NDArray[np.bool_]
    pulp: NDArray[np.bool_]


def solid(number: int, seed: int = 0, step: float = 0.4) -> Solid:
    shape = draw_tooth(number, np.random.default_rng(seed))
    across = np.arange(-shape.reach, shape.reach, step)
    along = np.arange(-shape.depth - 1, shape.crown_height + 1, step)
    u, v, w = np.meshgrid(across, across, along, indexing="ij")
    distance, enamel, pulp = tooth_distance(shape, u, v, w)
    return Solid(shape, step, w, distance < 0, enamel & (distance < 0), pulp & (distance < 0))


def distance_at(shape: ToothShape, u: float, v: float, w: float) -> float:
    return float(tooth_distance(shape, *(np.array([float(c)]) for c in (u, v, w)))[0][0])


@pytest.mark.parametrize("number", EVERY_TYPE)
def test_the_distance_is_negative_in_crown_and_neck_and_positive_around_the_tooth(number):
    shape = draw_tooth(number, np.random.default_rng(1))
    assert distance_at(shape, 0, 0, 0) < 0
    assert distance_at(shape, 0, 0, shape.crown_height / 2) < 0
    for u, v in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        for w in (-shape.depth / 2, 0.0, shape.crown_height / 2):
            assert distance_at(shape, u * shape.reach, v * shape.reach, w) > 0
    assert distance_at(shape, 0, 0, shape.crown_height + 0.1) > 0
    assert distance_at(shape, 0, 0, -shape.depth - 0.1) > 0


def test_the_distance_grows_outwards_from_the_crown():
    shape = draw_tooth(21, np.random.default_rng(0))
    u = np.arange(0.0, 8.0, 0.25)
    distance = tooth_distance(shape, u, np.zeros_like(u), np.full_like(u, shape.crown_height / 2))[0]
    assert (np.diff(distance) >= -1e-6).all()
    assert distance[0] < 0 < distance[-1]


@pytest.mark.parametrize("number", EVERY_TYPE)
def test_a_tooth_is_one_piece_of_plausible_volume(number):
    made = solid(number)
    assert ndimage.label(made.inside, np.ones((3, 3, 3)))[1] == 1
    low, high = size_of(number).volume_range
    assert low < made.inside.sum() * made.step**3 < high


@pytest.mark.parametrize("number", (11, 13, 15, 16, 41, 46))
def test_enamel_lies_on_the_crown_and_covers_its_surface(number):
    made = solid(number, step=0.25)
    assert made.w[made.enamel].min() > 0
    surface = made.inside & ~ndimage.binary_erosion(made.inside)
    upper_half = surface & (made.w > 0.5 * made.shape.crown_height)
    assert made.enamel[upper_half].mean() > 0.95
    assert not made.enamel[surface & (made.w < 0)].any()


@pytest.mark.parametrize("number", (11, 13, 15, 16, 41, 46))
def test_pulp_lies_inside_dentine_but_for_the_furcation_and_the_last_third_of_the_root(number):
    """Canals open at the apex; that the chamber of these phantoms also opens where the roots part is a known limit."""
    made = solid(number, step=0.25)
    assert not (made.pulp & made.enamel).any()
    assert 0.02 < made.pulp.sum() / made.inside.sum() < 0.2
    skin = made.inside & ~ndimage.binary_erosion(made.inside, np.ones((3, 3, 3)))
    open_at = made.w[made.pulp & skin]
    furcation = (made.shape.trunk > 0) & (np.abs(open_at + made.shape.trunk) < 2 * made.step)
    assert (furcation | (open_at < -0.6 * made.shape.depth)).all()


@pytest.mark.parametrize(("number", "roots"), ((11, 1), (43, 1), (46, 2), (36, 2), (16, 3), (27, 3)))
def test_roots_part_into_as_many_tips_as_the_tooth_type_has(number, roots):
    made = solid(number, step=0.3)
    assert len(made.shape.roots) == roots
    height = -0.8 * min(root.length for root in made.shape.roots)
    level = np.abs(made.w[0, 0] - height).argmin()
    assert ndimage.label(made.inside[:, :, level])[1] == roots


def test_third_molars_and_first_upper_premolars_vary_in_their_number_of_roots():
    for number in (18, 14):
        counts = {len(draw_tooth(number, np.random.default_rng(seed)).roots) for seed in range(20)}
        assert len(counts) == 2
        assert 1 in counts


def test_forms_follow_the_tooth_type():
    assert [form_of(q) for q in range(11, 19)] == 2 * [tooth.ANTERIOR] + [tooth.CANINE] + 2 * [tooth.PREMOLAR] + 3 * [
        tooth.MOLAR
    ]
    assert [form_of(q) for q in range(71, 76)] == 2 * [tooth.ANTERIOR] + [tooth.CANINE] + 2 * [tooth.MOLAR]


def test_the_same_generator_gives_the_same_tooth_and_scale_makes_it_larger():
    assert draw_tooth(16, np.random.default_rng(3)) == draw_tooth(16, np.random.default_rng(3))
    assert draw_tooth(16, np.random.default_rng(3)) != draw_tooth(16, np.random.default_rng(4))
    small, large = (draw_tooth(16, np.random.default_rng(3), scale) for scale in (0.9, 1.1))
    assert large.crown[0] / small.crown[0] == pytest.approx(1.1 / 0.9)
    assert large.depth / small.depth == pytest.approx(1.1 / 0.9)


@pytest.mark.parametrize("number", (0, 19, 56, 101))
def test_what_is_no_tooth_is_refused(number):
    with pytest.raises(ValueError):
        draw_tooth(number, np.random.default_rng(0))
