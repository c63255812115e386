"""Own data stays own: nothing of a patient enters what fine-tuning writes, and nothing leaves the machine."""

from __future__ import annotations

import re
import socket
import struct
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from Testing.Library.training.user_data import scan_and_labels, write_model, write_pair, write_two_networks
from ToothTopoSegLib.imaging.read import read_scan
from ToothTopoSegLib.imaging.volume import Volume
from ToothTopoSegLib.imaging.write import write_label_map
from ToothTopoSegLib.training.finetune import Choices, finetune
from ToothTopoSegLib.training.finetune_run import run_folder

NAME, PATIENT, STUDY = "Zwiebelmann^Ottokar", "PID-7719-XQ", generate_uid()


def write_dicom(folder: Path, scan: Volume) -> None:
    """A series of the scan whose headers name a patient."""
    folder.mkdir(parents=True)
    series = generate_uid()
    for number, plane in enumerate(scan.array):
        made = pydicom.Dataset()
        made.file_meta = pydicom.dataset.FileMetaDataset()
        made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        made.SOPClassUID, made.SOPInstanceUID, made.Modality = CTImageStorage, generate_uid(), "CT"
        made.PatientName, made.PatientID, made.StudyInstanceUID, made.SeriesInstanceUID = NAME, PATIENT, STUDY, series
        made.Rows, made.Columns, made.InstanceNumber = *plane.shape, number + 1
        made.PixelSpacing, made.SliceThickness = list(map(str, scan.spacing[1:])), str(scan.spacing[0])
        x, y, z = scan.origin
        made.ImagePositionPatient = [str(x), str(y), str(z + number * scan.spacing[0])]
        made.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
        made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
        made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 16, 16, 15, 1
        made.RescaleSlope, made.RescaleIntercept = "1", "0"
        made.PixelData = plane.astype("<i2").tobytes()
        made.save_as(folder / f"{number:03d}.dcm", enforce_file_format=True)


def name_the_patient(path: Path) -> None:
    """Write a patient's name into the description of an uncompressed NIfTI file."""
    content = bytearray(path.read_bytes())
    struct.pack_into("80s", content, 148, NAME.encode())
    path.write_bytes(bytes(content))


@pytest.fixture
def offline(monkeypatch):
    """Whoever opens a socket fails."""

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)


def test_no_name_and_no_identifier_of_a_patient_is_written_and_nothing_is_sent(tmp_path, offline):
    cases, out = tmp_path / "Zwiebelmann", tmp_path / "mine.onnx"
    write_dicom(cases / "Ottokar", scan_and_labels(0)[0])
    series = read_scan(cases / "Ottokar")
    write_label_map(series.with_array(scan_and_labels(0)[1].array), cases / "Ottokar_labels.nii")
    name_the_patient(cases / "Ottokar_labels.nii")
    write_pair(cases, "Zwiebelmann_Agathe", 1)
    report = finetune([cases], out, 5, "cpu", write_two_networks(tmp_path / "m"), Choices(steps=1, rate=1e-3))
    assert sorted([*report["trained_on"], *report["held_out"]]) == ["Ottokar", "Zwiebelmann_Agathe"]
    written = [path for path in (*run_folder(out).rglob("*"), *tmp_path.glob("mine*")) if path.is_file()]
    planted = re.compile("|".join(map(re.escape, ("Zwiebelmann", "Ottokar", "Agathe", PATIENT, STUDY))).encode())
    assert len(written) >= 19
    for path in written:
        assert not planted.search(path.read_bytes()), path
        assert not planted.search(path.name.encode()), path


def test_the_card_numbers_the_cases(tmp_path):
    for number, name in enumerate(("Agathe", "Ottokar")):
        write_pair(tmp_path / "c", name, number)
    report = finetune([tmp_path / "c"], tmp_path / "m.onnx", 5, "cpu", write_model(tmp_path / "m"), Choices(steps=1))
    card = report["bundle"].with_suffix(".json").read_text(encoding="utf-8")
    assert '"case 1"' in card and '"case 2"' in card
