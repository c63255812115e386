"""The recipes: named schedules, and the one command that makes a model from nothing.

``train`` renders the cases it needs (cached, in parallel), then learns in float and, where the recipe says so, goes on
in fake quantization with the topological loss; started again on the same folder it goes on where it stopped.
``bundled`` is the recipe from which the model in ``Resources/Models`` began, made for a few processor cores, and
``natural`` what it went on with; ``gpu`` learns from ten times as many samples of natural heads on a finer grid;
``surface`` is the recipe of the second network of the bundled model; ``natural-whole`` and ``surface-whole`` go on from
either, the first with scans of quadrants among its samples; ``surface-settled`` is how the second network went on from
there, its norm statistics fixed from the start, and ``natural-settled`` the same for the first one, on heads it has not
seen; ``natural-hard``, with crowded and metal-filled heads for half of its samples, went on from the mean of that and
what it began with, and ``natural-mixed``, with as many natural heads as hard ones, from there; ``natural-more`` goes on
from that on heads that no training has seen; ``surface-hard`` goes on with the second network on heads half of which
are hard, ``surface-mixed`` on new heads, as many natural as hard ones, and ``surface-fine`` on heads kept in voxels of
0.3 mm; ``tiny`` proves the machinery.
"""

from __future__ import annotations

import contextlib
import json
import os
from concurrent.futures import as_completed
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ToothTopoSegLib.errors import ModelError, UsageError
from ToothTopoSegLib.processes import one_thread_each
from ToothTopoSegLib.progress import Progress, part, silent
from ToothTopoSegLib.quantization.config import QuantConfig
from ToothTopoSegLib.quantization.export import INTEGERS, float_weights_path
from ToothTopoSegLib.quantization.fold import read_weights
from ToothTopoSegLib.training.cases import cache_case, case_path
from ToothTopoSegLib.training.loop import Schedule, run_training
from ToothTopoSegLib.training.losses.objective import Objective
from ToothTopoSegLib.training.losses.topology import TopologyConfig
from ToothTopoSegLib.training.network import Plan

HELD_OUT = range(900, 912)


@dataclass(frozen=True)
class Recipe:
    """A training in float and, if any, the one in fake quantization that starts from its weights."""

    schedule: Schedule
    integers: Schedule | None = None
    goes_on: bool = False
    """Whether it needs trained weights to begin with."""


