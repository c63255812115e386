"""Everything that says how good a label map is: overlap, detection, surfaces, topology and contacts, tooth by tooth.

In go a predicted and a reference label map on one grid, as Volumes or files; out comes one dictionary of plain JSON
values (schema ``toothtoposeg.metrics/1``) with a row a tooth, and a table of it for a person. The figures are defined
in :mod:`overlap`, :mod:`surface` and :mod:`topology_metrics`; how an absent tooth is counted stands in each group's
``absence``. Means, shares and rates without anything to count are None.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ToothTopoSegLib.anatomy import schemes
from ToothTopoSegLib.errors import InputError, UsageError
from ToothTopoSegLib.evaluation import overlap, surface, topology_metrics
from ToothTopoSegLib.evaluation.surface import NSD_TOLERANCE_MM
from ToothTopoSegLib.evaluation.topology_metrics import TopologyError
from ToothTopoSegLib.imaging.volume import Volume
from ToothTopoSegLib.progress import Progress, part, silent
from ToothTopoSegLib.topology.betti import ToothTopology, tooth_topology
from ToothTopoSegLib.topology.check import FileLabels, labels_in_file
from ToothTopoSegLib.topology.detect.contacts import forbidden_contacts
from ToothTopoSegLib.topology.report import peak_rss_mb

SCHEMA = "toothtoposeg.metrics/1"
SURFACE_ABSENCE = (
    "a tooth absent in both maps is not counted; a tooth absent in one of them has no HD95 and no ASSD, so that their "
    "means run over the teeth in both maps, and counts with NSD 0"
)
TOPOLOGY_ABSENCE = (
    "a tooth absent in both maps is not counted; a tooth absent in one of them has Betti numbers 0, 0, 0 there, so "
    "that a missed or invented tooth is an error; teeth_in_both counts only the teeth in both maps"
)
CONTACTS_ABSENCE = (
    "an absent tooth touches nothing; teeth beside a gap count as neighbours if the reference has no tooth in between"
)
_ERRORS = ("b0_error", "b1_error", "b2_error", "euler_error", "betti_matching_error")
Row = dict[str, Any]


def evaluate_label_maps(
    prediction: Volume,
    reference: Volume,
    tolerance_mm: float = NSD_TOLERANCE_MM,
    connectivity: int = 26,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Every metric of ``prediction`` against ``reference``, both FDI label maps (z, y, x) on one grid.

    Values that are no FDI number are no tooth. ``tolerance_mm`` is that of NSD, ``connectivity`` (26 or 6) that of the
    teeth in topology. Raises InputError if the grids differ or a map holds other values than whole numbers from 0.
    """
    progress(0.0, "Comparing the teeth")
    figures = overlap.evaluate_label_maps(prediction, reference)
    progress(0.3, "Measuring the teeth")
    mine, truth = (tooth_topology(labels, connectivity) for labels in (prediction.array, reference.array))
    progress(0.5, "Measuring the surfaces")
    distances = _distances(mine, truth, prediction, tolerance_mm)
    progress(0.7, "Comparing the topology")
    errors = topology_metrics.topology_errors(mine, truth, connectivity)
    rows = [row | _surface_row(row, distances) | _topology_row(errors[row["fdi"]]) for row in figures.pop("teeth")]
    progress(0.9, "Looking for contacts")
    contacts = _contacts(prediction, reference, mine, truth)
    progress(1.0, "Evaluated")
    return {
        "schema": SCHEMA,
        "teeth": rows,
        **figures,
        "surface": _surface_summary(rows, tolerance_mm),
        "topology": topology_summary([rows], connectivity),
        "contacts": contacts,
    }


