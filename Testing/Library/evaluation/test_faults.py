"""Planted faults are what they say: proven by counting pieces, tunnels, voids and teeth before and after."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from ToothTopoSegLib.anatomy import fdi as teeth
from ToothTopoSegLib.evaluation import faults
from ToothTopoSegLib.evaluation.clean_maps import clean_map
from ToothTopoSegLib.evaluation.faults import KINDS, Planted, plant
from ToothTopoSegLib.imaging.volume import Volume
from ToothTopoSegLib.topology.betti import ToothTopology, tooth_topology


@pytest.fixture(scope="module")
def clean() -> Volume:
    return clean_map(308).labels


@pytest.fixture(scope="module")
def before(clean: Volume) -> dict[int, ToothTopology]:
    return tooth_topology(clean.array)


@pytest.fixture(scope="module")
def planted(clean: Volume) -> dict[str, list[Planted]]:
    """Two faults of each kind."""
    made = {kind: [plant(clean, kind, np.random.default_rng([7, n])) for n in range(2)] for kind in KINDS}
    return {kind: [one for one in some if one is not None] for kind, some in made.items()}


@cache
def _after(fault: Planted) -> dict[int, ToothTopology]:
    return tooth_topology(fault.labels.array)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_finds_a_place_and_changes_nothing_but_labels(
    kind: str, planted: dict[str, list[Planted]], clean: Volume
) -> None:
    assert planted[kind]
    for fault in planted[kind]:
        assert fault.kind == kind
        assert fault.labels.array.dtype == clean.array.dtype
        assert (fault.labels.spacing, fault.labels.origin) == (clean.spacing, clean.origin)
        assert fault.labels.direction == clean.direction
        assert (fault.labels.array != clean.array).any()
        index = clean.lps_to_index(np.asarray(fault.position_lps_mm))
        assert ((index >= 0) & (index < clean.array.shape)).all()
        assert any(kind == accepted.kind for accepted in fault.accept)


def test_the_clean_map_stays_as_it_was(clean: Volume, planted: dict[str, list[Planted]]) -> None:
    assert np.array_equal(clean.array, clean_map(308).labels.array)


def test_the_same_random_numbers_plant_the_same_fault(clean: Volume) -> None:
    first, second = (plant(clean, "tunnel", np.random.default_rng(3)) for _ in range(2))
    assert first is not None and second is not None
    assert np.array_equal(first.labels.array, second.labels.array)


def test_a_cavity_is_one_more_void_of_at_least_a_cubic_millimetre(
    planted: dict[str, list[Planted]], before: dict[int, ToothTopology]
) -> None:
    for fault in planted["cavity"]:
        b0, b1, b2 = before[fault.teeth[0]].betti
        assert _after(fault)[fault.teeth[0]].betti == (b0, b1, b2 + 1)
        assert faults.SMALLEST_MM3 <= fault.size_mm3 <= faults.LARGEST_MM3


def test_a_tunnel_is_one_more_handle(planted: dict[str, list[Planted]], before: dict[int, ToothTopology]) -> None:
    for fault in planted["tunnel"]:
        b0, b1, b2 = before[fault.teeth[0]].betti
        assert _after(fault)[fault.teeth[0]].betti == (b0, b1 + 1, b2)
        assert faults.BORES_MM[0] <= fault.bore_mm <= faults.BORES_MM[1]


def test_a_fragment_is_one_more_piece_at_the_stated_place(planted: dict[str, list[Planted]]) -> None:
    for fault in planted["fragment"]:
        after = _after(fault)[fault.teeth[0]]
        assert after.betti[0] == 2
        place = fault.labels.index_to_lps(np.asarray(after.bodies[1].centroid))
        assert np.allclose(place, fault.position_lps_mm, atol=1e-6)


def test_a_merge_puts_two_teeth_under_one_label_in_one_piece(
    planted: dict[str, list[Planted]], before: dict[int, ToothTopology]
) -> None:
    for fault in planted["merge"]:
        keeps, loses = fault.teeth
        after = _after(fault)
        assert after[keeps].betti[0] == 1
        assert after[keeps].voxels >= before[keeps].voxels + 0.65 * before[loses].voxels


def test_a_split_gives_part_of_a_tooth_a_number_that_was_absent(
    planted: dict[str, list[Planted]], before: dict[int, ToothTopology]
) -> None:
    for fault in planted["split"]:
        tooth, new = fault.teeth
        after = _after(fault)
        assert new not in before
        assert after[tooth].voxels + after[new].voxels == before[tooth].voxels


def test_a_missing_tooth_is_gone_and_is_no_third_molar(planted: dict[str, list[Planted]]) -> None:
    for fault in planted["missing"]:
        assert fault.teeth[0] not in _after(fault)
        assert teeth.position(fault.teeth[0]) < 8


def test_a_duplicate_is_one_number_on_two_bodies(planted: dict[str, list[Planted]]) -> None:
    for fault in planted["duplicate"]:
        after = _after(fault)
        assert after[fault.teeth[0]].betti[0] == 2
        assert fault.described["own_number"] not in after


def test_a_swap_exchanges_two_teeth_of_one_jaw(
    planted: dict[str, list[Planted]], before: dict[int, ToothTopology]
) -> None:
    for fault in planted["swap"]:
        first, second = fault.teeth
        after = _after(fault)
        assert after[first].centroid == before[second].centroid
        assert after[second].centroid == before[first].centroid
        assert teeth.is_upper(first) == teeth.is_upper(second)


def test_a_mirrored_tooth_has_the_number_of_the_other_side_or_jaw(
    planted: dict[str, list[Planted]], before: dict[int, ToothTopology]
) -> None:
    for fault in planted["mirrored"]:
        places = {tooth.centroid: number for number, tooth in before.items()}
        for number in fault.teeth:
            own = places[_after(fault)[number].centroid]
            assert number in (teeth.mirrored(own), teeth.opposite_jaw(own))


def test_a_contact_joins_two_teeth_that_stay_one_piece_each(planted: dict[str, list[Planted]]) -> None:
    from scipy import ndimage

    for fault in planted["contact"]:
        first, second = fault.teeth
        both = np.isin(fault.labels.array, fault.teeth)
        assert ndimage.label(both, np.ones((3, 3, 3)))[1] == 1
        assert all(_after(fault)[tooth].betti[0] == 1 for tooth in (first, second))


def test_an_outlier_stays_in_one_piece(planted: dict[str, list[Planted]], before: dict[int, ToothTopology]) -> None:
    for fault in planted["outlier"]:
        after = _after(fault)[fault.teeth[0]]
        assert after.betti[0] == 1
        shrunk = after.voxels < before[fault.teeth[0]].voxels
        assert shrunk == (fault.described["how"] == "shrunk")


def test_a_map_without_teeth_has_no_room_for_any_fault() -> None:
    empty = Volume(np.zeros((20, 20, 20), np.uint8))
    assert all(plant(empty, kind, np.random.default_rng(0)) is None for kind in KINDS)


def test_a_kind_that_is_none_is_refused(clean: Volume) -> None:
    with pytest.raises(ValueError, match="caries"):
        plant(clean, "caries", np.random.default_rng(0))


def test_the_planter_knows_nothing_of_the_detectors() -> None:
    tree = ast.parse(Path(faults.__file__).read_text(encoding="utf-8"))
    names = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    names += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    assert not [name for name in names if "topology" in name]
