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

    ``numbering`` is the weight of :func:`numbering_loss` over the 32 teeth.
    """
    from torch.nn import functional

    flat, truth = scores[0].flatten(1), target[0].flatten().long()
    log_probability = functional.log_softmax(flat.float(), dim=0)
    entropy = functional.nll_loss(log_probability.t(), truth)
    probability = log_probability.exp()
    dice = class_dice(probability, truth)
    loss = entropy + (1 - dice) + 0.5 * (1 - group_dice(probability, truth, 1, 32))
    return loss + numbering * numbering_loss(flat, truth, 1, 32) if numbering else loss


def deep_supervision_loss(outputs: Sequence[Tensor], target: Tensor, numbering: float = 0.0) -> Tensor:
    """Loss over all resolutions, halving weights as in nnU-Net; the coarsest output is left out there, and here.

    ``outputs`` are scores (1, c, z, y, x) from the finest to the coarsest, each half the size of the one before;
    ``target`` is (1, z, y, x) with class indices and a size that halves evenly.
    """
    used = list(outputs[:-1]) if len(outputs) > 1 else list(outputs)
    weights = [0.5**i for i in range(len(used))]
    total = segmentation_loss(used[0], target, numbering) * weights[0]
    for i in range(1, len(used)):
        every = slice(2**i // 2, None, 2**i)
        total = total + weights[i] * segmentation_loss(used[i], target[:, every, every, every], numbering)
    return total / sum(weights)
