"""Label maps, such as those a person corrected, as DICOM objects beside the scan they were made on.

In: a label map file of any kind, the DICOM scan it belongs to, and perhaps the report on it. Out: a DICOM segmentation
and, with a report, its findings as a DICOM structured report.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ToothTopoSegLib.anatomy import schemes
from ToothTopoSegLib.anatomy.fdi import is_tooth
from ToothTopoSegLib.errors import InputError, UsageError
from ToothTopoSegLib.imaging.headers import shown
from ToothTopoSegLib.progress import Progress, silent
from ToothTopoSegLib.topology.check import read_labels
from ToothTopoSegLib.topology.report import SCHEMA


def export_dicom(
    labels: Path,
    source: Path,
    out: Path,
    report: Path | None = None,
    scheme: str | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Write the label map file ``labels`` as the DICOM segmentation ``out`` of the DICOM scan ``source``.

    Values are FDI numbers unless a ``scheme`` is named. With ``report``, the JSON file on the same labels, its findings
    are written beside it as a structured report. Returns the paths and the teeth. Raises UsageError for another suffix
    than .dcm or an unknown scheme, InputError for files that cannot be read, labels that do not lie on the scan or a
    scan that is no DICOM, OutputError; then nothing is written.
    """
    from ToothTopoSegLib.imaging.dicom_seg import Maker, write_dicom_seg
    from ToothTopoSegLib.imaging.dicom_source import read_source
    from ToothTopoSegLib.imaging.read import is_dicom_scan
    from ToothTopoSegLib.imaging.write import output_folder
    from ToothTopoSegLib.topology.structured_report import write_structured_report

    if out.suffix.lower() != ".dcm":
        raise UsageError(f"{shown(out)} is no name for a DICOM file; end it in .dcm.")
    findings = out.with_name(f"{out.stem}_findings.dcm")
    if source.exists() and not is_dicom_scan(source):
        raise UsageError(f"{shown(source)} is no DICOM scan; give the DICOM folder, file or zip the labels belong to.")
    told = None if report is None else read_report(report)
    progress(0.0, "reading the labels and their scan")
    teeth, _ = read_labels(labels, source, scheme)
    origin = read_source(source)
    progress(0.5, "writing the segmentation")
    with output_folder(out.parent) as staging:
        write_dicom_seg(teeth, origin, staging / out.name, Maker(corrected=True))
        if told is not None:
            write_structured_report(told, origin, staging / findings.name)
    progress(1.0, "done")
    written = {"segmentation": out} | ({} if told is None else {"findings": findings})
    return written | {"teeth": [value for value in schemes.label_values(teeth.array) if is_tooth(value)]}


def read_report(path: Path) -> dict[str, Any]:
    """A report of the contract from a JSON file; InputError for another file."""
    try:
        report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if report["schema"] == SCHEMA and isinstance(report["findings"], list):
            return report
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _no_report(path) from error
    raise _no_report(path)


def _no_report(path: Path) -> InputError:
    return InputError(
        f"{shown(path)} is no report that can be read; give the JSON file that 'check' or 'segment' wrote."
    )
