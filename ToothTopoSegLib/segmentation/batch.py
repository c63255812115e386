"""Many scans, each as ``segment`` does it: cohorts, from the shell or from Slicer without a window.

In: a folder of scans, or a text file that lists them. Out: the files of each scan, in a folder that mirrors where the
scans lie, and ``summary.csv`` and ``summary.html`` with one row for each scan, complete after every one of them. Scans
are done one after the other, or several at once by worker processes of this computer or of a Dask cluster; what comes
out is the same. A scan that fails is a row with its reason and the rest go on; scans that an earlier run finished with
the same model are left as they are.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ToothTopoSegLib import __version__
from ToothTopoSegLib.errors import Cancelled, ClusterError, ToothTopoSegError
from ToothTopoSegLib.imaging.read import is_dicom_scan
from ToothTopoSegLib.imaging.write import output_folder, remove_abandoned
from ToothTopoSegLib.progress import Progress, part, silent
from ToothTopoSegLib.quantization.bundle import Bundle, load_bundle
from ToothTopoSegLib.segmentation import cluster, pipeline
from ToothTopoSegLib.segmentation.cases import DICOM_OUTPUT, Case, find_cases, last_changed
from ToothTopoSegLib.segmentation.cost import megabytes_of, workers_that_fit
from ToothTopoSegLib.segmentation.summary import FAILED, PAGE, SUMMARY, Row, row_of, write_csv
from ToothTopoSegLib.topology.report import SCHEMA as REPORT_SCHEMA

SCHEMA = "toothtoposeg.batch/1"
_OUTPUTS = ("teeth.nii.gz", "teeth.seg.nrrd", "report.json", "report.html", "preview.png")


@dataclass(frozen=True)
class Settings:
    """What is the same for all scans of a batch; ``again`` segments those anew that are finished.

    ``workers`` processes work at once: 1 is this one alone, None as many as memory and processors allow. Where
    ``scheduler`` is the address of a Dask scheduler, its workers do the work instead. ``threads`` are those of
    one scan; unless given, all processors are shared out among the workers.
    """

    model: Path | None = None
    device: str = "auto"
    threads: int | None = None
    repair: bool = False
    again: bool = False
    workers: int | None = 1
    scheduler: str | None = None


@dataclass(frozen=True)
class Order:
    """One scan as a worker gets it, with what must be the same there as here."""

    case: Case
    scan: str
    """The scan's path as the summary tells it."""
    settings: Settings
    sha256: str
    """SHA-256 of the model."""
    version: str = __version__
    seen: bool = True
    """Whether the scan exists where the order was given."""
    sharing: int = 1
    """How many workers share a computer and its processors."""


def segment_batch(
    source: Path, out: Path, settings: Settings | None = None, progress: Progress = silent
) -> dict[str, Any]:
    """Segment the scans of a folder or list into ``out``, write the summary there; returns rows and counts as JSON.

    Raises InputError where there are no scans, ModelError, OutputError where ``out`` or the summary cannot be written,
    ClusterError where a scheduler is not there, goes away or has workers that do not fit, ImportError where a package
    is missing, UsageError for settings that do not fit together, or Cancelled; what was finished until then stays and
    is not done again.
    """
    settings = settings or Settings()
    bundle = load_bundle(settings.model)
    cases = find_cases(source, out)
    with output_folder(out):
        pass  # whether it can be written is told before the first scan, not after it
    orders = [_order(case, source, settings, bundle) for case in cases]
    rows = {number: row for number, order in enumerate(orders) if (row := _known(order, bundle)) is not None}
    kept = sum(row["status"] != FAILED for row in rows.values())
    waiting = {number: order for number, order in enumerate(orders) if number not in rows}
    if rows:
        _write_summary(rows, cases, out)
    with closing(_rows_of(waiting, len(cases), settings, progress)) as done:
        for number, row in done:
            rows[number] = row
            _write_summary(rows, cases, out)
    return _batch_report([rows[number] for number in range(len(cases))], kept, bundle, out)


