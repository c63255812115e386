"""Where the files that travel with the engine lie: models, terminologies, colours.

In a checkout and in an installed Slicer extension ``Resources`` lies beside ``ToothTopoSegLib``; in a wheel it lies
inside the package.
"""

from __future__ import annotations

from pathlib import Path


def resource_folder() -> Path:
    """The folder ``Resources`` with ``Models``, ``Terminologies`` and ``Colors``; FileNotFoundError without it."""
    package = Path(__file__).resolve().parent
    candidates = (package / "Resources", package.parent / "Resources")
    for folder in candidates:
        if folder.is_dir():
            return folder
    raise FileNotFoundError(
        f"no folder Resources at {' or '.join(str(folder) for folder in candidates)}; install ToothTopoSeg again"
    )
