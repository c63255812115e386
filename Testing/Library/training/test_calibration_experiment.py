"""The experiment on calibration from end to end, with a network of a few hundred weights."""

from __future__ import annotations

from pathlib import Path

import pytest

from Testing.Library.quantization.tiny import TINY, tiny_network, write_bundle
from ToothTopoSegLib.errors import ModelError
from ToothTopoSegLib.evaluation.odd_scans import ODD
from ToothTopoSegLib.phantom.write import make_small_phantom
from ToothTopoSegLib.quantization.bundle import load_bundle
from ToothTopoSegLib.quantization.export import float_weights_path
from ToothTopoSegLib.training import calibration_experiment
from ToothTopoSegLib.training.calibration_experiment import COLUMNS, SEED, run, tiles_of


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("model"), tiny_network(TINY))


def test_every_kind_of_scan_is_measured_with_every_calibration(model, monkeypatch) -> None:
    few = {kind: ODD[kind] for kind in ("plain", "dark")}
    monkeypatch.setattr(calibration_experiment, "ODD", few)
    result = run(1, model)
    assert result["dice"].keys() == few.keys() and result["seed"] == SEED
    for row in result["dice"].values():
        assert row.keys() == set(COLUMNS) and all(0 <= row[name] <= 1 for name in COLUMNS)
    assert all(f"| {kind} |" in result["page"] for kind in few)


def test_a_model_without_float_weights_cannot_be_calibrated(model, tmp_path) -> None:
    alone = tmp_path / model.name
    for suffix in (".onnx", ".json"):
        alone.with_suffix(suffix).write_bytes(model.with_suffix(suffix).read_bytes())
    assert not float_weights_path(alone).exists()
    with pytest.raises(ModelError, match="float weights"):
        run(1, alone)


def test_tiles_are_patches_of_the_scan_as_the_network_sees_them(model) -> None:
    bundle = load_bundle(model)
    tiles = tiles_of(make_small_phantom(1).scan, bundle)
    assert tiles.shape == (2, *bundle.patch) and abs(float(tiles.mean())) < 1.5
