"""Samples of the natural and foreign settings: the phantom command's physics, labels in place, nothing else touched."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from ToothTopoSegLib.phantom import head
from ToothTopoSegLib.phantom.acquisition import Response, draw_acquisition
from ToothTopoSegLib.phantom.arrays import numpy_library
from ToothTopoSegLib.phantom.cone_beam import Field, acquire
from ToothTopoSegLib.segmentation.classes import CLASSES, LABELS
from ToothTopoSegLib.training import cases, natural, sampling
from ToothTopoSegLib.training.cases import CASE_CENTRE, CASE_SHAPE, CASE_SPACING
from ToothTopoSegLib.training.natural import draw_natural_window, torch_library
from ToothTopoSegLib.training.sampling import Window, draw_sample

PATCH = (24, 32, 40)
SETTINGS = ("natural", "foreign")


def sample(case: NDArray[np.uint8], seed: int, patch=PATCH, spacing: float = 1.25, setting: str = "natural"):
    image, classes = draw_sample(case, np.random.default_rng(seed), patch, spacing, setting)
    return image.numpy(), classes.numpy()


def block_case(first_mm, last_mm) -> NDArray[np.uint8]:
    """A case of soft tissue with one block of enamel labelled 26 between two corners (z, y, x) in head mm."""
    made = np.zeros((2, *CASE_SHAPE), np.uint8)
    made[0] = head.SOFT
    middle = (np.array(CASE_SHAPE) - 1) / 2
    corners = [(np.asarray(c) - CASE_CENTRE[::-1]) / CASE_SPACING + middle for c in (first_mm, last_mm)]
    box = tuple(slice(round(a), round(b) + 1) for a, b in zip(*corners, strict=True))
    made[0][box], made[1][box] = head.ENAMEL, 26
    return made


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every sample is straight, complete and looks at the origin, at about the spacing asked for."""
    for name in ("BEND_SHARE", "MIRROR_SHARE"):
        monkeypatch.setattr(sampling, name, 0.0)
    for name in ("SMALL_SHARE", "CYLINDER_SHARE", "CUT_SHARE"):
        monkeypatch.setattr(natural, name, 0.0)
    look = Window(np.zeros(3), np.eye(3), 1.0, True)
    monkeypatch.setattr(
        natural, "draw_natural_window", lambda rng, step, window=None: replace(window or look, spacing=step)
    )


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("seed", range(6))
def test_a_sample_is_a_finite_normalised_image_and_class_indices_of_the_patch(case, seed, setting):
    image, classes = sample(case, seed, setting=setting)
    assert image.shape == classes.shape == PATCH
    assert image.dtype == np.float32
    assert classes.dtype == np.uint8
    assert image.flags.c_contiguous and classes.flags.c_contiguous
    assert np.isfinite(image).all()
    assert np.abs(image).max() < 30
    assert classes.max() < CLASSES


def test_the_same_generator_gives_the_same_sample_and_another_another(case):
    (image, classes), (again, classes_again), (other, _) = (sample(case, seed) for seed in (5, 5, 6))
    assert (image == again).all()
    assert (classes == classes_again).all()
    assert (image != other).any()


def test_a_case_is_left_as_it_is(case):
    kept = case.copy()
    sample(case, 3)
    assert (case == kept).all()


@pytest.mark.parametrize("tissue", (head.AIR, head.METAL))
def test_cases_of_one_tissue_give_finite_samples_without_labels(tissue):
    made = np.stack([np.full(CASE_SHAPE, tissue, np.uint8), np.zeros(CASE_SHAPE, np.uint8)])
    for seed in range(4):
        image, classes = sample(made, seed, patch=(8, 12, 12))
        assert np.isfinite(image).all()
        assert not classes.any()


@pytest.mark.parametrize("patch", ((1, 16, 16), (8, 1, 9)))
def test_patches_one_voxel_thick_are_samples_like_others(case, patch):
    for seed in range(4):
        image, classes = sample(case, seed, patch=patch)
        assert image.shape == classes.shape == patch
        assert np.isfinite(image).all()


