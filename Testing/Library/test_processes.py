"""Worker processes: one thread each, and nothing left behind in this process."""

from __future__ import annotations

import os

import pytest

from ToothTopoSegLib.processes import THREADS, one_thread_each


def test_workers_are_told_to_use_one_thread_and_this_process_keeps_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(THREADS[0], "7")
    monkeypatch.delenv(THREADS[1], raising=False)
    with one_thread_each(1) as pool:
        assert [pool.submit(os.getenv, name).result() for name in THREADS] == ["1"] * len(THREADS)
    assert os.environ[THREADS[0]] == "7"
    assert THREADS[1] not in os.environ
