"""A configuration is one that the exported graph can hold, or none."""

from __future__ import annotations

import pytest

from ToothTopoSegLib.errors import UsageError
from ToothTopoSegLib.quantization.config import QuantConfig


def test_the_defaults_are_those_of_the_bundled_model() -> None:
    found = QuantConfig().as_dict()
    assert {k: found[k] for k in ("weight_bits", "activation_bits", "percentile")} == {
        "weight_bits": 7,
        "activation_bits": 8,
        "percentile": 99.99,
    }
    assert found["observer"] == "percentile" and found["weight_observer"] == "minmax"
    assert found["weights_per_channel"] and not found["learned_ranges"]


@pytest.mark.parametrize(
    "values, message",
    [
        ({"weight_bits": 9}, "Weights of 9 bits"),
        ({"weight_bits": 1}, "Weights of 1 bits"),
        ({"activation_bits": 4}, "Activations of 4 bits"),
        ({"activation_bits": 16}, "Activations of 16 bits"),
        ({"symmetric_weights": False}, "Asymmetric weights"),
        ({"activations_per_channel": True}, "Activations per channel"),
        ({"percentile": 50.0}, "percentile 50 leaves no range"),
        ({"percentile": float("nan")}, "percentile nan leaves no range"),
        ({"observer": "entropy"}, "no observer 'entropy'; use one of minmax, percentile, mse"),
        ({"weight_observer": "percentile"}, "no weight observer 'percentile'; use one of minmax, mse"),
    ],
)
def test_what_the_graph_cannot_hold_is_refused_in_one_sentence(values: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        QuantConfig(**values)
    assert "\n" not in str(caught.value) and "use" in str(caught.value)
