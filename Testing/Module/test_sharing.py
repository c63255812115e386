"""Results handed on: what other programs find in surfaces, label maps, segmentations and DICOM segmentations."""

from __future__ import annotations

import importlib
import json
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from ToothTopoSegLib.anatomy.fdi import JAWS, TEETH
from ToothTopoSegLib.anatomy.snomed import code_of, terminology_entry
from ToothTopoSegLib.errors import InputError, OutputError, UsageError
from ToothTopoSegLib.imaging.read import read_label_map, read_segments
from ToothTopoSegLib.resources import resource_folder

NAMES = {"36": 36, "37": 37, "11": 11, "lower jaw": 101}


@pytest.fixture(scope="module")
def sharing(slicer_core):
    """The module under test."""
    return importlib.import_module("ToothTopoSegGui.sharing")


@pytest.fixture
def teeth(nodes, scan, labels):
    """The teeth 11, 36 and 37 and the lower jaw as a segmentation node made by this program."""
    return nodes.show_teeth(labels, scan, "Teeth", closed_surface=True)


@pytest.fixture
def out(tmp_path):
    """A folder that does not exist yet, in a path with a space and letters beyond ASCII."""
    return tmp_path / "Zähne 歯" / "out"


# ---- surfaces


def stl_points(path):
    """Corners of all triangles of a binary STL file."""
    data = path.read_bytes()
    count = struct.unpack_from("<I", data, 80)[0]
    assert len(data) == 84 + 50 * count
    triangles = np.frombuffer(data, np.dtype([("numbers", "<f4", 12), ("_", "<u2")]), count, 84)
    return triangles["numbers"][:, 3:].reshape(-1, 3)


