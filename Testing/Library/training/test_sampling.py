"""Samples: what the image shows is what the labels say, in place, in size and in the right direction."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage

from ToothTopoSegLib.anatomy import fdi
from ToothTopoSegLib.phantom import head, scanner
from ToothTopoSegLib.segmentation.classes import CLASSES, LABELS
from ToothTopoSegLib.training import sampling
from ToothTopoSegLib.training.cases import CASE_CENTRE, CASE_SHAPE, CASE_SPACING, FINE
from ToothTopoSegLib.training.sampling import Window, draw_sample, draw_window, metal_artefact

PATCH = (24, 32, 40)
CENTRE_ZYX = np.array(CASE_CENTRE[::-1])


def sample(case: NDArray[np.uint8], seed: int, patch=PATCH, spacing: float = 1.25):
    image, classes = draw_sample(case, np.random.default_rng(seed), patch, spacing)
    return image.numpy(), classes.numpy()


def look_at(monkeypatch: pytest.MonkeyPatch, centre_zyx, rotation=None, spacing: float | None = None) -> None:
    """Let every sample show this window (head mm), straight and not mirrored; the spacing asked for by default."""
    turn = np.eye(3) if rotation is None else np.asarray(rotation)
    monkeypatch.setattr(sampling, "BEND_SHARE", 0.0)
    monkeypatch.setattr(sampling, "MIRROR_SHARE", 0.0)
    monkeypatch.setattr(
        sampling, "draw_window", lambda rng, step: Window(np.asarray(centre_zyx, float), turn, spacing or step, True)
    )


def block_case(first_mm, last_mm) -> NDArray[np.uint8]:
    """A case of soft tissue with one block of enamel labelled 26 between two corners (z, y, x) in head mm."""
    made = np.zeros((2, *CASE_SHAPE), np.uint8)
    made[0] = head.SOFT
    made[0][:, :, 0] = head.AIR
    corners = [
        (np.asarray(c) - CENTRE_ZYX) / CASE_SPACING + (np.array(CASE_SHAPE) - 1) / 2 for c in (first_mm, last_mm)
    ]
    box = tuple(slice(round(a), round(b) + 1) for a, b in zip(*corners, strict=True))
    made[0][box], made[1][box] = head.ENAMEL, 26
    return made


def extent(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int_], NDArray[np.int_]]:
    index = np.argwhere(mask)
    return index.min(axis=0), index.max(axis=0)


@pytest.mark.parametrize("seed", range(4))
def test_a_sample_is_a_finite_normalised_image_and_class_indices_of_the_patch(case, seed):
    image, classes = sample(case, seed)
    assert image.shape == classes.shape == PATCH
    assert image.dtype == np.float32
    assert classes.dtype == np.uint8
    assert image.flags.c_contiguous
    assert np.isfinite(image).all()
    assert classes.max() < CLASSES


def test_samples_have_about_mean_0_and_deviation_1_over_many_draws(case):
    """The scale is that of a larger field of view than the patch, so single patches are off it."""
    images = [sample(case, seed)[0] for seed in range(10)]
    assert abs(np.mean(images)) < 1.0
    assert 0.3 < np.std(images) < 2.5
    assert all(np.abs(image).max() < 20 for image in images)


def test_the_same_generator_gives_the_same_sample_and_another_another(case):
    (image, classes), (again, classes_again), (other, _) = (sample(case, seed) for seed in (5, 5, 6))
    assert (image == again).all()
    assert (classes == classes_again).all()
    assert (image != other).any()


def test_a_sample_shows_only_teeth_of_its_case(case, monkeypatch):
    monkeypatch.setattr(sampling, "MIRROR_SHARE", 0.0)
    there = {LABELS.index(v) for v in np.unique(case[1])}
    for seed in range(4):
        assert set(np.unique(sample(case, seed)[1])) <= there


def test_windows_lie_mostly_around_the_teeth_and_keep_about_the_spacing():
    windows = [draw_window(np.random.default_rng(seed), 1.25) for seed in range(300)]
    assert 0.8 < np.mean([w.dental for w in windows]) < 0.95
    assert np.median([w.spacing for w in windows]) == pytest.approx(1.25, rel=0.03)
    for window in windows[:20]:
        assert window.rotation @ window.rotation.T == pytest.approx(np.eye(3), abs=1e-9)
        assert np.linalg.det(window.rotation) == pytest.approx(1)
    assert np.median([np.linalg.norm(w.centre) for w in windows if w.dental]) < 20


def test_a_block_at_a_known_place_fills_the_voxels_that_lie_there(monkeypatch):
    """Patch voxel = middle + (head mm - window centre) / spacing, axis by axis."""
    made = block_case((-6, -4, 10), (6, 8, 30))
    look_at(monkeypatch, (0, 2, 20))
    classes = sample(made, 0, patch=(32, 32, 48), spacing=1.0)[1]
    low, high = extent(classes == LABELS.index(26))
    middle = (np.array(classes.shape) - 1) / 2
    assert low == pytest.approx(middle + np.array([-6, -6, -10]), abs=1)
    assert high == pytest.approx(middle + np.array([6, 6, 10]), abs=1)


def test_a_fine_case_gives_the_same_classes(monkeypatch):
    made = block_case((-6, -4, 10), (6, 8, 30))
    fine = made
    for axis, n in enumerate(CASE_SHAPE, 1):
        # the middles of fine voxels, which are as many as cases has them, between those of the others
        at = (np.arange(round(n / FINE)) - (round(n / FINE) - 1) / 2) * FINE + (n - 1) / 2
        fine = fine.take(np.clip(np.rint(at), 0, n - 1).astype(int), axis)
    look_at(monkeypatch, (0, 2, 20))
    classes, again = (sample(c, 0, patch=(32, 32, 48), spacing=1.0)[1] for c in (made, fine))
    (low, high), found = extent(classes == LABELS.index(26)), extent(again == LABELS.index(26))
    assert np.abs(low - found[0]).max() <= 1 and np.abs(high - found[1]).max() <= 1


def test_coarser_voxels_make_the_block_smaller(monkeypatch):
    made = block_case((-6, -4, 10), (6, 8, 30))
    look_at(monkeypatch, (0, 2, 20))
    for spacing, voxels in ((1.0, 20), (2.0, 10)):
        low, high = extent(sample(made, 1, patch=(32, 32, 48), spacing=spacing)[1] == LABELS.index(26))
        assert (high - low)[2] == pytest.approx(voxels, abs=1.5)


def test_a_quarter_turn_about_the_vertical_swaps_width_and_depth(monkeypatch):
    made = block_case((-3, -3, -12), (3, 3, 12))
    turn = sampling._turn(np.array([90.0, 0.0, 0.0]))
    look_at(monkeypatch, (0, 0, 0), turn)
    low, high = extent(sample(made, 2, patch=(32, 32, 32), spacing=1.0)[1] > 0)
    assert high - low == pytest.approx([6, 24, 6], abs=1.5)


@pytest.mark.parametrize("seed", range(5))
def test_bright_voxels_are_the_labelled_ones_within_one_voxel(monkeypatch, seed):
    """Through random rotation, scaling, blur and contrast; noise and artefacts are off to see the edges."""
    made = block_case((-9, -14, -16), (5, 12, 10))
    quiet = {"texture": 0.0, "noise": 0.0, "bias": 0.0, "cupping": 0.0, "streaks": 0.0, "gamma": 1.0, "blur_mm": 0.2}
    grey = tuple(1000.0 * (t == head.ENAMEL) for t in range(11))
    imaging = scanner.Imaging(grey=grey, noise_grain=0.0, bits=12, saturation=1.0, **quiet)
    monkeypatch.setattr(scanner, "draw_imaging", lambda rng, hard: imaging)
    drawn = draw_window(np.random.default_rng(seed), 1.0)
    look_at(monkeypatch, drawn.centre * 0.3, drawn.rotation, drawn.spacing)
    image, classes = sample(made, seed, patch=(40, 48, 48))
    labelled = classes > 0
    bright = image > (image.min() + image.max()) / 2
    ball = np.ones((3, 3, 3))
    assert labelled.any()
    assert not (bright & ~ndimage.binary_dilation(labelled, ball)).any()
    assert bright[ndimage.binary_erosion(labelled, ball, border_value=1)].all()


def test_left_teeth_lie_at_higher_x_and_upper_teeth_at_higher_z(case, monkeypatch):
    look_at(monkeypatch, (0, 5, 0))
    classes = sample(case, 3, patch=(40, 56, 56), spacing=1.5)[1]
    present = [LABELS[c] for c in np.unique(classes) if fdi.is_tooth(LABELS[c])]
    assert len(present) > 10
    middle = (np.array(classes.shape) - 1) / 2
    for tooth in present:
        z, _, x = np.argwhere(classes == LABELS.index(tooth)).mean(axis=0) - middle
        assert (x > 0) == fdi.is_left(tooth), tooth
        assert (z > 0) == fdi.is_upper(tooth), tooth


def test_nothing_is_labelled_outside_the_case(monkeypatch):
    """The patch's middle lies on the case's last slice: the half beyond it is background, with grey values."""
    made = np.stack([np.full(CASE_SHAPE, head.DENTINE, np.uint8), np.full(CASE_SHAPE, 11, np.uint8)])
    made[0, :80] = head.SOFT
    top = CENTRE_ZYX[0] + (CASE_SHAPE[0] - 1) / 2 * CASE_SPACING
    look_at(monkeypatch, (top, CENTRE_ZYX[1], CENTRE_ZYX[2]))
    monkeypatch.setattr(sampling, "_view", lambda shape, rng: np.ones(shape, bool))
    image, classes = sample(made, 0, patch=(21, 16, 16), spacing=1.2)
    assert (classes[:11] == LABELS.index(11)).all()
    assert (classes[11:] == 0).all()
    assert np.isfinite(image).all()


def test_a_window_far_outside_the_case_is_all_background(case, monkeypatch):
    look_at(monkeypatch, (500, 500, 500))
    image, classes = sample(case, 0, patch=(16, 16, 16))
    assert not classes.any()
    assert np.isfinite(image).all()


def test_a_narrow_field_of_view_shows_something_and_leaves_something_out():
    views = [sampling._view((16, 20, 20), np.random.default_rng(seed)) for seed in range(30)]
    assert all(0.1 < view.mean() < 1 for view in views)
    assert any(view[:, 10, 10].all() and not view[10, 10].all() for view in views), "cut at one side, or by a cylinder"
    assert any(not view[:, 10, 10].all() for view in views), "cut above or below"


def test_outside_of_a_narrow_field_of_view_there_are_no_labels_and_one_grey_value(case, monkeypatch):
    """The upper half is out of view in those samples that have a narrow one."""
    look_at(monkeypatch, (0, 5, 0))
    upper = np.zeros((40, 56, 56), bool)
    upper[20:] = True
    monkeypatch.setattr(sampling, "_view", lambda shape, rng: ~upper)
    cut = 0
    for seed in range(8):
        image, classes = sample(case, seed, patch=(40, 56, 56), spacing=1.5)
        assert np.isfinite(image).all() and classes[~upper].any()
        if not classes[upper].any():
            cut += 1
            assert len(np.unique(image[upper])) == 1
    assert 0 < cut < 8


def test_a_mirrored_sample_shows_the_other_side_with_its_numbers(monkeypatch):
    """The block lies on the patient's left (26); in a mirror it lies on the right and is a 16."""
    made = block_case((-6, -4, 10), (6, 8, 30))
    look_at(monkeypatch, (0, 2, 0))
    monkeypatch.setattr(sampling, "MIRROR_SHARE", 1.0)
    classes = sample(made, 0, patch=(32, 32, 64), spacing=1.0)[1]
    assert set(np.unique(classes)) == {0, LABELS.index(16)}
    assert np.argwhere(classes > 0)[:, 2].max() < 32


