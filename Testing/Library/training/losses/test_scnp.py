"""SCNP against its definition, voxel by voxel."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch

from ToothTopoSegLib.training.losses.scnp import penalised


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def labels(*shape: int, classes: int = 4) -> torch.Tensor:
    return torch.randint(0, classes, shape, generator=torch.Generator().manual_seed(1))


def by_definition(scores: np.ndarray, classes: np.ndarray, size: int) -> np.ndarray:
    """One patch (c, z, y, x) with true classes (z, y, x)."""
    half, out = size // 2, np.empty_like(scores)
    for place in product(*map(range, classes.shape)):
        window = tuple(slice(max(n - half, 0), n + half + 1) for n in place)
        for number, values in enumerate(scores):
            own = classes[window] == number
            inside = classes[place] == number
            out[number][place] = values[window][own].min() if inside else values[window][~own].max()
    return out


@pytest.mark.parametrize("size", (1, 3, 5))
@pytest.mark.parametrize("classes", (1, 4))
def test_every_score_is_that_of_its_worst_neighbour(size, classes):
    scores, truth = noise(2, 4, 4, 5, 6), labels(2, 4, 5, 6, classes=classes)
    found = penalised(scores, truth, size).numpy()
    for sample in range(2):
        expected = by_definition(scores[sample].numpy(), truth[sample].numpy(), size)
        np.testing.assert_array_equal(found[sample], expected)


def test_scores_of_the_true_class_never_rise_and_others_never_fall():
    scores, truth = noise(1, 4, 6, 6, 6), labels(1, 6, 6, 6)
    change = penalised(scores, truth) - scores
    own = torch.nn.functional.one_hot(truth, 4).movedim(-1, 1).bool()
    assert (change[own] <= 0).all() and (change[~own] >= 0).all() and change.abs().sum() > 0


def test_the_gradient_goes_to_the_worst_neighbour_alone():
    """One row of one class with scores 3, 1, 2 for it: the first two voxels answer for the second, and so the third."""
    scores = torch.zeros(1, 2, 1, 1, 3)
    scores[0, 1, 0, 0] = torch.tensor([3.0, 1.0, 2.0])
    scores.requires_grad_()
    penalised(scores, torch.ones(1, 1, 1, 3, dtype=torch.uint8))[0, 1].sum().backward()
    assert scores.grad[0, 1, 0, 0].tolist() == [0, 3, 0]


def test_gradients_are_those_of_finite_differences():
    scores, truth = noise(1, 3, 3, 3, 3).double().requires_grad_(), labels(1, 3, 3, 3, classes=3)
    assert torch.autograd.gradcheck(lambda s: penalised(s, truth), scores)


@pytest.mark.parametrize("dtype", (torch.float16, torch.bfloat16))
def test_half_precision_stays_itself_and_finite(dtype):
    largest = torch.finfo(dtype).max
    scores = torch.where(noise(1, 3, 4, 4, 4) > 0, largest, -largest).to(dtype).requires_grad_()
    found = penalised(scores, labels(1, 4, 4, 4, classes=3))
    found.sum().backward()
    assert found.dtype == dtype and torch.isfinite(found).all() and torch.isfinite(scores.grad).all()


@pytest.mark.parametrize("shape", ((1, 1, 1), (0, 3, 3), (1, 1, 5)))
def test_tiny_and_empty_patches_are_taken(shape):
    scores = noise(1, 3, *shape)
    assert penalised(scores, torch.zeros(1, *shape, dtype=torch.long)).shape == scores.shape


def test_a_window_without_a_middle_is_refused():
    with pytest.raises(ValueError, match="4 voxels; expected an odd number"):
        penalised(noise(1, 3, 4, 4, 4), labels(1, 4, 4, 4, classes=3), 4)