def finished_report(case: Case, bundle: Bundle, repair: bool) -> dict[str, Any] | None:
    """The report of an earlier run that has all its files, is newer than the scan and names scan and model; or None."""
    try:
        report: dict[str, Any] = json.loads(case.output("report.json").read_text(encoding="utf-8"))
        newer = case.output("report.json").stat().st_mtime >= last_changed(case.scan)
        same = report["schema"] == REPORT_SCHEMA and report["input"]["name"] == case.scan.name
        same = same and report["model"]["sha256"] == bundle.card["sha256"] and ("repairs" in report) == repair
        complete = all(case.output(ending).is_file() for ending in _outputs(case, report))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return report if newer and same and complete and not case.problem else None


def _outputs(case: Case, report: Mapping[str, Any]) -> tuple[str, ...]:
    """The endings of the files that a finished case has: a DICOM scan in which teeth were found has one more."""
    in_dicom = is_dicom_scan(case.scan) and any(tooth["present"] for tooth in report["teeth"])
    return (*_OUTPUTS, DICOM_OUTPUT) if in_dicom else _OUTPUTS


def carry_out(order: Order, progress: Progress) -> Row:
    """The row of a scan after it was segmented on this worker, or has failed.

    Raises ClusterError where this worker has another version or model, or does not see the files; Cancelled.
    """
    case = order.case
    if order.version != __version__:
        raise _unfit(f"version {__version__} of ToothTopoSeg, but {order.version} was expected; install the same there")
    if not case.folder.is_dir():
        raise _unfit(f"no folder {case.folder}; the same paths must lead to the same files on all computers")
    if order.seen and not case.scan.exists():
        raise _unfit(f"no scan {case.scan}; the same paths must lead to the same files on all computers")
    try:
        sha256 = str(load_bundle(order.settings.model).card["sha256"])
    except ToothTopoSegError as error:
        raise _unfit(f"no model that can be used: {error}") from error
    if sha256 != order.sha256:
        raise _unfit(f"a model whose SHA-256 begins {sha256[:12]}, but {order.sha256[:12]} was expected; copy it there")
    remove_abandoned(case.folder)  # by a worker that died on this very scan
    threads = order.settings.threads or max(cluster.cores() // order.sharing, 1)
    return row_of(case.name, order.scan, _report_of(case, replace(order.settings, threads=threads), progress))


def _unfit(what: str) -> ClusterError:
    return ClusterError(f"The worker on {platform.node() or 'a computer without a name'} has {what}.")


# ---- before the first scan


def _order(case: Case, source: Path, settings: Settings, bundle: Bundle) -> Order:
    sha256 = str(bundle.card["sha256"])
    return Order(case, _relative(case.scan, source), settings, sha256, seen=case.scan.exists())


def _known(order: Order, bundle: Bundle) -> Row | None:
    """The row of a scan that need not be segmented, because it is finished or cannot be done; or None."""
    if order.case.problem:
        return row_of(order.case.name, order.scan, {"reason": order.case.problem})
    report = None if order.settings.again else finished_report(order.case, bundle, order.settings.repair)
    return report and row_of(order.case.name, order.scan, report)


def _relative(scan: Path, source: Path) -> str:
    """The scan's path from the folder or list it was found by, for a summary that moves along with both."""
    base = source.resolve() if source.is_dir() else source.resolve().parent
    return scan.relative_to(base).as_posix() if scan.is_relative_to(base) else str(scan)


# ---- the scans

Orders = Mapping[int, Order]
"""What is to be done, by the scan's number among all scans of the batch."""


def _rows_of(
    orders: Orders, count: int, settings: Settings, progress: Progress
) -> Generator[tuple[int, Row], None, None]:
    """The rows of scans in the order they are done, each with its number among all ``count``."""
    workers = _worker_count(orders, settings)
    if settings.scheduler is None and workers <= 1:
        return _one_after_the_other(orders, count, progress)
    return _several_at_once(orders, workers, settings, progress)


def _worker_count(orders: Orders, settings: Settings) -> int:
    """How many processes of this computer shall work."""
    if settings.workers is None and len(orders) > 1 and cluster.can_start_workers():
        needs = [megabytes_of(order.case.scan) for order in orders.values()]
        return workers_that_fit(needs, cluster.free_megabytes(), cluster.cores())
    return min(settings.workers or 1, len(orders))


def _one_after_the_other(orders: Orders, count: int, progress: Progress) -> Generator[tuple[int, Row], None, None]:
    for place, (number, order) in enumerate(orders.items()):
        share = part(progress, place / len(orders), (place + 1) / len(orders))
        name = order.case.name
        remove_abandoned(order.case.folder)
        report = _report_of(order.case, order.settings, _named(share, f"scan {number + 1} of {count}, {name}"))
        row = row_of(name, order.scan, report)
        yield number, row
        share(1.0, f"{name}: {row['status']}")


def _several_at_once(
    orders: Orders, workers: int, settings: Settings, progress: Progress
) -> Generator[tuple[int, Row], None, None]:
    numbers, names = list(orders), [order.case.name for order in orders.values()]
    place = cluster.local_workers(workers) if settings.scheduler is None else cluster.scheduler_at(settings.scheduler)
    with _result_folders(order.case.folder for order in orders.values()), place as client:
        sharing = workers if settings.scheduler is None else cluster.most_on_one_computer(client)
        given = [replace(order, sharing=sharing) for order in orders.values()]
        with closing(cluster.spread(client, carry_out, given, names, progress)) as results:
            for index, result in results:
                yield numbers[index], _lost(given[index], result) if isinstance(result, cluster.Lost) else result


def _lost(order: Order, lost: cluster.Lost) -> Row:
    reason = f"This scan ended its worker process {lost.deaths} times, most likely by lack of memory; segment it alone."
    return row_of(order.case.name, order.scan, {"reason": reason})


@contextmanager
def _result_folders(folders: Iterable[Path]) -> Iterator[None]:
    """Folders that are there while the block runs, where workers look for them; then those that stayed empty go."""
    wanted = sorted(set(folders))
    made = [place for folder in wanted for place in (folder, *folder.parents) if not place.exists()]
    for folder in wanted:
        folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        for folder in wanted:
            remove_abandoned(folder)  # by workers that were ended
        for folder in sorted(set(made), reverse=True):
            with suppress(OSError):  # it holds results
                folder.rmdir()


def _report_of(case: Case, settings: Settings, progress: Progress) -> Mapping[str, Any]:
    """The report of a scan that is segmented now, or what kept it from having one as {"reason": a sentence}."""
    chosen = settings.model, settings.device, settings.threads
    try:
        return pipeline.segment_to_folder(case.scan, case.folder, *chosen, progress, settings.repair)
    except (Cancelled, ImportError):
        raise
    except ToothTopoSegError as error:
        return {"reason": str(error)}
    except MemoryError:
        return {"reason": "Out of memory; close other programs or use a machine with more of it."}
    except Exception as error:  # one scan must not stop the rest
        return {"reason": f"Internal error ({type(error).__name__}: {str(error)[:200]}); please report it."}


def _named(progress: Progress, name: str) -> Progress:
    """The progress of one scan, with its place in the batch in front of each message."""
    return lambda fraction, message: progress(fraction, f"{name}: {message}")


# ---- the end


def _write_summary(rows: Mapping[int, Row], cases: Sequence[Case], out: Path) -> None:
    """Write table and page of the scans done so far, in the order of the list."""
    from ToothTopoSegLib.evaluation.cohort_page import write_cohort_page

    listed = [rows[number] for number in sorted(rows)]
    pages = [cases[number].output("report.html").relative_to(out).as_posix() for number in sorted(rows)]
    write_csv(listed, out / SUMMARY)
    write_cohort_page(listed, pages, len(cases), out / PAGE)


def _batch_report(rows: Sequence[Row], kept: int, bundle: Bundle, out: Path) -> dict[str, Any]:
    failed = sum(row["status"] == FAILED for row in rows)
    counts = {"scans": len(rows), "segmented": len(rows) - kept - failed, "kept": kept, "failed": failed}
    counts["with_errors"] = sum(bool(row["error"]) for row in rows)
    return {
        "schema": SCHEMA,
        "cases": list(rows),
        "summary": counts,
        "model": bundle.identity,
        "summary_csv": str(out / SUMMARY),
        "summary_html": str(out / PAGE),
    }
