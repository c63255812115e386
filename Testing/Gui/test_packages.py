"""Packages that Slicer does not bring along: found missing, asked for once, installed, and named when broken."""

from __future__ import annotations

import importlib
import sys
from importlib import metadata
from types import ModuleType

import pytest


@pytest.fixture
def packages(application, scene):
    return importlib.import_module("ToothTopoSegGui.packages")


@pytest.fixture
def without(packages, monkeypatch):
    """Makes packages missing until they are "installed"; gives what was installed."""
    installed = []

    def make(*names):
        version = metadata.version

        def told(name):
            if name in names and not any(line.startswith(name) for line in installed):
                raise metadata.PackageNotFoundError(name)
            return version(name)

        monkeypatch.setattr(packages.metadata, "version", told)
        return installed

    return make


def asked(answers, questions):
    def confirm(text):
        questions.append(text)
        return answers

    return confirm


def test_nothing_is_missing_here_and_nobody_is_asked(packages):
    assert packages.missing() == []
    packages.ensure(lambda text: pytest.fail("nobody is to be asked"))


def test_to_install_nothing_takes_no_pip(packages, slicer, monkeypatch):
    monkeypatch.setattr(slicer.util, "pip_install", lambda lines: pytest.fail("nothing is to be installed"))
    packages.install()


def test_what_is_too_old_or_without_its_module_counts_as_missing(packages, monkeypatch):
    assert packages.missing(["numpy>=1", "numpy>=999.0", "no-such-package>=1"]) == [
        "numpy>=999.0",
        "no-such-package>=1",
    ]
    monkeypatch.setattr(packages, "_module", lambda name: "gone")
    assert packages.missing(["pillow>=1"]) == ["pillow>=1"]


def test_versions_are_compared_as_numbers(packages):
    assert packages._numbers("1.20.1rc2") == [1, 20, 1] > packages._numbers("1.9")


def test_after_one_yes_the_old_slicer_installs_by_pip_install(packages, without, slicer, monkeypatch):
    installed, questions = without("onnxruntime"), []
    monkeypatch.setattr(slicer.util, "pip_install", installed.extend)
    packages.ensure(asked(True, questions))
    assert len(questions) == 1 and "onnxruntime" in questions[0] and "pillow" not in questions[0]
    assert [line.partition(">=")[0] for line in installed] == ["onnxruntime"]


def test_a_newer_slicer_installs_by_pip_ensure_and_asks_no_second_time(packages, without, slicer, monkeypatch):
    installed, options = without("onnxruntime"), {}
    newer = ModuleType("slicer.packaging")

    def pip_ensure(lines, **given):
        installed.extend(lines)
        options.update(given)

    newer.pip_ensure = pip_ensure
    monkeypatch.setitem(sys.modules, "slicer.packaging", newer)
    monkeypatch.setattr(slicer, "packaging", newer, raising=False)
    packages.ensure(asked(True, []))
    assert installed and options == {"prompt_install": False, "requester": "ToothTopoSeg"}


def test_after_a_no_nothing_is_installed(packages, without, slicer, monkeypatch):
    without("onnxruntime")
    monkeypatch.setattr(slicer.util, "pip_install", lambda lines: pytest.fail("nothing is to be installed"))
    with pytest.raises(packages.PackageError, match="onnxruntime, which were not installed"):
        packages.ensure(asked(False, []))


def test_in_batch_nobody_is_asked_and_the_error_says_what_to_run(packages, without, application):
    without("onnxruntime")
    application.setMainWindow(False)
    with pytest.raises(packages.PackageError, match='PythonSlicer -m pip install "onnxruntime>='):
        packages.ensure(lambda text: pytest.fail("nobody is to be asked"))


def test_an_installation_that_fails_says_so_and_keeps_the_reason(packages, without, slicer, monkeypatch):
    without("onnxruntime")

    def fail(lines):
        raise RuntimeError("no network")

    monkeypatch.setattr(slicer.util, "pip_install", fail)
    with pytest.raises(packages.PackageError, match="could not be installed") as caught:
        packages.ensure(asked(True, []))
    assert caught.value.details == "no network"


def test_an_installation_without_effect_is_named(packages, without, slicer, monkeypatch):
    without("onnxruntime")
    monkeypatch.setattr(slicer.util, "pip_install", lambda lines: None)
    with pytest.raises(packages.PackageError, match="onnxruntime could not be installed"):
        packages.install()


def test_the_panel_shows_the_refusal_and_starts_nothing(makeWidget, cbct, without, slicer, monkeypatch):
    widget = makeWidget()
    without("onnxruntime")
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda *a, **k: False)
    widget.panel("SegmentPanel").apply()
    assert "not installed" in widget.ui.statusLabel.text and not widget.panel("SegmentPanel").running
