"""Natural heads: every structure is there and where it should be, labels are exact, and no grid changes the head."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pytest
from scipy import ndimage

from ToothTopoSegLib.anatomy.fdi import JAWS, LOWER_JAW, UPPER_JAW, is_upper
from ToothTopoSegLib.phantom import head as tissues
from ToothTopoSegLib.phantom import whole_head
from ToothTopoSegLib.phantom.arch import Dentition, PlacedTooth, draw_dentition
from ToothTopoSegLib.phantom.cranium import render_elsewhere
from ToothTopoSegLib.phantom.head import Pose, render
from ToothTopoSegLib.phantom.tooth import tooth_distance

BONE = (tissues.TRABECULAR, tissues.CORTICAL, tissues.FAT)
NEIGHBOURS = np.ones((3, 3, 3))


@dataclass(frozen=True, eq=False)
class View:
    """A natural head on a grid without warp; ``spacing`` in mm."""

    dentition: Dentition
    seed: int
    shape: tuple[int, int, int]
    spacing: float
    centre: tuple[float, float, float]
    warp: float = 0.0

    @cached_property
    def maps(self) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(self.seed)
        pose = Pose(self.centre)
        return render(self.dentition, self.shape, (self.spacing,) * 3, rng, pose, self.warp, natural=True)

    @property
    def tissue(self) -> np.ndarray:
        return self.maps[0]

    @property
    def labels(self) -> np.ndarray:
        return self.maps[1]

    @cached_property
    def plan(self) -> whole_head.HeadPlan:
        return whole_head.draw_head(self.dentition, np.random.default_rng(self.seed))

    @cached_property
    def points(self) -> np.ndarray:
        """Head coordinates (3, z, y, x), mm."""
        axes = [(np.arange(n) - (n - 1) / 2) * self.spacing for n in self.shape]
        z, y, x = np.meshgrid(*axes, indexing="ij")
        return np.stack([x, y, z]) + np.array(self.centre)[:, None, None, None]

    def at(self, place: tuple[float, float, float]) -> tuple[int, int, int]:
        """The voxel at a place (x, y, z) of the skull's frame."""
        upper = self.dentition.upper
        shift = np.array([upper.middle, upper.front + 20 * self.plan.scale, self.dentition.gap / 2])
        offset = (np.array(place) * self.plan.scale + shift - np.array(self.centre))[::-1] / self.spacing
        z, y, x = np.rint(offset + (np.array(self.shape) - 1) / 2).astype(int)
        return int(z), int(y), int(x)


def close_up(dentition: Dentition, tooth: PlacedTooth, seed: int = 0, spacing: float = 0.5) -> View:
    """The surroundings of one tooth."""
    x, y, z = (float(c) for c in tooth.cervix - 0.3 * tooth.shape.depth * tooth.axes[2])
    return View(dentition, seed, (72, 44, 44), spacing, (x, y, z))


def changed(dentition: Dentition, fdi: int, **how: object) -> tuple[Dentition, PlacedTooth]:
    """The dentition with one tooth changed, and that tooth."""
    teeth = tuple(replace(t, **how) if t.fdi == fdi else t for t in dentition.teeth)
    return replace(dentition, teeth=teeth), next(t for t in teeth if t.fdi == fdi)


def without(dentition: Dentition, fdi: int, **how: object) -> tuple[Dentition, PlacedTooth]:
    """The dentition that lost one tooth, and that tooth."""
    lost = replace(next(t for t in dentition.teeth if t.fdi == fdi), **how)
    return replace(dentition, teeth=tuple(t for t in dentition.teeth if t.fdi != fdi), gone=(lost,)), lost


@pytest.fixture(scope="module")
def dentition() -> Dentition:
    """No restoration, no bracket."""
    made = draw_dentition(np.random.default_rng(0))
    return replace(made, teeth=tuple(replace(t, material="natural", bracket=False) for t in made.teeth))


@pytest.fixture(scope="module")
def jaws(dentition: Dentition) -> View:
    """Both jaws at 0.8 mm; never write to its maps."""
    return View(dentition, 4, (132, 132, 140), 0.8, (0.0, 18.0, 2.0))


