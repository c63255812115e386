"""A number must agree with its place along the arch; what is tooth and what is not stays as it was."""

from __future__ import annotations

import numpy as np
import pytest

from ToothTopoSegLib.anatomy import fdi
from ToothTopoSegLib.imaging.volume import Volume
from ToothTopoSegLib.phantom.write import make_phantom
from ToothTopoSegLib.segmentation.arch_prior import follow_arch
from ToothTopoSegLib.segmentation.classes import CLASSES, MIRRORED, TEETH, class_to_label, to_classes


@pytest.fixture(scope="module")
def teeth() -> Volume:
    """A whole dentition of known numbers, 1 mm voxels."""
    labels = make_phantom(300).labels
    step = round(1.0 / labels.spacing[0])
    return Volume(labels.array[::step, ::step, ::step], tuple(s * step for s in labels.spacing), labels.origin)


def scores_of(labels: np.ndarray, certainty: float = 6.0) -> np.ndarray:
    scores = np.zeros((CLASSES, *labels.shape), np.float32)
    np.put_along_axis(scores, to_classes(labels)[None].astype(int), certainty, 0)
    return scores


def followed(scores: np.ndarray, region: Volume, scale: float = 1.0) -> np.ndarray:
    scores = scores.copy()
    follow_arch(scores, region, scale)
    return class_to_label()[scores.argmax(0)]


def test_right_numbers_stay(teeth: Volume) -> None:
    found = followed(scores_of(teeth.array), teeth)
    assert (found == teeth.array).mean() > 0.9995


@pytest.mark.parametrize("tooth", (16, 35, 44))
def test_half_a_tooth_with_a_number_from_elsewhere_gets_its_own_back(teeth: Volume, tooth: int) -> None:
    """The network is torn between the right number and one three places further on, and leans to the wrong one."""
    assert (teeth.array == tooth).sum() > 50
    wrong = tooth + (-3 if fdi.position(tooth) > 3 else 3)
    scores = scores_of(teeth.array)
    own = teeth.array == tooth
    own[:, ::2] = False
    scores[TEETH.index(wrong) + 1, own] = 7.0
    found = followed(scores, teeth)
    assert (found[own] == tooth).mean() > 0.95


def test_what_is_tooth_and_what_is_not_stays(teeth: Volume) -> None:
    rng = np.random.default_rng(0)
    # every other voxel is enough to be noisy, and eight times as fast
    coarse = Volume(teeth.array[::2, ::2, ::2], tuple(2 * s for s in teeth.spacing), teeth.origin)
    scores = scores_of(coarse.array, 4.0) + rng.normal(0, 1.5, (CLASSES, *coarse.array.shape)).astype(np.float32)
    before = class_to_label()[scores.argmax(0)]
    after = followed(scores, coarse)
    assert (before != after).any()
    assert (np.isin(before, TEETH) == np.isin(after, TEETH)).all()
    assert (before != after)[~np.isin(before, TEETH)].sum() == 0


def test_the_unit_of_integer_scores_does_not_matter(teeth: Volume) -> None:
    scores = scores_of(teeth.array, 4.0)
    scores[TEETH.index(14) + 1, teeth.array == 16] = 5.0
    assert np.array_equal(followed(scores, teeth), followed(scores / 0.25, teeth, 0.25))


def test_nothing_changes_without_an_arch() -> None:
    labels = np.zeros((20, 20, 20), np.uint8)
    labels[5:15, 5:12, 5:12] = 36
    assert np.array_equal(followed(scores_of(labels), Volume(labels)), labels)


@pytest.mark.parametrize("seen", (5, 200))
def test_a_third_molar_is_given_only_where_the_network_saw_one(seen: int) -> None:
    """Both jaws' second molars stand a third molar's width too far back; the network is torn, and saw few of it."""
    scores = np.zeros((CLASSES, 20, 20, 20), np.float32)
    scores[TEETH.index(17) + 1, 4:16, 4:16, 4:16] = 3.0
    scores[TEETH.index(18) + 1, 4:16, 4:16, 4:16] = 2.5
    flat = np.argwhere(scores[TEETH.index(17) + 1] > 0)[:seen]
    scores[(TEETH.index(18) + 1, *flat.T)] = 4.0
    found = followed(scores, Volume(scores[0]))
    assert ((found == 18).sum() == 0) == (seen == 5)


def test_the_mirror_exchanges_left_and_right_and_nothing_else() -> None:
    assert [MIRRORED[MIRRORED[index]] for index in range(CLASSES)] == list(range(CLASSES))
    assert [TEETH[MIRRORED[TEETH.index(tooth) + 1] - 1] for tooth in (11, 26, 38, 45)] == [21, 16, 48, 35]
    assert (MIRRORED[0], MIRRORED[33], MIRRORED[34]) == (0, 33, 34)