def test_a_bent_sample_moves_the_labels_with_the_image(monkeypatch):
    made = block_case((-9, -14, -16), (5, 12, 10))
    look_at(monkeypatch, (0, 0, 0))
    straight = sample(made, 3, patch=(40, 48, 48), spacing=1.0)[1]
    monkeypatch.setattr(sampling, "BEND_SHARE", 1.0)
    quiet = {"texture": 0.0, "noise": 0.0, "bias": 0.0, "cupping": 0.0, "streaks": 0.0, "gamma": 1.0, "blur_mm": 0.2}
    grey = tuple(1000.0 * (t == head.ENAMEL) for t in range(11))
    imaging = scanner.Imaging(grey=grey, noise_grain=0.0, bits=12, saturation=1.0, **quiet)
    monkeypatch.setattr(scanner, "draw_imaging", lambda rng, hard: imaging)
    image, classes = sample(made, 3, patch=(40, 48, 48), spacing=1.0)
    assert (classes != straight).any()
    bright = image > (image.min() + image.max()) / 2
    assert not (bright & ~ndimage.binary_dilation(classes > 0, np.ones((3, 3, 3)))).any()


def artefact_of(metal: NDArray[np.bool_], seed: int = 0) -> NDArray[np.float32]:
    chance = torch.Generator().manual_seed(seed)
    return metal_artefact(torch.from_numpy(metal).float(), 0.8, np.random.default_rng(seed), chance).numpy()


def test_slices_without_metal_have_no_artefact_and_the_others_at_most_1():
    metal = np.zeros((6, 48, 40), bool)
    assert not artefact_of(metal).any()
    metal[2:4, 10:14, 10:14] = True
    artefact = artefact_of(metal)
    assert not artefact[[0, 1, 4, 5]].any()
    assert 0.9 < np.abs(artefact).max() <= 1


def test_between_two_pieces_of_metal_a_scan_is_darker_than_beside_them():
    metal = np.zeros((3, 64, 64), bool)
    metal[:, 30:34, 12:17] = metal[:, 30:34, 47:52] = True
    artefact = np.mean([artefact_of(metal, seed) for seed in range(5)], axis=0)
    assert artefact[1, 30:34, 28:36].mean() < artefact[1, [8, 56], 28:36].mean() - 0.02
