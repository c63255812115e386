"""The folder of a fine-tuning: whose it is, how far it is, and the best model so far.

``run.json`` says whose run it is, ``cases/`` holds the cached cases, ``before.json`` what the model to start from
reached, ``checkpoint.pt`` everything needed to go on, the best model included, ``checkpoint_surface.pt`` the same of
the network that draws surfaces once its turn has come, and ``best.onnx`` with its card and weights is the best model so
far as a bundle. A checkpoint is one file that is written under another name first: a run killed at any moment goes on
from the last one that is whole. No name, path or header of a case is written here.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ToothTopoSegLib.errors import InputError, OutputError, UsageError
from ToothTopoSegLib.training import loop
from ToothTopoSegLib.training.user_cases import UserCase

if TYPE_CHECKING:
    from torch import Tensor

    from ToothTopoSegLib.quantization.bundle import Bundle

BEST = "best.onnx"
CHECKPOINT, SURFACE_CHECKPOINT = "checkpoint.pt", "checkpoint_surface.pt"


@dataclass(frozen=True)
class Best:
    """The model with the best validation so far: the three files of its bundle, its measures and its step.

    ``measures`` are none and the step is 0 where the model was not learnt here.
    """

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
    """Everything the fine-tuning of a network carries from step to step.

    ``seconds`` is all the time that the run took so far, ``since`` how much of it was over at the network's first step.
    """

    validations: list[dict[str, float]] = field(default_factory=list)
    best: Best | None = None
    since: float = 0.0


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
        kept = " The training goes on from its last checkpoint." if (folder / CHECKPOINT).exists() else ""
        raise OutputError(
            f"The folder {folder.name} cannot be written ({error.strerror or error}): make room or permission there, "
            f"then run the same command again.{kept}"
        ) from error


# ---- checkpoints


def save(state: State, path: Path) -> None:
    """Write a checkpoint; OSError where it cannot be written, and the one before is then still whole."""
    import torch

    content: dict[str, Any] = {
        "network": state.network.state_dict(),
        "average": state.average.state_dict(),
        "optimiser": state.optimiser.state_dict(),
        "step": state.step,
        "seconds": state.seconds,
        "since": state.since,
        "validations": state.validations,
    }
    if state.best is not None:
        best = state.best
        content["best"] = {"measures": best.measures, "step": best.step, "card": best.card}
        content["best"] |= {"model": _tensor(best.model), "weights": _tensor(best.weights)}
    staged = path.with_name(f".{path.name}.part")
    try:
        with staged.open("wb") as file:
            torch.save(content, file)
        staged.replace(path)
    finally:
        staged.unlink(missing_ok=True)


def load(state: State, path: Path, device: str) -> bool:
    """Take over a checkpoint, if there is one; returns whether there was.

    Raises UsageError where it is damaged or of another network.
    """
    import pickle

    import torch

    if not path.exists():
        return False
    try:
        content = torch.load(path, map_location=device, weights_only=True)
        state.network.load_state_dict(content["network"])
        state.average.load_state_dict(content["average"])
        state.optimiser.load_state_dict(content["optimiser"])
        state.step, state.seconds = int(content["step"]), float(content["seconds"])
        state.since, state.validations = float(content["since"]), content["validations"]
        if (best := content.get("best")) is not None:
            model, weights = (best[name].cpu().numpy().tobytes() for name in ("model", "weights"))
            state.best = Best(best["measures"], best["step"], model, best["card"], weights)
    except (RuntimeError, KeyError, ValueError, EOFError, pickle.UnpicklingError) as error:
        raise UsageError(
            f"The checkpoint in {path.parent.name} is damaged; remove the folder and start again."
        ) from error
    return True


def _tensor(content: bytes) -> Tensor:
    import numpy as np
    import torch

    return torch.from_numpy(np.frombuffer(content, np.uint8).copy())


def kept(bundle: Bundle) -> Best:
    """A bundle that was not learnt here, as it is written beside one that was.

    Raises ModelError where its float weights are missing.
    """
    from ToothTopoSegLib.errors import ModelError
    from ToothTopoSegLib.quantization.export import float_weights_path

    try:
        weights = float_weights_path(bundle.path).read_bytes()
    except OSError as error:
        raise ModelError(
            f"The model {bundle.path.name} has no float weights beside it; copy the whole bundle."
        ) from error
    return Best({}, 0, bundle.model, json.dumps(bundle.card, indent=2) + "\n", weights)


def publish(best: Best, path: Path, surface: Best | None = None) -> None:
    """Write a model as the bundle ``path`` unless it is there; OutputError where it cannot be written.

    ``surface`` is the second network that belongs beside it; without it the card goes on naming the one it names.
    """
    from ToothTopoSegLib.imaging.write import output_folder
    from ToothTopoSegLib.quantization.bundle import SECOND

    files = _files(best, path)
    if surface is not None:
        second = path.with_name(f"{path.stem}{SECOND}.onnx")
        named = {"name": second.stem, "sha256": hashlib.sha256(surface.model).hexdigest()}
        card = json.dumps(json.loads(best.card) | {"surface": named}, indent=2) + "\n"
        files = _files(surface, second) | _files(replace(best, card=card), path)
    if all(_holds(path.with_name(name), content) for name, content in files.items()):
        return
    with output_folder(path.parent) as staged:
        for name, content in files.items():
            (staged / name).write_bytes(content)


def _files(best: Best, path: Path) -> dict[str, bytes]:
    """The files of a bundle by their names."""
    from ToothTopoSegLib.quantization.export import float_weights_path

    card = path.with_suffix(".json").name
    return {path.name: best.model, float_weights_path(path).name: best.weights, card: best.card.encode()}


def _holds(path: Path, content: bytes) -> bool:
    with contextlib.suppress(OSError):
        return path.read_bytes() == content
    return False