def obj_points(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    return np.array([[float(word) for word in line.split()[1:4]] for line in lines if line.startswith("v ")])


def place_of(labels, number):
    """The centre of a tooth in LPS mm."""
    return labels.index_to_lps(np.argwhere(labels.array == number)).mean(axis=0)


def test_each_tooth_is_a_file_that_carries_its_number(sharing, teeth, out):
    paths = sharing.save_surfaces(teeth, out)
    assert [path.name for path in paths] == [
        "Teeth_11_upper_right_central_incisor.stl",
        "Teeth_36_lower_left_first_molar.stl",
        "Teeth_37_lower_left_second_molar.stl",
    ]
    assert sorted(paths) == sorted(out.iterdir())


@pytest.mark.parametrize("coordinates", ["LPS", "RAS"])
@pytest.mark.parametrize(("file_format", "points"), [("stl", stl_points), ("obj", obj_points)])
def test_surfaces_lie_where_the_teeth_are_in_the_coordinates_asked_for(
    sharing, teeth, labels, out, coordinates, file_format, points
):
    paths = sharing.save_surfaces(teeth, out, file_format, coordinates)
    turned = np.array([1, 1, 1]) if coordinates == "LPS" else np.array([-1, -1, 1])
    for path, number in zip(paths, (11, 36, 37), strict=True):
        corners = points(path)
        middle = (corners.min(axis=0) + corners.max(axis=0)) / 2
        np.testing.assert_allclose(middle, turned * place_of(labels, number), atol=0.3)
        assert f"SPACE={coordinates}".encode() in path.read_bytes()[:80]


def test_jaws_are_written_on_request(sharing, teeth, out):
    paths = sharing.save_surfaces(teeth, out, jaws=True)
    assert [path.name for path in paths][-1] == "Teeth_lower_jaw.stl"


def test_surfaces_are_made_where_there_are_none_and_the_node_stays_as_it_was(sharing, nodes, scan, labels, out):
    node = nodes.show_teeth(labels, scan, "Voxels")
    assert len(sharing.save_surfaces(node, out)) == 3
    assert not node.GetSegmentation().ContainsRepresentation("Closed surface")


def test_surfaces_follow_the_parent_transform(sharing, teeth, labels, out, make_transform):
    moved = np.eye(4)
    moved[:3, 3] = 100, 0, 0  # to the right in RAS
    teeth.SetAndObserveTransformNodeID(make_transform(moved).GetID())
    corners = stl_points(sharing.save_surfaces(teeth, out)[0])
    middle = (corners.min(axis=0) + corners.max(axis=0)) / 2
    np.testing.assert_allclose(middle, place_of(labels, 11) - (100, 0, 0), atol=0.3)


def test_two_segments_of_one_tooth_are_one_file(sharing, make_segmentation, scan, teeth_array, out):
    halves = [(teeth_array == 36).astype(np.uint8), (teeth_array == 37).astype(np.uint8)]
    node = make_segmentation((halves[0], {"36": 1}), (halves[1], {"tooth 36": 1}), like=scan)
    (path,) = sharing.save_surfaces(node, out)
    assert path.name == "Drawn_36_lower_left_first_molar.stl"
    whole = len(stl_points(path))
    only_one = make_segmentation((halves[0], {"36": 1}), like=scan)
    assert whole == 2 * len(stl_points(sharing.save_surfaces(only_one, out)[0]))


def test_letters_that_no_file_name_may_have_are_replaced(sharing, teeth, out):
    teeth.SetName("a/b:c 歯.")
    assert sharing.save_surfaces(teeth, out)[0].name == "a_b_c 歯_11_upper_right_central_incisor.stl"


@pytest.mark.parametrize("choice", [{"file_format": "step"}, {"coordinates": "XYZ"}, {"scheme": "none"}])
def test_unknown_choices_are_refused(sharing, teeth, out, choice):
    with pytest.raises(UsageError):
        sharing.save_surfaces(teeth, out, **choice)
    assert not out.exists()


def test_a_segmentation_of_empty_teeth_is_refused(sharing, make_segmentation, scan, teeth_array, out):
    node = make_segmentation((np.zeros_like(teeth_array), {"36": 36}), like=scan)
    with pytest.raises(InputError, match="empty"):
        sharing.save_surfaces(node, out)
    assert not out.exists()


def test_surfaces_that_cannot_be_written_leave_nothing(sharing, teeth, out):
    out.parent.mkdir()
    out.write_text("mine", encoding="utf-8")
    with pytest.raises(OutputError):
        sharing.save_surfaces(teeth, out)
    assert [p.name for p in out.parent.iterdir()] == ["out"]


# ---- label maps and segmentations


def test_the_label_map_has_fdi_values_on_the_grid_of_the_scan(sharing, teeth, scan, labels, teeth_array, out):
    written = sharing.save_label_map(teeth, out / "case.nii.gz")
    assert sorted(written.numbers.values()) == [11, 36, 37, 101]
    read = read_label_map(out / "case.nii.gz")
    assert np.array_equal(read.array, teeth_array)
    np.testing.assert_allclose(read.origin, labels.origin, atol=1e-4)
    np.testing.assert_allclose(read.direction, labels.direction, atol=1e-6)
    assert {path.name for path in out.iterdir()} == {"case.nii.gz", "case_ColorTable.ctbl"}


def test_the_colour_table_beside_it_is_read_by_slicer_with_names_at_the_fdi_values(sharing, teeth, slicer_core, out):
    sharing.save_label_map(teeth, out / "case.nii.gz")
    table, storage = slicer_core.vtkMRMLColorTableNode(), slicer_core.vtkMRMLColorTableStorageNode()
    storage.SetFileName(str(out / "case_ColorTable.ctbl"))
    assert storage.ReadData(table)
    assert table.GetColorName(36).replace("_", " ") == "36 lower left first molar"


def test_the_segmentation_of_another_tool_gets_names_and_codes(sharing, make_segmentation, scan, teeth_array, out):
    node = make_segmentation((teeth_array, {"36": 36, "LL7": 37, "11": 11}), like=scan)
    sharing.save_segmentation(node, out / "case.seg.nrrd")
    assert [(s.name, s.value, s.terminology) for s in read_segments(out / "case.seg.nrrd")] == [
        ("11 upper right central incisor", 11, terminology_entry(11)),
        ("36 lower left first molar", 36, terminology_entry(36)),
        ("37 lower left second molar", 37, terminology_entry(37)),
    ]


@pytest.mark.parametrize(("save", "name"), [("save_label_map", "case.stl"), ("save_segmentation", "case.nrrd")])
def test_a_name_of_another_kind_of_file_is_refused_and_nothing_is_left(sharing, teeth, out, save, name):
    with pytest.raises(UsageError):
        getattr(sharing, save)(teeth, out / name)
    assert not out.exists()


def test_slicers_own_export_writes_fdi_values_once_it_is_told(sharing, teeth, scene, scan, slicer_core, vtk):
    def exported():
        label_map = scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode")
        logic, table = slicer_core.vtkSlicerSegmentationsModuleLogic, teeth.GetLabelmapConversionColorTableNode()
        mode = slicer_core.vtkSegmentation.EXTENT_REFERENCE_GEOMETRY
        segments = teeth.GetSegmentation().GetSegmentIDs()
        assert logic.ExportSegmentsToLabelmapNode(teeth, segments, label_map, scan, mode, table)
        scalars = label_map.GetImageData().GetPointData().GetScalars()
        return set(np.unique(vtk.util.numpy_support.vtk_to_numpy(scalars)).tolist())

    assert exported() == {0, 1, 2, 3, 4}
    table = sharing.use_fdi_values(teeth)
    assert exported() == {0, 11, 36, 37, 101}
    assert sharing.use_fdi_values(teeth) is table


# ---- DICOM


@pytest.fixture
def series(tmp_path, teeth_array):
    """The scan of ``teeth_array`` as DICOM slices on an upright grid of 0.4 x 0.4 x 0.5 mm; the files, head last."""
    folder = tmp_path / "dicom"
    folder.mkdir()
    study, series, frame = generate_uid(), generate_uid(), generate_uid()
    files = []
    for k, plane in enumerate(teeth_array):
        data = pydicom.Dataset()
        data.file_meta = pydicom.dataset.FileMetaDataset()
        data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = CTImageStorage
        data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = generate_uid()
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data.PatientName, data.PatientID, data.PatientBirthDate, data.PatientSex = "Nobody", "0", "", ""
        data.Modality, data.StudyID, data.AccessionNumber, data.ReferringPhysicianName = "CT", "1", "", ""
        data.StudyDate, data.StudyTime, data.InstanceNumber, data.SeriesNumber = "20260101", "120000", k + 1, 7
        data.StudyInstanceUID, data.SeriesInstanceUID, data.FrameOfReferenceUID = study, series, frame
        data.ImagePositionPatient, data.ImageOrientationPatient = [-5.0, -7.0, 0.5 * k], [1, 0, 0, 0, 1, 0]
        data.PixelSpacing, data.SliceThickness = [0.4, 0.4], 0.5
        data.Rows, data.Columns = plane.shape
        data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
        data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 1
        data.PixelData = plane.astype("<i2").tobytes()
        data.save_as(folder / f"{k:03}.dcm", enforce_file_format=True)
        files.append(folder / f"{k:03}.dcm")
    return files


@pytest.fixture
def dicom_scan(series, make_volume, teeth_array, scene, slicer_core):
    """The volume of ``series`` in a study of the subject hierarchy, as Slicer's module DICOM leaves it."""
    directions = np.diag([-1.0, -1.0, 1.0])
    volume = make_volume(teeth_array.astype(np.int16), (0.4, 0.4, 0.5), directions, (5, 7, 0))
    instances = [str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID) for path in series]
    volume.SetAttribute("DICOM.instanceUIDs", " ".join(instances))
    hierarchy = slicer_core.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    subject = hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), "Nobody")
    hierarchy.CreateItem(hierarchy.CreateStudyItem(subject, "CBCT"), volume)
    return volume


