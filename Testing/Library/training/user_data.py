"""Small cases as a user brings them, and a tiny model that can learn from them in seconds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from Testing.Library.quantization.tiny import TINY, seeing_nothing, tiny_network, write_bundle
from ToothTopoSegLib.imaging.itk import image_from_volume, import_sitk
from ToothTopoSegLib.imaging.resample import crop
from ToothTopoSegLib.imaging.volume import Volume
from ToothTopoSegLib.imaging.write import write_label_map
from ToothTopoSegLib.phantom.write import make_small_phantom
from ToothTopoSegLib.quantization.export import record_surface
from ToothTopoSegLib.segmentation.classes import CLASSES, LABELS, MIRRORED

Change = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
PLAN = replace(TINY, patch=(16, 32, 32))
LOW, HIGH = (16, 4, 4), (48, 52, 44)
"""The box of the small phantom that is kept: one side of both jaws."""


@lru_cache
def scan_and_labels(seed: int) -> tuple[Volume, Volume]:
    """One side of a small phantom and its labels."""
    phantom = make_small_phantom(seed)
    return crop(phantom.scan, LOW, HIGH), crop(phantom.labels, LOW, HIGH)


def write_scan(scan: Volume, path: Path) -> None:
    import_sitk().WriteImage(image_from_volume(scan), str(path), True)


def write_pair(
    folder: Path, name: str, seed: int = 0, change: Change = np.copy, ending: str = "_labels.nii.gz"
) -> None:
    """A scan ``name.nii.gz`` with labels beside it, which ``change`` may alter."""
    folder.mkdir(parents=True, exist_ok=True)
    scan, labels = scan_and_labels(seed)
    write_scan(scan, folder / f"{name}.nii.gz")
    write_label_map(labels.with_array(change(labels.array)), folder / f"{name}{ending}")


def other_side(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Labels in which left and right are exchanged."""
    table = np.zeros(256, np.uint8)
    table[list(LABELS)] = [LABELS[MIRRORED[index]] for index in range(CLASSES)]
    return table[labels]


def teeth_alone(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Labels without the jaws."""
    return np.where(labels > 100, 0, labels).astype(np.uint8)


def write_model(folder: Path) -> Path:
    """A bundle of a tiny network that finds nothing yet."""
    return write_bundle(folder, seeing_nothing(tiny_network(PLAN)))


def write_two_networks(folder: Path) -> Path:
    """The same with a second network, which draws the surfaces of teeth."""
    model = write_model(folder)
    surface = replace(PLAN, patch=(16, 16, 16), spacing=0.5, classes=3)
    record_surface(model, write_bundle(folder, tiny_network(surface, seed=3), "drawn"))
    return model
