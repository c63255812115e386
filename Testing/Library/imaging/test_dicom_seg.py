"""DICOM segmentations: other readers find our teeth where they are, and ours finds theirs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK
from pydicom.uid import generate_uid

from ToothTopoSegLib.anatomy.colours import colour_of
from ToothTopoSegLib.anatomy.snomed import code_of
from ToothTopoSegLib.errors import InputError, OutputError
from ToothTopoSegLib.imaging.dicom_seg import Maker, cielab, on_grid_of, read_dicom_seg, write_dicom_seg
from ToothTopoSegLib.imaging.dicom_source import read_source
from ToothTopoSegLib.imaging.read import read_label_map, read_scan

OBLIQUE = np.array([[0.8, 0.6, 0.0], [0.0, 0.0, -1.0]])
NORMAL = np.cross(*OBLIQUE)
PLACES = {
    "axial": (lambda k: (-10.0, 20.0, 30 + 0.6 * k), [1.0, 0, 0, 0, 1, 0]),
    "oblique": (lambda k: np.array((1.25, -2.5, 3.0)) + 0.3 * k * NORMAL, OBLIQUE.ravel().tolist()),
    "upside down": (lambda k: (0.0, 0.0, 5 - 0.25 * k), [-1.0, 0, 0, 0, 1, 0]),
}


@pytest.fixture(scope="module")
def teeth() -> np.ndarray:
    """Teeth and a jaw drawn into the grid of the small scan, none in its outermost slices."""
    labels = np.zeros((12, 14, 16), np.uint8)
    labels[3:6, 2:5, 3:7] = 36
    labels[5:8, 6:9, 3:7] = 11
    labels[6, 0, 15] = 55
    labels[2:4, 9:, :3] = 101
    return labels


@pytest.fixture
def made(series, teeth, folder):
    """A DICOM segmentation of a series of a frame of reference, and the scan as read."""

    def make(place="axial", labels=teeth, **tags):
        where, orientation = PLACES[place]
        tags = {"FrameOfReferenceUID": "1.2.3.99", "ImageOrientationPatient": orientation, **tags}
        scan = series(place=where, **tags)
        volume = read_scan(scan)
        path = folder / "Zähne.dcm"
        write_dicom_seg(volume.with_array(labels), read_source(scan), path)
        return path, volume

    return make


def assert_on_grid(labels, scan):
    assert labels.array.shape == scan.array.shape
    assert labels.spacing == pytest.approx(scan.spacing)
    assert labels.origin == pytest.approx(scan.origin, abs=1e-6)
    np.testing.assert_allclose(labels.direction, scan.direction, atol=1e-9)


def dcmqi(program: str, *arguments: object) -> None:
    command = [str(Path(sys.executable).parent / program), *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("place", PLACES)
def test_what_is_written_reads_back_as_the_same_labels_on_the_same_grid(made, teeth, place):
    path, scan = made(place)
    found = read_dicom_seg(path)
    assert found.named
    assert np.array_equal(found.labels.array, teeth)
    assert_on_grid(found.labels, scan)
    assert np.array_equal(read_label_map(path).array, teeth)


@pytest.mark.parametrize("place", PLACES)
def test_dcmqi_reads_the_same_labels_on_the_same_grid(made, teeth, folder, place):
    path, scan = made(place)
    out = folder / "dcmqi"
    out.mkdir()
    dcmqi("segimage2itkimage", "--inputDICOM", path, "--outputDirectory", out, "--mergeSegments", "-t", "nrrd")
    read = SimpleITK.ReadImage(str(out / "1.nrrd"))
    numbers = np.array([0, 11, 36, 55, 101], np.uint8)[SimpleITK.GetArrayFromImage(read)]
    assert np.array_equal(numbers, teeth)
    assert read.GetSpacing() == pytest.approx(scan.spacing[::-1])
    assert read.GetOrigin() == pytest.approx(scan.origin, abs=1e-6)
    assert read.GetDirection() == pytest.approx(np.ravel(scan.direction), abs=1e-9)
    about = json.loads((out / "meta.json").read_text(encoding="utf-8"))
    names = {segment["SegmentLabel"] for group in about["segmentAttributes"] for segment in group}
    assert "36 lower left first molar" in names


def test_pydicom_and_simpleitk_read_it(made, teeth):
    path, _ = made()
    data = pydicom.dcmread(path)
    frames = data.pixel_array
    assert frames.sum() == (teeth > 0).sum()
    assert SimpleITK.ReadImage(str(path)).GetSize() == (16, 14, data.NumberOfFrames)


def test_each_tooth_is_a_segment_with_its_code_and_the_source_is_referred_to(made, series):
    path, _ = made()
    data = pydicom.dcmread(path)
    assert (data.SegmentationType, data.FrameOfReferenceUID, data.StudyInstanceUID) == ("BINARY", "1.2.3.99", "1.2.3")
    assert str(data.PatientName) == "Secret^Person"
    kinds = [s.SegmentedPropertyTypeCodeSequence[0].CodeValue for s in data.SegmentSequence]
    assert kinds == [code_of(value).value for value in (11, 36, 55, 101)]
    assert {s.SegmentAlgorithmName for s in data.SegmentSequence} == {"ToothTopoSeg"}
    assert {s.SegmentAlgorithmType for s in data.SegmentSequence} == {"AUTOMATIC"}
    assert all(len(s.RecommendedDisplayCIELabValue) == 3 for s in data.SegmentSequence)
    (referenced,) = data.ReferencedSeriesSequence
    assert referenced.SeriesInstanceUID == "1.2.3.4"
    assert len(referenced.ReferencedInstanceSequence) == 12


def test_colours_are_those_of_the_teeth_in_cielab(made):
    import highdicom

    assert cielab((1.0, 1.0, 1.0)) == pytest.approx((100, 0, 0), abs=0.01)
    assert cielab((1.0, 0.0, 0.0)) == pytest.approx((53.24, 80.09, 67.20), abs=0.02)
    segment = pydicom.dcmread(made()[0]).SegmentSequence[1]
    expected = highdicom.color.CIELabColor(*cielab(colour_of(36))).value
    assert list(segment.RecommendedDisplayCIELabValue) == list(expected)


def test_each_frame_refers_to_the_slice_it_lies_on(made, series):
    path, _ = made()
    slices = [pydicom.dcmread(file) for file in (path.parent / "dicom").iterdir()]
    heights = {s.SOPInstanceUID: float(s.ImagePositionPatient[2]) for s in slices}
    for frame in pydicom.dcmread(path).PerFrameFunctionalGroupsSequence:
        (source,) = frame.DerivationImageSequence[0].SourceImageSequence
        place = float(frame.PlanePositionSequence[0].ImagePositionPatient[2])
        assert heights[source.ReferencedSOPInstanceUID] == pytest.approx(place)


def test_only_frames_that_hold_something_are_stored_but_for_the_ends_of_the_scan(made, teeth):
    path, _ = made()
    data = pydicom.dcmread(path)
    assert data.NumberOfFrames == 3 + 3 + 1 + 2 + 2
    places = [tuple(f.FrameContentSequence[0].DimensionIndexValues) for f in data.PerFrameFunctionalGroupsSequence]
    assert len(set(places)) == len(places)
    assert {place for _, place in places} == set(range(1, 9))


def test_labels_that_reach_the_ends_and_a_single_tooth_are_written_too(made, teeth):
    whole = np.full_like(teeth, 21)
    path, scan = made(labels=whole)
    found = read_dicom_seg(path)
    assert np.array_equal(found.labels.array, whole)
    single = np.where(teeth == 36, 36, 0).astype(np.uint8)
    found = read_dicom_seg(made(labels=single)[0])
    assert np.array_equal(found.labels.array, single)
    assert_on_grid(found.labels, scan)


def test_corrected_labels_are_said_to_be_semiautomatic(made, series, teeth, folder):
    _, scan = made()
    source = read_source(folder / "dicom")
    write_dicom_seg(scan.with_array(teeth), source, folder / "b.dcm", Maker("Own model", "2", corrected=True))
    segment = pydicom.dcmread(folder / "b.dcm").SegmentSequence[0]
    assert (segment.SegmentAlgorithmType, segment.SegmentAlgorithmName) == ("SEMIAUTOMATIC", "Own model")


def test_a_scan_without_name_frame_of_reference_or_sound_values_is_no_obstacle(series, teeth, folder, recwarn):
    scan = series()
    for file in scan.iterdir():
        data = pydicom.dcmread(file)
        for name in ("PatientName", "PatientID", "StudyInstanceUID"):
            delattr(data, name)
        with pydicom.config.disable_value_validation():
            data.PatientSex, data.StudyDate = "W", "gestern"
            data.add_new(0x00091001, "LO", "private")
            data.save_as(file)
    recwarn.clear()
    source = read_source(scan)
    assert source.study == read_source(scan).study
    assert source.frame_of_reference == read_source(scan).frame_of_reference
    write_dicom_seg(read_scan(scan).with_array(teeth), source, folder / "a.dcm")
    written = pydicom.dcmread(folder / "a.dcm")
    assert (str(written.PatientName), written.PatientSex, written.StudyDate) == ("", "", "")
    assert (0x0009, 0x1001) not in written
    assert np.array_equal(read_dicom_seg(folder / "a.dcm").labels.array, teeth)
    assert not [str(w.message) for w in recwarn if "highdicom" in w.filename or "pydicom" in w.filename]


@pytest.mark.parametrize("kind", ["1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.13.1.2"])
def test_a_multi_frame_scan_whose_frames_are_out_of_order_is_segmented_in_place(enhanced, teeth, folder, kind):
    heights = [float(h) * 0.5 for h in np.random.default_rng(3).permutation(12)]
    path = enhanced(kind, heights)
    scan = read_scan(path)
    write_dicom_seg(scan.with_array(teeth), read_source(path), folder / "seg.dcm")
    found = read_dicom_seg(folder / "seg.dcm")
    assert np.array_equal(found.labels.array, teeth)
    assert_on_grid(found.labels, scan)
    for frame in pydicom.dcmread(folder / "seg.dcm").PerFrameFunctionalGroupsSequence:
        (source,) = frame.DerivationImageSequence[0].SourceImageSequence
        place = float(frame.PlanePositionSequence[0].ImagePositionPatient[2])
        assert heights[int(source.ReferencedFrameNumber) - 1] == pytest.approx(place)


@pytest.mark.parametrize("kind", ["1.2.840.10008.5.1.4.1.1.7.3", "1.2.840.10008.5.1.4.1.1.2"])
def test_frames_of_other_multi_frame_files_are_segmented_in_place(write_frames, voxels, teeth, folder, kind):
    path = folder / "frames.dcm"
    write_frames(path, np.abs(voxels), kind, SpacingBetweenSlices=0.6)
    scan = read_scan(path)
    write_dicom_seg(scan.with_array(teeth), read_source(path), folder / "seg.dcm")
    found = read_dicom_seg(folder / "seg.dcm")
    assert np.array_equal(found.labels.array, teeth)
    assert_on_grid(found.labels, scan)


# ---- segmentations of others


def by_dcmqi(series_folder: Path, labels, names: dict[int, dict[str, object]], out: Path) -> Path:
    """A segmentation that dcmqi makes of labels; ``names`` are the attributes of each value."""
    image = out.parent / "labels.nrrd"
    scan = read_scan(series_folder)
    picture = SimpleITK.GetImageFromArray(labels)
    picture.SetSpacing(scan.spacing[::-1])
    picture.SetOrigin(scan.origin)
    picture.SetDirection(np.ravel(scan.direction).tolist())
    SimpleITK.WriteImage(picture, str(image))
    about = {"SeriesDescription": "x", "SeriesNumber": "3", "InstanceNumber": "1", "BodyPartExamined": "JAW"}
    about |= {"ContentCreatorName": "x", "ClinicalTrialSeriesID": "1", "ClinicalTrialTimePointID": "1"}
    about["segmentAttributes"] = [[{"labelID": value, **attributes} for value, attributes in names.items()]]
    meta = out.parent / "meta in.json"
    meta.write_text(json.dumps(about), encoding="utf-8")
    program = ["--inputDICOMDirectory", series_folder, "--inputImageList", image]
    dcmqi("itkimage2segimage", *program, "--inputMetadata", meta, "--outputDICOM", out, "--skip")
    return out


def attributes(label: str, kind: tuple[str, str, str] = ("SCT", "85756007", "Tissue")) -> dict[str, object]:
    def coded(scheme, value, said):
        return {"CodingSchemeDesignator": scheme, "CodeValue": value, "CodeMeaning": said}

    return {
        "SegmentLabel": label,
        "SegmentDescription": label,
        "SegmentAlgorithmType": "MANUAL",
        "SegmentedPropertyCategoryCodeSequence": coded("SCT", "123037004", "Anatomical Structure"),
        "SegmentedPropertyTypeCodeSequence": coded(*kind),
        "recommendedDisplayRGBValue": [200, 30, 30],
    }


def test_the_code_of_a_segment_of_dcmqi_counts_before_its_label_and_unknown_ones_become_background(
    series, teeth, folder
):
    scan = series(FrameOfReferenceUID="1.2.3.99", StudyID="1")
    values = np.select([teeth == 36, teeth == 11, teeth == 101], [1, 2, 3], 0).astype(np.uint8)
    names = {1: attributes("my tooth 47", code_of(36)), 2: attributes("tooth 21"), 3: attributes("canal")}
    found = read_dicom_seg(by_dcmqi(scan, values, names, folder / "theirs.dcm"))
    on_scan = on_grid_of(found.labels, read_scan(scan))
    assert found.named
    expected = np.select([teeth == 36, teeth == 11], [36, 21], 0)
    assert np.array_equal(on_scan.array, expected)
    assert_on_grid(on_scan, read_scan(scan))


def test_segments_that_name_no_tooth_keep_their_numbers(series, teeth, folder):
    scan = series(FrameOfReferenceUID="1.2.3.99", StudyID="1")
    values = np.where(teeth == 36, 1, 0).astype(np.uint8)
    found = read_dicom_seg(by_dcmqi(scan, values, {1: attributes("one")}, folder / "theirs.dcm"))
    assert not found.named
    assert set(np.unique(found.labels.array)) == {0, 1}


def test_segments_that_overlap_are_refused(made, folder):
    path, _ = made()
    data = pydicom.dcmread(path)
    first, second = data.PerFrameFunctionalGroupsSequence[:2]
    second.PlanePositionSequence, second.SegmentIdentificationSequence = (
        first.PlanePositionSequence,
        data.PerFrameFunctionalGroupsSequence[3].SegmentIdentificationSequence,
    )
    size = 14 * 16 // 8
    data.PixelData = data.PixelData[:size] * 2 + data.PixelData[2 * size :]
    data.save_as(path)
    with pytest.raises(InputError, match="segments that overlap"):
        read_dicom_seg(path)


@pytest.mark.parametrize("kept", [0.95, 0.5, 0.1])
def test_a_segmentation_that_is_cut_off_is_refused(made, kept):
    path, _ = made()
    raw = path.read_bytes()
    path.write_bytes(raw[: int(len(raw) * kept)])
    with pytest.raises(InputError):
        read_label_map(path)


# ---- writing


def test_a_label_map_without_labels_or_of_another_shape_is_the_callers_mistake(series, folder, teeth):
    scan = series()
    volume, source = read_scan(scan), read_source(scan)
    with pytest.raises(ValueError, match="at least one segment"):
        write_dicom_seg(volume.with_array(np.zeros_like(teeth)), source, folder / "a.dcm")
    assert not (folder / "a.dcm").exists()


@pytest.mark.skipif(
    sys.platform == "win32", reason="Windows has no limit on the size of a file to stand for a full disk"
)
def test_a_disk_that_fills_up_leaves_the_old_file_and_nothing_half_written(series, folder, teeth):
    import resource

    scan = series(FrameOfReferenceUID=generate_uid())
    volume, source = read_scan(scan), read_source(scan)
    target = folder / "out"
    target.mkdir()
    (target / "a.dcm").write_bytes(b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, hard))
    try:
        with pytest.raises(OutputError, match=r"disk is full.*\."):
            write_dicom_seg(volume.with_array(teeth), source, target / "a.dcm")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {p.name: p.read_bytes() for p in target.iterdir()} == {"a.dcm": b"old"}
