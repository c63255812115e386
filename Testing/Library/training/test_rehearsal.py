"""Heads learnt from before among the samples of a user's cases."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from Testing.Library.training.user_data import write_model, write_pair
from ToothTopoSegLib.segmentation.classes import CLASSES
from ToothTopoSegLib.training import finetune_steps, rehearsal
from ToothTopoSegLib.training.cases import FIRST_CRANIUM, FIRST_PLAIN
from ToothTopoSegLib.training.finetune import Choices, finetune

PATCH = (16, 24, 24)


@pytest.fixture(scope="module")
def heads(tmp_path_factory) -> Path:
    """A natural head, a plain one and a part of one without teeth."""
    folder = tmp_path_factory.mktemp("heads ü")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rehearsal, "HEADS", (0, FIRST_PLAIN, FIRST_CRANIUM))
        rehearsal.render_heads(folder)
    return folder


@pytest.fixture(autouse=True)
def few_heads(monkeypatch):
    monkeypatch.setattr(rehearsal, "HEADS", (0, FIRST_PLAIN, FIRST_CRANIUM))


@pytest.mark.parametrize("of_surfaces", [False, True])
def test_a_sample_is_as_the_network_learnt_from_and_the_same_for_the_same_seed(heads, of_surfaces):
    image, classes = rehearsal.draw_head_sample(heads, np.random.default_rng(3), PATCH, 1.0, of_surfaces)
    again = rehearsal.draw_head_sample(heads, np.random.default_rng(3), PATCH, 1.0, of_surfaces)
    assert image.shape == classes.shape == PATCH and image.dtype == torch.float32 and classes.dtype == torch.uint8
    assert bool(torch.isfinite(image).all()) and int(classes.max()) < CLASSES
    assert all(torch.equal(a, b) for a, b in zip((image, classes), again, strict=True))


def test_teeth_are_seen_and_so_are_places_without_any(heads):
    rng = np.random.default_rng(1)
    seen = [rehearsal.draw_head_sample(heads, rng, PATCH, 1.0, True)[1] for _ in range(12)]
    teeth = [bool(((classes >= 1) & (classes <= 32)).any()) for classes in seen]
    assert any(teeth) and not all(teeth)


def test_heads_that_are_there_are_not_rendered_again(heads):
    before = {path: path.stat().st_mtime_ns for path in heads.iterdir()}
    rehearsal.render_heads(heads)
    assert {path: path.stat().st_mtime_ns for path in heads.iterdir()} == before and len(before) == 3


def test_fine_tuning_rehearses_the_share_that_is_asked(tmp_path, heads, monkeypatch):
    drawn: list[bool] = []

    def noted(*args):
        drawn.append(args[-1])
        return draw(*args)

    draw = rehearsal.draw_head_sample
    monkeypatch.setattr(finetune_steps, "draw_head_sample", noted)
    for number, name in enumerate(("a", "b")):
        write_pair(tmp_path / "cases", name, number, np.copy)
    (tmp_path / "m.run").mkdir()
    (tmp_path / "m.run" / "heads").symlink_to(heads, target_is_directory=True)
    choices = Choices(rate=1e-3, steps=6, held_out=0.5, patience=9, rehearsal=0.7)
    model = write_model(tmp_path / "model")
    report = finetune([tmp_path / "cases"], tmp_path / "m.onnx", 5, "cpu", model, choices)
    assert report["steps"] == 6 and 2 <= len(drawn) <= 7 and not any(drawn)


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_a_share_that_leaves_nothing_of_the_users_own_is_refused(share):
    assert "rehearsed share" in str(Choices(rehearsal=share).complaint())
