"""What teeth look like, learnt from heads: the whole way with few of them, and its parts with figures that are told."""

from __future__ import annotations

import json

import numpy as np
import pytest

from ToothTopoSegLib.segmentation.shapes import FEATURES, FILE, POSITIONS, Forms, forms
from ToothTopoSegLib.training.tooth_shapes import run, shares, with_errors, write


@pytest.fixture(scope="module")
def result() -> dict:
    return run(heads=6, scanned=1, workers=2)


def test_what_is_learnt_can_be_read_and_tells_most_kinds_apart(result, tmp_path) -> None:
    folder = tmp_path / "shapes ü"
    write(result, folder)
    read = forms(folder / FILE)
    assert read.means.shape == (2, POSITIONS, FEATURES) and read.covariance.shape == (FEATURES, FEATURES)
    assert np.isfinite(read.means).all() and np.linalg.eigvalsh(read.covariance).min() > 0
    assert result["kinds_right"] > 0.6 and result["types_right"] <= result["kinds_right"]
    page = (folder / "tooth_shapes.md").read_text(encoding="utf-8")
    assert f"Learnt from {result['teeth']} teeth of 6 natural heads" in page and page.count("| 8 |") >= 2
    assert json.loads((folder / FILE).read_text(encoding="utf-8")).keys() == {"means", "covariance"}


def test_what_segmentation_adds_moves_the_means_and_widens_the_covariance() -> None:
    before = Forms(np.zeros((2, POSITIONS, 2)), np.eye(2) * 0.01)
    rng = np.random.default_rng(0)
    true = rng.normal(0, 1, (400, 2))
    found = true + np.array([0.2, 0.0]) + rng.normal(0, [0.1, 0.3], (400, 2))
    found[:50, 1] = np.nan
    both = [(11, t.tolist(), f.tolist()) for t, f in zip(true, found, strict=True)]
    after = with_errors(before, both)
    assert after.means == pytest.approx(np.broadcast_to([0.2, 0.0], (2, POSITIONS, 2)), abs=0.04)
    assert np.diag(after.covariance) == pytest.approx([0.02, 0.1], rel=0.2)


def test_shares_tell_types_and_kinds() -> None:
    places = np.arange(POSITIONS, dtype=float)
    known = Forms(np.stack([places, places])[..., None], np.eye(1) * 0.01)
    assert shares(known, [(11, [0.1]), (36, [5.0])]) == {"types_right": 1.0, "kinds_right": 1.0}
    assert shares(known, [(12, [0.1]), (33, [0.0])]) == {"types_right": 0.0, "kinds_right": 0.5}
