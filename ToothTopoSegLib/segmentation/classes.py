"""The classes of the bundled network and their label values.

Class 0 is background, 1..32 are the permanent teeth in the order 11..18, 21..28, 31..38, 41..48, then the two jaws.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.anatomy.fdi import LOWER_JAW, UPPER_JAW, mirrored

TEETH = tuple(quadrant * 10 + position for quadrant in (1, 2, 3, 4) for position in range(1, 9))
LABELS = (0, *TEETH, LOWER_JAW, UPPER_JAW)
CLASSES = len(LABELS)
MIRRORED = (0, *(TEETH.index(mirrored(tooth)) + 1 for tooth in TEETH), CLASSES - 2, CLASSES - 1)
"""For each class the one that it is when left and right are exchanged."""


def class_to_label() -> NDArray[np.uint8]:
    """Look-up table from class index to label value (FDI, jaws, 0)."""
    return np.asarray(LABELS, dtype=np.uint8)


def label_to_class() -> NDArray[np.uint8]:
    """Look-up table (256) from label value to class index; unknown labels become background."""
    table = np.zeros(256, dtype=np.uint8)
    table[list(LABELS)] = np.arange(CLASSES)
    return table


def to_classes(labels: NDArray[Any]) -> NDArray[np.uint8]:
    """Class indices, uint8, of a label map of any shape."""
    return label_to_class()[labels]