@pytest.fixture
def dicom_teeth(nodes, dicom_scan, teeth_array):
    """The teeth of that volume as this program shows them."""
    return nodes.show_teeth(nodes.volume_of(dicom_scan).with_array(teeth_array), dicom_scan, "Teeth")


def segment_attributes(node, slicer_core, vtk):
    """What Slicer's DICOMSegmentationPlugin tells dcmqi of each segment, read from the node by the same calls."""
    attributes = []
    for identifier in node.GetSegmentation().GetSegmentIDs():
        segment = node.GetSegmentation().GetSegment(identifier)
        tags = {}
        for name in (segment.GetTerminologyEntryTagName(), "DICOM.SegmentAlgorithmType", "DICOM.SegmentAlgorithmName"):
            value = vtk.reference("")
            segment.GetTag(name, value)
            tags[name] = str(value)
        entry = slicer_core.vtkSlicerTerminologyEntry()
        assert slicer_core.vtkSlicerTerminologiesModuleLogic().DeserializeTerminologyEntry(
            tags[segment.GetTerminologyEntryTagName()], entry
        )
        assert entry.GetRegionObject().GetCodeValue() is None  # an empty region would be written as an empty code
        told = {
            "labelID": 1,
            "SegmentLabel": segment.GetName(),
            "SegmentDescription": entry.GetCategoryObject().GetCodeMeaning(),
            "SegmentAlgorithmType": tags["DICOM.SegmentAlgorithmType"] or "MANUAL",
            "recommendedDisplayRGBValue": [round(255 * channel) for channel in segment.GetColor()],
        }
        if tags["DICOM.SegmentAlgorithmName"]:
            told["SegmentAlgorithmName"] = tags["DICOM.SegmentAlgorithmName"]
        for what, concept in (("Category", entry.GetCategoryObject()), ("Type", entry.GetTypeObject())):
            told[f"SegmentedProperty{what}CodeSequence"] = {
                "CodeValue": concept.GetCodeValue(),
                "CodingSchemeDesignator": concept.GetCodingSchemeDesignator(),
                "CodeMeaning": concept.GetCodeMeaning(),
            }
        attributes.append([told])
    return attributes


