"""Tooth or not first, which tooth second.

In: blended class scores. Out: the same, with the scores of all teeth raised so that the best of them carries the
evidence for *any* tooth. Where the network is sure of a tooth but torn between two numbers, plain argmax would let
bone win against either of them; deciding in two steps keeps the tooth whole.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.segmentation.classes import TEETH


def gather_teeth(scores: NDArray[np.float32], scale: float) -> None:
    """Raise the tooth classes 1..32 of ``scores`` (classes, z, y, x) in place.

    Real scores are ``scale * scores`` up to a constant. Softmax sums probabilities, so that the evidence for any tooth
    is the log of the sum of exponentials of the tooth scores; its excess over their maximum is added to each.
    """
    teeth = scores[1 : len(TEETH) + 1]
    for level in range(teeth.shape[1]):  # slice by slice: exponentials of all classes at once would double the memory
        plane = teeth[:, level] * np.float32(scale)
        excess = np.log(np.exp(plane - plane.max(0)).sum(0))
        teeth[:, level] += excess / np.float32(scale)