def evaluate_files(
    prediction: str | Path,
    reference: str | Path,
    scheme: str | None = None,
    reference_scheme: str | None = None,
    tolerance_mm: float = NSD_TOLERANCE_MM,
    connectivity: int = 26,
    progress: Progress = silent,
) -> dict[str, Any]:
    """:func:`evaluate_label_maps` of two label map files, with what was read, the time and the memory it took.

    Values are FDI numbers unless a ``scheme`` is named; it holds for both files if none is named for the reference.
    A prediction without any label is a result (every tooth is missed), a reference without any is refused. Raises
    UsageError for an unknown scheme and InputError for a file that cannot be read or holds values its scheme does not
    know, and for files on different grids.
    """
    started = time.perf_counter()
    reference_scheme = reference_scheme or scheme
    _require_schemes(scheme, reference_scheme)
    progress(0.0, "Reading the labels")
    mine_in_file, mine = _read(Path(prediction), scheme, may_be_empty=True)
    try:
        truth_in_file, truth = _read(Path(reference), reference_scheme, may_be_empty=False)
    except InputError as error:
        raise InputError(str(error).replace("--scheme", "--reference-scheme")) from error
    mine, truth = mine_in_file.on_grid_of(mine, truth), truth_in_file.on_grid_of(truth, mine)
    read = time.perf_counter()
    metrics = evaluate_label_maps(mine, truth, tolerance_mm, connectivity, part(progress, 0.4, 1.0))
    done = time.perf_counter()
    return metrics | {
        "input": {
            "prediction": Path(prediction).name,
            "reference": Path(reference).name,
            "scheme": scheme or "fdi",
            "reference_scheme": reference_scheme or "fdi",
            "shape_zyx": list(truth.array.shape),
            "spacing_zyx_mm": [float(s) for s in truth.spacing],
        },
        "timing_s": {"read": round(read - started, 3), "evaluate": round(done - read, 3)},
        "peak_rss_mb": round(peak_rss_mb(), 1),
    }


def topology_summary(scans: Sequence[Sequence[Row]], connectivity: int = 26) -> dict[str, Any]:
    """Means and shares over the teeth of one or more scans, each given as the rows (``teeth``) of its evaluation."""
    teeth = [row for scan in scans for row in scan]
    in_both = [row for row in teeth if row["in_prediction"] and row["in_reference"]]
    return {
        "connectivity": connectivity,
        "error": "Betti numbers other than the reference's; unmatched: Betti-matching error above 0",
        "absence": TOPOLOGY_ABSENCE,
        "teeth": _topology_means(teeth),
        "teeth_in_both": _topology_means(in_both),
        "scans": {
            "counted": len(scans),
            "share_with_error": _mean(any(row["topological_error"] for row in scan) for scan in scans),
            "share_with_error_in_both": _mean(
                any(row["topological_error"] for row in scan if row["in_prediction"] and row["in_reference"])
                for scan in scans
            ),
        },
    }


def table(metrics: Mapping[str, Any]) -> str:
    """The metrics as text for a person: a line a tooth, then the means and what is particular."""
    lines = [_HEAD, *map(_line, metrics["teeth"]), *_means(metrics), *_contact_lines(metrics["contacts"])]
    lines += [f"absence    {name}: {text}" for name, text in _absences(metrics).items()]
    return "\n".join(lines)


def _require_schemes(*names: str | None) -> None:
    for name in names:
        if name is not None and name not in schemes.scheme_names():
            raise UsageError(f"There is no label scheme {name!r}; choose one of {', '.join(schemes.scheme_names())}.")


def _read(path: Path, scheme: str | None, may_be_empty: bool) -> tuple[FileLabels, Volume]:
    """What a label map file holds, and the same in FDI numbers (uint8)."""
    found = labels_in_file(path)
    if may_be_empty and not found.labels.array.any():
        return found, found.labels
    return found, found.in_fdi(scheme)


def _distances(
    mine: Mapping[int, ToothTopology], truth: Mapping[int, ToothTopology], grid: Volume, tolerance_mm: float
) -> dict[int, surface.SurfaceDistance]:
    """Surface distances of the teeth in both maps."""
    found = {}
    for tooth in sorted(mine.keys() & truth.keys()):
        first, second = (surface.surface_points(teeth[tooth].bodies, grid.spacing) for teeth in (mine, truth))
        distance = surface.point_distance(first, second, tolerance_mm)
        if distance is not None:
            found[tooth] = distance
    return found


def _surface_row(row: Row, distances: Mapping[int, surface.SurfaceDistance]) -> Row:
    found = distances.get(row["fdi"])
    if found is None:
        return {"hd95_mm": None, "assd_mm": None, "nsd": 0.0}
    return {"hd95_mm": found.hd95_mm, "assd_mm": found.assd_mm, "nsd": found.nsd}


def _topology_row(error: TopologyError) -> Row:
    b0, b1, b2 = error.betti_errors
    return {
        "betti_prediction": list(error.prediction),
        "betti_reference": list(error.reference),
        "b0_error": b0,
        "b1_error": b1,
        "b2_error": b2,
        "euler_error": error.euler_error,
        "betti_matching_error": error.betti_matching_error,
        "topological_error": any(error.betti_errors),
    }


