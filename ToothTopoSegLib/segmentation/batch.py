"""Many scans one after the other, each as ``segment`` does it: cohorts, from the shell or from Slicer without a window.

In: a folder of scans, or a text file that lists them. Out: the files of each scan, in a folder that mirrors where the
scans lie, and ``summary.csv`` with one row for each scan, complete after every one of them. A scan that fails is a row
with its reason and the rest go on; scans that an earlier run finished with the same model are left as they are.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ToothTopoSegLib.errors import Cancelled, InputError, OutputError, ToothTopoSegError
from ToothTopoSegLib.imaging.dicom import has_dicom_magic
from ToothTopoSegLib.imaging.headers import shown
from ToothTopoSegLib.imaging.read import FORMATS, is_dicom_scan, scan_name
from ToothTopoSegLib.imaging.write import output_folder
from ToothTopoSegLib.progress import Progress, part, silent
from ToothTopoSegLib.quantization.bundle import Bundle, load_bundle
from ToothTopoSegLib.segmentation import pipeline
from ToothTopoSegLib.topology.findings import KINDS, SEVERITIES
from ToothTopoSegLib.topology.report import SCHEMA as REPORT_SCHEMA

SCHEMA = "toothtoposeg.batch/1"
SUMMARY = "summary.csv"
DONE, FAILED = "done", "failed"
COLUMNS = ("case", "scan", "status", "teeth_found", "teeth", *SEVERITIES, *KINDS, "repairs", "seconds", "reason")
"""Columns of the summary: severities and kinds hold how many findings there are, ``teeth`` FDI numbers."""
_OUTPUTS = ("teeth.nii.gz", "teeth.seg.nrrd", "report.json", "report.html", "preview.png")
DICOM_OUTPUT = "teeth.dcm"
_DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
# Label maps lie beside scans: Slicer's, those of this program and those of its phantoms.
_LABEL_ENDINGS = (".seg.nrrd", *(f"_{what}{suffix}" for what in ("teeth", "labels") for suffix in FORMATS))
Row = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """One scan of a batch: where it lies, the folder and the name of its results, and what keeps it from being done."""

    scan: Path
    folder: Path
    name: str
    problem: str = ""

    def output(self, ending: str) -> Path:
        """The path of one of its results."""
        return self.folder / f"{self.name}_{ending}"


@dataclass(frozen=True)
class Settings:
    """What is the same for all scans of a batch; ``again`` segments those anew that are finished."""

    model: Path | None = None
    device: str = "auto"
    threads: int | None = None
    repair: bool = False
    again: bool = False


def segment_batch(
    source: Path, out: Path, settings: Settings | None = None, progress: Progress = silent
) -> dict[str, Any]:
    """Segment the scans of a folder or list into ``out``, write ``summary.csv`` there; returns rows and counts as JSON.

    Raises InputError where there are no scans, ModelError, OutputError where ``out`` or the summary cannot be written,
    ImportError where a package is missing, or Cancelled; what was finished until then stays and is not done again.
    """
    settings = settings or Settings()
    bundle = load_bundle(settings.model)
    cases = find_cases(source, out)
    with output_folder(out):
        pass  # whether it can be written is told before the first scan, not after it
    rows: list[Row] = []
    kept = 0
    for number, case in enumerate(cases):
        share = part(progress, number / len(cases), (number + 1) / len(cases))
        report = None if settings.again else finished_report(case, bundle, settings.repair)
        kept += report is not None
        rows.append(_row(case, source, report or _segmented(case, settings, _named(share, case, number, len(cases)))))
        _write_summary(rows, out / SUMMARY)
        share(1.0, f"{case.name}: {rows[-1]['status']}")
    return _batch_report(rows, kept, bundle, out)


def find_cases(source: Path, out: Path) -> list[Case]:
    """The scans of a folder (with the folders in it) or of a list, in order; InputError where there are none.

    A folder that holds DICOM files is one scan. Hidden files, label maps by name (``.seg.nrrd``, ``_teeth``,
    ``_labels``) and everything in ``out`` are left out. A list has one path a line, relative to the list; empty lines
    and those that begin with ``#`` are skipped.
    """
    scans = _scans_in(source, out.resolve()) if source.is_dir() else _listed(source)
    if not scans:
        what = "no scans" if source.is_dir() else "no paths"
        raise InputError(
            f"{shown(source)} holds {what}; give a folder with NIfTI, NRRD, MetaImage, GIPL or DICOM scans, or a text "
            "file with one path a line."
        )
    root = source.resolve() if source.is_dir() else _common_folder(scans)
    return list(_without_clashes([Case(scan, out / _below(root, scan.parent), scan_name(scan)) for scan in scans]))


def finished_report(case: Case, bundle: Bundle, repair: bool) -> dict[str, Any] | None:
    """The report of an earlier run that has all its files, is newer than the scan and names scan and model; or None."""
    try:
        report: dict[str, Any] = json.loads(case.output("report.json").read_text(encoding="utf-8"))
        newer = case.output("report.json").stat().st_mtime >= _changed(case.scan)
        same = report["schema"] == REPORT_SCHEMA and report["input"]["name"] == case.scan.name
        same = same and report["model"]["sha256"] == bundle.card["sha256"] and ("repairs" in report) == repair
        complete = all(case.output(ending).is_file() for ending in _outputs(case, report))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return report if newer and same and complete and not case.problem else None


def _outputs(case: Case, report: Mapping[str, Any]) -> tuple[str, ...]:
    """The endings of the files that a finished case has: a DICOM scan in which teeth were found has one more."""
    in_dicom = is_dicom_scan(case.scan) and any(tooth["present"] for tooth in report["teeth"])
    return (*_OUTPUTS, DICOM_OUTPUT) if in_dicom else _OUTPUTS


# ---- which scans


def _scans_in(folder: Path, out: Path) -> list[Path]:
    scans: list[Path] = []
    for place, folders, names in os.walk(folder.resolve()):
        here = Path(place)
        folders[:] = sorted(name for name in folders if not name.startswith(".") and here / name != out)
        files = [here / name for name in sorted(names) if not name.startswith(".")]
        if any(map(_is_dicom, files)):
            scans.append(here)
        scans += filter(_is_scan_file, files)
    return scans


def _is_scan_file(path: Path) -> bool:
    name = path.name.lower()
    return name.endswith((*FORMATS, ".zip")) and not name.endswith(_LABEL_ENDINGS)


def _is_dicom(path: Path) -> bool:
    if path.name.upper() == "DICOMDIR":  # the table of contents of the folders beside it
        return False
    if path.name.lower().endswith(f"_{DICOM_OUTPUT}"):  # labels, as an earlier run wrote them
        return False
    try:
        return path.suffix.lower() in _DICOM_SUFFIXES or has_dicom_magic(path)
    except OSError:
        return False


def _listed(path: Path) -> list[Path]:
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except OSError as error:
        raise InputError(
            f"There is no folder or list {shown(path)} that can be read ({error.strerror}); check the path."
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"{shown(path)} is neither a folder of scans nor a text file that lists them; for one scan use segment."
        ) from error
    base = path.resolve().parent
    # Not resolved: a link keeps its own name.
    return [Path(os.path.abspath(base / line)) for line in lines if line and not line.startswith("#")]


def _common_folder(scans: Sequence[Path]) -> Path:
    try:
        return Path(os.path.commonpath([scan.parent for scan in scans]))
    except ValueError:  # several drives have no folder in common
        return scans[0].parent


def _below(root: Path, folder: Path) -> Path:
    """The way from ``root`` down to a folder; no way at all where it lies elsewhere."""
    return folder.relative_to(root) if folder.is_relative_to(root) else Path()


def _without_clashes(cases: Iterable[Case]) -> Iterator[Case]:
    """The cases; one whose results would replace those of an earlier one says so as its problem."""
    first: dict[str, Path] = {}
    for case in cases:
        other = first.setdefault(str(case.output("")).casefold(), case.scan)
        clash = f"The results would replace those of {shown(other)}, which has the same name; rename one of the two."
        yield case if other is case.scan else replace(case, problem=clash)


def _changed(scan: Path) -> float:
    """When a scan file, or the youngest file of a scan folder, was last changed."""
    files = [p for p in scan.rglob("*") if p.is_file()] if scan.is_dir() else [scan]
    return max((p.stat().st_mtime for p in files), default=0.0)


# ---- one scan


def _segmented(case: Case, settings: Settings, progress: Progress) -> dict[str, Any]:
    """The report of a scan, or what kept it from having one as {"reason": a sentence}."""
    if case.problem:
        return {"reason": case.problem}
    chosen = settings.model, settings.device, settings.threads
    try:
        return pipeline.segment_to_folder(case.scan, case.folder, *chosen, progress, settings.repair)
    except (Cancelled, ImportError):
        raise
    except ToothTopoSegError as error:
        return {"reason": str(error)}
    except MemoryError:
        return {"reason": "Out of memory; close other programs or use a machine with more of it."}
    except Exception as error:  # one scan must not stop the rest
        return {"reason": f"Internal error ({type(error).__name__}: {str(error)[:200]}); please report it."}


def _named(progress: Progress, case: Case, number: int, count: int) -> Progress:
    """The progress of one scan, with its place in the batch in front of each message."""
    return lambda fraction, message: progress(fraction, f"scan {number + 1} of {count}, {case.name}: {message}")


# ---- the summary


def _row(case: Case, source: Path, report: Mapping[str, Any]) -> Row:
    row: Row = dict.fromkeys(COLUMNS, "")
    row |= {"case": case.name, "scan": _relative(case.scan, source), "status": FAILED if "reason" in report else DONE}
    if "reason" in report:
        return row | {"reason": " ".join(report["reason"].split())}
    teeth = [tooth["fdi"] for tooth in report["teeth"] if tooth["present"]]
    row |= {"teeth_found": len(teeth), "teeth": " ".join(map(str, teeth)), "seconds": report["timing_s"]["total"]}
    row |= {name: sum(f["severity"] == name for f in report["findings"]) for name in SEVERITIES}
    row |= {name: sum(f["kind"] == name for f in report["findings"]) for name in KINDS}
    return row | {"repairs": len(report.get("repairs", []))}


def _relative(scan: Path, source: Path) -> str:
    """The scan's path from the folder or list it was found by, for a summary that moves along with both."""
    base = source.resolve() if source.is_dir() else source.resolve().parent
    return scan.relative_to(base).as_posix() if scan.is_relative_to(base) else str(scan)


def _write_summary(rows: Sequence[Row], path: Path) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        temporary.replace(path)
    except OSError as error:
        raise OutputError(
            f"The summary {shown(path)} cannot be written ({error.strerror}); close it where it is open, or free space."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def _batch_report(rows: Sequence[Row], kept: int, bundle: Bundle, out: Path) -> dict[str, Any]:
    failed = sum(row["status"] == FAILED for row in rows)
    counts = {"scans": len(rows), "segmented": len(rows) - kept - failed, "kept": kept, "failed": failed}
    counts["with_errors"] = sum(bool(row["error"]) for row in rows)
    return {
        "schema": SCHEMA,
        "cases": list(rows),
        "summary": counts,
        "model": bundle.identity,
        "summary_csv": str(out / SUMMARY),
    }
