"""Each effect of the cone beam does what its name says to a simple body, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ToothTopoSegLib.phantom import cone_beam, head
from ToothTopoSegLib.phantom.acquisition import Acquisition, Foreign, Move, Response, draw_acquisition
from ToothTopoSegLib.phantom.arrays import numpy_library
from ToothTopoSegLib.phantom.cone_beam import Field, acquire
from ToothTopoSegLib.phantom.contrast import TISSUES
from ToothTopoSegLib.phantom.projection import Beam

STEP = np.array([1.0, 1.0, 1.0])
SPACING = (1.0, 1.0, 1.0)
PERFECT = Beam(hardening=0.0, uncorrected=0.0, scatter=0.0, photons=1e12)


def clean(**changes: object) -> Acquisition:
    """A scanner that shows grey values as they are: air -1000, soft tissue 0, dentine 1000, enamel 1600."""
    grey = np.zeros(TISSUES)
    grey[head.AIR], grey[head.DENTINE], grey[head.ENAMEL], grey[head.METAL] = -1000, 1000, 1600, 30_000
    quiet = {"texture": 0.0, "smear": 0.0, "veil": 0.0, "bias": 0.0, "truncation": 0.0, "rings": 0.0, "noise": 0.0}
    made = replace(
        draw_acquisition(np.random.default_rng(0)),
        grey=tuple(grey.tolist()),
        blur_mm=(0.05, 0.05, 0.05),
        beam=None,
        moves=(),
        sharpen=0.0,
        response=Response(-3000, 40_000, 1.0, 43_000, -3000, 40_000),
        **quiet,
    )
    return replace(made, **changes)


def scan(tissue: np.ndarray, seed: int = 0, field: Field | None = None, finer: int = 1, **changes: object):
    library = numpy_library(np.random.default_rng(seed))
    return acquire(tissue, finer, SPACING, clean(**changes), field or Field(), library)


def cylinder(radius: float, depth: int = 12, side: int = 80, tissue: int = head.SOFT) -> np.ndarray:
    """A cylinder of a tissue along z in air, radius in mm."""
    made = np.full((depth, side, side), head.AIR, np.uint8)
    made[:, radii(side) < radius] = tissue
    return made


def radii(side: int) -> np.ndarray:
    at = np.arange(side) - (side - 1) / 2
    return np.hypot(at[:, None], at[None, :])


# ---- the whole scanner


def test_a_clean_scanner_shows_each_tissue_at_its_grey_value():
    tissue = np.repeat(np.array([head.AIR, head.SOFT, head.DENTINE, head.ENAMEL], np.uint8), 5)
    grey = scan(np.broadcast_to(tissue, (4, 6, 20)).copy())
    assert grey.dtype == np.float32
    assert grey[1, 1] == pytest.approx(np.array(clean().grey)[tissue], abs=5)


def test_a_voxel_half_filled_shows_the_mean():
    fine = np.zeros((4, 4, 8), np.uint8)
    fine[..., 3:] = head.SOFT
    assert scan(fine, finer=2)[0, 0] == pytest.approx([-1000, -500, 0, 0], abs=5)


@pytest.mark.parametrize("setting", ("natural", "foreign"))
@pytest.mark.parametrize("hard", (False, True))
def test_scans_keep_air_soft_tissue_dentine_and_enamel_in_order_on_average(setting, hard):
    tissue = np.repeat(np.array([head.AIR, head.SOFT, head.DENTINE, head.ENAMEL], np.uint8), 10)
    slabs = np.broadcast_to(tissue, (10, 24, 40)).copy()
    means = []
    for seed in range(25):
        acquisition = draw_acquisition(np.random.default_rng(seed), hard, setting)
        grey = acquire(slabs, 1, (0.5,) * 3, acquisition, Field(), numpy_library(np.random.default_rng(seed)))
        low, high = grey.min(), grey.max()
        means.append(
            [(grey[slabs == t].mean() - low) / (high - low) for t in (0, head.SOFT, head.DENTINE, head.ENAMEL)]
        )
    assert (np.diff(np.mean(means, axis=0)) > 0.05).all()


@settings(max_examples=25, deadline=None)
@given(
    st.tuples(st.integers(1, 9), st.integers(1, 12), st.integers(1, 12)),
    st.integers(1, 2),
    st.integers(0, 10_000),
    st.sampled_from(("natural", "foreign")),
    st.sampled_from((head.AIR, head.SOFT, head.METAL)),
)
def test_empty_even_and_flat_maps_of_any_size_give_finite_scans(shape, finer, seed, setting, tissue):
    acquisition = draw_acquisition(np.random.default_rng(seed), True, setting)
    fine = np.full([n * finer for n in shape], tissue, np.uint8)
    field = Field(radius=4.0) if seed % 2 else Field()
    grey = acquire(fine, finer, (0.3, 0.4, 0.4), acquisition, field, numpy_library(np.random.default_rng(seed)))
    assert grey.shape == shape
    assert np.isfinite(grey).all()
    assert grey.dtype == np.float32
    assert acquisition.response.low - 1e-2 <= grey.min() <= grey.max() <= acquisition.response.high + 1e-2


def test_the_same_generator_gives_the_same_scan_and_leaves_the_tissue_alone():
    tissue = cylinder(20, side=50)
    kept = tissue.copy()
    acquisition = draw_acquisition(np.random.default_rng(4), hard=True)
    first, again, other = (
        acquire(tissue, 1, SPACING, acquisition, Field(), numpy_library(np.random.default_rng(s))) for s in (1, 1, 2)
    )
    assert (first == again).all()
    assert (first != other).any()
    assert (tissue == kept).all()


# ---- errors of projection


def test_a_ball_of_metal_throws_streaks_across_its_own_slices_only():
    tissue = cylinder(35)
    tissue[5:8, 30:33, 30:33] = tissue[5:8, 30:33, 48:51] = head.METAL
    beam = Beam(hardening=0.4, uncorrected=0.0, scatter=0.1, photons=1e6)
    changed = np.abs(scan(tissue, beam=beam) - scan(cylinder(35), beam=beam))
    assert (changed[[0, 1, 2, 10, 11]][:, radii(80) < 30].std(axis=1) < 60).all()
    assert changed[6][radii(80) < 30].std() > 200
    assert changed[6, 31, 60:70].mean() > 5 * changed[1, 31, 60:70].mean()


def test_between_two_pieces_of_metal_it_is_darker_than_beside_them():
    tissue = cylinder(35)
    tissue[:, 38:42, 24:27] = tissue[:, 38:42, 53:56] = head.METAL
    grey = scan(tissue, beam=Beam(hardening=0.4, uncorrected=0.0, scatter=0.0, photons=1e9)).mean(axis=0)
    assert grey[38:42, 34:46].mean() < grey[[28, 29, 50, 51], 34:46].mean() - 40


@pytest.mark.parametrize(
    "changes",
    [
        {"beam": Beam(hardening=0.5, uncorrected=1.0, scatter=0.0, photons=1e9)},
        {"beam": Beam(hardening=0.0, uncorrected=0.0, scatter=0.5, photons=1e9)},
        {"veil": 0.2, "veil_mm": 20.0},
    ],
    ids=["hardening", "scatter", "veil"],
)
def test_cupping_lowers_the_middle_of_a_cylinder_below_its_border(changes):
    grey = scan(cylinder(35), **changes).mean(axis=0)
    middle, border = radii(80) < 8, (radii(80) > 27) & (radii(80) < 32)
    assert grey[middle].mean() < grey[border].mean() - 15


def test_fewer_photons_mean_more_noise_and_most_of_it_deep_inside():
    solid = cylinder(35, tissue=head.DENTINE)
    few, many = (scan(solid, beam=replace(PERFECT, photons=n)) for n in (2e4, 2e6))
    middle, border = radii(80) < 10, (radii(80) > 28) & (radii(80) < 33)
    assert few[:, middle].std() > 5 * many[:, middle].std()
    assert few[:, middle].std() > 1.2 * few[:, border].std()


# ---- what comes after


def test_truncation_brightens_the_border_of_a_narrow_view_alike_all_around():
    soft = np.full((3, 61, 61), head.SOFT, np.uint8)
    grey = scan(soft, field=Field(radius=25.0), truncation=0.5, truncation_mm=3.0)[1]
    assert grey[radii(61) < 10].max() < 10
    rim = np.abs(radii(61) - 24.5) < 0.5
    assert grey[rim].mean() == pytest.approx(450, abs=60)
    assert grey == pytest.approx(np.rot90(grey), abs=1.5)
    assert scan(soft, truncation=0.5)[1] == pytest.approx(0, abs=1), "a view wider than the grid has no border in it"


def test_rings_are_the_same_in_every_direction_around_the_axis():
    soft = np.full((6, 61, 61), head.SOFT, np.uint8)
    grey = scan(soft, rings=0.1)
    assert grey.std() > 10
    assert grey == pytest.approx(np.rot90(grey, axes=(1, 2)), abs=1.5)
    shifted = scan(soft, rings=0.1, field=Field(axis=(10.0, 0.0)))
    assert shifted[:, 20:61] == pytest.approx(shifted[:, 60:19:-1], abs=1.5)


def test_a_move_doubles_an_edge_along_its_direction_and_half_an_exposure_halves_it():
    tissue = np.full((3, 64, 64), head.SOFT, np.uint8)
    tissue[:, 30:34, 30:34] = head.DENTINE
    still = scan(tissue)
    gone = scan(tissue, moves=(Move(0.0, (0.0, 0.0, 6.0)),), first_angle=0.0)
    half = scan(tissue, moves=(Move(0.5, (0.0, 0.0, 6.0)),), first_angle=0.25)
    assert gone[1, 32, 37:39] == pytest.approx(still[1, 32, 31:33], abs=30), "moved from the start: only displaced"
    assert 200 < half[1, 32, 31:33].mean() < 900
    assert 100 < half[1, 32, 37:39].mean() < 800
    assert half.mean() == pytest.approx(still.mean(), abs=1), "nothing is lost"


def test_the_cone_smears_edges_along_z_away_from_the_mid_plane():
    tissue = np.full((60, 6, 6), head.SOFT, np.uint8)
    tissue[::4] = tissue[1::4] = head.DENTINE
    profile = scan(tissue, smear=0.05, field=Field(mid_plane=-29.0))[:, 3, 3]
    assert np.ptp(profile[:8]) > 950
    assert np.ptp(profile[-8:]) < 600


def test_blur_follows_its_axis():
    tissue = np.full((20, 20, 20), head.SOFT, np.uint8)
    tissue[10:] = head.DENTINE
    along, across = (scan(tissue, blur_mm=b)[9, 10, 10] for b in ((1.5, 0.05, 0.05), (0.05, 1.5, 1.5)))
    assert along > 300
    assert across == pytest.approx(0, abs=5)


def test_sharpening_overshoots_at_an_edge_and_smoothing_does_not():
    tissue = np.full((3, 3, 30), head.SOFT, np.uint8)
    tissue[..., 15:] = head.DENTINE
    sharp, smooth = (scan(tissue, sharpen=s, sharpen_mm=1.0)[1, 1] for s in (1.0, -0.8))
    assert sharp.max() > 1200
    assert sharp.min() < -200
    assert -1 <= smooth.min() <= smooth.max() <= 1001
    assert smooth[14] > 100


def test_noise_has_the_strength_of_the_setting_with_and_without_grain():
    soft = np.full((30, 40, 40), head.SOFT, np.uint8)
    for grain in (0.0, 1.0):
        assert scan(soft, noise=0.1, noise_grain=grain).std() == pytest.approx(100, rel=0.05)


def test_a_file_of_8_bits_has_at_most_256_grey_values_and_cuts_off_both_ends():
    tissue = np.repeat(np.array([head.AIR, head.SOFT, head.DENTINE, head.METAL], np.uint8), 10)
    grey = scan(np.broadcast_to(tissue, (3, 4, 40)).copy(), response=Response(-500, 1000, 1.2, 255, 0, 255), noise=0.1)
    assert len(np.unique(grey)) <= 256
    assert grey[1, 1, [4, 35]] == pytest.approx([0, 255])


def test_slices_flicker_only_in_the_foreign_setting():
    soft = np.full((40, 20, 20), head.SOFT, np.uint8)
    assert scan(soft, foreign=Foreign(flicker=0.05)).mean(axis=(1, 2)).std() == pytest.approx(50, rel=0.4)
    assert scan(soft, foreign=Foreign(blotches=0.1)).std() > 30
    assert scan(soft, foreign=Foreign(moire=0.1, moire_waves=(0.8, 0.5)))[0].std() > 20
    assert scan(soft).std() < 1


def test_a_field_of_view_is_a_disc_around_its_axis():
    seen = Field(axis=(2.0, 0.0), radius=5.0).seen((1, 21, 21), SPACING)
    assert seen[12, 10] and seen[16, 10] and seen[8, 10]
    assert not seen[6, 10] and not seen[12, 16]
    assert Field().seen((1, 21, 21), SPACING).all()


def test_large_slices_are_projected_on_a_coarser_grid_with_the_same_cupping(monkeypatch):
    beam = Beam(hardening=0.5, uncorrected=1.0, scatter=0.0, photons=1e9)
    fine = scan(cylinder(35, depth=4), beam=beam)
    monkeypatch.setattr(cone_beam, "RAYS", 40)
    coarse = scan(cylinder(35, depth=4), beam=beam)
    inside = radii(80) < 30
    assert coarse[:, inside] == pytest.approx(fine[:, inside], abs=25)
