"""How good a model is on phantoms whose seeds were never trained on: ``./toothtopo bench --phantoms N``.

In: runners by name (integer model, float twin) and seeds. Out: mean tooth Dice, detection and topology per model, the
same phantoms for each, on the phantoms' own grids of 0.2 to 0.5 mm, before any repair.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ToothTopoSegLib.progress import Progress, silent

if TYPE_CHECKING:
    from ToothTopoSegLib.imaging.volume import Volume
    from ToothTopoSegLib.quantization.bundle import Bundle
    from ToothTopoSegLib.segmentation.runner import Runner

HELD_OUT_SEED = 100


def measure(
    bundle: Bundle,
    runners: Mapping[str, Runner],
    seeds: Iterable[int],
    hard: bool = False,
    setting: str = "plain",
    progress: Progress = silent,
) -> dict[str, Any]:
    """Mean measures per runner over the phantoms of ``seeds``, and each phantom's own.

    ``setting`` is one of :data:`ToothTopoSegLib.phantom.acquisition.SETTINGS`; UsageError for another.
    """
    from ToothTopoSegLib.evaluation.overlap import evaluate_label_maps
    from ToothTopoSegLib.phantom.write import make_phantom
    from ToothTopoSegLib.segmentation.pipeline import segment_volume

    seeds = list(seeds)
    rows: list[dict[str, Any]] = []
    for i, seed in enumerate(seeds):
        progress(i / len(seeds), f"phantom {i + 1} of {len(seeds)}")
        phantom = make_phantom(seed, hard, setting)
        row: dict[str, Any] = {"seed": seed, "view": phantom.made["view"], "spacing_mm": phantom.made["spacing_mm"]}
        for name, runner in runners.items():
            found = segment_volume(phantom.scan, bundle, runner)
            row[name] = _key_figures(evaluate_label_maps(found, phantom.labels))
            row[name]["teeth_wrong"] = _teeth_wrong(found, phantom.labels)
        rows.append(row)
    means = {name: {key: _mean([row[name][key] for row in rows]) for key in KEYS} for name in runners}
    return {"phantoms": len(rows), "setting": setting, "hard": hard, "seeds": seeds, "mean": means, "each": rows}


KEYS = ("tooth_dice", "any_tooth_dice", "identification", "f1", "teeth_wrong")


def _mean(values: list[float | None]) -> float | None:
    """The mean of those that could be measured, None without any."""
    there = [value for value in values if value is not None]
    return round(float(np.mean(there)), 4) if there else None


def _key_figures(metrics: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "tooth_dice": metrics["mean_tooth_dice"],
        "any_tooth_dice": metrics["tooth_vs_rest_dice"],
        "identification": metrics["fdi_identification_rate"],
        "f1": metrics["detection"]["f1"],
    }


def _teeth_wrong(found: Volume, truth: Volume) -> float | None:
    """Share of the teeth in either map whose Betti numbers differ; those of a tooth that is not there are 0, 0, 0."""
    from ToothTopoSegLib.topology.betti import tooth_topology

    mine, true = (
        {fdi: tooth.betti for fdi, tooth in tooth_topology(volume.array).items()} for volume in (found, truth)
    )
    teeth = mine.keys() | true.keys()
    return float(np.mean([mine.get(t, (0, 0, 0)) != true.get(t, (0, 0, 0)) for t in teeth])) if teeth else None
