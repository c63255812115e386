"""Batches: where results go, what goes on when a scan fails, and what is not done twice."""

from __future__ import annotations

import csv
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
import SimpleITK
from PIL import Image
from scipy.ndimage import gaussian_filter

from Testing.Library.segmentation.stand_ins import MAGIC, touch
from ToothTopoSegLib.errors import Cancelled, ClusterError, InputError, ModelError, OutputError
from ToothTopoSegLib.evaluation import finding_pictures, preview
from ToothTopoSegLib.progress import silent
from ToothTopoSegLib.quantization.bundle import load_bundle
from ToothTopoSegLib.segmentation import cluster, pipeline
from ToothTopoSegLib.segmentation.batch import Order, Settings, carry_out, segment_batch
from ToothTopoSegLib.segmentation.cases import find_cases
from ToothTopoSegLib.segmentation.summary import COLUMNS, SHAPES

OUTPUTS = ("teeth.nii.gz", "teeth.seg.nrrd", "report.json", "report.html", "preview.png")


@pytest.fixture
def segmented(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the scans that were segmented, by a stand-in that writes files without looking at the scan."""
    done: list[str] = []
    identity = load_bundle().identity

    def stand_in(scan, out, model, device, threads, progress, repair):
        progress(0.5, "at work")
        done.append(scan.name)
        out.mkdir(parents=True, exist_ok=True)
        report = {
            "schema": "toothtoposeg.report/1",
            "teeth": [{"fdi": 11, "present": True}, {"fdi": 12, "present": False}, {"fdi": 36, "present": True}],
            "findings": [{"severity": "error", "kind": "merge"}, {"severity": "info", "kind": "missing"}],
            "timing_s": {"total": 2.5},
            "model": identity,
            "input": {"name": scan.name},
        } | ({"repairs": [{}]} if repair else {})
        name = scan.name.split(".")[0]
        for ending in OUTPUTS:
            (out / f"{name}_{ending}").write_text(json.dumps(report), encoding="utf-8")
        return report

    monkeypatch.setattr(pipeline, "segment_to_folder", stand_in)
    return done


def _failing(monkeypatch: pytest.MonkeyPatch, name: str, error: BaseException) -> None:
    """Let the scan of this name end with an error."""
    working = pipeline.segment_to_folder

    def stand_in(scan, *rest):
        if scan.name == name:
            raise error
        return working(scan, *rest)

    monkeypatch.setattr(pipeline, "segment_to_folder", stand_in)


def _summary(out: Path) -> list[dict[str, str]]:
    with (out / "summary.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# ---- what goes on


def test_of_two_scans_with_one_name_the_second_is_refused(cohort: Path, tmp_path: Path, segmented: list[str]) -> None:
    touch(cohort, "A.mha")
    result = segment_batch(cohort, tmp_path / "out")
    assert segmented == ["A.mha", "b.nrrd", "c.mha"]
    assert [row["reason"] for row in result["cases"]] == [
        "",
        "The results would replace those of A.mha, which has the same name; rename one of the two.",
        "",
        "",
    ]


def test_every_scan_has_its_files_and_a_row_in_the_summary(cohort: Path, tmp_path: Path, segmented: list[str]) -> None:
    out = tmp_path / "out"
    result = segment_batch(cohort, out)
    assert {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()} == {
        "summary.csv",
        "summary.html",
        *(f"{case}_{ending}" for case in ("a", "b", "deep/c") for ending in OUTPUTS),
    }
    rows = _summary(out)
    assert list(rows[0]) == list(COLUMNS)
    assert rows[2] == dict.fromkeys(COLUMNS, "0") | {
        "case": "c",
        "scan": "deep/c.mha",
        "status": "done",
        "teeth_found": "2",
        "teeth": "11 36",
        "error": "1",
        "info": "1",
        "merge": "1",
        "missing": "1",
        **dict.fromkeys(SHAPES, ""),
        "seconds": "2.5",
        "reason": "",
    }
    assert result["summary"] == {"scans": 3, "segmented": 3, "kept": 0, "failed": 0, "with_errors": 3}
    assert json.loads(json.dumps(result)) == result


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (InputError("b.nrrd is cut\nshort; copy it again."), "b.nrrd is cut short; copy it again."),
        (MemoryError(), "Out of memory; close other programs or use a machine with more of it."),
        (ZeroDivisionError("by zero"), "Internal error (ZeroDivisionError: by zero); please report it."),
    ],
    ids=["unusable scan", "no memory", "a bug"],
)
def test_a_scan_that_fails_is_told_and_the_rest_go_on(
    cohort: Path, tmp_path: Path, segmented: list[str], monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
) -> None:
    _failing(monkeypatch, "b.nrrd", error)
    result = segment_batch(cohort, tmp_path / "out")
    assert segmented == ["a.nii.gz", "c.mha"]
    assert [(row["status"], row["reason"]) for row in _summary(tmp_path / "out")] == [
        ("done", ""),
        ("failed", reason),
        ("done", ""),
    ]
    assert result["summary"]["failed"] == 1


def test_a_missing_package_ends_the_batch_at_once(
    cohort: Path, tmp_path: Path, segmented: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _failing(monkeypatch, "a.nii.gz", ModuleNotFoundError("No module named 'onnxruntime'", name="onnxruntime"))
    with pytest.raises(ModuleNotFoundError):
        segment_batch(cohort, tmp_path / "out")
    assert segmented == []


def test_a_model_or_folder_that_cannot_be_used_is_told_before_the_first_scan(
    cohort: Path, tmp_path: Path, segmented: list[str]
) -> None:
    with pytest.raises(ModelError):
        segment_batch(cohort, tmp_path / "out", Settings(model=tmp_path / "none.onnx"))
    assert not (tmp_path / "out").exists()
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    with pytest.raises(OutputError):
        segment_batch(cohort, tmp_path / "file")
    assert segmented == []


def test_progress_names_the_scan_and_only_ever_grows(cohort: Path, tmp_path: Path, segmented: list[str]) -> None:
    told: list[tuple[float, str]] = []
    segment_batch(cohort, tmp_path / "out", progress=lambda fraction, message: told.append((fraction, message)))
    assert told[0] == (pytest.approx(1 / 6), "scan 1 of 3, a: at work")
    fractions = [fraction for fraction, _ in told]
    assert fractions == sorted(fractions) and fractions[-1] == 1.0


# ---- what is not done twice


def test_a_second_run_keeps_what_is_finished(cohort: Path, tmp_path: Path, segmented: list[str]) -> None:
    first = segment_batch(cohort, tmp_path / "out")
    second = segment_batch(cohort, tmp_path / "out")
    assert len(segmented) == 3
    assert second["cases"] == first["cases"]
    assert second["summary"] == first["summary"] | {"segmented": 0, "kept": 3}


def test_a_cancelled_run_goes_on_where_it_stopped(
    cohort: Path, tmp_path: Path, segmented: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        _failing(patch, "b.nrrd", Cancelled("stopped"))
        with pytest.raises(Cancelled):
            segment_batch(cohort, tmp_path / "out")
    assert [row["case"] for row in _summary(tmp_path / "out")] == ["a"]
    segment_batch(cohort, tmp_path / "out")
    assert segmented == ["a.nii.gz", "b.nrrd", "c.mha"]


def test_failed_scans_are_tried_again(
    cohort: Path, tmp_path: Path, segmented: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        _failing(patch, "b.nrrd", InputError("cut short"))
        segment_batch(cohort, tmp_path / "out")
    segment_batch(cohort, tmp_path / "out")
    assert segmented == ["a.nii.gz", "c.mha", "b.nrrd"]


def _age(path: Path) -> None:
    os.utime(path, (path.stat().st_atime, path.stat().st_mtime - 1000))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda out, scan: (out / "a_preview.png").unlink(),
        lambda out, scan: (out / "a_report.json").write_text("{", encoding="utf-8"),
        lambda out, scan: _rewrite(out / "a_report.json", "model", {"sha256": "another"}),
        lambda out, scan: _rewrite(out / "a_report.json", "input", {"name": "another.nii.gz"}),
        lambda out, scan: _rewrite(out / "a_report.json", "schema", "another/1"),
        lambda out, scan: _age(out / "a_report.json"),
    ],
    ids=["a file is missing", "damaged report", "other model", "other scan", "other schema", "scan changed since"],
)
def test_a_result_that_is_not_that_of_this_scan_and_model_is_made_anew(
    cohort: Path, tmp_path: Path, segmented: list[str], spoil
) -> None:
    segment_batch(cohort, tmp_path / "out")
    spoil(tmp_path / "out", cohort / "a.nii.gz")
    segmented.clear()
    segment_batch(cohort, tmp_path / "out")
    assert segmented == ["a.nii.gz"]


def _rewrite(path: Path, key: str, value: object) -> None:
    report = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(report | {key: value}), encoding="utf-8")


def test_a_result_without_repairs_is_not_that_of_a_run_with_them(
    cohort: Path, tmp_path: Path, segmented: list[str]
) -> None:
    segment_batch(cohort, tmp_path / "out")
    result = segment_batch(cohort, tmp_path / "out", Settings(repair=True))
    assert len(segmented) == 6
    assert [row["repairs"] for row in result["cases"]] == [1, 1, 1]


def test_all_is_made_anew_when_asked_for(cohort: Path, tmp_path: Path, segmented: list[str]) -> None:
    segment_batch(cohort, tmp_path / "out")
    segment_batch(cohort, tmp_path / "out", Settings(again=True))
    assert len(segmented) == 6


def test_a_summary_that_cannot_be_written_is_told_and_leaves_nothing_of_its_own(
    cohort: Path, tmp_path: Path, segmented: list[str]
) -> None:
    out = tmp_path / "out"
    (out / "summary.csv").mkdir(parents=True)
    with pytest.raises(OutputError, match="summary"):
        segment_batch(cohort, out)
    assert {p.name for p in out.iterdir()} == {"summary.csv", *(f"a_{ending}" for ending in OUTPUTS)}


# ---- what a worker checks


@pytest.fixture
def order(cohort: Path, tmp_path: Path) -> Order:
    """The first scan of the cohort, as a worker gets it that fits."""
    (tmp_path / "out").mkdir()
    case = find_cases(cohort, tmp_path / "out")[0]
    return Order(case, "a.nii.gz", Settings(), load_bundle().card["sha256"])


def test_a_worker_that_fits_gives_the_row_of_the_summary(order: Order, segmented: list[str]) -> None:
    row = carry_out(order, silent)
    assert (row["scan"], row["status"], row["teeth"], segmented) == ("a.nii.gz", "done", "11 36", ["a.nii.gz"])


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"version": "0.0.7"}, "version .* of ToothTopoSeg, but 0.0.7 was expected"),
        ({"sha256": "0" * 64}, "a model whose SHA-256 begins .*, but 000000000000 was expected"),
        ({"settings": Settings(Path("/nowhere/m.onnx"))}, "no model that can be used: No model was found"),
    ],
    ids=["version", "model", "path of the model"],
)
def test_a_worker_that_does_not_fit_says_why_and_segments_nothing(
    order: Order, segmented: list[str], change: dict[str, object], what: str
) -> None:
    with pytest.raises(ClusterError, match=f"The worker on .* has {what}"):
        carry_out(replace(order, **change), silent)
    assert segmented == []


def test_a_worker_that_does_not_see_the_files_says_which(order: Order, segmented: list[str]) -> None:
    order.case.scan.unlink()
    with pytest.raises(ClusterError, match=r"no scan .*a\.nii\.gz; the same paths"):
        carry_out(order, silent)
    assert carry_out(replace(order, seen=False), silent)["status"] == "done"  # nobody sees it: no matter of this worker
    with pytest.raises(ClusterError, match=r"no folder .*out"):
        carry_out(replace(order, case=replace(order.case, folder=order.case.folder / "out")), silent)


def test_only_as_many_workers_are_started_as_there_are_scans(
    cohort: Path, tmp_path: Path, segmented: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def none(count: int) -> NoReturn:
        asked.append(count)
        raise Cancelled("enough is known")

    monkeypatch.setattr(cluster, "local_workers", none)
    monkeypatch.setattr(cluster, "cores", lambda: 16)
    monkeypatch.setattr(cluster, "free_megabytes", lambda: 1e6)
    for workers in (8, 2, None):
        with pytest.raises(Cancelled):
            segment_batch(cohort, tmp_path / "out", Settings(workers=workers))
    assert asked == [3, 2, 3]
    monkeypatch.setattr(cluster, "can_start_workers", lambda: False)
    segment_batch(cohort, tmp_path / "out", Settings(workers=None))
    assert len(segmented) == 3 and asked == [3, 2, 3]


# ---- the real way of a scan


def test_a_batch_gives_the_very_files_that_single_runs_give(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def blank(scan, labels, findings, path, title):
        Image.new("RGB", (4, 4)).save(path)

    monkeypatch.setattr(preview, "draw_preview", blank)
    monkeypatch.setattr(finding_pictures, "finding_pictures", lambda *_: {})
    grey = gaussian_filter(np.random.default_rng(0).normal(size=(31, 18, 15)), 2.0)
    (tmp_path / "in").mkdir()
    image = SimpleITK.GetImageFromArray((grey / grey.std() * 500 + 400).astype(np.int16))
    SimpleITK.WriteImage(image, str(tmp_path / "in" / "head.nrrd"))
    touch(tmp_path / "in", "broken.nii")
    result = segment_batch(tmp_path / "in", tmp_path / "batch", Settings(tiny_bundle, threads=1))
    assert [row["status"] for row in result["cases"]] == ["failed", "done"]
    pipeline.segment_to_folder(tmp_path / "in" / "head.nrrd", tmp_path / "alone", tiny_bundle, threads=1)
    for alone in (tmp_path / "alone").glob("*_teeth.*"):
        assert alone.read_bytes() == (tmp_path / "batch" / alone.name).read_bytes()
    assert {p.name for p in (tmp_path / "alone").iterdir()} | {"summary.csv", "summary.html"} == {
        p.name for p in (tmp_path / "batch").iterdir()
    }
    again = segment_batch(tmp_path / "in", tmp_path / "batch", Settings(tiny_bundle, threads=1))
    assert again["summary"] == result["summary"] | {"segmented": 0, "kept": 1}
    assert [row["teeth"] for row in again["cases"]] == [row["teeth"] for row in result["cases"]]


def test_a_dicom_scan_with_teeth_is_finished_with_its_dicom_segmentation(tmp_path: Path, segmented: list[str]) -> None:
    touch(tmp_path / "in", "anna/IM1", content=MAGIC)
    segment_batch(tmp_path / "in", tmp_path / "out")
    (tmp_path / "out" / "anna_teeth.dcm").write_bytes(MAGIC)
    segment_batch(tmp_path / "in", tmp_path / "out")
    assert segmented == ["anna"]
    (tmp_path / "out" / "anna_teeth.dcm").unlink()
    segment_batch(tmp_path / "in", tmp_path / "out")
    assert segmented == ["anna", "anna"]
