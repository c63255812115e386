"""Fine-tuning of a bundle with two networks: both learn, one after the other, and belong together in the end."""

from __future__ import annotations

import errno
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from Testing.Library.training.user_data import scan_and_labels, write_pair, write_two_networks
from ToothTopoSegLib import resources
from ToothTopoSegLib.errors import Cancelled, ModelError, OutputError, TrainingError
from ToothTopoSegLib.quantization.audit import audit_model
from ToothTopoSegLib.quantization.bundle import Bundle, load_bundle, surface_bundle
from ToothTopoSegLib.quantization.export import float_weights_path
from ToothTopoSegLib.segmentation.pipeline import segment_volume
from ToothTopoSegLib.segmentation.runner import Runner
from ToothTopoSegLib.training import finetune as engine
from ToothTopoSegLib.training import finetune_card, finetune_run, finetune_steps
from ToothTopoSegLib.training.finetune import Choices, finetune

CHOICES = Choices(rate=3e-3, steps=2, held_out=0.4)
NOTHING = {"dice": 0.5, "teeth_wrong": 0.5, "identification": 0.5, "errors": 0.0, "warnings": 0.0, "score": 0.5}


def measured(score: float) -> dict[str, float]:
    """What a validation says."""
    return {"validation Dice": score, "validation wrong teeth": 0.5, "validation score": score}


def better_each_time() -> Any:
    """A validation that finds every model better than the one before."""
    scores = iter(np.linspace(0.1, 0.9, 40).tolist())
    return lambda task, bundle: measured(next(scores))


def cheaply(patch: pytest.MonkeyPatch) -> None:
    """Two validations a network, which find every model better than the one before; no label is checked and no scan is
    measured."""
    patch.setattr(engine, "VALIDATIONS", 2)
    patch.setattr(engine, "check_cases", lambda cases, progress: [])
    patch.setattr(finetune_steps, "CALIBRATION", 2)
    patch.setattr(finetune_steps, "validate", better_each_time())
    patch.setattr(finetune_card, "measure", lambda *args: dict(NOTHING))


