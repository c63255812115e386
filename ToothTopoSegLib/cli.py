"""The command line ``toothtopo``: one door to the engine, for the shell.

In: the arguments of one command. Out: results on stdout (text for a person, or one JSON object with ``--json``),
progress and errors on stderr, and an exit code scripts can depend on: 0 done; 1 internal error; 2 wrong usage;
3 done, and ``--strict`` met a finding of severity error; 4 the input is not usable; 130 cancelled. Nothing is
computed here: every command hands its arguments to one function of the engine, imported only when it is asked for.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO
from xml.etree import ElementTree

from ToothTopoSegLib import __version__
from ToothTopoSegLib.errors import Cancelled, OutputError, ToothTopoSegError, UsageError
from ToothTopoSegLib.progress import Milestone, Progress

INTERNAL_ERROR, WRONG_USAGE, STRICT_FINDING, UNUSABLE, CANCELLED = 1, 2, 3, 4, 130
NOT_WRITABLE = {errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EPERM, getattr(errno, "EDQUOT", errno.ENOSPC)}
_CASES = "folder of scans with labels NAME_labels or NAME_teeth beside them, nnU-Net raw dataset, or such a scan"
Report = dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """What a command hands back: its report, the same for a person, the exit code and why that is not 0."""

    report: Report
    text: str
    code: int = 0
    complaint: str = ""


class ProgressBar:
    """A progress callback that writes to a stream: one changing line on a terminal, else a line every 10 percent.

    A milestone gets a line of its own that stays.
    """

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._terminal = stream.isatty()
        self._start = clock()
        self._fraction = 0.0
        self._shown: tuple[int, str] | None = None

    def __call__(self, fraction: float, message: str) -> None:
        """Show that ``fraction`` (0..1) of the whole work is done; a fraction never goes back."""
        self._fraction = max(self._fraction, min(max(fraction, 0.0), 1.0))
        percent = int(self._fraction * 100 + 1e-9)
        if isinstance(message, Milestone):
            self.close()
            self._shown = (percent, message)
            self._write(f"{percent:3d} %  {message}\n")
        elif self._terminal:
            self._rewrite(percent, message)
        elif self._shown is None or percent // 10 > self._shown[0] // 10:
            self._shown = (percent, message)
            self._write(self._line(percent, message) + "\n")

    def close(self) -> None:
        """Clear the changing line, so that what follows begins on a clean one."""
        if self._terminal and self._shown is not None:
            self._write("\r\x1b[2K")
            self._shown = None

    def _rewrite(self, percent: int, message: str) -> None:
        if (percent, message) != self._shown:
            self._shown = (percent, message)
            width = shutil.get_terminal_size().columns
            self._write("\r\x1b[2K" + self._line(percent, message)[: width - 1])

    def _line(self, percent: int, message: str) -> str:
        return f"{percent:3d} %  {message}{self._remaining()}"

    def _remaining(self) -> str:
        """The time left if the rest goes as the work so far did; silent until that is more than a guess."""
        elapsed = self._clock() - self._start
        if elapsed < 2.0 or not 0.02 <= self._fraction < 1.0:
            return ""
        return f"  (about {duration(elapsed * (1 - self._fraction) / self._fraction)} left)"

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # a closed stderr must not end the work
            self._stream.write(text)
            self._stream.flush()


def duration(seconds: float) -> str:
    """A time span for a person: ``8 s``, ``3 min 20 s``, ``1 h 5 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def run_demo(args: argparse.Namespace, progress: Progress) -> Outcome:
    """The main job on a built-in scan."""
    from ToothTopoSegLib.evaluation.demo import run_demo

    report = run_demo(args.output, progress)
    return Outcome(report, listing(report))


def run_segment(args: argparse.Namespace, progress: Progress) -> Outcome:
    """Teeth and findings of one scan."""
    from ToothTopoSegLib.segmentation.pipeline import segment_to_folder

    report = segment_to_folder(args.scan, args.output, args.model, args.device, args.threads, progress, args.repair)
    repairs = map(repair_line, report.get("repairs", []))
    text = "\n".join([*repairs, *scan_summary(report), f"files     {args.output}"])
    return Outcome(report, text, *strictly(report, args.strict))


def run_batch(args: argparse.Namespace, progress: Progress) -> Outcome:
    """Teeth and findings of many scans; a scan that fails does not stop the rest."""
    from ToothTopoSegLib.segmentation.batch import Settings, segment_batch

    if args.workers and args.scheduler:
        raise UsageError(
            "--workers starts processes here and --scheduler uses those of a cluster: give one of the two."
        )
    chosen = args.model, args.device, args.threads, args.repair, args.again, args.workers, args.scheduler
    settings = Settings(*chosen)
    report = segment_batch(args.source, args.output, settings, progress)
    counts = report["summary"]
    failed = [row for row in report["cases"] if row["reason"]]
    lines = [f"failed    {row['scan']}: {row['reason']}" for row in failed]
    lines.append(f"scans     {counts['segmented']} segmented, {counts['kept']} kept, {counts['failed']} failed")
    lines += [f"summary   {report[name]}" for name in ("summary_csv", "summary_html")]
    if failed:
        complaint = f"{len(failed)} of {counts['scans']} scans could not be segmented; the summary says why."
        return Outcome(report, "\n".join(lines), UNUSABLE, complaint)
    if args.strict and counts["with_errors"]:
        complaint = f"--strict: {counts['with_errors']} of {counts['scans']} scans have a finding of severity error."
        return Outcome(report, "\n".join(lines), STRICT_FINDING, complaint)
    return Outcome(report, "\n".join(lines))


