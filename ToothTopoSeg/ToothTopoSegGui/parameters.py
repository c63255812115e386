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


class CaseSource(Enum):
    """Where the cases for fine-tuning are."""

    folder = "folder"
    scene = "scene"

    def label(self) -> str:
        """What the combo box shows."""
        return {"folder": _("A folder"), "scene": _("This scene")}[self.value]


@parameterNodeWrapper
class ToothTopoSegParameterNode:
    """The choices of one scene.

    ``threads`` 0 means all; an empty ``modelPath`` means the bundled model; ``result`` is the last segmentation made.
    ``checkedSegmentation`` and ``checkedVolume`` are those of the panel Check. The rest is for fine-tuning: each of
    ``trainingPairs`` is the IDs of a volume and its segmentation with a space between, ``minutes`` is the budget, an
    empty ``basePath`` means the bundled model, and the numbers from ``learningRate`` on are the engine's Choices.
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
    caseSource: CaseSource
    casesFolder: str
    trainingPairs: list[str]
    outputFolder: str
    modelName: str = "my_model"
    minutes: Annotated[int, WithinRange(1, 10000)] = 60
    trainingDevice: Device
    basePath: str
    learningRate: Annotated[float, WithinRange(0.000001, 0.1)] = 0.0002
    topologyWeight: Annotated[float, WithinRange(0.0, 10.0)] = 0.15
    heldOut: Annotated[float, WithinRange(0.05, 0.5)] = 0.2
    patience: Annotated[int, WithinRange(1, 1000)] = 3
    seed: Annotated[int, WithinRange(0, 999999)] = 0
    previewVolume: slicer.vtkMRMLScalarVolumeNode
