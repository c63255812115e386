"""Segments many scans in 3D Slicer without a window, and ends Slicer with the exit code of the command line.

    Slicer --no-main-window --python-script PATH_OF_THIS_FILE -- DIR_OR_LIST -o DIR [--repair] [--strict] ...

In: the arguments of ``toothtopo batch``. Out: what that command writes, and its exit codes. No widget, dialog or node
of the scene is touched, because nobody sees a question that is asked here. Slicer itself does one scan after the other,
unless --scheduler names a Dask cluster that does them. The file lies in this folder because Slicer takes every Python
file directly in a folder of modules for a module, and has no letter beyond ASCII because Slicer reads scripts in the
encoding of the system.
"""

import sys
from pathlib import Path

import slicer

INTERNAL_ERROR, UNUSABLE = 1, 4


def run(arguments) -> int:
    """Segment the scans that the arguments of ``toothtopo batch`` name; the exit code."""
    find_engine()
    from ToothTopoSegGui import packages
    from ToothTopoSegLib.resources import resource_folder

    missing = packages.missing()
    if missing:
        requirements = resource_folder() / "requirements.txt"
        print(
            f"toothtopo: error: Slicer lacks the Python packages {packages.names_of(missing)}: install them once with "
            f'PythonSlicer -m pip install -r "{requirements}" or by a first segmentation in the module ToothTopoSeg.',
            file=sys.stderr,
        )
        return UNUSABLE
    from ToothTopoSegLib import cli

    return cli.main(["batch", *arguments, *alone_unless_told(arguments)])


def alone_unless_told(arguments) -> list[str]:
    """What makes Slicer do all scans itself: it is no Python that could be started again as a worker of its own."""
    words = {word.partition("=")[0] for word in arguments}
    return [] if words & {"--workers", "--scheduler"} else ["--workers", "1"]


def find_engine() -> None:
    """Put module and engine on Python's path where the extension is run from its source tree."""
    module = Path(__file__).resolve().parent.parent
    for folder in (module, module.parent):  # installed, both lie in the first
        if str(folder) not in sys.path:
            sys.path.append(str(folder))


if __name__ == "__main__":
    code = INTERNAL_ERROR  # Slicer without a window would stay open for ever after an error that nothing caught
    try:
        code = run(sys.argv[1:])
    finally:
        slicer.util.exit(code)
