"""Repairs: the fault is gone, nothing else changed, every voxel can be taken back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from Testing.Library.topology.drawings import Field, dentition, drawn, lump, place_of, shape_of
from ToothTopoSegLib.anatomy import fdi
from ToothTopoSegLib.errors import InputError, UsageError
from ToothTopoSegLib.imaging.read import read_label_map
from ToothTopoSegLib.imaging.volume import Volume
from ToothTopoSegLib.imaging.write import write_label_map
from ToothTopoSegLib.topology.betti import betti_numbers
from ToothTopoSegLib.topology.detect import find_all
from ToothTopoSegLib.topology.detect.contacts import contact_areas
from ToothTopoSegLib.topology.detect.missing import find_missing
from ToothTopoSegLib.topology.mouth import Mouth
from ToothTopoSegLib.topology.repair import SAME_PLACE_MM, RepairResult, applied, propose, repair_all, undone
from ToothTopoSegLib.topology.repair_file import repair_file

MM = 0.5


def molar(value: int = 36) -> Volume:
    """A tooth of 8 x 8 x 12 mm standing in the jaw, with air above it."""
    array = np.zeros((50, 50, 50), dtype=np.uint8)
    array[5:25, 5:45, 5:45] = fdi.LOWER_JAW
    array[12:36, 16:32, 16:32] = value
    return Volume(array, (MM, MM, MM))


def repaired(labels: Volume, names: set[str]) -> RepairResult:
    result = repair_all(labels)
    assert {change.repair for change in result.repaired} == names
    assert np.array_equal(undone(result.labels, result.repaired).array, labels.array), "every voxel can be taken back"
    assert np.array_equal(applied(labels, result.repaired).array, result.labels.array)
    again = repair_all(result.labels)
    assert again.repaired == [], "repairing twice changes nothing more"
    return result


def test_a_sound_tooth_is_left_alone() -> None:
    labels = molar()
    result = repaired(labels, set())
    assert np.array_equal(result.labels.array, labels.array)


@pytest.mark.parametrize("bore", [2, 4])
def test_a_bore_is_filled_from_one_mouth_to_the_other(bore: int) -> None:
    labels = molar()
    labels.array[20 : 20 + bore, :, 22 : 22 + bore] *= labels.array[20 : 20 + bore, :, 22 : 22 + bore] != 36
    filled, sound = (labels.array == 36 for labels in (repaired(labels, {"close tunnel"}).labels, molar()))
    assert not (filled & ~sound).any() and np.count_nonzero(filled) > 0.99 * np.count_nonzero(sound)


@pytest.mark.parametrize("filling", (0, fdi.LOWER_JAW))
def test_a_cavity_is_filled_and_nothing_else_is_touched(filling: int) -> None:
    labels = molar()
    labels.array[20:24, 20:24, 20:24] = filling
    result = repaired(labels, {"fill cavity"})
    assert np.array_equal(result.labels.array, molar().array)


def test_a_loose_piece_in_the_bone_becomes_bone_and_one_in_the_air_nothing() -> None:
    labels = molar()
    labels.array[7:10, 8:12, 8:12] = 36
    labels.array[42:46, 8:12, 8:12] = 36
    result = repaired(labels, {"drop fragment"})
    assert np.array_equal(result.labels.array, molar().array)


def test_a_piece_that_sticks_to_another_tooth_becomes_that_tooth() -> None:
    labels = molar()
    labels.array[12:36, 16:32, 38:46] = 37
    whole = labels.array.copy()
    labels.array[12:16, 20:28, 42:46] = 36
    result = repaired(labels, {"reassign fragment"})
    assert np.array_equal(result.labels.array, whole)


def test_a_root_tip_that_was_cut_off_is_joined_again() -> None:
    labels = molar()
    labels.array[14, 16:32, 16:32] = fdi.LOWER_JAW
    result = repaired(labels, {"join fragment"})
    tooth = result.labels.array == 36
    assert betti_numbers(tooth) == (1, 0, 0)
    assert (tooth & (molar().array != 36)).sum() == 0
    assert tooth.sum() >= 0.98 * (molar().array == 36).sum()


def test_a_repair_that_would_make_something_worse_is_refused_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dropping the piece within the other tooth would leave a hole there."""
    from ToothTopoSegLib.topology import repair

    labels = molar()
    labels.array[12:36, 16:32, 38:46] = 37
    labels.array[20:23, 20:23, 40:43] = 36
    before = labels.array.copy()
    monkeypatch.setattr(repair, "adhering_to", lambda *args: 0)
    result = repair_all(labels)
    assert result.repaired == []
    assert {finding.kind for finding in result.rejected} == {"fragment"}
    assert np.array_equal(result.labels.array, before)