@pytest.fixture(autouse=True)
def cheap(monkeypatch):
    cheaply(monkeypatch)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return write_two_networks(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def cases(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("cases")
    for number, name in enumerate(("Anna", "Bert")):
        write_pair(folder, name, number)
    return folder


@pytest.fixture(scope="module")
def done(model, cases, tmp_path_factory) -> tuple[Path, dict[str, Any], list[dict[str, float]]]:
    """The bundle, the report and the points of a fine-tuning in one go, validated and measured in earnest."""
    points: list[dict[str, float]] = []
    out = tmp_path_factory.mktemp("done") / "mine.onnx"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "VALIDATIONS", 2)
        patch.setattr(engine, "POINT_EVERY", 1)
        patch.setattr(finetune_steps, "CALIBRATION", 2)
        patch.setattr(finetune_steps, "FLOAT_UNTIL", 0.3)
        report = finetune([cases], out, 5, "cpu", model, replace(CHOICES, steps=4), points.append)
    return out, report, points


@pytest.fixture(scope="module")
def whole(model, cases, tmp_path_factory) -> Path:
    """The bundle of a fine-tuning in one go in which everything is better each time."""
    out = tmp_path_factory.mktemp("whole") / "mine.onnx"
    with pytest.MonkeyPatch.context() as patch:
        cheaply(patch)
        finetune([cases], out, 5, "cpu", model, CHOICES)
    return out


def surface_of(out: Path) -> Bundle:
    found = surface_bundle(load_bundle(out))
    assert found is not None
    return found


def checkpoint(out: Path, name: str = finetune_run.SURFACE_CHECKPOINT) -> dict[str, Any]:
    return torch.load(finetune_run.run_folder(out) / name, weights_only=True)


def same(one: Path, other: Path) -> bool:
    """Whether two bundles hold the same networks."""
    both = [(load_bundle(out).model, surface_of(out).model) for out in (one, other)]
    return both[0] == both[1]


def cancelling(moment: str) -> Any:
    def cancel(fraction: float, message: str) -> None:
        if message == moment:
            raise Cancelled("Cancelled.")

    return cancel


# ---- what comes out


def test_both_networks_learn_and_are_told_apart(done):
    _, report, points = done
    assert report["steps"] == report["surface"]["steps"] == 4
    of_surfaces = [point for point in points if "surface loss" in point]
    assert of_surfaces and not any("loss" in point for point in of_surfaces)
    assert {"surface cross-entropy", "surface components"} <= set().union(*of_surfaces)
    assert [entry["step"] for entry in report["validations"]] == [0, 2, 4, 0, 2, 4]
    assert report["validations"][3]["validation score"] == max(e["validation score"] for e in report["validations"][:3])


def test_the_surface_network_that_is_better_lies_beside_the_bundle_as_a_bundle_of_its_own(whole, model):
    names = {"mine.onnx", "mine.json", "mine_float16.safetensors"}
    names |= {"mine_surface.onnx", "mine_surface.json", "mine_surface_float16.safetensors"}
    assert {path.name for path in whole.parent.iterdir() if path.is_file()} == names
    bundle, surface = load_bundle(whole.parent), surface_of(whole)
    assert bundle.card["surface"] == {"name": "mine_surface", "sha256": surface.card["sha256"]}
    assert surface.path == whole.with_name("mine_surface.onnx") and surface.model != surface_of(model).model
    assert audit_model(surface.path)["passed"] and surface.card["plan"] == surface_of(model).card["plan"]
    assert bundle.card["fine_tuning"]["surface"] == {"steps": 2, "best_step": 2, "taken over": True}
    assert surface.card["fine_tuning"]["steps"] == 2
    assert surface.card["fine_tuning"]["fine-tuned from"]["sha256"] == surface_of(model).card["sha256"]


def test_what_was_learnt_segments_wherever_its_files_are_copied(whole, tmp_path):
    for file in (*whole.parent.glob("mine*.onnx"), *whole.parent.glob("mine*.json")):
        shutil.copy(file, tmp_path)
    bundle = load_bundle(tmp_path / "mine.onnx")
    scan, _ = scan_and_labels(0)
    assert segment_volume(scan, bundle, Runner(bundle, threads=1)).array.shape == scan.array.shape


def test_a_bundle_that_is_fine_tuned_again_goes_on_from_its_own_surface_network(whole, cases, tmp_path):
    again = finetune([cases], tmp_path / "again.onnx", 5, "cpu", whole, replace(CHOICES, steps=1))
    start = surface_of(again["bundle"]).card["fine_tuning"]["fine-tuned from"]
    assert start["name"] == "mine_surface" and start["sha256"] == surface_of(whole).card["sha256"]


@pytest.mark.parametrize("own", [False, True])
def test_a_surface_network_that_is_not_better_is_not_taken_over(own, model, cases, tmp_path, monkeypatch):
    base = model
    if own:  # what lies among the program's models every bundle finds
        monkeypatch.setattr(resources, "resource_folder", lambda: tmp_path)
        base = shutil.copytree(model.parent, tmp_path / "Models") / model.name
    scores = iter([0.1, 0.2, 0.2, 0.3, 0.2, 0.3, 0.3, 0.25, 0.2])
    monkeypatch.setattr(finetune_steps, "validate", lambda task, bundle: measured(next(scores)))
    report = finetune([cases], tmp_path / "m.onnx", 5, "cpu", base, CHOICES)
    assert report["surface"] == {"steps": 2, "best_step": 0, "taken over": False}
    assert surface_of(tmp_path / "m.onnx").model == surface_of(base).model
    named = "drawn" if own else "m_surface"
    assert load_bundle(tmp_path / "m.onnx").card["surface"]["name"] == named
    assert (tmp_path / "m_surface.onnx").exists() is not own


def test_a_first_network_that_is_not_better_stays_as_it_was(model, cases, tmp_path, monkeypatch):
    scores = iter([0.5, 0.4, 0.4, 0.3, 0.3, 0.5, 0.5, 0.6, 0.5])
    monkeypatch.setattr(finetune_steps, "validate", lambda task, bundle: measured(next(scores)))
    report = finetune([cases], tmp_path / "m.onnx", 5, "cpu", model, CHOICES)
    bundle, start = load_bundle(tmp_path / "m.onnx"), load_bundle(model)
    assert (report["best_step"], report["surface"]["best_step"]) == (0, 2)
    assert bundle.model == start.model and surface_of(tmp_path / "m.onnx").model != surface_of(model).model
    assert bundle.card["fine_tuning"]["fine-tuned from"]["sha256"] == start.card["sha256"]


def test_surfaces_are_validated_together_with_the_best_first_network(model, cases, tmp_path, monkeypatch):
    seen: list[tuple[bytes, bytes]] = []
    scores = iter([0.1, 0.5, 0.4, 0.3, 0.3, 0.6, 0.5, 0.7, 0.6])

    def validate(task: Any, bundle: Bundle) -> dict[str, float]:
        assert bundle.second is not None
        seen.append((bundle.model, bundle.second.model))
        return measured(next(scores))

    monkeypatch.setattr(finetune_steps, "validate", validate)
    out = tmp_path / "m.onnx"
    report = finetune([cases], out, 5, "cpu", model, CHOICES)
    assert report["best_step"] == 1
    assert [surface == surface_of(model).model for _, surface in seen] == [True] * 5 + [False] * 4
    assert {first for first, _ in seen[5:]} == {seen[1][0]} == {load_bundle(out).model}
    assert seen[7][1] == surface_of(out).model


def test_nothing_that_is_written_names_a_case(done):
    out, _, _ = done
    for path in out.parent.rglob("*"):
        assert not any(name in path.name for name in ("Anna", "Bert"))
        assert path.is_dir() or not any(name in path.read_bytes() for name in (b"Anna", b"Bert"))


# ---- time, pause, stop


def test_the_time_is_shared_by_both_networks(model, cases, tmp_path, monkeypatch):
    now, said = [0.0], []
    monkeypatch.setattr(engine, "monotonic", lambda: now[0])

    def tick(fraction: float, message: str) -> None:
        now[0] += 5.0 * message.startswith("learning")
        said.append(fraction)

    report = finetune([cases], tmp_path / "m.onnx", 0.5, "cpu", model, replace(CHOICES, steps=None), progress=tick)
    assert (report["steps"], report["surface"]["steps"], report["stopped"]) == (3, 3, engine.TIME_IS_UP)
    assert said == sorted(said)


def test_each_network_stops_early_by_its_own_validations(model, cases, tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "VALIDATIONS", 100)
    monkeypatch.setattr(finetune_steps, "validate", lambda task, bundle: measured(0.5))
    report = finetune([cases], tmp_path / "m.onnx", 5, "cpu", model, replace(CHOICES, steps=50, patience=1))
    assert (report["steps"], report["surface"]["steps"], report["stopped"]) == (1, 1, engine.NO_BETTER)


def test_ending_early_ends_both_and_the_same_call_goes_on_with_the_first(whole, model, cases, tmp_path):
    out, asked = tmp_path / "mine.onnx", iter([True, False])
    report = finetune([cases], out, 5, "cpu", model, CHOICES, go_on=lambda: next(asked))
    assert report["stopped"] == engine.ENDED and report["steps"] == 1 and "surface" not in report
    assert surface_of(out).model == surface_of(model).model
    asked = iter([True, True, True, False])
    report = finetune([cases], out, 5, "cpu", model, CHOICES, go_on=lambda: next(asked))
    assert report["stopped"] == engine.ENDED and report["steps"] == 2 and report["surface"]["steps"] == 1


@pytest.mark.parametrize("moment", ["learning: step 1", "learning surfaces: step 1"])
def test_a_cancelled_training_goes_on_and_ends_as_if_it_had_never_stopped(moment, whole, model, cases, tmp_path):
    out = tmp_path / "mine.onnx"
    with pytest.raises(Cancelled):
        finetune([cases], out, 5, "cpu", model, CHOICES, progress=cancelling(moment))
    assert not out.exists()
    finetune([cases], out, 5, "cpu", model, CHOICES)
    assert same(out, whole)


def test_a_run_that_dies_between_the_networks_goes_on_with_the_second(whole, model, cases, tmp_path, monkeypatch):
    out, load = tmp_path / "mine.onnx", finetune_run.load

    def dying(state: Any, path: Path, device: str) -> bool:
        if path.name == finetune_run.SURFACE_CHECKPOINT:
            raise KeyboardInterrupt
        return load(state, path, device)

    monkeypatch.setattr(finetune_run, "load", dying)
    with pytest.raises(KeyboardInterrupt):
        finetune([cases], out, 5, "cpu", model, CHOICES)
    monkeypatch.setattr(finetune_run, "load", load)
    finetune([cases], out, 5, "cpu", model, CHOICES)
    assert same(out, whole)


# ---- bad input


def test_a_loss_of_surfaces_that_is_no_number_keeps_what_was_learnt(model, cases, tmp_path, monkeypatch):
    drawn, count = finetune_steps.draw_user_surface_sample, iter(range(100))

    def broken(*args: Any) -> Any:
        image, classes = drawn(*args)
        return (image * float("nan") if next(count) == 1 else image), classes

    monkeypatch.setattr(finetune_steps, "draw_user_surface_sample", broken)
    out = tmp_path / "m.onnx"
    with pytest.raises(TrainingError, match=r"no number at step 2.*learnt by step 1 is kept"):
        finetune([cases], out, 5, "cpu", model, CHOICES)
    assert checkpoint(out)["step"] == 1 and checkpoint(out, finetune_run.CHECKPOINT)["step"] == 2
    assert not out.exists() and load_bundle(finetune_run.run_folder(out) / finetune_run.BEST)


def test_a_disk_that_fills_up_while_surfaces_are_learnt_is_said_plainly(whole, model, cases, tmp_path, monkeypatch):
    out, save = tmp_path / "mine.onnx", torch.save

    def full(content: Any, file: Any) -> None:
        if "surface" in file.name and content["step"] == 1:
            file.write(b"half a checkpoint")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save(content, file)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OutputError, match=r"mine.run cannot be written \(No space left on device\).*last checkpoint"):
        finetune([cases], out, 5, "cpu", model, CHOICES)
    assert checkpoint(out)["step"] == 0
    monkeypatch.setattr(torch, "save", save)
    finetune([cases], out, 5, "cpu", model, CHOICES)
    assert same(out, whole)


def test_a_surface_network_without_float_weights_or_of_another_kind_is_refused(model, cases, tmp_path):
    folder = shutil.copytree(model.parent, tmp_path / "model")
    float_weights_path(folder / "drawn.onnx").unlink()
    with pytest.raises(ModelError, match=r"drawn\.onnx has no float weights"):
        finetune([cases], tmp_path / "out" / "m.onnx", 5, "cpu", folder / "tiny.onnx", CHOICES)
    card = json.loads((folder / "drawn.json").read_text())
    (folder / "drawn.json").write_text(json.dumps(card | {"plan": card["plan"] | {"classes": 35}}))
    with pytest.raises(ModelError, match=r"drawn\.onnx is no network of this program"):
        finetune([cases], tmp_path / "out" / "m.onnx", 5, "cpu", folder / "tiny.onnx", CHOICES)
