"""The command line against its contract: arguments, exit codes, what stands on stdout and what on stderr.

The engine is replaced by small fakes, since a door computes nothing; the real way of a scan is tested elsewhere.
"""

from __future__ import annotations

import errno
import io
import json
import os
import re
import signal
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest

from ToothTopoSegLib import __version__, cli
from ToothTopoSegLib.errors import Cancelled, InputError, UsageError
from ToothTopoSegLib.progress import Milestone

COMMANDS = ("demo", "test", "segment", "check", "repair", "evaluate", "phantom", "train", "export", "audit", "bench")
COMMANDS += ("experiment", "batch", "finetune", "import-nnunet")
EXPERIMENTS = ("experiment faults", "experiment quantization", "experiment calibration", "experiment shapes")
REPORT = {
    "schema": "toothtoposeg.report/1",
    "teeth": [{"fdi": 11, "present": True}, {"fdi": 12, "present": False}, {"fdi": 36, "present": True}],
    "findings": [
        {"kind": "cavity", "severity": "warning", "teeth": [11], "position_lps_mm": [1.0, -2.0, 3.25]},
        {"kind": "missing", "severity": "info", "teeth": [12], "position_lps_mm": None},
    ],
    "timing_s": {"total": 83.0},
    "peak_rss_mb": 1234.5,
}
ERROR = {"kind": "duplicate", "severity": "error", "teeth": [36], "position_lps_mm": [0.0, 0.0, 0.0]}
WITH_ERROR = {**REPORT, "findings": [*REPORT["findings"], ERROR]}


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch):
    """``engine(module, function, result)`` replaces one function of the engine and returns the calls it gets."""

    def replace(module: str, function: str, result: Any) -> list[tuple[Any, ...]]:
        calls: list[tuple[Any, ...]] = []

        def fake(*args: Any) -> Any:
            calls.append(args)
            if isinstance(result, BaseException):
                raise result
            return result(*args) if callable(result) else result

        fake_module = ModuleType(f"ToothTopoSegLib.{module}")
        setattr(fake_module, function, fake)
        monkeypatch.setitem(sys.modules, f"ToothTopoSegLib.{module}", fake_module)
        return calls

    return replace


@pytest.fixture
def segment(engine):
    return lambda result: engine("segmentation.pipeline", "segment_to_folder", result)


def test_no_command_is_wrong_usage_with_the_help_on_stderr(capsys):
    assert cli.main([]) == 2
    out, err = capsys.readouterr()
    assert out == "" and "segment" in err


@pytest.mark.parametrize(
    "words",
    [
        ["nonsense"],
        ["repair", "labels.nii.gz"],
        ["segment"],
        ["segment", "scan.nii.gz"],
        ["segment", "scan.nii.gz", "-o", "out", "--nonsense"],
        ["segment", "scan.nii.gz", "-o", "out", "--device", "tpu"],
        ["segment", "scan.nii.gz", "-o", "out", "--threads", "0"],
        ["batch", "scans"],
        ["batch", "scans", "-o", "out", "--threads", "0"],
        ["check"],
        ["evaluate", "one.nii.gz"],
        ["evaluate", "one.nii.gz", "two.nii.gz", "--tolerance", "-1"],
        ["evaluate", "one.nii.gz", "two.nii.gz", "--connectivity", "18"],
        ["phantom"],
        ["phantom", "-o", "out", "--count", "none"],
        ["phantom", "-o", "out", "--seed", "-1"],
        ["phantom", "-o", "out", "--setting", "real"],
        ["export", "run"],
        ["bench", "--page", "page.md"],
    ],
    ids=" ".join,
)
def test_wrong_usage_ends_with_2_and_says_why(words, capsys):
    assert cli.main(words) == 2
    out, err = capsys.readouterr()
    assert out == "" and "error" in err


def test_the_help_lists_the_commands_that_exist_and_no_others(capsys):
    assert cli.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(re.search(rf"^    {name}\s", text, re.MULTILINE) for name in COMMANDS)


