"""Plain heads and crania stay what they were bit for bit: the bundled model was trained on them."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from ToothTopoSegLib.phantom.arch import draw_dentition
from ToothTopoSegLib.phantom.cranium import render_cranium
from ToothTopoSegLib.phantom.head import Pose, render

HEADS = {
    (0, False, False): "6f663adcef51796f",
    (1, True, True): "9958830e4eaa4c96",
    (2, True, False): "b21fefa2166aa493",
}
CRANIA = {0: "2c1c6e30b7908a2b", 1: "8574c2417cee84a8", 2: "e934c023b5f774f5", 3: "8ee91a139c2eb4d2"}


def digest(*arrays: np.ndarray) -> str:
    """First 16 hexadecimal digits of the SHA-256 of arrays."""
    return hashlib.sha256(b"".join(np.ascontiguousarray(a).tobytes() for a in arrays)).hexdigest()[:16]


@pytest.mark.parametrize(("seed", "hard", "enveloped"), HEADS)
def test_plain_heads_with_and_without_envelope_are_what_they_were(seed, hard, enveloped):
    rng = np.random.default_rng(seed)
    made = render(draw_dentition(rng, hard), (40, 46, 48), (2.0,) * 3, rng, Pose((0, 7, 0)), 0.8, enveloped)
    assert digest(*made) == HEADS[seed, hard, enveloped]


@pytest.mark.parametrize("seed", CRANIA)
def test_plain_crania_are_what_they_were(seed):
    assert digest(*render_cranium((32, 36, 34), 2.5, np.random.default_rng(seed))) == CRANIA[seed]
