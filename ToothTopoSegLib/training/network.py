"""The network: an unchanged nnU-Net PlainConvUNet built by ``dynamic_network_architectures`` from a plan.

BatchNorm instead of InstanceNorm, as nnU-Net's own ``nnUNetTrainerBN`` does, because BatchNorm folds exactly into the
convolution before it. ``dynamic_network_architectures`` is nnU-Net's own package of architectures: what is built here
is what nnU-Net builds.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Plan:
    """What nnU-Net calls a configuration: patch (z, y, x), spacing in mm and the architecture's arguments."""

    patch: tuple[int, int, int] = (48, 80, 80)
    spacing: float = 1.0
    features: tuple[int, ...] = (16, 32, 64, 128, 256)
    convs: tuple[int, ...] = (1, 2, 3, 3, 3)
    convs_decoder: tuple[int, ...] = (1, 1, 1, 1)
    classes: int = 35

    @property
    def strides(self) -> tuple[int, ...]:
        """Stride of each stage."""
        return (1,) + (2,) * (len(self.features) - 1)

    def as_dict(self) -> dict[str, Any]:
        """The plan as plain JSON values."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @staticmethod
    def from_dict(values: dict[str, Any]) -> Plan:
        """The plan that :meth:`as_dict` wrote; TypeError for keys that no plan has."""
        arguments: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return Plan(**arguments)


def build_network(plan: Plan, deep_supervision: bool = True) -> nn.Module:
    """The PlainConvUNet of a plan: (b, 1, z, y, x) -> class scores (b, classes, z, y, x).

    With deep supervision the result is a list of scores, the finest resolution first.
    """
    from dynamic_network_architectures.architectures.unet import PlainConvUNet
    from torch import nn

    network: nn.Module = PlainConvUNet(
        input_channels=1,
        n_stages=len(plan.features),
        features_per_stage=list(plan.features),
        conv_op=nn.Conv3d,
        kernel_sizes=3,
        strides=list(plan.strides),
        n_conv_per_stage=list(plan.convs),
        num_classes=plan.classes,
        n_conv_per_stage_decoder=list(plan.convs_decoder),
        conv_bias=True,
        norm_op=nn.BatchNorm3d,
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
        deep_supervision=deep_supervision,
    )
    return network