@pytest.mark.parametrize("name", [*(name for name in COMMANDS if name != "experiment"), *EXPERIMENTS])
def test_every_command_explains_itself_and_offers_json(name, capsys):
    assert cli.main([*name.split(), "--help"]) == 0
    assert "--json" in capsys.readouterr().out


def test_an_experiment_takes_no_option_of_another(tmp_path, capsys):
    assert cli.main(["experiment", "quantization", "-o", str(tmp_path), "--count", "3"]) == 2
    assert cli.main(["experiment", "faults", "--scan", "scan.nii.gz"]) == 2
    assert "--scan" in capsys.readouterr().err and list(tmp_path.iterdir()) == []


def test_an_experiment_of_hours_wants_a_folder(capsys):
    assert cli.main(["experiment", "quantization"]) == 2
    assert "-o" in capsys.readouterr().err


def test_version_is_the_engines(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == f"toothtopo {__version__}"


def test_segment_hands_its_arguments_on_and_sums_the_report_up(segment, capsys):
    calls = segment(REPORT)
    words = ["segment", "scan.nii.gz", "-o", "out", "--model", "m.onnx", "--device", "cpu", "--threads", "2"]
    assert cli.main(words) == 0
    assert calls[0][:5] == (Path("scan.nii.gz"), Path("out"), Path("m.onnx"), "cpu", 2)
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "teeth     2: 11 36",
        "findings  1 warning, 1 info",
        "time      1 min 23 s",
        "memory    1234 MB at most",
        "files     out",
    ]


def test_segment_has_the_bundled_model_automatic_device_and_all_threads_by_default(segment):
    calls = segment(REPORT)
    cli.main(["segment", "scan.nii.gz", "-o", "out"])
    assert calls[0][2:5] == (None, "auto", None)


def test_a_scan_without_teeth_is_said_so(segment, capsys):
    segment({**REPORT, "teeth": [], "findings": []})
    assert cli.main(["segment", "scan.nii.gz", "-o", "out"]) == 0
    assert capsys.readouterr().out.splitlines()[:2] == ["teeth     none", "findings  none"]


BATCH = {
    "cases": [{"scan": "a.nii.gz", "reason": ""}, {"scan": "deep/b.nrrd", "reason": ""}],
    "summary": {"scans": 2, "segmented": 1, "kept": 1, "failed": 0, "with_errors": 1},
    "summary_csv": "out/summary.csv",
    "summary_html": "out/summary.html",
}


@pytest.fixture
def batch(monkeypatch):
    """``batch(report)`` replaces the engine of batches and returns the calls it gets."""

    def replace(report: Any) -> list[tuple[Any, ...]]:
        calls: list[tuple[Any, ...]] = []
        monkeypatch.setattr(
            "ToothTopoSegLib.segmentation.batch.segment_batch", lambda *args: calls.append(args) or report
        )
        return calls

    return replace


def test_batch_hands_its_arguments_on_and_sums_the_scans_up(batch, capsys):
    from ToothTopoSegLib.segmentation.batch import Settings

    calls = batch(BATCH)
    words = ["batch", "scans", "-o", "out", "--model", "m.onnx", "--device", "cpu", "--threads", "2"]
    assert cli.main([*words, "--repair", "--again"]) == 0
    assert calls[0][:3] == (Path("scans"), Path("out"), Settings(Path("m.onnx"), "cpu", 2, True, True, None))
    assert capsys.readouterr().out.splitlines() == [
        "scans     1 segmented, 1 kept, 0 failed",
        "summary   out/summary.csv",
        "summary   out/summary.html",
    ]


def test_batch_takes_its_workers_from_here_or_from_a_cluster(batch, capsys):
    calls = batch(BATCH)
    assert cli.main(["batch", "scans", "-o", "out", "--workers", "3"]) == 0
    assert cli.main(["batch", "scans", "-o", "out", "--scheduler", "tcp://there:8786"]) == 0
    assert [(call[2].workers, call[2].scheduler) for call in calls] == [(3, None), (None, "tcp://there:8786")]
    assert cli.main(["batch", "scans", "-o", "out", "--workers", "3", "--scheduler", "tcp://there:8786"]) == 2
    assert "give one of the two" in capsys.readouterr().err


