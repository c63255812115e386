"""A tiny network and a bundle of it, made once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from Testing.Library.quantization.tiny import TINY, Tiny, smooth_patches, tiny_network, write_bundle
from ToothTopoSegLib.quantization.calibrate import Affine, calibrate
from ToothTopoSegLib.quantization.config import QuantConfig
from ToothTopoSegLib.quantization.onnx_graph import integer_model


@pytest.fixture(scope="session")
def tiny() -> Tiny:
    return tiny_network()


@pytest.fixture(scope="session")
def activations(tiny: Tiny) -> dict[str, Affine]:
    """Scales and zero points of the tiny network."""
    return calibrate(tiny.graph, smooth_patches(TINY), QuantConfig())


@pytest.fixture(scope="session")
def integer(tiny: Tiny, activations: dict[str, Affine]) -> bytes:
    """The tiny network as an integer ONNX model."""
    return integer_model(tiny.graph, activations, QuantConfig(), TINY.patch)


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory, tiny: Tiny) -> Path:
    """A complete bundle (integer model, card, float weights) of the tiny network."""
    return write_bundle(tmp_path_factory.mktemp("bundle"), tiny)


@pytest.fixture
def copied(tiny_bundle: Path, tmp_path: Path) -> Callable[[str], Path]:
    """``copied(name)`` puts a copy of the tiny bundle's model and card into a folder of its own under a name."""

    def copy(name: str = "model") -> Path:
        folder = tmp_path / "models ü"
        folder.mkdir(exist_ok=True)
        shutil.copy(tiny_bundle.with_suffix(".json"), folder / f"{name}.json")
        return Path(shutil.copy(tiny_bundle, folder / f"{name}.onnx"))

    return copy
