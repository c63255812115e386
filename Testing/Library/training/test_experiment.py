"""The experiment from end to end with a network of a few hundred weights, and what it refuses."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from Testing.Library.quantization.tiny import TINY, tiny_network, write_bundle
from ToothTopoSegLib.errors import ModelError, UsageError
from ToothTopoSegLib.training import experiment
from ToothTopoSegLib.training.cases import case_path
from ToothTopoSegLib.training.experiment import TITLES, Settings, run
from ToothTopoSegLib.training.losses.objective import Objective
from ToothTopoSegLib.training.losses.topology import TERMS

SMALL = Settings(steps=1, integer_steps=1, seeds=(1,), scans=1, cases=1, patch=(16, 16, 16))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("model"), tiny_network(TINY))


@pytest.fixture(scope="module")
def done(model: Path, case: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """The folder and the result of an experiment."""
    folder = tmp_path_factory.mktemp("experiment ü")
    (folder / "cases").mkdir()
    np.save(case_path(folder / "cases", 0), case)
    return folder, run(folder, model, SMALL)


def test_every_model_is_measured_raw_and_tidied_and_the_evidence_is_written(done) -> None:
    folder, result = done
    assert result["rows"] == 2 * len(TITLES)
    assert {path.name for path in (folder / "evidence").iterdir()} == {
        f"quantization.{e}" for e in ("csv", "json", "md", "png")
    }
    page = (folder / "evidence" / "quantization.md").read_text(encoding="utf-8")
    assert page == result["page"] and all(f"| {title} |" in page for title in TITLES.values())
    assert set(result["fewer_teeth_wrong"]) == {"ptq", "qat"} and result["costs"]["ptq"]["megabytes"] > 0


def test_a_finished_experiment_is_summed_up_again_without_any_training(done, model, monkeypatch) -> None:
    folder, result = done
    before = {path: path.stat().st_mtime_ns for path in (folder / "runs").rglob("*.pt")}
    again = run(folder, model, SMALL)
    assert again["fewer_teeth_wrong"] == result["fewer_teeth_wrong"]
    assert before == {path: path.stat().st_mtime_ns for path in (folder / "runs").rglob("*.pt")}


def test_a_folder_of_another_experiment_is_refused(done, model) -> None:
    with pytest.raises(UsageError, match="another model or settings"):
        run(done[0], model, replace(SMALL, steps=2))


def test_a_model_without_float_weights_is_refused_and_nothing_is_written(model, tmp_path) -> None:
    for path in (model, model.with_suffix(".json")):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(ModelError, match="no float weights"):
        run(tmp_path / "out", tmp_path / model.name, SMALL)
    assert not (tmp_path / "out").exists()


def test_trainings_differ_in_what_they_are_named_for_and_in_nothing_else() -> None:
    trainings = SMALL.trainings()
    assert {*trainings, "fp32", "ptq"} == {*TITLES}
    in_float, in_integers = zip(*trainings.values(), strict=True)
    assert all(schedule.quantization is None for schedule in in_float)
    assert all(schedule.quantization == SMALL.quantization for schedule in in_integers)
    for part in (in_float, in_integers):
        assert {replace(schedule, objective=Objective()) for schedule in part} == {part[0]}
    alone = {name: [s.objective.topology for s in trainings[f"qat_{name}"]] for name in TERMS}
    for name, configs in alone.items():
        assert all([n for n in TERMS if getattr(config, n)] == [name] for config in configs)


def test_findings_of_a_real_scan_stand_in_the_page() -> None:
    text = experiment._real_table({"fp32": {"cavity": 2}, "ptq": {"fragment": 1}})
    assert "| FP32 | 2 | 0 |" in text and "| PTQ INT8 | 0 | 1 |" in text


def test_settings_are_noted_in_the_folder(done) -> None:
    note = json.loads((done[0] / "experiment.json").read_text(encoding="utf-8"))
    assert note["steps"] == 1 and note["quantization"]["weight_bits"] == 7


def test_what_is_measured_so_far_is_summed_up_and_the_page_says_what_is_missing(done, model, tmp_path) -> None:
    folder = tmp_path / "going on"
    shutil.copytree(done[0], folder, symlinks=True)
    for arm in ("qat_scnp", "qat_holes"):
        (folder / "rows" / f"{arm}_1.json").unlink()
    page = run(folder, model, SMALL, so_far=True)["page"]
    assert (
        "**Not finished.** Of 1 training seeds are measured so far: QAT INT8 + SCNP 0, QAT INT8 + holes alone 0."
        in page
    )
    assert "| QAT INT8 + SCNP |" not in page and "| QAT INT8 + adjacency alone |" in page
    (folder / "rows" / "qat_1.json").unlink()
    with pytest.raises(UsageError, match="QAT INT8 is not measured yet"):
        run(folder, model, SMALL, so_far=True)


def test_another_folder_goes_on_from_the_evidence_and_trains_nothing_that_is_known(done, model, tmp_path) -> None:
    folder, result = done
    again = run(tmp_path / "elsewhere", model, SMALL, known=folder / "evidence")
    assert again["fewer_teeth_wrong"] == result["fewer_teeth_wrong"]
    assert not list((tmp_path / "elsewhere").rglob("*.pt"))
    first, second = (path / "evidence" / "quantization.csv" for path in (folder, tmp_path / "elsewhere"))
    assert sorted(first.read_text().splitlines()) == sorted(second.read_text().splitlines())


def test_evidence_of_another_experiment_is_refused_and_nothing_is_written(done, model, tmp_path) -> None:
    with pytest.raises(UsageError, match="another model or other settings"):
        run(tmp_path / "out", model, replace(SMALL, steps=2), known=done[0] / "evidence")
    with pytest.raises(UsageError, match=r"no quantization\.json"):
        run(tmp_path / "out", model, SMALL, known=tmp_path)
    assert not list(tmp_path.iterdir())


def test_nothing_is_summed_up_where_no_experiment_is(model, tmp_path) -> None:
    for folder in (tmp_path / "none", tmp_path):
        with pytest.raises(UsageError, match="no experiment in"):
            run(folder, model, SMALL, so_far=True)
    assert not list(tmp_path.iterdir())
