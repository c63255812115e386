"""A Slicer without Slicer: the real widget code and the real ``.ui`` files of the module, driven in PySide6 offscreen.

slicer-core brings Slicer's real MRML and ``slicer.util``; this package supplies what the application adds: the modules
``qt`` and ``ctk``, ``slicer.app``, ``slicer.modules``, ``slicer.i18n``, ``slicer.ScriptedLoadableModule``,
``slicer.parameterNodeWrapper`` and the qMRML widgets, with Slicer's documented behaviour and nothing more. What is not
supplied raises AttributeError; check Slicer's source before adding it. Difference from Slicer is a defect here.

How to test a panel (fixtures in ``Testing/Gui/conftest.py``)::

    def test_the_button_does_it(makeWidget, process_events, screenshot):
        widget = makeWidget()                     # the real ToothTopoSegWidget in a new scene, set up, entered
        widget.ui.someButton.click()
        assert process_events(lambda: widget.ui.label.text == "done", seconds=20)
        screenshot(widget.parent, "panel")        # PNG in $TOOTHTOPO_SCREENSHOTS, or in the test's folder

- ``application`` is ``slicer.app``; ``scene`` is a new ``slicer.mrmlScene``; ``qt`` and ``ctk`` are the modules. Test
  files import neither ``slicer`` nor ``qt`` at file scope: they are there only once the fixture ``application`` is.
- An exception in a slot, a timer or a VTK observer fails the test it happens in.
- A dialog fails the test, unless the test puts an answer in its place:
  ``monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda *a, **k: True)``.
- ``application.setMainWindow(False)`` makes it a Slicer that was started with ``--no-main-window``.
- A new ctk or qMRML widget is a class in ``ctk_widgets.py`` or ``mrml_widgets.py`` with ``Property`` and ``Signal``,
  put into ``WIDGETS`` there; it can then stand in a ``.ui`` file.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]


def start(folder: Path) -> Any:
    """Make this process a Slicer with our module on its path; returns ``slicer.app``. ``folder`` is for its files."""
    for place in (ROOT, ROOT / "ToothTopoSeg"):  # as Slicer does
        if str(place) not in sys.path:
            sys.path.insert(0, str(place))
    import slicer
    import slicer.util

    from Testing.Gui.harness import application, ctk_widgets, mrml_widgets, parameter_node, pythonqt, ui_loader
    from Testing.Gui.harness.sample_data import SampleDataLogic

    sys.modules["qt"] = pythonqt.qt_module(ui_loader.QUiLoader)
    sys.modules["ctk"] = ctk_widgets.ctk_module()
    sys.modules["SampleData"] = application.module_of("SampleData", SampleDataLogic=SampleDataLogic())
    for name, widget in mrml_widgets.WIDGETS.items():
        setattr(slicer, name, widget)
    slicer.qSlicerScriptedLoadableModule = application.qSlicerScriptedLoadableModule
    slicer.qSlicerScriptedLoadableModuleWidget = application.qSlicerScriptedLoadableModuleWidget
    bases = ("Module", "ModuleWidget", "ModuleLogic", "ModuleTest")
    classes = {f"ScriptedLoadable{base}": getattr(application, f"ScriptedLoadable{base}") for base in bases}
    _add(slicer, application.module_of("slicer.ScriptedLoadableModule", **classes))
    _add(slicer, application.module_of("slicer.i18n", tr=application.tr, translate=application.translate))
    public = ("parameterNodeWrapper", "findChildWidgetForParameter")
    annotations = ("Default", "WithinRange", "Minimum", "Maximum", "Choice")
    content = {name: getattr(parameter_node, name) for name in (*public, *annotations)}
    _add(slicer, application.module_of("slicer.parameterNodeWrapper", **content))
    slicer.util.messageBox = slicer.util._messageDisplay = application.unanswered
    slicer.util.confirmOkCancelDisplay = slicer.util.confirmYesNoDisplay = application.unanswered
    slicer.modules = application.Modules()
    slicer.app = application.Application(folder)
    return slicer.app


def _add(package: Any, module: Any) -> None:
    sys.modules[module.__name__] = module
    setattr(package, module.__name__.rpartition(".")[2], module)
