"""The configuration of a quantization as a value, apart from the code that applies it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class QuantConfig:
    """Signed weights per output channel, unsigned activations per tensor.

    Weights use 7 of their 8 bits by default: processors without VNNI add two u8 x s8 products in 16 bits with
    saturation, and only weights within +-64 keep that sum exact, so that every processor gives the same result.
    ``percentile`` is the share (in per cent) of activation values a range must cover; 100 means minimum and maximum.
    """

    weight_bits: int = 7
    activation_bits: int = 8
    percentile: float = 99.99

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
