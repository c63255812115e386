"""What scripts can ask of the module without any widget, the examples of the manual included."""

from __future__ import annotations

import importlib
import inspect
import re
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from ToothTopoSegLib.errors import InputError, ModelError, UsageError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def logic(application, scene):
    return importlib.import_module("ToothTopoSeg").ToothTopoSegLogic()


@pytest.fixture
def quick(monkeypatch, phantom):
    """The network replaced by the truth of the phantom: these tests are of the nodes."""
    pipeline = importlib.import_module("ToothTopoSegLib.segmentation.pipeline")
    asked = []

    def segment_volume(scan, bundle, runner, progress):
        asked.append((scan, bundle.path.name))
        progress(1.0, "done")
        return scan.with_array(phantom[1].array)

    monkeypatch.setattr(pipeline, "segment_volume", segment_volume)
    return asked


def numbers(node):
    segmentation = node.GetSegmentation()
    return {segmentation.GetSegment(i).GetLabelValue() for i in segmentation.GetSegmentIDs()}


def test_a_volume_becomes_a_new_segmentation_without_any_widget(logic, cbct, quick, phantom, application):
    application.setMainWindow(False)
    told = []
    node = logic.segment(cbct, progress=lambda fraction, message: told.append(fraction), jawsVisible=False)
    assert node.GetName() == "CBCT teeth" and numbers(node) == set(np.unique(phantom[1].array).tolist()) - {0}
    assert node.GetSegmentation().ContainsRepresentation("Closed surface") and told == [1.0]
    assert not node.GetDisplayNode().GetSegmentVisibility("Segment_101")
    assert quick[0][1] == "toothtoposeg.onnx"
    np.testing.assert_array_equal(quick[0][0].array, phantom[0].array)
    assert logic.segment(cbct).GetName() != node.GetName()


def test_a_given_segmentation_node_gets_the_result_in_place_of_what_it_held(logic, scene, cbct, quick, slicer):
    given = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Mine")
    given.GetSegmentation().AddEmptySegment("old", "old")
    count = scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode")
    assert logic.segment(cbct, given) is given
    assert given.GetName() == "Mine" and 36 in numbers(given)
    assert given.GetSegmentation().GetSegment("old") is None
    assert scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == count
    assert given.GetNodeReference(given.GetReferenceImageGeometryReferenceRole()) is cbct


def test_wrong_input_is_refused_and_leaves_the_scene_alone(logic, scene, cbct):
    before = scene.GetNumberOfNodes()
    with pytest.raises(InputError, match="No volume is chosen"):
        logic.segment(None)
    with pytest.raises(ModelError, match="No model was found"):
        logic.segment(cbct, model="/nowhere.onnx")
    with pytest.raises(UsageError, match="device"):
        logic.segment(cbct, device="abacus")
    assert scene.GetNumberOfNodes() == before


def test_missing_packages_are_named_and_never_installed_unasked(logic, cbct, monkeypatch, slicer):
    packages = importlib.import_module("ToothTopoSegGui.packages")
    monkeypatch.setattr(packages, "missing", lambda wanted=None: ["onnxruntime>=1.20"])
    monkeypatch.setattr(slicer.util, "pip_install", lambda lines: pytest.fail("nothing is to be installed"))
    with pytest.raises(packages.PackageError, match=r"onnxruntime.*installPackages"):
        logic.segment(cbct)


def test_the_cost_is_told_for_a_volume_that_can_be_segmented(logic, cbct, scene):
    assert logic.expectedCost(cbct, threads=1).seconds > logic.expectedCost(cbct, threads=4).seconds > 0
    assert logic.expectedCost(None) is None
    assert logic.expectedCost(scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Empty")) is None


def test_the_example_of_the_logic_runs_as_it_is_written(logic, cbct, quick, slicer):
    text = inspect.getdoc(type(logic))
    example = textwrap.dedent(re.split(r"Example::\n", text)[1])
    names = {"slicer": slicer}
    exec(example, names)
    assert 36 in numbers(names["segmentationNode"])


def test_the_examples_of_the_manual_for_the_console_run_as_they_are_written(
    logic, cbct, quick, slicer, monkeypatch, tmp_path, capsys
):
    text = (ROOT / "README.md").read_text(encoding="utf-8").partition("\n## 3D Slicer\n")[2]
    examples = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    asked = []
    samples = sys.modules["SampleData"]
    monkeypatch.setattr(samples, "downloadSample", lambda name: asked.append(name) or cbct, raising=False)
    monkeypatch.setattr(slicer.util, "pip_install", lambda lines: pytest.fail("nothing is missing"))
    names = {}
    for example in examples:
        exec(example.replace("/tmp", tmp_path.as_posix()), names)
    samples.SampleDataLogic.sources.clear()
    importlib.import_module("ToothTopoSeg").registerWithOtherModules()
    assert asked == [source["sampleName"] for source in samples.SampleDataLogic.sources]
    samples.SampleDataLogic.sources.clear()
    written = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert {"report.html", "case_teeth.nii.gz", "case_teeth.seg.nrrd"} <= written
    assert "CBCT_teeth_36_lower_left_first_molar.stl" in {name.replace(" ", "_") for name in written}
    assert "was not loaded by the module DICOM" in capsys.readouterr().out


def test_every_tooth_says_which_program_made_it_for_dicom(logic, cbct, quick, scene, tag_of):
    given = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Mine")
    for node in (logic.segment(cbct), logic.segment(cbct, given)):
        segment = node.GetSegmentation().GetSegment("Segment_36")
        assert tag_of(segment, "DICOM.SegmentAlgorithmName") == "ToothTopoSeg"
        assert tag_of(segment, "DICOM.SegmentAlgorithmType") == "AUTOMATIC"


def test_the_logic_of_the_open_module_is_the_same_class(makeWidget, slicer):
    widget = makeWidget()
    assert slicer.util.getModuleLogic("ToothTopoSeg") is widget.logic


def test_the_tests_of_the_application_pass(application, scene, slicer):
    importlib.import_module("ToothTopoSeg").ToothTopoSegTest().runTest()
