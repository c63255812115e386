"""What a new DICOM object must say of the scan it was made on: patient, study, frame of reference, instances.

In: a DICOM folder, file or zip archive. Out: headers without pixels, which highdicom copies from. Scanners leave out
or misspell what DICOM demands; here it is completed: what may be empty becomes empty, and UIDs that are missing are
derived from those that are there, the same every time. The geometry is the one worked out by
:mod:`ToothTopoSegLib.imaging.dicom`. Source: DICOM PS3.3, C.7.1 to C.7.4 and C.7.6.16.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ToothTopoSegLib.errors import InputError
from ToothTopoSegLib.imaging.dicom import Stack, dicom_stack
from ToothTopoSegLib.imaging.headers import shown
from ToothTopoSegLib.imaging.volume import Volume

if TYPE_CHECKING:
    from pydicom import Dataset

_IDENTIFIERS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
_MAY_BE_EMPTY = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate"),
    *("StudyTime", "ReferringPhysicianName", "PositionReferenceIndicator"),
)
_COPIED = ("SpecificCharacterSet", "Modality", "StudyDescription", "IssuerOfPatientID", "PatientAge")
_WELL_FORMED = {
    "PatientBirthDate": r"\d{8}",
    "PatientSex": "[MFO]",
    "StudyDate": r"\d{8}",
    "StudyTime": r"\d{2}(\d{2}(\d{2}(\.\d{1,6})?)?)?",
    "PatientAge": r"\d{3}[DWMY]",
}


@dataclass(frozen=True)
class Source:
    """The scan that a DICOM object is made on.

    ``images`` are the headers of its files in the order of its slices, or of its one multi-frame file; ``grid`` has its
    geometry around an array (z, y, x) of zeros that takes no memory.
    """

    images: tuple[Dataset, ...]
    grid: Volume

    @property
    def study(self) -> str:
        """The UID of its study."""
        return str(self.images[0].StudyInstanceUID)

    @property
    def frame_of_reference(self) -> str:
        """The UID of its frame of reference."""
        return str(self.images[0].FrameOfReferenceUID)


def read_source(path: Path) -> Source:
    """The headers of the DICOM scan in a folder, file or zip archive; raises as :func:`dicom.dicom_stack`.

    Raises ModuleNotFoundError where highdicom, which writes DICOM, is not installed.
    """
    import highdicom  # noqa: F401  # told before a scan is segmented rather than after

    with dicom_stack(path) as stack, lenient():
        return _source(stack)


@contextmanager
def lenient() -> Iterator[None]:
    """Values that break DICOM's rules, as files of scanners have them, are handled without warnings or errors."""
    import warnings

    from pydicom import config

    with warnings.catch_warnings(), config.disable_value_validation():
        warnings.simplefilter("ignore")
        yield


def _source(stack: Stack) -> Source:
    grid = Volume(
        np.broadcast_to(np.uint8(0), stack.shape), stack.grid.spacing, stack.grid.origin, stack.grid.direction
    )
    if stack.slices[0].frames > 1:
        images = [_with_frames(_header(stack.slices[0].path), stack)]
    else:
        images = [_header(item.path) for item in stack.slices]
        for k, image in enumerate(images):
            _place(image, stack, k)
    for number, image in enumerate(images):
        _complete(image, number, stack.slices[0].series)
    return Source(tuple(images), grid)


def _header(path: Path) -> Dataset:
    """The elements of a file that are passed on, by name; others, private ones among them, are left behind."""
    import pydicom

    names = (*_IDENTIFIERS, *_MAY_BE_EMPTY, *_COPIED, "Rows", "Columns")
    try:
        read = pydicom.dcmread(path, stop_before_pixels=True, force=True, specific_tags=list(names))
        header = pydicom.Dataset()
        for name in names:
            if name in read:
                setattr(header, name, read[name].value)
    except (OSError, ValueError, TypeError, NotImplementedError, pydicom.errors.InvalidDicomError) as error:
        raise InputError(f"The header of {shown(path)} cannot be read as DICOM; export the scan again.") from error
    return header


def _complete(image: Dataset, number: int, series: str) -> None:
    """Give an image what DICOM demands of every one."""
    from pydicom.uid import CTImageStorage, generate_uid

    for name in _MAY_BE_EMPTY:
        if image.get(name) is None:
            setattr(image, name, "")
    for name, pattern in _WELL_FORMED.items():
        if name in image and not re.fullmatch(pattern, str(image.get(name))):
            setattr(image, name, "")
    image.Modality = image.get("Modality") or "OT"
    image.SOPClassUID = image.get("SOPClassUID") or CTImageStorage
    image.SeriesInstanceUID = image.get("SeriesInstanceUID") or generate_uid(entropy_srcs=[series, "series"])
    for name in ("StudyInstanceUID", "FrameOfReferenceUID"):
        setattr(image, name, image.get(name) or generate_uid(entropy_srcs=[str(image.SeriesInstanceUID), name]))
    missing = [str(image.SeriesInstanceUID), str(number)]
    image.SOPInstanceUID = image.get("SOPInstanceUID") or generate_uid(entropy_srcs=missing)


def _place(image: Dataset, stack: Stack, k: int) -> None:
    """State where slice ``k`` lies, as the grid has it."""
    position, orientation, measures = _geometry(stack, k)
    image.ImagePositionPatient, image.ImageOrientationPatient = position, orientation
    image.PixelSpacing, image.SliceThickness = measures.PixelSpacing, measures.SliceThickness


def _with_frames(image: Dataset, stack: Stack) -> Dataset:
    """State where the frames lie, in the order of the file, whatever kind of multi-frame file it is."""
    from pydicom import Dataset

    shared = Dataset()
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [Dataset()], [_geometry(stack, 0)[2]]
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = _geometry(stack, 0)[1]
    frames = []
    for k in sorted(range(len(stack.slices)), key=lambda k: stack.slices[k].frame):
        frame = Dataset()
        frame.PlanePositionSequence = [Dataset()]
        frame.PlanePositionSequence[0].ImagePositionPatient = _geometry(stack, k)[0]
        frames.append(frame)
    _place(image, stack, 0)  # for classes that have many frames although the standard gives them one
    image.NumberOfFrames = len(frames)
    image.SharedFunctionalGroupsSequence, image.PerFrameFunctionalGroupsSequence = [shared], frames
    return image


def _geometry(stack: Stack, k: int) -> tuple[list[Any], list[Any], Dataset]:
    """Position and orientation of slice ``k`` and the pixel measures, as decimal strings of DICOM."""
    from pydicom import Dataset
    from pydicom.valuerep import DSfloat

    def decimals(values: Any) -> list[Any]:
        return [DSfloat(float(value), auto_format=True) for value in values]

    direction, (gap, down, across) = np.asarray(stack.grid.direction), stack.grid.spacing
    measures = Dataset()
    measures.PixelSpacing = decimals((down, across))
    (measures.SliceThickness,) = (measures.SpacingBetweenSlices,) = decimals((gap,))
    return decimals(stack.grid.index_to_lps(np.array([k, 0, 0]))), decimals(direction[:, :2].T.ravel()), measures
