"""Segments many scans in 3D Slicer without a window, and ends Slicer with the exit code of the command line.

    Slicer --no-main-window --python-script PATH_OF_THIS_FILE -- DIR_OR_LIST -o DIR [--repair] [--strict] ...

In: the arguments of ``toothtopo batch``. Out: what that command writes, and its exit codes. No widget, dialog or node
of the scene is touched, because nobody sees a question that is asked here. The file lies in this folder because Slicer
takes every Python file directly in a folder of modules for a module, and has no letter beyond ASCII because Slicer
reads scripts in the encoding of the system.
"""

import sys
from importlib import metadata
from pathlib import Path

import slicer

INTERNAL_ERROR, UNUSABLE = 1, 4


def run(arguments) -> int:
    """Segment the scans that the arguments of ``toothtopo batch`` name; the exit code."""
    find_engine()
    from ToothTopoSegLib.resources import resource_folder

    requirements = resource_folder() / "requirements.txt"
    missing = missing_packages(requirements)
    if missing:
        print(
            f"toothtopo: error: Slicer lacks the Python packages {', '.join(missing)}: install them once with "
            f'PythonSlicer -m pip install -r "{requirements}" or by a first segmentation in the module ToothTopoSeg.',
            file=sys.stderr,
        )
        return UNUSABLE
    from ToothTopoSegLib import cli

    return cli.main(["batch", *arguments])


def find_engine() -> None:
    """Put the engine on Python's path where the extension is run from its source tree without being installed."""
    module = Path(__file__).resolve().parent.parent
    for folder in (module, module.parent):
        if (folder / "ToothTopoSegLib").is_dir() and str(folder) not in sys.path:
            sys.path.append(str(folder))


def missing_packages(requirements) -> list:
    """The packages of a requirements file that are not installed."""
    lines = requirements.read_text(encoding="utf-8").splitlines()
    names = [line.split(">=")[0].strip() for line in lines if line.strip() and not line.startswith("#")]
    return [name for name in names if not _is_installed(name)]


def _is_installed(name) -> bool:
    try:
        return bool(metadata.version(name))
    except metadata.PackageNotFoundError:
        return False


if __name__ == "__main__":
    code = INTERNAL_ERROR  # Slicer without a window would stay open for ever after an error that nothing caught
    try:
        code = run(sys.argv[1:])
    finally:
        slicer.util.exit(code)
