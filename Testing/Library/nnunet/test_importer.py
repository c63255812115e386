"""From a trained nnU-Net to a bundle to teeth, as a user does it, and what is refused on the way."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import SimpleITK
import torch

from Testing.Library.nnunet.models import Variant, dataset_of, drawing, write_model
from ToothTopoSegLib.cli import main
from ToothTopoSegLib.errors import Cancelled, ModelError, UsageError
from ToothTopoSegLib.imaging.read import read_label_map
from ToothTopoSegLib.nnunet.importer import import_nnunet, read_model
from ToothTopoSegLib.quantization.audit import audit_model
from ToothTopoSegLib.quantization.bundle import load_bundle

INSTANCE, BATCH = Variant(mirror=(0,)), Variant(residual=True, batch_norm=True, mirror=None)


def write_scan(path: Path, seed: int, shape: tuple[int, int, int] = (24, 40, 48)) -> Path:
    scan, _ = drawing(seed, shape, (1.0, 0.8, 0.8))
    image = SimpleITK.GetImageFromArray(scan.array)
    image.SetSpacing(scan.spacing[::-1])
    SimpleITK.WriteImage(image, str(path))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Two trained models and scans like those they learnt from."""
    folder = tmp_path_factory.mktemp("import")
    write_model(folder / "instance", INSTANCE)
    write_model(folder / "batch", BATCH)
    for seed in range(3):
        write_scan(folder / f"scan{seed}.nii.gz", 7000 + seed)
    return folder


@pytest.fixture
def model(folder, tmp_path) -> Path:
    """A copy of a model, to be spoilt."""
    return Path(shutil.copytree(folder / "instance", tmp_path / "model"))


@pytest.fixture(scope="module")
def bundle(folder) -> Path:
    """The model with instance norms in 8-bit convolutions, imported from a zip through the command line."""
    archive = shutil.make_archive(str(folder / "zipped"), "zip", folder, "instance")
    scans = [str(folder / f"scan{seed}.nii.gz") for seed in range(3)]
    out = folder / "imported.onnx"
    assert main(["import-nnunet", archive, "-o", str(out), "--precision", "qdq", "--calibrate", *scans]) == 0
    return out