def run_check(args: argparse.Namespace, progress: Progress) -> Outcome:
    """Findings of one label map."""
    from ToothTopoSegLib.evaluation.terminal import findings_table
    from ToothTopoSegLib.topology.check import checked_file

    checked = checked_file(args.labels, args.image, args.scheme, progress)
    report = checked.report
    lines = [*scan_summary(report), *findings_table(report["findings"], shutil.get_terminal_size().columns)]
    for path in filter(None, (args.html, args.output)):
        if path is args.html or path.suffix.lower() in (".html", ".htm"):
            from ToothTopoSegLib.evaluation.html import write_check_page

            write_check_page(*checked, path)
        else:
            write_json(path, report)
        lines.append(f"report    {path}")
    return Outcome(report, "\n".join(lines), *strictly(report, args.strict))


def run_repair(args: argparse.Namespace, progress: Progress) -> Outcome:
    """A label map without what could be mended safely."""
    from ToothTopoSegLib.topology.repair_file import repair_file

    report = repair_file(args.labels, args.output, args.image, args.scheme, progress)
    lines = [*map(repair_line, report["repairs"]), *scan_summary(report)]
    if args.report is not None:
        write_json(args.report, report)
        lines.append(f"report    {args.report}")
    return Outcome(report, "\n".join([*lines, f"file      {args.output}"]))


def repair_line(entry: Mapping[str, Any]) -> str:
    """One repair for a person: what was done to which tooth, and how much of it changed."""
    finding = entry["finding"]
    tooth = " ".join(map(str, finding["teeth"]))
    return f"repaired  {finding['kind']:<9}  tooth {tooth}: {entry['repair']}, {entry['volume_mm3']:.1f} mm3"


def run_mesh(args: argparse.Namespace, progress: Progress) -> Outcome:
    """Teeth of a label map as closed surfaces."""
    from ToothTopoSegLib.surfaces.write import mesh_file

    choices = args.format, args.space, args.per, args.teeth, args.triangles, args.scheme
    report = mesh_file(args.labels, args.output, *choices, progress)
    lines = [
        f"tooth     {entry['fdi']}: {entry['triangles']} triangles, {entry['volume_mm3']:.1f} mm3"
        f" ({entry['volume_error_percent']:+.2f} % of the label), {'' if entry['watertight'] else 'not '}watertight"
        for entry in report["teeth"]
    ]
    lines += [f"file      {args.output / entry['file']}" for entry in report["files"]]
    return Outcome(report, "\n".join(lines))


def run_measure(args: argparse.Namespace, progress: Progress) -> Outcome:
    """Lengths, angles and distances of the teeth of a label map."""
    from ToothTopoSegLib.measurements.table import check_suffix, csv_text, measure_file, write_csv

    suffix = check_suffix(args.output) if args.output is not None else None
    report = measure_file(args.labels, args.image, args.scheme, progress)
    if suffix is None:
        return Outcome(report, csv_text(report["teeth"]).rstrip())
    if suffix == ".csv":
        write_csv(args.output, report["teeth"])
    else:
        write_json(args.output, report)
    return Outcome(report, f"teeth     {len(report['teeth'])} measured\nfile      {args.output}")


def run_export_dicom(args: argparse.Namespace, progress: Progress) -> Outcome:
    """A label map as a DICOM segmentation of its scan."""
    from ToothTopoSegLib.topology.dicom_file import export_dicom

    report = export_dicom(args.labels, args.source, args.output, args.report, args.scheme, progress)
    return Outcome(report, listing(report))


def run_export_nnunet(args: argparse.Namespace, progress: Progress) -> Outcome:
    """Scans and corrected labels as an nnU-Net raw dataset."""
    from ToothTopoSegLib.training.nnunet_dataset import export_nnunet

    report, checked = export_nnunet(args.cases, args.output, args.id, args.name, progress)
    return Outcome(report, "\n".join([labels_table(checked), f"dataset   {report['dataset']}"]))


def run_evaluate(args: argparse.Namespace, progress: Progress) -> Outcome:
    """Agreement of two label maps."""
    from ToothTopoSegLib.evaluation.evaluate import evaluate_files, table

    schemes = args.scheme, args.reference_scheme
    limits = args.tolerance, args.connectivity
    report = evaluate_files(args.prediction, args.reference, *schemes, *limits, progress)
    lines = [table(report)]
    if args.output is not None:
        write_json(args.output, report)
        lines.append(f"metrics    {args.output}")
    return Outcome(report, "\n".join(lines))


def run_phantom(args: argparse.Namespace, progress: Progress) -> Outcome:
    """Synthetic scans with exact labels."""
    from ToothTopoSegLib.phantom.write import write_phantoms

    report = write_phantoms(args.output, args.count, args.seed, args.hard, args.setting, args.scanner, progress)
    return Outcome(report, listing(report))


