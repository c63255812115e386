"""nnU-Net's checkpoint files, read without trusting them.

A .pth file is a pickle, and unpickling runs whatever program the file holds. Here it is read by torch's own
``weights_only`` unpickler, which builds tensors and plain values and nothing else. What nnU-Net puts beside them (numpy
scalars of its log) is allowed by name; whatever else a file asks for ends the import, before it is called.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.errors import ModelError

PREFIXES = ("module.", "_orig_mod.")
"""What data parallelism and compilation put before the names of weights."""
ALIASES = ("decoder.encoder.", ".all_modules.")


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Weights by nnU-Net's names without aliases, and how the training went about it."""

    weights: dict[str, NDArray[Any]]
    trainer: str
    configuration: str
    mirror_axes: tuple[int, ...]


def read_checkpoint(path: Path) -> Checkpoint:
    """The checkpoint of a fold; ModelError when it is damaged, no checkpoint, or holds what could run a program."""
    content = _unpickled(path)
    try:
        arguments = content["init_args"]
        axes = content.get("inference_allowed_mirroring_axes") or ()
        return Checkpoint(
            plain_weights(content["network_weights"]),
            str(content["trainer_name"]),
            str(arguments["configuration"]),
            tuple(int(axis) for axis in axes),
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ModelError(f"{path.name} is no checkpoint of nnU-Net v2 (it lacks {error}); give another.") from error


def plain_weights(state: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Weights as float32 arrays, each once and by the name that the network's own modules have."""
    weights = {}
    for name, value in state.items():
        for prefix in PREFIXES:
            name = name.removeprefix(prefix)
        if not name.endswith("num_batches_tracked") and not any(alias in name for alias in ALIASES):
            weights[name] = value.detach().float().cpu().numpy()
    return weights


def _unpickled(path: Path) -> Any:
    import pickle

    import torch

    try:
        with torch.serialization.safe_globals(_allowed()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{path.name} asks for more than weights and plain values, so that reading it could run a program; it was "
            "not read. Get the model from a source that you trust."
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, IndexError, AttributeError) as error:
        raise ModelError(f"{path.name} is damaged or no checkpoint of torch; download or copy it again.") from error


def _allowed() -> list[Any]:
    """The numpy scalars and arrays of numbers that nnU-Net logs; none of them can call anything."""
    core = importlib.import_module("numpy._core.multiarray")
    kinds = [np.float16, np.float32, np.float64, np.int32, np.int64, np.uint8, np.bool_]
    # Files written with numpy 1 name its core otherwise.
    names = ("numpy._core.multiarray", "numpy.core.multiarray")
    makers = [(getattr(core, maker), f"{name}.{maker}") for name in names for maker in ("scalar", "_reconstruct")]
    return [*makers, np.ndarray, np.dtype, *{type(np.dtype(kind)) for kind in kinds}]
