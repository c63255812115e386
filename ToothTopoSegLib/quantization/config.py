"""The configuration of a quantization as a value, apart from the code that applies it.

A value of :class:`QuantConfig` is always one that the exported integer graph can hold; anything else is refused when
it is made, not after a training.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from ToothTopoSegLib.errors import UsageError

ACTIVATION_OBSERVERS = ("minmax", "percentile", "mse")
WEIGHT_OBSERVERS = ("minmax", "mse")


@dataclass(frozen=True)
class QuantConfig:
    """Signed weights per output channel, unsigned activations per tensor.

    Weights use 7 of their 8 bits by default: processors without VNNI add two u8 x s8 products in 16 bits with
    saturation, and only weights within +-64 keep that sum exact, so that every processor gives the same result.

    ``observer`` says how the range of an activation follows from its values: minimum and maximum, percentiles
    (``percentile`` per cent of the values must be covered; 100 means minimum and maximum), or the least mean squared
    error. ``weight_observer`` says the same of weights. With ``learned_ranges`` quantization-aware training starts
    from what the observers saw and learns scales and zero points (LSQ+, Bhalgat et al., CVPR workshops 2020). Symmetric
    activations have zero point 128.

    Raises UsageError for a combination that the exported graph cannot hold.
    """

    weight_bits: int = 7
    activation_bits: int = 8
    percentile: float = 99.99
    observer: str = "percentile"
    weight_observer: str = "minmax"
    symmetric_weights: bool = True
    symmetric_activations: bool = False
    weights_per_channel: bool = True
    activations_per_channel: bool = False
    learned_ranges: bool = False

    def __post_init__(self) -> None:
        for complaint in self._complaints():
            raise UsageError(complaint)

    def _complaints(self) -> Iterator[str]:
        if self.weight_bits not in range(2, 9):
            yield f"Weights of {self.weight_bits} bits were asked for, but the graph stores int8; use 2 to 8 bits."
        if self.activation_bits != 8:
            yield (
                f"Activations of {self.activation_bits} bits were asked for, but the graph's uint8 operators saturate "
                "at 255 alone; use 8 bits."
            )
        if not self.symmetric_weights:
            yield (
                "Asymmetric weights were asked for, but the fast integer convolutions take int8 weights with zero "
                "point 0; use symmetric weights."
            )
        if self.activations_per_channel:
            yield (
                "Activations per channel were asked for, but an integer convolution has one scale for its input; use "
                "activations per tensor."
            )
        if not 50 < self.percentile <= 100:
            yield f"The percentile {self.percentile:g} leaves no range; use a value above 50, up to 100."
        if self.observer not in ACTIVATION_OBSERVERS:
            yield f"There is no observer {self.observer!r}; use one of {', '.join(ACTIVATION_OBSERVERS)}."
        if self.weight_observer not in WEIGHT_OBSERVERS:
            yield f"There is no weight observer {self.weight_observer!r}; use one of {', '.join(WEIGHT_OBSERVERS)}."

    @property
    def weight_limit(self) -> int:
        """Largest magnitude of an integer weight."""
        return 2 ** (self.weight_bits - 1) - 1

    @property
    def activation_limit(self) -> int:
        """Largest integer activation."""
        return 2**self.activation_bits - 1

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)