def test_batch_ends_with_4_when_a_scan_failed_and_with_3_when_strict_met_an_error(batch, capsys):
    words = ["batch", "scans", "-o", "out", "--strict"]
    batch(BATCH)
    assert cli.main(words) == 3
    assert "--strict: 1 of 2 scans" in capsys.readouterr().err
    failed = [BATCH["cases"][0], {"scan": "deep/b.nrrd", "reason": "b.nrrd is cut short."}]
    batch({**BATCH, "cases": failed, "summary": BATCH["summary"] | {"failed": 1}})
    assert cli.main(words) == 4
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == "failed    deep/b.nrrd: b.nrrd is cut short."
    assert "1 of 2 scans could not be segmented" in err


def test_strict_ends_with_3_only_when_a_finding_is_an_error(segment, capsys):
    words = ["segment", "scan.nii.gz", "-o", "out"]
    segment(WITH_ERROR)
    assert cli.main(words) == 0
    assert cli.main([*words, "--strict"]) == 3
    assert "1 finding of severity error" in capsys.readouterr().err
    segment(REPORT)
    assert cli.main([*words, "--strict"]) == 0


class Checked(NamedTuple):
    """What checking a file hands back, as far as a door looks at it."""

    report: dict[str, Any]
    labels: Any = None
    scan: Any = None
    findings: Any = ()


def test_check_prints_every_finding_and_writes_the_report(engine, tmp_path, capsys):
    calls = engine("topology.check", "checked_file", Checked(WITH_ERROR))
    report = tmp_path / "new folder" / "report.json"
    words = ["check", "l.nii.gz", "--image", "s.nrrd", "--scheme", "universal", "-o", str(report), "--strict"]
    assert cli.main(words) == 3
    assert calls[0][:3] == (Path("l.nii.gz"), Path("s.nrrd"), "universal")
    assert json.loads(report.read_text(encoding="utf-8")) == WITH_ERROR
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["warning", "cavity", "11", "-", "1.0", "-2.0", "3.2"] in lines
    assert ["error", "duplicate", "36", "-", "0.0", "0.0", "0.0"] in lines


@pytest.mark.parametrize(
    ("words", "pages", "reports"),
    [("-o r.html", ["r.html"], []), ("-o r.json --html p", ["p"], ["r.json"]), ("-o R.HTM", ["R.HTM"], [])],
)
def test_check_writes_a_page_where_one_is_named(engine, tmp_path, monkeypatch, capsys, words, pages, reports):
    monkeypatch.chdir(tmp_path)
    engine("topology.check", "checked_file", Checked(REPORT, "labels", None, []))
    calls = engine("evaluation.html", "write_check_page", None)
    assert cli.main(["check", "l.nii.gz", *words.split()]) == 0
    assert [(*call[:4], str(call[4])) for call in calls] == [(REPORT, "labels", None, [], page) for page in pages]
    assert [path.name for path in tmp_path.iterdir()] == reports
    assert all(f"report    {name}" in capsys.readouterr().out for name in pages)


def test_a_report_that_cannot_be_written_ends_with_4_and_leaves_nothing(engine, tmp_path, capsys):
    engine("topology.check", "checked_file", Checked(REPORT))
    (tmp_path / "report.json").mkdir()
    assert cli.main(["check", "l.nii.gz", "-o", str(tmp_path / "report.json")]) == 4
    assert "cannot be written" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_evaluate_compares_two_files_and_writes_the_metrics(engine, tmp_path, capsys):
    calls = engine("evaluation.evaluate", "evaluate_files", {"mean_dice": np.float64(0.912345), "rows": [{"fdi": 11}]})
    sys.modules["ToothTopoSegLib.evaluation.evaluate"].table = lambda report: f"{len(report['rows'])} tooth"
    metrics = tmp_path / "metrics.json"
    words = ["a.nii.gz", "b.nii.gz", "-o", str(metrics), "--tolerance", "0.3", "--reference-scheme", "universal"]
    words += ["--connectivity", "6"]
    assert cli.main(["evaluate", *words]) == 0
    assert calls[0][:-1] == (Path("a.nii.gz"), Path("b.nii.gz"), None, "universal", 0.3, 6)
    assert json.loads(metrics.read_text())["mean_dice"] == pytest.approx(0.912345)
    assert capsys.readouterr().out.splitlines() == ["1 tooth", f"metrics    {metrics}"]


