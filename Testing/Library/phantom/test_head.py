"""Rendered heads: labels in the right places, teeth whole, metal only where a tooth carries it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from ToothTopoSegLib.anatomy import fdi
from ToothTopoSegLib.anatomy.sizes import size_of
from ToothTopoSegLib.phantom import head as tissues
from ToothTopoSegLib.phantom.arch import Dentition, PlacedTooth, draw_dentition
from ToothTopoSegLib.phantom.head import Pose, render
from ToothTopoSegLib.phantom.tooth import tooth_distance


def close_up(tooth: PlacedTooth, dentition: Dentition, enveloped: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Tissue and labels of a head with this one tooth, in a box around it at 0.6 mm."""
    alone = replace(dentition, teeth=(tooth,))
    centre = tuple(float(c) for c in tooth.cervix)
    return render(alone, (56, 32, 32), (0.6,) * 3, np.random.default_rng(0), Pose(centre), 0.0, enveloped)


@pytest.fixture(scope="module")
def dentition() -> Dentition:
    return draw_dentition(np.random.default_rng(0))


@pytest.fixture(scope="module")
def molar(dentition: Dentition) -> PlacedTooth:
    tooth = next(t for t in dentition.teeth if t.fdi == 46)
    return replace(tooth, material="natural", bracket=False)


def test_the_same_seed_gives_the_same_head_and_another_seed_another(coarse_head, head):
    again, other = coarse_head(0), coarse_head(1)
    assert (again.tissue == head.tissue).all()
    assert (again.labels.array == head.labels.array).all()
    assert (other.labels.array != head.labels.array).any()


@pytest.mark.parametrize("seed", (0, 3))
def test_labels_are_the_teeth_of_the_dentition_and_the_two_jaws(coarse_head, seed):
    made = coarse_head(seed)
    teeth = {t.fdi for t in made.dentition.teeth}
    assert set(np.unique(made.labels.array)) == {0, *fdi.JAWS} | teeth
    assert made.tissue.dtype == made.labels.array.dtype == np.uint8
    assert made.tissue.max() <= tissues.GUTTA


def test_a_missing_tooth_stays_missing(dentition):
    gone = {11, 36, 46}
    kept = replace(dentition, teeth=tuple(t for t in dentition.teeth if t.fdi not in gone))
    labels = render(kept, (52, 60, 62), (1.5,) * 3, np.random.default_rng(0), Pose((0, 7, 0)))[1]
    assert not set(np.unique(labels)) & gone
    assert set(np.unique(labels)) >= {t.fdi for t in kept.teeth}


def test_a_jaw_without_teeth_is_still_a_jaw(dentition):
    toothless = replace(dentition, teeth=())
    labels = render(toothless, (40, 40, 40), (2.0,) * 3, np.random.default_rng(0))[1]
    assert set(np.unique(labels)) == {0, *fdi.JAWS}


def test_left_is_left_and_upper_is_upper(head):
    centroids = head.centroids()
    for tooth in (t.fdi for t in head.dentition.teeth):
        assert (centroids[tooth][0] > 0) == fdi.is_left(tooth)
        assert (centroids[tooth][2] > 0) == fdi.is_upper(tooth)
    assert centroids[fdi.UPPER_JAW][2] > centroids[fdi.LOWER_JAW][2]


def test_teeth_lie_further_back_the_higher_their_position(head):
    centroids = head.centroids()
    for quadrant in (1, 2, 3, 4):
        there = [quadrant * 10 + p for p in range(1, 9) if quadrant * 10 + p in centroids]
        # Incisors stand side by side; from the canine on every tooth is behind the one before.
        depth = [centroids[t][1] for t in there if fdi.position(t) >= 3]
        assert (np.diff(depth) > 0).all()
        sideways = [abs(centroids[t][0]) for t in there if fdi.position(t) <= 4]
        assert (np.diff(sideways) > 0).all()


