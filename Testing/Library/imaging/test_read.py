"""Reading scans and label maps: every format, and every unusable file refused in one sentence."""

from __future__ import annotations

import gzip
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from ToothTopoSegLib.errors import InputError
from ToothTopoSegLib.imaging.read import read_label_map, read_scan, read_segments, scan_name

FORMATS = ["a.nii", "a.nii.gz", "a.nrrd", "a.nhdr", "a.mha", "a.mhd", "a.gipl", "a.gipl.gz"]


def refusal(path: Path | str, read=read_scan) -> str:
    """The one sentence with which a file is refused."""
    with pytest.raises(InputError) as caught:
        read(path)
    text = str(caught.value)
    assert len(text) < 400
    assert "\n" not in text
    assert text.endswith(".")
    assert text.count(". ") == 0
    return text


def patched(path: Path, offset: int, layout: str, *values: float) -> Path:
    """The file with numbers of its binary header replaced."""
    raw = bytearray(path.read_bytes())
    struct.pack_into(layout, raw, offset, *values)
    path.write_bytes(raw)
    return path


def rewritten(path: Path, old: str, new: str) -> Path:
    """The file with a line of its text header replaced."""
    raw = path.read_bytes()
    changed = re.sub(old.encode(), new.encode(), raw, count=1)
    assert changed != raw
    path.write_bytes(changed)
    return path


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("compress", [False, True])
def test_every_format_is_read_with_its_voxels_and_geometry(image, voxels, name, compress):
    volume = read_scan(image(name, compress=compress))
    assert np.array_equal(volume.array, voxels)
    assert volume.array.dtype == np.int16
    assert volume.spacing == pytest.approx((0.6, 0.5, 0.4))


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_geometry_is_what_itk_says_for_an_oblique_scan(folder, voxels, suffix):
    picture = SimpleITK.GetImageFromArray(voxels)
    picture.SetSpacing((0.4, 0.5, 0.6))
    picture.SetOrigin((-7.5, 20.25, 100.0))
    picture.SetDirection((0.8, 0.0, -0.6, 0.6, 0.0, 0.8, 0.0, -1.0, 0.0))
    SimpleITK.WriteImage(picture, str(folder / f"oblique{suffix}"))
    again = SimpleITK.ReadImage(str(folder / f"oblique{suffix}"))
    volume = read_scan(folder / f"oblique{suffix}")
    assert volume.spacing == again.GetSpacing()[::-1]
    assert volume.origin == again.GetOrigin()
    assert tuple(np.ravel(volume.direction)) == again.GetDirection()
    np.testing.assert_allclose(
        volume.index_to_lps(np.array([3, 4, 5])), again.TransformIndexToPhysicalPoint((5, 4, 3)), atol=1e-9
    )


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
def test_the_number_type_of_the_file_is_kept(image, voxels, kind):
    array = np.abs(voxels).astype(kind) if np.dtype(kind).kind == "u" else voxels.astype(kind)
    volume = read_scan(image("typed.nrrd", array))
    assert volume.array.dtype == kind
    assert np.array_equal(volume.array, array)


def test_upper_case_suffixes_and_a_series_of_one_point_in_time_are_accepted(image, voxels):
    for name, upper in (("a.nii", "B.NII"), ("a.nii.gz", "C.NII.GZ"), ("a.nrrd", "D.NRRD"), ("a.mha", "E.MHA")):
        path = image(name)
        assert np.array_equal(read_scan(path.rename(path.with_name(upper))).array, voxels)
    assert np.array_equal(read_scan(image("one.nii.gz", voxels[None])).array, voxels)


def test_a_nifti_suffix_of_mixed_case_is_refused_with_advice(image, capfd):
    path = image("a.nii.gz")
    assert "rename" in refusal(path.rename(path.with_name("B.Nii.gz")))
    assert capfd.readouterr() == ("", "")


def test_a_plain_nifti_under_a_gz_name_is_read(image, voxels):
    path = image("a.nii")
    assert np.array_equal(read_scan(path.rename(path.with_name("b.nii.gz"))).array, voxels)


def test_nifti_units_of_metres_are_understood(image):
    path = patched(image("metres.nii"), 80, "<3f", 0.0004, 0.0005, 0.0006)
    raw = bytearray(path.read_bytes())
    struct.pack_into("<2h", raw, 252, 0, 0)
    raw[123] = 1
    path.write_bytes(raw)
    assert read_scan(path).spacing == pytest.approx((0.6, 0.5, 0.4))


