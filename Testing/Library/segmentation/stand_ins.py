"""Work that stands in for segmenting a scan where the tests are about who does it; workers import it by its name."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

from ToothTopoSegLib.errors import Cancelled, ClusterError
from ToothTopoSegLib.evaluation import finding_pictures, preview
from ToothTopoSegLib.progress import Milestone, Progress
from ToothTopoSegLib.segmentation.batch import Order, carry_out
from ToothTopoSegLib.segmentation.summary import Row

PATIENCE_S = 60.0
MAGIC = bytes(128) + b"DICM"
"""What a DICOM file begins with."""


def touch(folder: Path, *names: str, content: bytes = b"x") -> None:
    """Write small files in place of scans, with their folders."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Return when the condition holds; AssertionError after a minute."""
    never = threading.Event()
    for _ in range(int(PATIENCE_S / 0.02)):
        if condition():
            return
        never.wait(0.02)
    raise AssertionError(f"waited too long for {what}")


def double(item: int, progress: Progress) -> tuple[int, int]:
    """Twice the number, and the process that worked it out."""
    progress(0.5, "halfway")
    return 2 * item, os.getpid()


def reach(message: str, progress: Progress) -> None:
    """Tell of something that is reached and stays to be read."""
    progress(0.5, Milestone(message))


def die(item: tuple[Path, int], progress: Progress) -> str:
    """End the worker at once, as the system does when memory runs out, the first so many times."""
    folder, times = item
    deaths = len(list(folder.glob("death *")))
    if deaths < times:
        (folder / f"death {deaths}").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    progress(1.0, "survived")
    return f"after {deaths} deaths"


def wait_to_be_stopped(folder: Path, progress: Progress) -> None:
    """Work on until the work is taken back, then tidy up."""

    def stopped() -> bool:
        try:
            progress(0.1, "at work")
        except Cancelled:
            (folder / "tidied").touch()
            return True
        return False

    (folder / "begun").touch()
    wait_until(stopped, "the end of the work")


def complain(item: str, progress: Progress) -> None:
    """Find that this worker does not fit."""
    raise ClusterError(item)


def carry_out_without_pictures(order: Order, progress: Progress) -> Row:
    """Segment a scan without the pictures, which take most of the time of a small one."""
    preview.draw_preview = lambda scan, labels, findings, path, title: path.write_bytes(b"picture")
    finding_pictures.finding_pictures = lambda *_: {}
    return carry_out(order, progress)
