"""Topological errors, held against drawings counted by hand and against gudhi and cripser on random shapes."""

from __future__ import annotations

import cripser
import gudhi
import numpy as np
import pytest

from ToothTopoSegLib.evaluation.topology_metrics import (
    TopologyError,
    mask_topology_error,
    topology_errors,
)
from ToothTopoSegLib.topology.betti import tooth_topology

NEVER = 2.0


def drawn(*rows: str) -> np.ndarray:
    """One slice as drawn ('#' is foreground), between two empty ones."""
    plane = np.array([[c == "#" for c in row] for row in rows])
    return np.pad(plane[None], 1)


def shell(size: int = 5) -> np.ndarray:
    """A hollow cube with walls of one voxel."""
    mask = np.ones((size,) * 3, dtype=bool)
    mask[1:-1, 1:-1, 1:-1] = False
    return mask


def matching_error(prediction: np.ndarray, reference: np.ndarray, connectivity: int = 26) -> int:
    return mask_topology_error(prediction, reference, connectivity).betti_matching_error


def random_masks(seed: int, count: int = 2, size: int = 6) -> list[np.ndarray]:
    """Masks that share much of their shape, with pieces, tunnels and voids."""
    rng = np.random.default_rng(seed)
    share = rng.uniform(0.2, 0.85)
    common = rng.random((size,) * 3)
    return [np.where(rng.random(common.shape) < 0.6, common, rng.random(common.shape)) < share for _ in range(count)]


def rank_into(union: np.ndarray, *masks: np.ndarray, connectivity: int) -> list[int]:
    """Rank, by gudhi, of the map from the homology of masks, kept apart, into that of ``union``, dimensions 0 to 2.

    Along a fourth axis stand the masks with the union between them. The masks exist from 0 on, the rest of the union
    from 1 on: what is born at 0 and never dies is a class that survives in the union.
    """
    layers = [layer for mask in masks for layer in (np.where(mask, 0.0, np.where(union, 1.0, NEVER)), 1.0 + ~union)]
    kind = "top_dimensional_cells" if connectivity == 26 else "vertices"
    pairs = gudhi.CubicalComplex(**{kind: np.stack(layers)}).persistence(homology_coeff_field=2, min_persistence=0.0)
    return [sum(d == k and birth == 0 and death >= NEVER for d, (birth, death) in pairs) for k in range(3)]


def test_equal_teeth_have_no_error() -> None:
    for mask in (shell(), drawn("###", "#.#", "###"), drawn("#.#")):
        error = mask_topology_error(mask, mask)
        assert error.betti_errors == (0, 0, 0)
        assert error.euler_error == error.betti_matching_error == 0


def test_two_bodies_at_different_places_are_two_errors_though_their_betti_numbers_agree() -> None:
    error = mask_topology_error(drawn("##...."), drawn("....##"))
    assert error.betti_errors == (0, 0, 0)
    assert error.betti_matching_error == 2


def test_a_crumb_is_one_error_in_its_dimension() -> None:
    error = mask_topology_error(drawn("###..#"), drawn("###..."))
    assert error.betti_errors == (1, 0, 0)
    assert error.euler_error == error.betti_matching_error == 1


def test_one_of_two_pieces_of_a_tooth_has_no_counterpart_of_its_own() -> None:
    assert mask_topology_error(drawn("##.##"), drawn("#####")).matched == (1, 0, 0)
    assert matching_error(drawn("##.##"), drawn("#####")) == 1


def test_a_ring_is_matched_where_both_run_round_the_same_hole() -> None:
    wide = drawn("#####", "#...#", "#...#", "#...#", "#####")
    narrow = drawn("#####", "#...#", "##..#", "##..#", "#####")
    assert mask_topology_error(wide, narrow).matched == (1, 1, 0)
    assert matching_error(wide, narrow) == 0


def test_rings_round_different_holes_are_not_matched() -> None:
    left = drawn("#######", "#.#####", "#######")
    right = drawn("#######", "#####.#", "#######")
    error = mask_topology_error(left, right)
    assert error.betti_errors == (0, 0, 0)
    assert error.matched == (1, 0, 0)
    assert error.betti_matching_error == 2


def test_one_of_two_holes_is_missing() -> None:
    two = drawn("#######", "#.###.#", "#######")
    one = drawn("#######", "#.#####", "#######")
    assert mask_topology_error(two, one).matched == (1, 1, 0)
    assert matching_error(two, one) == 1


def test_a_void_is_matched_where_the_hollows_overlap() -> None:
    wide, moved, filled = np.pad(shell(7), 1), np.pad(shell(7), 1), np.ones((9, 9, 9), dtype=bool)
    moved[1:8, 1:8, 5] = True
    assert mask_topology_error(wide, moved).matched == (1, 0, 1)
    filled[1, 1, 1] = False
    assert mask_topology_error(np.pad(shell(5), 2), filled).matched == (1, 0, 0)


