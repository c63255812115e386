"""DICOM series as scanners write them, small and made on the fly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pydicom
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid


def write_slice(path: Path, plane: np.ndarray, position: Sequence[float], series: str, **tags: object) -> None:
    """One CT slice, explicit little endian; ``tags`` replace or add elements."""
    data = pydicom.Dataset()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = CTImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = generate_uid()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.Modality, data.PatientName, data.PatientID = "CT", "Secret^Person", "4711"
    data.StudyInstanceUID, data.SeriesInstanceUID, data.SeriesDescription = "1.2.3", series, "Teeth 0.4"
    data.ImagePositionPatient, data.ImageOrientationPatient = list(map(float, position)), [1, 0, 0, 0, 1, 0]
    data.PixelSpacing, data.SliceThickness = [0.5, 0.4], 9  # the thickness is wrong on purpose: positions count
    data.Rows, data.Columns = plane.shape[:2]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 1
    data.RescaleIntercept, data.RescaleSlope = 0, 1
    data.PixelData = plane.astype("<i2").tobytes()
    for key, value in tags.items():
        setattr(data, key, value)
    data.save_as(path, enforce_file_format=True)


def write_series(
    target: Path,
    voxels: np.ndarray,
    uid: str = "1.2.3.4",
    skip: Sequence[int] = (),
    place: Callable[[int], Sequence[float]] = lambda k: (-10.0, 20.0, 30 + 0.6 * k),
    **tags: object,
) -> Path:
    """A scan (z, y, x) as a folder of slices under shuffled names; ``place`` gives slice k's position in mm."""
    target.mkdir(parents=True, exist_ok=True)
    order = np.random.default_rng(5).permutation(len(voxels))
    for k, plane in enumerate(voxels):
        if k not in skip:
            file = target / f"{uid}-IM{order[k]:03d}.dcm"
            write_slice(file, plane, place(k), uid, InstanceNumber=int(order[k]), **tags)
    return target