def test_numpy_and_torch_show_the_same_scan():
    """Without noise, which each draws in its own way."""
    tissue = np.full((12, 40, 36), head.SOFT, np.uint8)
    tissue[4:8, 10:20, 10:20] = head.DENTINE
    tissue[5:7, 14:17, 14:17] = head.METAL
    field = Field(axis=(1.0, 2.0), radius=14.0, mid_plane=2.0)
    for seed in range(8):
        acquisition = draw_acquisition(np.random.default_rng(seed), True, SETTINGS[seed % 2])
        ours = replace(numpy_library(np.random.default_rng(0)), normal=lambda shape: np.zeros(shape, np.float32))
        theirs = replace(torch_library(torch.Generator().manual_seed(0)), normal=torch.zeros)
        by_numpy = acquire(tissue, 2, (0.8,) * 3, acquisition, field, ours)
        by_torch = acquire(torch.from_numpy(tissue), 2, (0.8,) * 3, acquisition, field, theirs).numpy()
        step = (acquisition.response.high - acquisition.response.low) / acquisition.response.levels
        assert by_torch == pytest.approx(by_numpy, abs=1.01 * step)
        assert by_torch.dtype == by_numpy.dtype


def test_windows_are_tilted_by_up_to_30_degrees_at_times_and_keep_about_the_spacing():
    windows = [draw_natural_window(np.random.default_rng(seed), 1.25) for seed in range(400)]
    angles = np.abs([Rotation.from_matrix(w.rotation).as_rotvec(degrees=True) for w in windows])
    assert np.median(angles.max(axis=1)) < 15
    assert 0.04 < np.mean(angles.max(axis=1) > 20) < 0.3
    assert np.median([w.spacing for w in windows]) == pytest.approx(1.25, rel=0.05)


@pytest.mark.parametrize("seed", range(6))
def test_bright_voxels_are_the_labelled_ones_within_one_voxel(still, monkeypatch, seed):
    made = block_case((-9, -14, -16), (5, 12, 10))
    clean = replace(
        draw_acquisition(np.random.default_rng(0)),
        blur_mm=(0.1, 0.1, 0.1),
        beam=None,
        veil=0.0,
        bias=0.0,
        rings=0.0,
        moves=(),
        noise=0.0,
        sharpen=0.0,
        smear=0.0,
        texture=0.0,
    )
    grey = clean.grey
    clean = replace(clean, response=Response(grey[head.SOFT], grey[head.ENAMEL], 1.0, 4095, 0.0, 4095.0))
    monkeypatch.setattr(natural, "draw_acquisition", lambda *args: clean)
    monkeypatch.setattr(natural, "_augmented", lambda image, *args: image)
    if seed % 2:
        monkeypatch.setattr(sampling, "BEND_SHARE", 1.0)
    image, classes = sample(made, seed, patch=(40, 48, 48), spacing=1.0)
    bright, ball = image > (image.min() + image.max()) / 2, np.ones((3, 3, 3))
    assert set(np.unique(classes)) == {0, LABELS.index(26)}
    assert not (bright & ~ndimage.binary_dilation(classes > 0, ball)).any()
    assert bright[ndimage.binary_erosion(classes > 0, ball, border_value=1)].all()


@pytest.mark.parametrize("setting", SETTINGS)
def test_no_scanner_changes_a_label(still, monkeypatch, setting):
    """Seeds differ in scanner, noise and augmentation, but for some per cent in scale; scale is held here."""
    made = block_case((-9, -14, -16), (5, 12, 10))
    monkeypatch.setattr(natural, "STRETCH", 0.0)
    labels = [sample(made, seed, patch=(32, 40, 40), spacing=1.0, setting=setting)[1] for seed in range(5)]
    assert labels[0].any()
    assert all((other == labels[0]).all() for other in labels[1:])


def test_a_mirrored_sample_shows_the_other_side_with_its_numbers(still, monkeypatch):
    made = block_case((-6, -4, 4), (6, 8, 18))
    monkeypatch.setattr(sampling, "MIRROR_SHARE", 1.0)
    classes = sample(made, 0, patch=(32, 32, 48), spacing=1.0)[1]
    assert set(np.unique(classes)) == {0, LABELS.index(16)}
    assert np.argwhere(classes > 0)[:, 2].max() < 24