def test_an_imported_model_segments_and_says_teeth_and_its_own_labels(folder, bundle, capsys):
    out = folder / "results"
    capsys.readouterr()
    assert main(["segment", str(folder / "scan0.nii.gz"), "-o", str(out), "--model", str(bundle), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["model"]["precision"] == "8-bit convolutions but first and last, float norm"
    own = read_label_map(out / "scan0_labels.nii.gz").array
    teeth = read_label_map(out / "scan0_teeth.nii.gz").array
    assert (own == 1).any() and np.array_equal(teeth == 11, own == 1)
    assert set(np.unique(teeth)) <= {0, 11, 21}, "the pharynx is no tooth"
    assert "pharynx" in SimpleITK.ReadImage(str(out / "scan0_labels.seg.nrrd")).GetMetaData("Segment2_Name")


def test_the_card_says_what_was_imported_and_how_well_it_agrees(bundle):
    card = load_bundle(bundle).card
    assert card["pipeline"] == "nnunet" and card["imported"]["architecture"] == "PlainConvUNet"
    assert card["parity"] <= 1e-4 and card["calibrated on"] == "3 scans"
    assert card["agreement"]["qdq"]["Dice"] > 0.9
    assert [label["fdi"] for label in card["labels"]] == [11, 21, 0]


def test_a_norm_that_stays_gets_the_sums_of_its_convolution_unrounded(bundle):
    graph = onnx.load(str(bundle)).graph
    operators = {node.op_type for node in graph.node}
    assert {"ConvInteger", "InstanceNormalization", "QuantizeLinear"} <= operators
    made_by = {node.output[0]: node.op_type for node in graph.node}
    normed = {made_by[node.input[0]] for node in graph.node if node.op_type == "InstanceNormalization"}
    assert normed == {"Conv", "Add"}, "the first convolution in float, then scaled sums with their bias"
    assert made_by[graph.output[0].name] == "Conv"


def test_the_card_names_no_scan_that_it_was_calibrated_on(folder, bundle):
    text = bundle.with_suffix(".json").read_text(encoding="utf-8")
    assert "scan0" not in text and str(folder) not in text


def test_phantoms_do_not_measure_an_imported_model_and_say_what_does(bundle, capsys):
    assert main(["bench", "--phantoms", "1", "--model", str(bundle)]) == 4
    assert "imported.onnx is an imported one" in capsys.readouterr().err


def test_only_integers_are_left_of_a_residual_network_with_batch_norm(folder):
    scans = [folder / f"scan{seed}.nii.gz" for seed in range(3)]
    report = import_nnunet(folder / "batch", folder / "integer.onnx", scans, precision="integer")
    assert report["norm"] == "BatchNorm3d" and report["agreement with float"]["integer"]["Dice"] > 0.9
    audit = audit_model(folder / "integer.onnx")
    assert audit["passed"], audit["problems"]
    assert audit["operators"]["QLinearAdd"] == 4


def test_instance_norms_become_integers_with_scans_and_only_with_them(folder):
    scans = [folder / f"scan{seed}.nii.gz" for seed in range(3)]
    report = import_nnunet(folder / "instance", folder / "fixed.onnx", scans, precision="integer")
    assert audit_model(folder / "fixed.onnx")["passed"] and "Dice" in report["agreement with float"]["integer"]
    with pytest.raises(UsageError, match="give --calibrate SCANS"):
        import_nnunet(folder / "instance", folder / "none.onnx", precision="integer")
    assert not (folder / "none.onnx").exists()


def test_auto_takes_the_most_compact_form_that_agrees_with_float(folder, monkeypatch):
    scans = [folder / f"scan{seed}.nii.gz" for seed in range(3)]
    report = import_nnunet(folder / "instance", folder / "auto.onnx", scans)
    tried = list(report["agreement with float"])
    assert tried == ["integer", "qdq"][: len(tried)]
    dice = [report["agreement with float"][name]["Dice"] for name in tried]
    assert all(d < 0.99 for d in dice[:-1])
    assert (report["precision"] == "float32") == (dice[-1] < 0.99)


def test_folds_become_one_bundle_with_the_mean_of_their_scores(folder, model):
    shutil.copytree(model / "fold_0", model / "fold_1")
    shutil.copytree(folder / "instance" / "fold_0", model / "fold_2")
    report = import_nnunet(model, model / "all.onnx", precision="float")
    assert report["folds"] == ["0", "1", "2"] and len(load_bundle(model / "all.onnx").affines) == 3
    assert import_nnunet(model, model / "two.onnx", folds=["0", "2"], precision="float")["folds"] == ["0", "2"]


def test_labels_of_another_model_are_refused(model):
    dataset = dataset_of(INSTANCE)
    dataset["labels"] = dataset["labels"] | {"molar": 4}
    (model / "dataset.json").write_text(json.dumps(dataset), encoding="utf-8")
    with pytest.raises(ModelError, match=r"gives 4 scores, but .* labels for 5"):
        read_model(model)


def test_weights_of_another_plan_are_refused(model, tmp_path):
    other = write_model(tmp_path / "other", replace(INSTANCE, residual=True), steps=0)
    shutil.copy(other / "plans.json", model / "plans.json")
    with pytest.raises(ModelError, match="lacks the weights"):
        import_nnunet(model, model / "b.onnx", precision="float")


def test_weights_with_a_missing_layer_are_refused(model):
    path = model / "fold_0" / "checkpoint_final.pth"
    checkpoint = torch.load(path, weights_only=False)
    checkpoint["network_weights"] = {n: w for n, w in checkpoint["network_weights"].items() if "stages.1" not in n}
    torch.save(checkpoint, path)
    with pytest.raises(ModelError, match="lacks the weights"):
        import_nnunet(model, model / "b.onnx", precision="float")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [({"bundle": "model.pth"}, r"must end in \.onnx"), ({"precision": "int4"}, "no precision 'int4'")],
)
def test_wrong_options_are_told(model, options, sentence):
    bundle = model / options.pop("bundle", "b.onnx")
    with pytest.raises(UsageError, match=sentence):
        import_nnunet(model, bundle, **options)


def test_nothing_is_left_of_a_cancelled_import(model, tmp_path):
    def cancel(fraction: float, message: str) -> None:
        if "quantizing" in message:
            raise Cancelled

    with pytest.raises(Cancelled):
        import_nnunet(model, tmp_path / "out" / "b.onnx", [write_scan(tmp_path / "s.nii.gz", 1)], progress=cancel)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["nowhere", "empty"])
def test_the_command_says_in_one_sentence_what_is_missing(name, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert main(["import-nnunet", str(tmp_path / name), "-o", str(tmp_path / "b.onnx")]) == 4
    assert "nnU-Net v2" in capsys.readouterr().err
    assert not (tmp_path / "b.onnx").exists()
