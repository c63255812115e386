"""The topological loss of a network that tells core and border of teeth, on two drawn teeth side by side."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ToothTopoSegLib.segmentation.classes import TEETH
from ToothTopoSegLib.segmentation.surface import BORDER, CORE
from ToothTopoSegLib.training.losses.by_tooth import by_tooth
from ToothTopoSegLib.training.losses.objective import Objective
from ToothTopoSegLib.training.losses.topology import TopologyConfig, topology_loss
from ToothTopoSegLib.training.surface_samples import core_and_border

LEFT, RIGHT = TEETH.index(46) + 1, TEETH.index(47) + 1
CONFIG = TopologyConfig(1.0, 1.0, 1.0)


def teeth(gap: int = 0) -> torch.Tensor:
    """True classes (1, z, y, x) of two teeth with so many voxels between them."""
    classes = torch.zeros(1, 16, 16, 36, dtype=torch.uint8)
    classes[:, 3:13, 3:13, 4:16] = LEFT
    classes[:, 3:13, 3:13, 16 + gap : 30] = RIGHT
    return classes


def certain(found: torch.Tensor) -> torch.Tensor:
    """Scores (1, 3, z, y, x) that leave no doubt of classes (1, z, y, x)."""
    scores = torch.nn.functional.one_hot(found.long(), 3).movedim(-1, 1).float() * 8
    return scores.requires_grad_()


def loss_of(found: torch.Tensor, true: torch.Tensor):
    """The terms of whole teeth and of cores, and the gradient of their sum."""
    scores = certain(found)
    whole, cores = (topology_loss(*seen, CONFIG, 0) for seen in by_tooth(scores, core_and_border(true), true))
    total = (whole + cores).total
    total.backward()
    return whole, cores, scores.grad


@pytest.mark.parametrize("gap", [0, 3])
def test_what_is_right_costs_nothing(gap: int) -> None:
    true = teeth(gap)
    whole, cores, gradient = loss_of(core_and_border(true), true)
    assert whole.total.item() == cores.total.item() == 0 and not gradient.any()


def test_every_voxel_is_that_of_the_nearest_tooth() -> None:
    true = teeth(4)
    (scores, own), (cores, core) = by_tooth(certain(core_and_border(true)), core_and_border(true), true)
    assert scores.shape == cores.shape == (1, 33, 16, 16, 36)
    assert torch.equal(scores.argmax(1), true.long()) and torch.equal(own, true.long())
    assert torch.equal(cores.argmax(1), core) and set(core.unique().tolist()) == {0, LEFT, RIGHT}


def test_cores_that_run_into_each_other_are_parted() -> None:
    true = teeth()
    found = core_and_border(true)
    found[:, 6:9, 6:9, 14:18] = CORE
    whole, cores, gradient = loss_of(found, true)
    assert whole.total.item() == 0 and cores.counts["bridges"] == 1
    here = gradient[0, :, 6:9, 6:9, 14:18].sum((1, 2, 3))
    assert here[CORE] > 0 > here[BORDER]


def test_a_tooth_that_is_torn_is_joined_and_a_hole_in_it_filled() -> None:
    true = teeth(3)
    torn = core_and_border(true)
    torn[:, :, :, 9:11] = 0
    whole, _, gradient = loss_of(torn, true)
    assert whole.counts["splits"] == 1 and gradient[0, 0, :, :, 9:11].max() > 0
    pierced = core_and_border(true)
    pierced[:, 6:8, :, 9:11] = 0
    assert loss_of(pierced, true)[0].counts["tunnels"] == 1


def test_a_piece_far_from_any_tooth_is_pushed_down() -> None:
    true = teeth(3)
    found = core_and_border(true)
    found[:, 6:9, 6:9, 33:35] = BORDER
    whole, _, gradient = loss_of(found, true)
    assert whole.counts["fragments"] == 1 and gradient[0, BORDER, :, :, 33:35].sum() > 0


def test_without_any_tooth_nothing_is_demanded() -> None:
    true = torch.zeros(1, 8, 8, 8, dtype=torch.uint8)
    whole, cores, gradient = loss_of(true, true)
    assert (whole + cores).total.item() == 0 and not gradient.any() and np.isfinite(gradient.numpy()).all()


def test_the_objective_looks_at_teeth_one_by_one() -> None:
    true = teeth()
    found = core_and_border(true)
    found[:, 6:9, 6:9, 14:18] = CORE
    terms = Objective(topology=CONFIG)([certain(found)], core_and_border(true), 0, teeth=true)
    assert terms.row()["bridges"] == 1 and float(terms.topology.adjacency.detach()) > 0
