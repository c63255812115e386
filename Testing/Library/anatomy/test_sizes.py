"""Tooth sizes: known proportions of human teeth, and plausible volumes against real segmented teeth."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest

from ToothTopoSegLib.anatomy import fdi
from ToothTopoSegLib.anatomy.sizes import size_of

_UNIVERSAL_LOWER = dict(zip(range(18, 32), (37, 36, 35, 34, 33, 32, 31, 41, 42, 43, 44, 45, 46, 47), strict=True))


def test_left_and_right_share_one_size() -> None:
    assert all(size_of(tooth) == size_of(fdi.mirrored(tooth)) for tooth in fdi.TEETH)


def test_the_size_carries_the_name_of_the_tooth_it_describes() -> None:
    for tooth in fdi.TEETH:
        assert size_of(tooth).fdi_type == fdi.name(tooth).replace("right ", "").replace("left ", "")


def test_canines_are_the_longest_and_first_molars_the_largest_teeth() -> None:
    for arch in (fdi.UPPER_PERMANENT, fdi.LOWER_PERMANENT):
        assert fdi.position(max(arch, key=lambda n: size_of(n).length)) == 3
        assert fdi.position(max(arch, key=lambda n: size_of(n).volume)) == 6


def test_upper_molars_have_three_roots_lower_molars_two_and_upper_first_premolars_two() -> None:
    roots = {n: size_of(n).roots for n in fdi.PERMANENT}
    assert {n for n, count in roots.items() if count == 3} == {16, 17, 18, 26, 27, 28}
    assert {n for n, count in roots.items() if count == 2} == {36, 37, 38, 46, 47, 48, 14, 24}
    assert all(size_of(n).canals >= size_of(n).roots for n in fdi.TEETH)


def test_a_tooth_narrows_at_its_neck_and_deciduous_teeth_are_smaller_than_their_successors_or_shorter() -> None:
    for tooth in fdi.TEETH:
        size = size_of(tooth)
        assert size.md_cervix < size.md_crown and size.bl_cervix <= size.bl_crown
        if fdi.is_deciduous(tooth):
            assert size.length < size_of(tooth - 40).length


def test_the_average_volume_lies_within_the_plausible_range() -> None:
    for tooth in fdi.TEETH:
        low, high = size_of(tooth).volume_range
        assert 20 < low < size_of(tooth).volume < high < 2500


def test_real_lower_teeth_have_plausible_volumes(shared_data: Path) -> None:
    volumes = list(_real_volumes(shared_data / "openfulljaw_lower" / "ofj_lower_teeth_only.tar.gz"))
    assert len(volumes) == 39
    for tooth, volume in volumes:
        low, high = size_of(tooth).volume_range
        assert low < volume < high, (tooth, volume)
    assert np.median([volume / size_of(tooth).volume for tooth, volume in volumes]) == pytest.approx(1.1, abs=0.15)


def _real_volumes(archive: Path):  # type: ignore[no-untyped-def]
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.name.lower().endswith(".stl") and "_Tooth_" in member.name:
                stream = tar.extractfile(member)
                assert stream is not None
                yield _UNIVERSAL_LOWER[int(member.name[-6:-4])], _mesh_volume(stream.read())


def _mesh_volume(stl: bytes) -> float:
    """Volume of a closed binary STL surface by signed tetrahedra."""
    facet = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
    corners = np.frombuffer(stl, facet, offset=84)["corners"].astype(float)
    corners -= corners.mean(axis=(0, 1))
    return float(abs(np.einsum("ni,ni->n", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])).sum()) / 6)
