"""Trained nnU-Net v2 models as nnU-Net's own code writes them, tiny enough to train in seconds.

Plans in both forms, networks of ``nnunetv2``'s own builder and trainers, checkpoints with the keys (and the numpy
scalars) of its ``save_checkpoint``. The task is to tell the bright ball, the brighter core in it and the block from the
background, so that labels do not hang on rounding as they would with random weights.
"""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from pydoc import locate
from typing import Any

import numpy as np
import torch

from ToothTopoSegLib.imaging.volume import Volume

LABELS = {"background": 0, "11": 1, "21": 2, "pharynx": 3}
REGIONS = {"background": 0, "all": [1, 2, 3], "core": [2], "block": [3]}
HEADS = {"labels": 4, "regions": 3}


@dataclass(frozen=True)
class Variant:
    """What kind of model to make."""

    residual: bool = False
    batch_norm: bool = False
    low_resolution: bool = False
    anisotropic: bool = False
    regions: bool = False
    old_form: bool = False
    folds: tuple[str, ...] = ("0",)
    normalisation: str = "CTNormalization"
    use_mask: bool = False
    transpose: tuple[int, int, int] = (0, 1, 2)
    mirror: tuple[int, ...] | None = (0, 1, 2)
    changes: dict[str, Any] = field(default_factory=dict, hash=False)
    """Further entries of the configuration."""

    @property
    def configuration(self) -> str:
        return "3d_lowres" if self.low_resolution else "3d_fullres"

    @property
    def patch(self) -> tuple[int, int, int]:
        return (8, 24, 24) if self.anisotropic else (16, 16, 24)

    @property
    def spacing(self) -> tuple[float, float, float]:
        spacing = (3.2, 0.9, 0.9) if self.anisotropic else (1.0, 1.0, 1.0)
        return tuple(1.4 * s for s in spacing) if self.low_resolution else spacing


def plans_of(variant: Variant) -> dict[str, Any]:
    """plans.json of a variant; in the new form configurations inherit from a parent."""
    first = [1, 3, 3] if variant.anisotropic else [3, 3, 3]
    strides = [[1, 1, 1], [1, 2, 2] if variant.anisotropic else [2, 2, 2], [2, 2, 2]]
    common = {
        "data_identifier": "tiny",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "normalization_schemes": [variant.normalisation],
        "use_mask_for_norm": [variant.use_mask],
        "batch_dice": False,
        **{f"resampling_fn_{what}": "resample_data_or_seg_to_shape" for what in ("data", "seg", "probabilities")},
        "resampling_fn_data_kwargs": {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None},
        "resampling_fn_seg_kwargs": {"is_seg": True, "order": 1, "order_z": 0, "force_separate_z": None},
        "resampling_fn_probabilities_kwargs": {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None},
    }
    blocks = [1, 2, 1]
    old = {
        "UNet_class_name": "ResidualEncoderUNet" if variant.residual else "PlainConvUNet",
        "UNet_base_num_features": 4,
        "unet_max_num_features": 8,
        "n_conv_per_stage_encoder": blocks,
        "n_conv_per_stage_decoder": [1, 2],
        "num_pool_per_axis": [2, 2, 2],
        "pool_op_kernel_sizes": strides,
        "conv_kernel_sizes": [first, [3, 3, 3], [3, 3, 3]],
    }
    new = {
        "architecture": {
            "network_class_name": f"dynamic_network_architectures.architectures.unet.{old['UNet_class_name']}",
            "arch_kwargs": {
                "n_stages": 3,
                "features_per_stage": [4, 8, 8],
                "conv_op": "torch.nn.modules.conv.Conv3d",
                "kernel_sizes": old["conv_kernel_sizes"],
                "strides": strides,
                ("n_blocks_per_stage" if variant.residual else "n_conv_per_stage"): blocks,
                "n_conv_per_stage_decoder": [1, 2],
                "conv_bias": True,
                "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
                "norm_op_kwargs": {"eps": 1e-05, "affine": True},
                "dropout_op": None,
                "dropout_op_kwargs": None,
                "nonlin": "torch.nn.LeakyReLU",
                "nonlin_kwargs": {"inplace": True},
            },
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        }
    }
    own = {"patch_size": list(variant.patch), "spacing": list(variant.spacing), **variant.changes}
    if variant.old_form:
        configurations = {variant.configuration: {**common, **old, **own}}
    else:
        configurations = {"parent": {**common, **new}, variant.configuration: {"inherits_from": "parent", **own}}
    return {
        "dataset_name": "Dataset001_Tiny",
        "plans_name": "nnUNetPlans",
        "image_reader_writer": "SimpleITKIO",
        "label_manager": "LabelManager",
        "transpose_forward": list(variant.transpose),
        "transpose_backward": [int(i) for i in np.argsort(variant.transpose)],
        "configurations": configurations,
        "foreground_intensity_properties_per_channel": {
            "0": {"mean": 900.0, "std": 350.0, "percentile_00_5": -200.0, "percentile_99_5": 2000.0}
        },
    }