def run_train(args: argparse.Namespace, progress: Progress) -> Outcome:
    """The recipe of the bundled model; goes on where an interrupted run stopped."""
    from ToothTopoSegLib.training.recipe import train

    report = train(args.output, args.config, args.device, args.begin_with, progress)
    return Outcome(report, listing(report))


def run_import_nnunet(args: argparse.Namespace, progress: Progress) -> Outcome:
    """A trained nnU-Net v2 model as a bundle."""
    from ToothTopoSegLib.nnunet.importer import import_nnunet

    options = args.calibrate or (), args.configuration, args.folds, args.labels, args.precision
    report = import_nnunet(args.model, args.output, *options, progress)
    return Outcome(report, listing(report))


def run_finetune(args: argparse.Namespace, progress: Progress) -> Outcome:
    """A bundle that has learnt from the user's own scans; goes on where an interrupted run stopped."""
    from ToothTopoSegLib.training import finetune, parallel, user_cases

    if args.check:
        checked = user_cases.check_cases(user_cases.find_cases(args.cases), progress)
        return Outcome({"cases": [case.as_dict() for case in checked]}, labels_table(checked), *unusable(checked))
    if args.output is None:
        raise UsageError("'finetune' needs the bundle to write: give it with -o, ending in .onnx, or --check alone.")
    if parallel.rank():
        parallel.hush()
    chosen = {name: getattr(args, name) for name in finetune.Choices.__dataclass_fields__}
    report = finetune.finetune(
        args.cases,
        args.output,
        args.minutes,
        args.device,
        args.model,
        finetune.Choices(**{name: value for name, value in chosen.items() if value is not None}),
        on_checked=lambda found: print(labels_table(found), file=sys.stderr),
        progress=progress,
    )
    return Outcome(report, listing({name: value for name, value in report.items() if name != "labels"}))


def labels_table(checked: Sequence[Any]) -> str:
    """What was found in the labels of a user's cases: a line a case, then its problems and warnings."""
    lines = []
    for case in checked:
        verdict = "usable" if case.usable else "not usable"
        lines.append(f"case      {case.case.name}: {len(case.teeth)} teeth, {verdict}")
        lines += [f"  problem   {text}" for text in case.problems]
        lines += [f"  warning   {text}" for text in case.warnings]
    return "\n".join(lines)


def unusable(checked: Sequence[Any]) -> tuple[int, str]:
    """Exit code 4 and why, when a case cannot be learnt from; else 0."""
    count = sum(not case.usable for case in checked)
    return (UNUSABLE, f"{count} of {len(checked)} cases cannot be learnt from.") if count else (0, "")


def run_export(args: argparse.Namespace, progress: Progress) -> Outcome:
    """A trained run as an integer bundle."""
    from ToothTopoSegLib.quantization.export import export_run

    report = export_run(args.run_folder, args.output, args.mean_with, progress)
    return Outcome(report, listing(report))


def run_audit(args: argparse.Namespace, progress: Progress) -> Outcome:
    """Proof that a model computes in integers; exit code 4 when it does not."""
    from ToothTopoSegLib.quantization.audit import audit_model

    if args.reference or args.scan:
        from ToothTopoSegLib.evaluation.reference_patches import reference_patches

        report = audit_model(args.model, lambda bundle: reference_patches(bundle, args.scan))
    else:
        report = audit_model(args.model)
    if report["passed"]:
        return Outcome(report, listing(report))
    complaint = "the model does not compute in integers alone (what was found stands above): export it again."
    return Outcome(report, listing(report), UNUSABLE, complaint)


def run_bench(args: argparse.Namespace, progress: Progress) -> Outcome:
    """Time and memory of segmenting one scan or of one patch by every engine, or accuracy on held-out phantoms."""
    if args.page and not args.scaling:
        raise UsageError("--page writes what --scaling measures: give --scaling too.")
    if args.network:
        from ToothTopoSegLib.training.bench_network import bench_network, table

        threads = (args.threads,) if args.threads else (1, 2)
        measured = bench_network(args.network, args.patch and tuple(args.patch), threads, progress=progress)
        return Outcome(measured, table(measured))
    if args.phantoms:
        from ToothTopoSegLib.evaluation.bench import bench_phantoms

        report = bench_phantoms(args.phantoms, args.seed, args.hard, args.model, args.card, args.setting, progress)
    elif args.scaling:
        from ToothTopoSegLib.evaluation.bench import bench_scaling

        report = bench_scaling(args.scan, args.model, args.page, progress)
    else:
        from ToothTopoSegLib.evaluation.bench import bench_scan

        report = bench_scan(args.scan, args.threads, args.model, progress)
    return Outcome(report, listing(report))


def run_quantization(args: argparse.Namespace, progress: Progress) -> Outcome:
    """What quantization does to the topology of teeth, and what each remedy gives."""
    from ToothTopoSegLib.training.experiment import SIZES, run

    settings, how = SIZES[args.size], (args.workers, args.scan, args.device, args.so_far, args.known)
    result = run(args.output, args.model, settings, *how, progress)
    return Outcome(result, result.pop("page"))