def in_integers(schedule: Schedule, steps: int, rate: float, topology: float = 0.15) -> Schedule:
    """The schedule that goes on from weights of ``schedule``: quantized, with the terms of topology so heavy."""
    return replace(
        schedule,
        steps=steps,
        rate=rate,
        warmup=max(1, steps // 20),
        coarse_until=steps if schedule.coarse_until == schedule.steps else 0,
        numbering_from=0,
        cranium_from=0,
        frozen_from=0,
        objective=Objective(topology=TopologyConfig(topology, topology, topology, ramp_steps=steps // 5)),
        average=0.99,
        seed=schedule.seed + 1,
        quantization=QuantConfig(),
    )


_GPU = Schedule(
    plan=Plan(patch=(64, 96, 96), spacing=0.8),
    setting="natural",
    steps=12000,
    batch=8,
    warmup=200,
    frozen_from=9000,
    rate=2.5e-3,
    average=0.998,
    cases=300,
    cranium_from=1000,
    save_every=500,
    check_every=500,
    coarse_until=800,
    numbering_from=100,
)
_SURFACE = Schedule(
    plan=Plan((64, 80, 80), 0.5, features=(16, 32, 64, 96), convs=(1, 2, 2, 2), convs_decoder=(1, 1, 1), classes=3),
    setting="natural",
    target="surfaces",
    steps=5000,
    warmup=50,
    frozen_from=3750,
    rate=1e-3,
    cases=240,
    crania=0,
    seed=31,
    plain_share=0.4,
    plain_cases=80,
    coarse_until=5000,
    coarse_patch=(48, 64, 64),
    coarse_spacing=0.5,
    numbering=0.0,
    numbering_from=0,
    cranium_from=0,
)
_SETTLED = replace(
    _SURFACE,
    steps=2700,
    coarse_until=2700,
    frozen_from=0,
    rate=5e-4,
    average=0.998,
    cases=120,
    plain_cases=48,
    seed=53,
)
_NATURAL = Schedule(
    setting="natural",
    steps=2400,
    warmup=50,
    frozen_from=1800,
    rate=8e-4,
    cases=240,
    cranium_share=0.08,
    cranium_from=0,
    seed=31,
    coarse_until=0,
    numbering_from=0,
    plain_share=0.3,
    plain_cases=80,
)
_NATURAL_SETTLED = replace(
    _NATURAL,
    steps=1300,
    frozen_from=0,
    rate=4e-4,
    average=0.998,
    cases=144,
    plain_cases=56,
    plain_share=0.4,
    crania=12,
    first_case=240,
    seed=61,
)
_NATURAL_HARD = replace(_NATURAL_SETTLED, steps=1000, hard_share=0.6, hard_cases=64, plain_share=0.3, seed=67)
_NATURAL_MIXED = replace(_NATURAL_HARD, hard_share=0.4, hard_cases=96, plain_share=0.25, seed=71)
_NATURAL_MORE = replace(_NATURAL_MIXED, first_case=400, hard_cases=240, plain_cases=40, seed=79)
_SURFACE_HARD = replace(_SETTLED, steps=1800, coarse_until=1800, hard_share=0.5, hard_cases=96, first_case=240, seed=73)
_SURFACE_MIXED = replace(
    _SURFACE_HARD,
    steps=2700,
    coarse_until=2700,
    hard_share=0.4,
    plain_share=0.2,
    plain_cases=40,
    hard_cases=160,
    first_case=640,
    seed=83,
)
_SURFACE_FINE = replace(
    _SURFACE_MIXED,
    steps=1500,
    coarse_until=1500,
    fine_cases=True,
    cases=30,
    plain_cases=10,
    hard_cases=36,
    first_case=840,
    seed=89,
)
_TINY = Schedule(
    plan=Plan(patch=(16, 32, 32), features=(4, 8, 8), convs=(1, 1, 1), convs_decoder=(1, 1)),
    steps=6,
    warmup=2,
    frozen_from=4,
    cases=2,
    crania=1,
    cranium_from=4,
    save_every=2,
    check_every=3,
    coarse_until=2,
    coarse_patch=(16, 16, 16),
)


def _gone_on_with(schedule: Schedule, steps: int, weight: float) -> Recipe:
    """The schedule for so many more steps from trained weights; ``weight`` is that of :func:`_then_in_integers`."""
    longer = replace(
        schedule,
        steps=steps,
        frozen_from=steps * 3 // 4,
        coarse_until=steps if schedule.coarse_until == schedule.steps else 0,
        seed=schedule.seed + 11,
    )
    return _then_in_integers(longer, weight)


def _then_in_integers(schedule: Schedule, weight: float) -> Recipe:
    """The schedule, which goes on from trained weights, and at the end 100 steps in integers with the topological loss.

    ``weight`` is that of its components, to which the other terms stand as in the experiment.
    """
    topology = TopologyConfig(weight, weight / 2, 2 * weight, persistence_power=0.5)
    integers = replace(in_integers(schedule, 100, 1e-5), objective=Objective(topology=topology))
    return Recipe(schedule, integers, goes_on=True)


RECIPES = {
    "bundled": Recipe(Schedule()),
    "natural": Recipe(_NATURAL, in_integers(_NATURAL, 260, 5e-5)),
    "natural-whole": _gone_on_with(_NATURAL, 3400, 0.5),
    "surface": Recipe(_SURFACE, in_integers(_SURFACE, 500, 1e-4)),
    "surface-whole": _gone_on_with(_SURFACE, 6400, 0.1),
    "natural-settled": _then_in_integers(_NATURAL_SETTLED, 0.5),
    "natural-hard": _then_in_integers(_NATURAL_HARD, 0.5),
    "natural-mixed": Recipe(_NATURAL_MIXED, goes_on=True),
    "natural-more": Recipe(_NATURAL_MORE, goes_on=True),
    "surface-settled": Recipe(_SETTLED, goes_on=True),
    "surface-hard": Recipe(_SURFACE_HARD, goes_on=True),
    "surface-mixed": Recipe(_SURFACE_MIXED, goes_on=True),
    "surface-fine": Recipe(_SURFACE_FINE, goes_on=True),
    "gpu": Recipe(_GPU, in_integers(_GPU, 1500, 1e-4)),
    "tiny": Recipe(_TINY, in_integers(_TINY, 2, 1e-4)),
}


def _fill(folder: Path, numbers: list[int], progress: Progress, natural: bool = False, fine: bool = False) -> None:
    """Render the cases that the cache lacks on all cores."""
    missing = [n for n in numbers if not case_path(folder, n, fine).exists()]
    if not missing:
        return
    workers = min(len(missing), os.cpu_count() or 1)
    with one_thread_each(workers) as pool:
        jobs = [pool.submit(cache_case, folder, n, natural, fine) for n in missing]
        try:
            for done, job in enumerate(as_completed(jobs), 1):
                job.result()
                progress(done / len(missing), f"rendering training head {done} of {len(missing)}")
        except BaseException:
            # Leaving the pool waits for all heads that are queued, which can take minutes after a cancellation.
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def device_of(device: str) -> str:
    """What "auto", "cpu" or "cuda" means on this machine; UsageError where there is no such device."""
    import torch

    if device not in ("auto", "cpu", "cuda"):
        raise UsageError(f"There is no device {device!r}; use auto, cpu or cuda.")
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("No CUDA device can be used by the installed torch; use --device cpu or auto.")
    return device


def keep_memory() -> None:
    """Let glibc keep freed memory: a step frees gigabytes, and having the kernel clear them anew took a fifth of it."""
    import ctypes

    with contextlib.suppress(OSError, AttributeError, TypeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(-4, 0)  # M_MMAP_MAX: large blocks come from the heap as well
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: the heap is not given back


def train(
    run_folder: Path,
    config_name: str = "bundled",
    device: str = "auto",
    begin_with: Path | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Train the recipe ``config_name`` in ``run_folder``, resuming what is there; returns the last measures.

    A new run begins with the float weights of the bundle ``begin_with``, else with random ones. Raises UsageError for
    an unknown recipe, a missing device, or a folder that holds another recipe's run, ModelError for a bundle without
    float weights, RuntimeError for one of another network.
    """
    if config_name not in RECIPES:
        raise UsageError(f"There is no recipe {config_name!r}; choose one of {', '.join(RECIPES)}.")
    recipe, device = RECIPES[config_name], device_of(device)
    if recipe.goes_on and begin_with is None and not (run_folder / "schedule.json").exists():
        raise UsageError(f"The recipe {config_name} goes on from a trained model; name one with --begin-with.")
    weights = None if begin_with is None else _weights_of(begin_with)
    keep_memory()
    _claim(run_folder, config_name, recipe.schedule)
    cases = run_folder / "cases"
    held_out = range(900, 901) if config_name == "tiny" else HELD_OUT
    schedule, wanted = recipe.schedule, [*recipe.schedule.case_numbers, *held_out]
    _fill(cases, wanted, part(progress, 0.0, 0.05), schedule.natural, schedule.fine_cases)
    workers = 1 if (os.cpu_count() or 1) < 8 else 8
    end = 1.0 if recipe.integers is None else 0.85
    heard = part(progress, 0.05, end)
    measures = run_training(recipe.schedule, run_folder, cases, device, workers, held_out, heard, weights)
    if recipe.integers is None:
        return measures
    folder, start = run_folder / INTEGERS, read_weights(run_folder / "weights.safetensors")
    _claim(folder, config_name, recipe.integers)
    return run_training(recipe.integers, folder, cases, device, workers, held_out, part(progress, end, 1.0), start)


def _weights_of(bundle: Path) -> dict[str, Any]:
    path = float_weights_path(bundle)
    if not path.is_file():
        raise ModelError(f"The model {bundle.name} has no float weights beside it; copy the whole bundle.")
    return read_weights(path)


def _claim(folder: Path, name: str, schedule: Schedule) -> None:
    """Note whose run a folder is; UsageError where it is another's."""
    folder.mkdir(parents=True, exist_ok=True)
    note = folder / "schedule.json"
    text = json.dumps({"recipe": name, **asdict(schedule)}, indent=2) + "\n"
    if note.exists() and note.read_text(encoding="utf-8") != text:
        raise UsageError(f"The folder {folder} holds the run of another recipe; choose a new folder.")
    note.write_text(text, encoding="utf-8")
