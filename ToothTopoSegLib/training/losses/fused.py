"""Cross-entropy, class Dice, tooth Dice and numbering in two passes over the scores instead of a dozen.

The terms are those of :mod:`ToothTopoSegLib.training.losses.overlap`, written out with their derivative. With 35
classes the scores are the largest tensor of a training step: left to automatic differentiation, the loss took a third
of the step on a CPU. Both passes go through blocks of voxels that fit the processor's cache.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

BLOCK = 8192
SMOOTH = 1.0


def fused_loss(scores: Tensor, target: Tensor, teeth: tuple[int, int], numbering: float) -> Tensor:
    """Entropy + (1 - class Dice) + half (1 - tooth Dice) + ``numbering`` times numbering loss, differentiable once.

    ``scores`` (n, c) before the softmax, ``target`` (n,) class indices as int64, ``teeth`` first and last tooth class.
    """
    result: Tensor = _function().apply(scores.float(), target, teeth, numbering)
    return result


def _function() -> Any:
    """The autograd function; made on first use, because torch is not imported at file scope."""
    global _made
    if _made is None:
        _made = _make()
    return _made


_made: Any = None


def _make() -> Any:
    import torch

    class Fused(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, scores: Tensor, target: Tensor, teeth: tuple[int, int], numbering: float) -> Tensor:
            n, classes = scores.shape
            group = slice(teeth[0], teeth[1] + 1)
            probability = torch.empty_like(scores)
            entropy = scores.new_zeros(())
            inter, mass = scores.new_zeros(classes), scores.new_zeros(classes)
            for a in range(0, n, BLOCK):
                part, truth = slice(a, a + BLOCK), target[a : a + BLOCK]
                logs = torch.log_softmax(scores[part], 1)
                entropy -= logs.gather(1, truth[:, None]).sum()
                block = torch.exp(logs, out=probability[part])
                inter.index_add_(0, truth, block.gather(1, truth[:, None])[:, 0])
                mass += block.sum(0)
            count = torch.bincount(target, minlength=classes).to(scores.dtype)
            tooth = ((target >= teeth[0]) & (target <= teeth[1])).nonzero()[:, 0]
            tooth_mass = probability[tooth, group].sum(1)
            present = count > 0
            present[0] = False
            overlap, size = 2 * inter + SMOOTH, count + mass + SMOOTH
            loss = entropy / n
            dice = (overlap / size)[present].mean() if bool(present.any()) else mass[0] / n
            loss = loss + 1 - dice
            group_overlap = 2 * tooth_mass.sum() + SMOOTH
            group_size = mass[group].sum() + len(tooth) + SMOOTH
            loss = loss + 0.5 * (1 - group_overlap / group_size)
            among = scores.new_zeros((0, group.stop - group.start))
            if numbering and len(tooth):
                logs = torch.log_softmax(scores[tooth, group], 1)
                loss = loss - numbering * logs.gather(1, (target[tooth] - teeth[0])[:, None]).mean()
                among = logs.exp()
            ctx.save_for_backward(probability, target, tooth, tooth_mass, among, overlap, size, present)
            ctx.group, ctx.numbering = group, numbering
            ctx.group_overlap, ctx.group_size = group_overlap, group_size
            return loss

        @staticmethod
        def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, None, None, None]:
            probability, target, tooth, tooth_mass, among, overlap, size, present = ctx.saved_tensors
            n, group = len(target), ctx.group
            # Derivatives by the probabilities: per class for every voxel, and for the voxel's own class on top.
            every, own = torch.zeros_like(size), torch.zeros_like(size)
            if bool(present.any()):
                share = present / present.sum()
                every, own = share * overlap / size**2, -2 * share / size
            else:
                every[0] = -1 / n
            every[group] += 0.5 * ctx.group_overlap / ctx.group_size**2
            on_tooth = -1 / ctx.group_size
            gradient = torch.empty_like(probability)
            for a in range(0, n, BLOCK):
                p, truth = probability[a : a + BLOCK], target[a : a + BLOCK, None]
                mine = own[truth] * p.gather(1, truth)
                level = (p @ every)[:, None] + mine
                block = torch.mul(p, every - level + 1 / n, out=gradient[a : a + BLOCK])
                block.scatter_add_(1, truth, mine - 1 / n)
            p, truth = probability[tooth], target[tooth, None]
            extra = -on_tooth * tooth_mass[:, None] * p
            extra[:, group] += on_tooth * p[:, group]
            if len(among):
                extra[:, group] += ctx.numbering / len(tooth) * among
                extra.scatter_add_(1, truth, torch.full_like(among[:, :1], -ctx.numbering / len(tooth)))
            gradient.index_add_(0, tooth, extra)
            return gradient.mul_(outer[0]), None, None, None

    return Fused