def run_faults(args: argparse.Namespace, progress: Progress) -> Outcome:
    """Faults planted into clean label maps, how many are found and how many mended."""
    from ToothTopoSegLib.evaluation.fault_table import run, table, write_evidence
    from ToothTopoSegLib.evaluation.faults import KINDS

    seeds = range(args.seed, args.seed + args.count)
    result = run(seeds, tuple(args.kinds or KINDS), args.per_kind, progress, args.workers)
    if args.output is not None:
        write_evidence(result, args.output)
    return Outcome(result, table(result))


def run_shapes(args: argparse.Namespace, progress: Progress) -> Outcome:
    """What teeth of each type look like, and how well that tells them apart."""
    from ToothTopoSegLib.training.tooth_shapes import run, write

    result = run(args.heads, args.scanned, args.workers, progress)
    if args.output is not None:
        write(result, args.output)
    page = result.pop("page")
    return Outcome(result, page)


def run_calibration(args: argparse.Namespace, progress: Progress) -> Outcome:
    """Whether it pays to calibrate a model anew on the scan at hand."""
    from ToothTopoSegLib.imaging.write import output_folder
    from ToothTopoSegLib.training.calibration_experiment import run

    result = run(args.count, args.model, progress)
    page = result.pop("page")
    if args.output is not None:
        with output_folder(args.output) as staged:
            (staged / "calibration.md").write_text(page, encoding="utf-8")
    return Outcome(result, page)


def run_test(args: argparse.Namespace, progress: Progress) -> Outcome:
    """All tests of a checkout, with pytest's own output (on stderr when a JSON report is wanted)."""
    root = Path(__file__).resolve().parent.parent
    if not (root / "Testing" / "Library").is_dir():
        raise UsageError("an installed package has no tests: get the source checkout and run ./toothtopo test there.")
    if subprocess.run([sys.executable, "-c", "import pytest, xdist"], capture_output=True).returncode:
        raise UsageError("the tests need pytest, which is not installed: run ./toothtopo test in the source checkout.")
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "junit.xml"
        # A process for each core, files kept whole for their fixtures; threads within them would only be in the way.
        spread = ["--numprocesses=auto", "--dist=loadfile"]
        command = [sys.executable, "-m", "pytest", f"--junitxml={results}", *spread, *args.pytest_args]
        environment = {"OMP_NUM_THREADS": "1", **os.environ}
        output = sys.stderr if args.json else None
        code = subprocess.run(command, cwd=root, stdout=output, env=environment).returncode
        return Outcome({"exit_code": code, **junit_counts(results)}, "", code)


def junit_counts(results: Path) -> Report:
    """Counts and seconds of a pytest run, or nothing where it broke off before it wrote its results."""
    if not results.is_file():
        return {}
    suites = ElementTree.parse(results).getroot().iter("testsuite")
    suite = next(suites).attrib
    return {
        **{name: int(suite[name]) for name in ("tests", "failures", "errors", "skipped")},
        "time_s": float(suite["time"]),
    }


def strictly(report: Report, strict: bool) -> tuple[int, str]:
    """Exit code 3 and why, when ``strict`` is asked for and a finding has severity error; else 0."""
    errors = sum(finding["severity"] == "error" for finding in report["findings"])
    if not strict or not errors:
        return 0, ""
    return STRICT_FINDING, f"--strict: {errors} finding{'s' if errors > 1 else ''} of severity error."


def scan_summary(report: Report) -> list[str]:
    """Teeth, findings, time and memory of a report of schema toothtoposeg.report/1, one line each."""
    teeth = [tooth["fdi"] for tooth in report["teeth"] if tooth["present"]]
    severities = [finding["severity"] for finding in report["findings"]]
    counts = [f"{severities.count(name)} {name}" for name in ("error", "warning", "info") if name in severities]
    lines = [f"teeth     {len(teeth)}: {' '.join(map(str, teeth))}" if teeth else "teeth     none"]
    lines.append(f"findings  {', '.join(counts) or 'none'}")
    timing = report.get("timing_s")
    seconds = timing.get("total") if isinstance(timing, Mapping) else timing
    if seconds is not None:
        lines.append(f"time      {duration(seconds)}")
    if report.get("peak_rss_mb") is not None:
        lines.append(f"memory    {report['peak_rss_mb']:.0f} MB at most")
    return lines


def listing(report: Mapping[str, Any], indent: str = "") -> str:
    """The values of a report as indented lines; lists of rows are left to ``--json``."""
    lines = []
    for name, value in plain(report).items():
        if isinstance(value, dict):
            lines += [f"{indent}{name}", listing(value, indent + "  ")]
        elif isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
            lines.append(f"{indent}{name}: {len(value)} entries")
        elif isinstance(value, list):
            lines.append(f"{indent}{name}: {' '.join(map(str, value))}")
        else:
            lines.append(f"{indent}{name}: {f'{value:.4g}' if isinstance(value, float) else value}")
    return "\n".join(lines)


def plain(value: Any) -> Any:
    """``value`` in JSON's own types: paths as text, numpy values as Python's, not-a-number and infinity as null."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def write_json(path: Path, report: Report) -> None:
    """Write a report whole or not at all; OutputError says why not."""
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_text(json.dumps(plain(report), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        unfinished.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            unfinished.unlink()
        raise OutputError(f"'{path}' cannot be written ({error.strerror}): choose another place with -o.") from error


def positive(text: str) -> int:
    """An option's whole number of at least 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number of at least 1")
    return number


