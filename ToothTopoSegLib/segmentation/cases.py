"""The scans of a cohort: which files and folders are scans, and where the results of each go.

In: a folder of scans, or a text file that lists them. Out: a :class:`Case` for each, in an order that does not change;
results mirror where the scans lie.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ToothTopoSegLib.errors import InputError
from ToothTopoSegLib.imaging.dicom import has_dicom_magic
from ToothTopoSegLib.imaging.headers import shown
from ToothTopoSegLib.imaging.read import FORMATS, scan_name

DICOM_OUTPUT = "teeth.dcm"
"""The ending of the DICOM segmentation of a DICOM scan."""
_DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
# Label maps lie beside scans: Slicer's, those of this program and those of its phantoms.
_LABEL_ENDINGS = (".seg.nrrd", *(f"_{what}{suffix}" for what in ("teeth", "labels") for suffix in FORMATS))


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


def last_changed(scan: Path) -> float:
    """When a scan file, or the youngest file of a scan folder, was last changed."""
    files = [p for p in scan.rglob("*") if p.is_file()] if scan.is_dir() else [scan]
    return max((p.stat().st_mtime for p in files), default=0.0)


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
    if path.name.lower().endswith((f"_{DICOM_OUTPUT}", "_findings.dcm")):  # as this program wrote them
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
