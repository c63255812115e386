"""Two groups of cusps and two pulps, drawn by hand and in phantoms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from Testing.Library.topology.drawings import Field, drawn, phantom_teeth
from ToothTopoSegLib.anatomy import fdi as teeth
from ToothTopoSegLib.imaging.volume import Volume
from ToothTopoSegLib.topology.detect.bodies import find_merges
from ToothTopoSegLib.topology.detect.merge_signs import two_cusp_groups, two_pulps
from ToothTopoSegLib.topology.mouth import Mouth
from ToothTopoSegLib.topology.shape import coarse, vertical

Mask = NDArray[np.bool_]
MM = 0.5
STEP = (MM, MM, MM)
UP = np.array([1.0, 0.0, 0.0])


def _rod(at: float, top: float = 24.0, radius: float = 3.0) -> Field:
    """A tooth of a round crown that stands at x = ``at``."""
    return lambda z, y, x: (np.hypot(y, x - at) <= np.minimum(radius, 1 + 0.3 * (z - 4))) & (z >= 4) & (z <= top)


def _joint(z: Any, y: Any, x: Any) -> Any:
    return (np.hypot(z - 14, y) <= 1.5) & (np.abs(x) <= 4)


def _halves(mask: Mask) -> tuple[Mask, Mask]:
    left = np.arange(mask.shape[2]) < mask.shape[2] / 2
    return mask & left, mask & ~left


def _dark(mask: Mask, *cores: Field) -> NDArray[np.float64]:
    """A scan of a bright body with dark cores, in something as dark."""
    grey: NDArray[np.float64] = np.where(mask & ~drawn(MM, *cores), 1500.0, 200.0)
    return grey + np.random.default_rng(3).normal(0, 60, mask.shape)


def _canal(at: float) -> Field:
    return lambda z, y, x: (np.hypot(y, x - at) <= 0.9) & (z >= 8) & (z <= 20)


@pytest.mark.parametrize("top", [24.0, 22.0])
def test_two_teeth_joined_at_their_sides_have_two_groups_of_cusps(top: float) -> None:
    assert two_cusp_groups(*_halves(drawn(MM, _rod(-3.2), _rod(3.2, top), _joint)), STEP, UP)


def test_the_halves_of_one_broad_crown_share_their_cusps() -> None:
    def crown(z: Any, y: Any, x: Any) -> Any:
        # a fissure of 1 mm between the cusps
        return (np.hypot(y, x) <= 5) & (z >= 4) & (z <= 24 - (np.abs(x) < 0.5))

    assert not two_cusp_groups(*_halves(drawn(MM, crown)), STEP, UP)


def test_a_lump_beside_the_root_has_no_cusps() -> None:
    mask = drawn(MM, _rod(-2.0), lambda z, y, x: (z - 9) ** 2 + y**2 + (x - 3) ** 2 <= 9)
    assert not two_cusp_groups(*_halves(mask), STEP, UP)


@pytest.mark.parametrize("seed", [314, 307])
def test_the_molars_of_a_phantom_have_one_group_of_cusps_each(seed: int) -> None:
    mouth = Mouth(phantom_teeth(seed, STEP))
    molars = [fdi for fdi in mouth.teeth if teeth.position(fdi) in (6, 7)]
    assert len(molars) >= 6
    for fdi in molars:
        mask, step = coarse(mouth.teeth[fdi].bodies[0].mask, STEP)
        crownwards = vertical(mouth.labels) * (-1 if teeth.is_upper(fdi) else 1)
        assert not two_cusp_groups(*_halves(mask), step, crownwards), f"tooth {fdi}"


def test_a_dark_canal_in_either_part_is_two_pulps() -> None:
    mask = drawn(MM, _rod(-3.2), _rod(3.2), _joint)
    assert two_pulps(*_halves(mask), STEP, _dark(mask, _canal(-3.2), _canal(3.2)))


def test_canals_that_meet_in_one_chamber_are_one_pulp() -> None:
    def crown(z: Any, y: Any, x: Any) -> Any:
        return (np.hypot(y, x / 1.5) <= 4) & (z >= 4) & (z <= 24)

    def chamber(z: Any, y: Any, x: Any) -> Any:
        return (np.hypot(z - 18, y) <= 1) & (np.abs(x) <= 3)

    mask = drawn(MM, crown)
    assert not two_pulps(*_halves(mask), STEP, _dark(mask, _canal(-3), _canal(3), chamber))


def test_teeth_without_a_dark_core_show_no_pulp() -> None:
    mask = drawn(MM, _rod(-3.2), _rod(3.2), _joint)
    assert not two_pulps(*_halves(mask), STEP, _dark(mask))
    assert not two_pulps(*_halves(mask), STEP, np.full(mask.shape, 700.0))


def test_a_merge_says_what_either_part_has_of_its_own() -> None:
    mask = drawn(MM, _rod(-3.2), _rod(3.2), _joint)
    labels = Volume(mask.astype(np.uint8) * np.uint8(34), STEP)
    scan = labels.with_array(_dark(mask, _canal(-3.2), _canal(3.2)).astype(np.float32))
    (plain,), (seen,) = find_merges(Mouth(labels)), find_merges(Mouth(labels, scan))
    assert "each with cusps of its own" in plain.evidence
    assert "each with cusps and pulp of its own" in seen.evidence