def test_coarse_but_usual_spacings_are_accepted(image):
    for spacing in ((1.0, 1.0, 3.0), (0.957, 0.957, 1.5), (0.08, 0.08, 0.08), (4.0, 4.0, 4.0)):
        assert read_scan(image("ct.nii.gz", spacing=spacing)).spacing == pytest.approx(spacing[::-1])


def test_a_missing_file_is_refused(folder):
    assert "no file or folder nowhere.nii.gz" in refusal(folder / "nowhere.nii.gz")
    assert "no file or folder" in refusal(str(folder / "nowhere"))


@pytest.mark.parametrize("name", [*FORMATS, "a.seg.nrrd", "a.dcm", "a.zip"])
def test_an_empty_file_is_refused(folder, name):
    (folder / name).write_bytes(b"")
    assert "is empty" in refusal(folder / name)


@pytest.mark.parametrize("name", [n for n in FORMATS if n not in ("a.nhdr", "a.mhd")])
@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("kept", [0.99, 0.5, 0.02])
def test_a_truncated_file_is_refused_and_not_filled_with_zeros(image, name, compress, kept, capfd):
    path = image(name, compress=compress)
    raw = path.read_bytes()
    path.write_bytes(raw[: int(len(raw) * kept)])
    assert "incomplete" in refusal(path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nrrd", "a.mha", "a.gipl.gz"])
def test_a_damaged_compressed_file_is_refused(image, name, capfd):
    path = image(name, compress=True)
    raw = bytearray(path.read_bytes())
    raw[len(raw) * 2 // 3] ^= 255
    path.write_bytes(raw)
    assert "damaged" in refusal(path)
    assert capfd.readouterr() == ("", "")


def test_a_gzip_cut_in_its_checksum_is_refused(image):
    path = image("a.nii.gz")
    path.write_bytes(path.read_bytes()[:-4])
    assert "incomplete" in refusal(path)


@pytest.mark.parametrize("name", [*FORMATS, "a.seg.nrrd"])
def test_text_under_an_image_name_is_refused(folder, name, capfd):
    (folder / name).write_text("this is no image\n" * 100)
    assert "cannot be read as" in refusal(folder / name)
    (folder / name).write_bytes(gzip.compress(b"this is no image" * 100))
    assert "cannot be read as" in refusal(folder / name)
    (folder / name).write_bytes(os.urandom(5000))
    assert "cannot be read as" in refusal(folder / name)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("name", "voxel_file"), [("a.nhdr", "a.raw"), ("a.mhd", "a.raw")])
def test_a_header_without_its_file_of_voxels_or_with_too_short_a_one_is_refused(image, name, voxel_file, capfd):
    path = image(name)
    data = path.with_name(voxel_file)
    data.write_bytes(data.read_bytes()[:1000])
    assert "incomplete" in refusal(path)
    data.unlink()
    assert f"voxels in {voxel_file}, which is missing" in refusal(path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha", ".gipl"])
def test_2d_4d_and_colour_images_are_refused(image, voxels, suffix):
    assert "2D" in refusal(image("flat" + suffix, voxels[0]))
    assert "2D" in refusal(image("thin" + suffix, voxels[:1]))
    if suffix != ".gipl":  # the format has neither
        assert "4D" in refusal(image("series" + suffix, np.stack([voxels] * 3)))
        assert "channels" in refusal(image("colour" + suffix, np.stack([np.abs(voxels)] * 3, -1).astype(np.uint8)))


def test_complex_numbers_are_refused(image, voxels):
    assert "channels" in refusal(image("complex.nii.gz", voxels.astype(np.complex64)))


@pytest.mark.parametrize("value", [0, 1000])
def test_a_constant_volume_is_refused(image, voxels, value):
    assert f"value {value} in every voxel" in refusal(image("flat.nii.gz", np.full_like(voxels, value)))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nrrd", "a.mha", "a.gipl"])
def test_values_that_are_no_numbers_are_refused(image, voxels, bad, kind, name):
    array = voxels.astype(kind)
    assert np.array_equal(read_scan(image(name, array)).array, array)
    array[-1, -1, -1] = bad
    assert "not finite" in refusal(image(name, array))


def test_a_volume_of_fewer_than_8_voxels_along_an_axis_is_refused(image, voxels):
    assert "16 x 14 x 7 voxels" in refusal(image("small.nrrd", voxels[:7]))
    assert read_scan(image("just.nrrd", voxels[:8, :8, :8])).array.shape == (8, 8, 8)


@pytest.mark.parametrize("spacing", [(5.0, 1.0, 1.0), (9.0, 9.0, 9.0), (1.0, 1.0, 4.1), (0.001, 0.001, 0.001)])
@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha", ".gipl"])
def test_voxels_too_large_or_too_small_for_teeth_are_refused(image, spacing, suffix):
    assert "voxel size" in refusal(image("coarse" + suffix, spacing=spacing))


@pytest.mark.parametrize("bad", [0.0, -0.4, np.nan, np.inf])
def test_spacings_that_itk_would_replace_or_mirror_are_refused(image, bad, capfd):
    for axis in range(3):
        assert "voxel size" in refusal(patched(image("a.nii"), 80 + 4 * axis, "<f", bad))
        assert "voxel size" in refusal(patched(image("a.gipl"), 10 + 4 * axis, ">f", bad))
    assert "voxel size" in refusal(rewritten(image("a.mha"), "ElementSpacing = [^ ]*", f"ElementSpacing = {bad}"))
    if bad >= 0 or np.isnan(bad):  # a negative number in a direction vector is an ordinary mirrored axis
        nrrd = rewritten(image("a.nrrd"), r"space directions: \([^,]*,", f"space directions: ({bad},")
        assert "voxel size" in refusal(nrrd)
    nrrd = rewritten(image("b.nrrd"), "space: [^\n]*\n", "")
    nrrd = rewritten(rewritten(nrrd, "space origin: [^\n]*\n", ""), "space directions: [^\n]*", f"spacings: 1 {bad} 1")
    assert "voxel size" in refusal(nrrd)
    assert capfd.readouterr() == ("", "")


def test_a_file_that_states_no_spacing_is_refused(image):
    assert "no voxel size" in refusal(rewritten(image("a.mha"), "ElementSpacing = [^\n]*\n", ""))
    nrrd = rewritten(rewritten(image("a.nrrd"), "space: [^\n]*\n", ""), "space origin: [^\n]*\n", "")
    assert "no voxel size" in refusal(rewritten(nrrd, "space directions: [^\n]*\n", ""))


def test_sheared_axes_are_refused(image):
    nifti = patched(image("a.nii"), 252, "<2h", 0, 1)
    patched(nifti, 280, "<12f", -0.4, 0.1, 0, 0, 0, -0.5, 0.1, 0, 0, 0, 0.6, 0)
    assert "right angles" in refusal(nifti)
    assert "right angles" in refusal(rewritten(image("a.nrrd"), r"\(0,0,0.5[^)]*\)", "(0,0.2,0.6)"))


def test_an_unknown_format_is_refused(folder):
    for name in ("scan.png", "scan.xyz", "scan"):
        (folder / name).write_bytes(b"something" * 100)
        assert "unknown format" in refusal(folder / name)


def test_a_file_that_may_not_be_opened_is_refused(image, monkeypatch):
    path = image("a.nii.gz")

    def denied(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    assert "Permission denied" in refusal(path)


def test_a_very_long_name_does_not_make_the_sentence_long(folder):
    refusal(folder / ("x" * 200 + ".nii.gz"))


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("predental.nii.gz", "predental"),
        ("/a b/Case.1.NII.GZ", "Case.1"),
        ("x.nii", "x"),
        ("x.seg.nrrd", "x"),
        ("x.nrrd", "x"),
        ("x.mha", "x"),
        ("x.mhd", "x"),
        ("x.gipl.gz", "x"),
        ("x.zip", "x"),
        ("IMG0001.dcm", "IMG0001"),
        ("1.2.840.1", "1.2.840.1"),
        ("Zähne 歯", "Zähne 歯"),
        (".nii.gz", ".nii.gz"),
    ],
)
def test_the_case_is_named_after_its_file(path, name):
    assert scan_name(path) == name


def test_a_folder_gives_its_own_name(folder, monkeypatch):
    (folder / "case.zip").mkdir()
    assert scan_name(folder / "case.zip") == "case.zip"
    monkeypatch.chdir(folder)
    assert scan_name(".") == folder.name


def labels_of(values) -> np.ndarray:
    array = np.zeros((10, 11, 12))
    array[2:4, 3:5, 1:9] = values
    return array


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.int32, np.float32, np.float64])
def test_label_maps_of_any_number_type_become_uint8(image, kind):
    array = labels_of(48).astype(kind)
    volume = read_label_map(image("labels.nii.gz", array))
    assert volume.array.dtype == np.uint8
    assert np.array_equal(volume.array, array)


