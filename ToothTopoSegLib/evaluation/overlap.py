"""Overlap of two label maps, tooth by tooth: Dice, IoU, FDI identification and detection of whole teeth.

In go a predicted and a reference label map on the same grid; out comes a dictionary of plain numbers that JSON
can carry. Only FDI numbers count as teeth; every other value (background, jaws 101 and 102) is "no tooth".
Dice as in L. R. Dice, Ecology 26 (1945); detection as in panoptic segmentation (Kirillov et al., CVPR 2019), that
is one-to-one matching of bodies by intersection over union, here without regard to their numbers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.anatomy import fdi
from ToothTopoSegLib.errors import InputError
from ToothTopoSegLib.imaging.volume import Volume

DETECTION_IOU = 0.5
ABSENCE = "a tooth absent in both maps is not counted; a tooth absent in one of them counts with Dice 0"
_GRID_TOLERANCE_VOXELS = 0.05
_SLICES_AT_ONCE = 16


def dice(a: NDArray[Any], b: NDArray[Any], value: int) -> float:
    """Dice coefficient 0..1 of the voxels equal to ``value`` in two arrays of one shape; nan if absent in both."""
    in_a, in_b = a == value, b == value
    total = int(in_a.sum()) + int(in_b.sum())
    return 2.0 * int((in_a & in_b).sum()) / total if total else float("nan")


def evaluate_label_maps(prediction: Volume, reference: Volume) -> dict[str, Any]:
    """All overlap figures of ``prediction`` against ``reference``, both FDI label maps (z, y, x) on one grid.

    Means and rates without anything to count are ``None``. Raises InputError if the grids differ or a map holds other
    values than whole numbers from 0.
    """
    require_comparable(prediction, reference)
    teeth = sorted(fdi.TEETH)
    counts = _joint_counts(prediction.array, reference.array, teeth)
    per_tooth = _tooth_rows(counts, teeth)
    scores = [row["dice"] for row in per_tooth]
    return {
        "teeth": per_tooth,
        "mean_tooth_dice": sum(scores) / len(scores) if scores else None,
        "mean_tooth_iou": sum(row["iou"] for row in per_tooth) / len(per_tooth) if per_tooth else None,
        "absence": ABSENCE,
        "fdi_identification_rate": _identification_rate(counts),
        "detection": _detection(counts),
        "tooth_vs_rest_dice": _binary_dice(counts),
    }


def evaluate_files(prediction: str | Path, reference: str | Path) -> dict[str, Any]:
    """:func:`evaluate_label_maps` of two label map files; InputError if one is unreadable or the grids differ."""
    from ToothTopoSegLib.imaging.read import read_label_map

    return evaluate_label_maps(read_label_map(Path(prediction)), read_label_map(Path(reference)))


def require_comparable(prediction: Volume, reference: Volume) -> None:
    """Raise InputError unless both hold whole numbers from 0 and their grids coincide to a fraction of a voxel."""
    for name, labels in (("prediction", prediction), ("reference", reference)):
        _require_labels(labels.array, name)
    shapes = prediction.array.shape, reference.array.shape
    if shapes[0] != shapes[1]:
        raise InputError(
            f"The prediction has {_size(prediction)} voxels and the reference {_size(reference)}, but both must lie "
            "on the same grid; resample one onto the other (nearest neighbour) and try again."
        )
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in shapes[0]], indexing="ij")).reshape(3, -1).T
    apart = np.abs(prediction.index_to_lps(corners) - reference.index_to_lps(corners)).max()
    if apart > _GRID_TOLERANCE_VOXELS * min(*prediction.spacing, *reference.spacing):
        raise InputError(
            f"Prediction and reference have the same size but lie up to {apart:.3g} mm apart (spacing, origin or "
            "direction differ), but both must lie on the same grid; resample one onto the other and try again."
        )


def _require_labels(array: NDArray[Any], name: str) -> None:
    if array.dtype.kind not in "iub":
        raise InputError(
            f"The {name} holds numbers of type {array.dtype}, but whole label numbers are expected; give the label map "
            "instead of a grey-value scan or probabilities."
        )
    if array.dtype.kind == "i" and array.size and int(array.min()) < 0:
        raise InputError(
            f"The {name} holds values down to {int(array.min())}, but labels from 0 are expected; check that it is the "
            "label map and not the scan."
        )


def _size(volume: Volume) -> str:
    """The grid's size as people write it: x times y times z."""
    return "x".join(str(n) for n in volume.array.shape[::-1])


