"""Repair a label map file, and tell voxel by voxel what was changed."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from ToothTopoSegLib.imaging.segments import write_teeth
from ToothTopoSegLib.imaging.volume import Volume
from ToothTopoSegLib.progress import Progress, part, silent
from ToothTopoSegLib.topology.check import described, read_labels
from ToothTopoSegLib.topology.findings import Finding
from ToothTopoSegLib.topology.repair import Change, RepairResult, repair_all
from ToothTopoSegLib.topology.report import finding_entry, make_report, peak_rss_mb


def repair_file(
    labels: Path, out: Path, image: Path | None = None, scheme: str | None = None, progress: Progress = silent
) -> dict[str, Any]:
    """Mend the label map file ``labels`` into the file ``out`` (FDI numbers); returns the report on the mended map.

    Beside the report's own fields, ``repairs`` lists what was done and ``rejected`` the findings whose repair would
    have made something else worse. Raises UsageError, InputError and OutputError; then nothing is written.
    """
    started = time.perf_counter()
    progress(0.0, "Reading the labels")
    teeth, scan = read_labels(labels, image, scheme)
    read = time.perf_counter()
    result = repair_all(teeth, scan, part(progress, 0.2, 0.9))
    done = time.perf_counter()
    progress(0.9, "Writing the mended labels")
    write_teeth(result.labels, out)
    report = make_report(
        result.mouth.labels,
        result.findings,
        timing_s={"read": read - started, "repair": done - read, "total": time.perf_counter() - started},
        peak_rss_mb=peak_rss_mb(),
        model=None,
        input=described(teeth, labels, image, scheme),
        topology=result.mouth.teeth,
    )
    return report | repairs_of(result, with_voxels=True)


def repairs_of(result: RepairResult, with_voxels: bool = False) -> dict[str, Any]:
    """The report's ``repairs`` and ``rejected``; ``with_voxels`` adds what each changed, as runs of voxels."""
    return {
        "repairs": [_repair(result.labels, change, with_voxels) for change in result.repaired],
        "rejected": [_told(finding) for finding in result.rejected],
    }


def _repair(labels: Volume, change: Change, with_voxels: bool) -> dict[str, Any]:
    entry = {
        "repair": change.repair,
        "finding": _told(change.finding),
        "voxels": change.voxels,
        "volume_mm3": round(change.voxels * labels.voxel_volume, 3),
    }
    return entry | ({"runs": runs(change)} if with_voxels else {})


def _told(finding: Finding) -> dict[str, Any]:
    """A finding that is no longer numbered among those of the report."""
    return {key: value for key, value in finding_entry(finding).items() if key != "id"}


def runs(change: Change) -> list[list[int]]:
    """A change as [first flat index in C order (z, y, x), length, label before, label after] of runs of voxels."""
    index, before, after = change.indices, change.before, change.after
    breaks = (np.diff(index) != 1) | (np.diff(before.astype(int)) != 0) | (np.diff(after.astype(int)) != 0)
    first = np.concatenate([[0], np.flatnonzero(breaks) + 1])
    length = np.diff(np.append(first, len(index)))
    return [[int(index[f]), int(n), int(before[f]), int(after[f])] for f, n in zip(first.tolist(), length, strict=True)]