@pytest.fixture(scope="module")
def skull(dentition: Dentition) -> View:
    """A whole head at 2 mm; never write to its maps."""
    return View(dentition, 4, (110, 110, 84), 2.0, (0.0, 55.0, 40.0))


# ---- labels


def test_labels_are_the_teeth_of_the_dentition_and_the_two_jaws(jaws):
    assert set(np.unique(jaws.labels)) == {0, *JAWS} | {t.fdi for t in jaws.dentition.teeth}
    assert jaws.tissue.dtype == jaws.labels.dtype == np.uint8
    assert jaws.tissue.max() <= tissues.TITANIUM


def test_the_same_seed_gives_the_same_head_and_another_seed_another(dentition):
    first, again, other = (View(dentition, seed, (40, 50, 50), 2.0, (0, 10, 0)) for seed in (1, 1, 2))
    assert np.array_equal(first.maps, again.maps)
    assert not np.array_equal(first.tissue, other.tissue)


def test_a_tooth_is_labelled_exactly_where_it_is(dentition):
    tooth = next(t for t in dentition.teeth if t.fdi == 36)
    alone = close_up(replace(dentition, teeth=(tooth,)), tooth)
    local = np.tensordot(tooth.axes, alone.points, 1) - (tooth.axes @ tooth.cervix)[:, None, None, None]
    distance = tooth_distance(tooth.shape, *local.astype(np.float32))[0]
    sure = np.abs(distance) > 0.02
    assert ((alone.labels == 36) == (distance < 0))[sure].all()


def test_jaws_are_labelled_on_bone_and_its_canals_and_nowhere_else(jaws):
    jaw = np.isin(jaws.labels, JAWS)
    assert set(np.unique(jaws.tissue[jaw])) <= {*BONE, tissues.SOFT}
    assert (jaws.tissue[jaw] == tissues.SOFT).mean() < 0.02
    assert not jaws.labels[jaws.tissue == tissues.AIR].any()


def test_each_jaw_is_one_body(jaws):
    for jaw in JAWS:
        pieces = np.bincount(ndimage.label(jaws.labels == jaw, NEIGHBOURS)[0].ravel())[1:]
        assert pieces.max() > 0.995 * pieces.sum()


@pytest.mark.parametrize("seed", (1, 2))
def test_roots_of_erupted_teeth_are_enveloped_in_bone(seed):
    """At least 90 % of their surface below the crest has bone within 2 mm."""
    made = View(draw_dentition(np.random.default_rng(seed)), seed, (90, 100, 108), 0.8, (0.0, 4.0, 0.0))
    away = ndimage.distance_transform_edt(~np.isin(made.labels, JAWS), sampling=0.8)
    shares = []
    for tooth, socket in zip(made.dentition.teeth, made.plan.sockets, strict=True):
        own = made.labels == tooth.fdi
        surface = own & ~ndimage.binary_erosion(own)
        below = tooth.axes[2] @ (made.points[:, surface] - tooth.cervix[:, None]) < -socket.crest - 0.8
        shares.append((away[surface][below] < 2).mean())
    assert np.mean(shares) > 0.97
    assert np.mean(np.array(shares) > 0.9) > 0.9


# ---- structures


def test_the_canal_of_the_mandible_is_a_tube_in_it_on_either_side(jaws):
    canal = (jaws.labels == LOWER_JAW) & (jaws.tissue == tissues.SOFT)
    pieces, _ = ndimage.label(ndimage.binary_closing(canal, NEIGHBOURS), NEIGHBOURS)
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    tubes = [jaws.points[:, pieces == p] for p in np.argsort(sizes)[-2:]]
    for tube in tubes:
        assert np.ptp(tube[1]) > 18  # from the premolars towards the ramus
        assert np.ptp(tube[2]) > 8  # it rises to the lingula
    assert tubes[0][0].mean() * tubes[1][0].mean() < 0


