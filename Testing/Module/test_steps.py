"""Long work in steps: what is computed elsewhere, what is raised where, how it is cancelled."""

from __future__ import annotations

import importlib
import threading

import pytest

from ToothTopoSegLib.errors import Cancelled


@pytest.fixture
def steps(slicer_core):
    return importlib.import_module("ToothTopoSegGui.steps")


def work(log, computation):
    """Steps that note which thread they are in and that they tidied up."""
    try:
        yield
        log.append(threading.current_thread())
        answer = yield computation
        return answer + 1
    finally:
        log.append("tidy")


def finish(background):
    """Advance to the end; a computation ends by itself or is cancelled, so the turns are few."""
    for _ in range(2000):
        if background.is_done:
            return background
        background.advance()
    raise AssertionError("the work did not end")


def test_all_is_done_at_once_where_nobody_waits(steps):
    log = []
    assert steps.at_once(work(log, lambda progress: 41)) == 42
    assert log == [threading.current_thread(), "tidy"]


def test_a_failure_of_the_computation_is_raised_after_tidying_up(steps):
    log = []
    with pytest.raises(ZeroDivisionError):
        steps.at_once(work(log, lambda progress: 1 // 0))
    assert log[-1] == "tidy"


def test_in_the_background_only_the_computation_runs_in_another_thread(steps):
    log, threads = [], []

    def computation(progress):
        threads.append(threading.current_thread())
        progress(0.5, "half")
        return 1

    background = finish(steps.Background(work(log, computation)))
    assert background.result == 2 and background.error is None
    assert (background.fraction, background.text) == (0.5, "half")
    assert log[0] is threading.current_thread() and threads[0] is not threading.current_thread()


def test_a_failure_in_the_background_becomes_the_error(steps):
    log = []
    background = finish(steps.Background(work(log, lambda progress: 1 // 0)))
    assert isinstance(background.error, ZeroDivisionError) and log[-1] == "tidy"


def test_a_cancelled_computation_ends_at_its_next_word_of_progress(steps):
    log, started, go_on = [], threading.Event(), threading.Event()

    def computation(progress):
        started.set()
        go_on.wait(10)
        progress(0.5, "half")
        raise AssertionError("went on")

    background = steps.Background(work(log, computation))
    while not started.is_set():
        background.advance()
    background.cancel()
    go_on.set()
    finish(background)
    assert isinstance(background.error, Cancelled) and log[-1] == "tidy"


def test_work_cancelled_between_two_steps_does_not_go_on(steps):
    log = []
    background = steps.Background(work(log, lambda progress: 1))
    background.advance()
    background.cancel()
    finish(background)
    assert isinstance(background.error, Cancelled) and log == ["tidy"]
