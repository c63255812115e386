"""The cache of training cases: whole files or none, made once, and what a number makes stays the same."""

from __future__ import annotations

import numpy as np
import pytest

from ToothTopoSegLib.anatomy import fdi
from ToothTopoSegLib.phantom import head
from ToothTopoSegLib.training import cases
from ToothTopoSegLib.training.cases import cache_case, case_path, fill_cache, load_case, make_case, spacing_of


@pytest.fixture
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Real cases at four times the spacing."""
    monkeypatch.setattr(cases, "CASE_SHAPE", tuple(n // 4 for n in cases.CASE_SHAPE))
    monkeypatch.setattr(cases, "CASE_SPACING", cases.CASE_SPACING * 4)


def test_a_number_always_makes_the_same_case_and_another_number_another(coarse):
    first, again, other = (np.stack(make_case(number)) for number in (0, 0, 1))
    assert first.dtype == np.uint8
    assert first.shape == (2, *cases.CASE_SHAPE)
    assert (first == again).all()
    assert (first != other).any()


def test_a_case_holds_tissues_and_labels_of_a_whole_dentition(coarse):
    tissue, labels = make_case(0)
    assert set(np.unique(labels)) <= {0, *fdi.PERMANENT, *fdi.JAWS}
    assert sum(fdi.is_tooth(int(v)) for v in np.unique(labels)) > 15
    assert tissue.max() <= head.GUTTA


def test_a_natural_case_is_another_head_and_its_pieces_without_teeth_lie_elsewhere_in_one(coarse):
    tissue, labels = make_case(0, natural=True)
    assert tissue.max() <= head.TITANIUM and (tissue != make_case(0)[0]).any()
    assert sum(fdi.is_tooth(int(v)) for v in np.unique(labels)) > 15
    elsewhere = make_case(cases.FIRST_CRANIUM, natural=True)[1]
    assert not any(fdi.is_tooth(int(v)) for v in np.unique(elsewhere))


@pytest.mark.parametrize(("number", "natural"), [(0, False), (0, True), (cases.FIRST_HARD, True)])
def test_a_fine_case_is_the_same_head_in_smaller_voxels(coarse, number, natural):
    labels, fine = make_case(number, natural)[1], make_case(number, natural, fine=True)[1]
    assert fine.shape == tuple(round(n / cases.FINE) for n in cases.CASE_SHAPE)
    assert spacing_of(labels.shape) == cases.CASE_SPACING
    assert spacing_of(fine.shape) == pytest.approx(cases.CASE_SPACING * cases.FINE)
    for tooth in (16, 22, 43):
        first, again = (
            (np.argwhere(found == tooth).mean(axis=0) - (np.array(found.shape) - 1) / 2) * spacing_of(found.shape)
            for found in (labels, fine)
        )
        assert np.abs(first - again).max() < 0.5 * cases.CASE_SPACING


def test_fine_cases_lie_beside_the_others(coarse, tmp_path):
    paths = [cache_case(tmp_path, 0, fine=fine) for fine in (False, True)]
    shapes = [load_case(tmp_path, 0, fine).shape[1:] for fine in (False, True)]
    assert paths == [case_path(tmp_path, 0), case_path(tmp_path, 0, fine=True)]
    assert shapes[0] == cases.CASE_SHAPE and shapes[1] == tuple(round(n / cases.FINE) for n in cases.CASE_SHAPE)


@pytest.mark.parametrize("natural", [False, True])
def test_a_hard_case_is_a_plain_head_that_is_always_drawn_hard(coarse, monkeypatch, natural):
    from ToothTopoSegLib.phantom import arch

    drawn: list[tuple[bool, bool]] = []
    real = arch.draw_dentition

    def remembered(rng: np.random.Generator, hard: bool, natural: bool) -> arch.Dentition:
        drawn.append((hard, natural))
        return real(rng, hard, natural)

    monkeypatch.setattr(arch, "draw_dentition", remembered)
    heads = [np.stack(make_case(cases.FIRST_HARD + n, natural)) for n in (0, 1, 2, 0)]
    assert drawn == [(True, False)] * 4
    assert (heads[0] == heads[3]).all() and (heads[0] != heads[1]).any() and (heads[1] != heads[2]).any()


def test_the_cache_keeps_tissue_and_labels_as_one_array(cheap_cases, case, tmp_path):
    path = cache_case(tmp_path / "deep" / "cases", 7)
    assert path == case_path(tmp_path / "deep" / "cases", 7)
    assert (load_case(path.parent, 7) == case).all()
    assert [p.name for p in path.parent.iterdir()] == ["case_00007.npy"]


def test_a_case_that_is_there_is_not_made_again(cheap_cases, tmp_path):
    path = cache_case(tmp_path, 2)
    before = path.stat().st_mtime_ns
    assert cache_case(tmp_path, 2) == path
    assert cheap_cases == [2]
    assert path.stat().st_mtime_ns == before


def test_a_case_that_fails_halfway_leaves_nothing_behind(monkeypatch, tmp_path):
    def fail(*args: object) -> None:
        (tmp_path / "witness").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(cases, "make_case", fail)
    with pytest.raises(KeyboardInterrupt):
        cache_case(tmp_path, 0)
    assert [p.name for p in tmp_path.iterdir()] == ["witness"]


def test_a_disk_that_fills_up_leaves_no_half_case(cheap_cases, monkeypatch, tmp_path):
    def half(path, array):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", half)
    with pytest.raises(OSError, match="space"):
        cache_case(tmp_path, 0)
    assert not list(tmp_path.iterdir())


def test_the_cache_is_filled_in_order(cheap_cases, tmp_path):
    fill_cache(tmp_path, range(3, 5))
    assert cheap_cases == [3, 4]
    assert case_path(tmp_path, 3).exists()
    assert case_path(tmp_path, 4).exists()


def test_training_heads_use_other_seeds_than_the_phantom_command_and_the_held_out_tests():
    from ToothTopoSegLib.evaluation.held_out import HELD_OUT_SEED

    assert cases.TRAINING_SEED > 100 * HELD_OUT_SEED


def test_a_case_that_is_not_in_the_cache_is_not_found(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_case(tmp_path, 0)
