"""From a training run's folder to a bundle, whole or not at all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from Testing.Library.quantization.tiny import TINY, Tiny, smooth_patches
from ToothTopoSegLib.errors import Cancelled, ModelError, OutputError, UsageError
from ToothTopoSegLib.phantom import head
from ToothTopoSegLib.quantization import audit
from ToothTopoSegLib.quantization.audit import audit_model
from ToothTopoSegLib.quantization.bundle import Bundle, load_bundle
from ToothTopoSegLib.quantization.calibrate import run_float
from ToothTopoSegLib.quantization.config import QuantConfig
from ToothTopoSegLib.quantization.export import export_run, float_bundle, float_weights_path, record_metrics
from ToothTopoSegLib.quantization.fold import fold
from ToothTopoSegLib.quantization.graph import Conv
from ToothTopoSegLib.segmentation.runner import Runner
from ToothTopoSegLib.training import cases, loop
from ToothTopoSegLib.training.loop import Schedule
from ToothTopoSegLib.training.network import Plan

FILES = {"small.onnx", "small.json", "small_float16.safetensors"}
LOG = "step,rate,loss,dice_teeth,dice_any_tooth,seconds\n25,1e-3,2.5,,,9\n50,1e-4,1.5,0.4321,0.8765,21\n"


@pytest.fixture
def run_folder(tmp_path: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished training run whose cases are small blocks of random tissue."""

    def load_case(folder: Path, number: int, fine: bool = False) -> np.ndarray:
        assert folder == place / "cases" and number in (0, 1)
        rng = np.random.default_rng(number)
        tissue = np.repeat(rng.integers(0, head.METAL, (2, 9, 9, 9)), 4, axis=1)
        return np.repeat(np.repeat(tissue, 4, axis=2), 4, axis=3).astype(np.uint8)

    monkeypatch.setattr(loop, "load_case", load_case)
    place = tmp_path / "run ü"
    place.mkdir()
    save_file(tiny.weights, place / "weights.safetensors")
    schedule = {"recipe": "own", **asdict(Schedule(plan=TINY, cases=2, seed=3))}
    (place / "schedule.json").write_text(json.dumps(schedule), encoding="utf-8")
    (place / "log.csv").write_text(LOG, encoding="utf-8")
    return place


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    """The bundle of a run, exported once."""
    target = tmp_path_factory.mktemp("exported") / "small.onnx"

    def export(run: Path) -> Path:
        if not target.exists():
            export_run(run, target)
        return target

    return export


