"""Time, memory and size of a DICOM segmentation of 32 teeth: run as ``python Testing/Benchmarks/bench_dicom_seg.py``.

A label map of 400 x 400 x 400 voxels of 0.25 mm, its teeth ellipsoids along two arches, is written for a series of as
many slices and read again. Prints one JSON object: seconds to write and to read, the peak memory of the process (MiB),
the size of the file (MB), how many frames it has and whether the labels came back the same.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pydicom
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from ToothTopoSegLib.anatomy.fdi import PERMANENT_NUMERIC, is_upper
from ToothTopoSegLib.imaging.dicom_seg import read_dicom_seg, write_dicom_seg
from ToothTopoSegLib.imaging.dicom_source import read_source
from ToothTopoSegLib.imaging.volume import Volume
from ToothTopoSegLib.topology.report import peak_rss_mb

SPACING = 0.25


def drawn_teeth(size: int) -> np.ndarray:
    """Labels (z, y, x) of 32 ellipsoids of 22 x 8 x 8 mm (at 400 voxels) along two arches."""
    labels = np.zeros((size, size, size), np.uint8)
    for k, fdi in enumerate(PERMANENT_NUMERIC):
        row = k % 8 + 0.5
        right = fdi // 10 in (1, 4)
        angle = np.pi / 2 + (1 if right else -1) * row / 8 * np.pi / 2
        center = (0.62 if is_upper(fdi) else 0.38, 0.65 - 0.42 * np.sin(angle), 0.5 + 0.38 * np.cos(angle))
        _draw(labels, fdi, np.multiply(center, size), np.array([0.11, 0.04, 0.04]) * size)
    return labels


def _draw(labels: np.ndarray, fdi: int, center: np.ndarray, half: np.ndarray) -> None:
    low = np.floor(center - half).astype(int).clip(0)
    box = tuple(slice(a, b) for a, b in zip(low, np.ceil(center + half).astype(int) + 1, strict=True))
    place = np.ogrid[box]
    inside = sum(((axis - c) / h) ** 2 for axis, c, h in zip(place, center, half, strict=True)) < 1
    labels[box][inside] = fdi


def write_headers(folder: Path, size: int) -> None:
    """A CT series of slices with hardly any pixels, since none of them is looked at."""
    series = {name: generate_uid() for name in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")}
    for k in range(size):
        data = pydicom.Dataset()
        data.file_meta = pydicom.dataset.FileMetaDataset()
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = CTImageStorage
        data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = generate_uid()
        for name, uid in series.items():
            setattr(data, name, uid)
        data.Modality, data.PatientName, data.PatientID = "CT", "Bench", "1"
        data.ImagePositionPatient, data.ImageOrientationPatient = [0, 0, SPACING * k], [1, 0, 0, 0, 1, 0]
        data.PixelSpacing, data.Rows, data.Columns = [SPACING, SPACING], size, size
        data.SamplesPerPixel, data.PhotometricInterpretation, data.PixelRepresentation = 1, "MONOCHROME2", 1
        data.BitsAllocated, data.BitsStored, data.HighBit = 16, 16, 15
        data.PixelData = bytes(2 * size * size)
        data.save_as(folder / f"{k:03d}.dcm", enforce_file_format=True)


def measure(size: int) -> dict[str, object]:
    """Write and read a segmentation of 32 teeth in ``size``^3 voxels."""
    labels = Volume(drawn_teeth(size), (SPACING,) * 3)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "scan").mkdir()
        write_headers(folder / "scan", size)
        source = read_source(folder / "scan")
        began = time.perf_counter()
        write_dicom_seg(labels, source, folder / "teeth.dcm")
        written = time.perf_counter()
        peak = peak_rss_mb()
        found = read_dicom_seg(folder / "teeth.dcm")
        read = time.perf_counter()
        return {
            "teeth": len(np.unique(labels.array)) - 1,
            "shape": list(labels.array.shape),
            "frames": int(pydicom.dcmread(folder / "teeth.dcm", specific_tags=["NumberOfFrames"]).NumberOfFrames),
            "write_s": round(written - began, 2),
            "read_s": round(read - written, 2),
            "peak_writing_mb": round(peak),
            "size_mb": round((folder / "teeth.dcm").stat().st_size / 1e6, 1),
            "identical": bool(np.array_equal(found.labels.array, labels.array)),
        }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=400, help="voxels along each axis (default: 400)")
    print(json.dumps(measure(parser.parse_args().size)))
