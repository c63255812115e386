"""DICOM: order and geometry from positions, and every irregular series refused in one sentence."""

from __future__ import annotations

import io
import os
import stat
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK
from PIL import Image
from pydicom.uid import generate_uid

from ToothTopoSegLib.errors import InputError, OutputError
from ToothTopoSegLib.imaging import dicom
from ToothTopoSegLib.imaging.read import read_scan, scan_name


def refusal(path: Path) -> str:
    """The one sentence with which a scan is refused."""
    with pytest.raises(InputError) as caught:
        read_scan(path)
    text = str(caught.value)
    assert len(text) < 400
    assert "\n" not in text
    assert text.endswith(".")
    assert "Secret" not in text
    return text


def zipped(folder: Path, target: Path) -> Path:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, f"export/{folder.name}/{file.name}")
    return target


@pytest.fixture
def no_leftovers(tmp_path, monkeypatch):
    """Temporary folders go to a place of our own, which must be empty in the end."""
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    yield place
    assert list(place.iterdir()) == []


def test_slices_are_ordered_by_position_whatever_their_names_and_numbers_say(series, voxels):
    volume = read_scan(series())
    assert np.array_equal(volume.array, voxels)
    assert volume.array.dtype == np.int16
    assert volume.spacing == pytest.approx((0.6, 0.5, 0.4))
    assert volume.origin == (-10.0, 20.0, 30.0)
    assert np.array_equal(volume.direction, np.eye(3))


def test_geometry_equals_itks_own_for_an_oblique_series(series, voxels):
    row, column = np.array([0.8, 0.6, 0.0]), np.array([0.0, 0.0, -1.0])
    normal = np.cross(row, column)
    folder = series(
        place=lambda k: (1, 2, 3) + 0.3 * k * normal, ImageOrientationPatient=[float(v) for v in (*row, *column)]
    )
    volume = read_scan(folder)
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    assert np.array_equal(volume.array, SimpleITK.GetArrayFromImage(image))
    assert volume.spacing == pytest.approx(image.GetSpacing()[::-1])
    assert volume.origin == pytest.approx(image.GetOrigin())
    assert np.ravel(volume.direction) == pytest.approx(image.GetDirection())


def test_rescale_slope_and_intercept_are_applied(series, voxels):
    assert np.array_equal(read_scan(series(RescaleIntercept=-1000)).array, voxels - 1000)


def test_one_file_stands_for_its_whole_series_even_beside_another_one(series, voxels):
    folder = series(uid="1.2.3.4")
    series(uid="1.2.3.5", place=lambda k: (0, 0, 2.0 * k))
    file = next(folder.glob("1.2.3.4-*"))
    volume = read_scan(file)
    assert np.array_equal(volume.array, voxels)
    assert volume.spacing[0] == pytest.approx(0.6)


def test_a_folder_of_two_series_is_refused_with_their_descriptions_and_sizes(series):
    folder = series(uid="1.2.3.4")
    series(uid="1.2.3.5", SeriesDescription="Soft ü", skip=[11])
    text = refusal(folder)
    assert "2 DICOM series" in text
    assert "'Teeth 0.4' (12 files)" in text
    assert "'Soft" in text
    assert "(11 files)" in text
    assert "one file of the wanted series" in text


def test_a_folder_of_many_series_still_gets_one_short_sentence(series):
    for n in range(9):
        folder = series(uid=f"1.2.3.{n}", SeriesDescription="x" * 64, skip=range(2, 12))
    assert "9 DICOM series" in refusal(folder)


def test_files_that_are_no_images_and_copies_of_a_slice_do_not_disturb(series, voxels):
    folder = series()
    (folder / "notes.txt").write_text("patient was calm")
    (folder / "VERSION").write_bytes(b"")
    first = sorted(folder.glob("*.dcm"))[0]
    (folder / "copy of it.dcm").write_bytes(first.read_bytes())
    report = pydicom.dcmread(first)
    report.file_meta.MediaStorageSOPClassUID = report.SOPClassUID = "1.2.840.10008.5.1.4.1.1.88.11"
    report.SeriesInstanceUID = "1.9"
    del report.PixelData
    report.save_as(folder / "report.dcm")
    assert np.array_equal(read_scan(folder).array, voxels)


def test_series_in_subfolders_and_files_without_preamble_are_found(series, voxels, folder):
    place = series("deep")
    for file in place.iterdir():
        data = pydicom.dcmread(file)
        bare = pydicom.Dataset(dict(data.items()))
        bare.save_as(file, implicit_vr=True, little_endian=True, enforce_file_format=False)
        assert file.read_bytes()[128:132] != b"DICM"
    assert np.array_equal(read_scan(folder).array, voxels)


def test_a_missing_slice_is_refused_with_its_place(series):
    text = refusal(series(skip=[4]))
    assert "lacks 1 slice," in text
    assert "1.8 mm" in text


def test_several_missing_slices_are_counted(series):
    assert "lacks 3 slices" in refusal(series(skip=[4, 5, 8]))


