"""Worker processes that share the processor's cores, one thread in each.

Where every process lets its linear algebra use all cores, their threads wait for each other: two processes that render
heads on two cores took twenty times as long as with one thread each.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from threading import Thread

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
"""What the libraries read when they are loaded; hence processes that begin anew and not as copies of this one."""


@contextmanager
def one_thread_each(workers: int, initializer: Callable[[], None] | None = None) -> Iterator[ProcessPoolExecutor]:
    """A pool of ``workers`` processes with one thread each; leaving waits for what was submitted and not cancelled.

    The workers end when this process does, however it ends.
    """
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        with ProcessPoolExecutor(workers, get_context("spawn"), _begin, (initializer,)) as pool:
            yield pool
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _begin(initializer: Callable[[], None] | None) -> None:
    """Ready a worker: where its parent is killed, nobody else would stop it before its work of hours is done."""
    Thread(target=_end_with_parent, daemon=True).start()
    if initializer is not None:
        initializer()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
