"""Segmenting on nodes of the scene: the logic behind the Segment panel, and for scripts without it.

In go volume nodes, out come segmentation nodes; everything is computed by ToothTopoSegLib. No widget is needed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import slicer
from slicer.i18n import tr as _

if TYPE_CHECKING:
    from ToothTopoSegGui.job import Request
    from ToothTopoSegLib.segmentation.cost import Cost

PACE_SETTING = "ToothTopoSeg/Pace"
ALGORITHM = "ToothTopoSeg"  # as a DICOM segmentation names what made it


class SegmentLogic:
    """Segments volumes; a base of ToothTopoSegLogic."""

    def segment(
        self,
        volumeNode: Any,
        segmentationNode: Any = None,
        model: str | Path | None = None,
        device: str = "auto",
        threads: int | None = None,
        progress: Callable[[float, str], None] | None = None,
        jawsVisible: bool = True,
        closedSurface: bool = True,
    ) -> Any:
        """Segment a CBCT volume node and return the segmentation node; waits until it is done.

        The result goes into ``segmentationNode`` where one is given (what it held is replaced), else into a new node.
        ``model`` is an .onnx bundle (the bundled one unless given), ``device`` auto, cpu or cuda, ``threads`` processor
        threads (all unless given); ``progress`` is called with the fraction done and what is being done. Raises
        InputError for a volume that cannot be used or shows no teeth, ModelError for the model, UsageError for the
        device, PackageError where packages are missing; then the scene is as it was.
        """
        from ToothTopoSegGui import nodes, sharing

        volume = nodes.volume_of(volumeNode, copy=False)
        self.checkPackages()
        from ToothTopoSegLib.progress import silent
        from ToothTopoSegLib.quantization.bundle import load_bundle
        from ToothTopoSegLib.segmentation.pipeline import segment_volume
        from ToothTopoSegLib.segmentation.runner import Runner

        bundle = load_bundle(Path(model) if model else None)
        labels = segment_volume(volume, bundle, Runner(bundle, device, threads), progress or silent)
        made = nodes.show_teeth(
            labels, volumeNode, self.resultName(volumeNode), jaws_visible=jawsVisible, closed_surface=closedSurface
        )
        if segmentationNode is None:
            segmentationNode = made
        else:
            nodes.move_segmentation(made, segmentationNode)
            nodes.show_jaws(segmentationNode, jawsVisible)
        sharing.prepare_for_dicom(segmentationNode, algorithm_name=ALGORITHM)
        return segmentationNode

    def segmentRequest(
        self, volumeNode: Any, model: str | None = None, device: str = "auto", threads: int | None = None
    ) -> Request:
        """The same for a background job: what :class:`ToothTopoSegGui.job.Job` needs; raises like :meth:`segment`."""
        from ToothTopoSegGui import nodes
        from ToothTopoSegGui.job import Request
        from ToothTopoSegGui.worker import geometry_of
        from ToothTopoSegLib.quantization.bundle import load_bundle

        volume = nodes.volume_of(volumeNode, copy=False)
        if model:
            load_bundle(Path(model))
        arguments = {"model": model, "device": device, "threads": threads, "geometry": geometry_of(volume)}
        return Request("segment", arguments, {"volume": volume.array})

    def showResult(
        self,
        result: dict[str, Any],
        folder: Path,
        volumeNode: Any,
        jawsVisible: bool = True,
        name: str | None = None,
        segmentationNode: Any = None,
    ) -> Generator[float, None, Any]:
        """What a background job found as a segmentation node with closed surfaces, in steps of a tenth of a second.

        ``name`` is that of the node, made of the volume's unless given. The teeth go into ``segmentationNode`` where
        one is given that is in the scene (what it held is replaced at the last step), else into a new node.
        """
        name = name or self.resultName(volumeNode)
        return _readyForDicom(_steps(result, folder / "labels.npy", volumeNode, jawsVisible, name, segmentationNode))

    def showFirst(
        self, first: dict[str, Any], folder: Path, volumeNode: Any, jawsVisible: bool = True, name: str | None = None
    ) -> Generator[float, None, Any]:
        """The same of the first labels of a background job, in a new node that is named preliminary."""
        told = _("{name} (preliminary)").format(name=name or _resultName(volumeNode))
        return _steps(first, folder / "first.npy", volumeNode, jawsVisible, told)

    def expectedCost(self, volumeNode: Any, threads: int | None = None) -> Cost | None:
        """The time and memory that segmenting a volume node will take; None where it cannot be segmented."""
        from ToothTopoSegGui import nodes
        from ToothTopoSegLib.errors import InputError
        from ToothTopoSegLib.segmentation.cost import expected_cost

        try:
            volume = nodes.volume_of(volumeNode, copy=False)
        except InputError:
            return None
        pace = float(slicer.app.userSettings().value(PACE_SETTING) or 1.0)
        return expected_cost(volume.array.shape, volume.spacing, volume.array.dtype.itemsize, threads, pace)

    def learnPace(self, volumeNode: Any, threads: int | None, seconds: float) -> None:
        """Remember for the next estimate how long a run took on this computer."""
        cost = self.expectedCost(volumeNode, threads)
        if cost is not None:
            settings = slicer.app.userSettings()
            # Half way, because one run may have had to share the computer.
            pace = float(settings.value(PACE_SETTING) or 1.0) * math.sqrt(seconds / cost.seconds)
            settings.setValue(PACE_SETTING, str(round(min(max(pace, 0.05), 20.0), 3)))

    def resultName(self, volumeNode: Any) -> str:
        """The name of a new segmentation of a volume node."""
        return str(volumeNode.GetScene().GenerateUniqueName(_resultName(volumeNode)))

    def checkPackages(self) -> None:
        """PackageError, which names them, where packages are missing that segmenting needs."""
        from ToothTopoSegGui import packages

        needed = packages.missing()
        if needed:
            raise packages.PackageError(
                _("Python packages are missing: {names}. Call ToothTopoSegLogic().installPackages() once.").format(
                    names=", ".join(needed)
                )
            )

    def installPackages(self) -> None:
        """Install the Python packages that segmenting needs and that are missing; PackageError where that fails."""
        from ToothTopoSegGui import packages

        packages.install()

    def engineVersion(self) -> str:
        """The version of ToothTopoSegLib that this module would use."""
        import ToothTopoSegLib

        return ToothTopoSegLib.__version__

    def resourceFolder(self) -> str:
        """The folder of models, terminologies and colours that came with the extension."""
        from ToothTopoSegLib.resources import resource_folder

        return str(resource_folder())


def _resultName(volumeNode: Any) -> str:
    """The name before it is made unique, which the scene counts."""
    return _("{volume} teeth").format(volume=volumeNode.GetName())


def _steps(
    told: dict[str, Any], file: Path, volumeNode: Any, jawsVisible: bool, name: str, segmentationNode: Any = None
) -> Generator[float, None, Any]:
    """Steps that show the labels that a background job wrote into ``file`` and told the boxes of."""
    import numpy as np

    from ToothTopoSegGui import nodes

    labels = nodes.volume_of(volumeNode, copy=False).with_array(np.load(file))
    boxes = {int(label): tuple(slice(*axis) for axis in box) for label, box in told["boxes"].items()}
    looks = {"jaws_visible": jawsVisible, "closed_surface": True}
    return nodes.show_teeth_in_steps(labels, boxes, volumeNode, name, node=segmentationNode, **looks)


def _readyForDicom(steps: Generator[float, None, Any]) -> Generator[float, None, Any]:
    from ToothTopoSegGui import sharing

    segmentationNode = yield from steps
    sharing.prepare_for_dicom(segmentationNode, algorithm_name=ALGORITHM)
    return segmentationNode


def is_in_scene(node: Any) -> bool:
    """Whether a node is still in Slicer's scene."""
    return node is not None and node.GetScene() is slicer.mrmlScene