@pytest.mark.parametrize(
    ("words", "module", "function", "expected"),
    [
        ("demo", "evaluation.demo", "run_demo", (None,)),
        ("demo -o d", "evaluation.demo", "run_demo", (Path("d"),)),
        ("phantom -o d", "phantom.write", "write_phantoms", (Path("d"), 1, 0, False, "plain", None)),
        (
            "phantom -o d --count 3 --seed 7 --hard",
            "phantom.write",
            "write_phantoms",
            (Path("d"), 3, 7, True, "plain", None),
        ),
        (
            "phantom -o d --setting foreign",
            "phantom.write",
            "write_phantoms",
            (Path("d"), 1, 0, False, "foreign", None),
        ),
        ("train -o r --config tiny --device cpu", "training.recipe", "train", (Path("r"), "tiny", "cpu", None)),
        ("train -o r", "training.recipe", "train", (Path("r"), "bundled", "auto", None)),
        ("train -o r --begin-with m", "training.recipe", "train", (Path("r"), "bundled", "auto", Path("m"))),
        ("export r -o b", "quantization.export", "export_run", (Path("r"), Path("b"), None)),
        ("export r -o b --mean-with m", "quantization.export", "export_run", (Path("r"), Path("b"), Path("m"))),
        ("bench", "evaluation.bench", "bench_scan", (None, None, None)),
        ("bench --scan s --threads 1", "evaluation.bench", "bench_scan", (Path("s"), 1, None)),
        ("bench --scan s --scaling", "evaluation.bench", "bench_scaling", (Path("s"), None, None)),
        ("bench --phantoms 3 --hard", "evaluation.bench", "bench_phantoms", (3, None, True, None, False, "plain")),
    ],
)
def test_commands_hand_their_arguments_and_a_progress_callback_on(words, module, function, expected, engine, capsys):
    calls = engine(module, function, {"done": "yes"})
    assert cli.main(words.split()) == 0
    assert calls[0][:-1] == expected and isinstance(calls[0][-1], cli.ProgressBar)
    assert capsys.readouterr().out == "done: yes\n"


CASE = SimpleNamespace(
    case=SimpleNamespace(name="a"),
    teeth=(11, 12),
    usable=True,
    problems=(),
    warnings=("Tooth 11 is torn.",),
    as_dict=lambda: {"name": "a"},
)


def test_finetune_hands_its_arguments_on_and_shows_the_labels_before_it_learns(monkeypatch, capsys):
    from ToothTopoSegLib.training import finetune

    def fake(*args: Any, on_checked: Any, progress: Any) -> dict[str, Any]:
        on_checked([CASE])
        return {"bundle": args[1], "args": str(args), "labels": ["not shown"]}

    monkeypatch.setattr(finetune, "finetune", fake)
    words = "finetune c d -o b.onnx --minutes 5 --device cpu --model m.onnx --rate 0.01 --held-out 0.5 --steps 7"
    assert cli.main(words.split()) == 0
    out, err = capsys.readouterr()
    choices = finetune.Choices(rate=0.01, held_out=0.5, steps=7)
    assert str(([Path("c"), Path("d")], Path("b.onnx"), 5.0, "cpu", Path("m.onnx"), choices)) in out
    assert "case      a: 2 teeth, usable\n  warning   Tooth 11 is torn.\n" in err and "labels" not in out


def test_finetune_can_check_the_cases_alone(monkeypatch, capsys):
    from ToothTopoSegLib.training import user_cases

    bad = SimpleNamespace(**{**vars(CASE), "usable": False, "problems": ("The labels are empty.",)})
    monkeypatch.setattr(user_cases, "find_cases", lambda sources: sources)
    for found, code in (([CASE], 0), ([CASE, bad], 4)):
        monkeypatch.setattr(user_cases, "check_cases", lambda cases, progress, found=found: found)
        assert cli.main(["finetune", "c", "--check"]) == code
    out, err = capsys.readouterr()
    assert "  problem   The labels are empty." in out and "1 of 2 cases cannot be learnt from" in err


