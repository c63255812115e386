"""Scans and label maps from files, or one clear sentence why not.

In: the path of a NIfTI (.nii, .nii.gz), NRRD (.nrrd, .nhdr, .seg.nrrd), MetaImage (.mha, .mhd) or GIPL (.gipl,
.gipl.gz) file, of a DICOM folder, a DICOM file, or a zip of DICOM. Out: a Volume in the file's own number type, with
geometry in LPS mm as ITK defines it. Whatever is no usable 3D scan raises InputError: nothing is guessed or mended.
"""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from ToothTopoSegLib.errors import InputError
from ToothTopoSegLib.imaging import dicom
from ToothTopoSegLib.imaging.headers import check_header, damaged, not_finite, shown
from ToothTopoSegLib.imaging.itk import import_sitk, volume_from_itk
from ToothTopoSegLib.imaging.volume import Array, Volume
from ToothTopoSegLib.imaging.write import Segment

VOXELS_MIN = 8
LABEL_MAX = 65535
FORMATS = {
    ".seg.nrrd": "NRRD",
    ".nii.gz": "NIfTI",
    ".nii": "NIfTI",
    ".nrrd": "NRRD",
    ".nhdr": "NRRD",
    ".mha": "MetaImage",
    ".mhd": "MetaImage",
    ".gipl.gz": "GIPL",
    ".gipl": "GIPL",
}
SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
_SUFFIXES = (*FORMATS, *dicom.SUFFIXES, ".zip")


def read_scan(path: str | Path) -> Volume:
    """The scan at ``path``: array (z, y, x) in the file's number type, checked to be a usable grey-value volume.

    Raises InputError when it cannot be read, is not one 3D grey-value image of at least 8 voxels along each axis, has a
    voxel size outside 0.01 to 4 mm, or holds NaN, infinite or only equal values.
    """
    path = _existing(Path(path))
    kind = None if path.is_dir() else _format(path)
    if kind is not None:
        volume = volume_from_itk(_read_itk(path, kind), shown(path))
    elif is_dicom_scan(path):
        volume = dicom.read_dicom(path)
    else:
        raise _unknown(path, "NIfTI, NRRD, MetaImage, GIPL or DICOM (a folder, a file or a zip)")
    _check_scan(volume, shown(path))
    return volume


def is_dicom_scan(path: Path) -> bool:
    """Whether an existing file or folder is read as DICOM: a folder, a zip archive, or a file by its mark or name."""
    return path.is_dir() or (_format(path) is None and (path.suffix.lower() == ".zip" or dicom.is_dicom(path)))


def is_dicom_seg(path: Path) -> bool:
    """Whether an existing path is a file with a DICOM segmentation."""
    return path.is_file() and dicom.has_dicom_magic(path) and dicom.storage_class(path) in SEGMENTATIONS


def read_label_map(path: str | Path) -> Volume:
    """The label map at ``path``: array (z, y, x) of uint8, or uint16 where a label exceeds 255.

    A DICOM segmentation is read as :func:`~ToothTopoSegLib.imaging.dicom_seg.read_dicom_seg` does.

    Float files are accepted when every value is a whole number. Of a Slicer segmentation (.seg.nrrd, one layer) each
    voxel carries its segment's LabelValue, and values that belong to no segment become 0, as Slicer shows them.
    Raises InputError for unreadable files and for fractions, NaN, values below 0 or above 65535.
    """
    path = _existing(Path(path))
    kind = None if path.is_dir() else _format(path)
    if kind is None and is_dicom_seg(path):
        from ToothTopoSegLib.imaging.dicom_seg import read_dicom_seg

        return read_dicom_seg(path).labels
    if kind is None:
        raise _unknown(path, "a label map as NIfTI, NRRD, MetaImage, GIPL, .seg.nrrd or DICOM segmentation")
    image = _read_itk(path, kind)
    segments = _segments(image)
    volume = volume_from_itk(image, shown(path))
    labels = _as_labels(volume.array, shown(path))
    if segments:
        known = np.zeros(int(labels.max()) + 1, labels.dtype)
        values = [s.value for s in segments if 0 < s.value < known.size]
        known[values] = values
        labels = known[labels]
    return volume.with_array(labels)


def read_segments(path: str | Path) -> tuple[Segment, ...]:
    """The segments that a .seg.nrrd file names, in file order; empty for any other label map."""
    path = _existing(Path(path))
    kind = None if path.is_dir() else _format(path)
    if kind != "NRRD":
        return ()
    check_header(path, kind)
    reader = _reader(path, kind)
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise damaged(path, kind) from error
    return _segments(reader)


def scan_name(path: str | Path) -> str:
    """The case name: the file or folder name without the suffix of its format (predental.nii.gz -> predental)."""
    place = Path(path)
    name = place.resolve().name if place.name in ("", "..") else place.name
    for suffix in _SUFFIXES:
        if name.lower().endswith(suffix) and len(name) > len(suffix) and not place.is_dir():
            return name[: -len(suffix)]
    return name or "scan"


