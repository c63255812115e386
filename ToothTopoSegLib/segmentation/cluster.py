"""Work on many items, spread by Dask over worker processes of this computer or of a cluster.

In: a function that is called once for each item, and where its workers are. Out: what it returns, in the order it is
done. A worker that dies is replaced and its item done again; an item of which three workers die comes out as
:class:`Lost`. An item counts as the cause only where its worker had begun it: Dask blames all that a dead worker had.
Progress of all workers comes through the one callback; when that raises, or Ctrl-C, the workers let go of their items.

Dask's distributed is imported only here and only when it is asked for. Source: distributed.dask.org.
"""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import logging
import queue
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from ToothTopoSegLib.errors import Cancelled, ClusterError, UsageError
from ToothTopoSegLib.progress import Progress

Item = TypeVar("Item")
Result = TypeVar("Result")
Work = Callable[[Item, Progress], Result]
Event = tuple[str, int, Any]
"""What happened ("begun", "told", "ended" or "over"), to which item, and what comes with it."""

MOST_DEATHS = 3
"""Workers that may die of one item."""
MOST_BLAMES = 12
"""Times that Dask may give an item up, begun or not: workers that cannot even begin are no workers."""
CONNECT_S = 5.0
TELL_EVERY_S = 0.5
LOOK_EVERY_S = 1.0
LET_GO_S = 10.0
"""How long workers may take to tidy up when the work is stopped; then those of this computer are ended."""
_ONE_AT_A_TIME = threading.Lock()  # a worker with several threads has the memory for one scan, not for several


@dataclass(frozen=True)
class Lost:
    """What comes out of an item whose workers died."""

    deaths: int


def can_start_workers() -> bool:
    """Whether Dask is there and this is a Python of its own: programs that embed one cannot start it again."""
    return importlib.util.find_spec("distributed") is not None and Path(sys.executable or "").stem.lower().startswith(
        "python"
    )


def cores() -> int:
    """Processors that this process may use."""
    from dask.system import CPU_COUNT

    return int(CPU_COUNT)


def most_on_one_computer(client: Any) -> int:
    """How many workers share a computer where most do, at least 1."""
    from distributed.comm.addressing import get_address_host

    return max(Counter(map(get_address_host, client.nthreads())).values(), default=1)


def free_megabytes() -> float:
    """Memory in MB that is free here and that this process may use."""
    import psutil
    from distributed.system import MEMORY_LIMIT

    return min(float(psutil.virtual_memory().available), float(MEMORY_LIMIT)) / 1e6


@contextlib.contextmanager
def local_workers(count: int) -> Iterator[Any]:
    """A Dask client of ``count`` new processes on this computer, which end with the block.

    Raises UsageError inside a program that cannot start them, ImportError where Dask is missing.
    """
    import dask
    from distributed import Client, LocalCluster

    if not can_start_workers():
        raise UsageError(
            f"{Path(sys.executable or 'This program').name} cannot start worker processes: give 1 worker, or the "
            "address of a Dask scheduler."
        )
    settings = {
        "distributed.worker.profile.enabled": False,  # for finding slow code
        # With it the system clears every large array anew, which takes a quarter of the time of a scan.
        "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": None,
    }
    options = {"dashboard_address": None, "memory_limit": 0, "host": "127.0.0.1", "preload": [__name__]}
    with (
        _quiet(),
        dask.config.set(settings),
        LocalCluster(
            n_workers=count,
            threads_per_worker=1,
            processes=True,
            silence_logs=logging.CRITICAL,
            scheduler_kwargs={"allowed_failures": 0},  # what is done again is decided here
            **options,
        ) as started,
        Client(started) as client,
    ):
        yield client


