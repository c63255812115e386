"""Bundles of tiny networks with random weights, made once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from Testing.Library.quantization.tiny import TINY, seeing_nothing, tiny_network, write_bundle
from Testing.Library.segmentation.stand_ins import touch
from ToothTopoSegLib.quantization.export import record_surface


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    """A folder of three scans in a path with a space and letters beyond ASCII."""
    folder = tmp_path / "Köpfe 歯"
    touch(folder, "a.nii.gz", "b.nrrd", "deep/c.mha")
    return folder


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete bundle (integer model, card, float weights) whose network sees teeth everywhere."""
    return write_bundle(tmp_path_factory.mktemp("bundle"), tiny_network())


@pytest.fixture(scope="session")
def blind_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete bundle whose network sees background everywhere."""
    return write_bundle(tmp_path_factory.mktemp("blind"), seeing_nothing(tiny_network()), "blind")


@pytest.fixture(scope="session")
def surfaced_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete bundle with a second network for the surfaces of teeth."""
    folder = tmp_path_factory.mktemp("surfaced")
    bundle = write_bundle(folder, tiny_network())
    surface = write_bundle(folder, tiny_network(replace(TINY, spacing=0.5, classes=3), seed=3), "tiny_surface")
    record_surface(bundle, surface)
    return bundle