def test_a_missed_tooth_is_its_features_lost() -> None:
    error = mask_topology_error(np.zeros((5, 5, 5), dtype=bool), shell())
    assert error == TopologyError((0, 0, 0), (1, 0, 1), (0, 0, 0))
    assert error.betti_errors == (1, 0, 1)
    assert error.euler_error == error.betti_matching_error == 2


def test_a_diagonal_contact_joins_or_parts_as_the_connectivity_says() -> None:
    diagonal, whole = drawn("#.", ".#"), drawn("##", "##")
    assert matching_error(diagonal, whole, 26) == 0
    assert matching_error(diagonal, whole, 6) == 1


@pytest.mark.parametrize("connectivity", [26, 6])
@pytest.mark.parametrize("seed", range(12))
def test_matched_features_are_the_common_image_of_both_homologies_by_gudhi(seed: int, connectivity: int) -> None:
    first, second = random_masks(seed)
    union = first | second
    alone = (rank_into(union, mask, connectivity=connectivity) for mask in (first, second))
    together = rank_into(union, first, second, connectivity=connectivity)
    # dim(A ∩ B) = dim A + dim B - dim(A + B)
    expected = tuple(a + b - both for a, b, both in zip(*alone, together, strict=True))
    assert mask_topology_error(first, second, connectivity).matched == expected


def test_the_random_shapes_have_matched_and_unmatched_features_of_every_dimension() -> None:
    errors = [mask_topology_error(*random_masks(seed)) for seed in range(12)]
    matched = np.array([e.matched for e in errors])
    unmatched = np.array([np.add(e.prediction, e.reference) for e in errors]) - 2 * matched
    assert (matched.sum(axis=0) > 3).all() and (unmatched.sum(axis=0) > 3).all()


def test_more_tunnels_than_an_integer_has_bits_are_counted() -> None:
    sieve = np.ones((1, 25, 25), dtype=bool)
    sieve[0, 1::2, 1::2] = False
    assert mask_topology_error(sieve, sieve).matched == (1, 144, 0)
    other = sieve.copy()
    other[0, 1, :] = True
    assert mask_topology_error(sieve, other).matched == (1, 132, 0)


@pytest.mark.parametrize(("connectivity", "filtration"), [(26, "T"), (6, "V")])
@pytest.mark.parametrize("seed", range(4))
def test_betti_and_euler_errors_are_those_of_cripser(seed: int, connectivity: int, filtration: str) -> None:
    masks = random_masks(seed)
    counts = []
    for mask in masks:
        pairs = cripser.compute_ph(1.0 - np.pad(mask, 1), filtration=filtration, maxdim=2)
        alive = (pairs[:, 1] < 0.5) & (pairs[:, 2] > 0.5)
        counts.append([int((pairs[alive, 0] == k).sum()) for k in range(3)])
    error = mask_topology_error(*masks, connectivity)
    assert [list(error.prediction), list(error.reference)] == counts
    assert error.betti_errors == tuple(abs(a - b) for a, b in zip(*counts, strict=True))
    assert error.euler_error == abs(np.dot([1, -1, 1], np.subtract(*counts)))


def test_every_tooth_of_either_map_is_compared_with_its_namesake() -> None:
    reference = np.zeros((3, 5, 20), dtype=np.uint8)
    reference[:, :, :4], reference[:, :, 6:10], reference[0, 0, 19] = 11, 21, 101
    prediction = np.where(reference == 21, 22, reference)
    prediction[1, 2, 2] = 0
    errors = topology_errors(tooth_topology(prediction), tooth_topology(reference))
    assert list(errors) == [11, 21, 22]
    assert errors[11] == TopologyError((1, 0, 1), (1, 0, 0), (1, 0, 0))
    assert (errors[21].prediction, errors[22].reference) == ((0, 0, 0), (0, 0, 0))


@pytest.mark.parametrize("connectivity", [26, 6])
@pytest.mark.parametrize("seed", range(6))
def test_bodies_far_from_the_other_map_change_nothing_but_their_own_count(seed: int, connectivity: int) -> None:
    first, second = (np.pad(mask, ((0, 0), (0, 0), (0, 9))) for mask in random_masks(seed))
    first[1, 1, -1] = second[1, 1, -4] = first[3, 3, 6] = True
    whole = mask_topology_error(first, second, connectivity)
    topologies = [tooth_topology(np.where(mask, 11, 0).astype(np.uint8), connectivity) for mask in (first, second)]
    assert topology_errors(*topologies, connectivity) == {11: whole}


def test_a_tooth_that_is_elsewhere_in_the_other_map_has_no_counterpart() -> None:
    here, there = np.zeros((2, 9, 9, 20), dtype=np.uint8)
    here[1:6, 1:6, 1:6], there[1:6, 1:6, 14:19] = 11, 11
    errors = topology_errors(tooth_topology(here), tooth_topology(there))
    assert errors == {11: TopologyError((1, 0, 0), (1, 0, 0), (0, 0, 0))}
    assert errors[11].betti_matching_error == 2
