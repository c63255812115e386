"""Losses against values worked out by hand, and in the corners where they could break."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from ToothTopoSegLib.training.losses import fused, overlap
from ToothTopoSegLib.training.losses.overlap import (
    batch_loss,
    class_dice,
    deep_supervision_loss,
    group_dice,
    numbering_loss,
    segmentation_loss,
)

CLASSES = 35


def labels(*shape: int, seed: int = 0, classes: int = CLASSES) -> torch.Tensor:
    return torch.randint(0, classes, shape, generator=torch.Generator().manual_seed(seed))


def certain(target: torch.Tensor, classes: int = CLASSES) -> torch.Tensor:
    """Scores (1, c, z, y, x) that leave no doubt about the target (1, z, y, x)."""
    return 40.0 * functional.one_hot(target, classes).movedim(-1, 1).float()


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def test_class_dice_is_the_mean_over_the_classes_that_are_there():
    """Four voxels, classes 1 and 2 present with two and one voxel, class 3 absent, smoothing 1.

    Class 1: 2 (0.8 + 0.5) + 1 over 2 + (0.8 + 0.5 + 0.1 + 0.1) + 1.
    Class 2: 2 * 0.6 + 1 over 1 + (0.1 + 0.2 + 0.6 + 0) + 1.
    """
    probability = torch.tensor([[0.1, 0.2, 0.2, 0.9], [0.8, 0.5, 0.1, 0.1], [0.1, 0.2, 0.6, 0.0], [0.0, 0.1, 0.1, 0.0]])
    found = class_dice(probability, torch.tensor([1, 1, 2, 0]))
    assert float(found) == pytest.approx((3.6 / 4.5 + 2.2 / 2.9) / 2, abs=1e-6)


def test_what_is_found_of_an_absent_class_does_not_count_in_class_dice():
    target = torch.tensor([1, 1, 0, 0])
    tidy = torch.tensor([[0.0, 0.0, 1.0, 1.0], [1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    stray = torch.tensor([[0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]])
    assert float(class_dice(tidy, target)) == float(class_dice(stray, target)) == 1.0


def test_in_an_empty_patch_class_dice_falls_with_the_foreground_that_is_found():
    target = torch.zeros(4, dtype=torch.long)
    probability = torch.tensor([[1.0, 1.0, 0.5, 0.5], [0.0, 0.0, 0.5, 0.5]])
    assert float(class_dice(probability, target)) == pytest.approx(0.75)
    assert float(class_dice(torch.tensor([[1.0] * 4, [0.0] * 4]), target)) == 1.0


def test_group_dice_does_not_mind_which_class_of_the_group_is_found():
    """Foreground mass 1 + 0.5 of two voxels, smoothing 1: (2 * 1.5 + 1) / (1.5 + 2 + 1)."""
    probability = torch.tensor([[0.0, 0.5, 1.0], [0.0, 0.5, 0.0], [1.0, 0.0, 0.0]])
    assert float(group_dice(probability, torch.tensor([1, 2, 0]), 1, 2)) == pytest.approx(4 / 4.5)


def test_numbering_loss_looks_at_the_voxels_and_classes_of_teeth_alone():
    """One tooth voxel with scores 2 and 0 for the two teeth: log(1 + exp(-2)), whatever the background scores."""
    scores = torch.tensor([[9.0, 7.0], [2.0, 0.0], [0.0, 5.0]])
    target = torch.tensor([1, 0])
    assert float(numbering_loss(scores, target, 1, 2)) == pytest.approx(math.log(1 + math.exp(-2)))
    assert float(numbering_loss(scores, torch.tensor([0, 0]), 1, 2)) == 0.0


@pytest.mark.parametrize("numbering", (0.0, 0.5))
def test_a_perfect_prediction_costs_next_to_nothing_and_a_wrong_one_much(numbering):
    target = labels(1, 8, 8, 8)
    assert float(segmentation_loss(certain(target), target, numbering)) < 1e-3
    assert float(segmentation_loss(certain((target + 1) % CLASSES), target, numbering)) > 10


def test_the_loss_is_the_sum_of_its_terms():
    scores, target = noise(1, CLASSES, 4, 4, 4), labels(1, 4, 4, 4)
    flat, truth = scores[0].flatten(1), target.flatten()
    probability = flat.softmax(0)
    expected = functional.cross_entropy(scores, target) + 1 - class_dice(probability, truth)
    expected = expected + 0.5 * (1 - group_dice(probability, truth, 1, 32))
    assert float(segmentation_loss(scores, target)) == pytest.approx(float(expected), rel=1e-5)
    expected = expected + 0.5 * numbering_loss(flat, truth, 1, 32)
    assert float(segmentation_loss(scores, target, 0.5)) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("numbering", (0.0, 0.5))
@pytest.mark.parametrize("dtype", (torch.float32, torch.float16, torch.bfloat16))
@pytest.mark.parametrize("empty", (False, True))
def test_loss_and_gradient_are_finite_in_every_precision_and_without_any_foreground(dtype, empty, numbering):
    target = torch.zeros(1, 6, 6, 6, dtype=torch.long) if empty else labels(1, 6, 6, 6)
    scores = (50 * noise(1, CLASSES, 6, 6, 6)).to(dtype).requires_grad_()
    loss = segmentation_loss(scores, target, numbering)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(scores.grad).all()
    assert scores.grad.abs().sum() > 0


@pytest.mark.parametrize("numbering", (0.0, 0.5))
@pytest.mark.parametrize("present", (CLASSES, 5, 1), ids=("all classes", "few teeth", "background alone"))
@pytest.mark.parametrize("block", (50, 8192), ids=("many blocks", "one block"))
def test_the_fused_gradient_is_that_of_the_terms_one_by_one(numbering, present, block, monkeypatch):
    monkeypatch.setattr(fused, "BLOCK", block)
    target = labels(1, 5, 6, 7, classes=present)
    scores = (3 * noise(1, CLASSES, 5, 6, 7)).double()
    flat, truth = scores[0].flatten(1).float().requires_grad_(), target.flatten()
    probability = flat.softmax(0)
    plain = functional.cross_entropy(flat.t(), truth) + 1 - class_dice(probability, truth)
    plain = plain + 0.5 * (1 - group_dice(probability, truth, 1, 32)) + numbering * numbering_loss(flat, truth, 1, 32)
    (expected,) = torch.autograd.grad(plain, flat)
    whole = scores.float().requires_grad_()
    (found,) = torch.autograd.grad(2 * segmentation_loss(whole, target, numbering), whole)
    torch.testing.assert_close(found[0].flatten(1), 2 * expected, rtol=1e-4, atol=1e-7)


def test_large_equal_scores_in_half_precision_do_not_overflow():
    scores = torch.full((1, CLASSES, 8, 8, 8), 1000.0, dtype=torch.float16)
    assert torch.isfinite(segmentation_loss(scores, torch.zeros(1, 8, 8, 8, dtype=torch.long), 0.5))


def test_a_step_against_the_gradient_lowers_the_loss():
    scores, target = noise(1, CLASSES, 4, 4, 4).requires_grad_(), labels(1, 4, 4, 4)
    loss = segmentation_loss(scores, target, 0.5)
    (gradient,) = torch.autograd.grad(loss, scores)
    assert segmentation_loss(scores - gradient, target, 0.5) < loss


def test_deep_supervision_halves_the_weight_each_time_and_leaves_the_coarsest_out(monkeypatch):
    """Losses 1, 2 and 4 with weights 1, 1/2 and 1/4: (1 + 1 + 1) / 1.75."""
    seen = []

    def by_size(scores, target, numbering):
        seen.append((tuple(scores.shape[2:]), tuple(target.shape[1:]), numbering))
        return torch.tensor(16.0 / scores.shape[2])

    monkeypatch.setattr(overlap, "segmentation_loss", by_size)
    outputs = [torch.zeros(1, CLASSES, n, n, n) for n in (16, 8, 4, 2)]
    total = deep_supervision_loss(outputs, labels(1, 16, 16, 16), 0.25)
    assert float(total) == pytest.approx(3 / 1.75)
    assert seen == [((n,) * 3, (n,) * 3, 0.25) for n in (16, 8, 4)]


def test_deep_supervision_of_one_output_is_the_plain_loss():
    scores, target = noise(1, CLASSES, 4, 4, 4), labels(1, 4, 4, 4)
    assert torch.equal(deep_supervision_loss([scores], target), segmentation_loss(scores, target))


def test_coarser_outputs_are_compared_with_labels_of_the_same_place():
    """Labels are blocks of 4 voxels: outputs at half and quarter size that show them exactly cost nothing."""
    blocks = labels(1, 4, 4, 4)
    target = blocks.repeat_interleave(4, 1).repeat_interleave(4, 2).repeat_interleave(4, 3)
    half = blocks.repeat_interleave(2, 1).repeat_interleave(2, 2).repeat_interleave(2, 3)
    outputs = [certain(target), certain(half), certain(blocks), torch.zeros(1, CLASSES, 2, 2, 2)]
    assert float(deep_supervision_loss(outputs, target)) < 1e-3


def test_labels_for_coarser_outputs_are_taken_from_the_middle_of_their_voxels(monkeypatch):
    """Every label is its own index along x; a coarse voxel's middle lies half way between two fine ones."""
    seen = []
    monkeypatch.setattr(
        overlap, "segmentation_loss", lambda scores, target, *rest: seen.append(target[0, 0, 0]) or torch.zeros(())
    )
    target = torch.arange(16).expand(1, 16, 16, 16)
    deep_supervision_loss([torch.zeros(1, CLASSES, n, n, n) for n in (16, 8, 4, 2)], target)
    for step, taken in zip((1, 2, 4), seen, strict=True):
        middles = step * torch.arange(16 // step) + (step - 1) / 2
        assert (taken - middles).abs().max() <= 0.5


@pytest.mark.parametrize("numbering", [0.0, 0.5])
def test_the_loss_of_a_whole_batch_is_that_of_its_samples_with_the_same_gradient(numbering):
    """One sample holds all classes, one no tooth and one nothing at all."""
    target = labels(3, 6, 6, 6)
    target[1] = torch.where(target[1] > 32, target[1], 0)
    target[2] = 0
    scores = (2 * noise(3, CLASSES, 6, 6, 6)).requires_grad_()
    one_by_one = sum(segmentation_loss(scores[i : i + 1], target[i : i + 1], numbering) for i in range(3)) / 3
    at_once = batch_loss(scores, target, numbering)
    assert at_once.item() == pytest.approx(one_by_one.item(), rel=1e-5)
    (expected,), (found,) = (torch.autograd.grad(loss, scores) for loss in (one_by_one, at_once))
    assert torch.allclose(expected, found, atol=1e-7)


def test_deep_supervision_weighs_a_batch_at_once_as_it_weighs_its_samples():
    target = labels(2, 8, 8, 8)
    outputs = [noise(2, CLASSES, n, n, n) for n in (8, 4, 2)]
    assert float(overlap._deep_supervision_at_once(outputs, target, 0.5)) == pytest.approx(
        float(deep_supervision_loss(outputs, target, 0.5)), rel=1e-5
    )