def natural(text: str) -> int:
    """An option's whole number of at least 0."""
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number of at least 0")
    return number


def length(text: str) -> float:
    """An option's length in mm, 0 or more."""
    number = float(text)
    if not (math.isfinite(number) and number >= 0):
        raise argparse.ArgumentTypeError(f"{text} is not a length in mm of at least 0")
    return number


def build_parser() -> argparse.ArgumentParser:
    """The commands that exist and their options."""
    parser = argparse.ArgumentParser(
        prog="toothtopo",
        description="Segments the teeth of a dental CBCT in integers and says what is anatomically wrong.",
        epilog="Exit codes: 0 done, 2 wrong usage, 3 --strict met an error, 4 unusable input, 130 cancelled.",
    )
    parser.add_argument("--version", action="version", version=f"toothtopo {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    command = _maker(commands)
    add = command("demo", run_demo, "Run the main job on a built-in scan and write pictures and a report.")
    add("-o", "--output", type=Path, metavar="DIR", help="folder for the results")
    _add_scan_commands(command)
    _add_model_commands(command)
    _add_experiments(commands)
    # parse() takes this command out of argparse's hands; it stands here for the help
    command("test", run_test, "Run all tests of a source checkout; further arguments go to pytest.")
    return parser


Adder = Callable[..., argparse.Action]
CommandMaker = Callable[[str, Callable[[argparse.Namespace, Progress], Outcome], str], Adder]


def _maker(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> CommandMaker:
    """What adds a command to ``commands`` and returns what adds an option to that command."""

    def command(name: str, run: Callable[[argparse.Namespace, Progress], Outcome], text: str) -> Adder:
        sub = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        sub.set_defaults(run=run)
        sub.add_argument("--json", action="store_true", help="print one JSON object on stdout")
        return sub.add_argument

    return command


def _add_scan_commands(command: CommandMaker) -> None:
    add = command("segment", run_segment, "Segment the teeth of a scan and report what is anatomically wrong.")
    add("scan", type=Path, metavar="SCAN", help="NIfTI, NRRD, MetaImage, GIPL, or a DICOM folder, file or zip")
    add("-o", "--output", type=Path, metavar="DIR", required=True, help="folder for the results")
    _add_segment_options(add)

    add = command("batch", run_batch, "Segment many scans, go on where an earlier run stopped, and sum all of them up.")
    add("source", type=Path, metavar="DIR_OR_LIST", help="folder of scans, or a text file with one path a line")
    add("-o", "--output", type=Path, metavar="DIR", required=True, help="folder for the results and the summary")
    add("--again", action="store_true", help="segment finished scans anew")
    what = "processes of this computer, a scan each (default: as many as memory and processors allow)"
    add("--workers", type=positive, metavar="N", help=what)
    add("--scheduler", metavar="ADDRESS", help="instead: the workers of the Dask scheduler there, tcp://HOST:8786")
    _add_segment_options(add)

    add = command("check", run_check, "Report what is anatomically wrong in a label map of teeth.")
    add("labels", type=Path, metavar="LABELS", help="label map with FDI numbers, or a .seg.nrrd")
    add("--image", type=Path, metavar="SCAN", help="the scan the labels belong to")
    add("-o", "--output", type=Path, metavar="report.json", help="file for the report; a page where it ends in .html")
    add("--html", type=Path, metavar="PAGE", help="file for the report as a page with pictures")
    add("--scheme", metavar="NAME", help="label scheme of LABELS where it is not FDI")
    add("--strict", action="store_true", help="end with exit code 3 when a finding has severity error")

    add = command("repair", run_repair, "Mend in a label map of teeth what can be mended safely.")
    add("labels", type=Path, metavar="LABELS", help="label map with FDI numbers, or a .seg.nrrd")
    add("-o", "--output", type=Path, metavar="FIXED", required=True, help="the mended label map, in FDI numbers")
    add("--report", type=Path, metavar="report.json", help="file for the report with every changed voxel")
    add("--image", type=Path, metavar="SCAN", help="the scan the labels belong to")
    add("--scheme", metavar="NAME", help="label scheme of LABELS where it is not FDI")

    add = command("mesh", run_mesh, "Write the teeth of a label map as closed surfaces for printing and planning.")
    add("labels", type=Path, metavar="LABELS", help="label map with FDI numbers, or a .seg.nrrd")
    add("-o", "--output", type=Path, metavar="DIR", required=True, help="folder for the files")
    add("--format", choices=("stl", "obj", "ply", "glb"), default="stl", help="of the files (default: stl)")
    add("--space", choices=("lps", "ras"), default="lps", help="axes of the coordinates, in mm (default: lps)")
    add("--per", choices=("tooth", "jaw", "all"), default="tooth", help="what a file holds (default: tooth)")
    add("--teeth", type=positive, nargs="+", metavar="FDI", help="only these teeth")
    add("--triangles", type=positive, metavar="N", help="at most so many a tooth (default: all there are)")
    add("--scheme", metavar="NAME", help="label scheme of LABELS where it is not FDI")

    add = command("measure", run_measure, "Measure teeth: volume, length, crown and root, inclination, distances.")
    add("labels", type=Path, metavar="LABELS", help="label map with FDI numbers, or a .seg.nrrd")
    add("--image", type=Path, metavar="SCAN", help="the scan the labels belong to, in which enamel is seen")
    what = "file for the table, ending in .csv or .json (default: CSV on the terminal)"
    add("-o", "--output", type=Path, metavar="FILE", help=what)
    add("--scheme", metavar="NAME", help="label scheme of LABELS where it is not FDI; toothfairy2 has the canal")

    add = command("export-dicom", run_export_dicom, "Write a label map of teeth as a DICOM segmentation of its scan.")
    add("labels", type=Path, metavar="LABELS", help="label map with FDI numbers, or a .seg.nrrd")
    add("--source", type=Path, metavar="SCAN", required=True, help="DICOM folder, file or zip the labels belong to")
    add("-o", "--output", type=Path, metavar="FILE.dcm", required=True, help="the segmentation to write")
    what = "report of 'check' or 'segment', whose findings become a structured report, FILE_findings.dcm"
    add("--report", type=Path, metavar="report.json", help=what)
    add("--scheme", metavar="NAME", help="label scheme of LABELS where it is not FDI")

    add = command("evaluate", run_evaluate, "Compare a label map with a reference.")
    add("prediction", type=Path, metavar="PREDICTION", help="label map to be judged")
    add("reference", type=Path, metavar="REFERENCE", help="label map taken as the truth")
    add("-o", "--output", type=Path, metavar="metrics.json", help="file for the metrics")
    add("--tolerance", type=length, default=0.5, metavar="MM", help="what surfaces may lie apart (NSD; default: 0.5)")
    add("--connectivity", type=int, choices=(26, 6), default=26, help="neighbours of a tooth's voxels (default: 26)")
    add("--scheme", metavar="NAME", help="label scheme of both maps where it is not FDI")
    add("--reference-scheme", metavar="NAME", help="label scheme of REFERENCE where it is another")

    add = command("phantom", run_phantom, "Write synthetic CBCT scans with exact labels.")
    add("-o", "--output", type=Path, metavar="DIR", required=True, help="folder for the scans")
    add("--count", type=positive, default=1, metavar="N", help="how many (default: 1)")
    add("--seed", type=natural, default=0, metavar="S", help="seed of the first one (default: 0)")
    add("--hard", action="store_true", help="with metal, missing teeth, noise and cut fields of view")
    _add_setting(add)
    add("--scanner", type=natural, metavar="S", help="all natural or foreign scans by the scanner of this seed")


def _add_segment_options(add: Adder) -> None:
    add("--model", type=Path, metavar="BUNDLE", help="another model than the bundled one")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where the network runs (default: auto)")
    add("--threads", type=positive, metavar="N", help="processor threads (default: all)")
    add("--repair", action="store_true", help="mend what can be mended safely")
    add("--strict", action="store_true", help="end with exit code 3 when a finding has severity error")


def _add_model_commands(command: CommandMaker) -> None:
    add = command("train", run_train, "Train the network; an interrupted run in the same folder goes on.")
    add("-o", "--output", type=Path, metavar="RUN_FOLDER", required=True, help="folder of the run")
    add("--config", default="bundled", metavar="NAME", help="name of the recipe (default: bundled)")
    what = "bundle whose float weights a new run begins with (default: random weights)"
    add("--begin-with", type=Path, metavar="BUNDLE", help=what)
    _add_device(add)

    _add_finetune(command)

    text = "Write scans with corrected labels as an nnU-Net raw dataset, to train on."
    add = command("export-nnunet", run_export_nnunet, text)
    add("cases", type=Path, nargs="+", metavar="CASES", help=_CASES)
    add("-o", "--output", type=Path, metavar="DIR", required=True, help="folder for the folder of the dataset")
    add("--id", type=positive, default=1, metavar="N", help="number of the dataset, 1 to 999 (default: 1)")
    add("--name", default="Teeth", metavar="X", help="name of the dataset (default: Teeth)")

    add = command("export", run_export, "Turn a trained run into an integer model bundle.")
    add("run_folder", type=Path, metavar="RUN_FOLDER", help="folder that 'train' wrote")
    add("-o", "--output", type=Path, metavar="BUNDLE", required=True, help="the bundle to write, ending in .onnx")
    what = "the bundle that the run began from: the mean of its weights and those of the run"
    add("--mean-with", type=Path, metavar="BUNDLE", help=what)

    _add_import(command)

    add = command("audit", run_audit, "Prove from its graph that a model computes in integers.")
    add("model", nargs="?", type=Path, metavar="MODEL", help="model to audit (default: the bundled one)")
    add("--reference", action="store_true", help="also compare it with an integer reference, on patches of phantoms")
    add("--scan", type=Path, metavar="SCAN", help="compare it on patches of this scan too")

    add = command("bench", run_bench, "Measure time and memory of a scan, or accuracy on phantoms never trained on.")
    add("--scan", type=Path, metavar="SCAN", help="scan to measure with (default: a built-in one)")
    add("--threads", type=positive, metavar="N", help="processor threads (default: all)")
    add("--scaling", action="store_true", help="also with other sizes of the scan and other numbers of threads")
    add("--page", type=Path, metavar="PAGE", help="write what --scaling finds as a page too")
    add("--phantoms", type=positive, metavar="N", help="instead: accuracy of integer and float model on N phantoms")
    add("--seed", type=natural, metavar="S", help="seed of the first phantom (default: the held-out ones)")
    add("--hard", action="store_true", help="hard phantoms")
    _add_setting(add)
    add("--card", action="store_true", help="write the accuracy into the model's card")
    add("--model", type=Path, metavar="BUNDLE", help="another model than the bundled one")
    what = "instead: one patch by every engine at hand, of the bundled network or of a larger one with random weights"
    add("--network", nargs="?", choices=("bundled", "facts"), const="bundled", help=what)
    add("--patch", type=positive, nargs=3, metavar=("Z", "Y", "X"), help="size of that patch (default: the network's)")


def _add_import(command: CommandMaker) -> None:
    add = command("import-nnunet", run_import_nnunet, "Turn a trained nnU-Net v2 model into a bundle for 'segment'.")
    add("model", type=Path, metavar="MODEL", help="the folder or zip with plans.json, dataset.json and fold_N folders")
    add("-o", "--output", type=Path, metavar="BUNDLE", required=True, help="the bundle to write, ending in .onnx")
    add("--calibrate", type=Path, nargs="+", metavar="SCANS", help="scans to quantize on (default: phantoms)")
    add("--configuration", metavar="NAME", help="which of several configurations, such as 3d_fullres")
    add("--folds", nargs="+", metavar="N", help="folds to take the mean of (default: all that are there)")
    what = 'which label is which tooth: a file {"name": FDI number or 0}, or the name of a scheme such as universal'
    add("--labels", type=Path, metavar="mapping.json", help=what)
    what = "8-bit integers, 8-bit convolutions with float norms, or float (default: the first that agrees with float)"
    add("--precision", choices=("auto", "integer", "qdq", "float"), default="auto", help=what)


def _add_finetune(command: CommandMaker) -> None:
    add = command("finetune", run_finetune, "Let a model learn from your own labelled scans; goes on when interrupted.")
    add("cases", type=Path, nargs="+", metavar="CASES", help=_CASES)
    add("-o", "--output", type=Path, metavar="BUNDLE", help="the bundle to write, ending in .onnx")
    add("--minutes", type=float, default=60.0, metavar="M", help="time it may take (default: 60)")
    add("--model", type=Path, metavar="BUNDLE", help="the bundle to start from (default: the bundled one)")
    _add_device(add)
    add("--check", action="store_true", help="only check the cases")
    add("--rate", type=float, metavar="R", help="peak of the learning rate")
    add("--topology", type=float, metavar="W", help="weight of each term of the topological loss")
    add("--held-out", type=float, metavar="SHARE", help="share of the cases to measure on, never learnt from")
    add("--patience", type=positive, metavar="N", help="validations without a better one that end the training")
    add("--batch", type=positive, metavar="N", help="samples a step, over all processes")
    what = "share of the samples that are of synthetic heads, so that they are not forgotten (default: 0)"
    add("--rehearsal", type=float, metavar="SHARE", help=what)
    add("--steps", type=positive, metavar="N", help="so many steps for each network instead of a time")
    add("--seed", type=natural, metavar="S", help="seed of split and samples")


def _add_experiments(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    text = "Repeat an experiment of the evidence and print its table."
    experiment = commands.add_parser("experiment", help=text, description=text, allow_abbrev=False)
    command = _maker(experiment.add_subparsers(dest="name", metavar="NAME", required=True))

    add = command("faults", run_faults, "Plant errors into clean label maps: how many are found, how many mended.")
    add("--count", type=positive, default=40, metavar="N", help="label maps (default: 40)")
    add("--seed", type=natural, default=1000, metavar="S", help="seed of the first one (default: 1000)")
    add("--per-kind", type=positive, default=1, metavar="N", help="faults of each kind in each map (default: 1)")
    add("--kinds", nargs="+", metavar="KIND", help="kinds of faults (default: all)")
    _add_workers(add)
    add("-o", "--output", type=Path, metavar="DIR", help="folder for faults.md and faults.json")

    text = "Train float and integer models with and without the topological loss and compare them. Takes hours."
    add = command("quantization", run_quantization, text)
    add("--model", type=Path, metavar="BUNDLE", help="the bundle to start from (default: the bundled one)")
    add("--scan", type=Path, metavar="SCAN", help="a real scan to count findings on")
    add("--size", choices=("cpu", "gpu"), default="cpu", help="how long to train: what each can bear (default: cpu)")
    _add_device(add)
    _add_workers(add)
    add("--so-far", action="store_true", help="sum up what is measured already, without any training")
    text = "evidence of this experiment, begun elsewhere: its models are not trained again"
    add("--known", type=Path, metavar="DIR", help=text)
    what = "folder of the experiment, which goes on where it was interrupted"
    add("-o", "--output", type=Path, metavar="DIR", required=True, help=what)

    text = "Learn what teeth of each type look like, by which rows are numbered, and how well that tells them apart."
    add = command("shapes", run_shapes, text)
    add("--heads", type=positive, default=150, metavar="N", help="heads whose teeth alone are drawn (default: 150)")
    add("--scanned", type=positive, default=45, metavar="N", help="heads that are scanned and segmented (default: 45)")
    _add_workers(add)
    add("-o", "--output", type=Path, metavar="DIR", help="folder for tooth_shapes.json and tooth_shapes.md")

    text = "Calibrate the model anew on each scan at hand, of kinds it never saw: whether that pays."
    add = command("calibration", run_calibration, text)
    add("--count", type=positive, default=4, metavar="N", help="scans of each kind (default: 4)")
    add("--model", type=Path, metavar="BUNDLE", help="another bundle with its float weights")
    add("-o", "--output", type=Path, metavar="DIR", help="folder for calibration.md")


def _add_setting(add: Adder) -> None:
    text = "how heads and scanners are drawn; nothing is trained on foreign ones (default: plain)"
    add("--setting", choices=("plain", "natural", "foreign"), default="plain", help=text)


def _add_device(add: Adder) -> None:
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where to train (default: auto)")


def _add_workers(add: Adder) -> None:
    add("--workers", type=positive, default=1, metavar="N", help="processes (default: 1)")


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments as values; SystemExit as argparse raises it."""
    parser = build_parser()
    if argv[:1] == ["test"] and not {"-h", "--help"} & set(argv):
        # argparse cannot hand on options it does not know in the order they stand in
        rest = [word for word in argv[1:] if word != "--json"]
        return argparse.Namespace(command="test", run=run_test, json="--json" in argv, pytest_args=rest)
    args = parser.parse_args(argv)
    if args.command is None:
        parser.print_help(sys.stderr)
        raise SystemExit(WRONG_USAGE)
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; every error becomes one sentence on stderr."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a console that lacks a letter must not end the work
            stream.reconfigure(errors="replace")
    try:
        args = parse(sys.argv[1:] if argv is None else list(argv))
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0
    bar = ProgressBar(sys.stderr)
    with _termination_as_interrupt():
        try:
            with contextlib.redirect_stdout(sys.stderr) if args.json else contextlib.nullcontext():
                outcome = args.run(args, bar)
            bar.close()
            return _deliver(outcome, args.json)
        except BaseException as error:
            bar.close()
            code, sentence = explain(error, args.command)
            return _report_failure(code, sentence, args.json)


def explain(error: BaseException, command: str) -> tuple[int, str]:
    """Exit code and one sentence for whatever ended a command."""
    if isinstance(error, Cancelled | KeyboardInterrupt):
        return CANCELLED, "cancelled; nothing half-written was left."
    if isinstance(error, ToothTopoSegError):
        return error.exit_code, str(error)
    if isinstance(error, MemoryError):
        return UNUSABLE, f"'{command}' ran out of memory: close other programs or use a machine with more of it."
    if isinstance(error, OSError) and error.errno in NOT_WRITABLE:
        place = f"'{error.filename}' cannot be used" if error.filename else "a file cannot be written"
        return UNUSABLE, f"{place} ({error.strerror}): make room or permission there, or choose another place with -o."
    if isinstance(error, ModuleNotFoundError) and not (error.name or "").startswith("ToothTopoSegLib"):
        extras = {
            "audit": "export",
            "batch": "cluster",
            "train": "train",
            "export": "train",
            "finetune": "train",
            "import-nnunet": "train",
        }
        extra = f"[{extras[command]}]" if command in extras else ""
        fix = f'pip install "toothtoposeg{extra}", or ./toothtopo {command} in a source checkout'
        return UNUSABLE, f"'{command}' needs the Python package {error.name}, which is not installed: {fix}."
    what = f"{type(error).__name__}: {str(error)[:200]}"
    return (
        INTERNAL_ERROR,
        f"internal error in '{command}' ({what}): set TOOTHTOPO_DEBUG=1 to see where; please report it.",
    )


def _report_failure(code: int, sentence: str, as_json: bool) -> int:
    sentence = " ".join(sentence.split())
    if os.environ.get("TOOTHTOPO_DEBUG") == "1":
        traceback.print_exc(file=sys.stderr)
    if as_json:
        _print(json.dumps({"error": sentence, "exit_code": code}))
    print(f"toothtopo: {'' if code == CANCELLED else 'error: '}{sentence}", file=sys.stderr)
    return code


def _deliver(outcome: Outcome, as_json: bool) -> int:
    text = json.dumps(plain(outcome.report)) if as_json else outcome.text
    if text:
        _print(text)
    if outcome.complaint:
        print(f"toothtopo: {outcome.complaint}", file=sys.stderr)
    return outcome.code


def _print(text: str) -> None:
    """Print to stdout; a reader that has gone away (``| head``) is no error."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextlib.contextmanager
def _termination_as_interrupt() -> Iterator[None]:
    """Lets SIGTERM and SIGHUP end the work as Ctrl-C does, so that it is tidied up."""
    names = [name for name in ("SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)]
    changed: dict[int, Any] = {}

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    try:
        for number in (getattr(signal, name) for name in names):
            if signal.getsignal(number) == signal.SIG_DFL:  # nohup and embedding programs keep their own
                changed[number] = signal.signal(number, interrupt)
    except ValueError:
        pass  # only the main thread may set handlers
    try:
        yield
    finally:
        for number, handler in changed.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    sys.exit(main())