def test_a_tooth_is_rendered_where_the_dentition_has_it(fine_head):
    """Within 2.5 mm: centroids lie between crown and root, and the warp bends the head."""
    centroids = fine_head.centroids()
    for tooth in fine_head.dentition.teeth:
        along = (centroids[tooth.fdi] - tooth.cervix) @ tooth.axes.T
        assert np.hypot(along[0], along[1]) < 2.5, tooth.fdi
        assert -tooth.shape.depth / 2 - 1 < along[2] < tooth.shape.crown_height / 2 + 1


def test_most_teeth_are_one_piece(fine_head):
    """Neighbours in crowded arches may cut a flake off a tooth: one in twenty teeth may have one, of under 2 %."""
    labels, broken = fine_head.labels.array, 0
    boxes = ndimage.find_objects(labels)
    for number in (t.fdi for t in fine_head.dentition.teeth):
        pieces, count = ndimage.label(labels[boxes[number - 1]] == number, np.ones((3, 3, 3)))
        sizes = np.bincount(pieces.ravel())[1:]
        broken += count > 1
        assert sizes.max() > 0.98 * sizes.sum(), number
    assert broken <= len(fine_head.dentition.teeth) / 20


def test_rendered_teeth_have_plausible_volumes(fine_head):
    labels = fine_head.labels
    for number in (t.fdi for t in fine_head.dentition.teeth):
        low, high = size_of(number).volume_range
        assert low < (labels.array == number).sum() * labels.voxel_volume < high, number


def test_teeth_are_made_of_tooth_tissue_and_jaws_are_not(fine_head):
    tissue, labels = fine_head.tissue, fine_head.labels.array
    teeth = (labels > 0) & (labels < fdi.LOWER_JAW)
    within = {tissues.DENTINE, tissues.ENAMEL, tissues.PULP, tissues.METAL, tissues.GUTTA}
    assert set(np.unique(tissue[teeth])) <= within
    assert set(np.unique(tissue[~teeth])).isdisjoint(within - {tissues.METAL})
    assert (tissue[teeth] == tissues.DENTINE).mean() > 0.4


def test_roots_stand_in_bone_behind_a_ligament(fine_head):
    tissue, labels = fine_head.tissue, fine_head.labels.array
    tooth = next(t for t in fine_head.dentition.teeth if t.fdi == 43)
    index = fine_head.labels.lps_to_index(tooth.cervix - 0.5 * tooth.shape.depth * tooth.axes[2])
    level = labels[round(index[0])]
    around = ndimage.binary_dilation(level == 43, iterations=3) & (level != 43)
    there = set(np.unique(tissue[round(index[0])][around]))
    assert tissues.CORTICAL in there
    assert (level[around] == fdi.LOWER_JAW).mean() > 0.5


def test_a_tooth_of_one_close_up_has_enamel_dentine_and_pulp_but_no_metal(dentition, molar):
    tissue, labels = close_up(molar, dentition)
    assert set(np.unique(tissue[labels == 46])) == {tissues.DENTINE, tissues.ENAMEL, tissues.PULP}
    assert not np.isin(tissue, (tissues.METAL, tissues.GUTTA)).any()


@pytest.mark.parametrize(
    ("material", "expected"),
    (("filling", tissues.METAL), ("crown", tissues.METAL), ("root filling", tissues.GUTTA)),
)
def test_a_restoration_shows_in_the_tissue_and_not_in_the_labels(dentition, molar, material, expected):
    plain_labels = close_up(molar, dentition)[1]
    tissue, labels = close_up(replace(molar, material=material), dentition)
    assert (labels == plain_labels).all()
    assert (tissue[labels == 46] == expected).any()
    assert not (tissue[labels != 46] == expected).any()


def test_a_bracket_is_metal_outside_the_tooth(dentition, molar):
    tissue, labels = close_up(replace(molar, bracket=True), dentition)
    assert (tissue == tissues.METAL).any()
    assert not (tissue[labels == 46] == tissues.METAL).any()