def test_compact_bone_wraps_the_mandible(jaws):
    lower = jaws.labels == LOWER_JAW
    outside = ~np.isin(jaws.labels, (LOWER_JAW, *(t.fdi for t in jaws.dentition.teeth)))
    skin = lower & ndimage.binary_dilation(outside) & (jaws.points[2] < -18)
    assert (jaws.tissue[skin] == tissues.CORTICAL).mean() > 0.85
    core = ndimage.binary_erosion(lower, iterations=5)
    assert np.isin(jaws.tissue[core], (tissues.TRABECULAR, tissues.FAT)).mean() > 0.5


@pytest.mark.parametrize(
    ("place", "tissue", "label"),
    (
        ((0, 60, 100), tissues.SOFT, 0),  # brain
        ((30, 4, 61), tissues.FAT, 0),  # orbit
        ((-31, -9, 61), tissues.SOFT, 0),  # eye
        ((26, 14, 38), tissues.AIR, 0),  # maxillary sinus
        ((0, 46, 2), tissues.AIR, 0),  # throat
        ((0, -70, 0), tissues.AIR, 0),  # before the face
        ((0, 20, -10), tissues.MUSCLE, 0),  # tongue
        ((0, 82, 0), tissues.SOFT, 0),  # spinal canal
    ),
)
def test_soft_tissue_and_air_are_where_they_should_be(skull, place, tissue, label):
    assert skull.tissue[skull.at(place)] == tissue
    assert skull.labels[skull.at(place)] == label


@pytest.mark.parametrize(
    ("place", "label"),
    (
        ((47, 57, 40), LOWER_JAW),  # condyles
        ((-47, 57, 40), LOWER_JAW),
        ((0, -21, -30), LOWER_JAW),  # chin
        ((0, 10, 24), UPPER_JAW),  # palate, whose height differs from head to head
        ((41, 3, 40), 0),  # zygoma
        ((0, 64, 10), 0),  # dens
        ((0, 57, -26), 0),  # C3
        ((0, 17, -34), 0),  # hyoid
        ((0, 43, 46), 0),  # sphenoid
    ),
)
def test_bones_are_where_they_should_be(skull, place, label):
    z, y, x = skull.at(place)
    near = (slice(z - 3, z + 4), slice(y - 2, y + 3), slice(x - 2, x + 3))
    bone = np.isin(skull.tissue[near], BONE[:2])
    assert (bone & (skull.labels[near] == label)).any()


def test_the_vault_is_closed_bone_with_tables_and_marrow_between(skull):
    above = skull.points[2] > skull.points[2][skull.at((0, 60, 92))]
    brain = above & (skull.tissue == tissues.SOFT)
    inside = np.zeros_like(brain)
    inside[skull.at((0, 60, 100))] = True
    inside = ndimage.binary_propagation(inside, mask=brain)
    around = ndimage.binary_dilation(inside) & ~inside & above
    assert np.isin(skull.tissue[around], BONE).mean() > 0.99


def test_air_above_the_palate_is_never_labelled_and_lies_on_both_sides(skull):
    air = (skull.tissue == tissues.AIR) & (skull.labels == 0)
    z, y, x = skull.at((26, 14, 38))
    assert air[z, y, x] and air[skull.at((-26, 14, 38))]


def test_a_jaw_without_teeth_is_still_a_jaw(dentition):
    bare = View(replace(dentition, teeth=()), 0, (60, 70, 70), 1.6, (0, 15, 0))
    assert set(np.unique(bare.labels)) == {0, *JAWS}


# ---- what is lost, hidden or added


def highest(view: View, jaw: int, tooth: PlacedTooth) -> float:
    """How far (mm) towards the bite bone reaches around the axis of a tooth."""
    up = -1 if is_upper(tooth.fdi) else 1
    here = np.hypot(*(view.points[i] - tooth.cervix[i] for i in (0, 1))) < 2.5
    return float((up * view.points[2][here & (view.labels == jaw)]).max())