def dask_setup(worker: object) -> None:
    """What Dask calls in each new worker of this computer: Ctrl-C in a terminal reaches it too, but it is told to stop.

    See https://docs.dask.org/en/stable/how-to/customize-initialization.html.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextlib.contextmanager
def scheduler_at(address: str) -> Iterator[Any]:
    """A Dask client of the scheduler at ``address``, such as ``tcp://10.0.0.1:8786``.

    Raises ClusterError where no scheduler answers within seconds, ImportError where Dask is missing.
    """
    from distributed import Client

    with _quiet():
        try:
            client = Client(address, timeout=CONNECT_S)
        except (OSError, ValueError) as error:
            raise ClusterError(
                f"No Dask scheduler answers at {address}; start one with 'dask scheduler', give the address it shows, "
                "and check that no firewall is in between."
            ) from error
        with client:
            yield client


def spread(
    client: Any, work: Work[Item, Result], items: Sequence[Item], names: Sequence[str], progress: Progress
) -> Generator[tuple[int, Result | Lost], None, None]:
    """The index of each item and what ``work(item, progress)`` returned on a worker, or Lost, in the order of the ends.

    ``work`` must be importable on the workers. Whatever it raises ends everything and is raised here; what a worker
    lacks, and a scheduler that goes away, is a ClusterError. Close the iterator to stop the work.
    """
    return _Spread(client, work, items, names, progress).results()


class _Spread(Generic[Item, Result]):
    """The state of one call of :func:`spread`; all but what puts events into the queue runs in the caller's thread."""

    def __init__(
        self, client: Any, work: Work[Item, Result], items: Sequence[Item], names: Sequence[str], progress: Progress
    ) -> None:
        self._client, self._work, self._items, self._names = client, work, items, names
        self._progress = progress
        self._topic = f"toothtoposeg-{time.time_ns()}"
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._waiting = list(range(len(items)))[::-1]
        self._running: dict[int, Any] = {}
        self._fractions: dict[int, float] = {}
        self._begun: Counter[int] = Counter()
        self._blamed: Counter[int] = Counter()
        self._done = 0

    def results(self) -> Generator[tuple[int, Result | Lost], None, None]:
        self._client.subscribe_topic(self._topic, self._hear)
        try:
            self._hand_out()
            while self._running:
                try:
                    event = self._events.get(timeout=LOOK_EVERY_S)
                except queue.Empty:
                    self._hand_out()  # to workers that have come meanwhile
                    self._tell("" if self._fractions else "no worker has begun yet")
                else:
                    yield from self._happened(*event)
        except BaseException:
            self._let_go()
            raise
        finally:
            with contextlib.suppress(Exception):  # the scheduler may have gone
                self._client.unsubscribe_topic(self._topic)

    def _happened(self, kind: str, index: int, content: Any) -> Iterator[tuple[int, Result | Lost]]:
        """Take note of an event; the result where an item came to its end."""
        if index not in self._running:
            return
        if kind == "begun":
            self._begun[index] += 1
        elif kind == "told":
            self._fractions[index] = content[0]
            self._tell(f"{self._names[index]}: {content[1]}")
        elif kind == "over":
            future = self._running.pop(index)
            self._fractions.pop(index, None)
            if self._is_worth_another_worker(index, future):
                self._waiting.append(index)
                self._hand_out()
                return
            result = self._result(index, future)
            self._done += 1
            self._hand_out()
            yield index, result
            self._tell(f"{self._names[index]}: done")

    def _is_worth_another_worker(self, index: int, future: Any) -> bool:
        from distributed.scheduler import KilledWorker

        if future.status != "error" or not isinstance(future.exception(), KilledWorker):
            return False
        self._blamed[index] += 1
        return self._begun[index] < MOST_DEATHS and self._blamed[index] < MOST_BLAMES

    def _hand_out(self) -> None:
        """Submit as many items as workers wait for; one is out even where there are none, for clusters that grow."""
        while self._waiting and len(self._running) < max(self._capacity(), 1):
            index = self._waiting.pop()
            key = (self._topic, index, self._blamed[index])
            future = self._client.submit(_carried_out, self._work, self._items[index], self._topic, index, key=key)
            self._running[index] = future
            future.add_done_callback(lambda _, index=index: self._events.put(("over", index, None)))

    def _capacity(self) -> int:
        try:
            return sum(self._client.nthreads().values())
        except OSError as error:
            raise self._gone() from error

    def _hear(self, event: tuple[float, dict[str, Any]]) -> None:
        """Take what a worker tells; called by Dask in its own thread."""
        message = event[1]
        self._events.put((message["kind"], message["index"], message.get("content")))

    def _tell(self, message: str) -> None:
        share = (self._done + sum(self._fractions.values())) / len(self._items)
        counts = f"{self._done} of {len(self._items)} scans done, {len(self._fractions)} running"
        self._progress(share, f"{counts}, {message}" if message else counts)

    def _result(self, index: int, future: Any) -> Result | Lost:
        from distributed.scheduler import KilledWorker

        if future.status == "cancelled":
            raise self._gone()
        error = future.exception() if future.status == "error" else None
        if isinstance(error, KilledWorker):
            return Lost(self._begun[index])
        if isinstance(error, ImportError):
            raise ClusterError(
                f"A worker cannot load ToothTopoSeg or one of its packages ({error}); install the same version there "
                'with pip install "toothtoposeg[cluster]".'
            ) from error
        if error is not None:
            raise error
        result: Result = future.result()
        return result

    def _gone(self) -> ClusterError:
        return ClusterError(
            f"The Dask scheduler went away when {self._done} of {len(self._items)} scans were done; they are kept: "
            "start it again and give the same command to go on."
        )

    def _let_go(self) -> None:
        """Take all items back and wait, not for ever, until the workers have tidied up."""
        busy = set(self._fractions)
        with contextlib.suppress(Exception):  # the scheduler may have gone
            self._client.cancel(list(self._running.values()), force=True)
            deadline = time.monotonic() + LET_GO_S
            while busy and self._client.status == "running" and time.monotonic() < deadline:
                with contextlib.suppress(queue.Empty):
                    kind, index, _ = self._events.get(timeout=0.1)
                    busy -= {index} if kind == "ended" else set()