def test_uneven_spacing_is_refused(series):
    assert "unevenly spaced" in refusal(series(place=lambda k: (0, 0, 0.6 * k + 0.02 * k * k)))


def test_positions_rounded_by_the_scanner_are_accepted(series):
    volume = read_scan(series(place=lambda k: (0, 0, round(k / 3, 2))))
    assert volume.spacing[0] == pytest.approx(1 / 3, abs=1e-3)


def test_a_tilted_gantry_is_refused(series):
    assert "tilted gantry" in refusal(series(place=lambda k: (0, 0.2 * k, 0.6 * k)))


def test_two_points_in_time_in_one_series_are_refused(series):
    assert "at the same place" in refusal(series(place=lambda k: (0, 0, 0.6 * (k % 6))))


def test_slices_five_millimetres_apart_are_refused(series):
    assert "voxel size" in refusal(series(place=lambda k: (0, 0, 5.0 * k)))


def test_an_overview_image_within_the_series_is_refused(series):
    folder = series()
    file = sorted(folder.iterdir())[0]
    data = pydicom.dcmread(file)
    data.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
    data.save_as(file)
    assert "mixes slices" in refusal(folder)


def test_slices_without_a_position_are_refused(series):
    folder = series()
    for file in folder.iterdir():
        data = pydicom.dcmread(file)
        del data.ImagePositionPatient
        data.save_as(file)
    assert "without position" in refusal(folder)


