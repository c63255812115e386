"""Natural teeth on a lattice in their own frame: distance, tissues, topology, and what a person's teeth share."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from ToothTopoSegLib.anatomy import fdi
from ToothTopoSegLib.anatomy.sizes import size_of
from ToothTopoSegLib.phantom.natural import NaturalTooth, Person, draw_natural, draw_person, twin
from ToothTopoSegLib.phantom.sections import COS, DIRECTIONS
from ToothTopoSegLib.phantom.tooth import draw_tooth, tooth_distance
from ToothTopoSegLib.topology.betti import betti_numbers

RIGHT = tuple(t for t in fdi.PERMANENT if not fdi.is_left(t))
EVERY_TYPE = RIGHT + tuple(t for t in fdi.DECIDUOUS if not fdi.is_left(t))
YOUNG = Person(size=0.0, age=20.0, wear=0.0, pulp=0.3)


@dataclass(frozen=True, eq=False)
class Solid:
    """A tooth on a lattice: coordinates (mm), distance and masks, all of one shape."""

    tooth: NaturalTooth
    step: float
    u: NDArray[np.float64]
    v: NDArray[np.float64]
    w: NDArray[np.float64]
    distance: NDArray[np.float32]
    enamel: NDArray[np.bool_]
    pulp: NDArray[np.bool_]

    @property
    def inside(self) -> NDArray[np.bool_]:
        return self.distance < 0


def solid_of(tooth: NaturalTooth, step: float = 0.4, margin: float = 1.0) -> Solid:
    across = np.arange(-tooth.reach - margin, tooth.reach + margin, step)
    along = np.arange(-tooth.depth - margin, tooth.crown_height + margin, step)
    u, v, w = np.meshgrid(across, across, along, indexing="ij")
    distance, enamel, pulp = tooth_distance(tooth, u, v, w)
    return Solid(tooth, step, u, v, w, distance, enamel & (distance < 0), pulp & (distance < 0))


def solid(number: int, seed: int = 0, step: float = 0.4, margin: float = 1.0, person: Person = YOUNG) -> Solid:
    return solid_of(draw_natural(number, np.random.default_rng(seed), person), step, margin)


@pytest.mark.parametrize("number", EVERY_TYPE)
def test_a_tooth_is_one_body_without_handles_or_voids_of_plausible_volume(number):
    for seed in (1, 2):
        made = solid(number, seed, step=0.5, person=draw_person(np.random.default_rng(seed)))
        numbers = betti_numbers(np.ascontiguousarray(made.inside))
        assert tuple(numbers) == (1, 0, 0)
        low, high = size_of(number).volume_range
        assert low < made.inside.sum() * made.step**3 < high


@pytest.mark.parametrize("number", (11, 13, 14, 16, 26, 41, 44, 46, 47))
def test_the_distance_is_that_to_the_nearest_surface(number):
    made = solid(number, step=0.3, margin=3.0)
    outside = ndimage.distance_transform_edt(~made.inside, made.step) - made.step / 2
    near = ~made.inside & (outside < 2)
    error = made.distance[near] - outside[near]
    assert np.abs(np.median(error)) < 0.1
    assert np.percentile(np.abs(error), 95) < 0.5


@pytest.mark.parametrize("number", EVERY_TYPE)
def test_nothing_of_a_tooth_lies_beyond_its_reach_depth_and_crown(number):
    made = solid(number, seed=3)
    away = np.hypot(made.u, made.v)[made.inside]
    assert away.max() < made.tooth.reach
    assert -made.tooth.depth - 0.01 < made.w[made.inside].min()
    assert made.w[made.inside].max() < made.tooth.crown_height + 0.01


@pytest.mark.parametrize("number", RIGHT)
def test_enamel_covers_the_crown_and_nothing_else(number):
    made = solid(number, step=0.3)
    skin = made.inside & ~ndimage.binary_erosion(made.inside)
    assert made.enamel[skin & (made.w > 0.6 * made.tooth.crown_height)].mean() > 0.95
    assert not made.enamel[made.w < 0].any()


def test_the_cervical_line_rises_between_teeth():
    made = solid(11, step=0.2)
    skin = made.inside & ~ndimage.binary_erosion(made.inside)
    on = made.enamel & skin
    between = on & (np.abs(made.v) < 0.5) & (np.abs(made.u) > 2)
    labial = on & (np.abs(made.u) < 0.5) & (made.v > 1)
    assert made.w[between].min() > made.w[labial].min() + 1.2


def test_enamel_is_thin_at_the_cervix_and_thick_over_the_crown():
    tooth = draw_natural(46, np.random.default_rng(0), YOUNG)
    buccal = tooth.coat[:, DIRECTIONS // 4]
    covered = buccal[buccal > 0]
    assert covered[0] < 0.4 * tooth.enamel
    assert covered.max() == pytest.approx(tooth.enamel)
    assert (np.diff(covered) >= 0).all()


@pytest.mark.parametrize("number", RIGHT)
def test_pulp_lies_in_dentine_and_opens_nowhere(number):
    made = solid(number, seed=4, step=0.25)
    assert not (made.pulp & made.enamel).any()
    assert 0.02 < made.pulp.sum() / made.inside.sum() < 0.22
    assert made.distance[made.pulp].max() < -0.39


def test_the_pulp_of_a_root_that_still_grows_opens_at_its_tip():
    whole = draw_natural(48, np.random.default_rng(0), YOUNG)
    made = solid_of(replace(whole, open_apex=True), 0.25)
    assert made.w[made.pulp & (made.distance > -0.39)].max() < -0.8 * made.tooth.depth


def test_the_pulp_narrows_with_age_and_wear_lowers_the_crown():
    old = replace(YOUNG, age=75, pulp=0.1, wear=1.5)
    young_molar, old_molar = (solid(46, person=person) for person in (YOUNG, old))
    assert old_molar.pulp.sum() < 0.6 * young_molar.pulp.sum()
    assert old_molar.tooth.crown_height < young_molar.tooth.crown_height - 0.5


@pytest.mark.parametrize(("number", "roots"), ((11, 1), (43, 1), (46, 2), (16, 3)))
def test_roots_part_into_as_many_tips_as_the_type_has(number, roots):
    made = solid(number, seed=1, step=0.3)
    height = -0.8 * min(branch.length for branch in made.tooth.roots)
    level = np.abs(made.w[0, 0] - height).argmin()
    assert ndimage.label(made.inside[:, :, level], np.ones((3, 3)))[1] == roots


def test_points_of_the_surface_lie_on_it_and_all_around():
    tooth = draw_natural(36, np.random.default_rng(0), YOUNG)
    points = tooth.outside
    distance = tooth_distance(tooth, *points.T)[0]
    assert np.abs(distance).max() < 0.3 and len(points) > 400
    assert points[:, 2].min() < -0.9 * tooth.depth and points[:, 2].max() > 0.95 * tooth.crown_height


def test_teeth_of_a_large_person_are_larger_whatever_their_type():
    def mean_width(number: int, size: float) -> float:
        person = replace(YOUNG, size=size)
        return np.mean([draw_natural(number, np.random.default_rng(seed), person).crown[0] for seed in range(30)])

    for number in (12, 35, 47):
        assert mean_width(number, 1.5) > 1.05 * mean_width(number, -1.5)


def test_widths_scatter_about_the_published_means():
    rng = np.random.default_rng(0)
    widths = np.array([2 * draw_natural(16, rng).crown[0] for _ in range(150)])
    assert widths.mean() == pytest.approx(10.65, abs=0.2)
    assert widths.std() == pytest.approx(0.55, abs=0.15)


def test_the_twin_of_a_tooth_has_its_form_and_nearly_its_size():
    tooth = draw_natural(16, np.random.default_rng(0))
    other = twin(tooth, np.random.default_rng(1))
    assert other != tooth
    assert (other.anatomy, other.trunk, len(other.roots)) == (tooth.anatomy, tooth.trunk, len(tooth.roots))
    assert other.crown == pytest.approx(tooth.crown, rel=0.07)
    assert other.depth == pytest.approx(tooth.depth, rel=0.12)


def test_left_and_right_teeth_of_one_generator_are_mirror_images():
    for number in (13, 24, 36):
        left, right = (draw_natural(n, np.random.default_rng(5), YOUNG) for n in (number, fdi.mirrored(number)))
        assert left == right


def test_the_same_generator_gives_the_same_tooth_and_scale_makes_it_larger():
    one, again, other = (draw_tooth(16, np.random.default_rng(s), natural=True) for s in (3, 3, 4))
    assert one == again != other
    small, large = (draw_tooth(16, np.random.default_rng(3), scale, natural=True) for scale in (0.9, 1.1))
    assert large.crown[0] / small.crown[0] == pytest.approx(1.1 / 0.9)


@pytest.mark.parametrize("number", (0, 19, 56, 101))
def test_what_is_no_tooth_is_refused(number):
    with pytest.raises(ValueError):
        draw_tooth(number, np.random.default_rng(0), natural=True)


def test_the_line_of_the_cervix_is_highest_to_mesial():
    line = draw_natural(21, np.random.default_rng(0), YOUNG).line
    assert line.argmax() == np.argmax(COS)
