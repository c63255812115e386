"""Which device runs a network, and with which graph: the integer one on a processor, its float16 twin on a GPU.

In: a bundle and what was asked for. Out: the ONNX graphs and providers of ONNX Runtime to try, best first. ONNX
Runtime has kernels for the integer graph on the CPU only; on a CUDA device the same weights run in half precision, from
the file for fine-tuning that lies beside the bundle. That way was tested for its choice and, on the CPU, for its
labels; it has not run on a real GPU.
"""

from __future__ import annotations

from dataclasses import dataclass

from ToothTopoSegLib.errors import ModelError, UsageError
from ToothTopoSegLib.quantization.bundle import Bundle
from ToothTopoSegLib.quantization.half import half_bundle

DEVICES = ("auto", "cpu", "cuda")
CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
SLOWER = "so the processor is used, which gives the same teeth more slowly"


@dataclass(frozen=True, eq=False)
class Attempt:
    """One way to run a network: a bundle and ONNX Runtime's providers for its graph, the wanted one first."""

    bundle: Bundle
    providers: tuple[str, ...]


def attempts(bundle: Bundle, device: str) -> tuple[list[Attempt], str]:
    """The ways to run ``bundle`` on ``device`` (auto, cpu or cuda), best first, and a sentence on what is amiss.

    "auto" means a CUDA device where ONNX Runtime knows one, else the processor; "cuda" nothing but that. Raises
    UsageError for another device or where "cuda" is not to be had, ModelError where the float weights that it needs
    cannot be read.
    """
    import onnxruntime

    if device not in DEVICES:
        raise UsageError(f"The device {device!r} is unknown; use auto, cpu or cuda.")
    processor = Attempt(bundle, (CPU,))
    there = CUDA in onnxruntime.get_available_providers()
    if device == "cuda" and not there:
        raise UsageError("No CUDA device can be used by the installed onnxruntime; choose the device cpu or auto.")
    if device == "cpu" or not there:
        return [processor], ""
    try:
        gpu = Attempt(bundle if bundle.is_nnunet else half_bundle(bundle), (CUDA, CPU))
    except (ModelError, ImportError) as error:
        if device == "cuda":
            raise ModelError(f"The GPU cannot be used: {_reason(error)}") from error
        return [processor], f"The GPU cannot be used ({_reason(error)}), {SLOWER}."
    return ([gpu], "") if device == "cuda" else ([gpu, processor], "")


def _reason(error: Exception) -> str:
    if isinstance(error, ImportError):
        return f"the package {error.name} is not installed"
    return str(error).rstrip(".")