def test_colour_slices_are_refused(series, voxels):
    size = voxels[0].size
    folder = series(
        SamplesPerPixel=3,
        PhotometricInterpretation="RGB",
        PlanarConfiguration=0,
        **{"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "PixelRepresentation": 0, "PixelData": bytes(size * 3)},
    )
    assert "colour" in refusal(folder)


def test_a_single_slice_is_refused_as_2d(series):
    assert "2D" in refusal(series(skip=range(1, 12)))


@pytest.mark.parametrize("kept", [0.999, 0.5, 0.15])
def test_a_truncated_slice_is_refused_and_not_filled_with_zeros(series, kept):
    folder = series()
    file = sorted(folder.iterdir())[3]
    raw = file.read_bytes()
    file.write_bytes(raw[: int(len(raw) * kept)])
    assert "incomplete" in refusal(folder)
    assert "incomplete" in refusal(file)


def test_a_truncated_compressed_slice_is_refused(folder, voxels):
    place = folder / "packed"
    place.mkdir()
    for k, plane in enumerate(voxels):
        image = SimpleITK.GetImageFromArray(plane[None])
        image.SetSpacing((0.4, 0.5, 0.6))
        image.SetOrigin((0, 0, 0.6 * k))
        writer = SimpleITK.ImageFileWriter()
        writer.SetImageIO("GDCMImageIO")
        writer.KeepOriginalImageUIDOn()
        writer.UseCompressionOn()
        image.SetMetaData("0020|000e", "1.2.3")
        image.SetMetaData("0008|0018", generate_uid())
        image.SetMetaData("0008|0060", "CT")
        writer.SetFileName(str(place / f"{k}.dcm"))
        writer.Execute(image)
    assert np.array_equal(read_scan(place).array, voxels)
    file = place / "3.dcm"
    assert pydicom.dcmread(file).file_meta.TransferSyntaxUID.is_compressed
    raw = file.read_bytes()
    file.write_bytes(raw[: len(raw) * 3 // 4])
    refusal(place)


def test_a_folder_without_dicom_is_refused(folder):
    (folder / "a.dcm").write_bytes(os.urandom(4096))
    assert "no DICOM images" in refusal(folder)
    assert "no DICOM image" in refusal(folder / "a.dcm")
    (folder / "a.dcm").unlink()
    assert "no DICOM images" in refusal(folder)


def test_a_lone_multi_frame_file_is_read(folder, voxels, write_frames):
    values = np.abs(voxels)
    write_frames(folder / "frames.dcm", values, SpacingBetweenSlices=0.6)
    for path in (folder, folder / "frames.dcm"):
        volume = read_scan(path)
        assert np.array_equal(volume.array, values)
        assert volume.spacing == pytest.approx((0.6, 0.5, 0.4))


@pytest.mark.parametrize("kind", ["1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.13.1.2"])
def test_frames_of_an_enhanced_file_are_ordered_by_position(enhanced, voxels, kind):
    heights = np.random.default_rng(3).permutation(12)
    volume = read_scan(enhanced(kind, [float(h) * 0.5 for h in heights]))
    assert np.array_equal(volume.array, voxels[np.argsort(heights)])
    assert volume.spacing == pytest.approx((0.5, 0.5, 0.4))
    assert volume.origin == (-10, 20, 0)


def test_an_enhanced_file_with_a_missing_frame_is_refused(enhanced):
    heights = [0.5 * (k + (k > 5)) for k in range(12)]
    assert "lacks 1 slice" in refusal(enhanced("1.2.840.10008.5.1.4.1.1.2.1", heights))


def test_multi_frame_files_without_a_distance_or_of_several_volumes_are_refused(folder, voxels, write_frames):
    write_frames(folder / "frames.dcm", np.abs(voxels))
    assert "no distance" in refusal(folder)
    write_frames(folder / "more.dcm", np.abs(voxels), SpacingBetweenSlices=0.6)
    assert "2 multi-frame" in refusal(folder)


def test_a_zip_of_dicom_is_read_and_nothing_is_left_behind(series, folder, voxels, no_leftovers):
    path = zipped(series(), folder / "case ö.zip")
    assert np.array_equal(read_scan(path).array, voxels)
    assert scan_name(path) == "case ö"


def test_a_zip_of_an_unusable_series_leaves_nothing_behind(series, folder, no_leftovers):
    assert "lacks 1 slice" in refusal(zipped(series(skip=[3]), folder / "case.zip"))


@pytest.mark.parametrize(
    "name", ["../../escaped.dcm", "/escaped.dcm", "C:\\escaped.dcm", "\\escaped.dcm", "a\\..\\..\\escaped.dcm"]
)
def test_a_zip_with_a_name_that_leads_outside_is_refused(folder, name, no_leftovers):
    with zipfile.ZipFile(folder / "evil.zip", "w") as archive:
        info = zipfile.ZipInfo("x")
        info.filename = name
        archive.writestr(info, b"x")
    assert "not safe" in refusal(folder / "evil.zip")
    assert not list(folder.parent.rglob("escaped*"))


def test_a_zip_with_a_symbolic_link_is_refused(folder, no_leftovers):
    link = zipfile.ZipInfo("link.dcm")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(folder / "evil.zip", "w") as archive:
        archive.writestr(link, "/etc/hostname")
    assert "not safe" in refusal(folder / "evil.zip")


def test_a_zip_that_unpacks_to_far_too_much_is_refused(series, folder, monkeypatch, no_leftovers):
    path = zipped(series(), folder / "case.zip")
    monkeypatch.setattr(dicom, "ZIP_BYTES_MAX", 4000)
    assert "far more than a scan" in refusal(path)
    monkeypatch.undo()


def test_a_zip_that_is_cut_or_text_or_without_dicom_is_refused(series, folder, no_leftovers):
    path = zipped(series(), folder / "case.zip")
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) // 2])
    assert "zip archive" in refusal(path)
    flipped = bytearray(raw)
    flipped[len(raw) // 3] ^= 255
    path.write_bytes(flipped)
    refusal(path)
    path.write_bytes(b"this is no archive" * 50)
    assert "zip archive" in refusal(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "nothing here")
    assert "no DICOM images" in refusal(path)


def test_a_zip_that_finds_no_room_to_unpack_says_so(series, folder, monkeypatch, no_leftovers):
    path = zipped(series(), folder / "case.zip")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(dicom, "_unpack_member", full)
    with pytest.raises(OutputError, match="free space"):
        read_scan(path)


def test_the_real_scan_is_the_same_from_dicom_and_from_nifti(shared_data, no_leftovers):
    place = shared_data / "predental_cbct"
    packed, plain = read_scan(place / "predental_dicom.zip"), read_scan(place / "predental.nii.gz")
    assert np.array_equal(packed.array, plain.array)
    assert packed.array.dtype == plain.array.dtype == np.int16
    assert packed.spacing == pytest.approx(plain.spacing)
    assert packed.origin == pytest.approx(plain.origin)
    np.testing.assert_allclose(packed.direction, plain.direction)


def as_jpeg_2000(data: pydicom.Dataset, plane: np.ndarray) -> None:
    stream = io.BytesIO()
    Image.fromarray(plane.astype(np.uint16)).save(stream, "JPEG2000", irreversible=False, no_jp2=True)
    data.PixelData = pydicom.encaps.encapsulate([stream.getvalue()])
    data["PixelData"].is_undefined_length = True
    data.file_meta.TransferSyntaxUID = pydicom.uid.JPEG2000Lossless


def as_deflated(data: pydicom.Dataset, plane: np.ndarray) -> None:
    data.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian


@pytest.mark.parametrize(
    "pack",
    [
        lambda data, plane: data.compress(pydicom.uid.RLELossless),
        lambda data, plane: data.compress(pydicom.uid.JPEGLSLossless),
        as_jpeg_2000,
        as_deflated,
    ],
    ids=["RLE", "JPEG-LS", "JPEG 2000", "deflated"],
)
def test_compressed_slices_are_read_without_loss(series, voxels, pack):
    values = np.abs(voxels)
    folder = series(PixelRepresentation=0)
    for file in folder.iterdir():
        data = pydicom.dcmread(file)
        plane = values[round((data.ImagePositionPatient[2] - 30) / 0.6)]
        data.PixelData = plane.astype("<u2").tobytes()
        pack(data, plane)
        data.save_as(file)
    assert np.array_equal(read_scan(folder).array, values)