def dcmqi(program, **options):
    """Run a program of dcmqi, which Slicer's DICOM export and import run too."""
    command = [str(Path(sys.executable).with_name(program))]
    command += [word for name, value in options.items() for word in (f"--{name}", str(value))]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def dicom_segmentation(sharing, dicom_teeth, series, teeth_array, slicer_core, vtk, tmp_path):
    """A DICOM segmentation made from the prepared node by the program that Slicer makes it with."""
    sharing.prepare_for_dicom(dicom_teeth, algorithm_name="ToothTopoSeg")
    attributes = segment_attributes(dicom_teeth, slicer_core, vtk)
    masks = []
    source = SimpleITK.ReadImage([str(path) for path in series])
    for number in (11, 36, 37, 101):
        mask = SimpleITK.GetImageFromArray((teeth_array == number).astype(np.uint8))
        mask.CopyInformation(source)
        masks.append(tmp_path / f"{number}.nrrd")
        SimpleITK.WriteImage(mask, str(masks[-1]))
    told = {"SeriesNumber": "107", "InstanceNumber": "1", "SeriesDescription": "Teeth", "ContentCreatorName": "Slicer"}
    (tmp_path / "told.json").write_text(json.dumps(told | {"segmentAttributes": attributes}), encoding="utf-8")
    dcmqi(
        "itkimage2segimage",
        inputDICOMDirectory=series[0].parent,
        inputImageList=",".join(map(str, masks)),
        inputMetadata=tmp_path / "told.json",
        outputDICOM=tmp_path / "teeth.dcm",
    )
    return tmp_path / "teeth.dcm"


def test_a_dicom_segmentation_made_of_the_tags_says_which_tooth_each_segment_is(dicom_segmentation):
    written = pydicom.dcmread(dicom_segmentation)
    assert written.Modality == "SEG"
    segments = written.SegmentSequence
    assert [segment.SegmentLabel for segment in segments] == [
        "11 upper right central incisor",
        "36 lower left first molar",
        "37 lower left second molar",
        "lower jaw",
    ]
    types = [segment.SegmentedPropertyTypeCodeSequence[0] for segment in segments]
    expected = [code_of(number) for number in (11, 36, 37, 101)]
    assert [(t.CodingSchemeDesignator, t.CodeValue, t.CodeMeaning) for t in types] == expected
    assert {segment.SegmentedPropertyCategoryCodeSequence[0].CodeValue for segment in segments} == {"123037004"}
    assert {segment.SegmentAlgorithmType for segment in segments} == {"AUTOMATIC"}
    assert {segment.SegmentAlgorithmName for segment in segments} == {"ToothTopoSeg"}


def test_a_dicom_segmentation_lies_in_the_study_and_the_frame_of_reference_of_its_scan(dicom_segmentation, series):
    written, source = pydicom.dcmread(dicom_segmentation), pydicom.dcmread(series[0])
    for name in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID", "StudyDate"):
        assert getattr(written, name) == getattr(source, name)
    assert written.ReferencedSeriesSequence[0].SeriesInstanceUID == source.SeriesInstanceUID


def test_a_dicom_segmentation_reads_back_as_the_same_teeth(dicom_segmentation, teeth_array, tmp_path):
    (tmp_path / "back").mkdir()
    dcmqi("segimage2itkimage", inputDICOM=dicom_segmentation, outputDirectory=tmp_path / "back", outputType="nrrd")
    told = json.loads((tmp_path / "back" / "meta.json").read_text(encoding="utf-8"))
    codes = {code_of(number).value: number for number in (*TEETH, *JAWS)}
    seen = []
    for n, (segment,) in enumerate(told["segmentAttributes"], start=1):
        number = codes[segment["SegmentedPropertyTypeCodeSequence"]["CodeValue"]]
        mask = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(tmp_path / "back" / f"{n}.nrrd"))) > 0
        assert mask.sum() == (teeth_array == number).sum()
        seen.append(number)
    assert seen == [11, 36, 37, 101]


