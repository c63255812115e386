"""Checking label map files: schemes, grids, and one clear sentence for whatever cannot be checked."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from Testing.Library.topology.drawings import dentition
from ToothTopoSegLib.anatomy import fdi, schemes
from ToothTopoSegLib.errors import Cancelled, InputError, UsageError
from ToothTopoSegLib.imaging.volume import Volume
from ToothTopoSegLib.topology.check import check_file, check_same_grid, check_volume, in_fdi

ROOT = Path(__file__).resolve().parents[3]


def _write(path: Path, volume: Volume) -> Path:
    import SimpleITK

    image = SimpleITK.GetImageFromArray(volume.array)
    image.SetSpacing([float(s) for s in volume.spacing[::-1]])
    image.SetOrigin(volume.origin)
    image.SetDirection(np.asarray(volume.direction).ravel().tolist())
    SimpleITK.WriteImage(image, str(path))
    return path


def _scan(labels: Volume) -> Volume:
    return labels.with_array(np.random.default_rng(0).integers(0, 2000, labels.array.shape).astype(np.int16))


def test_a_label_map_file_becomes_a_report(tmp_path: Path) -> None:
    labels = dentition(absent=(36,))
    report = check_file(_write(tmp_path / "case.nii.gz", labels), _write(tmp_path / "scan.nii.gz", _scan(labels)))
    assert report["summary"]["teeth_found"] == 31
    assert [f["teeth"] for f in report["findings"]] == [[36]]
    assert report["input"]["shape_zyx"] == [50, 72, 84] and report["input"]["scheme"] == "fdi"
    assert set(report["timing_s"]) == {"read", "check", "total"}
    assert json.loads(json.dumps(report, allow_nan=False)) == report


@pytest.mark.parametrize("name", schemes.scheme_names())
def test_a_label_map_of_any_scheme_is_checked_as_fdi(tmp_path: Path, name: str) -> None:
    labels = dentition(absent=(18, 45))
    own = labels.with_array(schemes.from_fdi(labels.array, name))
    report = check_file(_write(tmp_path / "own.nrrd", own), scheme=name)
    assert [(f["severity"], f["teeth"]) for f in report["findings"]] == [("warning", [45]), ("info", [18])]


def test_values_that_are_no_fdi_numbers_are_named_with_the_scheme_that_would_fit(tmp_path: Path) -> None:
    labels = dentition()
    labels.array[0, 0, :5] = (1, 2, 3, 8, 10)
    with pytest.raises(InputError) as caught:
        check_file(_write(tmp_path / "fairy.nii.gz", labels))
    assert str(caught.value) == (
        "fairy.nii.gz holds the label values 1, 2, 3, 8, 10, which are no FDI tooth numbers; "
        "they fit toothfairy2 or toothfairy3 or totalsegmentator-teeth: try --scheme toothfairy2."
    )


def test_values_of_no_scheme_at_all_are_told_so(tmp_path: Path) -> None:
    odd = Volume(np.full((8, 8, 8), 99, dtype=np.uint8))
    with pytest.raises(InputError, match=r"values 99, which are no FDI .* fit none of the schemes fdi, toothfairy2"):
        check_file(_write(tmp_path / "odd.nii.gz", odd))


def test_a_named_scheme_that_does_not_fit_is_told_so() -> None:
    labels = Volume(np.full((8, 8, 8), 48, dtype=np.uint8))
    with pytest.raises(InputError, match="do not belong to the scheme universal; they fit fdi or"):
        in_fdi(labels, "labels", "universal")


def test_an_empty_label_map_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no labels"):
        check_file(_write(tmp_path / "none.nii.gz", Volume(np.zeros((8, 8, 8), dtype=np.uint8))))


def test_an_unknown_scheme_is_wrong_usage(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no label scheme 'palmer'; choose one of fdi"):
        check_file(tmp_path / "any.nii.gz", scheme="palmer")


def test_a_file_that_is_not_there_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        check_file(tmp_path / "nowhere.nii.gz")


def test_a_scan_of_another_size_is_refused_with_both_sizes(tmp_path: Path) -> None:
    labels = dentition()
    other = Volume(_scan(labels).array[:, :, :-4])
    with pytest.raises(InputError, match="have 84 x 72 x 50 voxels and the scan 80 x 72 x 50"):
        check_file(_write(tmp_path / "labels.nii.gz", labels), _write(tmp_path / "scan.nii.gz", other))


@pytest.mark.parametrize(
    "other",
    [
        {"spacing": (1.0, 1.0, 1.01)},
        {"origin": (0.0, 0.5, 0.0)},
        {"direction": ((-1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))},
    ],
)
def test_a_scan_that_lies_elsewhere_is_refused(other: dict[str, tuple[float, ...]]) -> None:
    labels = dentition()
    with pytest.raises(InputError, match="lie elsewhere than the scan"):
        check_same_grid(labels, replace(labels, **other))


def test_rounding_in_a_file_header_is_no_difference() -> None:
    labels = dentition()
    check_same_grid(labels, replace(labels, spacing=(1.00001, 1.0, 0.99999), origin=(1e-4, 0.0, -1e-4)))


def test_a_result_without_teeth_is_valid_and_says_so() -> None:
    jaws = np.zeros((8, 8, 8), dtype=np.uint8)
    jaws[2:5, 2:5, 2:5] = fdi.UPPER_JAW
    for array in (jaws, np.zeros_like(jaws)):
        findings, mouth = check_volume(Volume(array))
        assert [f.evidence for f in findings] == ["No tooth was found in this scan."]
        assert mouth.teeth == {}


def test_progress_runs_from_0_to_1_and_cancelling_stops_the_check() -> None:
    seen: list[float] = []
    check_volume(dentition(), progress=lambda fraction, _: seen.append(fraction))
    assert seen == sorted(seen) and (seen[0], seen[-1]) == (0.0, 1.0)

    def cancel(fraction: float, _: str) -> None:
        if fraction > 0.5:
            raise Cancelled("stop")

    with pytest.raises(Cancelled):
        check_volume(dentition(), progress=cancel)


def test_importing_and_checking_need_neither_torch_nor_scikit_image_nor_any_viewer() -> None:
    code = (
        "import sys, numpy as np; from ToothTopoSegLib.topology import check;"
        "early = {'scipy', 'SimpleITK'} & set(sys.modules);"
        "from ToothTopoSegLib.imaging.volume import Volume;"
        "check.check_volume(Volume(np.full((9, 9, 9), 11, np.uint8)));"
        "late = {'torch', 'skimage', 'vtk', 'slicer', 'gudhi', 'matplotlib', 'SimpleITK'} & set(sys.modules);"
        "sys.exit(f'{early} {late}' if early or late else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
