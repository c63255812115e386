"""Check a label map of teeth: from a Volume or a file to findings and the report.

In goes a label map (FDI numbers and jaw labels, or any scheme of :mod:`ToothTopoSegLib.anatomy.schemes`), optionally
with the scan it belongs to; out come findings, or the report of the contract.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ToothTopoSegLib.anatomy import schemes
from ToothTopoSegLib.errors import InputError, UsageError
from ToothTopoSegLib.imaging.headers import shown
from ToothTopoSegLib.imaging.volume import Volume
from ToothTopoSegLib.progress import Progress, silent
from ToothTopoSegLib.topology.detect import DETECTORS
from ToothTopoSegLib.topology.findings import Finding, numbered
from ToothTopoSegLib.topology.mouth import Mouth, mouth_of
from ToothTopoSegLib.topology.report import make_report, peak_rss_mb

_SAME_PLACE_VOXELS = 0.1
_SAME_DIRECTION = 1e-3


def check_volume(
    labels: Volume, scan: Volume | None = None, progress: Progress = silent
) -> tuple[list[Finding], Mouth]:
    """Findings in a label map of FDI numbers, and the mouth they rest on; a map without teeth gives one info."""
    progress(0.0, "Measuring the teeth")
    mouth = mouth_of(labels, scan)
    found: list[Finding] = []
    for step, detector in enumerate(DETECTORS):
        progress(0.4 + 0.6 * step / len(DETECTORS), "Looking for anatomical errors")
        found += detector(mouth)
    progress(1.0, "Checked")
    return numbered(found), mouth


class Checked(NamedTuple):
    """A checked label map file: its report, its labels in FDI numbers, the scan if one was given, the findings.

    Both volumes are in canonical axes, as are the voxels of the findings.
    """

    report: dict[str, Any]
    labels: Volume
    scan: Volume | None
    findings: list[Finding]


def check_file(
    labels: Path, image: Path | None = None, scheme: str | None = None, progress: Progress = silent
) -> dict[str, Any]:
    """The report on a label map file; as :func:`checked_file`, for those who want nothing else of it."""
    return checked_file(labels, image, scheme, progress).report


def checked_file(
    labels: Path, image: Path | None = None, scheme: str | None = None, progress: Progress = silent
) -> Checked:
    """A label map file, whose values are FDI numbers unless a ``scheme`` is named, with what was found in it.

    Raises UsageError for an unknown scheme and InputError for a file that cannot be read, holds no label or values
    the scheme does not know, or does not lie on the grid of ``image``.
    """
    started = time.perf_counter()
    progress(0.0, "Reading the labels")
    teeth, scan = read_labels(labels, image, scheme)
    read = time.perf_counter()
    findings, mouth = check_volume(teeth, scan, lambda fraction, text: progress(0.3 + 0.7 * fraction, text))
    done = time.perf_counter()
    report = make_report(
        mouth.labels,
        findings,
        timing_s={"read": read - started, "check": done - read, "total": done - started},
        peak_rss_mb=peak_rss_mb(),
        model=None,
        input=described(teeth, labels, image, scheme),
        topology=mouth.teeth,
    )
    return Checked(report, mouth.labels, mouth.scan, findings)


def read_labels(labels: Path, image: Path | None = None, scheme: str | None = None) -> tuple[Volume, Volume | None]:
    """A label map file in FDI numbers, and the scan it belongs to where one is given; raises as :func:`check_file`."""
    from ToothTopoSegLib.imaging.read import read_scan

    if scheme is not None and scheme not in schemes.scheme_names():
        raise UsageError(f"There is no label scheme {scheme!r}; choose one of {', '.join(schemes.scheme_names())}.")
    found = labels_in_file(labels)
    teeth = found.in_fdi(scheme)
    if image is None:
        return teeth, None
    found.check_made_on(image)
    scan = read_scan(image)
    teeth = found.on_grid_of(teeth, scan)
    check_same_grid(teeth, scan)
    return teeth, scan


@dataclass(frozen=True)
class FileLabels:
    """What a label map file holds; ``study`` and ``frame_of_reference`` are UIDs, "" where the file names none.

    ``named`` says that the file names its teeth, so that its values are FDI numbers whatever the scheme.
    """

    path: Path
    labels: Volume
    named: bool = False
    study: str = ""
    frame_of_reference: str = ""

    def in_fdi(self, scheme: str | None = None) -> Volume:
        """The labels in FDI numbers; raises as :func:`in_fdi`."""
        return in_fdi(self.labels, shown(self.path), None if self.named else scheme)

    def on_grid_of(self, teeth: Volume, other: Volume) -> Volume:
        """The teeth of a DICOM segmentation, which may lack empty slices, on the grid of another volume."""
        if not self.study:
            return teeth
        from ToothTopoSegLib.imaging.dicom_seg import on_grid_of

        return on_grid_of(teeth, other)

    def check_made_on(self, image: Path) -> None:
        """InputError where both are DICOM and refer to different studies or frames of reference."""
        from ToothTopoSegLib.imaging.dicom_source import read_source
        from ToothTopoSegLib.imaging.read import is_dicom_scan

        if not self.study or not image.exists() or not is_dicom_scan(image):
            return
        source = read_source(image)
        if self.study != source.study:
            raise self._made_elsewhere(image, "another study")
        if self.frame_of_reference not in ("", source.frame_of_reference):
            raise self._made_elsewhere(image, "another frame of reference")

    def _made_elsewhere(self, image: Path, what: str) -> InputError:
        return InputError(
            f"{shown(self.path)} refers to {what} than {shown(image)}; give the scan on which it was made."
        )


def labels_in_file(path: Path) -> FileLabels:
    """The label map in a file of any kind; raises as :func:`~ToothTopoSegLib.imaging.read.read_label_map`."""
    from ToothTopoSegLib.imaging.read import is_dicom_seg, read_label_map

    if not is_dicom_seg(path):
        return FileLabels(path, read_label_map(path))
    from ToothTopoSegLib.imaging.dicom_seg import read_dicom_seg

    found = read_dicom_seg(path)
    return FileLabels(path, found.labels, found.named, found.study, found.frame_of_reference)


def in_fdi(labels: Volume, name: str, scheme: str | None = None) -> Volume:
    """The label map in FDI numbers and jaw labels (uint8); InputError if it is empty or its values are not known.

    ``name`` is what the messages call the label map.
    """
    values = schemes.label_values(labels.array)
    if not values:
        raise InputError(f"{name} holds no labels; expected a label map of teeth, check that it is the right file.")
    try:
        return labels.with_array(schemes.to_fdi(labels.array, scheme or "fdi"))
    except schemes.UnknownLabelsError as error:
        raise InputError(_unknown_values(name, error, values)) from error


def check_same_grid(labels: Volume, image: Volume) -> None:
    """InputError unless labels and scan have the same voxels at the same places."""
    if labels.array.shape != image.array.shape:
        sizes = (" x ".join(str(n) for n in v.array.shape[::-1]) for v in (labels, image))
        raise _other_grid("have {} voxels and the scan {}".format(*sizes))
    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]]) * (np.array(labels.array.shape) - 1)
    apart = np.abs(labels.lps_to_index(image.index_to_lps(corners)) - corners).max()
    turned = np.abs(np.subtract(labels.direction, image.direction)).max()
    if apart > _SAME_PLACE_VOXELS or turned > _SAME_DIRECTION:
        raise _other_grid("lie elsewhere than the scan, by their spacing, origin or direction")


def _other_grid(difference: str) -> InputError:
    return InputError(f"The labels {difference}; give the scan on which these labels were made.")


def _unknown_values(name: str, error: schemes.UnknownLabelsError, values: tuple[int, ...]) -> str:
    fitting = [other for other in schemes.guess_schemes(values) if other != error.scheme]
    if fitting:
        advice = f"they fit {' or '.join(fitting)}: try --scheme {fitting[0]}"
    else:
        advice = f"they fit none of the schemes {', '.join(schemes.scheme_names())}: renumber them to FDI"
    expected = "are no FDI tooth numbers" if error.scheme == "fdi" else f"do not belong to the scheme {error.scheme}"
    return f"{name} holds the label values {schemes.listed(error.values)}, which {expected}; {advice}."


def described(teeth: Volume, labels: Path, image: Path | None, scheme: str | None) -> dict[str, Any]:
    """What the report says of its input."""
    return {
        "name": labels.name,
        "image": None if image is None else image.name,
        "scheme": scheme or "fdi",
        "shape_zyx": list(teeth.array.shape),
        "spacing_zyx_mm": [float(s) for s in teeth.spacing],
    }