def test_finetune_without_a_bundle_to_write_is_wrong_usage(capsys):
    assert cli.main(["finetune", "c"]) == 2
    assert "-o" in capsys.readouterr().err


def test_audit_ends_with_4_and_a_reason_when_the_model_is_not_integer(engine, capsys):
    calls = engine("quantization.audit", "audit_model", {"passed": False, "float_operators": ["Conv"]})
    assert cli.main(["audit", "model.onnx"]) == 4
    assert "does not compute in integers" in capsys.readouterr().err
    engine("quantization.audit", "audit_model", {"passed": True})
    assert cli.main(["audit"]) == 0
    assert calls == [(Path("model.onnx"),)]


@pytest.mark.parametrize(
    "words, scan", [(["--reference"], None), (["--scan", "s.nii.gz"], Path("s.nii.gz"))], ids=["phantoms", "scan"]
)
def test_audit_compares_with_the_integer_reference_on_demand(engine, words, scan):
    calls = engine("quantization.audit", "audit_model", lambda model, patches: {"passed": True, "n": patches("bundle")})
    asked = engine("evaluation.reference_patches", "reference_patches", 7)
    assert cli.main(["audit", *words]) == 0
    assert calls[0][0] is None and asked == [("bundle", scan)]


def test_json_puts_one_object_on_stdout_whatever_the_engine_prints(segment, capsys):
    def noisy(*_args):
        print("a library talks")
        return {**REPORT, "value": float("nan"), "where": Path("a/b"), "counts": np.arange(2)}

    segment(noisy)
    assert cli.main(["segment", "scan.nii.gz", "-o", "out", "--json"]) == 0
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert (report["value"], report["where"], report["counts"]) == (None, os.path.join("a", "b"), [0, 1])
    assert "a library talks" in err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InputError("the scan is empty: choose another one."), 4),
        (UsageError("there is no scheme 'x': choose one of a, b."), 2),
        (Cancelled("stopped"), 130),
        (KeyboardInterrupt(), 130),
        (MemoryError(), 4),
        (OSError(errno.ENOSPC, "No space left on device", "out/teeth.nii.gz"), 4),
        (ModuleNotFoundError("No module named 'torch'", name="torch"), 4),
        (ZeroDivisionError("division\nby zero"), 1),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("json_words", [[], ["--json"]], ids=["text", "json"])
def test_every_error_becomes_one_sentence_and_its_exit_code(error, code, json_words, segment, capsys):
    segment(error)
    assert cli.main(["segment", "scan.nii.gz", "-o", "out", *json_words]) == code
    out, err = capsys.readouterr()
    assert len(err.splitlines()) == 1 and err.startswith("toothtopo: ") and len(err) < 400
    if json_words:
        assert json.loads(out)["exit_code"] == code
    else:
        assert out == ""


def test_a_traceback_is_shown_only_when_asked_for(segment, capsys, monkeypatch):
    segment(ZeroDivisionError("division by zero"))
    cli.main(["segment", "scan.nii.gz", "-o", "out"])
    assert "Traceback" not in capsys.readouterr().err
    monkeypatch.setenv("TOOTHTOPO_DEBUG", "1")
    cli.main(["segment", "scan.nii.gz", "-o", "out"])
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_a_signal_lets_the_engine_tidy_up_and_ends_with_130(name, segment):
    tidied = []

    def interrupted(*_args):
        try:
            os.kill(os.getpid(), getattr(signal, name))
        finally:
            tidied.append(True)

    segment(interrupted)
    before = signal.getsignal(signal.SIGTERM)
    assert cli.main(["segment", "scan.nii.gz", "-o", "out"]) == 130
    assert tidied and signal.getsignal(signal.SIGTERM) == before


