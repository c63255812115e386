"""A labelled scan of the scene as files, for fine-tuning: a volume and its teeth on one grid.

In go a volume node and a segmentation node of any tool, out come two NRRD files, which keep the geometry exactly.
"""

from __future__ import annotations

import importlib
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import vtk

from ToothTopoSegGui import nodes
from ToothTopoSegGui.steps import Progress, Steps

if TYPE_CHECKING:
    from ToothTopoSegLib.imaging.volume import Volume


def write_case_steps(
    volume_node: Any, segmentation_node: Any, folder: Path, name: str
) -> Steps[tuple[str, str, tuple[str, ...]]]:
    """Write a volume and its teeth (FDI numbers, on the volume's grid) as ``<name>.nrrd`` and ``<name>_labels.nrrd``.

    Returns both paths and the notes on the teeth. Raises as ``nodes.volume_of`` and ``nodes.labels_of`` do, OutputError
    where the folder cannot be written.
    """
    yield _import_what_is_needed
    scan = yield from nodes.volume_steps(volume_node)
    view = yield from nodes.view_steps(segmentation_node, reference_volume_node=volume_node)
    return (yield partial(_write, scan, view, folder, name))


def _import_what_is_needed(progress: Progress) -> None:
    """The first time it takes longer than the main thread has."""
    for name in ("anatomy.schemes", "imaging.itk", "imaging.segments", "imaging.write"):
        importlib.import_module(f"ToothTopoSegLib.{name}")


def _write(
    scan: Volume, view: nodes.SegmentationView, folder: Path, name: str, progress: Progress
) -> tuple[str, str, tuple[str, ...]]:
    from ToothTopoSegLib.imaging.itk import image_from_volume, import_sitk
    from ToothTopoSegLib.imaging.write import output_folder, write_label_map

    teeth = nodes.teeth_of(view)
    progress(0.0, "")
    paths = [folder / f"{name}.nrrd", folder / f"{name}_labels.nrrd"]
    with output_folder(folder) as staging:
        import_sitk().WriteImage(image_from_volume(scan), str(staging / paths[0].name))
        write_label_map(teeth.labels, staging / paths[1].name)
        progress(1.0, "")  # where it was cancelled, nothing is left
    return str(paths[0]), str(paths[1]), teeth.notes


def stamp_of(volume_node: Any, segmentation_node: Any) -> tuple[Any, ...]:
    """What differs as soon as a volume or its segmentation has changed; () where one of them is gone."""
    if volume_node.GetScene() is None or segmentation_node.GetScene() is None:
        return ()
    image, matrix = volume_node.GetImageData(), vtk.vtkMatrix4x4()
    volume_node.GetIJKToRASMatrix(matrix)
    place = tuple(matrix.GetElement(row, column) for row in range(3) for column in range(4))
    return (image and image.GetMTime(), place, nodes.stamp_of(segmentation_node))