def _joint_counts(prediction: NDArray[Any], reference: NDArray[Any], teeth: list[int]) -> NDArray[np.int64]:
    """How many voxels carry each pair [predicted, reference] of indices into (no tooth, *teeth)."""
    lookup = np.zeros(max(teeth) + 1, dtype=np.uint16)
    lookup[teeth] = np.arange(1, len(teeth) + 1)
    n = len(teeth) + 1
    counts = np.zeros(n * n, dtype=np.int64)
    # In slabs, so that memory stays small on a scan of any size.
    for z in range(0, prediction.shape[0], _SLICES_AT_ONCE):
        rows = _indices(prediction[z : z + _SLICES_AT_ONCE], lookup) * n
        columns = _indices(reference[z : z + _SLICES_AT_ONCE], lookup)
        counts += np.bincount((rows + columns).ravel(), minlength=n * n)
    return counts.reshape(n, n)


def _indices(labels: NDArray[Any], lookup: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Labels as indices into (no tooth, *teeth); values that are no FDI number become 0."""
    known = (labels >= 0) & (labels < len(lookup))
    return lookup[np.where(known, labels, 0).astype(np.intp)]


def _tooth_rows(counts: NDArray[np.int64], teeth: list[int]) -> list[dict[str, Any]]:
    """One row per tooth that is in either map."""
    predicted, expected, both = counts.sum(axis=1), counts.sum(axis=0), counts.diagonal()
    return [
        {
            "fdi": tooth,
            "in_prediction": bool(predicted[i]),
            "in_reference": bool(expected[i]),
            "dice": 2.0 * int(both[i]) / int(predicted[i] + expected[i]),
            "iou": int(both[i]) / int(predicted[i] + expected[i] - both[i]),
        }
        for i, tooth in enumerate(teeth, start=1)
        if predicted[i] + expected[i]
    ]


def _identification_rate(counts: NDArray[np.int64]) -> float | None:
    """Share of reference teeth whose best-overlapping predicted tooth bears their number."""
    tooth_by_tooth = counts[1:, 1:]
    present = np.flatnonzero(counts[:, 1:].sum(axis=0))
    if not len(present):
        return None
    best = tooth_by_tooth[:, present].argmax(axis=0)
    found = tooth_by_tooth[best, present] > 0
    return float(((best == present) & found).mean())


def _detection(counts: NDArray[np.int64]) -> dict[str, Any]:
    """Precision, recall, F1 and TP-Dice of bodies matched one to one at IoU >= 0.5, whatever their numbers."""
    tooth_by_tooth = counts[1:, 1:].astype(float)
    predicted, expected = counts[1:].sum(axis=1), counts[:, 1:].sum(axis=0)
    union = predicted[:, None] + expected[None] - tooth_by_tooth
    iou = tooth_by_tooth / np.maximum(union, 1)
    pairs = _one_to_one(iou)
    hits = len(pairs)
    # Dice and IoU of one pair follow from each other.
    scores = [2 * iou[pair] / (1 + iou[pair]) for pair in pairs]
    n_predicted, n_expected = int((predicted > 0).sum()), int((expected > 0).sum())
    return {
        "iou_threshold": DETECTION_IOU,
        "numbers": "ignored",
        "true_positives": hits,
        "false_positives": n_predicted - hits,
        "false_negatives": n_expected - hits,
        "precision": hits / n_predicted if n_predicted else None,
        "recall": hits / n_expected if n_expected else None,
        "f1": 2 * hits / (n_predicted + n_expected) if n_predicted + n_expected else None,
        "tp_dice": float(np.mean(scores)) if scores else None,
    }


def _one_to_one(iou: NDArray[np.float64]) -> list[tuple[int, int]]:
    """The matched pairs; greedy is exact above 0.5, and only ties at exactly 0.5 need the one-to-one rule."""
    pairs = np.argwhere(iou >= DETECTION_IOU)
    matched: dict[int, int] = {}
    for row, column in pairs[np.argsort(-iou[tuple(pairs.T)], kind="stable")].tolist():
        if row not in matched and column not in matched.values():
            matched[row] = column
    return list(matched.items())


def _binary_dice(counts: NDArray[np.int64]) -> float | None:
    """Dice of "any tooth" against "any tooth"."""
    total = int(counts[1:].sum() + counts[:, 1:].sum())
    return 2.0 * int(counts[1:, 1:].sum()) / total if total else None