@pytest.mark.parametrize("share", ("CYLINDER_SHARE", "CUT_SHARE"))
def test_outside_of_a_narrow_view_there_are_no_labels_and_one_grey_value(still, monkeypatch, share):
    made = block_case((-40, -40, -40), (40, 40, 40))
    monkeypatch.setattr(natural, share, 1.0)
    monkeypatch.setattr(natural, "_augmented", lambda image, *args: image)
    cut = 0
    for seed in range(6):
        image, classes = sample(made, seed, patch=(16, 24, 24), spacing=1.0)
        outside = classes == 0
        if outside.any():
            cut += 1
            assert len(np.unique(image[outside])) == 1
    assert cut >= 4


@pytest.fixture
def endless_tooth(monkeypatch: pytest.MonkeyPatch) -> NDArray[np.uint8]:
    """A case that is one tooth as far as any quadrant can show."""
    monkeypatch.setattr(cases, "CASE_SHAPE", (280,) * 3)
    return np.stack([np.full(cases.CASE_SHAPE, value, np.uint8) for value in (head.DENTINE, 26)])


@pytest.mark.parametrize("round_share", (0.0, 1.0))
def test_a_quadrant_lies_whole_within_its_patch_and_beyond_it_there_is_the_mean(
    still, endless_tooth, monkeypatch, round_share
):
    monkeypatch.setattr(natural, "SMALL_SHARE", 1.0)
    monkeypatch.setattr(natural, "ROUND_SHARE", round_share)
    for seed in range(6):
        image, classes = sample(endless_tooth, seed, patch=(80, 80, 80), spacing=1.0)
        shown = [np.flatnonzero((classes > 0).any(axis)) for axis in ((1, 2), (0, 2), (0, 1))]
        height, depth, width = (len(s) for s in shown)
        assert all(s[-1] - s[0] + 1 == len(s) for s in shown)
        assert 37 <= height <= 52 and 40 <= width == depth <= 56
        assert all(abs(s[0] - (79 - s[-1])) <= 1 for s in shown)
        box = np.zeros(image.shape, bool)
        box[np.ix_(*shown)] = True
        assert not image[~box].any() and image[box].all()
        disc = (classes > 0).any(0).sum() / (width * depth)
        assert disc == pytest.approx(np.pi / 4 if round_share else 1.0, abs=0.03)


def test_the_corners_of_a_quadrant_go_on_as_what_is_beside_them(still, endless_tooth, monkeypatch):
    monkeypatch.setattr(natural, "SMALL_SHARE", 1.0)
    monkeypatch.setattr(natural, "ROUND_SHARE", 1.0)
    image, classes = sample(endless_tooth, 0, patch=(60, 64, 64), spacing=1.0)
    seen = (classes > 0).any(0)
    rows, columns = (np.flatnonzero(seen.any(axis)) for axis in (1, 0))
    corner, columns_seen = image[:, rows[0], columns[0]], image[:, seen]
    assert corner.any() and (columns_seen == corner[:, None]).all(0).any()


def test_gamma_keeps_mean_and_deviation_and_the_order_of_grey_values():
    image = torch.from_numpy(np.random.default_rng(0).normal(0, 1, (6, 8, 8)).astype(np.float32))
    for inverted in (False, True):
        bent = natural._with_gamma(image, 1.4, inverted)
        assert float(bent.mean()) == pytest.approx(float(image.mean()), abs=1e-4)
        assert float(bent.std()) == pytest.approx(float(image.std()), rel=1e-4)
        assert (torch.argsort(bent.reshape(-1)) == torch.argsort(image.reshape(-1))).float().mean() > 0.98


def test_low_resolution_keeps_an_even_image_and_loses_detail_of_another():
    library = torch_library(torch.Generator().manual_seed(0))
    noise = library.normal((12, 20, 20))
    for seed in range(6):
        rng = np.random.default_rng(seed)
        low = natural._low_resolution(noise, rng, library)
        assert low.shape == noise.shape
        assert float(low.std()) <= float(noise.std()) * 1.02
    even = natural._low_resolution(torch.ones(12, 20, 20), np.random.default_rng(0), library)
    assert even.numpy() == pytest.approx(1.0, abs=1e-5)


def test_another_setting_is_refused_by_name(case):
    with pytest.raises(ValueError, match="'real'"):
        sample(case, 0, setting="real")
