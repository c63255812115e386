"""The folder of a trained nnU-Net v2 model, given as a folder or a zip, and the files in it.

nnU-Net writes ``plans.json``, ``dataset.json`` and ``fold_N/checkpoint_final.pth`` into one folder; zips of models wrap
it in further folders. A zip is unpacked member by member into a temporary folder, only what an import reads, and
nothing in it can name a place outside.
"""

from __future__ import annotations

import json
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from ToothTopoSegLib.errors import ModelError, UsageError

CHECKPOINTS = ("checkpoint_final.pth", "checkpoint_best.pth")
FILES = ("plans.json", "dataset.json", *CHECKPOINTS)
LARGEST_UNPACKED = 20 * 2**30
CHUNK = 2**20


@contextmanager
def model_folder(path: Path, configuration: str | None = None) -> Iterator[Path]:
    """The folder of a model that holds its plans.json, for the time of the block.

    ``configuration`` chooses among several. Raises ModelError when there is none, or more than one to choose from,
    or when a zip is damaged, reaches out of its folder, or is far too large.
    """
    if path.is_dir():
        yield _only_model(path, path.name, configuration)
        return
    if not path.is_file():
        raise ModelError(f"No model was found at {path}; give the folder or zip of a trained nnU-Net v2 model.")
    with tempfile.TemporaryDirectory(prefix="toothtopo-") as temporary:
        _unpack(path, Path(temporary))
        yield _only_model(Path(temporary), path.name, configuration)


def _unpack(path: Path, folder: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            wanted = [entry for entry in archive.infolist() if PurePosixPath(entry.filename).name in FILES]
            for entry in archive.infolist():
                _check_name(entry.filename, path.name)
            if sum(entry.file_size for entry in wanted) > LARGEST_UNPACKED:
                raise ModelError(f"{path.name} unpacks to more than 20 GB; zip only the folder of the model.")
            for entry in wanted:
                target = folder.joinpath(*PurePosixPath(entry.filename).parts)
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(entry) as source, target.open("wb") as out:
                    while chunk := source.read(CHUNK):
                        out.write(chunk)
    except (zipfile.BadZipFile, EOFError, zlib.error, NotImplementedError, RuntimeError) as error:
        raise ModelError(f"{path.name} is no readable zip, or was cut off; download or copy it again.") from error


def _check_name(name: str, archive: str) -> None:
    parts = PurePosixPath(name.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or ":" in name:
        raise ModelError(f"{archive} holds the file {name!r}, which lies outside of its folder; it is not unpacked.")


def _only_model(folder: Path, shown: str, configuration: str | None) -> Path:
    """The one folder in or below ``folder`` with a plans.json."""
    found = [folder] if (folder / "plans.json").is_file() else sorted(p.parent for p in folder.rglob("plans.json"))
    if configuration is not None and len(found) > 1:
        found = [place for place in found if place.name.rpartition("__")[2] == configuration]
    if not found:
        raise ModelError(f"{shown} holds no plans.json; give the folder that nnU-Net v2 wrote, with plans and folds.")
    if len(found) > 1:
        names = ", ".join(place.name for place in found)
        raise ModelError(f"{shown} holds several models ({names}); give one of these folders or --configuration.")
    return found[0]


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """A JSON object of the model's folder; ModelError when it is missing or damaged."""
    path = folder / name
    if not path.is_file():
        raise ModelError(f"The model has no {name}; give the whole folder that nnU-Net v2 wrote.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"The {name} of the model cannot be read; copy it again.") from error
    if not isinstance(content, dict):
        raise ModelError(f"The {name} of the model holds no object; copy it again.")
    return content


def checkpoint_files(folder: Path, folds: Sequence[str] | None = None) -> dict[str, Path]:
    """The checkpoint of each fold by its name (0, 1, ... or all): the final one, else the best one so far.

    Without ``folds``: every numbered fold, or ``all`` where there is none. Raises UsageError for a fold that is not
    there, ModelError when there is none at all.
    """
    found = {
        place.name.removeprefix("fold_"): next(place / n for n in CHECKPOINTS if (place / n).is_file())
        for place in sorted(folder.glob("fold_*"))
        if any((place / name).is_file() for name in CHECKPOINTS)
    }
    if not found:
        raise ModelError("The model has no fold with a checkpoint_final.pth; give the whole folder that nnU-Net wrote.")
    if folds is None:
        numbered = {name: file for name, file in found.items() if name.isdigit()}
        return numbered or found
    if missing := [name for name in folds if name not in found]:
        raise UsageError(f"The model has no fold {missing[0]} (it has {', '.join(found)}); choose among these.")
    return {name: found[name] for name in folds}
