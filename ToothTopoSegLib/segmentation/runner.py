"""The network as a function: a patch in, class scores out, through ONNX Runtime."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.errors import ModelError, UsageError
from ToothTopoSegLib.segmentation.bundle import Bundle

Array = NDArray[Any]


def _providers(device: str) -> list[str]:
    import onnxruntime

    available = onnxruntime.get_available_providers()
    if device not in ("auto", "cpu", "cuda"):
        raise UsageError(f"The device {device!r} is unknown; use auto, cpu or cuda.")
    if device == "cuda" and "CUDAExecutionProvider" not in available:
        raise UsageError("No CUDA device can be used by the installed onnxruntime; use --device cpu or auto.")
    # The integer graph has kernels on the CPU only, so that "auto" means the CPU.
    return ["CUDAExecutionProvider", "CPUExecutionProvider"] if device == "cuda" else ["CPUExecutionProvider"]


class Runner:
    """Runs a bundle's network on patches (z, y, x); keeps one ONNX Runtime session."""

    def __init__(self, bundle: Bundle, device: str = "auto", threads: int | None = None) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = threads or os.cpu_count() or 1
        # One patch at a time: an arena that keeps the largest request for ever only costs memory.
        options.enable_cpu_mem_arena = True
        try:
            self._session = onnxruntime.InferenceSession(bundle.model, options, providers=_providers(device))
        except UsageError:
            raise
        except Exception as error:
            raise ModelError(f"ONNX Runtime cannot load the model {bundle.path.name}; is it made for it? ({error})") from error
        self._input = self._session.get_inputs()[0].name
        self.classes = int(self._session.get_outputs()[0].shape[1])

    def __call__(self, patch: Array) -> Array:
        """Class scores (classes, z, y, x), uint8 or float32, of a normalised float32 patch (z, y, x)."""
        image = np.ascontiguousarray(patch, dtype=np.float32)[None, None]
        return np.asarray(self._session.run(None, {self._input: image})[0][0])