def test_the_test_command_hands_options_to_pytest_and_returns_its_exit_code(monkeypatch, capfd):
    commands = []

    def fake_run(command, **_options):
        commands.append(command)
        return SimpleNamespace(returncode=5 if "pytest" in command else 0)

    monkeypatch.setattr(cli.subprocess, "run", fake_run)
    assert cli.main(["test", "-k", "nothing here", "--json", "-q"]) == 5
    assert commands[-1][-3:] == ["-k", "nothing here", "-q"]
    assert json.loads(capfd.readouterr().out) == {"exit_code": 5}


def test_the_test_command_counts_what_pytest_wrote(tmp_path):
    results = tmp_path / "junit.xml"
    results.write_text('<testsuites><testsuite tests="7" failures="1" errors="0" skipped="2" time="1.5"/></testsuites>')
    expected = {"tests": 7, "failures": 1, "errors": 0, "skipped": 2, "time_s": 1.5}
    assert cli.junit_counts(results) == expected


def test_an_installed_package_says_that_it_has_no_tests(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(cli, "__file__", str(tmp_path / "ToothTopoSegLib" / "cli.py"))
    assert cli.main(["test"]) == 2
    assert "no tests" in capsys.readouterr().err


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_progress_off_a_terminal_is_a_line_every_ten_percent():
    stream = io.StringIO()
    bar = cli.ProgressBar(stream)
    for step in range(101):
        bar(step / 100, "network")
    bar.close()
    assert [int(line.split()[0]) for line in stream.getvalue().splitlines()] == list(range(0, 101, 10))


def test_progress_on_a_terminal_is_one_line_that_is_cleared_at_the_end():
    stream = Terminal()
    bar = cli.ProgressBar(stream)
    bar(0.25, "network")
    bar(0.25, "network")
    bar(0.5, "network")
    assert "\n" not in stream.getvalue() and stream.getvalue().count("\r") == 2
    bar.close()
    assert stream.getvalue().endswith("\r\x1b[2K")


@pytest.mark.parametrize("make", [io.StringIO, lambda: Terminal()], ids=["file", "terminal"])
def test_a_milestone_is_a_line_that_stays_among_the_progress(make):
    stream = make()
    bar = cli.ProgressBar(stream)
    bar(0.65, "network")
    bar(0.66, Milestone("first labels after 8 s"))
    bar(0.67, "surfaces")
    bar(0.70, "surfaces")
    bar.close()
    lines = [line for line in stream.getvalue().split("\n") if "first labels" in line]
    assert [line.split("\x1b[2K")[-1] for line in lines] == [" 66 %  first labels after 8 s"]
    shown = stream.getvalue().replace("\r\x1b[2K", "\n").split("\n")
    assert [line for line in shown if line.startswith((" 65", " 70"))] == [" 65 %  network", " 70 %  surfaces"]


def test_progress_estimates_the_remaining_time_from_the_work_done():
    stream, clock = io.StringIO(), Clock()
    bar = cli.ProgressBar(stream, clock)
    bar(0.0, "start")
    clock.now += 60
    bar(0.25, "network")
    assert stream.getvalue().splitlines()[1] == " 25 %  network  (about 3 min 0 s left)"


def test_progress_never_goes_back_nor_beyond_its_ends():
    stream = io.StringIO()
    bar = cli.ProgressBar(stream)
    for fraction in (-1.0, 0.5, 0.2, 7.0):
        bar(fraction, "work")
    assert [line.split()[0] for line in stream.getvalue().splitlines()] == ["0", "50", "100"]


def test_a_closed_stderr_does_not_end_the_work():
    stream = io.StringIO()
    bar = cli.ProgressBar(stream)
    stream.close()
    bar(0.5, "work")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.6, "1 min 0 s"), (83, "1 min 23 s"), (3900, "1 h 5 min")]
)
def test_durations_read_naturally(seconds, text):
    assert cli.duration(seconds) == text


def test_a_console_without_a_letter_shows_a_substitute(monkeypatch, segment):
    console = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", console)
    segment(REPORT)
    assert cli.main(["segment", "scan.nii.gz", "-o", "Zähne"]) == 0
    console.flush()
    assert b"Z?hne" in console.buffer.getvalue()