def dataset_of(variant: Variant) -> dict[str, Any]:
    """dataset.json of a variant."""
    dataset: dict[str, Any] = {"channel_names": {"0": "CT"}, "file_ending": ".nii.gz", "numTraining": 1}
    if variant.regions:
        return dataset | {"labels": REGIONS, "regions_class_order": [1, 2, 3]}
    return dataset | {"labels": LABELS}


def drawing(seed: int, shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> tuple[Volume, np.ndarray]:
    """A scan with zeros around it, and its labels: a ball (1), the core in it (2) and a block (3)."""
    rng = np.random.default_rng(seed)
    size = np.asarray(shape) * spacing
    grid = np.stack(np.meshgrid(*(np.linspace(0, 1, n) for n in shape), indexing="ij"))
    at = rng.uniform(0.35, 0.5, (3, 1, 1, 1))
    distance = np.sqrt((((grid - at) * size[:, None, None, None]) ** 2).sum(0))
    radius = 0.3 * size.min()
    labels = np.where(distance < radius, 1, 0) + (distance < 0.6 * radius)
    block = (np.abs(grid - 0.78) < 0.14).all(0)
    labels[block & (labels == 0)] = 3
    grey = np.asarray([100.0, 800.0, 1500.0, -150.0])[labels] + rng.normal(0, 30, shape)
    for axis, margin in enumerate((1, 3, 2)):  # nnU-Net crops what is zero
        np.moveaxis(grey, axis, 0)[:margin] = 0
        np.moveaxis(grey, axis, 0)[-margin:] = 0
    return Volume(np.rint(grey).astype(np.int16), spacing), labels


def nnunet_network(variant: Variant, deep_supervision: bool = False) -> torch.nn.Module:
    """The network as nnU-Net's trainer builds it from the plans."""
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
    from nnunetv2.training.nnUNetTrainer.variants.network_architecture.nnUNetTrainerBN import nnUNetTrainerBN
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    plans = PlansManager(deepcopy(plans_of(variant)))
    trainer = nnUNetTrainerBN if variant.batch_norm else nnUNetTrainer
    heads = HEADS["regions" if variant.regions else "labels"]
    return trainer.build_network_architecture(
        plans, plans.get_configuration(variant.configuration), 1, heads, enable_deep_supervision=deep_supervision
    )


def network_of(variant: Variant, deep_supervision: bool = False) -> torch.nn.Module:
    """The same network straight from nnU-Net's package of architectures, which takes seconds less to import."""
    plan = plans_of(replace(variant, old_form=False))["configurations"]["parent"]["architecture"]
    arguments = dict(plan["arch_kwargs"])
    if variant.batch_norm:
        arguments["norm_op"] = "torch.nn.modules.batchnorm.BatchNorm3d"
    arguments |= {key: locate(arguments[key]) for key in plan["_kw_requires_import"] if arguments[key]}
    heads = HEADS["regions" if variant.regions else "labels"]
    kind = locate(plan["network_class_name"])
    return kind(input_channels=1, num_classes=heads, deep_supervision=deep_supervision, **arguments)


def trained_state(variant: Variant, seed: int = 0, steps: int = 80) -> dict[str, torch.Tensor]:
    """Weights of a network that has learnt the drawings for some steps."""
    torch.manual_seed(seed)
    network = network_of(variant, deep_supervision=True)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for step in range(steps):
        image, target = training_patch(1000 * seed + step, variant)
        scores = network(image)[0]
        if variant.regions:
            wanted = torch.stack([target > 0, target == 2, target == 3], 1).float()
            rare = torch.tensor([3.0, 10.0, 10.0])[:, None, None, None]
            loss = torch.nn.functional.binary_cross_entropy_with_logits(scores, wanted, pos_weight=rare)
        else:
            rare = torch.tensor([1.0, 5.0, 10.0, 10.0])
            loss = torch.nn.functional.cross_entropy(scores, target, weight=rare)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.state_dict()


def training_patch(seed: int, variant: Variant) -> tuple[torch.Tensor, torch.Tensor]:
    """A patch (1, 1, z, y, x) at a random place of a drawing, and its labels (1, z, y, x)."""
    rng = np.random.default_rng(seed)
    shape = tuple(n * 3 // 2 for n in variant.patch)
    scan, labels = drawing(seed, shape, variant.spacing)
    corner = [int(rng.integers(0, n - p + 1)) for n, p in zip(shape, variant.patch, strict=True)]
    tile = tuple(slice(a, a + p) for a, p in zip(corner, variant.patch, strict=True))
    image = ((np.clip(scan.array[tile], -200, 2000) - 900) / 350).astype(np.float32)
    return torch.from_numpy(image)[None, None], torch.from_numpy(labels[tile])[None]


def checkpoint_of(variant: Variant, state: dict[str, torch.Tensor]) -> dict[str, Any]:
    """What nnU-Net's trainer saves."""
    return {
        "network_weights": state,
        "optimizer_state": {},
        "grad_scaler_state": None,
        "logging": {"mean_fg_dice": [np.float64(0.9)], "lrs": [np.float32(0.01)]},
        "_best_ema": np.float64(0.9),
        "current_epoch": 1,
        "init_args": {"plans": plans_of(variant), "configuration": variant.configuration, "fold": 0},
        "trainer_name": "nnUNetTrainerBN" if variant.batch_norm else "nnUNetTrainer",
        "inference_allowed_mirroring_axes": variant.mirror,
    }


def write_model(folder: Path, variant: Variant, steps: int = 80) -> Path:
    """The folder of a trained model."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plans.json").write_text(json.dumps(plans_of(variant)), encoding="utf-8")
    (folder / "dataset.json").write_text(json.dumps(dataset_of(variant)), encoding="utf-8")
    for seed, fold in enumerate(variant.folds):
        (folder / f"fold_{fold}").mkdir(exist_ok=True)
        torch.save(
            checkpoint_of(variant, trained_state(variant, seed, steps)),
            folder / f"fold_{fold}" / "checkpoint_final.pth",
        )
    return folder


def nnunet_labels(folder: Path, variant: Variant, scan: Volume) -> np.ndarray:
    """What nnU-Net's own predictor says of a scan, with all folds."""
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    plans, dataset = (json.loads((folder / f"{n}.json").read_text(encoding="utf-8")) for n in ("plans", "dataset"))
    manager = PlansManager(deepcopy(plans))
    states = [
        torch.load(folder / f"fold_{fold}" / "checkpoint_final.pth", weights_only=False)["network_weights"]
        for fold in variant.folds
    ]
    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    # The trainer's name is only looked up in the folder of trainers, not all of which can be imported everywhere.
    predictor.manual_initialization(
        nnunet_network(variant),
        manager,
        manager.get_configuration(variant.configuration),
        states,
        dataset,
        "nnUNetTrainer",
        variant.mirror,
    )
    image = scan.array[None].astype(np.float32)
    return predictor.predict_single_npy_array(image, {"spacing": list(scan.spacing)})
