"""What the plans.json and dataset.json of a trained nnU-Net v2 model say, as values.

In: the two files as dictionaries. Out: one configuration (patch, spacing, normalisation, resampling, architecture) and
the labels of the model, checked. Both forms of plans are read: the old one with ``UNet_class_name`` and the new one
with ``architecture``; ``inherits_from`` is resolved. Axes are nnU-Net's after its transposition. Source of the
definitions: nnU-Net 2.8 (Isensee et al., Nature Methods 2021). Nothing here needs torch: segmentation reads a
:class:`Preprocessing` from the card of an imported model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ToothTopoSegLib.errors import ModelError

Size3 = tuple[int, int, int]
NORMALISATIONS = (
    "CTNormalization",
    "ZScoreNormalization",
    "NoNormalization",
    "RescaleTo01Normalization",
    "RGBTo01Normalization",
)
RESAMPLING = "resample_data_or_seg_to_shape"
ARCHITECTURES = ("PlainConvUNet", "ResidualEncoderUNet")


@dataclass(frozen=True)
class Resampling:
    """Spline orders in the plane and along the axis of thick slices, and when that axis is taken by itself."""

    order: int
    order_z: int
    separate_z: bool | None = None
    anisotropy: float = 3.0


@dataclass(frozen=True)
class Preprocessing:
    """How nnU-Net turns a scan into the network's input and the network's output into labels.

    ``patch`` in voxels and ``spacing`` in mm are along the axes after ``transpose``; ``intensity`` holds the mean, the
    standard deviation and the 0.5 and 99.5 percentiles of the training data's foreground; ``mirror_axes`` are axes of
    the patch; ``regions`` lists the label that each region writes, in that order, and is None for a model of labels;
    ``reorient`` says that its scans were turned to axes along R, A, S before anything else.
    """

    patch: Size3
    spacing: tuple[float, float, float]
    transpose: Size3
    normalisation: str
    use_mask: bool
    intensity: dict[str, float]
    image: Resampling
    scores: Resampling
    mirror_axes: tuple[int, ...]
    regions: tuple[int, ...] | None
    reorient: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> Preprocessing:
        """What :meth:`as_dict` wrote; TypeError or KeyError for anything else."""
        given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        given |= {key: Resampling(**given[key]) for key in ("image", "scores")}
        return Preprocessing(**given)


@dataclass(frozen=True)
class Labels:
    """The labels of a model: value by name; for a model of regions the values that each one joins.

    ``heads`` is how many scores a voxel gets, ``order`` the label that each region writes.
    """

    values: dict[str, tuple[int, ...]]
    order: tuple[int, ...] | None

    @property
    def heads(self) -> int:
        """How many scores a voxel gets."""
        return len(self.written) if self.order is not None else 1 + len(self.written)

    @property
    def written(self) -> dict[int, str]:
        """The label values but 0 that can stand in a result, and their names."""
        if self.order is None:
            return {value[0]: name for name, value in self.values.items() if value[0]}
        names = [name for name, value in self.values.items() if set(value) != {0}]
        return dict(zip(self.order, names, strict=True))


@dataclass(frozen=True)
class Architecture:
    """A network class by its name without the module, and the arguments of the plan."""

    name: str
    arguments: dict[str, Any] = field(hash=False)


def resolved_configuration(plans: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A configuration with all it inherits; ModelError when it or a parent is missing, or inherits from itself."""
    configurations = _of_kind(plans, "configurations", dict)
    chain: list[dict[str, Any]] = []
    seen: list[str] = []
    following: Any = name
    while following is not None:
        if following in seen:
            raise ModelError(f"The configuration {name!r} of plans.json inherits from itself; get the model again.")
        if not isinstance(configurations.get(following), dict):
            known = ", ".join(sorted(map(str, configurations))) or "none"
            raise ModelError(f"plans.json has no configuration {following!r} (it has {known}); choose one of these.")
        seen.append(following)
        chain.append(configurations[following])
        following = chain[-1].get("inherits_from")
    merged: dict[str, Any] = {}
    for values in reversed(chain):
        merged |= values
    return merged


def chosen_configuration(plans: Mapping[str, Any], wanted: str | None, trained: str) -> dict[str, Any]:
    """The configuration to import: ``wanted``, which must be the one that was ``trained``, or that one.

    Raises ModelError for a 2D configuration and for the second stage of a cascade.
    """
    if wanted is not None and wanted != trained:
        raise ModelError(f"The model was trained as {trained!r}, not {wanted!r}; leave --configuration out.")
    found = resolved_configuration(plans, trained)
    if len(_of_kind(found, "patch_size", list)) != 3:
        raise ModelError(f"The configuration {trained!r} is two-dimensional; import a 3D one, such as 3d_fullres.")
    if found.get("previous_stage"):
        raise ModelError(
            f"The configuration {trained!r} is the second stage of a cascade and needs the result of "
            f"{found['previous_stage']!r}, which cannot be run before it here; import 3d_fullres or 3d_lowres."
        )
    return found


def architecture_of(configuration: Mapping[str, Any]) -> Architecture:
    """The network of a configuration, in either form of plans; ModelError for a class that is not supported."""
    if "architecture" in configuration:
        new = _of_kind(configuration, "architecture", dict)
        name = str(new.get("network_class_name", "")).rpartition(".")[2]
        arguments = _of_kind(new, "arch_kwargs", dict)
    else:
        name, arguments = str(configuration.get("UNet_class_name")), {}
    if name not in ARCHITECTURES:
        raise ModelError(f"The network is a {name}; only {' and '.join(ARCHITECTURES)} can be imported.")
    return Architecture(name, dict(arguments) or _old_arguments(configuration, name))


