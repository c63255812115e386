"""Labels that say less than the network can: nothing is punished that nobody labelled."""

from __future__ import annotations

import pytest
import torch

from ToothTopoSegLib.segmentation.classes import CLASSES
from ToothTopoSegLib.training.losses.objective import Objective
from ToothTopoSegLib.training.losses.partial import IGNORED, partly_labelled
from ToothTopoSegLib.training.losses.topology import TopologyConfig

LOWER, UPPER = CLASSES - 2, CLASSES - 1
OBJECTIVE = Objective(topology=TopologyConfig(1.0, 1.0, 1.0))


def scores(samples: int = 1, seed: int = 0) -> list[torch.Tensor]:
    torch.manual_seed(seed)
    return [torch.randn(samples, CLASSES, n, n, n, requires_grad=True) for n in (8, 4)]


def classes(samples: int = 1) -> torch.Tensor:
    made = torch.zeros(samples, 8, 8, 8, dtype=torch.uint8)
    made[:, 2:5, 2:5, 2:5] = 3
    return made


def loss(outputs: list[torch.Tensor], truth: torch.Tensor, merged: list[list[int]]) -> torch.Tensor:
    return OBJECTIVE(*partly_labelled(outputs, truth, merged), 0, 0.5).total


def test_a_jaw_without_labels_costs_nothing_where_background_is_called_jaw():
    truth = classes()
    sure = torch.full((1, CLASSES, 8, 8, 8), -20.0).scatter_(1, truth[:, None].long(), 20.0)
    as_jaw = sure.clone()
    as_jaw[:, UPPER], as_jaw[:, 0] = sure[:, 0], sure[:, UPPER]
    assert loss([as_jaw], truth, [[LOWER, UPPER]]) == pytest.approx(float(loss([sure], truth, [[]])), abs=1e-5)
    assert loss([as_jaw], truth, [[]]) > 5


def test_nothing_moves_between_background_and_an_unlabelled_jaw():
    outputs = scores()
    loss(outputs, classes(), [[LOWER, UPPER]]).backward()
    within = outputs[0].detach()[:, [0, LOWER, UPPER]].softmax(1)
    gradient = outputs[0].grad[:, [0, LOWER, UPPER]]
    # The three are pushed together, each by its share: their proportions stay.
    assert torch.allclose(gradient, within * gradient.sum(1, keepdim=True), atol=1e-6)


def test_a_jaw_that_is_labelled_is_learnt_as_ever():
    outputs, truth = scores(), classes()
    truth[:, 6:] = LOWER
    assert bool(loss(outputs, truth, [[]]) == OBJECTIVE(outputs, truth, 0, 0.5).total)
    loss(outputs, truth, [[UPPER]]).backward()
    assert outputs[0].grad[:, LOWER, 6:].max() < 0


def test_each_sample_has_jaws_of_its_own():
    outputs, truth = scores(2), classes(2)
    both = loss(outputs, truth, [[LOWER], []])
    alone = [loss([o[i : i + 1] for o in outputs], truth[i : i + 1], [m]) for i, m in enumerate(([LOWER], []))]
    assert float(both) == pytest.approx(float(sum(alone) / 2), rel=1e-5)


def test_ignored_voxels_have_neither_loss_nor_gradient():
    truth = classes()
    truth[:, :2] = IGNORED
    first, second = scores(), scores()
    with torch.no_grad():
        second[0][:, 5, :2] += 7
        second[1][:, 5, :1] += 7
    assert float(loss(first, truth, [[]])) == pytest.approx(float(loss(second, truth, [[]])), abs=1e-6)
    loss(first, truth, [[]]).backward()
    assert float(first[0].grad[:, :, :2].abs().max()) == 0
    assert float(first[0].grad[:, :, 2:].abs().max()) > 0
