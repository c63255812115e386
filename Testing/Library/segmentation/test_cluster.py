"""Work spread over processes: everything is done once, whoever dies, and a stop or a lost scheduler leaves no mess."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK
from scipy.ndimage import gaussian_filter

from Testing.Library.segmentation.stand_ins import (
    carry_out_without_pictures,
    complain,
    die,
    double,
    reach,
    wait_to_be_stopped,
    wait_until,
)
from ToothTopoSegLib.errors import Cancelled, ClusterError, UsageError
from ToothTopoSegLib.evaluation import finding_pictures, preview
from ToothTopoSegLib.progress import silent
from ToothTopoSegLib.segmentation import batch, cluster, pipeline

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """Two worker processes of this computer."""
    with cluster.local_workers(2) as client:
        yield client


def test_every_item_is_done_by_one_of_several_processes_and_progress_only_grows(client: Any) -> None:
    told: list[tuple[float, str]] = []
    names = [f"scan {number}" for number in range(6)]
    results = dict(cluster.spread(client, double, range(6), names, lambda *what: told.append(what)))
    assert {index: result[0] for index, result in results.items()} == {number: 2 * number for number in range(6)}
    processes = {result[1] for result in results.values()}
    assert len(processes) == 2 and os.getpid() not in processes
    fractions = [fraction for fraction, _ in told]
    assert fractions == sorted(fractions) and fractions[-1] == 1.0
    assert any("running, scan" in message and message.endswith("halfway") for _, message in told)
    assert told[-1][1].startswith("6 of 6 scans done, 0 running, scan ")


def test_what_work_tells_of_what_is_reached_comes_from_its_worker(client: Any) -> None:
    told: list[str] = []
    list(cluster.spread(client, reach, ["first labels"], ["a"], lambda _, message: told.append(message)))
    assert any(message.endswith("first labels") for message in told)


def test_what_work_raises_on_a_worker_ends_it_all(client: Any) -> None:
    with pytest.raises(ClusterError, match="the disk is not there"):
        list(cluster.spread(client, complain, ["the disk is not there"], ["a"], silent))


def test_a_stop_lets_workers_tidy_up_and_they_can_be_used_again(client: Any, tmp_path: Path) -> None:
    def stop(fraction: float, message: str) -> None:
        if "at work" in message:
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        list(cluster.spread(client, wait_to_be_stopped, [tmp_path], ["a"], stop))
    assert (tmp_path / "tidied").exists()
    assert [result[0] for _, result in cluster.spread(client, double, [4], ["b"], silent)] == [8]


def test_an_item_whose_worker_dies_is_done_again_and_one_that_kills_too_many_is_given_up(
    client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cluster.MOST_DEATHS == 3
    monkeypatch.setattr(cluster, "MOST_DEATHS", 2)  # each takes a second or two
    folders = [tmp_path / name for name in ("once", "always", "never")]
    for folder in folders:
        folder.mkdir()
    items = list(zip(folders, (1, 99, 0), strict=True))
    results = dict(cluster.spread(client, die, items, ["a", "b", "c"], silent))
    assert results == {0: "after 1 deaths", 1: cluster.Lost(2), 2: "after 0 deaths"}
    assert len(list(folders[1].iterdir())) == 2


def test_a_batch_by_workers_gives_the_very_files_that_single_runs_give(
    client: Any, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "local_workers", lambda count: nullcontext(client))
    monkeypatch.setattr(batch, "carry_out", carry_out_without_pictures)
    monkeypatch.setattr(preview, "draw_preview", lambda scan, labels, findings, path, title: path.write_bytes(b"x"))
    monkeypatch.setattr(finding_pictures, "finding_pictures", lambda *_: {})
    scans, out = tmp_path / "Köpfe 歯", tmp_path / "out"
    for folder in ("broken", "deep"):
        (scans / folder).mkdir(parents=True)
    (scans / "broken" / "a.nii").write_bytes(b"no scan")
    grey = gaussian_filter(np.random.default_rng(0).normal(size=(31, 18, 15)), 2.0)
    image = SimpleITK.GetImageFromArray((grey / grey.std() * 500 + 400).astype(np.int16))
    SimpleITK.WriteImage(image, str(scans / "deep" / "b.nii.gz"))
    result = batch.segment_batch(scans, out, batch.Settings(tiny_bundle, workers=2))
    assert [(row["scan"], row["status"]) for row in result["cases"]] == [
        ("broken/a.nii", "failed"),
        ("deep/b.nii.gz", "done"),
    ]
    pipeline.segment_to_folder(scans / "deep" / "b.nii.gz", tmp_path / "alone", tiny_bundle)
    for ending in (".nii.gz", ".seg.nrrd"):
        alone = tmp_path / "alone" / f"b_teeth{ending}"
        assert alone.read_bytes() == (out / "deep" / alone.name).read_bytes()
    assert {path.name for path in out.iterdir()} == {"summary.csv", "summary.html", "deep"}
    again = batch.segment_batch(scans, out, batch.Settings(tiny_bundle, workers=2))
    assert again["summary"] == result["summary"] | {"segmented": 0, "kept": 1}


def test_a_program_that_embeds_python_starts_no_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cluster.can_start_workers()
    monkeypatch.setattr(sys, "executable", "/opt/Slicer/bin/SlicerApp-real")
    assert not cluster.can_start_workers()
    with pytest.raises(UsageError, match="SlicerApp-real cannot start worker processes"), cluster.local_workers(2):
        pass


def test_a_scheduler_that_is_not_there_is_told_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "CONNECT_S", 0.2)
    for address in ("tcp://127.0.0.1:9", "no address"):
        with (
            pytest.raises(ClusterError, match=f"No Dask scheduler answers at {address};"),
            cluster.scheduler_at(address),
        ):
            pass


@contextmanager
def _dask(what: str, folder: Path, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process of ``dask scheduler`` or ``dask worker``, as they are started on the computers of a cluster."""
    command = [sys.executable, "-m", f"distributed.cli.dask_{what}", "--scheduler-file", str(folder / "address")]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen([*command, *words], cwd=folder, env=environment, stderr=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_scheduler_that_goes_away_ends_the_work_with_what_to_do_and_its_worker_tidies_up(tmp_path: Path) -> None:
    with (
        _dask("scheduler", tmp_path, "--host", "127.0.0.1", "--port", "0", "--no-dashboard") as scheduler,
        _dask("worker", tmp_path, "--nthreads", "1", "--no-dashboard", "--no-nanny"),
    ):
        file = tmp_path / "address"
        wait_until(lambda: file.exists() and file.read_text(encoding="utf-8").rstrip().endswith("}"), "the scheduler")
        address = json.loads(file.read_text(encoding="utf-8"))["address"]

        def kill(fraction: float, message: str) -> None:
            if "at work" in message:
                scheduler.kill()

        with cluster.scheduler_at(address) as client:
            assert [result[0] for _, result in cluster.spread(client, double, [1], ["a"], silent)] == [2]
            with (
                pytest.raises(ClusterError, match="went away when 0 of 1 scans were done; they are kept"),
                closing(cluster.spread(client, wait_to_be_stopped, [tmp_path], ["b"], kill)) as results,
            ):
                list(results)
        wait_until((tmp_path / "tidied").exists, "the worker to tidy up")
