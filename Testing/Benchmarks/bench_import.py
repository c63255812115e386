"""Imported nnU-Net models beside nnU-Net itself: labels, memory and time of one scan, and what 8 bits cost.

    python Testing/Benchmarks/bench_import.py [--threads N] [--steps N] [-o Resources/Evidence/import.md]

The model is the bundled network written as nnU-Net v2 writes one (PlainConvUNet, 35 classes), with batch norms and
with instance norms, the latter trained further by nnU-Net's own loss on phantoms prepared in nnU-Net's way. The
scan is a phantom with thick slices and an empty rim. nnU-Net and ToothTopoSeg segment it each in a process of its own,
one after the other and once more in the other order; time is that of the segmentation, without starting Python and
loading the model, memory the most that the whole process held. The 8-bit forms are compared with their own float
network on other phantoms.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
SCAN_SEED, PHANTOM_SEEDS, CALIBRATION_SEEDS = 4_100_000, (4_100_001, 4_100_002), (4_100_010, 4_100_011, 4_100_012)
TRAINING_SEEDS = range(4_100_100, 4_100_124)
RATE = 3e-4
SPACING = (0.6, 0.3, 0.3)
RIM = (4, 10, 7)


def write_model(folder: Path, batch_norm: bool) -> Path:
    """The bundled network as a folder of nnU-Net v2; without ``batch_norm`` its norms measure each patch."""
    import torch

    from ToothTopoSegLib.quantization.bundle import load_bundle
    from ToothTopoSegLib.quantization.export import float_weights_path
    from ToothTopoSegLib.quantization.fold import read_weights
    from ToothTopoSegLib.segmentation.classes import LABELS
    from ToothTopoSegLib.training.network import Plan

    bundle = load_bundle()
    plan = Plan.from_dict(bundle.card["plan"])
    weights = read_weights(float_weights_path(bundle.path))
    if not batch_norm:
        weights = {name: value for name, value in weights.items() if ".running_" not in name}
    (folder / "fold_0").mkdir(parents=True)
    labels = {"background": 0} | {str(fdi): k for k, fdi in enumerate(LABELS) if k}
    dataset = {"channel_names": {"0": "CBCT"}, "labels": labels, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(dataset), encoding="utf-8")
    (folder / "plans.json").write_text(json.dumps(plans_of(plan)), encoding="utf-8")
    checkpoint = {
        "network_weights": {name: torch.from_numpy(value) for name, value in weights.items()},
        "init_args": {"configuration": "3d_fullres", "fold": 0},
        "trainer_name": "nnUNetTrainerBN" if batch_norm else "nnUNetTrainer",
        "inference_allowed_mirroring_axes": None,
    }
    torch.save(checkpoint, folder / "fold_0" / "checkpoint_final.pth")
    return folder


def train_further(folder: Path, steps: int, threads: int) -> None:
    """Train the model of a folder for some steps of one patch with nnU-Net's own network and loss."""
    import torch
    from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
    from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss

    from ToothTopoSegLib.training.loop import bfloat16_pays

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    network, _, configuration, _, state = nnunet_network(folder)
    network.load_state_dict(state)
    network = network.to(memory_format=torch.channels_last_3d).train()
    settings = {"batch_dice": True, "smooth": 1e-5, "do_bg": False, "ddp": False}
    loss = DC_and_CE_loss(settings, {}, dice_class=MemoryEfficientSoftDiceLoss)
    optimiser = torch.optim.AdamW(network.parameters(), lr=RATE)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    samples = training_samples(folder, tuple(configuration.patch_size))
    for step in range(steps):
        image, classes = next(samples)
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16_pays("cpu")):
            scores = network(torch.from_numpy(image))
        found = loss(scores.float(), torch.from_numpy(classes))
        optimiser.zero_grad()
        found.backward()
        optimiser.step()
        falling.step()
        if step % 25 == 0:
            print(f"{folder.name}: step {step}, loss {float(found.detach()):.3f}", file=sys.stderr, flush=True)
    checkpoint = folder / "fold_0" / "checkpoint_final.pth"
    content = torch.load(checkpoint, weights_only=True)
    content["network_weights"] = {k: v.contiguous() for k, v in network.state_dict().items()}
    torch.save(content, checkpoint)


