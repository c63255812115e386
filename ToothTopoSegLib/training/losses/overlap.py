"""Cross-entropy and soft Dice, nnU-Net's objective (Isensee et al., Nature Methods 2021), vectorised over classes.

A second Dice term over "any tooth" against the rest lets the network find teeth long before it can number them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


def class_dice(probability: Tensor, target: Tensor, smooth: float = 1.0) -> Tensor:
    """Mean soft Dice over the foreground classes present in ``target``.

    ``probability`` is (c, n) and ``target`` (n,) with class indices. Without any foreground the result is 1 minus the
    foreground probability mass per voxel, so that false teeth in empty patches still cost something.
    """
    import torch

    classes = probability.shape[0]
    own = probability.gather(0, target[None])[0]
    inter = torch.zeros(classes, dtype=probability.dtype, device=probability.device).index_add_(0, target, own)
    truth = torch.bincount(target, minlength=classes).to(probability.dtype)
    mass = probability.sum(1)
    present = truth[1:] > 0
    if not bool(present.any()):
        return 1 - (1 - probability[0]).mean()
    dice = (2 * inter + smooth) / (truth + mass + smooth)
    return dice[1:][present].mean()


def group_dice(probability: Tensor, target: Tensor, first: int, last: int, smooth: float = 1.0) -> Tensor:
    """Soft Dice of the classes ``first..last`` taken together; ``probability`` (c, n), ``target`` (n,)."""
    mass = probability[first : last + 1].sum(0)
    truth = ((target >= first) & (target <= last)).to(probability.dtype)
    return (2 * (mass * truth).sum() + smooth) / (mass.sum() + truth.sum() + smooth)


def numbering_loss(scores: Tensor, target: Tensor, first: int, last: int) -> Tensor:
    """Cross-entropy among the classes ``first..last`` alone, averaged over their own voxels.

    ``scores`` (c, n) are before the softmax, ``target`` (n,) class indices; 0 where none of the classes is present.
    Teeth fill a few per cent of a patch, so that plain cross-entropy hardly rewards giving a tooth its number.
    """
    from torch.nn import functional

    own = (target >= first) & (target <= last)
    if not bool(own.any()):
        return scores.float().sum() * 0.0
    return functional.cross_entropy(scores[first : last + 1, own].t().float(), target[own] - first)


def segmentation_loss(scores: Tensor, target: Tensor, numbering: float = 0.0) -> Tensor:
    """Cross-entropy + (1 - class Dice) + half (1 - tooth Dice) of scores (1, c, z, y, x) and classes (1, z, y, x).

    ``numbering`` is the weight of :func:`numbering_loss` over the 32 teeth. All terms are computed together, see
    :mod:`ToothTopoSegLib.training.losses.fused`.
    """
    from ToothTopoSegLib.training.losses.fused import fused_loss

    # not scores[0]: the way back of an index fills a tensor of this size with zeros and copies into it
    flat = scores.squeeze(0).movedim(0, -1).flatten(0, 2)
    return fused_loss(flat, target[0].flatten().long(), (1, 32), numbering)


def deep_supervision_loss(outputs: Sequence[Tensor], target: Tensor, numbering: float = 0.0) -> Tensor:
    """Loss over all resolutions, halving weights as in nnU-Net; the coarsest output is left out there, and here.

    ``outputs`` are scores (b, c, z, y, x) from the finest to the coarsest, each half the size of the one before;
    ``target`` is (b, z, y, x) with class indices and a size that halves evenly. Samples count alike.
    """
    if outputs[0].device.type != "cpu":
        return _deep_supervision_at_once(outputs, target, numbering)
    used = list(outputs[:-1]) if len(outputs) > 1 else list(outputs)
    weights = [0.5**i for i in range(len(used))]
    total = outputs[0].new_zeros(())
    for i, (scores, weight) in enumerate(zip(used, weights, strict=True)):
        # the way back of a split copies all of it; nearly every training on a processor has one sample a step
        samples = scores.split(1) if len(scores) > 1 else (scores,)
        for sample, truth in zip(samples, coarser(target, i).split(1), strict=True):
            total = total + weight * segmentation_loss(sample, truth, numbering)
    return total / (sum(weights) * len(target))


def coarser(target: Tensor, level: int) -> Tensor:
    """Classes (b, z, y, x) for the output that is halved ``level`` times: those in the middle of its voxels."""
    every = slice(2**level // 2, None, 2**level)
    return target[:, every, every, every]


def _deep_supervision_at_once(outputs: Sequence[Tensor], target: Tensor, numbering: float) -> Tensor:
    """:func:`deep_supervision_loss` for a GPU."""
    used = list(outputs[:-1]) if len(outputs) > 1 else list(outputs)
    total = outputs[0].new_zeros((), dtype=outputs[0].float().dtype)
    for i, scores in enumerate(used):
        total = total + 0.5**i * batch_loss(scores, coarser(target, i), numbering)
    return total / sum(0.5**i for i in range(len(used)))


def batch_loss(scores: Tensor, target: Tensor, numbering: float = 0.0, smooth: float = 1.0) -> Tensor:
    """Mean of :func:`segmentation_loss` over the samples of scores (b, c, z, y, x) and classes (b, z, y, x).

    All samples at once and without a step that waits for the device: what a GPU is good at.
    """
    import torch

    scores, index = scores.float().flatten(2), target.flatten(1).long()[:, None]
    logs = torch.log_softmax(scores, 1)
    probability, own = logs.exp(), logs.gather(1, index)
    classes, voxels = scores.shape[1], scores.shape[2]
    empty = scores.new_zeros((len(scores), classes))
    inter = empty.scatter_add(1, index[:, 0], own[:, 0].exp())
    count = empty.scatter_add(1, index[:, 0], torch.ones_like(own[:, 0]))
    mass = probability.sum(2)
    present = count > 0
    present[:, 0] = False
    dice = ((2 * inter + smooth) / (count + mass + smooth) * present).sum(1) / present.sum(1).clamp(min=1)
    dice = torch.where(present.any(1), dice, mass[:, 0] / voxels)
    tooth = ((target >= 1) & (target <= 32)).flatten(1)
    teeth = tooth.sum(1)
    inside = (probability[:, 1:33].sum(1) * tooth).sum(1)
    group = (2 * inside + smooth) / (mass[:, 1:33].sum(1) + teeth + smooth)
    loss = -own.mean((1, 2)) + 1 - dice + 0.5 * (1 - group)
    if numbering:
        among = torch.logsumexp(logs[:, 1:33], 1) - own[:, 0]
        loss = loss + numbering * (among * tooth).sum(1) / teeth.clamp(min=1)
    return loss.mean()
