"""Measures of models on phantoms never trained on, with drawn teeth in place of phantoms and networks."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from ToothTopoSegLib.evaluation.held_out import KEYS, measure
from ToothTopoSegLib.imaging.volume import Volume


def drawn(*torn: int) -> Volume:
    """Teeth 11, 12, 13 and 36 as blocks of 6^3 voxels of 1 mm; those named are torn in two."""
    array = np.zeros((20, 20, 40), np.uint8)
    for place, fdi in enumerate((11, 12, 13, 36)):
        array[4:10, 4:10, 2 + 9 * place : 8 + 9 * place] = fdi
        if fdi in torn:
            array[6, 4:10, 2 + 9 * place : 8 + 9 * place] = 0
    return Volume(array, (1.0, 1.0, 1.0))


@pytest.fixture
def models(monkeypatch):
    """Models by name, of which each finds the label map it is."""
    phantom = SimpleNamespace(scan=drawn(), labels=drawn(), made={"view": "both jaws", "spacing_mm": [1.0] * 3})
    monkeypatch.setattr("ToothTopoSegLib.phantom.write.make_phantom", lambda seed, hard, setting: phantom)
    monkeypatch.setattr("ToothTopoSegLib.segmentation.pipeline.segment_volume", lambda scan, bundle, runner: runner)
    return lambda **found: measure(None, found, [5, 6])


def test_a_model_that_finds_the_truth_has_every_figure_of_it(models):
    measured = models(perfect=drawn())
    assert measured["mean"]["perfect"] == dict(zip(KEYS, (1.0, 1.0, 1.0, 1.0, 0.0), strict=True))
    assert [row["seed"] for row in measured["each"]] == [5, 6]


def test_torn_and_missed_teeth_have_wrong_betti_numbers(models):
    missed = drawn(12)
    missed.array[missed.array == 36] = 0
    mean = models(torn=drawn(12), missed=missed)["mean"]
    assert mean["torn"]["teeth_wrong"] == 0.25 and mean["missed"]["teeth_wrong"] == 0.5


def test_a_phantom_without_teeth_counts_none_as_wrong(models, monkeypatch):
    empty = drawn().with_array(np.zeros((20, 20, 40), np.uint8))
    phantom = SimpleNamespace(scan=empty, labels=empty, made={"view": "skull", "spacing_mm": [1.0] * 3})
    monkeypatch.setattr("ToothTopoSegLib.phantom.write.make_phantom", lambda seed, hard, setting: phantom)
    measured = models(none=empty)
    assert measured["each"][0]["none"]["teeth_wrong"] is None and measured["mean"]["none"]["teeth_wrong"] is None
