"""What the user chose in the panels, kept in the scene and saved with it."""

from enum import Enum
from typing import Annotated

import slicer
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper


class Device(Enum):
    """What the network runs on; the names are those of the engine."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"

    def label(self) -> str:
        """What the combo box shows."""
        return {"auto": _("Automatic"), "cpu": _("Processor"), "cuda": _("NVIDIA graphics card (CUDA)")}[self.value]


@parameterNodeWrapper
class ToothTopoSegParameterNode:
    """The choices of one scene.

    ``threads`` 0 means all; an empty ``modelPath`` means the bundled model; ``result`` is the last segmentation made.
    ``checkedSegmentation`` and ``checkedVolume`` are those of the panel Check. ``minutes`` is the budget of
    fine-tuning.
    """

    inputVolume: slicer.vtkMRMLScalarVolumeNode
    result: slicer.vtkMRMLSegmentationNode
    modelPath: str
    device: Device
    threads: Annotated[int, WithinRange(0, 256)] = 0
    jawsVisible: bool = True
    centre3D: bool = True
    checkedSegmentation: slicer.vtkMRMLSegmentationNode
    checkedVolume: slicer.vtkMRMLScalarVolumeNode
    casesFolder: str
    outputFolder: str
    minutes: Annotated[int, WithinRange(1, 10000)] = 60
    trainingDevice: Device
