"""The Slicer module ToothTopoSeg: for now a panel that says what works and where.

In: nothing. Out: the version of the engine and the command that segments a scan. The panels Segment, Check and
Fine-tune take its place; everything they will show is computed in ToothTopoSegLib. Follows Slicer's template of a
scripted module.
"""

import slicer
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)


class ToothTopoSeg(ScriptedLoadableModule):
    """What Slicer shows of the module in its lists and in its help."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("ToothTopoSeg")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        self.parent.dependencies = []
        self.parent.contributors = ["ToothTopoSeg contributors"]
        self.parent.helpText = _(
            "Segments every tooth of a dental CBCT with an 8-bit nnU-Net, numbers the teeth (FDI) and says where the "
            "result is anatomically impossible. This panel does not segment yet: run "
            "<tt>toothtopo segment SCAN -o FOLDER</tt> in a terminal and load the <tt>.seg.nrrd</tt> file it writes."
        )
        self.parent.acknowledgementText = _(
            "Method: Topology-Constrained Quantized nnUNet for Efficient and Anatomically Accurate 3D Tooth "
            "Segmentation (arXiv 2605.04201). Network: nnU-Net (Isensee et al., Nature Methods 2021)."
        )


class ToothTopoSegWidget(ScriptedLoadableModuleWidget):
    """The panel, as its .ui file draws it."""

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        self.logic = None

    def setup(self):
        """Called once, when the user first opens the module."""
        ScriptedLoadableModuleWidget.setup(self)
        panel = slicer.util.loadUI(self.resourcePath("UI/ToothTopoSeg.ui"))
        self.layout.addWidget(panel)
        self.ui = slicer.util.childWidgetVariables(panel)
        self.logic = ToothTopoSegLogic()
        self.ui.versionLabel.setText(_("Engine version {version}").format(version=self.logic.engineVersion()))

    def enter(self):
        """Called when the module is opened."""


class ToothTopoSegLogic(ScriptedLoadableModuleLogic):
    """What scripts can ask of the module without its panel."""

    def engineVersion(self) -> str:
        """The version of ToothTopoSegLib that this module would use."""
        import ToothTopoSegLib

        return ToothTopoSegLib.__version__

    def resourceFolder(self) -> str:
        """The folder of models, terminologies and colours that came with the extension."""
        from ToothTopoSegLib.resources import resource_folder

        return str(resource_folder())


class ToothTopoSegTest(ScriptedLoadableModuleTest):
    """The tests Slicer runs from its developer menu and as a ctest."""

    def runTest(self):
        """Run all tests of the module."""
        self.setUp()
        self.test_TheEngineAndItsModelsAreInstalledWithTheModule()

    def test_TheEngineAndItsModelsAreInstalledWithTheModule(self):
        """A CMake list that forgets a file shows here, in the built extension."""
        from pathlib import Path

        logic = ToothTopoSegLogic()
        self.assertTrue(logic.engineVersion())
        self.assertTrue(list((Path(logic.resourceFolder()) / "Models").glob("*.onnx")))