def test_the_given_label_map_is_never_changed_in_place() -> None:
    labels = molar()
    labels.array[20:24, 20:24, 20:24] = 0
    before = labels.array.copy()
    repair_all(labels)
    assert np.array_equal(labels.array, before)


def test_a_change_is_not_made_to_another_label_map() -> None:
    labels = molar()
    labels.array[20:24, 20:24, 20:24] = 0
    result = repair_all(labels)
    with pytest.raises(ValueError, match="not the one"):
        applied(result.labels, result.repaired)


@pytest.mark.parametrize("apart", [7.0, 7.5])
def test_two_teeth_that_were_parted_do_not_touch_and_keep_all_but_the_cut(apart: float) -> None:
    def side_by_side(z: Any, y: Any, x: Any) -> Any:
        return (np.hypot(y, np.abs(x) - apart / 2) <= 4) & (z >= 6) & (z <= 22)

    merged = Volume(drawn(MM, side_by_side).astype(np.uint8) * np.uint8(36), (MM,) * 3)
    result = repaired(merged, {"split merge"})
    array = result.labels.array
    assert set(np.unique(array).tolist()) == {0, 36, 37}
    assert contact_areas(result.labels) == {}
    for number in (36, 37):
        assert betti_numbers(array == number) == (1, 0, 0)
    cut = (merged.array > 0) & (array == 0)
    # a sheet of one voxel through the neck
    assert 0 < np.count_nonzero(cut) <= np.count_nonzero(merged.array, axis=2).max() * array.shape[0]
    assert np.ptp(np.argwhere(cut)[:, 2]) <= 1
    assert not (array[merged.array == 0] > 0).any()


def _joined(apart: float, joint: float) -> tuple[Volume, Volume]:
    """Two round teeth of 8 mm that a ball of this radius between them joins under one number; and as they were."""

    def tooth(side: int) -> Field:
        return lambda z, y, x: (np.hypot(y, x - side * apart / 2) <= 4) & (z >= 6) & (z <= 22)

    first, second = (drawn(MM, tooth(side)) for side in (-1, 1))
    sound = first.astype(np.uint8) * np.uint8(36) + second.astype(np.uint8) * np.uint8(37)
    ball = drawn(MM, lump(20, 0, joint))
    return Volume(((sound > 0) | ball).astype(np.uint8) * np.uint8(36), (MM,) * 3), Volume(sound, (MM,) * 3)


@pytest.mark.parametrize("apart", [9.0, 10.0])
def test_what_joined_two_teeth_can_be_taken_off_both(apart: float) -> None:
    merged, sound = _joined(apart, 2.5)
    mouth = Mouth(merged)
    (finding,) = (f for f in find_all(mouth) if f.kind == "merge")
    added = {}
    for name in ("split merge", "split and trim merge"):
        change = propose(mouth, replace(finding, repair=name))
        assert change is not None and change.repair == name
        array = applied(merged, [change]).array
        assert set(np.unique(array).tolist()) == {0, 36, 37}
        added[name] = np.count_nonzero((array > 0) & (sound.array == 0))
        kept = np.count_nonzero((array > 0) & (array == sound.array))
        assert kept > 0.95 * np.count_nonzero(sound.array)
    assert added["split and trim merge"] < 0.3 * added["split merge"], "a stump is left by the mere cut"


def test_a_merge_whose_mere_cut_leaves_a_stump_is_cut_and_trimmed() -> None:
    merged, _ = _joined(10.0, 2.5)
    result = repaired(merged, {"split and trim merge"})
    assert all(betti_numbers(result.labels.array == number) == (1, 0, 0) for number in (36, 37))
    assert not [f for f in result.findings if f.severity != "info"] and result.rejected == []


