"""The script for Slicer without a window, run as Slicer runs it, where all that Slicer can do is exit."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from Testing.Library.quantization.tiny import seeing_nothing, tiny_network, write_bundle

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "ToothTopoSeg" / "ToothTopoSegGui" / "batch.py"
# As Slicer does it: the file read in the encoding of the system and executed as __main__, its folder first on the path.
SLICER = """
import sys, types
codes = []
sys.modules["slicer"] = types.ModuleType("slicer")
for name in ("util", "i18n"):
    sys.modules[f"slicer.{{name}}"] = types.ModuleType(f"slicer.{{name}}")
    setattr(sys.modules["slicer"], name, sys.modules[f"slicer.{{name}}"])
sys.modules["slicer"].util.exit = codes.append
sys.modules["slicer"].i18n.tr = lambda text: text
for name in ("qt", "ctk", "vtk"):
    sys.modules[name] = None
script = sys.argv[1]
sys.path.insert(0, script.rpartition("/")[0])
sys.argv = sys.argv[1:]
{before}
try:
    exec(open(script, encoding="ascii").read(), {{"__name__": "__main__", "__file__": script}})
finally:
    print("exit codes:", codes)
"""


def _slicer(folder: Path, *words: object, before: str = "") -> tuple[list[int], subprocess.CompletedProcess[str]]:
    """The exit codes that the script gave to Slicer, and the finished process."""
    command = [sys.executable, "-P", "-c", SLICER.format(before=before), SCRIPT.as_posix(), *map(str, words)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, encoding="utf-8")
    return [int(code) for code in done.stdout.rpartition("exit codes: ")[2].strip("[]\n").split(",") if code], done


@pytest.fixture(scope="module")
def blind_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete bundle whose network sees background everywhere."""
    return write_bundle(tmp_path_factory.mktemp("blind"), seeing_nothing(tiny_network()), "blind")


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """A folder of two small scans in a path with a space and letters beyond ASCII."""
    folder = tmp_path / "Köpfe 歯"
    folder.mkdir()
    grey = np.random.default_rng(0).normal(400, 200, (12, 12, 12)).astype(np.int16)
    for name in ("a.nii.gz", "b.nrrd"):
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(grey), str(folder / name))
    return folder


def test_all_scans_are_segmented_and_slicer_exits_with_the_code_of_the_command_line(
    scans: Path, tmp_path: Path, blind_bundle: Path
) -> None:
    (scans / "broken.nii").write_bytes(b"no image")
    words = (scans, "-o", tmp_path / "out", "--model", blind_bundle, "--threads", "1")
    codes, done = _slicer(tmp_path, *words)
    assert codes == [4]
    assert "broken.nii" in done.stdout and "1 of 3 scans could not be segmented" in done.stderr
    endings = ("teeth.nii.gz", "teeth.seg.nrrd", "report.json", "report.html", "preview.png")
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "summary.csv",
        "summary.html",
        *(f"{case}_{ending}" for case in "ab" for ending in endings),
    }
    (scans / "broken.nii").unlink()
    codes, done = _slicer(tmp_path, *words)
    assert codes == [0] and "0 segmented, 2 kept, 0 failed" in done.stdout


def test_wrong_usage_exits_with_2_and_says_why(tmp_path: Path) -> None:
    codes, done = _slicer(tmp_path, "scans")
    assert codes == [2] and "-o" in done.stderr


def test_missing_packages_are_named_with_the_remedy_and_nothing_is_asked(scans: Path, tmp_path: Path) -> None:
    absent = (
        "from importlib import metadata\n"
        "def version(name):\n"
        "    raise metadata.PackageNotFoundError(name)\n"
        "metadata.version = version"
    )
    codes, done = _slicer(tmp_path, scans, "-o", tmp_path / "out", before=absent)
    assert codes == [4] and not (tmp_path / "out").exists()
    lines = (ROOT / "Resources" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    names = [line.partition(">=")[0] for line in lines if not line.startswith("#")]
    assert "onnxruntime" in names and f"lacks the Python packages {', '.join(names)}: " in done.stderr
    assert f'PythonSlicer -m pip install -r "{ROOT / "Resources" / "requirements.txt"}"' in done.stderr


def test_slicer_is_ended_even_by_an_error_that_nothing_caught(scans: Path, tmp_path: Path) -> None:
    codes, done = _slicer(tmp_path, scans, "-o", "out", before='sys.modules["ToothTopoSegLib.cli"] = None')
    assert codes == [1] and "import of ToothTopoSegLib.cli halted" in done.stderr
