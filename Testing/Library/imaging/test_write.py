"""Writing label maps and segmentations: geometry identical, whole files or none."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from ToothTopoSegLib.errors import Cancelled, OutputError, UsageError
from ToothTopoSegLib.imaging import write
from ToothTopoSegLib.imaging.read import read_label_map, read_scan, read_segments
from ToothTopoSegLib.imaging.volume import Volume
from ToothTopoSegLib.imaging.write import (
    Segment,
    output_folder,
    remove_abandoned,
    write_label_map,
    write_segmentation,
)

TOOTH = Segment(11, "Zahn ö", (1.0, 0.5, 0.0), "List~SCT^123037004^Anatomical Structure~", "tooth_11")
OTHER = Segment(48, "wisdom tooth", (0.0, 0.25, 1.0), "", "tooth_48")


@pytest.fixture
def labels() -> Volume:
    array = np.zeros((10, 12, 14), np.uint8)
    array[2:5, 3:7, 4:9] = 11
    array[7, 1, 12] = 48
    return Volume(array, (0.6, 0.5, 0.4), (-7.5, 20.25, 3.0), ((0.8, 0.0, -0.6), (0.6, 0.0, 0.8), (0.0, -1.0, 0.0)))


def geometry(path: Path) -> tuple[tuple[float, ...], ...]:
    image = SimpleITK.ReadImage(str(path))
    return image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection()


def assert_one_sentence(error: Exception) -> None:
    assert len(str(error)) < 400
    assert "\n" not in str(error)
    assert str(error).endswith(".")


def rotation(rng: np.random.Generator) -> np.ndarray:
    q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return q


@pytest.mark.parametrize("name", ["a.nii.gz", "b.nii", "c.nrrd", "d.mha"])
def test_labels_and_geometry_return_from_every_format(folder, labels, name):
    write_label_map(labels, folder / name)
    again = read_label_map(folder / name)
    assert np.array_equal(again.array, labels.array)
    assert again.array.dtype == np.uint8
    assert again.spacing == pytest.approx(labels.spacing)
    assert again.origin == pytest.approx(labels.origin)
    np.testing.assert_allclose(again.direction, labels.direction, atol=1e-6)
    assert [p.name for p in folder.iterdir()] == [name]


@pytest.mark.parametrize("qform_only", [False, True])
def test_a_nifti_label_map_reads_back_with_the_very_geometry_of_its_nifti_scan(folder, voxels, qform_only):
    rng = np.random.default_rng(7)
    for n in range(24):
        image = SimpleITK.GetImageFromArray(voxels)
        image.SetSpacing(rng.uniform(0.1, 2.0, 3))
        image.SetOrigin(rng.normal(0, 200, 3))
        image.SetDirection((np.eye(3) if n == 0 else rotation(rng)).ravel())
        SimpleITK.WriteImage(image, str(folder / "scan.nii"))
        if qform_only:
            raw = bytearray((folder / "scan.nii").read_bytes())
            raw[254:256] = b"\0\0"
            (folder / "scan.nii").write_bytes(raw)
        scan = read_scan(folder / "scan.nii")
        write_label_map(scan.with_array((scan.array > 400).astype(np.uint8)), folder / "labels.nii.gz")
        assert geometry(folder / "labels.nii.gz") == geometry(folder / "scan.nii")


def test_a_label_map_of_the_real_scan_lies_on_its_very_grid(folder, shared_data):
    path = shared_data / "head_ct_upper_teeth" / "cranium.nii.gz"
    scan = read_scan(path)
    write_label_map(scan.with_array((scan.array > 1200).astype(np.uint8)), folder / "labels.nii.gz")
    assert geometry(folder / "labels.nii.gz") == geometry(path)


def test_equal_label_maps_are_equal_files(folder, labels):
    write_label_map(labels, folder / "a.nii.gz")
    write_label_map(labels, folder / "b.nii.gz")
    assert (folder / "a.nii.gz").read_bytes() == (folder / "b.nii.gz").read_bytes()


def test_labels_above_255_are_kept_as_uint16(folder, labels):
    large = replace(labels, array=labels.array.astype(np.int64) * 100)
    write_label_map(large, folder / "a.nii.gz")
    assert SimpleITK.ReadImage(str(folder / "a.nii.gz")).GetPixelID() == SimpleITK.sitkUInt16
    assert np.array_equal(read_label_map(folder / "a.nii.gz").array, large.array)


def test_values_that_are_no_labels_are_refused(folder, labels):
    for array in (labels.array.astype(np.float32), labels.array.astype(np.int16) - 1, labels.array * np.int32(9999)):
        with pytest.raises(ValueError, match="labels must be integers"):
            write_label_map(replace(labels, array=array), folder / "a.nii.gz")
    assert not list(folder.iterdir())


def test_an_unknown_suffix_is_a_wrong_usage(folder, labels):
    with pytest.raises(UsageError):
        write_label_map(labels, folder / "a.png")
    with pytest.raises(UsageError):
        write_segmentation(labels, folder / "a.nrrd", [TOOTH, OTHER])


def test_a_segmentation_carries_slicers_fields(folder, labels):
    write_segmentation(labels, folder / "a.seg.nrrd", [TOOTH, OTHER])
    image = SimpleITK.ReadImage(str(folder / "a.seg.nrrd"))
    fields = {key: image.GetMetaData(key) for key in image.GetMetaDataKeys()}
    expected = {
        "Segmentation_MasterRepresentation": "Binary labelmap",
        "Segmentation_ContainedRepresentationNames": "Binary labelmap|Closed surface|",
        "Segmentation_ReferenceImageExtentOffset": "0 0 0",
        "Segment0_ID": "tooth_11",
        "Segment0_Name": "Zahn ö",
        "Segment0_NameAutoGenerated": "0",
        "Segment0_Color": "1 0.5 0",
        "Segment0_ColorAutoGenerated": "0",
        "Segment0_LabelValue": "11",
        "Segment0_Layer": "0",
        "Segment0_Tags": "TerminologyEntry:List~SCT^123037004^Anatomical Structure~|",
        "Segment1_LabelValue": "48",
        "Segment1_Color": "0 0.25 1",
    }
    assert expected.items() <= fields.items()
    # One layer is one voxel array in Slicer: each segment states the box of all of them, i, j, k.
    assert fields["Segment0_Extent"] == fields["Segment1_Extent"] == "4 12 1 6 2 7"
    assert fields["Segmentation_ConversionParameters"].startswith("Reference image geometry|")
    assert fields["Segmentation_ConversionParameters"].split("|")[1].endswith(";0;13;0;11;0;9;")
    assert np.array_equal(SimpleITK.GetArrayFromImage(image), labels.array)
    assert b"encoding: gzip" in (folder / "a.seg.nrrd").read_bytes()[:4000]


def test_a_segmentation_lies_on_the_grid_of_its_scan_and_returns_its_segments(folder, labels):
    write_segmentation(labels, folder / "a.seg.nrrd", [TOOTH, OTHER])
    again = read_label_map(folder / "a.seg.nrrd")
    assert np.array_equal(again.array, labels.array)
    assert again.spacing == pytest.approx(labels.spacing, abs=1e-12)
    assert again.origin == pytest.approx(labels.origin, abs=1e-12)
    np.testing.assert_allclose(again.direction, labels.direction, atol=1e-12)
    assert read_segments(folder / "a.seg.nrrd") == (TOOTH, replace(OTHER))


def test_the_reference_grid_is_the_voxel_to_ras_matrix_of_the_scan(folder, labels):
    write_segmentation(labels, folder / "a.seg.nrrd", [TOOTH, OTHER])
    text = SimpleITK.ReadImage(str(folder / "a.seg.nrrd")).GetMetaData("Segmentation_ConversionParameters")
    matrix = np.array([float(v) for v in text.split("|")[1].split(";")[:16]]).reshape(4, 4)
    x, y, z = labels.index_to_lps(np.array([3, 4, 5]))
    np.testing.assert_allclose(matrix @ [5, 4, 3, 1], [-x, -y, z, 1], atol=1e-12)


def test_a_segmentation_without_any_tooth_is_written_too(folder, labels):
    empty = labels.with_array(np.zeros_like(labels.array))
    write_segmentation(empty, folder / "none.seg.nrrd", [])
    assert not read_label_map(folder / "none.seg.nrrd").array.any()
    write_segmentation(empty, folder / "absent.seg.nrrd", [TOOTH])
    image = SimpleITK.ReadImage(str(folder / "absent.seg.nrrd"))
    assert image.GetMetaData("Segment0_Extent") == "0 -1 0 -1 0 -1"


@pytest.mark.parametrize(
    "segments",
    [[TOOTH], [TOOTH, OTHER, replace(OTHER, identifier="x")], [TOOTH, replace(OTHER, identifier="tooth_11")]],
)
def test_labels_without_a_segment_or_segments_not_told_apart_are_refused(folder, labels, segments):
    with pytest.raises(ValueError, match="segment"):
        write_segmentation(labels, folder / "a.seg.nrrd", segments)


@pytest.mark.parametrize("bad", [{"terminology": "a|b"}, {"name": "two\nlines"}, {"value": 0}])
def test_texts_that_the_header_cannot_hold_are_refused(folder, labels, bad):
    with pytest.raises(ValueError, match="segment"):
        write_segmentation(labels, folder / "a.seg.nrrd", [TOOTH, OTHER, replace(OTHER, identifier="c", **bad)])


@pytest.mark.skipif(
    sys.platform == "win32", reason="Windows has no limit on the size of a file to stand for a full disk"
)
@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii", "a.nrrd", "a.mha", "a.seg.nrrd"])
def test_a_disk_that_fills_up_leaves_the_old_file_and_nothing_half_written(folder, name):
    import resource

    array = np.random.default_rng(0).integers(0, 2, (40, 60, 60)).astype(np.uint8) * 11
    volume = Volume(array)
    (folder / name).write_bytes(b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, hard))
    try:
        with pytest.raises(OutputError) as caught:
            if name.endswith(".seg.nrrd"):
                write_segmentation(volume, folder / name, [TOOTH])
            else:
                write_label_map(volume, folder / name)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert_one_sentence(caught.value)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == {name: b"old"}


def test_a_file_cannot_be_written_where_a_file_stands_for_the_folder(folder, labels):
    (folder / "file").write_text("x")
    for name in ("a.nii.gz", "a.nrrd"):
        with pytest.raises(OutputError) as caught:
            write_label_map(labels, folder / "file" / name)
        assert_one_sentence(caught.value)
    with pytest.raises(OutputError) as caught:
        write_segmentation(labels, folder / "nowhere" / "a.seg.nrrd", [TOOTH, OTHER])
    assert_one_sentence(caught.value)


def test_results_appear_together_in_the_end_and_replace_older_ones(folder):
    target = folder / "new" / "deep ö"
    for text in ("first", "second"):
        with output_folder(target) as staging:
            (staging / "a.txt").write_text(text)
            (staging / "meshes").mkdir()
            (staging / "meshes" / "b.stl").write_text(text)
            assert not (target / "a.txt").exists() or (target / "a.txt").read_text() == "first"
        assert (target / "a.txt").read_text() == text
        assert (target / "meshes" / "b.stl").read_text() == text
        assert sorted(p.name for p in target.iterdir()) == ["a.txt", "meshes"]


@pytest.mark.parametrize("reason", [Cancelled("cancelled"), KeyboardInterrupt(), ValueError("x"), SystemExit(1)])
def test_nothing_is_left_of_a_run_that_did_not_end(folder, reason):
    target = folder / "new" / "deep"
    with pytest.raises(type(reason)), output_folder(target) as staging:
        (staging / "a.txt").write_text("half")
        raise reason
    assert not list(folder.iterdir())


def test_what_stood_in_the_folder_before_stays_when_a_run_fails(folder):
    (folder / "a.txt").write_text("old")
    with pytest.raises(Cancelled), output_folder(folder) as staging:
        (staging / "a.txt").write_text("half")
        raise Cancelled
    assert {p.name: p.read_text() for p in folder.iterdir()} == {"a.txt": "old"}


def test_an_output_folder_below_a_file_or_that_is_a_file_is_refused(folder):
    (folder / "file").write_text("x")
    for target in (folder / "file", folder / "file" / "below" / "it"):
        with pytest.raises(OutputError) as caught, output_folder(target):
            pass
        assert_one_sentence(caught.value)
    assert [p.name for p in folder.iterdir()] == ["file"]


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.ENOSPC])
def test_an_output_folder_that_cannot_be_made_is_refused(folder, monkeypatch, code):
    def denied(self, *_, **__):
        raise OSError(code, "no", str(self))

    monkeypatch.setattr(Path, "mkdir", denied)
    with pytest.raises(OutputError) as caught, output_folder(folder / "new"):
        pass
    assert_one_sentence(caught.value)
    assert "new" in str(caught.value)
    assert not list(folder.iterdir())


def test_a_full_disk_during_a_run_is_one_sentence_and_leaves_nothing(folder, labels, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(write, "_write_parts", full)
    with pytest.raises(OutputError, match="disk is full") as caught, output_folder(folder / "new") as staging:
        (staging / "report.json").write_text("{}")
        write_label_map(labels, staging / "a.nii.gz")
    assert_one_sentence(caught.value)
    assert not list(folder.iterdir())


def test_a_report_that_finds_no_room_is_an_output_error_but_a_missing_model_is_not(folder):
    with pytest.raises(OutputError, match="disk is full"), output_folder(folder / "new"):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(FileNotFoundError), output_folder(folder / "new"):
        (folder / "model.onnx").read_bytes()
    with pytest.raises(OutputError), output_folder(folder / "new") as staging:
        (staging / "no" / "such" / "folder").write_text("x")
    assert not list(folder.iterdir())


def test_results_moved_halfway_are_taken_back_when_the_rest_cannot_follow(folder, monkeypatch):
    target = folder / "results"
    target.mkdir()
    (target / "a.txt").write_text("old a")
    (target / "b.txt").write_text("old b")
    real = write.os.replace

    def stubborn(source, place):
        if Path(place) == target / "b.txt" and Path(source).read_text() == "new b":
            raise OSError(errno.EACCES, "Permission denied", str(place))
        real(source, place)

    monkeypatch.setattr(write.os, "replace", stubborn)
    with pytest.raises(OutputError), output_folder(target) as staging:
        for name in ("a", "b", "c"):
            (staging / f"{name}.txt").write_text(f"new {name}")
    assert {p.name: p.read_text() for p in target.iterdir()} == {"a.txt": "old a", "b.txt": "old b"}


@pytest.mark.skipif(os.name == "nt", reason="Windows does not tell simply whether a process lives")
def test_what_a_dead_process_staged_is_removed_and_what_a_living_one_stages_is_not(tmp_path: Path) -> None:
    code = (
        "import os, pathlib, sys\n"
        "from ToothTopoSegLib.imaging.write import output_folder\n"
        "with output_folder(sys.argv[1]) as staged:\n"
        "    (staged / 'half').write_text('half')\n"
        "    os._exit(9)\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], env=environment).returncode == 9
    assert len(list(tmp_path.iterdir())) == 1
    with output_folder(tmp_path) as staged:
        remove_abandoned(tmp_path)
        assert list(tmp_path.iterdir()) == [staged.parent]
    remove_abandoned(tmp_path / "none")
