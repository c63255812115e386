"""One command from nothing to a model: the tiny recipe end to end, and what it refuses."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ToothTopoSegLib.errors import Cancelled, ModelError, UsageError
from ToothTopoSegLib.quantization.export import export_run
from ToothTopoSegLib.segmentation.classes import CLASSES
from ToothTopoSegLib.training import recipe
from ToothTopoSegLib.training.cases import case_path
from ToothTopoSegLib.training.loop import Schedule
from ToothTopoSegLib.training.recipe import HELD_OUT, RECIPES, train

TINY = RECIPES["tiny"]
RUN = {"schedule.json", "checkpoint.pt", "weights.safetensors", "log.csv", "tensorboard"}


@pytest.fixture(autouse=True)
def threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Heads are rendered in threads here: what a test replaces reaches them on every system."""
    monkeypatch.setattr(recipe, "one_thread_each", ThreadPoolExecutor)


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    """Nothing is learnt; the list holds what would have been asked of the loop."""
    asked: list[tuple[object, ...]] = []

    def noted(*args: object) -> dict[str, object]:
        asked.append(args)
        return {}

    monkeypatch.setattr(recipe, "run_training", noted)
    monkeypatch.setattr(recipe, "read_weights", lambda path: {"weight": 1.0})
    return asked


def test_the_tiny_recipe_runs_from_nothing_and_writes_a_model(cheap_cases, tmp_path):
    fractions: list[float] = []
    result = train(tmp_path / "run", "tiny", "cpu", progress=lambda fraction, message: fractions.append(fraction))
    assert result["steps"] == RECIPES["tiny"].integers.steps
    names = {p.name for p in (tmp_path / "run").iterdir()}
    assert names == {*RUN, "cases", "integers"}
    assert {p.name for p in (tmp_path / "run" / "integers").iterdir()} == RUN
    assert sorted(cheap_cases) == [0, 1, 900, 1000]
    assert fractions == sorted(fractions)
    assert fractions[-1] == pytest.approx(1.0)


def test_a_second_start_renders_nothing_and_goes_on(cheap_cases, untrained, tmp_path):
    train(tmp_path, "tiny", "cpu")
    made = list(cheap_cases)
    train(tmp_path, "tiny", "cpu")
    assert cheap_cases == made
    assert len(untrained) == 4
    assert untrained[0][:3] == untrained[2][:3] == (RECIPES["tiny"].schedule, tmp_path, tmp_path / "cases")
    assert untrained[1][:3] == (RECIPES["tiny"].integers, tmp_path / "integers", tmp_path / "cases")
    assert [asked[-1] for asked in untrained[:2]] == [None, {"weight": 1.0}]


def test_a_run_can_begin_with_the_weights_of_a_bundle(cheap_cases, untrained, tmp_path):
    (tmp_path / "other_float16.safetensors").touch()
    train(tmp_path / "run", "tiny", "cpu", begin_with=tmp_path / "other.onnx")
    assert [asked[-1] for asked in untrained] == [{"weight": 1.0}] * 2


def test_a_bundle_without_float_weights_to_begin_with_is_refused_before_anything_is_made(cheap_cases, tmp_path):
    with pytest.raises(ModelError, match=r"other\.onnx has no float weights"):
        train(tmp_path / "run", "tiny", "cpu", begin_with=tmp_path / "other.onnx")
    assert not (tmp_path / "run").exists()


def test_a_recipe_that_goes_on_is_refused_without_weights_before_anything_is_made(cheap_cases, tmp_path):
    with pytest.raises(UsageError, match=r"natural-whole goes on from a trained model.*--begin-with"):
        train(tmp_path / "run", "natural-whole", "cpu")
    assert not (tmp_path / "run").exists() and not cheap_cases


def test_a_recipe_that_goes_on_needs_no_weights_where_its_run_has_begun(cheap_cases, untrained, tmp_path):
    (tmp_path / "other_float16.safetensors").touch()
    train(tmp_path / "run", "surface-whole", "cpu", begin_with=tmp_path / "other.onnx")
    train(tmp_path / "run", "surface-whole", "cpu")
    assert len(untrained) == 4 and untrained[2][-1] is None


def test_the_schedule_is_noted_in_the_folder(cheap_cases, untrained, tmp_path):
    train(tmp_path, "tiny", "cpu")
    note = json.loads((tmp_path / "schedule.json").read_text(encoding="utf-8"))
    assert note == json.loads(json.dumps({"recipe": "tiny", **asdict(RECIPES["tiny"].schedule)}))