def _surface_summary(rows: Sequence[Row], tolerance_mm: float) -> dict[str, Any]:
    return {
        "convention": surface.CONVENTION,
        "nsd_tolerance_mm": tolerance_mm,
        "absence": SURFACE_ABSENCE,
        "teeth_in_both": sum(row["hd95_mm"] is not None for row in rows),
        "mean_hd95_mm": _mean(row["hd95_mm"] for row in rows),
        "mean_assd_mm": _mean(row["assd_mm"] for row in rows),
        "mean_nsd": _mean(row["nsd"] for row in rows),
    }


def _topology_means(rows: Sequence[Row]) -> dict[str, Any]:
    means = {f"mean_{name}": _mean(row[name] for row in rows) for name in _ERRORS}
    return {
        "counted": len(rows),
        "share_with_error": _mean(row["topological_error"] for row in rows),
        "share_unmatched": _mean(row["betti_matching_error"] > 0 for row in rows),
        **means,
    }


def _contacts(
    prediction: Volume, reference: Volume, mine: Mapping[int, ToothTopology], truth: Mapping[int, ToothTopology]
) -> dict[str, Any]:
    present = truth.keys() if truth else mine.keys()
    ours = forbidden_contacts(prediction, mine, present)
    theirs = forbidden_contacts(reference, truth, present)
    new = [list(pair) for pair in ours if pair not in theirs]
    return {
        "definition": "pairs of teeth that share voxel faces and are neither arch neighbours, midline partners nor "
        "antagonists",
        "absence": CONTACTS_ABSENCE,
        "in_prediction": [list(pair) for pair in ours],
        "in_reference": [list(pair) for pair in theirs],
        "only_in_prediction": new,
        "forbidden": len(new),
    }


def _mean(values: Iterable[float | bool | None]) -> float | None:
    counted = [float(value) for value in values if value is not None]
    return float(np.mean(counted)) if counted else None


# --- the table ---------------------------------------------------------------------------------------------------

_HEAD = "tooth   Dice    IoU   HD95   ASSD    NSD   Betti, reference   error  Euler  unmatched"


def _line(row: Row) -> str:
    """One tooth: figures, Betti numbers as predicted and in the reference, and errors."""
    figures = " ".join(_number(row[name]) for name in ("dice", "iou", "hd95_mm", "assd_mm", "nsd"))
    betti = ", ".join(" ".join(map(str, row[name])) for name in ("betti_prediction", "betti_reference"))
    differences = " ".join(str(row[name]) for name in _ERRORS[:3])
    line = f"{row['fdi']:>5} {figures}   {betti:<16} {differences:>7} {row['euler_error']:>6} "
    line += f"{row['betti_matching_error']:>10}"
    if not row["in_prediction"]:
        return f"{line}  missed"
    return line if row["in_reference"] else f"{line}  not in the reference"


def _means(metrics: Mapping[str, Any]) -> list[str]:
    found, near, topology = metrics["detection"], metrics["surface"], metrics["topology"]
    cells = [metrics["mean_tooth_dice"], metrics["mean_tooth_iou"], near["mean_hd95_mm"], near["mean_assd_mm"]]
    rates = "  ".join(f"{name} {_number(found[name]).strip()}" for name in ("precision", "recall", "f1"))
    return [
        " ".join([" mean", *map(_number, [*cells, near["mean_nsd"]])]),
        f"units      HD95 and ASSD in mm; NSD within {near['nsd_tolerance_mm']:g} mm; Betti numbers as b0 b1 b2, "
        f"{topology['connectivity']}-connected",
        f"detection  {rates}  TP-Dice {_number(found['tp_dice']).strip()}  (IoU of {found['iou_threshold']:g} or more)",
        f"numbers    right FDI number {_percent(metrics['fdi_identification_rate'])}",
        f"topology   teeth with an error {_percent(topology['teeth']['share_with_error'])}, of those in both maps "
        f"{_percent(topology['teeth_in_both']['share_with_error'])}; mean Betti-matching error "
        f"{_number(topology['teeth']['mean_betti_matching_error']).strip()}",
    ]


def _contact_lines(contacts: Mapping[str, Any]) -> list[str]:
    pairs = ", ".join(f"{a}-{b}" for a, b in contacts["only_in_prediction"])
    return [f"contacts   forbidden and not in the reference: {contacts['forbidden']}{f' ({pairs})' if pairs else ''}"]


def _absences(metrics: Mapping[str, Any]) -> dict[str, str]:
    groups = {name: metrics[name]["absence"] for name in ("surface", "topology", "contacts")}
    return {"overlap": metrics["absence"], **groups}


def _number(value: float | None) -> str:
    return "     -" if value is None else f"{value:6.3f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"
