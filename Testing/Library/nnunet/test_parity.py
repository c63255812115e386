"""Imported models against nnU-Net itself: the network's scores, and labels of scans with thick slices and a rim."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from Testing.Library.nnunet.models import Variant, drawing, nnunet_labels, nnunet_network, write_model
from ToothTopoSegLib.imaging.volume import Volume
from ToothTopoSegLib.nnunet.importer import import_nnunet, read_model
from ToothTopoSegLib.quantization.bundle import load_bundle
from ToothTopoSegLib.segmentation.nnunet_way import preprocessing, segment_nnunet
from ToothTopoSegLib.segmentation.runner import Runner

NETWORKS = [
    # Regions only change how many scores there are: every other network has them.
    Variant(
        residual, batch_norm, low_resolution, anisotropic, regions=(batch_norm + low_resolution + anisotropic) % 2 == 1
    )
    for residual in (False, True)
    for batch_norm in (False, True)
    for low_resolution in (False, True)
    for anisotropic in (False, True)
]
WHOLE = {
    "plain, instance norm, labels": Variant(),
    "residual, batch norm, thick slices, regions": Variant(
        True, True, anisotropic=True, regions=True, mirror=(0, 2), normalisation="ZScoreNormalization"
    ),
    "old form, low resolution, mask, other axes, two folds": Variant(
        low_resolution=True,
        anisotropic=True,
        old_form=True,
        folds=("0", "3"),
        normalisation="ZScoreNormalization",
        use_mask=True,
        transpose=(1, 0, 2),
        mirror=None,
    ),
    "residual, instance norm, low resolution, scaled to 0..1": Variant(
        True, low_resolution=True, normalisation="RescaleTo01Normalization", mirror=(1,)
    ),
    "plain, batch norm, as it is": Variant(batch_norm=True, normalisation="NoNormalization", mirror=None),
}


def name_of(variant: Variant) -> str:
    kinds = ["residual" if variant.residual else "plain", "batch" if variant.batch_norm else "instance"]
    kinds += ["lowres" if variant.low_resolution else "fullres", "anisotropic" if variant.anisotropic else "isotropic"]
    return " ".join([*kinds, "regions" if variant.regions else "labels"])


@pytest.mark.parametrize("variant", NETWORKS, ids=name_of)
def test_the_exported_network_gives_the_scores_of_nnunets_own(variant, tmp_path):
    folder = write_model(tmp_path / "model", variant, steps=2)
    report = import_nnunet(folder, tmp_path / "model.onnx", precision="float")
    assert report["relative difference from nnU-Net"] <= 1e-4
    # Once more against the network that nnunetv2, not we, builds from the plans.
    network = nnunet_network(variant)
    network.load_state_dict(
        torch.load(folder / "fold_0" / "checkpoint_final.pth", weights_only=False)["network_weights"]
    )
    patch = np.random.default_rng(1).normal(size=variant.patch).astype(np.float32)
    with torch.inference_mode():
        expected = network.eval()(torch.from_numpy(patch)[None, None])[0].numpy()
    found = Runner(load_bundle(tmp_path / "model.onnx"), threads=1)(patch)
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()


@pytest.fixture(scope="module", params=WHOLE)
def imported(request, tmp_path_factory) -> tuple[Path, Variant, Path]:
    """Folder of a trained model, what it is, and its float bundle."""
    folder, variant = tmp_path_factory.mktemp("model"), WHOLE[request.param]
    model = write_model(folder / "model", variant)
    import_nnunet(model, folder / "model.onnx", precision="float")
    return model, variant, folder / "model.onnx"


def mean_dice(found: np.ndarray, expected: np.ndarray) -> float:
    labels = [label for label in (1, 2, 3) if (expected == label).any() or (found == label).any()]
    both = [2 * ((found == k) & (expected == k)).sum() / ((found == k).sum() + (expected == k).sum()) for k in labels]
    return float(np.mean(both))


def scan_for(variant: Variant, seed: int, shape: tuple[int, ...], spacing: tuple[float, ...]) -> Volume:
    """A drawing in the grey values a model expects: one that takes them as they are has learnt from normalised ones."""
    scan, _ = drawing(seed, shape, spacing)
    if variant.normalisation != "NoNormalization":
        return scan
    return scan.with_array(np.where(scan.array == 0, 0, (scan.array - 900) / 350).astype(np.float32))


def test_labels_of_a_scan_with_thick_slices_and_an_empty_rim_are_nnunets(imported):
    folder, variant, bundle = imported
    shape = [16, 60, 70] if variant.anisotropic else [24, 50, 60]
    spacing = (2.5, 0.6, 0.5) if variant.anisotropic else (1.2, 0.5, 0.6)
    order = np.argsort(variant.transpose)
    scan = scan_for(variant, 5, tuple(shape[i] for i in order), tuple(spacing[i] for i in order))
    loaded = load_bundle(bundle)
    found = segment_nnunet(scan, preprocessing(loaded), Runner(loaded, threads=1).real_scores)
    expected = nnunet_labels(folder, variant, scan)
    assert found.shape == expected.shape == scan.array.shape
    assert np.count_nonzero(expected) > 1000, "the model sees nothing, so that nothing is compared"
    assert mean_dice(found, expected) >= 0.999


def test_a_scan_smaller_than_a_patch_gets_nnunets_labels(imported):
    folder, variant, bundle = imported
    scan = scan_for(variant, 6, (10, 14, 15), (1.5, 1.0, 1.0))
    loaded = load_bundle(bundle)
    found = segment_nnunet(scan, preprocessing(loaded), Runner(loaded, threads=1).real_scores)
    assert (found == nnunet_labels(folder, variant, scan)).mean() >= 0.999


def test_batch_norm_is_told_from_the_weights_whatever_the_plan_says(tmp_path):
    folder = write_model(tmp_path / "model", Variant(batch_norm=True), steps=1)
    model = read_model(folder)
    assert model.shape.norm == "BatchNorm3d" and model.trainer == "nnUNetTrainerBN"