def _old_arguments(configuration: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The arguments that the old form of plans only implies."""
    convs = _of_kind(configuration, "n_conv_per_stage_encoder", list)
    base, most = (_of_kind(configuration, key, int) for key in ("UNet_base_num_features", "unet_max_num_features"))
    return {
        "n_stages": len(convs),
        "features_per_stage": [min(base * 2**stage, most) for stage in range(len(convs))],
        "kernel_sizes": _of_kind(configuration, "conv_kernel_sizes", list),
        "strides": _of_kind(configuration, "pool_op_kernel_sizes", list),
        ("n_conv_per_stage" if name == "PlainConvUNet" else "n_blocks_per_stage"): convs,
        "n_conv_per_stage_decoder": _of_kind(configuration, "n_conv_per_stage_decoder", list),
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }


def labels_of(dataset: Mapping[str, Any]) -> Labels:
    """The labels of dataset.json; ModelError when there is no background or regions have no order."""
    named = _of_kind(dataset, "labels", dict)
    if named.get("background") != 0:
        raise ModelError("dataset.json has no label 'background' of value 0, which nnU-Net asks for; correct the file.")
    try:
        values = {
            str(name): tuple(int(v) for v in (value if isinstance(value, list | tuple) else [value]))
            for name, value in named.items()
            if name != "ignore"
        }
    except (TypeError, ValueError) as error:
        raise ModelError("dataset.json has labels that are no whole numbers; correct the file.") from error
    if all(len(value) == 1 for value in values.values()):
        if sorted(v for (v,) in values.values()) != list(range(len(values))):
            raise ModelError("The labels of dataset.json are not numbered 0, 1, 2, ... as nnU-Net asks; get it again.")
        return Labels(values, None)
    order, regions = dataset.get("regions_class_order"), [v for v in values.values() if set(v) != {0}]
    if not isinstance(order, list) or len(order) != len(regions):
        raise ModelError("dataset.json has regions but no fitting regions_class_order; get the file again.")
    return Labels(values, tuple(int(v) for v in order))


def check_channels(dataset: Mapping[str, Any]) -> None:
    """ModelError unless the model takes scans of one channel."""
    channels = dataset.get("channel_names", dataset.get("modality"))
    if not isinstance(channels, Mapping) or len(channels) != 1:
        count = len(channels) if isinstance(channels, Mapping) else "no"
        raise ModelError(f"The model takes {count} channels; only models of one (a CT or CBCT) can be imported.")


def preprocessing_of(
    plans: Mapping[str, Any], configuration: Mapping[str, Any], labels: Labels, mirror_axes: tuple[int, ...]
) -> Preprocessing:
    """How scans of a configuration are prepared; ModelError for ways that are not supported, by name."""
    normalisation = _of_kind(configuration, "normalization_schemes", list)[0]
    if normalisation not in NORMALISATIONS:
        raise ModelError(f"The normalisation {normalisation} is not known; known are {', '.join(NORMALISATIONS)}.")
    preprocessor = configuration.get("preprocessor_name", "DefaultPreprocessor")
    if preprocessor != "DefaultPreprocessor":
        raise ModelError(f"The model has the preprocessor {preprocessor}; only DefaultPreprocessor is known.")
    return Preprocessing(
        patch=_three(configuration, "patch_size", int),
        spacing=_three(configuration, "spacing", float),
        transpose=_three(plans, "transpose_forward", int),
        normalisation=normalisation,
        use_mask=bool(_of_kind(configuration, "use_mask_for_norm", list)[0]),
        intensity=_intensity(plans, normalisation),
        image=_resampling(configuration, "data", range(6)),
        scores=_resampling(configuration, "probabilities", range(2)),
        mirror_axes=mirror_axes,
        regions=labels.order,
        reorient="WithReorient" in str(plans.get("image_reader_writer")),
    )


def _intensity(plans: Mapping[str, Any], normalisation: str) -> dict[str, float]:
    if normalisation != "CTNormalization":
        return {}
    key = "foreground_intensity_properties_per_channel"
    old = "foreground_intensity_properties_by_modality"
    try:
        found = plans[key if key in plans else old]["0"]
        return {name: float(found[name]) for name in ("mean", "std", "percentile_00_5", "percentile_99_5")}
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"plans.json lacks {error}, which CTNormalization needs; get it again.") from error


def _resampling(configuration: Mapping[str, Any], what: str, orders: range) -> Resampling:
    function = configuration.get(f"resampling_fn_{what}", RESAMPLING)
    if function != RESAMPLING:
        raise ModelError(f"The model resamples {what} by {function}; only {RESAMPLING} is known.")
    given = configuration.get(f"resampling_fn_{what}_kwargs", {})
    found = Resampling(
        int(given.get("order", 3)),
        int(given.get("order_z", 0)),
        given.get("force_separate_z", False),
        float(given.get("separate_z_anisotropy_threshold", 3.0)),
    )
    if found.order not in orders or found.order_z not in orders:
        raise ModelError(f"The model resamples {what} with order {found.order}; at most {orders[-1]} is known.")
    return found


def _three(values: Mapping[str, Any], key: str, kind: type) -> Any:
    found = _of_kind(values, key, list)
    if len(found) != 3:
        raise ModelError(f"plans.json has {len(found)} values of {key}, expected 3; get the model again.")
    return tuple(kind(v) for v in found)


def _of_kind(values: Mapping[str, Any], key: str, kind: type) -> Any:
    """The value of a key; ModelError when it is missing or of another kind."""
    found = values.get(key)
    if not isinstance(found, kind):
        raise ModelError(f"plans.json or dataset.json lacks a usable '{key}'; get the model's files again.")
    return found
