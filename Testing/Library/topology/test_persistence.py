"""Persistent homology of score maps against gudhi and against maps drawn by hand."""

from __future__ import annotations

from collections import Counter
from math import inf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from Testing.Library.topology.drawings import ball, ring
from ToothTopoSegLib.topology.betti import Body, betti_numbers, bodies, voids
from ToothTopoSegLib.topology.persistence import Pair, persistent_homology, robustness

Scores = NDArray[np.float64]
SHAPES = st.tuples(*[st.integers(1, 6)] * 3)


def _gudhi(scores: Scores, connectivity: int, superlevel: bool) -> list[tuple[int, float, float]]:
    import gudhi

    sign = -1.0 if superlevel else 1.0
    complex_ = gudhi.CubicalComplex(**{"top_dimensional_cells" if connectivity == 26 else "vertices": sign * scores})
    return sorted((dimension, sign * birth, sign * death) for dimension, (birth, death) in complex_.persistence())


def _values(pairs: tuple[Pair, ...]) -> list[tuple[int, float, float]]:
    return sorted((pair.dimension, pair.birth, pair.death) for pair in pairs)


def _smooth(seed: int, shape: tuple[int, int, int] = (14, 15, 16), sigma: float = 1.0) -> Scores:
    from scipy import ndimage

    return np.asarray(ndimage.gaussian_filter(np.random.default_rng(seed).random(shape), sigma))


@settings(max_examples=80)
@given(
    scores=arrays(float, SHAPES, elements=st.integers(0, 5).map(float)),
    connectivity=st.sampled_from([26, 6]),
    superlevel=st.booleans(),
)
def test_scores_full_of_ties_have_the_pairs_gudhi_finds(scores: Scores, connectivity: int, superlevel: bool) -> None:
    pairs = persistent_homology(scores, connectivity=connectivity, superlevel=superlevel)
    assert _values(pairs) == _gudhi(scores, connectivity, superlevel)


@settings(max_examples=80)
@given(shape=SHAPES, seed=st.integers(0, 10_000), connectivity=st.sampled_from([26, 6]), superlevel=st.booleans())
def test_scores_all_different_have_the_pairs_gudhi_finds(
    shape: tuple[int, int, int], seed: int, connectivity: int, superlevel: bool
) -> None:
    scores = np.random.default_rng(seed).random(shape)
    pairs = persistent_homology(scores, connectivity=connectivity, superlevel=superlevel)
    assert _values(pairs) == _gudhi(scores, connectivity, superlevel)


@pytest.mark.parametrize("connectivity", [26, 6])
@pytest.mark.parametrize("sigma", [0.0, 1.0, 2.0])
def test_larger_noisy_and_smooth_maps_have_the_pairs_gudhi_finds(sigma: float, connectivity: int) -> None:
    scores = _smooth(1, sigma=sigma)
    assert _values(persistent_homology(scores, connectivity=connectivity)) == _gudhi(scores, connectivity, True)


@pytest.mark.parametrize("superlevel", [True, False])
@pytest.mark.parametrize("connectivity", [26, 6])
def test_adding_a_voxel_changes_the_betti_numbers_by_its_births_and_deaths(connectivity: int, superlevel: bool) -> None:
    scores = _smooth(2, (6, 7, 8))
    pairs = persistent_homology(scores, connectivity=connectivity, superlevel=superlevel)
    births = Counter((pair.birth_place, pair.dimension) for pair in pairs)
    deaths = Counter((pair.death_place, pair.dimension) for pair in pairs)
    rising = -scores if superlevel else scores
    for place in np.ndindex(scores.shape):
        after, before = (betti_numbers(m, connectivity) for m in (rising <= rising[place], rising < rising[place]))
        change = [births[place, dimension] - deaths[place, dimension] for dimension in range(3)]
        assert np.subtract(after, before).tolist() == change


@pytest.mark.parametrize("connectivity", [26, 6])
def test_the_voxels_of_birth_and_death_have_those_scores(connectivity: int) -> None:
    scores = _smooth(2)
    for pair in persistent_homology(scores, connectivity=connectivity):
        assert scores[pair.birth_place] == pair.birth
        assert pair.death == (-inf if pair.death_place is None else scores[pair.death_place])


def test_betti_numbers_at_any_threshold_are_the_pairs_alive_there() -> None:
    scores = _smooth(3)
    pairs = persistent_homology(scores)
    for threshold in np.quantile(scores, [0.2, 0.4, 0.6, 0.8, 0.95]):
        alive = [p.dimension for p in pairs if p.death < threshold <= p.birth]
        assert betti_numbers(scores >= threshold) == tuple(alive.count(n) for n in range(3))


def test_a_ring_drawn_by_hand_is_a_piece_and_a_tunnel_with_their_scores_and_places() -> None:
    scores = np.where(ring(), 0.9, 0.1)
    scores[1, 1, 4] = 0.7
    piece, tunnel = persistent_homology(scores)
    assert (piece.dimension, piece.birth, piece.death, piece.death_place) == (0, 0.9, -inf, None)
    assert tunnel.persistence == pytest.approx(0.6) and tunnel.birth_place == (1, 1, 4)
    assert (tunnel.dimension, tunnel.birth, tunnel.death) == (1, 0.7, 0.1)


