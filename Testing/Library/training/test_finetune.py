"""Fine-tuning from end to end with a tiny model: it learns, goes on after any interruption, and tells the truth."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from Testing.Library.training.user_data import other_side, teeth_alone, write_model, write_pair
from ToothTopoSegLib.errors import Cancelled, InputError, ModelError, OutputError, TrainingError, UsageError
from ToothTopoSegLib.quantization.audit import audit_model
from ToothTopoSegLib.quantization.bundle import load_bundle
from ToothTopoSegLib.training import finetune as engine
from ToothTopoSegLib.training import finetune_card, finetune_run, finetune_steps
from ToothTopoSegLib.training.finetune import Choices, finetune, split

ROOT = Path(__file__).resolve().parents[3]
CHOICES = Choices(rate=3e-3, steps=6, held_out=0.3)


@pytest.fixture(autouse=True)
def two_validations(monkeypatch):
    monkeypatch.setattr(engine, "VALIDATIONS", 2)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def cases(tmp_path_factory) -> Path:
    """Three cases, one of them without jaws."""
    folder = tmp_path_factory.mktemp("cases ü")
    for number, name in enumerate(("Anna", "Bert", "Cleo")):
        write_pair(folder, name, number, teeth_alone if number == 1 else np.copy)
    return folder


@pytest.fixture(scope="module")
def done(model, cases, tmp_path_factory) -> tuple[Path, dict[str, Any], list[dict[str, float]]]:
    """The bundle, the report and the points of a fine-tuning in one go."""
    points: list[dict[str, float]] = []
    out = tmp_path_factory.mktemp("done") / "mine.onnx"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "VALIDATIONS", 2)
        report = finetune([cases], out, 5, "cpu", model, CHOICES, points.append)
    return out, report, points


def checkpoint(out: Path) -> dict[str, Any]:
    return torch.load(finetune_run.run_folder(out) / "checkpoint.pt", weights_only=True)


def same_weights(one: Path, other: Path) -> bool:
    first, second = (checkpoint(out)["average"] for out in (one, other))
    return all(torch.equal(first[name], second[name]) for name in first if torch.is_tensor(first[name]))


# ---- what comes out


def test_the_result_is_an_audited_integer_bundle_that_can_be_fine_tuned_again(done, cases, tmp_path):
    out, report, _ = done
    assert report["bundle"] == out and audit_model(out)["passed"]
    assert load_bundle(out).card["fine_tuning"]["steps"] == report["best_step"]
    again = finetune([cases], tmp_path / "again.onnx", 5, "cpu", out, replace(CHOICES, steps=1))
    card = load_bundle(again["bundle"]).card
    assert card["fine_tuning"]["fine-tuned from"]["sha256"] == load_bundle(out).card["sha256"]


def test_the_report_says_what_was_learnt_from_and_what_came_of_it(done):
    _, report, _ = done
    assert sorted([*report["trained_on"], *report["held_out"]]) == ["Anna", "Bert", "Cleo"]
    assert len(report["held_out"]) == 1 and report["steps"] == 6 and report["stopped"] == engine.TIME_IS_UP
    assert set(finetune_card.MEASURES) <= set(report["before"]) & set(report["after"])
    assert [case["usable"] for case in report["labels"]] == [True] * 3
    assert report["better"] == finetune_card.is_better(report["before"], report["after"])


def test_every_term_of_the_loss_and_every_validation_is_a_point(done):
    _, _, points = done
    terms, validations = ([p for p in points if name in p] for name in ("loss", "validation score"))
    assert {"loss", "cross-entropy", "Dice", "quantization"} <= set(terms[0])
    assert {"components", "adjacency", "holes"} <= set().union(*terms)
    assert len(validations) == 3  # the model to start from, half way, the end
    assert set(validations[0]) == {"validation Dice", "validation wrong teeth", "validation score"}


def test_the_best_state_lies_in_the_run_folder_as_a_whole_bundle(done):
    out, report, _ = done
    best = load_bundle(finetune_run.run_folder(out) / "best.onnx")
    assert best.model == load_bundle(out).model
    scores = [entry["validation score"] for entry in report["validations"]]
    assert checkpoint(out)["best"]["measures"]["validation score"] == max(scores)


def test_it_learns(model, cases, tmp_path):
    points: list[dict[str, float]] = []
    finetune([cases], tmp_path / "m.onnx", 5, "cpu", model, replace(CHOICES, steps=60, topology=0.0), points.append)
    losses = [p["cross-entropy"] for p in points if "cross-entropy" in p]
    assert np.mean(losses[-4:]) < 0.8 * losses[0]


def test_the_same_call_gives_the_same_model(done, model, cases, tmp_path):
    finetune([cases], tmp_path / "mine.onnx", 5, "cpu", model, CHOICES)
    assert load_bundle(tmp_path / "mine.onnx").model == load_bundle(done[0]).model


@pytest.mark.parametrize(
    ("dice", "wrong", "better"), [(0.8, 0.1, True), (0.8, 0.3, False), (0.6, 0.1, False), (0.7, 0.2, False)]
)
def test_better_means_more_dice_and_not_more_topological_errors(dice, wrong, better):
    before, after = {"dice": 0.7, "teeth_wrong": 0.2}, {"dice": dice, "teeth_wrong": wrong}
    assert finetune_card.is_better(before, after) is better
    assert finetune_card.verdict(before, after).startswith("Better" if better else "Not better")


def test_a_model_that_is_not_better_is_written_and_its_card_says_so(model, cases, tmp_path, monkeypatch):
    monkeypatch.setattr(finetune_card, "is_better", lambda before, after: False)
    report = finetune([cases], tmp_path / "m.onnx", 5, "cpu", model, replace(CHOICES, steps=1))
    card = load_bundle(report["bundle"]).card["fine_tuning"]
    assert card["better"] is False and report["better"] is False and card["verdict"].startswith("Not better")


def test_the_split_is_by_case_and_the_same_each_time():
    for count in range(2, 30):
        trained, held_out = split(count, Choices(seed=3))
        assert (trained, held_out) == split(count, Choices(seed=3))
        assert sorted((*trained, *held_out)) == list(range(count)) and trained and held_out
    assert len(split(30, Choices(held_out=0.2))[1]) == 6


# ---- start, pause, stop


def test_ending_early_keeps_the_best_model(model, cases, tmp_path):
    asked = iter([True, True, False])
    report = finetune([cases], tmp_path / "m.onnx", 5, "cpu", model, CHOICES, go_on=lambda: next(asked))
    assert report["steps"] == 2 and report["stopped"] == engine.ENDED and load_bundle(report["bundle"])


def test_a_training_that_ends_before_its_first_step_still_gives_a_bundle(model, cases, tmp_path):
    report = finetune([cases], tmp_path / "m.onnx", 1e-6, "cpu", model, replace(CHOICES, steps=None))
    assert report["steps"] == 0 and report["stopped"] == engine.TIME_IS_UP and load_bundle(report["bundle"])


def test_a_pause_does_not_count_as_time(model, cases, tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(engine, "monotonic", lambda: now[0])

    def pause() -> bool:
        now[0] += 1000.0
        return True

    report = finetune([cases], tmp_path / "m.onnx", 1, "cpu", model, replace(CHOICES, steps=2), go_on=pause)
    assert report["minutes"] == 0.0


def test_the_training_ends_when_its_time_is_up(model, cases, tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(engine, "monotonic", lambda: now[0])

    def tick(fraction: float, message: str) -> None:
        now[0] += 5.0 * message.startswith("learning")

    report = finetune([cases], tmp_path / "m.onnx", 0.5, "cpu", model, replace(CHOICES, steps=None), progress=tick)
    assert report["steps"] == 6 and report["stopped"] == engine.TIME_IS_UP


def test_validations_that_bring_nothing_better_end_the_training(model, cases, tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "VALIDATIONS", 100)
    same = {"validation Dice": 0.5, "validation wrong teeth": 0.5, "validation score": 0.5}
    monkeypatch.setattr(finetune_steps, "validate", lambda task, bundle: dict(same))
    choices = replace(CHOICES, steps=50, patience=2)
    report = finetune([cases], tmp_path / "m.onnx", 5, "cpu", model, choices)
    assert report["stopped"] == engine.NO_BETTER and report["steps"] == 2 and report["best_step"] == 0


def test_the_weights_half_way_to_what_was_learnt_are_taken_where_they_are_better(model, cases, tmp_path, monkeypatch):
    scores, seen = iter([0.1, 0.2, 0.3, 0.1, 0.2]), []

    def validate(task, bundle):
        seen.append(bundle)
        value = next(scores)
        return {"validation Dice": value, "validation wrong teeth": 0.0, "validation score": value}

    monkeypatch.setattr(finetune_steps, "validate", validate)
    report = finetune([cases], tmp_path / "m.onnx", 5, "cpu", model, CHOICES)
    made = load_bundle(tmp_path / "m.onnx")
    assert made.model == seen[2].model != seen[1].model
    assert made.card["fine_tuning"]["weights"] == "half way from those before to those learnt"
    assert [entry["validation score"] for entry in report["validations"]] == [0.1, 0.3, 0.2]


def test_half_way_lies_in_the_middle_of_all_weights(model):
    start = torch.nn.ParameterList([torch.zeros(3), torch.ones(2)])
    learnt = torch.nn.ParameterList([torch.full((3,), 4.0), torch.ones(2)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finetune_steps, "in_integers", lambda task, network: None)
        middle = finetune_steps.halfway(None, start, learnt)
    assert [weights.tolist() for weights in middle] == [[2.0] * 3, [1.0] * 2]
    assert learnt[0].tolist() == [4.0] * 3


def test_a_cancelled_training_goes_on_and_ends_as_if_it_had_never_stopped(done, model, cases, tmp_path):
    out = tmp_path / "mine.onnx"

    def cancel(fraction: float, message: str) -> None:
        if message == "learning: step 4":
            raise Cancelled("Cancelled.")

    with pytest.raises(Cancelled):
        finetune([cases], out, 5, "cpu", model, CHOICES, progress=cancel)
    assert not out.exists() and checkpoint(out)["step"] == 4
    finetune([cases], out, 5, "cpu", model, CHOICES)
    assert load_bundle(out).model == load_bundle(done[0]).model and same_weights(out, done[0])


KILLED = """
import sys
from pathlib import Path
import torch
from ToothTopoSegLib.training import finetune as engine

