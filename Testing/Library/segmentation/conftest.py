"""Bundles of tiny networks with random weights, made once."""

from __future__ import annotations

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