def test_labels_above_255_become_uint16_and_an_empty_map_is_a_map(image):
    assert read_label_map(image("big.nrrd", labels_of(1111).astype(np.int32))).array.dtype == np.uint16
    assert not read_label_map(image("none.nrrd", labels_of(0).astype(np.uint8))).array.any()


@pytest.mark.parametrize(
    ("value", "words"), [(11.5, "fractions"), (-1, "from -1"), (70000, "to 70000"), (np.nan, "not finite")]
)
def test_values_that_are_no_labels_are_refused(image, value, words):
    assert words in refusal(image("bad.nii.gz", labels_of(value).astype(np.float32)), read_label_map)


def test_a_folder_or_dicom_is_no_label_map(folder):
    assert "is a folder" in refusal(folder, read_label_map)
    (folder / "x.dcm").write_bytes(b"x")
    assert "label map" in refusal(folder / "x.dcm", read_label_map)


def slicer_file(folder: Path, array: np.ndarray, segments: dict[int, str], **fields: str) -> Path:
    picture = SimpleITK.GetImageFromArray(array, isVector=array.ndim == 4)
    for i, (value, name) in enumerate(segments.items()):
        tags = "Segmentation.Status:inprogress|TerminologyEntry:List~SCT^123037004^Anatomical Structure~|"
        one = {"ID": f"Segment_{i}", "Name": name, "LabelValue": str(value), "Color": "0.5 0.25 1", "Tags": tags}
        for key, text in (one | fields).items():
            picture.SetMetaData(f"Segment{i}_{key}", text)
    SimpleITK.WriteImage(picture, str(folder / "teeth.seg.nrrd"), True)
    return folder / "teeth.seg.nrrd"