@pytest.mark.parametrize(("fdi", "jaw"), ((36, LOWER_JAW), (26, UPPER_JAW)))
def test_the_ridge_has_healed_lower_where_a_tooth_is_gone(dentition, fdi, jaw):
    lost, tooth = without(dentition, fdi)
    with_tooth, after = (close_up(d, tooth, seed=3) for d in (dentition, lost))
    assert not after.plan.healing[0].fresh
    assert highest(after, jaw, tooth) < highest(with_tooth, jaw, tooth) - 1
    assert fdi not in after.labels


def test_a_tooth_that_has_not_erupted_lies_in_a_follicle_in_bone(dentition):
    hidden, tooth = changed(dentition, 36, erupted=False)
    hidden = replace(hidden, teeth=(tooth,))
    view = close_up(hidden, tooth)
    own = view.labels == 36
    skin = ndimage.binary_dilation(own) & ~own
    crown = skin & (tooth.axes[2] @ (view.points.reshape(3, -1) - tooth.cervix[:, None]) > 1).reshape(skin.shape)
    assert (view.tissue[crown] == tissues.SOFT).mean() > 0.9
    around = ndimage.binary_dilation(own, iterations=7) & ~own & (view.labels == LOWER_JAW)
    assert around[view.points[2] > tooth.cervix[2] + 2].any()


def test_an_implant_is_titanium_with_a_crown_and_no_label(dentition):
    lost, tooth = without(dentition, 36, material="implant")
    view = close_up(lost, tooth)
    screw = view.tissue == tissues.TITANIUM
    assert np.ptp(view.points[2][screw]) > 7
    metal = np.isin(view.tissue, (tissues.TITANIUM, tissues.METAL, tissues.CERAMIC, tissues.ENAMEL))
    own = ndimage.label(metal, NEIGHBOURS)[0]
    assert not view.labels[(own == own[screw].max()) & (view.tissue != tissues.ENAMEL)].any()
    assert 36 not in view.labels
    assert (view.labels[ndimage.binary_dilation(screw) & ~screw] == LOWER_JAW).mean() > 0.5


def test_a_pontic_between_two_crowns_has_no_label(dentition):
    crowned = replace(
        dentition, teeth=tuple(replace(t, material="crown") if t.fdi in (35, 37) else t for t in dentition.teeth)
    )
    lost, tooth = without(crowned, 36)
    view = close_up(lost, tooth)
    middle = tooth.cervix + 0.6 * tooth.shape.crown_height * tooth.axes[2]
    index = tuple(np.rint((middle - view.centre)[::-1] / 0.5 + (np.array(view.shape) - 1) / 2).astype(int))
    assert view.tissue[index] in (tissues.METAL, tissues.CERAMIC)
    assert 36 not in view.labels


def test_a_socket_that_has_not_healed_is_empty_and_keeps_its_shape(dentition):
    lost, tooth = without(dentition, 36)
    view = next(v for v in (close_up(lost, tooth, seed) for seed in range(60)) if v.plan.healing[0].fresh)
    local = np.tensordot(tooth.axes, view.points, 1) - (tooth.axes @ tooth.cervix)[:, None, None, None]
    root = (tooth_distance(tooth.shape, *local.astype(np.float32))[0] < -0.3) & (local[2] < -2)
    assert (view.tissue[root] == tissues.SOFT).mean() > 0.9
    assert not view.labels[root & (view.tissue == tissues.SOFT)].any()


@pytest.mark.parametrize("material", ("filling", "crown", "root filling", "post"))
def test_a_restoration_shows_in_the_tissue_and_not_in_the_labels(dentition, material):
    restored, tooth = changed(dentition, 36, material=material)
    before, after = close_up(dentition, tooth, 5), close_up(restored, tooth, 5)
    own = after.labels == 36
    assert np.array_equal(own, before.labels == 36)
    assert (after.tissue[own] != before.tissue[own]).mean() > 0.005
    if material in ("root filling", "post"):
        assert (after.tissue[own] == tissues.GUTTA).any()
    if material == "post":
        assert (after.tissue[own] == tissues.METAL).any()