def expected_voxels(path: Path) -> tuple[int, int]:
    """How many voxels a scan has and how many bytes each takes, from headers and sizes of files; (0, 2) if unreadable.

    DICOM is taken as 16-bit voxels that are stored as they are; compressed files hold more than that.
    """
    try:
        if path.is_dir():
            return sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) // 2, 2
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                return sum(member.file_size for member in archive.infolist()) // 2, 2
        kind = _format(path)
        if kind is None:
            return path.stat().st_size // 2, 2
        reader = _reader(path, kind)
        reader.ReadImageInformation()
        return math.prod(reader.GetSize()), import_sitk().Image([1] * 3, reader.GetPixelID()).GetSizeOfPixelComponent()
    except (OSError, RuntimeError, zipfile.BadZipFile):  # what is wrong is told when the scan is read
        return 0, 2


def _existing(path: Path) -> Path:
    try:
        if not path.exists():
            raise InputError(f"There is no file or folder {shown(path)} at the given place; check the path.")
        if path.is_dir():
            return path
        if path.stat().st_size == 0:
            raise InputError(f"{shown(path)} is empty (0 bytes), but a scan is expected; copy or export it again.")
        with path.open("rb"):
            return path
    except OSError as error:
        raise InputError(f"{shown(path)} cannot be opened ({error.strerror}); check that you may read it.") from error


def _format(path: Path) -> str | None:
    name = path.name.lower()
    return next((kind for suffix, kind in FORMATS.items() if name.endswith(suffix)), None)


def _unknown(path: Path, expected: str) -> InputError:
    what = "is a folder" if path.is_dir() else "is of an unknown format"
    return InputError(f"{shown(path)} {what}, but {expected} is expected; choose or export such a file.")


def _reader(path: Path, kind: str) -> Any:
    reader = import_sitk().ImageFileReader()
    reader.SetImageIO({"NIfTI": "NiftiImageIO", "NRRD": "NrrdImageIO", "GIPL": "GiplImageIO"}.get(kind, "MetaImageIO"))
    reader.SetFileName(str(path))
    return reader


def _read_itk(path: Path, kind: str) -> Any:
    check_header(path, kind)
    try:
        return _reader(path, kind).Execute()
    except RuntimeError as error:
        if "orthonormal" in str(error):
            raise InputError(
                f"{shown(path)} has image axes that are not at right angles (a tilted gantry or a shear), but a "
                "regular grid is expected; resample it first."
            ) from error
        raise damaged(path, kind) from error


def _check_scan(volume: Volume, name: str) -> None:
    if min(volume.array.shape) < VOXELS_MIN:
        size = " x ".join(str(n) for n in reversed(volume.array.shape))
        raise InputError(
            f"{name} has only {size} voxels, but at least {VOXELS_MIN} along every axis are expected; give the whole."
        )
    low, high = volume.array.min(), volume.array.max()  # both are NaN as soon as one voxel is
    if not (np.isfinite(low) and np.isfinite(high)):
        raise not_finite(name)
    if low == high:
        raise InputError(
            f"{name} holds the value {low:g} in every voxel, so there is nothing to see; check that the right file was "
            "exported."
        )


def _as_labels(array: Array, name: str) -> Array:
    low, high = array.min(), array.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        raise not_finite(name)
    if low < 0 or high > LABEL_MAX:
        raise InputError(
            f"{name} holds values from {low:g} to {high:g}, but labels from 0 to {LABEL_MAX} are expected."
        )
    labels = array.astype(np.uint8 if high <= 255 else np.uint16, copy=False)
    if not np.issubdtype(array.dtype, np.integer) and not np.array_equal(labels, array):
        raise InputError(
            f"{name} holds fractions, but whole label numbers are expected; give the label map instead of a grey-value "
            "scan or probabilities."
        )
    return labels


def _segments(source: Any) -> tuple[Segment, ...]:
    """Segments from Slicer's header fields of a SimpleITK image or reader."""

    def field(index: int, key: str) -> str:
        name = f"Segment{index}_{key}"
        return str(source.GetMetaData(name)) if source.HasMetaDataKey(name) else ""

    segments: list[Segment] = []
    while source.HasMetaDataKey(f"Segment{(i := len(segments))}_ID"):
        segments.append(
            Segment(
                value=_whole(field(i, "LabelValue"), i + 1),
                name=field(i, "Name"),
                colour=_colour(field(i, "Color")),
                terminology=_tag(field(i, "Tags"), "TerminologyEntry"),
                identifier=field(i, "ID"),
            )
        )
    return tuple(segments)


def _whole(text: str, default: int) -> int:
    return int(text) if text.strip().isdigit() else default


def _colour(text: str) -> tuple[float, float, float]:
    try:
        red, green, blue = (float(part) for part in text.split())
    except ValueError:
        return 0.5, 0.5, 0.5
    return red, green, blue


def _tag(text: str, key: str) -> str:
    return next((part[len(key) + 1 :] for part in text.split("|") if part.startswith(key + ":")), "")
