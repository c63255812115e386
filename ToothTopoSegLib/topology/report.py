"""The report of the contract: what was found in a label map, as one JSON object (schema ``toothtoposeg.report/1``).

In goes a label map as a Volume of FDI numbers with its findings, out comes a dictionary of plain JSON values and, by
:func:`write_json`, a file that is complete or not there. Volumes are mm3, positions LPS mm as (x, y, z). Betti numbers
are those of the tooth's label alone (26-connected foreground, 6-connected background).
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from ToothTopoSegLib.anatomy import fdi as teeth
from ToothTopoSegLib.errors import OutputError
from ToothTopoSegLib.imaging.volume import Volume
from ToothTopoSegLib.topology.betti import ToothTopology, tooth_topology
from ToothTopoSegLib.topology.findings import SEVERITIES, Finding, Robustness

SCHEMA = "toothtoposeg.report/1"


def make_report(
    labels: Volume,
    findings: Sequence[Finding],
    *,
    timing_s: Mapping[str, float],
    peak_rss_mb: float,
    model: Mapping[str, Any] | None,
    input: Mapping[str, Any],
    topology: Mapping[int, ToothTopology] | None = None,
) -> dict[str, Any]:
    """The report as plain JSON values; give ``topology`` if it is known, to spare its computation.

    ``teeth`` lists the 32 permanent teeth, absent ones included, and after them the deciduous teeth that are there.
    """
    known = tooth_topology(labels.array) if topology is None else topology
    listed = teeth.PERMANENT_NUMERIC + tuple(fdi for fdi in teeth.DECIDUOUS_NUMERIC if fdi in known)
    return {
        "schema": SCHEMA,
        "teeth": [_tooth(labels, fdi, known.get(fdi)) for fdi in listed],
        "findings": [finding_entry(finding) for finding in findings],
        "summary": _summary(known, findings),
        "timing_s": {step: round(float(seconds), 3) for step, seconds in timing_s.items()},
        "peak_rss_mb": round(float(peak_rss_mb), 1),
        "model": None if model is None else dict(model),
        "input": dict(input),
    }


def write_json(report: Mapping[str, Any], path: Path) -> None:
    """Write a report as UTF-8 JSON under a temporary name and rename it; OutputError if that fails."""
    text = json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        temporary.write_text(text, encoding="utf-8", newline="\n")
        temporary.replace(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"The report cannot be written to {path} ({reason}); choose a writable folder.") from error
    finally:
        temporary.unlink(missing_ok=True)


def peak_rss_mb() -> float:
    """The most memory (MiB, resident) this process has had so far."""
    if sys.platform == "win32":
        return _peak_working_set_mb()
    # On Linux a new process takes over the maximum of the one that started it, but not this mark.
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024.0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # macOS counts in bytes, everyone else in KiB
    return peak / (1024.0**2 if sys.platform == "darwin" else 1024.0)


def _tooth(labels: Volume, fdi: int, tooth: ToothTopology | None) -> dict[str, Any]:
    absent = {"voxels": 0, "volume_mm3": 0.0, "betti": [0, 0, 0], "centroid_lps_mm": None}
    entry: dict[str, Any] = {"fdi": fdi, "name": teeth.name(fdi), "present": tooth is not None}
    if tooth is None:
        return entry | absent
    return entry | {
        "voxels": tooth.voxels,
        "volume_mm3": round(tooth.voxels * labels.voxel_volume, 3),
        "betti": list(tooth.betti),
        "centroid_lps_mm": _rounded(labels.index_to_lps(np.asarray(tooth.centroid)).tolist()),
    }


def finding_entry(finding: Finding) -> dict[str, Any]:
    """A finding as plain JSON values, as the report lists it."""
    entry = {f.name: getattr(finding, f.name) for f in fields(finding) if f.name not in ("voxels", "robustness")}
    entry["teeth"] = list(finding.teeth)
    entry["position_lps_mm"] = _rounded(finding.position_lps_mm)
    entry["size_mm3"] = round(finding.size_mm3, 3)
    if finding.robustness is not None:
        entry["robustness"] = _robustness(finding.robustness)
    return entry


def _robustness(found: Robustness) -> dict[str, Any]:
    return {
        "dimension": found.dimension,
        "birth": round(found.birth, 4),
        "death": round(found.death, 4),
        "position_lps_mm": _rounded(found.position_lps_mm),
    }


def _summary(topology: Mapping[int, ToothTopology], findings: Sequence[Finding]) -> dict[str, Any]:
    kinds = Counter(finding.kind for finding in findings)
    severities = Counter(finding.severity for finding in findings)
    return {
        "teeth_found": len(topology),
        "findings": len(findings),
        "by_kind": dict(sorted(kinds.items())),
        "by_severity": {severity: severities[severity] for severity in SEVERITIES},
    }


def _rounded(position: Sequence[float]) -> list[float]:
    return [round(float(value), 3) for value in position]


def _peak_working_set_mb() -> float:
    import ctypes

    class Counters(ctypes.Structure):
        # PROCESS_MEMORY_COUNTERS of psapi.h
        _fields_ = (
            ("cb", ctypes.c_uint32),
            ("PageFaultCount", ctypes.c_uint32),
            ("PeakWorkingSetSize", ctypes.c_size_t),
            ("remaining", ctypes.c_size_t * 7),
        )

    counters = Counters(cb=ctypes.sizeof(Counters))
    kernel: Any = ctypes.windll.kernel32  # type: ignore[attr-defined]
    kernel.GetCurrentProcess.restype = ctypes.c_void_p
    kernel.K32GetProcessMemoryInfo.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint32)
    kernel.K32GetProcessMemoryInfo(kernel.GetCurrentProcess(), ctypes.byref(counters), counters.cb)
    return float(counters.PeakWorkingSetSize) / 1024.0**2