def test_a_slicer_segmentation_gives_its_label_values_and_segments(folder):
    array = np.zeros((9, 9, 9), np.uint8)
    array[1], array[2], array[3] = 11, 21, 7  # no segment has the value 7: Slicer shows nothing there
    path = slicer_file(folder, array, {11: "Zahn ö", 21: "b"})
    labels = read_label_map(path).array
    assert np.unique(labels).tolist() == [0, 11, 21]
    assert np.array_equal(labels == 11, array == 11)
    first, second = read_segments(path)
    assert (first.value, first.name, first.identifier) == (11, "Zahn ö", "Segment_0")
    assert first.colour == (0.5, 0.25, 1.0)
    assert first.terminology == "List~SCT^123037004^Anatomical Structure~"
    assert second.value == 21


def test_overlapping_segments_in_layers_are_refused(folder):
    array = np.zeros((9, 9, 9, 2), np.uint8)
    array[1, ..., 0], array[1, ..., 1] = 1, 1
    assert "overlapping segments" in refusal(slicer_file(folder, array, {1: "a", 2: "b"}), read_label_map)


def test_other_label_maps_name_no_segments(image):
    assert read_segments(image("a.nii.gz", labels_of(11).astype(np.uint8))) == ()
    assert read_segments(image("a.nrrd", labels_of(11).astype(np.uint8))) == ()


@pytest.mark.parametrize(
    ("name", "spacing"),
    [
        ("head_ct_upper_teeth/cranium.nii.gz", (1.5, 0.957, 0.957)),
        ("neck_ct_edentulous/hn_edentulous_ct_crop.nii.gz", (3.0, 1.0, 1.0)),
    ],
)
def test_the_real_ct_scans_are_accepted(shared_data, name, spacing):
    volume = read_scan(shared_data / name)
    assert volume.spacing == pytest.approx(spacing, abs=1e-3)
    assert volume.array.dtype == np.int16


def test_importing_the_readers_and_writers_loads_nothing_heavy():
    code = (
        "import sys\n"
        "from ToothTopoSegLib.imaging import canonical, dicom, read, resample, write\n"
        "heavy = {'SimpleITK', 'scipy', 'torch', 'vtk', 'skimage', 'onnxruntime'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
