"""The training loop: it learns, it goes on where it stopped, and what it writes can be read without its code."""

from __future__ import annotations

import copy
import csv
import math
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from ToothTopoSegLib.errors import Cancelled, UsageError
from ToothTopoSegLib.quantization.config import QuantConfig
from ToothTopoSegLib.quantization.fake_quant import QatNetwork
from ToothTopoSegLib.training import log, loop
from ToothTopoSegLib.training.cases import FIRST_CRANIUM
from ToothTopoSegLib.training.loop import (
    Schedule,
    _Samples,
    learning_rate,
    load_state,
    run_training,
    save_state,
    unaliased,
    validate,
)
from ToothTopoSegLib.training.losses import objective
from ToothTopoSegLib.training.losses.objective import Objective
from ToothTopoSegLib.training.losses.topology import TopologyConfig
from ToothTopoSegLib.training.network import Plan
from ToothTopoSegLib.training.recipe import RECIPES

TINY = RECIPES["tiny"].schedule
HELD_OUT = range(900, 901)


def cancel(fraction: float, message: str) -> None:
    raise Cancelled("Cancelled.")


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "log.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def checkpoint(folder: Path) -> dict[str, Any]:
    return torch.load(folder / "checkpoint.pt", weights_only=True)


@pytest.fixture(scope="module")
def finished(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The folder and the result of the tiny schedule run in one go."""
    folder = tmp_path_factory.mktemp("finished")
    return folder, run_training(TINY, folder, cache, workers=0, held_out=HELD_OUT)


def test_the_rate_rises_evenly_to_its_peak_and_falls_to_a_hundredth():
    schedule = Schedule(steps=1000, warmup=100, rate=0.01)
    assert learning_rate(schedule, 0) == pytest.approx(0.01 / 100)
    assert learning_rate(schedule, 49) == pytest.approx(0.01 / 2)
    assert learning_rate(schedule, 99) == learning_rate(schedule, 100) == pytest.approx(0.01)
    assert learning_rate(schedule, 550) == pytest.approx(0.01 * 0.505)
    assert learning_rate(schedule, 1000) == pytest.approx(0.01 / 100)
    falling = [learning_rate(schedule, step) for step in range(100, 1001)]
    assert (np.diff(falling) <= 0).all()


def test_each_cycle_of_a_longer_training_has_the_rates_of_the_first():
    short = Schedule(steps=1000, warmup=100, rate=0.01)
    longer = replace(short, steps=2001, cycles=2)
    for step in (0, 49, 99, 550, 999):
        assert learning_rate(longer, step) == learning_rate(longer, step + 1000) == learning_rate(short, step)
    assert learning_rate(longer, 2000) == pytest.approx(0.01 / 100)


def test_samples_are_drawn_in_the_schedules_own_setting(cache):
    drawn = {name: _Samples(replace(TINY, setting=name), cache, 0)[0][0] for name in ("plain", "natural", "foreign")}
    assert [Schedule().natural, replace(TINY, setting="natural").natural] == [False, True]
    assert all(bool(torch.isfinite(image).all()) for image in drawn.values())
    assert not torch.equal(drawn["plain"], drawn["natural"]) and not torch.equal(drawn["natural"], drawn["foreign"])


def test_patches_are_coarse_first_and_numbers_count_later():
    schedule = Schedule(coarse_until=10, coarse_patch=(8, 8, 8), coarse_spacing=2.0, numbering=0.3, numbering_from=5)
    assert schedule.view(9) == ((8, 8, 8), 2.0)
    assert schedule.view(10) == (schedule.plan.patch, schedule.plan.spacing)
    assert [schedule.numbering_weight(step) for step in (4, 5)] == [0.0, 0.3]


def test_a_run_leaves_checkpoint_weights_and_log_and_nothing_else(finished):
    folder, result = finished
    assert {p.name for p in folder.iterdir()} == {"checkpoint.pt", "weights.safetensors", "log.csv", "tensorboard"}
    assert result["steps"] == TINY.steps
    assert result["schedule"]["seed"] == TINY.seed
    assert 0 <= result["dice_teeth"] <= 1
    assert 0 <= result["dice_any_tooth"] <= 1


def test_the_checkpoint_can_be_loaded_without_running_code_from_it(finished):
    content = checkpoint(finished[0])
    assert set(content) == {"network", "average", "optimiser", "step", "seconds"}
    assert content["step"] == TINY.steps
    assert all(torch.isfinite(v).all() for v in content["network"].values())


def test_the_weights_file_holds_the_average_without_aliases_and_counters(finished):
    folder, _ = finished
    weights, average = load_file(folder / "weights.safetensors"), checkpoint(folder)["average"]
    assert set(weights) == set(unaliased(average))
    assert all(torch.equal(weights[name], average[name]) for name in weights)
    assert "encoder.stages.0.0.convs.0.conv.weight" in weights
    assert not any("all_modules" in n or "num_batches" in n or n.startswith("decoder.encoder") for n in weights)


def test_unaliased_weights_are_all_that_the_network_needs(finished):
    state = load_state(TINY, finished[0], "cpu")
    missing, unexpected = copy.deepcopy(state.average).load_state_dict(
        load_file(finished[0] / "weights.safetensors"), strict=False
    )
    assert not unexpected
    assert all(any(s in name for s in ("all_modules", "decoder.encoder.", "num_batches_tracked")) for name in missing)
    shared = {w.data_ptr() for w in state.average.state_dict().values()}
    kept = {w.data_ptr() for w in unaliased(state.average.state_dict()).values()}
    counters = {w.data_ptr() for n, w in state.average.state_dict().items() if n.endswith("num_batches_tracked")}
    assert shared - counters == kept


def test_the_log_has_a_row_at_the_end_with_every_measure(finished):
    (row,) = rows(finished[0])
    assert tuple(row) == log.COLUMNS
    assert row["step"] == "6"
    assert float(row["rate"]) == pytest.approx(learning_rate(TINY, 5), rel=0.01)
    assert 0 < float(row["loss"]) < 20
    assert 0 <= float(row["dice_any_tooth"]) <= 1


def test_an_interrupted_run_goes_on_to_the_very_weights_of_an_uninterrupted_one(finished, cache, tmp_path):
    with pytest.raises(Cancelled):
        run_training(TINY, tmp_path, cache, workers=0, held_out=HELD_OUT, progress=cancel)
    assert checkpoint(tmp_path)["step"] == 4
    result = run_training(TINY, tmp_path, cache, workers=0, held_out=HELD_OUT)
    whole, resumed = checkpoint(finished[0]), checkpoint(tmp_path)
    for name in ("network", "average"):
        for key, weight in whole[name].items():
            assert torch.allclose(resumed[name][key], weight, rtol=1e-4, atol=1e-6), key
    assert result["dice_any_tooth"] == pytest.approx(finished[1]["dice_any_tooth"], abs=1e-3)
    assert result["seconds"] > 0


def test_steps_after_the_last_checkpoint_are_logged_once_though_they_are_run_twice(cache, tmp_path):
    with pytest.raises(Cancelled):
        run_training(TINY, tmp_path, cache, workers=0, progress=cancel)
    assert [row["step"] for row in rows(tmp_path)] == ["6"]
    run_training(TINY, tmp_path, cache, workers=0)
    assert [row["step"] for row in rows(tmp_path)] == ["6"]


def test_a_finished_run_is_not_trained_further(finished, cache, tmp_path):
    for path in finished[0].glob("*.*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    for schedule in (TINY, replace(TINY, steps=4)):
        assert run_training(schedule, tmp_path, cache, workers=0)["steps"] == TINY.steps
        assert {p.name: p.read_bytes() for p in tmp_path.glob("*.*")} == before


def test_norm_statistics_move_until_they_are_frozen_and_then_stay(cache, tmp_path, monkeypatch):
    seen = []

    def note(state: loop.State, *args: object) -> None:
        norms = [m for m in state.network.modules() if isinstance(m, nn.BatchNorm3d)]
        convs = [m for m in state.network.modules() if isinstance(m, nn.Conv3d)]
        statistics = torch.cat([torch.cat([m.running_mean, m.running_var]) for m in norms])
        seen.append((statistics, torch.cat([m.weight.detach().flatten() for m in convs])))

    monkeypatch.setattr(loop, "save_state", note)
    run_training(replace(TINY, steps=4, frozen_from=2, save_every=1), tmp_path, cache, workers=0)
    (first, a), (second, b), (third, c), (fourth, d) = seen
    assert not torch.equal(first, second)
    assert torch.equal(second, third)
    assert torch.equal(third, fourth)
    assert not any(torch.equal(*pair) for pair in ((a, b), (b, c), (c, d)))


def losses_of_one_sample(monkeypatch: pytest.MonkeyPatch, cache: Path) -> list[float]:
    """The losses of the steps to come; every sample is the same one, so that they can be compared."""
    sample = loop.draw_sample(loop.load_case(cache, 0), np.random.default_rng(0), *TINY.view(TINY.coarse_until))
    monkeypatch.setattr(loop, "draw_sample", lambda *args, **options: sample)
    losses: list[float] = []
    real = objective.deep_supervision_loss

    def noted(*args: Any) -> torch.Tensor:
        losses.append(float(real(*args).detach()))
        return real(*args)

    monkeypatch.setattr(objective, "deep_supervision_loss", noted)
    return losses


def test_learning_one_sample_by_heart_lowers_the_loss(cache, tmp_path, monkeypatch):
    heard: list[str] = []
    losses = losses_of_one_sample(monkeypatch, cache)
    schedule = replace(TINY, steps=50, warmup=5, rate=1e-2, save_every=50, coarse_until=0, frozen_from=40)
    run_training(schedule, tmp_path, cache, workers=0, progress=lambda fraction, message: heard.append(message))
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])
    assert [row["step"] for row in rows(tmp_path)] == ["25", "50"]
    assert [m.split(":")[0] for m in heard] == ["step 25", "step 50"]


def test_a_sample_depends_on_seed_and_step_alone(cache):
    early, late = loop._Samples(TINY, cache, 0), loop._Samples(TINY, cache, 3)
    assert len(early) == 6 * TINY.batch
    assert len(late) == 3 * TINY.batch
    for place in range(TINY.batch):
        for mine, theirs in zip(early[4 * TINY.batch + place], late[TINY.batch + place], strict=True):
            assert torch.equal(mine, theirs)
    other = loop._Samples(replace(TINY, seed=8), cache, 0)
    assert not torch.equal(early[4][0], other[4][0])


def test_the_samples_of_a_step_are_not_the_same(cache):
    samples = loop._Samples(replace(TINY, batch=2), cache, 0)
    assert not torch.equal(samples[0][0], samples[1][0])


def test_samples_can_be_sent_to_worker_processes_of_any_system(cache):
    samples = pickle.loads(pickle.dumps(loop._Samples(TINY, cache, 2)))
    assert torch.equal(samples[0][1], loop._Samples(TINY, cache, 2)[0][1])


def test_workers_draw_the_same_samples_in_the_same_order(cache):
    schedule = replace(TINY, steps=3)
    alone, helped = (list(loop._batches(loop._Samples(schedule, cache, 1), workers)) for workers in (0, 1))
    assert len(alone) == len(helped) == 2
    for (image, classes), (image_again, classes_again) in zip(alone, helped, strict=True):
        assert torch.equal(image, image_again)
        assert torch.equal(classes, classes_again)


def test_the_average_follows_slowly_and_takes_over_norm_statistics():
    fast, slow = nn.BatchNorm3d(2), nn.BatchNorm3d(2)
    with torch.no_grad():
        fast.weight.fill_(3.0)
        fast.running_mean.fill_(5.0)
    loop.follow(slow, fast, 0.75)
    assert slow.weight.tolist() == pytest.approx([1.5, 1.5])
    assert slow.running_mean.tolist() == [5.0, 5.0]


def test_validation_gives_a_perfect_network_a_dice_of_one(cache, monkeypatch):
    truth = {}
    real = loop.draw_sample

    def remembered(*args: Any, **options: Any) -> tuple[torch.Tensor, torch.Tensor]:
        image, truth["classes"] = real(*args, **options)
        return image, truth["classes"]

    class Oracle(nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            classes = truth["classes"].long()
            return nn.functional.one_hot(classes, 35).movedim(-1, 0)[None].float()

    monkeypatch.setattr(loop, "draw_sample", remembered)
    found = validate(Oracle(), TINY, cache, HELD_OUT, "cpu", ((24, 32, 32), 1.5))
    assert found == {"dice_teeth": 1.0, "dice_any_tooth": 1.0}


@pytest.mark.filterwarnings("error")
def test_validation_without_any_tooth_says_so_instead_of_a_number(cache, monkeypatch):
    empty = (torch.zeros(8, 8, 8), torch.zeros(8, 8, 8, dtype=torch.uint8))
    monkeypatch.setattr(loop, "draw_sample", lambda *args, **options: empty)
    network = load_state(replace(TINY, plan=replace(TINY.plan, patch=(8, 8, 8))), cache, "cpu").network
    found = validate(network, TINY, cache, HELD_OUT, "cpu", ((8, 8, 8), 1.0))
    assert all(math.isnan(v) for v in found.values())


def test_a_checkpoint_of_another_plan_is_not_loaded(finished):
    other = replace(TINY, plan=Plan(patch=(16, 32, 32), features=(4, 8), convs=(1, 1), convs_decoder=(1,)))
    with pytest.raises(RuntimeError, match="state_dict"):
        load_state(other, finished[0], "cpu")


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(finished, tmp_path, monkeypatch):
    (tmp_path / "checkpoint.pt").write_bytes(b"before")

    def full(content: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="space"):
        save_state(load_state(TINY, finished[0], "cpu"), TINY, tmp_path)
    assert (tmp_path / "checkpoint.pt").read_bytes() == b"before"


def test_a_case_that_is_not_in_the_cache_ends_the_run_before_a_step(tmp_path):
    with pytest.raises(FileNotFoundError):
        run_training(TINY, tmp_path / "run", tmp_path / "nowhere", workers=0)
    assert not (tmp_path / "run" / "checkpoint.pt").exists()


def test_pieces_of_head_without_jaws_come_in_from_their_step_on_at_their_share():
    schedule = Schedule(cases=5, crania=3, cranium_share=0.25, cranium_from=10)
    early = {schedule.case_number(9, np.random.default_rng(i)) for i in range(300)}
    late = [schedule.case_number(10, np.random.default_rng(i)) for i in range(2000)]
    assert early == set(range(5))
    assert set(late) == {*range(5), *range(FIRST_CRANIUM, FIRST_CRANIUM + 3)}
    assert abs(np.mean([n >= FIRST_CRANIUM for n in late]) - 0.25) < 0.04
    assert schedule.case_numbers == [*range(5), *range(FIRST_CRANIUM, FIRST_CRANIUM + 3)]


# ---- quantization-aware training


@pytest.fixture(scope="module")
def trained(finished) -> dict[str, np.ndarray]:
    """Weights of a finished training in float."""
    return {name: value.numpy() for name, value in load_file(finished[0] / "weights.safetensors").items()}


CONSTRAINED = replace(
    TINY,
    steps=4,
    save_every=2,
    coarse_until=0,
    quantization=QuantConfig(),
    ranges_frozen_from=3,
    grid=0.1,
    kurtosis=0.01,
    objective=Objective(topology=TopologyConfig(), scnp=3),
)


def test_a_quantization_aware_training_starts_from_weights_and_leaves_weights_of_the_unchanged_network(
    trained, cache, tmp_path
):
    run_training(CONSTRAINED, tmp_path, cache, workers=0, held_out=HELD_OUT, start=trained)
    weights = load_file(tmp_path / "weights.safetensors")
    assert {name: w.shape for name, w in weights.items()} == {name: w.shape for name, w in trained.items()}
    network = loop.build_network(TINY.plan)
    network.load_state_dict(weights, strict=False)
    state = load_state(CONSTRAINED, tmp_path, "cpu", trained, cache)
    assert isinstance(state.average, QatNetwork)
    image = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 1, *TINY.plan.patch)).astype(np.float32))
    with torch.inference_mode():
        float_scores, integer_scores = network.eval()(image)[0], state.average.eval()(image)
    assert torch.corrcoef(torch.stack([float_scores.flatten(), integer_scores.flatten()]))[0, 1] > 0.98


def test_every_term_of_the_objective_is_logged(trained, cache, tmp_path):
    run_training(CONSTRAINED, tmp_path, cache, workers=0, start=trained)
    (row,) = rows(tmp_path)
    assert float(row["quantization"]) > 0 and float(row["segmentation"]) > 0
    assert all(row[name] for name in ("cross_entropy", "class_dice", "tooth_dice", "numbering"))
    assert any((tmp_path / "tensorboard").iterdir())


def test_an_interrupted_quantization_aware_run_goes_on_to_the_same_weights(trained, cache, tmp_path, monkeypatch):
    schedule = replace(CONSTRAINED, quantization=QuantConfig(learned_ranges=True))
    run_training(schedule, tmp_path / "whole", cache, workers=0, start=trained)
    save, saved = loop.save_state, []

    def save_once(*args: Any) -> None:
        save(*args)
        saved.append(args)
        raise Cancelled("Cancelled.")

    monkeypatch.setattr(loop, "save_state", save_once)
    with pytest.raises(Cancelled):
        run_training(schedule, tmp_path / "parts", cache, workers=0, start=trained)
    monkeypatch.setattr(loop, "save_state", save)
    run_training(schedule, tmp_path / "parts", cache, workers=0, start=trained)
    whole, parts = (load_file(tmp_path / name / "weights.safetensors") for name in ("whole", "parts"))
    assert all(torch.allclose(parts[name], weight, rtol=1e-4, atol=1e-6) for name, weight in whole.items())


def test_ranges_are_observed_until_they_are_frozen(trained, cache, tmp_path, monkeypatch):
    seen = []

    def note(state: loop.State, *args: object) -> None:
        seen.append(float(state.network.quantizers["image"].observer.high))

    monkeypatch.setattr(loop, "save_state", note)
    run_training(replace(CONSTRAINED, save_every=1), tmp_path, cache, workers=0, start=trained)
    assert seen[0] != seen[1] != seen[2] == seen[3]


def test_quantization_aware_training_without_weights_is_refused(cache, tmp_path):
    with pytest.raises(UsageError, match="starts from trained weights"):
        run_training(CONSTRAINED, tmp_path, cache, workers=0)


def test_weights_of_another_network_are_refused(trained, cache, tmp_path):
    lacking = {name: value for name, value in trained.items() if "seg_layers.0" not in name}
    with pytest.raises(RuntimeError, match="another network"):
        run_training(TINY, tmp_path, cache, workers=0, start=lacking)
