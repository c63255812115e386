"""The Slicer module ToothTopoSeg: its panels, its logic for scripts and its test, as Slicer's template shapes them.

Everything is computed in ToothTopoSegLib; the panels are in ToothTopoSegGui, one file each, and are made when the user
opens the module.
"""

import importlib

import slicer
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin
from ToothTopoSegGui.check_logic import CheckLogic
from ToothTopoSegGui.logic import SegmentLogic


class ToothTopoSeg(ScriptedLoadableModule):
    """What Slicer shows of the module in its lists and in its help."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("ToothTopoSeg")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        self.parent.dependencies = ["Segmentations", "SubjectHierarchy"]
        self.parent.contributors = ["ToothTopoSeg contributors"]
        self.parent.helpText = _(
            "<p>Segments every tooth of a dental CBCT with an 8-bit nnU-Net, numbers the teeth (FDI) and says where "
            "the result is anatomically impossible.</p><ol><li>Load a CBCT by the module DICOM or by Add Data.</li>"
            "<li>Choose it in the tab <b>Segment</b> and press <b>Apply</b>: every tooth becomes a segment.</li>"
            "<li>Look through the result before you use it.</li></ol><p>It runs on this computer alone, without a "
            "graphics card. It is no medical device: every result needs the eyes of a dentist.</p>"
        )
        self.parent.acknowledgementText = _(
            "Method: Topology-Constrained Quantized nnUNet for Efficient and Anatomically Accurate 3D Tooth "
            "Segmentation (arXiv 2605.04201). Network: nnU-Net (Isensee et al., Nature Methods 2021)."
        )
        # The modules that are told of it may be loaded after this one.
        slicer.app.connect("startupCompleted()", registerWithOtherModules)


def registerWithOtherModules():
    """Give the module Terminologies the list of teeth and the module Sample Data the sample scan."""
    from ToothTopoSegGui import sample_data, sharing

    sharing.load_terminology(slicer.modules.terminologies.logic())
    sample_data.register_sample_data()


class ToothTopoSegWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The tabs, and what keeps them in step with the scene."""

    # Title, .ui file and class of each panel, and the file of ToothTopoSegGui the class is in.
    PANELS = (
        ("Segment", "SegmentPanel", "segment_panel"),
        ("Check", "CheckPanel", "check_panel"),
        ("Fine-tune", "FineTunePanel", "finetune_panel"),
    )

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self.panels = []
        self._entered = False

    def setup(self):
        """Called once, when the user first opens the module."""
        from ToothTopoSegGui.services import Services

        ScriptedLoadableModuleWidget.setup(self)
        frame = slicer.util.loadUI(self.resourcePath("UI/ToothTopoSeg.ui"))
        frame.setMRMLScene(slicer.mrmlScene)
        self.layout.addWidget(frame)
        self.ui = slicer.util.childWidgetVariables(frame)
        self.logic = ToothTopoSegLogic()
        self.services = Services(self.ui, self, lambda: self.panels)
        self.panels = [self._makePanel(*told) for told in self.PANELS]
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(scene, scene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(scene, scene.EndImportEvent, self.onSceneEndClose)
        self.initializeParameterNode()

    def _makePanel(self, title, name, file):
        page = slicer.util.loadUI(self.resourcePath(f"UI/{name}.ui"))
        page.setMRMLScene(slicer.mrmlScene)
        self.ui.panelTabs.addTab(page, _(title))
        panel = getattr(importlib.import_module(f"ToothTopoSegGui.{file}"), name)
        return panel(slicer.util.childWidgetVariables(page), self.logic, self.services)

    def panel(self, name):
        """The panel of a class name, such as "SegmentPanel"."""
        return next(panel for panel in self.panels if type(panel).__name__ == name)

    def cleanup(self):
        """Called when the application closes or the module is reloaded."""
        for panel in self.panels:
            panel.cleanup()
        self.removeObservers()

    def enter(self):
        """Called each time the user opens this module."""
        self._entered = True
        self.initializeParameterNode()
        for panel in self.panels:
            panel.enter()

    def exit(self):
        """Called each time the user opens another module."""
        self._entered = False
        for panel in self.panels:
            panel.exit()

    def onSceneStartClose(self, caller=None, event=None):
        """Called just before the scene is closed: its parameter node must not be used any more."""
        for panel in self.panels:
            panel.setParameterNode(None)

    def onSceneEndClose(self, caller=None, event=None):
        """Called just after the scene is closed or another one is loaded."""
        if self._entered:
            self.initializeParameterNode()

    def initializeParameterNode(self):
        """Show the choices of the scene; the first volume is chosen where none is."""
        parameterNode = self.logic.getParameterNode()
        if parameterNode.inputVolume is None:
            parameterNode.inputVolume = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLScalarVolumeNode")
        for panel in self.panels:
            panel.setParameterNode(parameterNode)


class ToothTopoSegLogic(SegmentLogic, CheckLogic, ScriptedLoadableModuleLogic):
    """What scripts can ask of the module without its panels; no widget is made.

    Example::

        from ToothTopoSeg import ToothTopoSegLogic

        logic = ToothTopoSegLogic()
        segmentationNode = logic.segment(slicer.util.getNode("CBCT"))
    """

    def __init__(self):
        ScriptedLoadableModuleLogic.__init__(self)
        CheckLogic.__init__(self)

    def getParameterNode(self):
        """The choices of the scene as ToothTopoSegParameterNode."""
        from ToothTopoSegGui.parameters import ToothTopoSegParameterNode

        return ToothTopoSegParameterNode(super().getParameterNode())


class ToothTopoSegTest(ScriptedLoadableModuleTest):
    """The tests Slicer runs from its developer menu and as a ctest: the whole way of a scan, with the real network."""

    def setUp(self):
        """Each test begins in an empty scene."""
        slicer.mrmlScene.Clear(0)

    def runTest(self):
        """Run all tests of the module."""
        for test in (
            self.test_TheEngineAndItsModelsAreInstalledWithTheModule,
            self.test_AScanIsSegmentedCheckedRepairedSavedAndLoadedAgain,
        ):
            self.setUp()
            test()
            self.tearDown()

    def test_TheEngineAndItsModelsAreInstalledWithTheModule(self):
        """A CMake list that forgets a file shows here, in the built extension."""
        from pathlib import Path

        logic = ToothTopoSegLogic()
        self.assertTrue(logic.engineVersion())
        self.assertTrue(list((Path(logic.resourceFolder()) / "Models").glob("*.onnx")))

    def test_AScanIsSegmentedCheckedRepairedSavedAndLoadedAgain(self):
        """A synthetic scan, because it is there without a network and its teeth are known."""
        volumeNode, present = self._phantomVolume()
        logic = ToothTopoSegLogic()
        logic.installPackages()
        self.delayDisplay(_("Segmenting"))
        segmentationNode = logic.segment(volumeNode)
        found = self._numbers(segmentationNode)
        self.assertGreater(len(found & present), 0.6 * len(present))
        self.assertTrue(segmentationNode.GetSegmentation().ContainsRepresentation("Closed surface"))
        logic.check(segmentationNode, volumeNode)
        logic.repair(segmentationNode)
        found, standing = self._numbers(segmentationNode), logic.reviewed(segmentationNode)
        self.assertTrue(standing)  # a part of a mouth always has teeth to tell of that are not in view
        logic.setVerdict(segmentationNode, standing[0].finding.id, "ignored", "seen in the test")
        verdicts = self._verdicts(logic, segmentationNode)
        self._saveAndLoad()
        loaded = slicer.mrmlScene.GetFirstNodeByName(segmentationNode.GetName())
        self.assertIsNot(loaded, segmentationNode)
        self.assertEqual(self._numbers(loaded), found)
        self.assertEqual(self._verdicts(logic, loaded), verdicts)
        self.delayDisplay(_("Test passed"))

    def _phantomVolume(self):
        """A volume node of a small synthetic scan, and the FDI numbers of its teeth."""
        import numpy as np

        from ToothTopoSegLib.anatomy.fdi import is_tooth
        from ToothTopoSegLib.phantom.write import make_small_phantom

        phantom = make_small_phantom(seed=3)
        volumeNode = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Phantom")
        slicer.util.updateVolumeFromArray(volumeNode, phantom.scan.array)
        volumeNode.SetIJKToRASDirections(-1, 0, 0, 0, -1, 0, 0, 0, 1)
        return volumeNode, {int(n) for n in np.unique(phantom.labels.array) if is_tooth(int(n))}

    def _numbers(self, segmentationNode):
        """The label values of the segments, which are FDI numbers."""
        segmentation = segmentationNode.GetSegmentation()
        return {segmentation.GetSegment(i).GetLabelValue() for i in segmentation.GetSegmentIDs()}

    def _verdicts(self, logic, segmentationNode):
        """What was decided on each finding."""
        return [(row.finding.id, row.verdict, row.note) for row in logic.reviewed(segmentationNode)]

    def _saveAndLoad(self):
        """Save the scene to a folder, close it and load it from there."""
        import shutil
        import tempfile
        from pathlib import Path

        folder = tempfile.mkdtemp(dir=slicer.app.temporaryPath)
        try:
            scene, logic = slicer.mrmlScene, slicer.app.applicationLogic()
            self.assertTrue(logic.SaveSceneToSlicerDataBundleDirectory(folder, None))
            (saved,) = Path(folder).rglob("*.mrml")
            scene.Clear(0)
            scene.SetURL(str(saved))
            self.assertTrue(scene.Connect())
        finally:
            shutil.rmtree(folder, ignore_errors=True)
