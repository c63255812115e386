"""The cache of a user's cases and the samples drawn from it: labels stay on their teeth, names stay outside."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from Testing.Library.training.user_data import other_side, scan_and_labels, teeth_alone
from ToothTopoSegLib.anatomy.fdi import LOWER_JAW, UPPER_JAW
from ToothTopoSegLib.imaging.resample import resample_linear
from ToothTopoSegLib.imaging.volume import Volume
from ToothTopoSegLib.segmentation.classes import CLASSES, TEETH, to_classes
from ToothTopoSegLib.segmentation.normalise import grey_scale
from ToothTopoSegLib.segmentation.surface import BORDER, CORE
from ToothTopoSegLib.segmentation.tiling import SURROUNDINGS
from ToothTopoSegLib.training import finetune_steps, natural, sampling, surface_samples, user_samples
from ToothTopoSegLib.training.losses.partial import IGNORED
from ToothTopoSegLib.training.user_cache import has_case, merged_classes, prepare, read_case, write_case
from ToothTopoSegLib.training.user_samples import (
    draw_user_sample,
    draw_user_surface_sample,
    plain_sample,
    plain_surface_sample,
)

PATCH = (16, 32, 32)


@pytest.fixture(scope="module")
def case():
    return prepare(*scan_and_labels(0), 1.0)


@pytest.fixture
def still(monkeypatch):
    """Samples are neither turned, bent, stretched, mirrored nor changed in their grey values."""
    for name in ("BEND_SHARE", "MIRROR_SHARE"):
        monkeypatch.setattr(sampling, name, 0.0)
    for name in ("ELSEWHERE_SHARE", "SCALE", "STRETCH", "JITTER_MM"):
        monkeypatch.setattr(user_samples, name, 0.0)
    monkeypatch.setattr(surface_samples, "MAGNIFIED", (1.0, 1.0))
    monkeypatch.setattr(user_samples, "ANGLES", (0.0, 0.0, 0.0))
    monkeypatch.setattr(natural, "_augmented", lambda image, *args: image)


def block(shape=(150, 160, 170), spacing=1.0) -> tuple[Volume, Volume]:
    """A large scan with one bright tooth 26 in its middle."""
    labels = np.zeros(shape, np.uint8)
    labels[tuple(slice(n // 2 - 5, n // 2 + 5) for n in shape)] = 26
    grey = np.random.default_rng(0).normal(0, 10, shape) + 1000.0 * (labels > 0)
    scan = Volume(grey.astype(np.float32), (spacing,) * 3)
    return scan, scan.with_array(labels)


def test_a_small_scan_is_kept_whole_on_the_finer_grid_in_segmentations_grey_scale(case):
    scan, _ = scan_and_labels(0)
    assert case.image.shape == tuple(2 * n for n in scan.array.shape) and case.spacing == 0.5
    assert case.region == tuple((0, n) for n in case.image.shape)
    scale, fine = grey_scale(scan.array), resample_linear(scan, (0.5,) * 3).array
    assert np.abs(np.clip(case.image, *case.limits) - scale.apply(fine)).max() < 0.01
    assert np.abs(case.image - (fine - scale.mean) / scale.std).max() < 0.01


def test_of_a_large_scan_the_teeth_and_their_surroundings_are_kept():
    made = prepare(*block(), 1.0)
    assert made.image.shape == (2 * 60, 2 * 60, 2 * 60)  # 25 mm on both sides of a tooth of 10 mm
    assert made.region == ((26, 94),) * 3  # the margin of segmentation, 12 mm
    assert (made.classes[50:70, 50:70, 50:70] == TEETH.index(26) + 1).all() and (made.classes > 0).sum() == 8000


def test_a_scan_stored_along_other_axes_gives_the_same_case(case):
    scan, labels = scan_and_labels(0)
    turned = [
        Volume(
            v.array[:, ::-1, ::-1],
            v.spacing,
            tuple(v.index_to_lps(np.array([0, v.array.shape[1] - 1, v.array.shape[2] - 1])).tolist()),
            ((-1.0, 0.0, 0.0), (0.0, -1.0, 0.0), (0.0, 0.0, 1.0)),
        )
        for v in (scan, labels)
    ]
    other = prepare(*turned, 1.0)
    assert np.array_equal(other.classes, case.classes) and np.abs(other.image - case.image).max() < 0.01


def test_jaws_without_labels_count_as_background():
    scan, labels = scan_and_labels(0)
    alone = prepare(scan, labels.with_array(teeth_alone(labels.array)), 1.0)
    lower = prepare(scan, labels.with_array(np.where(labels.array == UPPER_JAW, 0, labels.array)), 1.0)
    assert alone.jaws == (False, False) and merged_classes(alone.jaws) == [CLASSES - 2, CLASSES - 1]
    assert lower.jaws == (True, False) and merged_classes(lower.jaws) == [CLASSES - 1]
    assert to_classes(np.array([LOWER_JAW, UPPER_JAW])).tolist() == [CLASSES - 2, CLASSES - 1]


def test_deciduous_teeth_teach_nothing():
    scan, labels = scan_and_labels(0)
    milk = prepare(scan, labels.with_array(np.where(labels.array == 15, 55, labels.array)), 1.0)
    own = prepare(scan, labels, 1.0)
    assert np.array_equal(milk.classes == IGNORED, own.classes == TEETH.index(15) + 1)
    drawn = [draw_user_sample(milk, np.random.default_rng(seed), PATCH, 1.0)[1] for seed in range(8)]
    assert all(int(c.max()) < CLASSES or int(c.max()) == IGNORED for c in drawn)
    assert any((c == IGNORED).any() for c in drawn)


def test_a_cached_case_comes_back_as_it_was_and_its_files_bear_a_number_only(case, tmp_path):
    write_case(case, tmp_path, 7)
    back = read_case(tmp_path, 7)
    assert np.array_equal(back.image, case.image) and np.array_equal(back.classes, case.classes)
    assert (back.region, back.jaws, back.spacing) == (case.region, case.jaws, case.spacing)
    assert back.limits == case.limits
    assert sorted(path.name for path in tmp_path.iterdir()) == ["007.json", "007_classes.npy", "007_image.npy"]


def test_a_case_that_could_not_be_written_whole_is_not_there(case, tmp_path, monkeypatch):
    def full(file, array):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(OSError, match="No space"):
        write_case(case, tmp_path, 0)
    assert not has_case(tmp_path, 0) and list(tmp_path.iterdir()) == []


def test_the_same_seed_draws_the_same_sample_and_another_one_another(case):
    first, again, other = (draw_user_sample(case, np.random.default_rng(s), PATCH, 1.0) for s in (3, 3, 4))
    assert bool((first[0] == again[0]).all()) and bool((first[1] == again[1]).all())
    assert not bool((first[0] == other[0]).all())


def test_a_sample_lies_where_its_labels_lie(still):
    made = prepare(*block((60, 64, 68)), 1.0)
    for seed in range(6):
        image, classes = draw_user_sample(made, np.random.default_rng(seed), (48, 48, 48), 1.0)
        tooth = (classes == TEETH.index(26) + 1).numpy()
        assert 800 <= tooth.sum() <= 1200
        assert image.numpy()[tooth].mean() > 0.8 * image.numpy().max()
        assert ((image.numpy() > 0.5 * image.numpy().max()) == tooth).mean() > 0.99


def test_a_mirrored_sample_has_the_numbers_of_the_other_side(case, still, monkeypatch):
    straight = draw_user_sample(case, np.random.default_rng(1), PATCH, 1.0)
    monkeypatch.setattr(sampling, "MIRROR_SHARE", 1.0)
    image, classes = draw_user_sample(case, np.random.default_rng(1), PATCH, 1.0)
    assert bool((image.flip(-1) == straight[0]).all())
    table = np.array([0, *TEETH, LOWER_JAW, UPPER_JAW], np.uint8)
    expected = other_side(table[straight[1].numpy()])[..., ::-1]
    assert np.array_equal(table[classes.numpy()], expected)


def test_plain_samples_go_through_the_dental_region(case):
    first, last = (plain_sample(case, place, PATCH, 1.0) for place in (0.0, 1.0))
    whole = resample_linear(scan_and_labels(0)[0], (1.0,) * 3).array
    expected = grey_scale(whole).apply(whole)[tuple(slice(0, n) for n in PATCH)]
    assert tuple(first.shape) == PATCH and not bool((first == last).all())
    assert np.corrcoef(first.numpy().ravel(), expected.ravel())[0, 1] > 0.97


# ---- around teeth, for the network that draws surfaces


def test_surface_samples_lie_where_their_labels_lie_and_show_a_tooth_nine_times_of_ten(still, monkeypatch):
    monkeypatch.setattr(user_samples, "SPREAD_MM", 0.0)
    made = prepare(*block((60, 64, 68)), 1.0)
    seen = []
    for seed in range(30):
        image, classes = draw_user_surface_sample(made, np.random.default_rng(seed), (32, 32, 32), 0.5)
        tooth = (classes == TEETH.index(26) + 1).numpy()
        seen.append(bool(tooth[16, 16, 16]))
        if seen[-1]:
            # labels of 1 mm and grey values between them differ by a part of the outermost layer, not by a voxel more
            assert ((image.numpy() > 0.5 * image.numpy().max()) == tooth).mean() > 0.955
    assert 24 <= sum(seen) <= 29


def test_surface_samples_are_no_larger_than_what_the_network_learnt_from_and_stay_within_the_scan(case, still):
    for seed in range(4):
        image, classes = draw_user_surface_sample(case, np.random.default_rng(seed), (64, 80, 80), 0.5)
        assert tuple(image.shape) == tuple(classes.shape) == (48, 64, 64)
        assert bool(image.isfinite().all()) and int(classes.max()) < CLASSES


def test_a_plain_surface_sample_is_a_tile_as_segmentation_sees_it(case):
    fine = resample_linear(scan_and_labels(0)[0], (0.5,) * 3).array
    found = plain_surface_sample(case, 0.0, (48, 64, 64), 0.5).numpy()
    # The lowest tooth is so near the border of the scan that the tile lies against it.
    first = [0, *_best_match(found, fine)]
    tile = tuple(slice(a, a + n) for a, n in zip(first, found.shape, strict=True))
    around = tuple(slice(max(0, s.start - SURROUNDINGS), s.stop + SURROUNDINGS) for s in tile)
    expected = grey_scale(fine[around]).apply(fine[tile])
    assert np.abs(found - expected).mean() < 0.05


def _best_match(found: np.ndarray, fine: np.ndarray) -> tuple[int, int]:
    """Where (y, x) the lowest slices of a tile lie in a scan."""
    places = [(y, x) for y in range(fine.shape[1] - 63) for x in range(fine.shape[2] - 63)]
    thinned = found[::16, ::4, ::4].ravel()
    rows = [np.corrcoef(thinned, fine[0:48:16, y : y + 64 : 4, x : x + 64 : 4].ravel())[0, 1] for y, x in places]
    return places[int(np.argmax(rows))]


def test_the_network_of_surfaces_learns_core_and_border_of_teeth_and_nothing_of_jaws_and_ignored_voxels(case):
    classes = torch.zeros((1, 12, 12, 12), dtype=torch.uint8)
    classes[0, 2:7, 2:7, 2:10] = 5
    classes[0, 7:9] = CLASSES - 1
    classes[0, :, :, 10:] = IGNORED
    task = finetune_steps.Task(None, "", {}, (), (), 1.0, 1.0, 0, 1, of_surfaces=True)
    learnt = task.learnt(classes)[0].numpy()
    assert (learnt[3:6, 3:6, 3:9] == CORE).all() and (learnt[:, :, 10:] == IGNORED).all()
    assert (learnt == CORE).sum() == 3 * 3 * 6 and (learnt == BORDER).sum() == 5 * 5 * 8 - 3 * 3 * 6
    assert (learnt[7:, :, :10] == 0).all() and task.merged(case) == []
    assert bool((replace(task, of_surfaces=False).learnt(classes) == classes).all())
