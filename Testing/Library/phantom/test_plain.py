"""The plain generator stays what it was bit for bit: held-out phantoms and the bundled model's heads come from it."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from ToothTopoSegLib.anatomy import fdi
from ToothTopoSegLib.phantom.arch import draw_dentition
from ToothTopoSegLib.phantom.head import Pose, render
from ToothTopoSegLib.phantom.tooth import draw_tooth, tooth_distance

EVERY_TYPE = tuple(t for t in fdi.PERMANENT + fdi.DECIDUOUS if not fdi.is_left(t))
PLAIN_TEETH = {"bfddbb72e80264f7", "f60e380b2c636032"}
"""Without and with AVX-512, with which NumPy's last bits in single precision are others."""
PLAIN_STANDING = {(0, False): "5e83c09a9b882cca", (7, True): "291b7ba7176c6165"}
PLAIN_HEADS = {(0, False): "0f74a482aee388bc", (7, True): "bb34a87de26875cf"}


def digest(*arrays: np.ndarray) -> str:
    """First 16 hexadecimal digits of the SHA-256 of arrays."""
    made = hashlib.sha256()
    for array in arrays:
        made.update(np.ascontiguousarray(array).tobytes())
    return made.hexdigest()[:16]


def test_plain_teeth_are_what_they_were():
    axis = np.arange(-12, 12, 1.5, dtype=np.float32)
    lattice = np.meshgrid(axis / 2, axis / 2, axis, indexing="ij")
    parts = [
        np.round(part, 3) if part.dtype != bool else part
        for number in EVERY_TYPE
        for part in tooth_distance(draw_tooth(number, np.random.default_rng(number)), *lattice)
    ]
    assert digest(*parts) in PLAIN_TEETH


@pytest.mark.parametrize(("seed", "hard"), PLAIN_STANDING)
def test_plain_teeth_stand_where_they_stood(seed, hard):
    teeth = draw_dentition(np.random.default_rng(seed), hard).teeth
    numbers = np.array([(t.fdi, t.bracket, len(t.material)) for t in teeth])
    assert digest(numbers, *(np.round(np.vstack([t.cervix, t.axes]), 6) for t in teeth)) == PLAIN_STANDING[seed, hard]


@pytest.mark.parametrize(("seed", "hard"), PLAIN_HEADS)
def test_plain_heads_show_what_they_showed(seed, hard):
    rng = np.random.default_rng(seed)
    tissue, labels = render(draw_dentition(rng, hard), (39, 45, 46), (2.0,) * 3, rng, Pose((0, 7, 0)))
    assert digest(tissue, labels) == PLAIN_HEADS[seed, hard]