def test_a_prepared_segmentation_lacks_nothing_and_refers_to_the_instances_of_its_volume(
    sharing, dicom_teeth, dicom_scan, scene, slicer_core
):
    sharing.prepare_for_dicom(dicom_teeth, algorithm_name="ToothTopoSeg")
    assert sharing.missing_for_dicom(dicom_teeth) == []
    hierarchy = slicer_core.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    referred = hierarchy.GetItemAttribute(hierarchy.GetItemByDataNode(dicom_teeth), "DICOM.ReferencedInstanceUIDs")
    assert referred == dicom_scan.GetAttribute("DICOM.instanceUIDs")


def test_a_segmentation_of_another_tool_gets_codes_and_its_place_but_no_other_maker(
    sharing, make_segmentation, dicom_scan, teeth_array, vtk
):
    node = make_segmentation((teeth_array, NAMES), like=dicom_scan)
    segment = node.GetSegmentation().GetNthSegment(0)
    segment.SetTag(segment.GetTerminologyEntryTagName(), terminology_entry(46))
    assert any("Without a code of what they are: 37" in line for line in sharing.missing_for_dicom(node))
    sharing.prepare_for_dicom(node)
    assert sharing.missing_for_dicom(node) == []
    entry, maker = vtk.reference(""), vtk.reference("")
    segment.GetTag(segment.GetTerminologyEntryTagName(), entry)
    assert entry == terminology_entry(46)  # what somebody chose is kept
    assert not segment.GetTag("DICOM.SegmentAlgorithmName", maker)


def test_what_slicers_export_would_stumble_over_is_told_in_sentences(sharing, make_segmentation, teeth_array, vtk):
    node = make_segmentation((teeth_array, {"36": 36, "37": 37}))
    for n in range(2):
        segment = node.GetSegmentation().GetNthSegment(n)
        segment.SetTag(segment.GetTerminologyEntryTagName(), terminology_entry(36))
    assert sharing.missing_for_dicom(node) == [
        "The segmentation has no source volume; choose its source geometry in the module Segmentations.",
        "The segmentation is in no study; drag it to the study of its volume in the module Data.",
        "Several segments have the code 866006002: 36, 37; give each its own or join them.",
    ]


def test_a_volume_that_came_from_a_file_is_told(sharing, teeth):
    assert any("'CBCT' was not loaded by the module DICOM" in line for line in sharing.missing_for_dicom(teeth))


def test_an_unknown_type_of_algorithm_is_refused(sharing, teeth):
    with pytest.raises(UsageError, match="AUTOMATIC or SEMIAUTOMATIC or MANUAL"):
        sharing.prepare_for_dicom(teeth, algorithm_name="x", algorithm_type="MAGIC")


# ---- terminology


def test_slicer_reads_the_list_of_teeth_and_finds_every_code_in_it(sharing, slicer_core):
    logic = slicer_core.vtkSlicerTerminologiesModuleLogic()
    assert sharing.load_terminology(logic)
    assert logic.IsTerminologyContextLoaded("Segmentation category and type - ToothTopoSeg")
    for number in (*TEETH, *JAWS):
        entry = slicer_core.vtkSlicerTerminologyEntry()
        assert logic.DeserializeTerminologyEntry(terminology_entry(number), entry)
        assert logic.UpdateEntryFromLoadedTerminologies(entry, [], [])


def test_the_list_of_teeth_keeps_to_the_schema_it_names():
    path = resource_folder() / "Terminologies" / "SegmentationCategoryTypeModifier-ToothTopoSeg.term.json"
    context = json.loads(path.read_text(encoding="utf-8"))
    assert set(context) == {"SegmentationCategoryTypeContextName", "@schema", "SegmentationCodes"}
    (category,) = context["SegmentationCodes"]["Category"]
    coded = {"CodingSchemeDesignator", "CodeValue", "CodeMeaning"}
    assert set(category) == coded | {"showAnatomy", "Type"} and category["showAnatomy"] is False
    for kind in category["Type"]:
        extra = {"cid", "3dSlicerLabel", "3dSlicerIntegerLabel", "recommendedDisplayRGBValue"}
        assert set(kind) == coded | extra
        assert len(kind["CodeValue"]) <= 16 and len(kind["CodeMeaning"]) <= 64  # DICOM's SH and LO
        assert type(kind["3dSlicerIntegerLabel"]) is int and type(kind["cid"]) is str
        assert len(kind["recommendedDisplayRGBValue"]) == 3
        assert all(type(c) is int and 0 <= c <= 255 for c in kind["recommendedDisplayRGBValue"])