def _carried_out(work: Work[Item, Result], item: Item, topic: str, index: int) -> Result:
    """What a worker does with an item."""
    from distributed import get_worker
    from distributed.utils import sync

    worker = get_worker()
    with _ONE_AT_A_TIME:
        # Not by worker.log_event, which sends later: a worker may die at once.
        sync(worker.loop, worker.scheduler.log_event, topic=topic, msg={"kind": "begun", "index": index})
        try:
            return work(item, _Teller(worker, topic, index))
        finally:
            _give_memory_back()
            worker.log_event(topic, {"kind": "ended", "index": index})


def _give_memory_back() -> None:
    """Return freed memory to the system after an item, so that a worker does not grow by what it no longer needs."""
    import ctypes

    gc.collect()
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError, OSError):  # only glibc has it
            ctypes.CDLL(None).malloc_trim(0)


class _Teller:
    """The progress callback on a worker: tells the client now and then, and cancels what is no longer wanted."""

    def __init__(self, worker: Any, topic: str, index: int) -> None:
        self._worker, self._topic, self._index = worker, topic, index
        self._key = worker.get_current_task()
        self._next = 0.0

    def __call__(self, fraction: float, message: str) -> None:
        if not self._is_wanted():
            raise Cancelled("The work was taken back.")
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + TELL_EVERY_S
            self._worker.log_event(
                self._topic, {"kind": "told", "index": self._index, "content": [float(fraction), str(message)]}
            )

    def _is_wanted(self) -> bool:
        """Whether the client still holds the future and the scheduler is there: else Dask has taken the task back."""
        task = self._worker.state.tasks.get(self._key)
        return self._worker.status.name in ("running", "paused") and task is not None and task.state == "executing"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Dask's own words are not for whoever segments scans: what matters is told in sentences."""
    logger = logging.getLogger("distributed")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)
