"""The main job as a user runs it, with the bundled model: the examples of the README on a phantom with known truth."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
SEED = 5


def toothtopo(*words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own, from the folder ``cwd``."""
    command = [sys.executable, "-m", "ToothTopoSegLib", *map(str, words)]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "", "HOME": str(cwd), "LANG": "C.UTF-8"}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="session")
def results(tmp_path_factory) -> Path:
    """A folder with spaces and an umlaut, a phantom in it, and the outputs of segmenting it."""
    folder = tmp_path_factory.mktemp("main job ü")
    made = toothtopo("phantom", "-o", folder, "--count", 1, "--seed", SEED, cwd=folder)
    assert made.returncode == 0, made.stderr
    (folder / f"phantom_{SEED:05d}.nii.gz").rename(folder / "scan.nii.gz")
    (folder / f"phantom_{SEED:05d}_labels.nii.gz").rename(folder / "truth.nii.gz")
    done = toothtopo("segment", "scan.nii.gz", "-o", "RESULTS", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_segmenting_writes_the_files_of_the_contract_and_nothing_else(results):
    names = {path.name for path in (results / "RESULTS").iterdir()}
    endings = ("teeth.nii.gz", "teeth.seg.nrrd", "report.json", "report.html", "preview.png")
    assert names == {f"scan_{ending}" for ending in endings}


def test_the_teeth_of_a_held_out_phantom_are_found_with_their_numbers(results):
    done = toothtopo("evaluate", "RESULTS/scan_teeth.nii.gz", "truth.nii.gz", "--json", cwd=results)
    metrics = json.loads(done.stdout)
    assert metrics["mean_tooth_dice"] > 0.75
    assert metrics["fdi_identification_rate"] > 0.8


def test_check_says_the_same_as_the_report_of_segment_but_for_what_only_scores_tell(results):
    done = toothtopo("check", "RESULTS/scan_teeth.nii.gz", "-o", "again.json", cwd=results)
    assert done.returncode == 0, done.stderr
    first = json.loads((results / "RESULTS" / "scan_report.json").read_text(encoding="utf-8"))
    again = json.loads((results / "again.json").read_text(encoding="utf-8"))
    assert again["teeth"] == first["teeth"]
    for alone, scored in zip(again["findings"], first["findings"], strict=True):
        if scored.pop("robustness", None):
            assert scored["evidence"].startswith(f"{alone['evidence']} In the scores of the network it is ")
            scored["evidence"] = alone["evidence"]
        assert alone == scored


def test_the_result_can_be_mended_and_loses_nothing_by_it(results):
    done = toothtopo("repair", "RESULTS/scan_teeth.nii.gz", "-o", "fixed.nii.gz", "--report", "r.json", cwd=results)
    assert done.returncode == 0, done.stderr
    before = json.loads((results / "RESULTS" / "scan_report.json").read_text(encoding="utf-8"))
    after = json.loads((results / "r.json").read_text(encoding="utf-8"))
    assert after["summary"]["by_severity"]["error"] <= before["summary"]["by_severity"]["error"]
    assert len(after["findings"]) <= len(before["findings"])
    dice = [
        json.loads(toothtopo("evaluate", path, "truth.nii.gz", "--json", cwd=results).stdout)["mean_tooth_dice"]
        for path in ("RESULTS/scan_teeth.nii.gz", "fixed.nii.gz")
    ]
    assert dice[1] > dice[0] - 0.005


def test_segmenting_can_mend_its_own_result(results):
    done = toothtopo("segment", "scan.nii.gz", "-o", "MENDED", "--repair", "--json", cwd=results)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    again = toothtopo("check", "MENDED/scan_teeth.nii.gz", "--json", cwd=results)
    assert json.loads(again.stdout)["findings"] == report["findings"]
    assert all(entry["voxels"] > 0 for entry in report["repairs"])


@pytest.mark.parametrize("name", ["toothtoposeg", "toothtoposeg_surface"])
def test_the_bundled_models_are_integer_from_input_to_scores(results, name):
    done = toothtopo("audit", str(ROOT / "Resources" / "Models" / f"{name}.onnx"), "--json", cwd=results)
    report = json.loads(done.stdout)
    assert done.returncode == 0 and report["passed"]
    assert "DequantizeLinear" not in report["operators"] and report["operators"]["QuantizeLinear"] == 1


def test_the_bundle_is_small_and_its_card_says_what_it_is():
    models = ROOT / "Resources" / "Models"
    assert sum(path.stat().st_size for path in models.glob("*.onnx")) <= 12e6
    assert sum(path.stat().st_size for path in models.glob("*.safetensors")) <= 25e6
    for name in ("toothtoposeg", "toothtoposeg_surface"):
        card = json.loads((models / f"{name}.json").read_text(encoding="utf-8"))
        assert {"sha256", "plan", "training", "limits", "licence"} <= set(card)
        assert "Not a medical device" in card["limits"]
    assert "metrics" in json.loads((models / "toothtoposeg.json").read_text(encoding="utf-8"))


def test_segmenting_needs_no_torch(results):
    program = (
        "import sys\n"
        "sys.modules['torch'] = None\n"
        "from ToothTopoSegLib.cli import main\n"
        "sys.exit(main(['segment', 'scan.nii.gz', '-o', 'without torch', '--threads', '1']))\n"
    )
    environment = {"PYTHONPATH": str(ROOT), "PATH": "", "HOME": str(results), "LANG": "C.UTF-8"}
    done = subprocess.run([sys.executable, "-c", program], cwd=results, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    ours, other = (
        json.loads((results / d / "scan_report.json").read_text(encoding="utf-8"))["teeth"]
        for d in ("RESULTS", "without torch")
    )
    assert ours == other, "one thread and all threads gave different teeth"


def readme_blocks(language: str) -> list[str]:
    """The fenced examples of the README in one language."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def test_every_command_of_the_readme_is_understood():
    from ToothTopoSegLib import cli

    lines = [line for block in readme_blocks("sh") for line in block.splitlines() if line.startswith("./toothtopo")]
    assert len(lines) >= 8
    for line in lines:
        assert cli.parse(shlex.split(line, comments=True)[1:]).command


def test_the_python_example_of_the_readme_runs(results):
    block = readme_blocks("python")[0]  # those after it are for Slicer's console: Testing/Gui/test_logic.py
    program = block + "\nprint(labels.array.shape == scan.array.shape, len(mouth.teeth) > 0)\n"
    environment = {"PYTHONPATH": str(ROOT), "PATH": "", "HOME": str(results), "LANG": "C.UTF-8"}
    done = subprocess.run([sys.executable, "-c", program], cwd=results, env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == "True True", done.stderr
