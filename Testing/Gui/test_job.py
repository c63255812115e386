"""The background process by itself: its protocol, its errors, and that nothing of it outlives what started it."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def job(application, scene):
    return importlib.import_module("ToothTopoSegGui.job")


@pytest.fixture
def worker(application):
    return importlib.import_module("ToothTopoSegGui.worker")


@pytest.fixture
def told():
    """What a job told, in order."""
    return []


@pytest.fixture
def listener(job, told):
    return job.Listener(
        told.append,
        lambda result, folder: told.append(("finished", result, sorted(path.name for path in folder.iterdir()))),
        lambda error: told.append(("failed", str(error), error.details)),
        lambda: told.append(("cancelled",)),
    )


@pytest.fixture
def python_that(tmp_path, monkeypatch):
    """Makes an interpreter that runs this code in place of the worker."""

    def make(code):
        script = tmp_path / "fake_worker.py"
        script.write_text(textwrap.dedent(code), encoding="utf-8")
        program = tmp_path / "python"
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{script}" "$3"\n', encoding="utf-8")
        program.chmod(0o755)
        monkeypatch.setenv("TOOTHTOPOSEG_PYTHON", str(program))

    return make


def run(job, listener, process_events, told, request=None):
    started = job.Job(request or job.Request("segment", {}, {}), listener)
    started.start()
    assert process_events(lambda: not started.running, 60)
    return told[-1]


def test_messages_come_in_order_and_what_is_none_is_a_remark(job, listener, told, python_that, process_events):
    python_that(
        """
        import json
        print(json.dumps({"event": "progress", "fraction": 0.5, "message": "half"}), flush=True)
        print("a library says hello", flush=True)
        print(json.dumps({"event": "result", "n": 3}), flush=True)
        """
    )
    assert run(job, listener, process_events, told) == (
        "finished",
        {"event": "result", "n": 3},
        ["log.txt", "request.json"],
    )
    assert told[0]["message"] == "half" and told[1] == {"event": "remark", "text": "a library says hello\n"}


def test_the_worker_writes_the_first_labels_before_it_tells_them_and_before_the_result(worker, phantom, tmp_path):
    scan, truth = phantom
    np.save(tmp_path / "volume.npy", scan.array)
    told = []

    class Reporter(worker.Reporter):
        def tell(self, event, **content):
            if event != "progress":
                told.append((event, content, sorted(path.name for path in tmp_path.glob("*.npy"))))

    arguments = {"model": None, "device": "cpu", "threads": 1, "geometry": worker.geometry_of(scan)}
    result = worker.segment(tmp_path, arguments, Reporter(sys.stdout), worker.Control())
    ((event, content, files),) = told
    assert event == "first" and files == ["first.npy", "volume.npy"]
    first, last = (np.load(tmp_path / f"{name}.npy") for name in ("first", "labels"))
    assert first.shape == last.shape == truth.array.shape and (first != last).any()
    assert content["boxes"] == worker.boxes_of(first) and result["boxes"] == worker.boxes_of(last)
    assert len(set(content["boxes"]) & {str(label) for label in np.unique(truth.array)}) > 20


def test_an_error_brings_its_sentence_and_the_log_for_the_diagnosis(job, listener, told, python_that, process_events):
    python_that(
        """
        import json, sys
        print("deep trouble", file=sys.stderr, flush=True)
        print(json.dumps({"event": "error", "message": "No.", "details": "Traceback"}), flush=True)
        """
    )
    assert run(job, listener, process_events, told) == ("failed", "No.", "Traceback\ndeep trouble")


def test_a_process_that_ends_without_a_word_is_a_failure(job, listener, told, python_that, process_events):
    python_that("raise SystemExit(7)")
    kind, message, _ = run(job, listener, process_events, told)
    assert kind == "failed" and "exit code 7" in message


def test_an_interpreter_that_cannot_be_run_is_a_failure(job, listener, told, tmp_path, monkeypatch, process_events):
    program = tmp_path / "python"
    program.write_bytes(b"\x00\x01 no program")
    program.chmod(0o755)
    monkeypatch.setenv("TOOTHTOPOSEG_PYTHON", str(program))
    kind, message, _ = run(job, listener, process_events, told)
    assert kind == "failed" and "could not be started" in message


@pytest.mark.skipif(os.name == "nt", reason="/proc and process groups are looked at")
def test_cancel_ends_the_children_of_the_process_too(job, listener, told, python_that, process_events, tmp_path):
    python_that(
        f"""
        import subprocess, sys, time
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        open({str(tmp_path / "child")!r}, "w").write(str(child.pid))
        print('{{"event": "progress", "fraction": 0.1, "message": "on"}}', flush=True)
        time.sleep(600)
        """
    )
    started = job.Job(job.Request("segment", {}, {}), listener)
    started.start()
    assert process_events(lambda: told, 30)
    child = int((tmp_path / "child").read_text())
    started.cancel()
    assert told[-1] == ("cancelled",)
    assert process_events(lambda: not runs(child), 2)
    started.cancel()
    assert told.count(("cancelled",)) == 1


def runs(pid):
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_job_cancelled_before_its_process_started_starts_none(
    job, listener, told, python_that, process_events, tmp_path
):
    python_that(f"open({str(tmp_path / 'ran')!r}, 'w')")
    started = job.Job(job.Request("segment", {}, {}), listener)
    started.start()
    started.cancel()
    assert told == [("cancelled",)] and not started.running


def test_words_reach_the_process(job, listener, told, python_that, process_events):
    python_that(
        """
        import json, sys
        print(json.dumps({"event": "ready"}), flush=True)
        words = [sys.stdin.readline().strip() for _ in range(2)]
        print(json.dumps({"event": "result", "words": words}), flush=True)
        """
    )
    started = job.Job(job.Request("finetune", {}, {}), listener)
    started.start()
    assert process_events(lambda: told, 30)
    started.send("pause")
    assert process_events(lambda: not started.running, 30)
    assert told[-1][1]["words"] == ["hello", "pause"]


@pytest.mark.skipif(os.name == "nt", reason="/proc is looked at")
def test_the_process_ends_by_itself_when_slicer_is_gone(job, tmp_path):
    fake = tmp_path / "slow_engine.py"
    fake.write_text("import time\ndef train(**_): time.sleep(600)\n", encoding="utf-8")
    arguments = {"engine": "slow_engine:train", "cases": [], "out": "", "minutes": 1, "device": "cpu"}
    job.write_request(tmp_path, job.Request("finetune", arguments, {}))
    environment = job._environment()
    environment["PYTHONPATH"] += os.pathsep + str(tmp_path)
    process = subprocess.Popen(
        [sys.executable, "-m", "ToothTopoSegGui.worker", str(tmp_path)], env=environment, stdin=subprocess.PIPE
    )
    process.stdin.write(b"hello\n")
    process.stdin.close()
    assert process.wait(30) == 1


def test_the_worker_says_in_one_sentence_what_is_wrong(worker, job, tmp_path, capsys):
    for error, told in (
        (MemoryError(), "not enough memory"),
        (ImportError("cannot import name 'x'", name="onnxruntime.capi"), "package onnxruntime cannot be loaded"),
        (OSError(28, "No space left on device"), "No space left"),
        (KeyError("x"), "KeyError"),
    ):
        assert told in worker._in_words(error)


def test_the_worker_names_a_broken_package(job, listener, told, process_events, tmp_path, monkeypatch):
    broken = tmp_path / "broken" / "onnxruntime"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("from .gone import everything\n", encoding="utf-8")
    monkeypatch.setattr(job, "_environment", with_path_first(job._environment, str(broken.parent)))
    import numpy as np

    geometry = {"spacing": (1, 1, 1), "origin": (0, 0, 0), "direction": ((1, 0, 0), (0, 1, 0), (0, 0, 1))}
    arguments = {"model": None, "device": "cpu", "threads": 1, "geometry": geometry}
    request = job.Request("segment", arguments, {"volume": np.zeros((8, 8, 8), np.int16)})
    kind, message, details = run(job, listener, process_events, told, request)
    assert kind == "failed" and "onnxruntime" in message and "broken" in message and "Traceback" in details


def with_path_first(environment, folder):
    def changed():
        found = environment()
        return {**found, "PYTHONPATH": folder + os.pathsep + found["PYTHONPATH"]}

    return changed


def test_the_remaining_time_is_told_once_enough_is_done(job):
    assert job.remaining_seconds(1, 0.01) is None
    assert job.remaining_seconds(10, 0.25) == 30
    assert [job.in_words(s) for s in (1, 12, 54, 61, 200, 9000)] == ["5 s", "10 s", "55 s", "1 min", "3 min", "2.5 h"]


def test_a_paused_task_waits_until_it_goes_on_or_is_stopped(worker):
    control = worker.Control()
    assert control.go_on()
    control.obey("pause")
    control.obey("resume")
    assert control.go_on()
    control.obey("pause")
    control.obey("stop")
    assert not control.go_on()


def test_geometry_goes_to_the_process_and_back_exactly(worker):
    import numpy as np

    from ToothTopoSegLib.imaging.volume import Volume

    direction = ((0.6, 0.8, 0.0), (-0.8, 0.6, 0.0), (0.0, 0.0, 1.0))
    volume = Volume(np.zeros((2, 3, 4)), (0.3, 0.4, 0.5), (1.0, -2.0, 1 / 3), direction)
    again = worker.volume_from(volume.array, json.loads(json.dumps(worker.geometry_of(volume))))
    assert (again.spacing, again.origin, again.direction) == (volume.spacing, volume.origin, volume.direction)
