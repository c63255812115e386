"""The topological loss as a whole: by optimisation on small patches, in every precision and in the corners."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from Testing.Library.training.losses.patches import ALL, PAIR, TRUTH, blank, brick, class_of, loss_of, mended, scores_of
from ToothTopoSegLib.segmentation.classes import CLASSES
from ToothTopoSegLib.topology.betti import betti_numbers
from ToothTopoSegLib.training.losses.topology import TopologyConfig, topology_loss


def fragment():
    return brick(11, slice(3, 6), slice(4, 7), slice(13, 16), TRUTH)


def split():
    return brick(0, slice(7, 9), slice(0, 16), slice(0, 16), TRUTH)


def cavity():
    return brick(0, slice(6, 9), slice(6, 9), slice(5, 8), TRUTH)


def tunnel():
    return brick(0, slice(6, 9), slice(0, 16), slice(5, 8), TRUTH)


def bridged():
    return brick(21, slice(5, 9), slice(6, 10), slice(8, 12), PAIR)


def forbidden():
    """Half of a central incisor taken for a canine."""
    return brick(13, slice(2, 8), slice(4, 12), slice(3, 10), TRUTH)


FAULTS = {
    "fragments": (fragment, TRUTH, "components"),
    "splits": (split, TRUTH, "components"),
    "cavities": (cavity, TRUTH, "holes"),
    "tunnels": (tunnel, TRUTH, "holes"),
    "bridges": (bridged, PAIR, "adjacency"),
    "contacts": (forbidden, TRUTH, "adjacency"),
}


def only(term: str) -> TopologyConfig:
    return replace(TopologyConfig(components=0, adjacency=0, holes=0), **{term: 1.0})


def faults(function):
    return pytest.mark.parametrize("kind", FAULTS)(function)


@faults
def test_every_fault_is_found_by_its_term_and_by_that_alone(kind):
    make, truth, term = FAULTS[kind]
    terms = loss_of(scores_of(make()), truth, only(term))
    assert terms.counts[kind] > 0
    assert getattr(terms, term) > 0
    for other in {"components", "adjacency", "holes"} - {term}:
        assert getattr(loss_of(scores_of(make()), truth, only(term)), other) == 0


@faults
def test_descending_the_loss_mends_the_fault(kind):
    make, truth, term = FAULTS[kind]
    found = mended(make(), truth, only(term))
    assert not any(loss_of(scores_of(found), truth, only(term)).counts.values())


def test_a_bridged_pair_separates():
    assert betti_numbers(bridged() > 0)[0] == 1
    assert betti_numbers(mended(bridged(), PAIR) > 0) == (2, 0, 0)


@pytest.mark.parametrize("make", (fragment, split, cavity, tunnel))
def test_a_damaged_tooth_becomes_one_solid_piece(make):
    own = class_of(11)
    assert betti_numbers(make() == own) != (1, 0, 0)
    assert betti_numbers(mended(make(), TRUTH) == own) == (1, 0, 0)


@pytest.mark.parametrize("dtype", (torch.float32, torch.float16, torch.bfloat16))
@pytest.mark.parametrize("sure", (0.01, 3.0))
def test_a_legal_patch_costs_nothing_and_has_no_gradient_however_unsure_it_is(dtype, sure):
    scores = scores_of(PAIR, sure, seed=1).to(dtype).requires_grad_()
    terms = loss_of(scores, PAIR)
    terms.total.backward()
    assert terms.total == terms.components == terms.adjacency == terms.holes == 0
    assert not any(terms.counts.values())
    assert scores.grad is not None and not scores.grad.any()


def test_a_wrong_outline_without_a_topological_fault_costs_nothing():
    grown = brick(11, slice(1, 15), slice(3, 13), slice(2, 11), TRUTH)
    assert loss_of(scores_of(grown), TRUTH).total == 0


@faults
def test_the_gradient_is_that_of_finite_differences(kind):
    """In double precision, along a random direction so short that no label changes."""
    make, truth, _ = FAULTS[kind]
    config = replace(ALL, persistence_power=0.0)
    scores = scores_of(make(), seed=2).double().requires_grad_()
    (gradient,) = torch.autograd.grad(loss_of(scores, truth, config).total, scores)
    way = torch.randn(scores.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    way = way * (gradient != 0).any(1, keepdim=True)
    ahead, behind = (loss_of(scores.detach() + step * way, truth, config).total for step in (1e-5, -1e-5))
    assert float((ahead - behind) / 2e-5) == pytest.approx(float((gradient * way).sum()), rel=1e-4)


@faults
def test_the_gradient_draws_the_wrong_voxels_and_their_surroundings_towards_the_truth(kind):
    make, truth, _ = FAULTS[kind]
    scores = scores_of(make()).requires_grad_()
    (gradient,) = torch.autograd.grad(loss_of(scores, truth).total, scores)
    right = gradient[0].gather(0, torch.from_numpy(truth).long()[None])[0]
    assert (right <= 0).all()
    drawn = (right < 0).numpy()
    assert (drawn & (make() != truth)).any()
    assert 0 < drawn.sum() < 0.2 * truth.size


@faults
@pytest.mark.parametrize("dtype", (torch.float16, torch.bfloat16))
def test_half_precision_finds_the_same_and_stays_finite_at_its_largest_scores(kind, dtype):
    make, truth, _ = FAULTS[kind]
    exact = loss_of(scores_of(make()), truth)
    assert loss_of(scores_of(make()).to(dtype), truth).counts == exact.counts
    largest = torch.finfo(dtype).max
    extreme = torch.where(scores_of(make()) > 0, largest, -largest).to(dtype).requires_grad_()
    terms = loss_of(extreme, truth)
    terms.total.backward()
    assert torch.isfinite(terms.total) and torch.isfinite(extreme.grad).all()
    assert terms.counts == exact.counts


@faults
def test_mixed_precision_changes_neither_the_loss_nor_where_its_gradient_goes(kind):
    make, truth, _ = FAULTS[kind]
    scores = scores_of(make(), seed=8).requires_grad_()
    (plain,) = torch.autograd.grad(loss_of(scores, truth).total, scores)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = loss_of(scores, truth).total
    assert mixed.dtype == torch.float32
    assert torch.equal(torch.autograd.grad(mixed, scores)[0], plain)


@pytest.mark.parametrize("shape", ((0, 4, 4), (1, 1, 1), (1, 1, 9), (2, 3, 1)))
@pytest.mark.parametrize("tooth", (0, 11))
def test_tiny_and_empty_patches_are_no_trouble(shape, tooth):
    found, truth = blank(*shape) if np.prod(shape) else np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    found[...] = class_of(tooth) if tooth else 0
    scores = scores_of(found).requires_grad_()
    terms = loss_of(scores, truth)
    terms.total.backward()
    assert torch.isfinite(terms.total) and torch.isfinite(scores.grad).all()


def test_scores_that_are_all_the_same_are_no_trouble():
    scores = torch.zeros(1, CLASSES, 16, 16, 16, requires_grad=True)
    terms = loss_of(scores, PAIR)
    terms.total.backward()
    assert torch.isfinite(terms.total) and torch.isfinite(scores.grad).all()


def test_noise_is_no_trouble():
    scores = torch.randn(1, CLASSES, 16, 16, 16, generator=torch.Generator().manual_seed(4)).requires_grad_()
    terms = loss_of(scores, PAIR)
    terms.total.backward()
    assert terms.counts["fragments"] > 100
    assert torch.isfinite(terms.total) and torch.isfinite(scores.grad).all()


def test_the_terms_of_a_batch_are_the_means_over_its_patches():
    found, truth = (fragment(), cavity(), TRUTH), (TRUTH, TRUTH, TRUTH)
    scores = torch.cat([scores_of(labels, seed=5) for labels in found])
    together = topology_loss(scores, torch.from_numpy(np.stack(truth)), ALL, 0)
    alone = [loss_of(scores[i : i + 1], truth[i]) for i in range(3)]
    for term in ("components", "adjacency", "holes", "total"):
        expected = sum(float(getattr(terms, term)) for terms in alone) / 3
        assert float(getattr(together, term)) == pytest.approx(expected, rel=1e-6)
    assert together.counts["fragments"] == together.counts["cavities"] == 1


def test_threads_change_nothing():
    found = brick(0, slice(6, 9), slice(6, 9), slice(5, 8), fragment())
    scores = scores_of(found, seed=6)
    one, three = (loss_of(scores, TRUTH, replace(ALL, workers=n)) for n in (1, 3))
    assert torch.equal(one.total, three.total) and one.counts == three.counts


def test_the_ramp_begins_late_grows_evenly_and_leaves_steps_out():
    config = TopologyConfig(ramp_start=10, ramp_steps=3, every=2)
    assert [config.ramp(step) for step in (0, 9, 10, 11, 12, 13, 14, 100)] == [0, 0, 0.25, 0, 0.75, 0, 1, 1]


def test_the_total_is_the_weighted_sum_on_the_ramp():
    found = brick(0, slice(6, 9), slice(6, 9), slice(5, 8), fragment())
    config = TopologyConfig(components=2.0, holes=0.5, ramp_steps=3)
    terms = loss_of(scores_of(found), TRUTH, config, step=1)
    assert float(terms.total) == pytest.approx(float(0.5 * (2 * terms.components + 0.5 * terms.holes)))


def test_a_step_that_is_left_out_costs_nothing_and_counts_nothing():
    scores = scores_of(fragment()).requires_grad_()
    terms = loss_of(scores, TRUTH, TopologyConfig(every=5), step=3)
    terms.total.backward()
    assert terms.total == 0 and not terms.counts and not scores.grad.any()


def test_a_persistent_fault_weighs_more_than_a_faint_one():
    """The same fragment, once clear and once hardly above its surroundings: the share of the cross-entropy falls."""
    clear, faint = scores_of(fragment(), 2.0), scores_of(fragment(), 2.0)
    faint[0, 0][torch.from_numpy(fragment() != TRUTH)] = 1.9
    faint[0, class_of(11)][torch.from_numpy(fragment() == 0)] = 1.9
    plain = replace(ALL, persistence_power=0.0)
    shares = [float(loss_of(s, TRUTH).total / loss_of(s, TRUTH, plain).total) for s in (clear, faint)]
    assert shares[0] > 3 * shares[1]


def test_classes_of_any_integer_type_and_scores_in_channels_last_are_taken():
    scores = scores_of(fragment())
    expected = loss_of(scores, TRUTH).total
    classes = torch.from_numpy(TRUTH)[None].long()
    assert torch.equal(topology_loss(scores, classes, ALL, 0).total, expected)
    last = scores.to(memory_format=torch.channels_last_3d)
    assert torch.equal(topology_loss(last, classes, ALL, 0).total, expected)


def test_shapes_that_do_not_fit_are_refused_with_both_named():
    with pytest.raises(ValueError, match=r"\(1, 35, 4, 4, 4\) and \(1, 4, 4, 5\).*expected"):
        topology_loss(torch.zeros(1, 35, 4, 4, 4), torch.zeros(1, 4, 4, 5, dtype=torch.long), ALL, 0)


@pytest.mark.parametrize("wrong", ({"holes": -1.0}, {"every": 0}, {"workers": 0}, {"radius": -1.0}))
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ValueError):
        TopologyConfig(**wrong)
