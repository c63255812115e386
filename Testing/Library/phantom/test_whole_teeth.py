"""Drawn teeth in one piece, without voids and slits; all other voxels as they were."""

from __future__ import annotations

import numpy as np
import pytest

from ToothTopoSegLib.phantom.head import CORTICAL, DENTINE, SOFT
from ToothTopoSegLib.phantom.whole_teeth import make_teeth_whole
from ToothTopoSegLib.topology.betti import tooth_topology

JAW = 101


def block() -> tuple[np.ndarray, np.ndarray]:
    """Tissues and labels (z, y, x) of a jaw with one tooth in it, 36."""
    tissue, labels = np.full((30, 30, 30), CORTICAL, np.uint8), np.full((30, 30, 30), JAW, np.uint8)
    tissue[5:25, 8:20, 8:20], labels[5:25, 8:20, 8:20] = DENTINE, 36
    return tissue, labels


def betti(labels: np.ndarray) -> dict[int, tuple[int, int, int]]:
    return {fdi: tooth.betti for fdi, tooth in tooth_topology(labels).items()}


def test_a_whole_tooth_stays_as_it_is() -> None:
    tissue, labels = block()
    kept = tissue.copy(), labels.copy()
    make_teeth_whole(tissue, labels, 0.3, DENTINE)
    assert (tissue == kept[0]).all() and (labels == kept[1]).all()


@pytest.mark.parametrize("width", [1, 2, 4])
def test_a_slit_between_roots_is_filled_with_dentine_and_nothing_else(width: int) -> None:
    tissue, labels = block()
    whole = labels.copy()
    slit = (slice(8, 12), slice(8, 20), slice(13, 13 + width))
    tissue[slit], labels[slit] = CORTICAL, JAW
    assert betti(labels) == {36: (1, 1, 0)}
    make_teeth_whole(tissue, labels, 0.3, DENTINE)
    assert betti(labels) == {36: (1, 0, 0)}
    assert not (labels != whole).sum() > width * 24  # a ball leaves round edges
    assert (tissue[labels == 36] == DENTINE).all() and (tissue[labels == JAW] == CORTICAL).all()


def test_a_gap_that_no_drawing_makes_stays_open() -> None:
    tissue, labels = block()
    gap = (slice(8, 17), slice(8, 20), slice(10, 19))
    tissue[gap], labels[gap] = SOFT, 0
    kept = labels.copy()
    make_teeth_whole(tissue, labels, 0.3, DENTINE)
    assert (labels == kept).all()


def test_a_void_is_filled_also_where_it_holds_a_corner_of_the_tooth_beside() -> None:
    tissue, labels = block()
    labels[5:25, 8:20, 20:28], tissue[5:25, 8:20, 20:28] = 37, DENTINE
    labels[10, 14, 18], labels[11, 15, 19] = 37, 37
    tissue[7, 12, 12], labels[7, 12, 12] = SOFT, 0
    assert betti(labels)[36][2] == 2
    make_teeth_whole(tissue, labels, 0.3, DENTINE)
    assert betti(labels) == {36: (1, 0, 0), 37: (1, 0, 0)}
    assert labels[7, 12, 12] == labels[10, 14, 18] == 36 and tissue[7, 12, 12] == DENTINE


def test_what_another_tooth_cut_off_is_that_tooths() -> None:
    tissue, labels = block()
    labels[5:25, 8:20, 16:18] = 37
    kept = tissue.copy()
    make_teeth_whole(tissue, labels, 0.3, DENTINE)
    assert betti(labels) == {36: (1, 0, 0), 37: (1, 0, 0)}
    assert (labels[5:25, 8:20, 16:20] == 37).all() and (tissue == kept).all()


@pytest.mark.parametrize("at_border", [True, False])
def test_a_piece_that_no_tooth_cut_off_and_one_at_the_border_stay(at_border: bool) -> None:
    tissue, labels = block()
    piece = (slice(27, 30 if at_border else 29), slice(8, 20), slice(8, 12))
    labels[piece], tissue[piece] = 36, DENTINE
    if at_border:
        labels[27, 8:20, 12:20] = 37
    kept = labels.copy()
    make_teeth_whole(tissue, labels, 0.3, DENTINE)
    assert (labels == kept).all()