def test_a_hollow_ball_is_a_void_that_dies_at_its_lowest_score() -> None:
    scores = np.where(ball(6) & ~ball(3), 0.8, 0.3)
    scores[7, 8, 6] = 0.05
    (void,) = persistent_homology(scores, (2,))
    assert (void.birth, void.death, void.death_place) == (0.8, 0.05, (7, 8, 6))


def test_the_lower_of_two_peaks_dies_at_the_saddle_between_them() -> None:
    scores = np.array([0.1, 0.9, 0.4, 0.6, 0.2])[None, None]
    first, second = persistent_homology(scores, (0,))
    assert first.birth_place == (0, 0, 1)
    assert (second.birth, second.death, second.birth_place, second.death_place) == (0.6, 0.4, (0, 0, 3), (0, 0, 2))
    assert second.persistence == pytest.approx(0.2)


def test_sublevel_sets_are_the_superlevel_sets_of_the_negative_map() -> None:
    scores = _smooth(4, (8, 8, 8))
    rising = persistent_homology(scores, superlevel=False)
    falling = persistent_homology(-scores)
    assert [(p.birth_place, p.death_place) for p in rising] == [(p.birth_place, p.death_place) for p in falling]
    assert rising[0].death == inf


def test_only_the_dimensions_asked_for_are_given() -> None:
    scores = _smooth(5)
    every = persistent_homology(scores)
    for dimension in range(3):
        assert persistent_homology(scores, (dimension,)) == tuple(p for p in every if p.dimension == dimension)


def test_a_map_of_one_score_has_one_piece_and_an_empty_one_none() -> None:
    assert [p.dimension for p in persistent_homology(np.full((4, 4, 4), 0.5))] == [0]
    assert persistent_homology(np.zeros((0, 3, 3))) == ()


def test_integer_and_single_precision_scores_in_any_memory_layout_are_understood() -> None:
    scores = np.random.default_rng(6).integers(0, 200, (6, 7, 8)).astype(np.uint8)
    expected = _values(persistent_homology(scores.astype(float)))
    assert _values(persistent_homology(scores)) == expected
    assert _values(persistent_homology(np.asfortranarray(scores.astype(np.float32)))) == expected


def test_a_fragment_is_as_robust_as_its_score_stands_above_the_bridge_to_the_rest() -> None:
    scores = np.full((9, 9, 30), 0.1)
    scores[2:7, 2:7, 2:12] = 0.95
    scores[3:6, 3:6, 16:19] = 0.8
    scores[4, 4, 12:16] = 0.45
    large, small = bodies(scores > 0.5)
    pair = robustness(scores, small, 0)
    assert pair is not None and (pair.birth, pair.death) == (0.8, 0.45)
    assert scores[pair.birth_place] == 0.8 and pair.death_place is not None and 12 <= pair.death_place[2] < 16
    main = robustness(scores, large, 0, margin=None)
    assert main is not None and main.persistence == inf


def test_a_void_is_as_robust_as_its_score_lies_below_its_wall() -> None:
    scores = np.full((20, 20, 20), 0.9)
    scores[9:12, 9:12, 9:12] = 0.4
    scores[10, 10, 10] = 0.2
    scores[10, 10, 12:] = 0.6
    scores[10, 10, 15] = 0.7
    (body,) = bodies(scores > 0.5)
    (void,) = voids(body)
    pair = robustness(scores, void, 2)
    assert pair is not None and (pair.birth, pair.death) == (0.7, 0.2)
    assert (pair.birth_place, pair.death_place) == ((10, 10, 15), (10, 10, 10))


def test_a_tunnel_is_as_robust_as_its_plug_scores_below_its_rim() -> None:
    scores = np.full((12, 12, 12), 0.1)
    scores[4:8, 2:10, 2:10] = 0.9
    scores[:, 5:7, 5:7] = 0.1
    scores[5, 5:7, 5:7] = 0.3
    scores[5, 5, 5] = 0.25
    plug = Body((slice(5, 6), slice(5, 7), slice(5, 7)), np.ones((1, 2, 2), dtype=bool), 4)
    pair = robustness(scores, plug, 1)
    assert pair is not None and (pair.birth, pair.death, pair.death_place) == (0.9, 0.25, (5, 5, 5))


def test_where_nothing_lies_there_is_nothing_robust() -> None:
    scores = np.where(ball(6), 0.9, 0.1)
    anywhere = Body((slice(1, 3),) * 3, np.ones((2, 2, 2), dtype=bool), 8)
    assert [robustness(scores, anywhere, dimension) for dimension in range(3)] == [None, None, None]


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="finite scores"):
        persistent_homology(np.zeros((3, 3)))
    with pytest.raises(ValueError, match="finite scores"):
        persistent_homology(np.full((2, 2, 2), np.nan))
    with pytest.raises(ValueError, match="26 or 6"):
        persistent_homology(np.zeros((3, 3, 3)), connectivity=18)
    with pytest.raises(ValueError, match="0, 1 and 2"):
        persistent_homology(np.zeros((3, 3, 3)), (3,))
