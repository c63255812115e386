"""Corrected cases as an nnU-Net dataset: nnU-Net accepts it, this program reads it back, and it names no patient."""

from __future__ import annotations

import json
from multiprocessing.pool import ThreadPool
from types import SimpleNamespace

import numpy as np
import pytest

from Testing.Library.training.user_data import other_side, scan_and_labels, write_pair
from ToothTopoSegLib import cli
from ToothTopoSegLib.errors import InputError, UsageError
from ToothTopoSegLib.training.nnunet_dataset import export_nnunet
from ToothTopoSegLib.training.user_cases import check_cases, find_cases, read_user_case


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A dataset of two cases named by patients, whose path has a space and letters beyond ASCII."""
    place = tmp_path_factory.mktemp("Fälle von hier")
    write_pair(place / "in", "Müller Anna", seed=0)
    write_pair(
        place / "in", "Ng", seed=1, ending="_teeth.nii.gz", change=lambda labels: np.where(labels > 40, 0, labels)
    )
    report, _ = export_nnunet([place / "in"], place / "für nnU-Net", number=7, name="Zahn_1")
    return report["dataset"]


def test_the_dataset_has_the_files_and_labels_that_nnunet_expects(exported):
    assert exported.name == "Dataset007_Zahn_1"
    files = {p.relative_to(exported).as_posix() for p in exported.rglob("*") if p.is_file()}
    images = {f"imagesTr/case_00{k}_0000.nii.gz" for k in (1, 2)}
    assert files == images | {f"labelsTr/case_00{k}.nii.gz" for k in (1, 2)} | {"dataset.json"}
    about = json.loads((exported / "dataset.json").read_text(encoding="utf-8"))
    assert about["channel_names"] == {"0": "CBCT"}
    assert about["numTraining"] == 2
    assert sorted(about["labels"].values()) == list(range(len(about["labels"])))
    numbers = set(np.unique(scan_and_labels(0)[1].array)) | set(np.unique(scan_and_labels(1)[1].array))
    assert {name for name in about["labels"] if name.startswith("tooth")} == {
        f"tooth_{n}" for n in numbers if 0 < n < 100
    }


def test_nnunets_own_check_passes(exported, monkeypatch):
    from nnunetv2.experiment_planning import verify_dataset_integrity as own

    # Its own processes would each load torch anew.
    monkeypatch.setattr(own.multiprocessing, "get_context", lambda _: SimpleNamespace(Pool=ThreadPool))
    own.verify_dataset_integrity(str(exported), num_processes=1)


def test_the_cases_come_back_with_the_same_scans_and_labels(exported):
    cases = find_cases([exported])
    assert all(case.usable for case in check_cases(cases))
    for seed, case in enumerate(cases):
        scan, labels = read_user_case(case)
        expected_scan, expected = scan_and_labels(seed)
        assert np.array_equal(scan.array, expected_scan.array)
        assert scan.spacing == pytest.approx(expected_scan.spacing)
        wanted = np.where(expected.array > 40, 0, expected.array) if seed else expected.array
        assert np.array_equal(labels.array, wanted)


def test_no_file_says_where_it_came_from(exported):
    import gzip

    for path in exported.rglob("*"):
        assert "ller" not in path.name
        if path.is_file():
            content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            assert b"ller" not in content[:400]


def test_labels_that_cannot_be_learnt_from_are_refused_and_nothing_is_written(tmp_path):
    write_pair(tmp_path / "in", "a", change=other_side)
    with pytest.raises(InputError, match="cannot be learnt from"):
        export_nnunet([tmp_path / "in"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("number", "name"), [(1000, "Teeth"), (1, "../x"), (1, "mit ü")])
def test_names_that_nnunet_does_not_take_are_wrong_usage(tmp_path, number, name):
    with pytest.raises(UsageError, match="no name of an nnU-Net dataset"):
        export_nnunet([tmp_path], tmp_path / "out", number, name)


def test_a_dataset_that_exists_is_not_replaced(exported, capsys):
    source = exported.parents[1] / "in"
    argv = ["export-nnunet", str(source), "-o", str(exported.parent), "--id", "7", "--name", "Zahn_1"]
    assert cli.main(argv) == 2
    assert "already" in capsys.readouterr().err
    assert cli.main([*argv[:-2], "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["dataset"].endswith("Dataset007_Teeth")
