"""Every error the engine raises on purpose, each carrying the exit code of the command-line contract.

A message is one sentence for a person: what was found, what was expected, what to do.
"""

from __future__ import annotations


class ToothTopoSegError(Exception):
    """Base of all errors raised on purpose; ``exit_code`` is what the command line ends with."""

    exit_code = 4


class UsageError(ToothTopoSegError):
    """The caller asked for something that does not exist or does not fit together."""

    exit_code = 2


class InputError(ToothTopoSegError):
    """A scan or label map cannot be read or is not usable."""


class ModelError(ToothTopoSegError):
    """A model bundle is missing, altered or does not fit."""


class TrainingError(ToothTopoSegError):
    """A training cannot go on; what it reached before is kept."""


class OutputError(ToothTopoSegError):
    """A result cannot be written (folder not writable, disk full)."""


class ClusterError(ToothTopoSegError):
    """A cluster is not there, goes away or has workers that do not fit; what it finished before is kept."""


class Cancelled(ToothTopoSegError):
    """The user cancelled; nothing half-written is left."""

    exit_code = 130