def test_an_unknown_recipe_is_refused_with_the_known_ones_named(tmp_path):
    known = "bundled, natural, natural-whole, surface, surface-whole, natural-settled, natural-hard, "
    known += "natural-mixed, natural-more, surface-settled, surface-hard, surface-mixed, surface-fine, gpu, tiny"
    with pytest.raises(UsageError, match=rf"'huge'.*{known}"):
        train(tmp_path / "run", "huge", "cpu")
    assert not (tmp_path / "run").exists()


def test_a_folder_that_holds_another_recipes_run_is_refused_and_left_as_it_is(cheap_cases, untrained, tmp_path):
    train(tmp_path, "tiny", "cpu")
    before = (tmp_path / "schedule.json").read_bytes()
    with pytest.raises(UsageError, match="another recipe"):
        train(tmp_path, "bundled", "cpu")
    assert (tmp_path / "schedule.json").read_bytes() == before
    assert len(untrained) == 2


def test_a_missing_gpu_is_noticed_before_anything_is_made(cheap_cases, monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="--device cpu"):
        train(tmp_path / "run", "tiny", "cuda")
    assert not (tmp_path / "run").exists()
    assert not cheap_cases


@pytest.mark.parametrize(("there", "device"), ((True, "cuda"), (False, "cpu")))
def test_auto_takes_the_gpu_where_there_is_one(cheap_cases, untrained, monkeypatch, tmp_path, there, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    train(tmp_path, "tiny", "auto")
    assert untrained[0][3] == device


def test_cancelling_while_heads_are_rendered_does_not_render_the_rest(cheap_cases, untrained, monkeypatch, tmp_path):
    monkeypatch.setattr(recipe.os, "cpu_count", lambda: 1)

    def cancel(fraction: float, message: str) -> None:
        raise Cancelled("Cancelled.")

    with pytest.raises(Cancelled):
        recipe._fill(tmp_path, list(range(50)), cancel)
    assert len(cheap_cases) < 50
    assert all(p.name.startswith("case_") for p in tmp_path.iterdir())


def test_the_bundled_recipe_is_the_default_schedule_and_never_trains_on_what_it_is_judged_by():
    bundled = RECIPES["bundled"].schedule
    assert bundled == Schedule() and RECIPES["bundled"].integers is None
    assert bundled.plan.classes == CLASSES
    assert bundled.warmup < bundled.coarse_until < bundled.frozen_from < bundled.steps
    assert HELD_OUT.start >= bundled.cases


@pytest.mark.parametrize("name", ["natural", "natural-whole", "natural-settled", "natural-hard", "gpu", "tiny"])
def test_what_goes_on_in_integers_has_the_same_network_and_heads_and_the_topological_loss(name):
    recipe_ = RECIPES[name]
    assert recipe_.integers.plan == recipe_.schedule.plan
    assert recipe_.integers.case_numbers == recipe_.schedule.case_numbers
    assert recipe_.integers.quantization is not None and recipe_.integers.objective.topology is not None
    assert recipe_.integers.view(0) == (recipe_.schedule.plan.patch, recipe_.schedule.plan.spacing)


def test_a_run_that_went_on_in_integers_is_exported_as_it_was_trained(cheap_cases, tmp_path):
    run = tmp_path / "run"
    train(run, "tiny", "cpu")
    card = export_run(run, tmp_path / "tiny.onnx")
    assert card["training"]["in integers"]["steps"] == RECIPES["tiny"].integers.steps
    assert card["training"]["steps"] == RECIPES["tiny"].schedule.steps
    seeds = [part["seed"] for part in (card["training"], card["training"]["in integers"])]
    assert seeds == [RECIPES["tiny"].schedule.seed, RECIPES["tiny"].integers.seed]
    assert (tmp_path / "tiny.onnx").is_file()


def test_cases_lie_in_the_run_folder_under_their_numbers(cheap_cases, untrained, tmp_path):
    train(tmp_path, "tiny", "cpu")
    expected: list[Path] = [case_path(tmp_path / "cases", n) for n in (0, 1, 900, 1000)]
    assert sorted((tmp_path / "cases").iterdir()) == expected


def test_a_recipe_of_fine_cases_renders_and_is_trained_on_those(cheap_cases, untrained, monkeypatch, tmp_path):
    monkeypatch.setitem(RECIPES, "tiny", replace(TINY, schedule=replace(TINY.schedule, fine_cases=True)))
    train(tmp_path, "tiny", "cpu")
    there = [case_path(tmp_path / "cases", n, fine=True) for n in (0, 1, 900, 1000)]
    assert sorted((tmp_path / "cases").iterdir()) == there
    assert untrained[0][0].load(tmp_path / "cases", 1).shape == np.load(there[1]).shape
