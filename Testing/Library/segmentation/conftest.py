"""Bundles of tiny networks with random weights, made once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from Testing.Library.quantization.tiny import seeing_nothing, tiny_network, write_bundle


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete bundle (integer model, card, float weights) whose network sees teeth everywhere."""
    return write_bundle(tmp_path_factory.mktemp("bundle"), tiny_network())


@pytest.fixture(scope="session")
def blind_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete bundle whose network sees background everywhere."""
    return write_bundle(tmp_path_factory.mktemp("blind"), seeing_nothing(tiny_network()), "blind")


@pytest.fixture
def copied(tiny_bundle: Path, tmp_path: Path) -> Callable[[str], Path]:
    """``copied(name)`` puts a copy of the tiny bundle's model and card into a folder of its own under a name."""

    def copy(name: str = "model") -> Path:
        folder = tmp_path / "models ü"
        folder.mkdir(exist_ok=True)
        shutil.copy(tiny_bundle.with_suffix(".json"), folder / f"{name}.json")
        return Path(shutil.copy(tiny_bundle, folder / f"{name}.onnx"))

    return copy