def training_samples(folder: Path, patch: tuple[int, ...]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Random patches (1, 1, z, y, x) of phantoms, prepared as nnU-Net prepares scans, and their classes."""
    from ToothTopoSegLib.nnunet.importer import read_model
    from ToothTopoSegLib.nnunet.prepare import prepare
    from ToothTopoSegLib.phantom.write import make_small_phantom
    from ToothTopoSegLib.segmentation.classes import to_classes

    how, rng = read_model(folder).how, np.random.default_rng(0)
    made = [make_small_phantom(seed) for seed in TRAINING_SEEDS]
    cases = [(prepare(one.scan, how).image, to_classes(one.labels.array)) for one in made]
    while True:
        image, classes = cases[int(rng.integers(len(cases)))]
        corner = [int(rng.integers(n - p + 1)) for n, p in zip(image.shape, patch, strict=True)]
        tile = tuple(slice(a, a + p) for a, p in zip(corner, patch, strict=True))
        noisy = image[tile] * rng.uniform(0.9, 1.1) + rng.normal(0, 0.1, patch)
        yield noisy[None, None].astype(np.float32), classes[tile][None, None].astype(np.int64)


def plans_of(plan: Any) -> dict[str, Any]:
    """plans.json of a plan of ours."""
    resampling = {"is_seg": False, "order_z": 0, "force_separate_z": None}
    arguments = {
        "n_stages": len(plan.features),
        "features_per_stage": list(plan.features),
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": [[3, 3, 3]] * len(plan.features),
        "strides": [[s, s, s] for s in plan.strides],
        "n_conv_per_stage": list(plan.convs),
        "n_conv_per_stage_decoder": list(plan.convs_decoder),
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-05, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
    configuration = {
        "preprocessor_name": "DefaultPreprocessor",
        "patch_size": list(plan.patch),
        "spacing": [plan.spacing] * 3,
        "normalization_schemes": ["ZScoreNormalization"],
        "use_mask_for_norm": [False],
        **{f"resampling_fn_{what}": "resample_data_or_seg_to_shape" for what in ("data", "seg", "probabilities")},
        "resampling_fn_data_kwargs": resampling | {"order": 3},
        "resampling_fn_seg_kwargs": resampling | {"order": 1, "is_seg": True},
        "resampling_fn_probabilities_kwargs": resampling | {"order": 1},
        "architecture": {
            "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
            "arch_kwargs": arguments,
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
    }
    return {
        "dataset_name": "Dataset900_Bundled",
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "foreground_intensity_properties_per_channel": {"0": {}},
        "configurations": {"3d_fullres": configuration},
    }


def thick_scan(seed: int) -> Any:
    """A phantom on a grid of ``SPACING`` with a rim of zeros."""
    from ToothTopoSegLib.imaging.resample import resample_linear
    from ToothTopoSegLib.phantom.write import make_small_phantom

    scan = resample_linear(make_small_phantom(seed).scan, SPACING)
    array = np.rint(scan.array).astype(np.int16)
    for axis, margin in enumerate(RIM):
        np.moveaxis(array, axis, 0)[:margin] = 0
        np.moveaxis(array, axis, 0)[-margin:] = 0
    return scan.with_array(array)


def segment_by_us(work: Path, threads: int) -> tuple[np.ndarray, float]:
    """Labels and seconds of the imported model."""
    from ToothTopoSegLib.imaging.read import read_scan
    from ToothTopoSegLib.quantization.bundle import load_bundle
    from ToothTopoSegLib.segmentation.nnunet_way import preprocessing, segment_nnunet
    from ToothTopoSegLib.segmentation.runner import Runner

    bundle = load_bundle(work / "float.onnx")
    runner, scan = Runner(bundle, threads=threads), read_scan(work / "scan.nii.gz")
    began = time.perf_counter()
    labels = segment_nnunet(scan, preprocessing(bundle), runner.real_scores)
    return labels, time.perf_counter() - began


def segment_by_nnunet(work: Path, threads: int) -> tuple[np.ndarray, float]:
    """Labels and seconds of nnU-Net's own predictor."""
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    torch.set_num_threads(threads)
    network, manager, configuration, dataset, state = nnunet_network(work / "batch")
    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    predictor.manual_initialization(network, manager, configuration, [state], dataset, "nnUNetTrainerBN", None)
    image, properties = manager.image_reader_writer_class().read_images([str(work / "scan.nii.gz")])
    began = time.perf_counter()
    labels = predictor.predict_single_npy_array(image, properties)
    return labels, time.perf_counter() - began


def nnunet_network(folder: Path) -> tuple[Any, Any, Any, dict[str, Any], dict[str, Any]]:
    """nnU-Net's own network of a folder (without weights), plans, configuration, dataset and the weights."""
    import torch
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
    from nnunetv2.training.nnUNetTrainer.variants.network_architecture.nnUNetTrainerBN import nnUNetTrainerBN
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    manager = PlansManager(str(folder / "plans.json"))
    dataset = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    configuration = manager.get_configuration("3d_fullres")
    content = torch.load(folder / "fold_0" / "checkpoint_final.pth", weights_only=True)
    trainer = nnUNetTrainerBN if content["trainer_name"] == "nnUNetTrainerBN" else nnUNetTrainer
    network = trainer.build_network_architecture(manager, configuration, 1, len(dataset["labels"]), False)
    weights = content["network_weights"]
    # The first file of ours leaves out what nnU-Net writes twice.
    state = {name: weights.get(name, weights.get(unaliased(name), v)) for name, v in network.state_dict().items()}
    return network, manager, configuration, dataset, state


def unaliased(name: str) -> str:
    """The name of a weight without nnU-Net's aliases."""
    name = name.removeprefix("decoder.") if name.startswith("decoder.encoder.") else name
    return name.replace(".all_modules.0.", ".conv.").replace(".all_modules.1.", ".norm.")


def measured(work: Path, who: str, threads: int) -> dict[str, float]:
    """Seconds and peak memory in MB of one segmentation in a process of its own."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, __file__, "--threads", str(threads), "--run", who, str(work)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def mean_dice(found: np.ndarray, expected: np.ndarray) -> float:
    """Mean Dice over the labels but 0 that either map has."""
    labels = sorted((set(np.unique(found)) | set(np.unique(expected))) - {0})
    pairs = [(found == k, expected == k) for k in labels]
    return float(np.mean([2 * (a & b).sum() / (a.sum() + b.sum()) for a, b in pairs]))


def eight_bit_rows(work: Path, threads: int) -> list[str]:
    """Agreement of the 8-bit forms with their own float networks on phantoms, as rows of a table."""
    import SimpleITK

    from ToothTopoSegLib.nnunet.importer import NAMES, import_nnunet
    from ToothTopoSegLib.phantom.write import make_small_phantom
    from ToothTopoSegLib.quantization.bundle import load_bundle
    from ToothTopoSegLib.segmentation.nnunet_way import preprocessing, segment_nnunet
    from ToothTopoSegLib.segmentation.runner import Runner

    scans = []
    for seed in CALIBRATION_SEEDS:
        scans.append(work / f"calibration_{seed}.nii.gz")
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(make_small_phantom(seed).scan.array), str(scans[-1]))
    rows = []
    for norm, forms in (("batch", ("integer",)), ("instance", ("qdq", "integer"))):
        labels: dict[str, list[np.ndarray]] = {}
        for form in ("float", *forms):
            path = work / f"{norm}_{form}.onnx"
            import_nnunet(work / norm, path, scans if form == "integer" else (), precision=form)
            bundle = load_bundle(path)
            runner = Runner(bundle, threads=threads)
            labels[form] = [
                segment_nnunet(make_small_phantom(seed).scan, preprocessing(bundle), runner.real_scores)
                for seed in PHANTOM_SEEDS
            ]
        for form in forms:
            dice = [mean_dice(a, b) for a, b in zip(labels[form], labels["float"], strict=True)]
            on = f"{len(scans)} scans" if form == "integer" else "built-in phantoms"
            rows.append(f"| {norm} | {NAMES[form]} | {on} | {' / '.join(f'{d:.4f}' for d in dice)} |")
    return rows


def bench(threads: int, steps: int) -> str:
    """The page of evidence."""
    from ToothTopoSegLib.imaging.itk import image_from_volume, import_sitk
    from ToothTopoSegLib.nnunet.importer import import_nnunet

    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        write_model(work / "batch", batch_norm=True)
        write_model(work / "instance", batch_norm=False)
        train_further(work / "instance", steps, threads)
        scan = thick_scan(SCAN_SEED)
        import_sitk().WriteImage(image_from_volume(scan, scan.array), str(work / "scan.nii.gz"))
        report = import_nnunet(work / "batch", work / "float.onnx", precision="float")
        runs: dict[str, list[dict[str, float]]] = {"nnunet": [], "us": []}
        for who in ("nnunet", "us", "us", "nnunet"):
            runs[who].append(measured(work, who, threads))
        dice = mean_dice(np.load(work / "us.npy"), np.load(work / "nnunet.npy"))
        rows = eight_bit_rows(work, threads)
    return page(scan.array.shape, runs, dice, report["relative difference from nnU-Net"], rows, threads, steps)


def page(
    shape: tuple[int, ...],
    runs: dict[str, list[dict[str, float]]],
    dice: float,
    difference: float,
    rows: list[str],
    threads: int,
    steps: int,
) -> str:
    """The figures as Markdown."""
    from importlib.metadata import version

    best = {who: {key: min(run[key] for run in found) for key in found[0]} for who, found in runs.items()}
    lines = [
        f"| {name} | {best[who]['seconds']:.1f} | {best[who]['megabytes']:.0f} |"
        for who, name in (("nnunet", f"nnU-Net {version('nnunetv2')}"), ("us", "imported, float"))
    ]
    ratios = [best["us"][key] / best["nnunet"][key] for key in ("seconds", "megabytes")]
    table = "\n".join(rows)
    return f"""# Imported nnU-Net models beside nnU-Net

Written by `Testing/Benchmarks/bench_import.py`, whose first lines say what is measured and how. {threads} thread(s), no
mirroring, a scan of {" x ".join(map(str, shape))} voxels of {" x ".join(map(str, SPACING))} mm (z, y, x) with a rim of
zeros; the better of two runs each.

| | seconds | peak memory, MB |
|---|---|---|
{lines[0]}
{lines[1]}
| ratio | {ratios[0]:.2f} | {ratios[1]:.2f} |

Scores of the network on a random patch: largest difference {difference:.1e} of the largest score. Labels of the scan:
mean Dice {dice:.5f} over all labels that either found.

## What 8 bits cost

Labels of {len(PHANTOM_SEEDS)} phantoms, mean Dice against the float form of the same model. The weights are those of
the bundled model, which was taught other grey values than nnU-Net's; with instance norms they were trained further for
{steps} steps with nnU-Net's network and loss.

| norm | form | calibrated on | Dice |
|---|---|---|---|
{table}
"""


def run_one(who: str, work: Path, threads: int) -> None:
    """One segmentation; prints its seconds and the peak memory of this process."""
    from ToothTopoSegLib.topology.report import peak_rss_mb

    labels, seconds = (segment_by_us if who == "us" else segment_by_nnunet)(work, threads)
    np.save(work / f"{who}.npy", labels)
    print(json.dumps({"seconds": seconds, "megabytes": peak_rss_mb()}))


def main() -> None:
    """Measure, or run one of the processes that are measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--steps", type=int, default=800, help="steps of training (default: 800)")
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--run", nargs=2, metavar=("WHO", "FOLDER"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.run:
        run_one(args.run[0], Path(args.run[1]), args.threads)
        return
    text = bench(args.threads, args.steps)
    print(text)
    if args.output:
        args.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
