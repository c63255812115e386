"""The experiment: does it pay to calibrate a model anew on the scan at hand?

Two things can be measured on a scan before it is segmented: the ranges of the activations, which set the scales of the
integers, and the statistics of the norms, which folding freezes. In: a bundle with its float weights. Out: the mean
tooth Dice on scans unlike the training data (:mod:`ToothTopoSegLib.evaluation.odd_scans`) of the shipped integer model,
its float twin, the integer model with the scan's own ranges, and the float model with the scan's statistics.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.evaluation.odd_scans import ODD, odd
from ToothTopoSegLib.progress import Progress, silent

if TYPE_CHECKING:
    from ToothTopoSegLib.imaging.volume import Volume
    from ToothTopoSegLib.phantom.write import Phantom
    from ToothTopoSegLib.quantization.bundle import Bundle

SHARES = (0.1, 0.3, 1.0)
SEED = 6500
"""The first seed of the scans; no training uses seeds from here to 6999."""
COLUMNS = ("integer", "float", "integer, own ranges", *(f"float, {share:g} of own statistics" for share in SHARES))
TILES = 2


def run(count: int = 4, model: Path | None = None, progress: Progress = silent) -> dict[str, Any]:
    """Means over ``count`` held-out hard scans by kind of scan and column, and the page.

    Raises ModelError when the bundle has no float weights.
    """
    from ToothTopoSegLib.evaluation.comparison import held_out_scan
    from ToothTopoSegLib.quantization.bundle import load_bundle

    bundle = load_bundle(model)
    scans = [held_out_scan(SEED + i, bundle) for i in range(count)]
    found: dict[str, dict[str, float]] = {}
    for place, kind in enumerate(ODD):
        progress(place / len(ODD), f"scans of the kind {kind}")
        rows = [_measured(phantom, kind, bundle) for phantom in scans]
        found[kind] = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    progress(1.0, "done")
    return {"scans": count, "seed": SEED, "dice": found, "page": _page(bundle, count, found)}


def _measured(phantom: Phantom, kind: str, bundle: Bundle) -> dict[str, float]:
    from ToothTopoSegLib.evaluation.comparison import raw_labels
    from ToothTopoSegLib.evaluation.overlap import evaluate_label_maps
    from ToothTopoSegLib.segmentation.runner import Runner

    scan = phantom.scan.with_array(odd(phantom.scan.array, kind))
    row = {}
    for name, calibrated in zip(COLUMNS, _models(bundle, tiles_of(scan, bundle)), strict=True):
        labels = raw_labels(scan, calibrated, Runner(calibrated))
        row[name] = evaluate_label_maps(labels, phantom.labels)["mean_tooth_dice"]
    return row


def tiles_of(scan: Volume, bundle: Bundle, count: int = TILES) -> NDArray[np.float32]:
    """Normalised tiles (n, z, y, x) of a scan, at most ``count``, evenly chosen from those the network would see."""
    from ToothTopoSegLib.imaging.canonical import to_canonical
    from ToothTopoSegLib.imaging.resample import resample_linear
    from ToothTopoSegLib.segmentation.normalise import grey_scale
    from ToothTopoSegLib.segmentation.tiling import corners, padded

    work = resample_linear(to_canonical(scan), (bundle.spacing,) * 3)
    image, _ = padded(grey_scale(work.array).apply(work.array), bundle.patch)
    places = corners(image.shape, bundle.patch, 0.5)
    chosen = [places[i] for i in np.unique(np.linspace(0, len(places) - 1, count).astype(int))]
    cut = [tuple(slice(c, c + n) for c, n in zip(place, bundle.patch, strict=True)) for place in chosen]
    return np.stack([image[tile] for tile in cut]).astype(np.float32)


def _models(bundle: Bundle, tiles: NDArray[np.float32]) -> list[Bundle]:
    """The models of :data:`COLUMNS` for the tiles of a scan."""
    from ToothTopoSegLib.quantization.config import QuantConfig
    from ToothTopoSegLib.quantization.export import float_bundle, float_weights_path, quantized
    from ToothTopoSegLib.quantization.fold import fold, read_weights
    from ToothTopoSegLib.quantization.onnx_graph import float_model
    from ToothTopoSegLib.training.network import Plan
    from ToothTopoSegLib.training.scan_statistics import with_scan_statistics

    twin, plan = float_bundle(bundle), Plan.from_dict(bundle.card["plan"])
    weights = read_weights(float_weights_path(bundle.path))
    patches: Iterable[Any] = (tile[None, None] for tile in tiles)
    model, scores = quantized(fold(weights, plan), patches, plan, QuantConfig())
    mixed = [with_scan_statistics(weights, plan, tiles, share) for share in SHARES]
    of_floats = [replace(twin, model=float_model(fold(each, plan), plan.patch)) for each in mixed]
    return [bundle, twin, replace(bundle, model=model, card=bundle.card | {"scores": scores}), *of_floats]


def _page(bundle: Bundle, count: int, found: dict[str, dict[str, float]]) -> str:
    lines = [f"| scan | what was done | {' | '.join(COLUMNS)} |", "|" + " --- |" * (len(COLUMNS) + 2)]
    for kind, row in found.items():
        lines.append(f"| {kind} | {ODD[kind][0]} | {' | '.join(f'{row[name]:.3f}' for name in COLUMNS)} |")
    return f"""# Calibrating on the scan at hand

`./toothtopo experiment calibration`

Mean tooth Dice, raw, of {bundle.card["name"]} {bundle.card["version"]} on {count} hard phantoms from seed {SEED}, each
in {len(ODD)} kinds of grey values. *Own ranges*: activation ranges observed on the scan's own tiles instead of training
patches. *Own statistics*: so large a share of the norms' means and variances is that of the scan's own tiles. What is
better than its neighbour *integer* or *float* for scans unlike the training data would be worth its time.

{chr(10).join(lines)}
"""
