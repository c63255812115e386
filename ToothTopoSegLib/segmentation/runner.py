"""The network as a function: a patch in, class scores out, through ONNX Runtime."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.errors import ModelError, UsageError
from ToothTopoSegLib.quantization.bundle import Bundle

Array = NDArray[Any]


def _providers(device: str) -> list[str]:
    import onnxruntime

    if device not in ("auto", "cpu", "cuda"):
        raise UsageError(f"The device {device!r} is unknown; use auto, cpu or cuda.")
    if device == "cuda" and "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        raise UsageError("No CUDA device can be used by the installed onnxruntime; choose the device cpu or auto.")
    # The integer graph has kernels on the CPU only, so that "auto" means the CPU.
    return ["CUDAExecutionProvider", "CPUExecutionProvider"] if device == "cuda" else ["CPUExecutionProvider"]


class Runner:
    """Runs a bundle's network on patches (z, y, x); keeps one ONNX Runtime session.

    ``device`` is auto, cpu or cuda; ``threads`` processor threads, by default all. ``classes`` is how many scores a
    voxel gets, ``score_scale`` what one unit of them is worth. Raises UsageError for another device, one that is not
    there, or fewer than one thread, ModelError when ONNX Runtime cannot load the model or it does not take and give
    what its card says.
    """

    def __init__(self, bundle: Bundle, device: str = "auto", threads: int | None = None) -> None:
        import onnxruntime

        if threads is not None and threads < 1:
            raise UsageError(f"{threads} threads were asked for, but at least 1 is needed; leave it out to use all.")
        self._device, self._threads = device, threads
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = threads or os.cpu_count() or 1
        providers = _providers(device)
        try:
            self._session = onnxruntime.InferenceSession(bundle.model, options, providers=providers)
        except Exception as error:  # onnxruntime has no common base for what it raises
            reason = str(error).strip().partition("\n")[0]
            raise ModelError(
                f"ONNX Runtime cannot load the model {bundle.path.name} ({reason}); update onnxruntime or give another."
            ) from error
        images, scores = self._session.get_inputs(), self._session.get_outputs()
        if len(images) != 1 or images[0].shape != [1, 1, *bundle.patch] or len(scores[0].shape) != 5:
            raise ModelError(
                f"The model {bundle.path.name} takes no patches of the size on its card; copy model and card again."
            )
        self._input = images[0].name
        self.classes = int(scores[0].shape[1])
        self.score_scale = bundle.score_scale

    def beside(self, bundle: Bundle) -> Runner:
        """A runner of another bundle on the same device and threads."""
        return Runner(bundle, self._device, self._threads)

    def __call__(self, patch: Array) -> Array:
        """Class scores (classes, z, y, x), uint8 or float32, of a normalised float32 patch (z, y, x)."""
        image = np.ascontiguousarray(patch, dtype=np.float32)[None, None]
        return np.asarray(self._session.run(None, {self._input: image})[0][0])