@pytest.fixture(scope="module")
def braced(dentition: Dentition) -> View:
    """Brackets on all teeth but third molars; crowns only."""
    teeth = tuple(replace(t, bracket=t.fdi % 10 < 8) for t in dentition.teeth)
    return View(replace(dentition, teeth=teeth, bracketed=True), 4, (56, 120, 136), 0.5, (0.0, 4.0, 0.0))


def test_brackets_and_wires_carry_no_label(braced):
    metal = braced.tissue == tissues.METAL
    assert metal.sum() > 1000
    assert not braced.labels[metal].any()


def test_the_wire_of_each_arch_is_one_piece_with_its_brackets(braced):
    metal = ndimage.binary_dilation(braced.tissue == tissues.METAL, NEIGHBOURS)
    pieces, _ = ndimage.label(metal, NEIGHBOURS)
    for jaw in (True, False):
        found = set()
        for tooth in (t for t in braced.dentition.teeth if t.bracket and is_upper(t.fdi) == jaw):
            axis = tooth.cervix + 0.5 * tooth.shape.crown_height * tooth.axes[2]
            facial = axis + (tooth.shape.crown[1] + 1.0) * tooth.axes[1]
            away = np.linalg.norm(braced.points - facial[:, None, None, None], axis=0)
            found.add(int(np.bincount(pieces[(away < 3) & metal])[1:].argmax()) + 1)
        assert len(found) == 1


# ---- the same head on any grid


def test_a_grid_twice_as_fine_shows_the_same_head(dentition):
    coarse = View(dentition, 2, (40, 46, 50), 1.2, (0.0, 4.0, 0.0), warp=0.8)
    fine = View(dentition, 2, (79, 91, 99), 0.6, (0.0, 4.0, 0.0), warp=0.8)
    assert_alike(coarse.labels, fine.labels[::2, ::2, ::2])
    assert (coarse.tissue == fine.tissue[::2, ::2, ::2]).mean() > 0.97


def test_a_grid_that_shows_less_shows_the_same_head(dentition):
    whole = View(dentition, 2, (61, 61, 61), 1.0, (0.0, 4.0, 0.0), warp=0.8)
    part = View(dentition, 2, (31, 41, 21), 1.0, (10.0, 4.0, -15.0), warp=0.8)
    same = (slice(0, 31), slice(10, 51), slice(30, 51))
    assert_alike(whole.labels[same], part.labels)
    assert (whole.tissue[same] == part.tissue).mean() > 0.97


def assert_alike(first: np.ndarray, second: np.ndarray) -> None:
    """Labels differ at most in voxels whose neighbourhood shows the other one's label."""
    assert (first == second).mean() > 0.99
    low, high = (f(first, size=3, mode="nearest") for f in (ndimage.minimum_filter, ndimage.maximum_filter))
    edge = low != high
    assert (first == second)[~edge].mean() > 0.9995


def test_a_turned_grid_shows_the_turned_head(dentition):
    quarter = ((0, -1, 0), (1, 0, 0), (0, 0, 1))
    straight = render(dentition, (41, 61, 61), (1.5,) * 3, np.random.default_rng(0), Pose(), 0.0, natural=True)[1]
    turned = render(
        dentition, (41, 61, 61), (1.5,) * 3, np.random.default_rng(0), Pose(rotation=quarter), 0.0, natural=True
    )[1]
    assert (straight[:, :, ::-1].transpose(0, 2, 1) == turned).mean() > 0.99


# ---- views away from the teeth


@pytest.mark.parametrize("seed", range(4))
def test_a_view_elsewhere_shows_bone_but_no_tooth(dentition, seed):
    tissue, labels = render_elsewhere(dentition, (48, 53, 51), 2.0, np.random.default_rng(seed))
    again = render_elsewhere(dentition, (48, 53, 51), 2.0, np.random.default_rng(seed))
    assert np.array_equal(tissue, again[0]) and np.array_equal(labels, again[1])
    assert set(np.unique(labels)) <= {0, *JAWS}
    assert (tissue == tissues.CORTICAL).mean() > 0.002
    assert not np.isin(tissue, (tissues.DENTINE, tissues.ENAMEL, tissues.PULP)).any()