def test_a_contact_that_a_tooth_in_two_pieces_had_already_is_no_new_finding() -> None:
    array = np.zeros((26, 30, 24), np.uint8)
    array[3:21, 3:9, 3:8], array[3:23, 6:14, 8:15] = 35, 36
    whole = Volume(array, (1.0,) * 3)
    assert [(f.kind, f.severity) for f in find_all(Mouth(whole)) if f.severity != "info"] == [("contact", "warning")]
    array = array.copy()
    array[3:12][array[3:12] == 35] = 75
    split = Volume(array, (1.0,) * 3)
    assert [f.kind for f in find_all(Mouth(split)) if f.severity != "info"] == ["split"]
    result = repaired(split, {"join split"})
    assert len(np.unique(result.labels.array)) == len(np.unique(whole.array)), "one number is left of the two"
    assert [(f.kind, f.severity) for f in result.findings if f.severity != "info"] == [("contact", "warning")]


def _swapped(labels: Volume, first: int, second: int) -> Volume:
    """The teeth with each other's numbers."""
    array = labels.array.copy()
    array[labels.array == first], array[labels.array == second] = second, first
    return labels.with_array(array)


def _holed(labels: Volume, tooth: int, through: bool) -> Volume:
    """A hole of 2 by 2 mm in a tooth of a dentition: 2 mm deep within it, or right through its crown to the back."""
    array, (z, y, x), (_, depth, _) = labels.array.copy(), place_of(tooth), shape_of(tooth)
    # a crown has no furcation, which alone may be open
    z += 3 if fdi.is_upper(tooth) else 15
    hole = array[z : z + 2, y : y + depth, x + 1 : x + 3] if through else array[z : z + 2, y + 1 : y + 3, x + 1 : x + 3]
    hole[hole == tooth] = 0
    return labels.with_array(array)


@pytest.mark.parametrize(("through", "mending"), [(False, "fill cavity"), (True, "close tunnel")])
@pytest.mark.parametrize("pair", [(34, 35), (45, 44), (16, 17)])
def test_a_hole_in_a_tooth_that_is_swapped_as_well_is_no_reason_to_leave_either_as_it_is(
    pair: tuple[int, int], through: bool, mending: str
) -> None:
    sound = dentition()
    result = repaired(_swapped(_holed(sound, pair[0], through), *pair), {"renumber", mending})
    array = result.labels.array
    assert np.array_equal(array[array > 0], sound.array[array > 0]), "every voxel has its number again"
    assert all(betti_numbers(array == tooth) == (1, 0, 0) for tooth in pair)
    assert result.rejected == [] and result.findings == []


@pytest.mark.parametrize("place", [15, 37])
def test_a_tooth_that_bears_the_number_of_another_one_gets_its_own(place: int) -> None:
    damaged = dentition(also={place: place - 1})
    result = repair_all(damaged)
    assert [change.repair for change in result.repaired] == ["renumber"]
    assert place in result.mouth.teeth and len(result.mouth.teeth[place - 1].bodies) == 1
    assert result.findings == []


@pytest.mark.parametrize(("place", "number"), [(41, 55), (32, 65)])
def test_a_permanent_tooth_that_bears_the_number_of_a_milk_tooth_gets_that_of_its_own_dentition(
    place: int, number: int
) -> None:
    sound = dentition(also={number - 40: number})
    labels = sound.with_array(np.where(sound.array == place, number, sound.array).astype(np.uint8))
    result = repair_all(labels)
    assert np.array_equal(result.labels.array == place, sound.array == place)


