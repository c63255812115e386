"""The experiment of seeded faults: how many are found, how often clean maps are blamed, and what repair makes of them.

In go seeds of :func:`~ToothTopoSegLib.evaluation.clean_maps.clean_map`, out come plain values that can be written as
JSON, and a Markdown table. A fault counts as found when findings that the clean map did not have name its kind and its
teeth within :data:`NEAR_MM` of a right place, as a warning or an error. A seed gives the same figures on every machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.errors import UsageError
from ToothTopoSegLib.evaluation.clean_maps import clean_map
from ToothTopoSegLib.evaluation.faults import KINDS, Accepted, Planted, plant
from ToothTopoSegLib.imaging.volume import Volume
from ToothTopoSegLib.progress import Progress, silent
from ToothTopoSegLib.topology.check import check_volume
from ToothTopoSegLib.topology.findings import Finding
from ToothTopoSegLib.topology.repair import repair_all

NEAR_MM = 2.0
SAME_MM = 1.0
"""A finding of a clean map and one of the same map with a fault are one if no further apart than this."""
TOUCHED_MM = 1.0
"""Voxels this near to what a fault changed belong to it; all others are untouched by it."""
SIZES_MM3 = (1.0, 2.0, 5.0, 10.0, 20.0, 60.0)
BORES_MM = (0.5, 0.75, 1.0, 1.5, 2.0)
_SEEN = ("error", "warning")

Repair = Callable[[Volume], Any]
Record = dict[str, Any]


def run(
    seeds: Iterable[int],
    kinds: Sequence[str] = KINDS,
    per_kind: int = 1,
    progress: Progress = silent,
    workers: int = 1,
    repair: bool = True,
) -> dict[str, Any]:
    """Check the clean map of every seed and, in it, ``per_kind`` faults of each kind, and repair them.

    ``workers`` above 1 uses that many processes. Repair is left out with ``repair`` False. Raises
    UsageError for an unknown kind, no seed, or a count below 1.
    """
    jobs = [(int(seed), tuple(kinds), per_kind, repair) for seed in seeds]
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        raise UsageError(f"There is no fault of kind {unknown[0]!r}; choose from {', '.join(KINDS)}.")
    if not jobs or per_kind < 1 or workers < 1:
        raise UsageError("Seeds, faults of each kind and workers were not all at least one; give one or more of each.")
    done = _in_processes(jobs, workers, progress) if workers > 1 else _in_turn(jobs, progress)
    return {
        "kinds": list(kinds),
        "per_kind": per_kind,
        "clean": [clean for clean, _ in done],
        "faults": [fault for _, faults in done for fault in faults],
    }


def _in_turn(jobs: Sequence[tuple[Any, ...]], progress: Progress) -> list[tuple[Record, list[Record]]]:
    done = []
    for number, job in enumerate(jobs):
        progress(number / len(jobs), f"map {number + 1} of {len(jobs)}")
        done.append(_seed(job))
    progress(1.0, "done")
    return done


def _in_processes(
    jobs: Sequence[tuple[Any, ...]], workers: int, progress: Progress
) -> list[tuple[Record, list[Record]]]:
    from ToothTopoSegLib.processes import one_thread_each

    done = []
    with one_thread_each(workers) as pool:
        for number, result in enumerate(pool.map(_seed, jobs), start=1):
            done.append(result)
            progress(number / len(jobs), f"map {number} of {len(jobs)}")
    return done


def _seed(job: tuple[Any, ...]) -> tuple[Record, list[Record]]:
    """The clean map of one seed and every fault planted in it."""
    seed, kinds, per_kind, with_repair = job
    started = time.perf_counter()
    made = clean_map(seed)
    drawn = time.perf_counter()
    clean = check_volume(made.labels)[0]
    checked = time.perf_counter()
    errors = [_told(f) for f in clean if f.severity == "error"]
    record = {**made.described, "errors": errors, "map_s": drawn - started, "check_s": checked - drawn}
    mender = repair_all if with_repair else None
    faults = [_fault(made.labels, clean, seed, kind, number, mender) for kind in kinds for number in range(per_kind)]
    return record, faults


def _fault(labels: Volume, clean: Sequence[Finding], seed: int, kind: str, number: int, mend: Repair | None) -> Record:
    record: Record = {"seed": seed, "kind": kind, "number": number, "planted": False}
    planted = plant(labels, kind, np.random.default_rng([seed, KINDS.index(kind), number]))
    if planted is None:
        return record
    started = time.perf_counter()
    findings = check_volume(planted.labels)[0]
    record |= {
        "planted": True,
        "teeth": list(planted.teeth),
        "position_lps_mm": [round(v, 2) for v in planted.position_lps_mm],
        "size_mm3": round(planted.size_mm3, 2),
        "bore_mm": round(planted.bore_mm, 2),
        "described": planted.described,
        "check_s": time.perf_counter() - started,
    }
    new = _not_in(findings, clean)
    record |= judge(planted, new)
    # What a fault is taken for instead is what one needs to know of a fault that was not found.
    record["told"] = [] if record["found"] else [_told(f) for f in new if f.severity in _SEEN][:8]
    if mend is not None:
        record["repair"] = _repaired(planted, labels, clean, findings, mend)
    return record


def judge(planted: Planted, findings: Sequence[Finding]) -> Record:
    """Whether findings tell a fault: found, kind right, teeth right, and the distance to the nearest right place.

    ``kind_right`` and ``teeth_right`` tell how near a miss was: the kind anywhere, and the teeth by that kind anywhere.
    """
    seen = [f for f in findings if f.severity in _SEEN]
    of_kind = [[f for f in seen if f.kind == accepted.kind] for accepted in planted.accept]
    naming = [_naming(a, named) for a, named in zip(planted.accept, of_kind, strict=True)]
    near = [
        _naming(a, [f for f in right if _away(a, f) <= NEAR_MM])
        for a, right in zip(planted.accept, naming, strict=True)
    ]
    distances = [_away(a, f) for a, right in zip(planted.accept, naming, strict=True) for f in right]
    return {
        "found": any(near),
        "kind_right": any(of_kind),
        "teeth_right": any(naming),
        "position_error_mm": round(min(distances), 3) if distances else None,
    }


def right_findings(planted: Planted, findings: Iterable[Finding]) -> list[Finding]:
    """The findings, of any severity, that tell of a fault or of a part of it: right kind, teeth and place."""
    return [f for f in findings if any(_fits(a, f) and _away(a, f) <= NEAR_MM for a in planted.accept)]


def _fits(accepted: Accepted, finding: Finding) -> bool:
    return finding.kind == accepted.kind and bool(finding.teeth) and accepted.teeth.issuperset(finding.teeth)


def _naming(accepted: Accepted, findings: Iterable[Finding]) -> list[Finding]:
    """The findings that name teeth of the fault only, if together they name all they must; else none."""
    right = [f for f in findings if _fits(accepted, f)]
    named = {tooth for f in right for tooth in f.teeth}
    return right if named >= accepted.must and len(named) >= accepted.least else []


def _away(accepted: Accepted, finding: Finding) -> float:
    """Distance in mm from a finding to the nearest right place."""
    return float(np.linalg.norm(np.subtract(accepted.places_lps_mm, finding.position_lps_mm), axis=1).min())


def _not_in(findings: Iterable[Finding], known: Sequence[Finding]) -> list[Finding]:
    return [finding for finding in findings if not any(_same(finding, other) for other in known)]


def _same(first: Finding, second: Finding) -> bool:
    apart = np.linalg.norm(np.subtract(first.position_lps_mm, second.position_lps_mm))
    return (
        (first.kind, first.severity) == (second.kind, second.severity)
        and set(first.teeth) == set(second.teeth)
        and bool(apart <= SAME_MM)
    )


def _told(finding: Finding) -> Record:
    place = [round(v, 1) for v in finding.position_lps_mm]
    return {
        "kind": finding.kind,
        "severity": finding.severity,
        "teeth": list(finding.teeth),
        "position_lps_mm": place,
        "evidence": finding.evidence,
    }


def _repaired(
    planted: Planted, clean_labels: Volume, clean: Sequence[Finding], findings: Sequence[Finding], mend: Repair
) -> Record:
    """What repair makes of a map with one fault; it is repairable where a finding that tells it offers a repair."""
    started = time.perf_counter()
    mended: Volume = mend(planted.labels).labels
    seconds = time.perf_counter() - started
    after = check_volume(mended)[0]
    repairable = any(f.repair for f in right_findings(planted, _not_in(findings, clean)))
    fresh = [f for f in _not_in(_not_in(after, findings), clean) if f.severity in _SEEN]
    return {
        "repairable": repairable,
        "gone": not right_findings(planted, _not_in(after, clean)),
        "untouched_changed": _untouched_changed(clean_labels, planted.labels, mended),
        "restored": _restored(clean_labels, planted.labels, mended),
        "new": [_told(f) for f in fresh],
        "repair_s": seconds,
    }


def _untouched_changed(clean: Volume, planted: Volume, mended: Volume) -> float:
    """Voxels changed away from the fault, as a share of all tooth voxels of the clean map."""
    from scipy import ndimage

    changed = mended.array != planted.array
    if not changed.any():
        return 0.0
    fault = clean.array != planted.array
    boxes = [ndimage.find_objects(mask.astype(np.uint8))[0] for mask in (changed, fault)]
    box = _union(boxes, np.ceil(TOUCHED_MM / np.asarray(clean.spacing)).astype(int) + 1)
    near = ndimage.distance_transform_edt(~fault[box], sampling=clean.spacing) <= TOUCHED_MM
    tooth_voxels = np.count_nonzero((clean.array > 0) & (clean.array < 100))
    return float(np.count_nonzero(changed[box] & ~near) / tooth_voxels)


def _union(boxes: Sequence[tuple[slice, ...]], room: NDArray[np.int64]) -> tuple[slice, ...]:
    first = np.maximum(np.min([[s.start for s in box] for box in boxes], 0) - room, 0)
    last = np.max([[s.stop for s in box] for box in boxes], 0) + room
    return tuple(slice(int(a), int(b)) for a, b in zip(first, last, strict=True))


def _restored(clean: Volume, planted: Volume, mended: Volume) -> float:
    """Share of the voxels that the fault changed which are again as in the clean map."""
    fault = clean.array != planted.array
    return float(np.mean(mended.array[fault] == clean.array[fault])) if fault.any() else 1.0


def table(result: dict[str, Any]) -> str:
    """The figures of :func:`run` as Markdown: faults by kind, recall by size, clean maps, repair where it was tried."""
    parts = [_kinds_table(result), _sizes_table(result), _clean_text(result)]
    if any("repair" in fault for fault in _planted(result)):
        parts.append(_repair_table(result))
    return "\n\n".join(part for part in parts if part) + "\n"


def _planted(result: dict[str, Any], kind: str | None = None) -> list[Record]:
    return [f for f in result["faults"] if f["planted"] and kind in (None, f["kind"])]


def _rows(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.3f}" if whole else "-"


def _count(records: Iterable[Record], key: str) -> int:
    return sum(bool(record[key]) for record in records)


def _kinds_table(result: dict[str, Any]) -> str:
    names = [*result["kinds"], None] if len(result["kinds"]) > 1 else result["kinds"]
    rows = [_kind_row(kind or "all", _planted(result, kind)) for kind in names]
    return _rows(("fault", "planted", "found", "recall", "kind right", "teeth right", "median error, mm"), rows)


def _kind_row(name: str, faults: Sequence[Record]) -> list[str]:
    errors = [f["position_error_mm"] for f in faults if f["position_error_mm"] is not None]
    total, found = len(faults), _count(faults, "found")
    rates = [_share(_count(faults, key), total) for key in ("found", "kind_right", "teeth_right")]
    return [name, str(total), str(found), *rates, f"{np.median(errors):.2f}" if errors else "-"]


def _sizes_table(result: dict[str, Any]) -> str:
    """Recall by size for the faults that have a size of their own."""
    rows = []
    for kind, key, unit, edges in (
        ("cavity", "size_mm3", "mm3", SIZES_MM3),
        ("fragment", "size_mm3", "mm3", SIZES_MM3),
        ("tunnel", "bore_mm", "mm", BORES_MM),
    ):
        for low, high in zip(edges, [*edges[1:], float("inf")], strict=True):
            inside = [f for f in _planted(result, kind) if low <= f[key] < high]
            if inside:
                ends = f"from {low:g}" if np.isinf(high) else f"{low:g} to {high:g}"
                found = _count(inside, "found")
                rows.append((kind, f"{ends} {unit}", str(len(inside)), _share(found, len(inside))))
    return _rows(("fault", "size", "planted", "recall"), rows) if rows else ""


def _clean_text(result: dict[str, Any]) -> str:
    clean = result["clean"]
    errors = [error for one in clean for error in one["errors"]]
    by_kind = {kind: sum(e["kind"] == kind for e in errors) for kind in sorted({e["kind"] for e in errors})}
    which = ", ".join(f"{kind} {count}" for kind, count in by_kind.items())
    return f"Clean maps: {len(clean)}; errors of severity error per map: {len(errors) / len(clean):.3f}" + (
        f" ({which})." if which else "."
    )


def _repair_table(result: dict[str, Any]) -> str:
    tried = [f for f in _planted(result) if "repair" in f]
    kinds = [kind for kind in result["kinds"] if any(f["kind"] == kind for f in tried)]
    groups = [(kind, [f["repair"] for f in tried if f["kind"] == kind]) for kind in kinds]
    rows = [_repair_row(name, group) for name, group in [*groups, ("all", [f["repair"] for f in tried])]]
    return _rows(("fault", "repairable", "gone", "share gone", "restored", "untouched changed", "new findings"), rows)


def _repair_row(name: str, repairs: Sequence[Record]) -> list[str]:
    able = [r for r in repairs if r["repairable"]]
    gone = _count(able, "gone")
    restored = f"{np.mean([r['restored'] for r in able]):.3f}" if able else "-"
    changed = f"{max(r['untouched_changed'] for r in repairs):.2%}"
    new = sum(len(r["new"]) for r in repairs)
    return [name, str(len(able)), str(gone), _share(gone, len(able)), restored, changed, str(new)]


def write_evidence(result: dict[str, Any], folder: Path) -> None:
    """Write ``faults.md`` (the table) and ``faults.json`` (the figures of every fault) into ``folder``.

    Raises OutputError when the folder cannot be written.
    """
    from ToothTopoSegLib.imaging.write import output_folder
    from ToothTopoSegLib.topology.report import write_json

    with output_folder(folder) as staged:
        (staged / "faults.md").write_text(_page(result), encoding="utf-8")
        write_json(result, staged / "faults.json")


def _page(result: dict[str, Any]) -> str:
    """The table with the command that prints it and how it is to be read."""
    seeds = [one["seed"] for one in result["clean"]]
    command = f"./toothtopo experiment faults --seed {min(seeds)} --count {len(seeds)} --per-kind {result['per_kind']}"
    return f"""# Faults planted, found and mended

`{command}`

Clean label maps of random dentitions (permanent, deciduous and mixed, crowded, tilted, with missing teeth and fused
roots, partly in view, in all orientations), in each of them one fault after another, planted by code that knows nothing
of the detectors. Found means: a warning or an error of that kind, naming those teeth, within {NEAR_MM:.0f} mm of the
fault, that the clean map did not have.

{table(result)}"""
