"""Worker processes: one thread each, and nothing left behind in this process."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from ToothTopoSegLib.processes import THREADS, one_thread_each


def test_workers_are_told_to_use_one_thread_and_this_process_keeps_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(THREADS[0], "7")
    monkeypatch.delenv(THREADS[1], raising=False)
    with one_thread_each(1) as pool:
        assert [pool.submit(os.getenv, name).result() for name in THREADS] == ["1"] * len(THREADS)
    assert os.environ[THREADS[0]] == "7"
    assert THREADS[1] not in os.environ


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_workers_at_work_end_when_their_parent_is_killed() -> None:
    parent = """
import os, signal
from ToothTopoSegLib.processes import one_thread_each
with one_thread_each(1) as pool:
    print(pool.submit(os.getpid).result() != os.getpid(), flush=True)
    pool.submit(signal.pause)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    # what they print into stays open as long as a worker lives: the end of it is waited for
    run = subprocess.run([sys.executable, "-c", parent], capture_output=True, text=True, timeout=120)
    assert (run.returncode, run.stdout) == (-9, "True\n")
