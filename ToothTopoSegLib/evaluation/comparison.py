"""Models side by side on held-out hard scans: what each says of every tooth, raw and after the usual tidying up.

In: bundles and seeds. Out: plain rows, one for each model, scan and treatment, which
:mod:`ToothTopoSegLib.training.experiment_table` sums up. Scans show both jaws in one tile of the network, so that
hundreds of pairs of model and scan can be measured. *Raw* is the best class of the blended scores, without the
decisions on whole teeth that :mod:`ToothTopoSegLib.segmentation.pipeline` takes after the network and that would hide
how models differ; *tidied* is what people do to such a result: keep the largest piece of each tooth, fill its voids.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from ToothTopoSegLib.imaging.volume import Volume
from ToothTopoSegLib.topology.betti import tooth_topology, voids

if TYPE_CHECKING:
    from ToothTopoSegLib.phantom.write import Phantom
    from ToothTopoSegLib.quantization.bundle import Bundle
    from ToothTopoSegLib.segmentation.runner import Runner

Row = dict[str, Any]
TREATMENTS = ("raw", "tidied")
MEASURES = (
    "dice",
    "tp_dice",
    "f1",
    "hd95_mm",
    "b0_error",
    "b1_error",
    "b2_error",
    "teeth_wrong",
    "scan_wrong",
    "forbidden_contacts",
)
"""Of all teeth in either map; those of Betti numbers exist for both connectivities, with ``_6`` for 6/26."""
HELD_OUT_SEED = 7000
"""The first seed of the scans; no training and no development uses seeds from here to 7999."""


def held_out_scan(seed: int, bundle: Bundle) -> Phantom:
    """The hard scan of a seed that fills one tile of a bundle's network."""
    from ToothTopoSegLib.phantom.write import make_hard_view

    z, y, x = (n * bundle.spacing for n in bundle.patch)
    return make_hard_view(seed, (z, y, x))


def raw_labels(scan: Volume, bundle: Bundle, runner: Runner) -> Volume:
    """Label map on the grid of a scan no larger than a dentition: the best class of the network's blended scores."""
    from ToothTopoSegLib.imaging.canonical import from_canonical, to_canonical
    from ToothTopoSegLib.imaging.resample import resample_linear
    from ToothTopoSegLib.segmentation.classes import MIRRORED, class_to_label
    from ToothTopoSegLib.segmentation.normalise import grey_scale
    from ToothTopoSegLib.segmentation.regrid import labels_on_grid
    from ToothTopoSegLib.segmentation.tiling import blend

    canonical = to_canonical(scan)
    work = resample_linear(canonical, (bundle.spacing,) * 3)
    scores = blend(grey_scale(work.array).apply(work.array), bundle.patch, runner, MIRRORED)
    return from_canonical(labels_on_grid(scores, work, canonical, class_to_label()), scan)


def tidied(labels: Volume) -> Volume:
    """The largest piece of each tooth with its voids filled; what lies in a void of another label stays."""
    out = labels.array.copy()
    teeth = tooth_topology(labels.array)
    for body in (body for tooth in teeth.values() for body in tooth.bodies[1:]):
        out[body.box][body.mask] = 0
    for fdi, tooth in teeth.items():
        for void in voids(tooth.bodies[0]):
            inside = out[void.box]
            inside[void.mask & (inside == 0)] = fdi
    return labels.with_array(out)


def compare(model: str, seed: int, bundle: Bundle, runner: Runner, scans: Iterable[tuple[int, Phantom]]) -> list[Row]:
    """The rows of one model (of training seed ``seed``) on scans, each given with its own seed."""
    rows = []
    for number, scan in scans:
        raw = raw_labels(scan.scan, bundle, runner)
        for treatment, labels in zip(TREATMENTS, (raw, tidied(raw)), strict=True):
            rows.append({"model": model, "seed": seed, "scan": number, "treatment": treatment})
            rows[-1] |= measures(labels, scan.labels)
    return rows


def measures(labels: Volume, truth: Volume) -> Row:
    """:data:`MEASURES` of a label map against the truth; None where there is nothing to measure."""
    from ToothTopoSegLib.evaluation.evaluate import evaluate_label_maps
    from ToothTopoSegLib.evaluation.topology_metrics import topology_errors

    found = evaluate_label_maps(labels, truth)
    row = {
        "dice": found["mean_tooth_dice"],
        "tp_dice": found["detection"]["tp_dice"],
        "f1": found["detection"]["f1"],
        "hd95_mm": found["surface"]["mean_hd95_mm"],
        "forbidden_contacts": found["contacts"]["forbidden"],
    }
    row |= _betti_measures([tooth["b0_error"], tooth["b1_error"], tooth["b2_error"]] for tooth in found["teeth"])
    mine, true = (tooth_topology(volume.array, 6) for volume in (labels, truth))
    other = _betti_measures(error.betti_errors for error in topology_errors(mine, true, 6).values())
    return row | {f"{name}_6": value for name, value in other.items()}


def _betti_measures(errors: Iterable[Iterable[int]]) -> Row:
    teeth = np.array([list(error) for error in errors], dtype=float).reshape(-1, 3)
    if len(teeth) == 0:
        return {"b0_error": None, "b1_error": None, "b2_error": None, "teeth_wrong": None, "scan_wrong": False}
    wrong = teeth.any(axis=1)
    b0, b1, b2 = teeth.mean(axis=0).tolist()
    means = {"b0_error": b0, "b1_error": b1, "b2_error": b2}
    return {**means, "teeth_wrong": float(wrong.mean()), "scan_wrong": bool(wrong.any())}