def test_an_alveolar_process_envelops_a_root_that_stands_outside_of_the_jaw(dentition, molar):
    outside = replace(molar, cervix=molar.cervix + 16 * molar.axes[1])  # beyond the cheek's side of the mandible

    def bone(enveloped: bool, reach: float) -> np.ndarray:
        """Whether the voxels around the root, up to ``reach`` mm, belong to the jaw."""
        _, labels = close_up(outside, dentition, enveloped)
        near = ndimage.distance_transform_edt(labels != 46, sampling=0.6)[:22]  # below the crest of the bone
        return labels[:22][(near > 0) & (near < reach)] == fdi.LOWER_JAW

    assert bone(True, 0.7).all()
    assert bone(True, 3.0).sum() > 1.2 * bone(False, 3.0).sum()


def test_a_molar_in_an_alveolar_process_bears_its_bracket_on_a_band(dentition, molar):
    braced = replace(molar, bracket=True)
    metal = [(close_up(braced, dentition, enveloped)[0] == tissues.METAL).sum() for enveloped in (False, True)]
    assert metal[1] > 1.2 * metal[0]


def test_moving_the_grid_moves_the_teeth_the_other_way(dentition):
    """+3 mm along each LPS axis of the grid's centre is 2 voxels of 1.5 mm less in every index."""
    here, moved = (
        render(dentition, (40, 50, 56), (1.5,) * 3, np.random.default_rng(0), Pose(centre), warp=0.0)[1]
        for centre in ((0.0, 0.0, 0.0), (3.0, 3.0, 3.0))
    )
    here, moved = here[2:, 2:, 2:], moved[:-2, :-2, :-2]
    teeth = (here > 0) & (here < fdi.LOWER_JAW)
    assert (here[teeth] == moved[teeth]).mean() > 0.999


def test_turning_the_grid_by_a_quarter_about_the_vertical_turns_the_teeth(dentition):
    """Grid (x, y) shows head (-y, x): what lay in column x, row y of the plain grid lies in row x, column -y."""
    quarter_turn = ((0, -1, 0), (1, 0, 0), (0, 0, 1))
    plain, turned = (
        render(dentition, (40, 60, 60), (1.5,) * 3, np.random.default_rng(0), pose, warp=0.0)[1]
        for pose in (Pose(), Pose(rotation=quarter_turn))
    )
    expected = plain[:, :, ::-1].transpose(0, 2, 1)
    teeth = (expected > 0) & (expected < fdi.LOWER_JAW)
    assert (expected[teeth] == turned[teeth]).mean() > 0.999


def test_a_tooth_that_stands_alone_has_the_volume_of_its_shape(dentition, molar):
    axes = [np.arange(-low, high, 0.3) for low, high in ((8, 8), (8, 8), (molar.shape.depth + 1, 9))]
    inside = tooth_distance(molar.shape, *np.meshgrid(*axes, indexing="ij"))[0] < 0
    labels = close_up(molar, dentition)[1]
    assert (labels == 46).sum() * 0.6**3 == pytest.approx(inside.sum() * 0.3**3, rel=0.03)


def test_a_tooth_pushed_into_its_neighbour_takes_half_of_what_they_share(dentition, molar):
    """Two equal molars 4 mm apart along the arch: the voxels of both are shared out evenly and none twice."""
    other = replace(molar, fdi=47, cervix=molar.cervix - 4 * molar.axes[0])
    pair = replace(dentition, teeth=(molar, other))
    centre = tuple(float(c) for c in (molar.cervix + other.cervix) / 2)
    labels = render(pair, (56, 44, 44), (0.6,) * 3, np.random.default_rng(0), Pose(centre), warp=0.0)[1]
    first, second = (labels == 46).sum(), (labels == 47).sum()
    alone = (close_up(molar, dentition)[1] == 46).sum()
    assert first == pytest.approx(second, rel=0.15)
    assert first < alone
