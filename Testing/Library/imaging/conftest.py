"""Small scans and DICOM series written on the fly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK
from pydicom.uid import generate_uid

from Testing.Library.imaging.dicom_series import write_series, write_slice


@pytest.fixture(scope="session")
def voxels() -> np.ndarray:
    """Grey values (z, y, x) of a small scan, all slices different."""
    return np.random.default_rng(0).normal(400, 200, (12, 14, 16)).astype(np.int16)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder whose path has a space and letters beyond ASCII."""
    place = tmp_path / "scan ü 歯"
    place.mkdir()
    return place


@pytest.fixture
def image(folder: Path, voxels: np.ndarray) -> Callable[..., Path]:
    """Write an array (by default the small scan) under a name; returns the path."""

    def write(name: str, array: np.ndarray | None = None, spacing=(0.4, 0.5, 0.6), compress=False) -> Path:
        array = voxels if array is None else array
        vector = array.ndim == 4 and array.shape[-1] in (2, 3)
        picture = SimpleITK.GetImageFromArray(array, isVector=vector)
        picture.SetSpacing((*spacing, 1.0)[: picture.GetDimension()])
        SimpleITK.WriteImage(picture, str(folder / name), compress)
        return folder / name

    return write


@pytest.fixture(name="write_slice")
def slice_writer() -> Callable[..., None]:
    """Write one DICOM slice."""
    return write_slice


@pytest.fixture
def series(folder: Path, voxels: np.ndarray) -> Callable[..., Path]:
    """Write the small scan as a DICOM series, as :func:`write_series` does."""
    return lambda name="dicom", **how: write_series(folder / name, voxels, **how)


@pytest.fixture
def enhanced(folder, voxels):
    """Write an Enhanced CT or X-ray 3D file with its frames in the given order and at given heights."""

    def write(kind, heights):
        data = pydicom.Dataset()
        data.file_meta = pydicom.dataset.FileMetaDataset()
        data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = kind
        data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = generate_uid()
        data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        data.StudyInstanceUID, data.SeriesInstanceUID, data.NumberOfFrames = "1.2", "1.2.8", len(heights)
        data.Rows, data.Columns = voxels.shape[1:]
        data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
        data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 1
        shared, measures, plane = pydicom.Dataset(), pydicom.Dataset(), pydicom.Dataset()
        measures.PixelSpacing, measures.SliceThickness = [0.5, 0.4], 9
        plane.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [plane]
        data.SharedFunctionalGroupsSequence = [shared]
        data.PerFrameFunctionalGroupsSequence = []
        for height in heights:
            frame, place = pydicom.Dataset(), pydicom.Dataset()
            place.ImagePositionPatient = [-10, 20, height]
            frame.PlanePositionSequence = [place]
            data.PerFrameFunctionalGroupsSequence.append(frame)
        data.PixelData = voxels.astype("<i2").tobytes()
        data.save_as(folder / "enhanced.dcm", enforce_file_format=True)
        return folder / "enhanced.dcm"

    return write


@pytest.fixture
def write_frames():
    """Write a file of many frames, by default of the class for grey-value images of 16 bits."""

    def write(path, voxels, kind="1.2.840.10008.5.1.4.1.1.7.3", **tags):
        frames = voxels.reshape(-1, voxels.shape[2])
        shape = {"Rows": voxels.shape[1], "NumberOfFrames": len(voxels), "PixelRepresentation": 0, "SOPClassUID": kind}
        write_slice(path, frames, (1, 2, 3), "1.2.3.7", SliceThickness=None, **shape, **tags)
        data = pydicom.dcmread(path)
        data.file_meta.MediaStorageSOPClassUID = kind
        data.save_as(path)

    return write