def _left(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*")} if folder.exists() else set()


def test_a_run_becomes_a_bundle_that_loads_and_passes_its_audit(run_folder: Path, exported) -> None:
    path = exported(run_folder)
    assert _left(path.parent) == FILES
    assert load_bundle(path).patch == TINY.patch
    assert audit_model(path)["passed"]
    assert Runner(load_bundle(path), threads=1)(np.zeros(TINY.patch)).shape == (TINY.classes, *TINY.patch)


def test_the_card_says_where_the_model_comes_from(run_folder: Path, exported) -> None:
    path = exported(run_folder)
    card = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    assert card["schema"] == "toothtoposeg.model/1" and card["name"] == "small"
    assert card["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert card["plan"] == TINY.as_dict()
    assert card["precision"] == "uint8 activations, int7 weights in int8"
    assert card["quantization"] == QuantConfig().as_dict() | {
        "weight_bits": 7,
        "activation_bits": 8,
        "percentile": 99.99,
        "calibration_patches": 24,
    }
    assert card["training"]["recipe"] == "own" and card["training"]["cases"] == 2 and card["training"]["seed"] == 3
    assert card["training"]["steps"] == 50 and card["training"]["seconds"] == 21
    assert card["training"]["validation"] == {"dice_teeth": 0.4321, "dice_any_tooth": 0.8765}
    assert card["licence"] == "Apache-2.0" and "Not a medical device" in card["limits"]
    assert card["scores"]["scale"] > 0 and 0 <= card["scores"]["zero_point"] <= 255


def test_the_bundle_is_as_small_as_its_weights(run_folder: Path, exported, tiny: Tiny) -> None:
    path = exported(run_folder)
    values = sum(weight.size for weight in tiny.weights.values())
    assert values < path.stat().st_size < values + 20_000  # one byte a weight, and the graph
    assert float_weights_path(path).stat().st_size < 2 * values + 10_000


def test_the_float_weights_are_the_networks_own_in_half_precision(run_folder: Path, exported, tiny: Tiny) -> None:
    weights = load_file(float_weights_path(exported(run_folder)))
    assert set(weights) == set(tiny.weights)
    assert all(w.dtype == np.float16 and np.array_equal(w, tiny.weights[name]) for name, w in weights.items())


def test_the_float_twin_of_a_bundle_is_the_folded_network(run_folder: Path, exported, tiny: Tiny) -> None:
    twin = float_bundle(load_bundle(exported(run_folder)))
    image = smooth_patches(TINY, 1)[0]
    assert twin.card["precision"] == "float32" and twin.card["name"] == "small (float)"
    np.testing.assert_allclose(Runner(twin, threads=1)(image[0, 0]), run_float(tiny.graph, image)[0], atol=1e-4)


def test_a_bundle_without_its_float_weights_has_no_twin(tiny_bundle: Path) -> None:
    bundle = load_bundle(tiny_bundle)
    moved = Bundle(tiny_bundle.with_name("elsewhere.onnx"), bundle.model, bundle.card)
    with pytest.raises(ModelError, match=r"elsewhere_float16\.safetensors are missing"):
        float_bundle(moved)


def test_exporting_twice_gives_the_same_bundle(run_folder: Path, exported, tmp_path: Path) -> None:
    first = exported(run_folder)
    export_run(run_folder, tmp_path / "again" / "small.onnx")
    assert all((tmp_path / "again" / name).read_bytes() == first.with_name(name).read_bytes() for name in FILES)


@pytest.mark.parametrize("missing", ["weights.safetensors", "schedule.json", "log.csv"])
def test_a_folder_without_a_finished_run_is_wrong_usage(run_folder: Path, tmp_path: Path, missing: str) -> None:
    (run_folder / missing).unlink()
    _refused(run_folder, tmp_path / "out" / "small.onnx", UsageError, "holds no weights")


def test_a_bundle_must_end_in_onnx(run_folder: Path, tmp_path: Path) -> None:
    _refused(run_folder, tmp_path / "out" / "small.pt", UsageError, r"small\.pt must end in \.onnx")


@pytest.mark.parametrize("text", ["{", "[]", '{"plan": 3}', '{"plan": {"depth": 3}}'])
def test_a_schedule_that_is_none_is_wrong_usage(run_folder: Path, tmp_path: Path, text: str) -> None:
    (run_folder / "schedule.json").write_text(text, encoding="utf-8")
    _refused(run_folder, tmp_path / "out" / "small.onnx", UsageError, r"schedule\.json")


def test_weights_of_another_plan_are_wrong_usage(run_folder: Path, tmp_path: Path, tiny: Tiny) -> None:
    weights = {name: value for name, value in tiny.weights.items() if "transpconvs.1" not in name}
    save_file(weights, run_folder / "weights.safetensors")
    _refused(run_folder, tmp_path / "out" / "small.onnx", UsageError, r"transpconvs\.1")


def test_a_training_case_that_is_gone_is_wrong_usage(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "load_case", cases.load_case)
    _refused(run_folder, tmp_path / "out" / "small.onnx", UsageError, "training case case_00000.npy is not in")


def test_a_run_is_calibrated_on_the_same_patches_as_its_training_in_integers(run_folder: Path, monkeypatch) -> None:
    own = Schedule(plan=TINY, cases=2, plain_cases=3, hard_cases=2, hard_share=0.4, first_case=5, setting="natural")
    (run_folder / "schedule.json").write_text(json.dumps({"recipe": "own", **asdict(own)}), encoding="utf-8")
    drawn: dict[int, list[int]] = {0: [], 1: []}
    real = loop.load_case
    for way, patches in enumerate((lambda: loop.calibration_patches(own, run_folder / "cases"), None)):

        def load_case(folder: Path, number: int, fine: bool = False, way: int = way) -> np.ndarray:
            drawn[way].append(number)
            return real(folder, number % 2)

        monkeypatch.setattr(loop, "load_case", load_case)
        if patches is None:
            export_run(run_folder, run_folder / "out" / "small.onnx")
        else:
            assert len(list(patches())) == loop.CALIBRATION_PATCHES
    assert drawn[0] == drawn[1] and max(drawn[0]) >= cases.FIRST_HARD > min(drawn[0])


@pytest.mark.parametrize("value", [1e5, np.nan])
def test_weights_beyond_half_precision_are_refused(run_folder: Path, tmp_path: Path, tiny: Tiny, value: float) -> None:
    name = "encoder.stages.0.0.convs.0.norm.running_var"
    save_file(tiny.weights | {name: np.full_like(tiny.weights[name], value)}, run_folder / "weights.safetensors")
    _refused(run_folder, tmp_path / "out" / "small.onnx", ModelError, "running_var")


def test_damaged_weights_are_refused(run_folder: Path, tmp_path: Path) -> None:
    path = run_folder / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    _refused(run_folder, tmp_path / "out" / "small.onnx", ModelError, r"weights\.safetensors cannot be read")


def test_a_graph_that_fails_its_audit_is_not_written(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "audit_graph", lambda graph: ["1 x Softplus: not an operator of the integer graph"])
    _refused(run_folder, tmp_path / "out" / "small.onnx", ModelError, "not all integer: 1 x Softplus")


@pytest.mark.parametrize("step", [1, 2, 14, 26, 27, 28])
def test_cancelling_leaves_the_old_bundle_as_it_was(run_folder: Path, tmp_path: Path, step: int) -> None:
    target = tmp_path / "out" / "small.onnx"
    target.parent.mkdir()
    target.write_bytes(b"old")
    calls = []

    def cancel(fraction: float, message: str) -> None:
        calls.append(fraction)
        if len(calls) == step:
            raise Cancelled("stopped")

    if step < 28:
        with pytest.raises(Cancelled):
            export_run(run_folder, target, progress=cancel)
        assert _left(target.parent) == {"small.onnx"} and target.read_bytes() == b"old"
    else:
        export_run(run_folder, target, progress=cancel)
        assert len(calls) == 27 and calls == sorted(calls) and calls[-1] == 1.0
        assert _left(target.parent) == FILES


def test_a_place_that_is_a_file_cannot_take_a_bundle(run_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match="is not a folder"):
        export_run(run_folder, tmp_path / "file" / "small.onnx")
    assert (tmp_path / "file").read_text() == "mine"


def test_measured_figures_are_kept_in_the_card_and_the_bundle_still_loads(
    run_folder: Path, exported, tmp_path: Path
) -> None:
    for name in FILES:
        (tmp_path / name).write_bytes(exported(run_folder).with_name(name).read_bytes())
    kinds = ((0.5, "plain", False), (0.9, "plain", False), (0.7, "plain", True), (0.6, "foreign", True))
    for dice, setting, hard in kinds:
        of = {"phantoms": 2, "setting": setting, "hard": hard, "seeds": [100, 101]}
        record_metrics(tmp_path / "small.onnx", of | {"mean": {"integer": {"dice": dice}}})
    assert load_bundle(tmp_path / "small.onnx").card["metrics"] == {
        "2 phantoms from seed 100": {"integer": {"dice": 0.9}},
        "2 hard phantoms from seed 100": {"integer": {"dice": 0.7}},
        "2 hard foreign phantoms from seed 100": {"integer": {"dice": 0.6}},
    }
    assert not list(tmp_path.glob("*.part"))


def _refused(run: Path, target: Path, error: type[Exception], message: str) -> None:
    """Exporting raises ``error`` in one sentence and leaves nothing at the target's folder."""
    with pytest.raises(error, match=message) as caught:
        export_run(run, target)
    assert "\n" not in str(caught.value)
    assert not target.parent.exists()


def test_the_mean_with_the_bundle_a_run_began_from_keeps_its_second_network_and_says_so(run_folder, tmp_path):
    begun, mean = tmp_path / "begun.onnx", tmp_path / "mean.onnx"
    export_run(run_folder, begun)
    card = json.loads(begun.with_suffix(".json").read_text()) | {"surface": {"name": "second", "sha256": "0"}}
    begun.with_suffix(".json").write_text(json.dumps(card))
    plan = Plan.from_dict(card["plan"])
    weights = load_file(run_folder / "weights.safetensors")
    scaled = {k: (3 * v).astype(v.dtype) if "conv.bias" in k or "seg_layers" in k else v for k, v in weights.items()}
    save_file(scaled, run_folder / "weights.safetensors")
    found = export_run(run_folder, mean, mean_with=begun)
    assert found["surface"] == card["surface"] and found["training"]["mean with"] == card["training"]
    shipped, before, after = (
        fold({k: v.astype(np.float32) for k, v in each.items()}, plan).nodes
        for each in (load_file(float_weights_path(mean)), weights, scaled)
    )
    for node, one, two in zip(shipped, before, after, strict=True):
        if isinstance(node, Conv):
            np.testing.assert_allclose(node.weight, (one.weight + two.weight) / 2, rtol=2e-3, atol=1e-3)
            np.testing.assert_allclose(node.bias, (one.bias + two.bias) / 2, rtol=2e-3, atol=1e-3)


def test_only_weights_of_the_same_network_are_averaged(run_folder, tmp_path):
    begun = tmp_path / "begun.onnx"
    export_run(run_folder, begun)
    float_weights_path(begun).unlink()
    with pytest.raises(ModelError, match=r"begun\.onnx has no float weights of the network"):
        export_run(run_folder, tmp_path / "mean.onnx", mean_with=begun)
    assert not (tmp_path / "mean.onnx").exists()