@pytest.mark.parametrize(("absent", "pair"), [(36, (34, 35)), (26, (22, 25)), (33, (31, 32))])
def test_a_missing_tooth_whose_place_is_told_differently_after_a_repair_is_no_new_finding(
    absent: int, pair: tuple[int, int]
) -> None:
    sound = dentition(absent=(absent,))
    damaged = _swapped(sound, *pair)
    before, after = (find_missing(Mouth(labels)) for labels in (damaged, sound))
    assert [f.teeth for f in before] == [f.teeth for f in after] == [(absent,)]
    apart = np.subtract(before[0].position_lps_mm, after[0].position_lps_mm)
    assert np.linalg.norm(apart) > SAME_PLACE_MM, "the gap is told from another neighbour"
    result = repaired(damaged, {"renumber"})
    assert np.array_equal(result.labels.array, sound.array)
    assert [(f.kind, f.teeth) for f in result.findings] == [("missing", (absent,))]


@pytest.mark.parametrize("absent", [13, 25])
def test_a_gap_that_gets_the_number_of_the_other_side_with_its_row_is_no_new_finding(absent: int) -> None:
    sound = dentition(absent=(absent,))
    upper = [tooth for tooth in fdi.PERMANENT if fdi.is_upper(tooth)]
    table = np.arange(256, dtype=np.uint8)
    table[upper] = [fdi.mirrored(tooth) for tooth in upper]
    result = repaired(sound.with_array(table[sound.array]), {"renumber"})
    assert np.array_equal(result.labels.array, sound.array)
    assert [(f.kind, f.teeth) for f in result.findings] == [("missing", (absent,))]


@settings(max_examples=15)
@given(st.lists(st.tuples(*[st.integers(6, 42)] * 3, st.integers(1, 4), st.sampled_from((0, 36, 37))), max_size=5))
def test_no_repair_of_any_damage_brings_up_anything_new(damage: list[tuple[int, int, int, int, int]]) -> None:
    labels = molar()
    labels.array[12:36, 16:32, 34:44] = 37
    for z, y, x, size, value in damage:
        labels.array[z : z + size, y : y + size, x : x + size] = value
    before = find_all(Mouth(labels))
    result = repair_all(labels)
    severe = [f for f in result.findings if f.severity == "error"]
    assert len(severe) <= len([f for f in before if f.severity == "error"])
    assert [c.repair for c in repair_all(result.labels).repaired] == []
    assert np.array_equal(undone(result.labels, result.repaired).array, labels.array)


def test_a_file_is_mended_and_every_voxel_is_reported(tmp_path: Path) -> None:
    labels = molar()
    labels.array[20:24, 20:24, 20:24] = 0
    write_label_map(labels, tmp_path / "a.nii.gz")
    report = json.loads(json.dumps(repair_file(tmp_path / "a.nii.gz", tmp_path / "b.nii.gz")))
    assert np.array_equal(read_label_map(tmp_path / "b.nii.gz").array, molar().array)
    (repair,) = report["repairs"]
    assert (repair["repair"], repair["voxels"], repair["volume_mm3"]) == ("fill cavity", 64, 8.0)
    assert repair["finding"]["kind"] == "cavity"
    flat = labels.array.reshape(-1)
    for first, length, before, after in repair["runs"]:
        assert (flat[first : first + length] == before).all()
        flat[first : first + length] = after
    assert np.array_equal(labels.array, molar().array), "the runs of voxels alone tell the whole repair"
    assert not [f for f in report["findings"] if f["kind"] == "cavity"]


def test_a_segmentation_keeps_names_and_colours_when_it_is_mended(tmp_path: Path) -> None:
    from ToothTopoSegLib.imaging.read import read_segments

    write_label_map(molar(), tmp_path / "a.nii.gz")
    repair_file(tmp_path / "a.nii.gz", tmp_path / "b.seg.nrrd")
    assert {s.value: s.name for s in read_segments(tmp_path / "b.seg.nrrd")}[36] == "36 lower left first molar"


def test_bad_input_leaves_nothing_behind(tmp_path: Path) -> None:
    write_label_map(Volume(np.full((4, 4, 4), 99, np.uint8)), tmp_path / "a.nii.gz")
    with pytest.raises(InputError, match="99"):
        repair_file(tmp_path / "a.nii.gz", tmp_path / "b.nii.gz")
    write_label_map(molar(), tmp_path / "c.nii.gz")
    with pytest.raises(UsageError, match=r"b\.txt"):
        repair_file(tmp_path / "c.nii.gz", tmp_path / "b.txt")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.nii.gz", "c.nii.gz"]
