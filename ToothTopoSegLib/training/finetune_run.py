"""The folder of a fine-tuning: whose it is, how far it is, and the best model so far.

``run.json`` says whose run it is, ``cases/`` holds the cached cases, ``before.json`` what the model to start from
reached, ``checkpoint.pt`` everything needed to go on, the best model included, and ``best.onnx`` with its card and
weights is that model as a bundle. The checkpoint is one file that is written under another name first: a run killed at
any moment goes on from the last one that is whole. No name, path or header of a case is written here.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ToothTopoSegLib.errors import InputError, OutputError, UsageError
from ToothTopoSegLib.training import loop
from ToothTopoSegLib.training.user_cases import UserCase

if TYPE_CHECKING:
    from torch import Tensor

BEST = "best.onnx"


@dataclass(frozen=True)
class Best:
    """The model with the best validation so far: the three files of its bundle, its measures and its step."""

    measures: dict[str, float]
    step: int
    model: bytes
    card: str
    weights: bytes

    @property
    def score(self) -> float:
        """What the best one is chosen by."""
        return self.measures["validation score"]


@dataclass
class State(loop.State):
    """Everything a fine-tuning carries from step to step; ``seconds`` is all the time it took so far."""

    validations: list[dict[str, float]] = field(default_factory=list)
    best: Best | None = None


def run_folder(bundle: Path) -> Path:
    """Where the run that makes a bundle keeps its state."""
    return bundle.with_name(f"{bundle.stem}.run")


def fingerprints(cases: Sequence[UserCase]) -> list[str]:
    """What tells cases apart without naming them: a hash of the labels and the size of the scan.

    Raises InputError for a case that cannot be read.
    """
    found = []
    for case in cases:
        try:
            found.append(_fingerprint(case))
        except OSError as error:
            raise InputError(
                f"The case {case.name} cannot be read ({error.strerror}); check that you may read its files."
            ) from error
    return found


def _fingerprint(case: UserCase) -> str:
    files = sorted(case.scan.rglob("*")) if case.scan.is_dir() else [case.scan]
    size = sum(file.stat().st_size for file in files if file.is_file())
    with case.labels.open("rb") as labels:
        digest = hashlib.file_digest(labels, "sha256")
    digest.update(f"{size} {case.meanings}".encode())
    return digest.hexdigest()


def is_claimed(folder: Path, wanted: dict[str, Any]) -> bool:
    """Whether a folder holds the run that ``wanted`` describes; UsageError where it holds another."""
    note = folder / "run.json"
    if not note.exists():
        return False
    if note.read_text(encoding="utf-8") != _described(wanted):
        raise UsageError(
            f"The folder {folder.name} holds a fine-tuning of other cases, of another model or with other settings; "
            "give the bundle another name, or remove the folder."
        )
    return True


def claim(folder: Path, wanted: dict[str, Any]) -> None:
    """Note whose run a folder is."""
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "run.json", _described(wanted).encode())


def _described(wanted: dict[str, Any]) -> str:
    return json.dumps(wanted, indent=2, sort_keys=True) + "\n"


def write_whole(path: Path, content: bytes) -> None:
    """Write a file under another name and rename it, so that it is never half there."""
    staged = path.with_name(f".{path.name}.part")
    try:
        staged.write_bytes(content)
        staged.replace(path)
    finally:
        staged.unlink(missing_ok=True)


@contextlib.contextmanager
def said_plainly(folder: Path) -> Iterator[None]:
    """Turn what the system says when ``folder`` cannot be written into one sentence (OutputError)."""
    try:
        yield
    except OSError as error:
        kept = " The training goes on from its last checkpoint." if (folder / "checkpoint.pt").exists() else ""
        raise OutputError(
            f"The folder {folder.name} cannot be written ({error.strerror or error}): make room or permission there, "
            f"then run the same command again.{kept}"
        ) from error


# ---- checkpoints


def save(state: State, folder: Path) -> None:
    """Write the checkpoint; OSError where it cannot be written, and the one before is then still whole."""
    import torch

    content: dict[str, Any] = {
        "network": state.network.state_dict(),
        "average": state.average.state_dict(),
        "optimiser": state.optimiser.state_dict(),
        "step": state.step,
        "seconds": state.seconds,
        "validations": state.validations,
    }
    if state.best is not None:
        best = state.best
        content["best"] = {"measures": best.measures, "step": best.step, "card": best.card}
        content["best"] |= {"model": _tensor(best.model), "weights": _tensor(best.weights)}
    staged = folder / ".checkpoint.part"
    try:
        with staged.open("wb") as file:
            torch.save(content, file)
        staged.replace(folder / "checkpoint.pt")
    finally:
        staged.unlink(missing_ok=True)


def load(state: State, folder: Path, device: str) -> bool:
    """Take over the checkpoint of the folder, if there is one; returns whether there was.

    Raises UsageError where it is damaged or of another network.
    """
    import pickle

    import torch

    path = folder / "checkpoint.pt"
    if not path.exists():
        return False
    try:
        content = torch.load(path, map_location=device, weights_only=True)
        state.network.load_state_dict(content["network"])
        state.average.load_state_dict(content["average"])
        state.optimiser.load_state_dict(content["optimiser"])
        state.step, state.seconds = int(content["step"]), float(content["seconds"])
        state.validations = content["validations"]
        if (best := content.get("best")) is not None:
            model, weights = (best[name].cpu().numpy().tobytes() for name in ("model", "weights"))
            state.best = Best(best["measures"], best["step"], model, best["card"], weights)
    except (RuntimeError, KeyError, ValueError, EOFError, pickle.UnpicklingError) as error:
        raise UsageError(f"The checkpoint in {folder.name} is damaged; remove the folder and start again.") from error
    return True


def _tensor(content: bytes) -> Tensor:
    import numpy as np
    import torch

    return torch.from_numpy(np.frombuffer(content, np.uint8).copy())


def publish(best: Best, path: Path) -> None:
    """Write a model as the bundle ``path`` unless it is there; OutputError where it cannot be written."""
    from ToothTopoSegLib.errors import ModelError
    from ToothTopoSegLib.imaging.write import output_folder
    from ToothTopoSegLib.quantization.bundle import load_bundle
    from ToothTopoSegLib.quantization.export import float_weights_path

    card = path.with_suffix(".json")
    with contextlib.suppress(ModelError, OSError):
        if load_bundle(path).model == best.model and card.read_text(encoding="utf-8") == best.card:
            return
    with output_folder(path.parent) as staged:
        (staged / path.name).write_bytes(best.model)
        (staged / float_weights_path(path).name).write_bytes(best.weights)
        (staged / card.name).write_text(best.card, encoding="utf-8")
