"""The network as a function: a patch in, class scores out, through ONNX Runtime."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.errors import ModelError, UsageError
from ToothTopoSegLib.quantization.bundle import Bundle
from ToothTopoSegLib.quantization.rewrite import rewritten
from ToothTopoSegLib.segmentation.device import CPU, SLOWER, Attempt, attempts

Array = NDArray[Any]


class Runner:
    """Runs a bundle's network on patches (z, y, x); keeps one ONNX Runtime session.

    ``device`` is auto, cpu or cuda (see :mod:`ToothTopoSegLib.segmentation.device`); ``threads`` processor threads, by
    default all. ``classes`` is how many scores a voxel gets, ``score_scale`` what one unit of them is worth, ``note`` a
    sentence on why a GPU is not used that seemed to be there, or empty. Raises UsageError for another device, one that
    is not there, or fewer than one thread, ModelError when ONNX Runtime cannot load the model or it does not take and
    give what its card says.
    """

    def __init__(self, bundle: Bundle, device: str = "cpu", threads: int | None = None) -> None:
        if threads is not None and threads < 1:
            raise UsageError(f"{threads} threads were asked for, but at least 1 is needed; leave it out to use all.")
        self._device, self._threads = device, threads
        ways, self.note = attempts(bundle, device)
        for attempt in ways:
            try:
                self._start(attempt)
            except ModelError as error:
                if attempt is ways[-1]:
                    raise
                self.note = f"The GPU did not start ({_brief(error.__cause__)}), {SLOWER}."
            else:
                break

    def _start(self, attempt: Attempt) -> None:
        """Load the graph; ModelError when its first provider does not run it or it is not what its card says."""
        import onnxruntime

        bundle = attempt.bundle
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = self._threads or os.cpu_count() or 1
        try:
            # The forms of the integer graph are chosen for processors.
            model = rewritten(bundle.model) if attempt.providers == (CPU,) else bundle.model
            self._session = onnxruntime.InferenceSession(model, options, providers=list(attempt.providers))
            # ONNX Runtime goes on without a provider that cannot load its libraries.
            if attempt.providers[0] not in self._session.get_providers():
                raise RuntimeError("ONNX Runtime cannot load CUDA's libraries")
        except Exception as error:  # onnxruntime has no common base for what it raises
            raise ModelError(
                f"ONNX Runtime cannot load the model {bundle.path.name} ({_brief(error)}); update onnxruntime or give "
                "another."
            ) from error
        images, scores = self._session.get_inputs(), self._session.get_outputs()
        if len(images) != 1 or images[0].shape != [1, 1, *bundle.patch] or len(scores[0].shape) != 5:
            raise ModelError(
                f"The model {bundle.path.name} takes no patches of the size on its card; copy model and card again."
            )
        self._input = images[0].name
        self.classes = int(scores[0].shape[1])
        self.score_scale = bundle.score_scale
        self.affines = bundle.affines

    def beside(self, bundle: Bundle) -> Runner:
        """A runner of another bundle on the same device and threads."""
        return Runner(bundle, self._device, self._threads)

    def __call__(self, patch: Array) -> Array:
        """Class scores (classes, z, y, x), uint8 or float32, of a normalised float32 patch (z, y, x)."""
        return self._run(patch)[0]

    def real_scores(self, patch: Array) -> NDArray[np.float32]:
        """Class scores in real numbers, the mean over the networks of a model that has several."""
        outputs = self._run(patch)
        total = np.zeros(outputs[0].shape, np.float32)
        for scores, (scale, zero_point) in zip(outputs, self.affines, strict=True):
            total += np.float32(scale) * (scores.astype(np.float32, copy=False) - np.float32(zero_point))
        return total / np.float32(len(outputs))

    def _run(self, patch: Array) -> list[Array]:
        image = np.ascontiguousarray(patch, dtype=np.float32)[None, None]
        return [np.asarray(scores[0]) for scores in self._session.run(None, {self._input: image})]


def _brief(error: BaseException | None) -> str:
    return str(error).strip().partition("\n")[0]
