"""Progress and cancellation as one callback handed through every long step.

A step calls ``progress(fraction, message)`` with ``fraction`` in 0..1 of *its own* work; to cancel, the
callback raises :class:`ToothTopoSegLib.errors.Cancelled`, which the step lets pass after tidying up.
"""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[float, str], None]


class Milestone(str):
    """A message of something that is reached, and that stays to be read where messages replace each other."""

    __slots__ = ()


def silent(fraction: float, message: str) -> None:
    """A progress callback that shows nothing and never cancels."""


def part(progress: Progress, start: float, end: float) -> Progress:
    """The callback for a step that covers ``start..end`` of the whole work behind ``progress``."""

    def scaled(fraction: float, message: str) -> None:
        progress(start + (end - start) * min(max(fraction, 0.0), 1.0), message)

    return scaled
