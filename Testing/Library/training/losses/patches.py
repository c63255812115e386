"""Small patches with known faults, and what the tests of the topological loss do with them."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from ToothTopoSegLib.segmentation.classes import CLASSES, LABELS
from ToothTopoSegLib.training.losses.topology import TopologyConfig, TopologyTerms, topology_loss

Labels = NDArray[np.uint8]
ALL = TopologyConfig()


def class_of(fdi: int) -> int:
    """The class index of a tooth."""
    return LABELS.index(fdi)


def blank(*shape: int) -> Labels:
    """A patch without any tooth; a cube of 16 voxels unless told."""
    return np.zeros(shape or (16, 16, 16), dtype=np.uint8)


def brick(fdi: int, z: slice, y: slice, x: slice, into: Labels) -> Labels:
    """A copy of a patch with a box of one tooth."""
    labels = into.copy()
    labels[z, y, x] = class_of(fdi) if fdi else 0
    return labels


def scores_of(found: Labels, sure: float = 3.0, seed: int | None = None) -> torch.Tensor:
    """Scores (1, c, z, y, x) in which these classes win, if asked with noise that changes none of them."""
    scores = sure * functional.one_hot(torch.from_numpy(found).long(), CLASSES).movedim(-1, 0)[None].float()
    if seed is not None:
        scores = scores + torch.rand(scores.shape, generator=torch.Generator().manual_seed(seed)) * 0.9 * sure
    return scores


def loss_of(scores: torch.Tensor, truth: Labels, config: TopologyConfig = ALL, step: int = 0) -> TopologyTerms:
    return topology_loss(scores, torch.from_numpy(truth)[None], config, step)


def mended(found: Labels, truth: Labels, config: TopologyConfig = ALL, steps: int = 120) -> Labels:
    """What is found after gradient descent on the scores of every voxel, driven by the topological loss alone."""
    scores = scores_of(found, seed=0).requires_grad_()
    optimiser = torch.optim.Adam([scores], lr=0.2)
    for _ in range(steps):
        optimiser.zero_grad()
        terms = loss_of(scores, truth, config)
        if not any(terms.counts.values()):
            break
        terms.total.backward()
        optimiser.step()
    return scores.detach().argmax(1)[0].numpy().astype(np.uint8)


ALONG = slice(2, 14)
TRUTH = brick(11, ALONG, slice(4, 12), slice(3, 10), blank())
PAIR = brick(21, ALONG, slice(4, 12), slice(11, 15), brick(11, ALONG, slice(4, 12), slice(4, 8), blank()))
