"""The joint objective: what it sums, what it leaves out and what it tells the log."""

from __future__ import annotations

import pytest
import torch

from Testing.Library.training.losses.patches import TRUTH, blank, brick, scores_of
from ToothTopoSegLib.training.losses.objective import COUNTS, LOG_COLUMNS, Objective
from ToothTopoSegLib.training.losses.overlap import coarser, deep_supervision_loss, segmentation_loss
from ToothTopoSegLib.training.losses.scnp import penalised
from ToothTopoSegLib.training.losses.topology import TopologyConfig, topology_loss

CLASSES = torch.from_numpy(TRUTH)[None]
FAULTY = brick(11, slice(3, 6), slice(4, 7), slice(13, 16), brick(0, slice(6, 9), slice(6, 9), slice(5, 8), TRUTH))
TOPOLOGY = TopologyConfig(components=2.0, holes=0.5, ramp_steps=1)


def outputs(levels: int = 3) -> list[torch.Tensor]:
    """Scores of a faulty prediction at the full size and at halves of it."""
    finest = scores_of(FAULTY, seed=1)
    return [finest[..., :: 2**i, :: 2**i, :: 2**i].clone().requires_grad_() for i in range(levels)]


def test_without_further_terms_it_is_the_deep_supervision_loss():
    terms = Objective()(outputs(), CLASSES, step=0, numbering=0.5)
    expected = deep_supervision_loss(outputs(), CLASSES.long(), 0.5)
    assert torch.equal(terms.total, expected) and torch.equal(terms.segmentation, expected)
    assert terms.quantization == 0 and terms.topology is None


def test_the_total_is_the_weighted_sum_of_all_terms():
    weight = torch.tensor(3.0, requires_grad=True)
    objective = Objective(TOPOLOGY, quantization=0.1)
    terms = objective(outputs(), CLASSES, step=0, regulariser=lambda: weight**2)
    topology = topology_loss(outputs()[0], CLASSES, TOPOLOGY, 0).total
    expected = deep_supervision_loss(outputs(), CLASSES.long()) + 0.1 * 9 + topology
    assert terms.total.item() == pytest.approx(expected.item(), rel=1e-6)
    assert topology > 0
    terms.total.backward()
    assert float(weight.grad) == pytest.approx(0.6)


def test_topology_looks_at_the_finest_output_alone():
    given = outputs()
    terms = Objective(TOPOLOGY)(given, CLASSES, step=0)
    gradients = torch.autograd.grad(terms.topology.total, given, allow_unused=True)
    assert gradients[0].abs().sum() > 0 and gradients[1] is None and gradients[2] is None


def test_a_regulariser_without_weight_is_never_asked():
    def never():
        raise AssertionError

    assert Objective(quantization=0.0)(outputs(), CLASSES, 0, regulariser=never).quantization == 0


def test_with_scnp_every_output_that_is_used_is_penalised_against_its_own_truth():
    given, target = outputs(), CLASSES.long()
    expected = (
        segmentation_loss(penalised(given[0], target), target)
        + 0.5 * segmentation_loss(penalised(given[1], coarser(target, 1)), coarser(target, 1))
    ) / 1.5
    found = Objective(scnp=3)(given, CLASSES, step=0)
    assert found.total.item() == pytest.approx(expected.item(), rel=1e-6)
    assert found.total > Objective()(given, CLASSES, step=0).total


def test_one_output_is_enough():
    given = outputs(1)
    expected = segmentation_loss(given[0], CLASSES.long()).item()
    assert Objective()(given, CLASSES, 0).total.item() == pytest.approx(expected, rel=1e-6)


def test_the_log_has_every_term_and_every_count():
    row = Objective(TOPOLOGY)(outputs(), CLASSES, 0, regulariser=lambda: torch.tensor(1.0)).row()
    assert tuple(row) == LOG_COLUMNS
    assert {name: row[name] for name in COUNTS if row[name]} == {"fragments": 1, "cavities": 1}
    assert row["total"] == pytest.approx(row["segmentation"] + row["quantization"] + row["topology"], rel=1e-6)
    assert row["topology"] == pytest.approx(0.5 * (2 * row["components"] + row["adjacency"] + 0.5 * row["holes"]))


def test_the_log_splits_segmentation_into_its_parts():
    given = outputs(1)
    row = Objective()(given, CLASSES, 0, numbering=0.25).row()
    whole = row["cross_entropy"] + 1 - row["class_dice"] + 0.5 * (1 - row["tooth_dice"]) + 0.25 * row["numbering"]
    assert row["segmentation"] == pytest.approx(whole, rel=1e-5)


def test_a_step_that_topology_leaves_out_is_logged_without_it():
    row = Objective(TopologyConfig(every=2))(outputs(), CLASSES, step=1).row()
    assert "segmentation" in row and not {"topology", "components", *COUNTS} & set(row)


@pytest.mark.parametrize("dtype", (torch.float16, torch.bfloat16))
def test_half_precision_and_a_batch_with_an_empty_patch_stay_finite(dtype):
    finest = torch.cat([scores_of(FAULTY, seed=1), scores_of(blank(), seed=2)]).to(dtype)
    given = [finest[..., :: 2**i, :: 2**i, :: 2**i].clone().requires_grad_() for i in range(3)]
    target = torch.cat([CLASSES, torch.zeros_like(CLASSES)])
    terms = Objective(TOPOLOGY, scnp=3)(given, target, 0, regulariser=lambda: torch.tensor(1.0))
    terms.total.backward()
    assert torch.isfinite(terms.total) and all(torch.isfinite(scores.grad).all() for scores in given[:2])
