"""Clean label maps: teeth in one piece, the situation that the seed promises, tunnels where roots are fused."""

from __future__ import annotations

import numpy as np
import pytest

from ToothTopoSegLib.anatomy import fdi as teeth
from ToothTopoSegLib.evaluation.clean_maps import DENTITIONS, CleanMap, clean_map
from ToothTopoSegLib.topology.betti import tooth_topology

DECIDUOUS, MIXED_HALF, FUSED_UPPER = 307, 308, 311


@pytest.fixture(scope="module")
def fused() -> CleanMap:
    return clean_map(FUSED_UPPER)


def test_the_same_seed_gives_the_same_map() -> None:
    first, second = clean_map(MIXED_HALF), clean_map(MIXED_HALF)
    assert np.array_equal(first.labels.array, second.labels.array)
    assert first.labels.direction == second.labels.direction
    assert first.described == second.described


def test_the_seed_says_which_dentition_it_draws(fused: CleanMap) -> None:
    assert fused.described["dentition"] == DENTITIONS[FUSED_UPPER % len(DENTITIONS)] == "fused roots"


def test_a_deciduous_set_holds_milk_teeth_only() -> None:
    made = clean_map(DECIDUOUS)
    assert len(made.described["teeth"]) >= 18
    assert all(teeth.is_deciduous(tooth) for tooth in made.described["teeth"])


def test_teeth_that_the_border_does_not_cut_are_in_one_piece_without_voids(fused: CleanMap) -> None:
    array = fused.labels.array
    for tooth in tooth_topology(array).values():
        box = tooth.bodies[0].box
        if not any(s.start == 0 or s.stop == n for s, n in zip(box, array.shape, strict=True)):
            assert (tooth.betti[0], tooth.betti[2]) == (1, 0)


def test_fused_roots_leave_a_tunnel_through_the_furcation(fused: CleanMap) -> None:
    found = tooth_topology(fused.labels.array)
    whole = [t for t in fused.described["fused_roots"] if teeth.is_upper(t) and t in found]
    assert whole
    assert all(found[tooth].betti == (1, 1, 0) for tooth in whole)


def test_left_and_right_lie_where_the_patient_has_them() -> None:
    made = clean_map(DECIDUOUS).labels
    for tooth in tooth_topology(made.array).values():
        x = made.index_to_lps(np.asarray(tooth.centroid))[0]
        if teeth.position(tooth.fdi) >= 3:
            assert (x > 0) == teeth.is_left(tooth.fdi)


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(ValueError):
        clean_map(-1)