torch.set_num_threads(1)
engine.VALIDATIONS, engine.SAVE_SECONDS = 2, 0.0
cases, out, model = map(Path, sys.argv[1:])
choices = engine.Choices(rate=3e-3, steps=6, held_out=0.3)
engine.finetune([cases], out, 5, "cpu", model, choices, progress=lambda part, text: print(text, flush=True))
"""


@pytest.mark.parametrize(
    "moment",
    [
        "checking the labels",
        "reading case 2 of 3",
        "learning: step 1",
        "learning: step 3",
        "looking at the held-out cases",
    ],
)
def test_a_run_that_is_killed_goes_on_and_ends_with_the_same_model(moment, done, model, cases, tmp_path):
    out = tmp_path / "mine.onnx"
    command = [sys.executable, "-c", KILLED, str(cases), str(out), str(model)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as process:
        assert process.stdout is not None
        assert any(line.strip() == moment for line in process.stdout)
        process.kill()
    assert process.returncode == -signal.SIGKILL and not out.exists()
    finetune([cases], out, 5, "cpu", model, CHOICES)
    assert load_bundle(out).model == load_bundle(done[0]).model


# ---- bad input


def run(cases: Path, out: Path, model: Path, **choices: Any) -> dict[str, Any]:
    return finetune([cases], out, 5, "cpu", model, replace(CHOICES, **choices))


def test_one_case_alone_is_refused(model, tmp_path):
    write_pair(tmp_path / "c", "a")
    with pytest.raises(InputError, match="Only one case"):
        run(tmp_path / "c", tmp_path / "m.onnx", model)
    assert not (tmp_path / "m.run").exists()


@pytest.mark.parametrize(("change", "says"), [(np.zeros_like, "holds no labels"), (other_side, "left and right")])
def test_a_case_that_cannot_be_learnt_from_is_refused_by_name_and_nothing_is_left(change, says, model, tmp_path):
    write_pair(tmp_path / "c", "good")
    write_pair(tmp_path / "c", "sad", change=change)
    with pytest.raises(InputError, match=f"The case sad cannot be learnt from: .*{says}"):
        run(tmp_path / "c", tmp_path / "m.onnx", model)
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"out": Path("bundle")}, "must end in .onnx"),
        ({"device": "tpu"}, "no device 'tpu'"),
        ({"minutes": 0}, "a time above 0"),
        ({"minutes": float("nan")}, "a time above 0"),
        ({"choices": Choices(rate=0)}, "learning rate"),
        ({"choices": Choices(topology=-1)}, "topological terms"),
        ({"choices": Choices(held_out=1)}, "held-out share"),
        ({"choices": Choices(patience=0)}, "at least 1"),
    ],
    ids=str,
)
def test_arguments_that_make_no_sense_are_wrong_usage(arguments, says, model, cases, tmp_path):
    given = {"out": Path("m.onnx"), "minutes": 5, "device": "cpu", "model": model, **arguments}
    given["out"] = tmp_path / given["out"]
    with pytest.raises(UsageError, match=says):
        finetune([cases], **given)
    assert list(tmp_path.iterdir()) == []


def test_the_run_of_other_cases_or_choices_is_left_alone(model, cases, tmp_path):
    run(cases, tmp_path / "m.onnx", model, steps=1)
    before = checkpoint(tmp_path / "m.onnx")["step"]
    for other in ({"steps": 2}, {"steps": 1, "seed": 5}):
        with pytest.raises(UsageError, match="holds a fine-tuning of other cases"):
            run(cases, tmp_path / "m.onnx", model, **other)
    write_pair(tmp_path / "c", "a")
    write_pair(tmp_path / "c", "b")
    with pytest.raises(UsageError, match="holds a fine-tuning of other cases"):
        run(tmp_path / "c", tmp_path / "m.onnx", model, steps=1)
    assert checkpoint(tmp_path / "m.onnx")["step"] == before


def test_a_model_without_float_weights_or_of_another_kind_is_refused(model, cases, tmp_path):
    folder = shutil.copytree(model.parent, tmp_path / "m")
    next(folder.glob("*.safetensors")).unlink()
    with pytest.raises(ModelError, match="no float weights"):
        run(cases, tmp_path / "out.onnx", folder / model.name)
    card = json.loads((folder / "tiny.json").read_text())
    (folder / "tiny.json").write_text(json.dumps(card | {"plan": {"patch": [8, 8, 8], "spacing": 1.0, "strange": 1}}))
    with pytest.raises(ModelError, match="cannot be fine-tuned"):
        run(cases, tmp_path / "out.onnx", folder / model.name)


def test_a_loss_that_is_no_number_stops_the_training_and_keeps_what_was_learnt(model, cases, tmp_path, monkeypatch):
    drawn, out = finetune_steps.draw_user_sample, tmp_path / "m.onnx"
    count = iter(range(100))

    def broken(*args: Any) -> Any:
        image, classes = drawn(*args)
        return (image * float("nan") if next(count) == 3 else image), classes

    monkeypatch.setattr(finetune_steps, "draw_user_sample", broken)
    with pytest.raises(TrainingError, match=r"no number at step 4.*learnt by step 3 is kept"):
        run(cases, out, model)
    kept = checkpoint(out)
    assert kept["step"] == 3 and not out.exists()
    assert all(bool(torch.isfinite(v).all()) for v in kept["network"].values() if torch.is_tensor(v))


def test_a_disk_that_fills_up_is_said_plainly_and_the_last_checkpoint_survives(model, cases, tmp_path, monkeypatch):
    out, save, count = tmp_path / "m.onnx", torch.save, iter(range(100))

    def full(content: Any, file: Any) -> None:
        if next(count) == 2:
            file.write(b"half a checkpoint")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save(content, file)

    monkeypatch.setattr(torch, "save", full)
    monkeypatch.setattr(engine, "SAVE_SECONDS", 0.0)
    with pytest.raises(OutputError, match=r"m.run cannot be written \(No space left on device\).*last checkpoint"):
        run(cases, out, model)
    assert checkpoint(out)["step"] == 2
    assert not [path for path in finetune_run.run_folder(out).rglob("*") if path.name.endswith(".part")]
    run(cases, out, model)
    assert load_bundle(out)


def test_a_place_that_cannot_be_written_is_said_plainly(model, cases, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        run(cases, tmp_path / "file" / "m.onnx", model)


def test_a_damaged_checkpoint_is_said_plainly(model, cases, tmp_path):
    run(cases, tmp_path / "m.onnx", model, steps=1)
    (tmp_path / "m.run" / "checkpoint.pt").write_bytes(b"nothing of the kind")
    with pytest.raises(UsageError, match=r"checkpoint in m\.run is damaged"):
        run(cases, tmp_path / "m.onnx", model, steps=1)


def test_a_half_written_best_bundle_is_written_anew(model, cases, tmp_path):
    run(cases, tmp_path / "m.onnx", model, steps=1)
    best = tmp_path / "m.run" / "best.onnx"
    best.write_bytes(b"half")
    run(cases, tmp_path / "m.onnx", model, steps=1)
    assert load_bundle(best).model == load_bundle(tmp_path / "m.onnx").model


# ---- the loss itself


def test_the_rate_rises_and_falls_to_a_hundredth():
    rates = [finetune_steps.learning_rate(1.0, part) for part in np.linspace(0, 1, 201)]
    assert rates[0] == pytest.approx(0.1) and max(rates) == pytest.approx(1.0, abs=1e-3)
    assert rates[-1] == pytest.approx(0.01) and np.argmax(rates) in (6, 7)
