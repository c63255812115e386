"""The training loop: resumable, logged, the same on CPU and GPU.

In: a :class:`Schedule`, a cache of cases and a run folder. Out: ``checkpoint.pt`` (everything needed to go on),
``weights.safetensors`` (averaged weights) and ``log.csv`` in that folder. The last part of a training runs with the
norm statistics frozen, because that is what folding them into the convolutions freezes too.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.progress import Progress, silent
from ToothTopoSegLib.training.cases import FIRST_CRANIUM, load_case
from ToothTopoSegLib.training.network import Plan, build_network
from ToothTopoSegLib.training.sampling import draw_sample

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to learn.

    A step learns from ``batch`` samples. ``frozen_from`` is the step from which norm statistics stay fixed. Until
    ``coarse_until`` patches of ``coarse_patch`` voxels at ``coarse_spacing`` mm show the whole dentition at half the
    cost: numbers are learnt there. ``average`` is the decay of the moving average of weights.
    """

    plan: Plan = field(default_factory=Plan)
    steps: int = 5300
    batch: int = 2
    warmup: int = 100
    frozen_from: int = 1950
    rate: float = 2e-3
    weight_decay: float = 1e-2
    average: float = 0.997
    cases: int = 150
    crania: int = 24
    cranium_share: float = 0.15
    cranium_from: int = 1300
    seed: int = 7
    save_every: int = 100
    check_every: int = 250
    coarse_until: int = 1300
    coarse_patch: tuple[int, int, int] = (48, 64, 64)
    coarse_spacing: float = 1.25
    numbering: float = 0.5
    numbering_from: int = 400

    def case_number(self, step: int, rng: np.random.Generator) -> int:
        """The case a step draws: a head with jaws or, later in the training, at times a piece of head without."""
        if step >= self.cranium_from and rng.random() < self.cranium_share:
            return FIRST_CRANIUM + int(rng.integers(self.crania))
        return int(rng.integers(self.cases))

    @property
    def case_numbers(self) -> list[int]:
        """All cases the training draws from."""
        return [*range(self.cases), *range(FIRST_CRANIUM, FIRST_CRANIUM + self.crania)]

    def numbering_weight(self, step: int) -> float:
        """Weight of the numbering term at a step: nothing until teeth are found at all."""
        return self.numbering if step >= self.numbering_from else 0.0

    def view(self, step: int) -> tuple[tuple[int, int, int], float]:
        """Patch (z, y, x) and spacing in mm at a step."""
        if step < self.coarse_until:
            return self.coarse_patch, self.coarse_spacing
        return self.plan.patch, self.plan.spacing


@dataclass
class State:
    """Everything a training carries from step to step."""

    network: nn.Module
    average: nn.Module
    optimiser: torch.optim.Optimizer
    step: int = 0
    seconds: float = 0.0


def learning_rate(schedule: Schedule, step: int) -> float:
    """Linear warm-up, then half a cosine to 1 % of the peak."""
    if step < schedule.warmup:
        return schedule.rate * (step + 1) / schedule.warmup
    part = (step - schedule.warmup) / max(1, schedule.steps - schedule.warmup)
    return schedule.rate * (0.01 + 0.99 * 0.5 * (1 + float(np.cos(np.pi * min(part, 1.0)))))


@dataclass(frozen=True)
class _Samples:
    """The samples from step ``start`` on; each step's samples depend on seed and step alone."""

    schedule: Schedule
    folder: Path
    start: int
    device: str = "cpu"
    kept: dict[int, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return max(0, self.schedule.steps - self.start) * self.schedule.batch

    def __getitem__(self, item: int) -> tuple[Tensor, Tensor]:
        step, place = self.start + item // self.schedule.batch, item % self.schedule.batch
        rng = np.random.default_rng([self.schedule.seed, step, place])
        case = self.case(self.schedule.case_number(step, rng))
        image, classes = draw_sample(case, rng, *self.schedule.view(step))
        return image[None], classes

    def case(self, number: int) -> Any:
        """Case ``number`` where samples are made of it: in the cache's file, or on a GPU, where it stays."""
        import torch

        if self.device == "cpu":
            return load_case(self.folder, number)
        if number not in self.kept:
            self.kept[number] = torch.from_numpy(np.array(load_case(self.folder, number))).to(self.device)
        return self.kept[number]


def _batches(samples: _Samples, workers: int) -> Iterable[tuple[Tensor, Tensor]]:
    """Samples in batches: on a GPU drawn there, on the CPU ahead by ``workers`` processes."""
    import torch
    from torch.utils.data import DataLoader

    batch = samples.schedule.batch
    if samples.device == "cpu":
        return DataLoader(samples, batch, shuffle=False, num_workers=workers, prefetch_factor=4 if workers else None)
    firsts = range(0, len(samples), batch)
    drawn = ([samples[first + i] for i in range(batch)] for first in firsts)
    return ((torch.stack([image for image, _ in d]), torch.stack([classes for _, classes in d])) for d in drawn)


def _freeze_norm(network: nn.Module) -> None:
    """Let norm layers use their running statistics from now on without changing them."""
    from torch import nn

    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.eval()


def _new_state(schedule: Schedule, device: str) -> State:
    import copy

    import torch
    from torch import nn

    torch.manual_seed(schedule.seed)
    network = build_network(schedule.plan).to(device=device, memory_format=torch.channels_last_3d)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.momentum = 0.03
    weights, decay = network.parameters(), schedule.weight_decay
    optimiser = torch.optim.AdamW(weights, lr=schedule.rate, weight_decay=decay, fused=True)
    return State(network, copy.deepcopy(network).eval(), optimiser)


def _follow(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Exponential moving average of weights; norm statistics are averages already and are copied."""
    import torch

    with torch.no_grad():
        torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), 1 - decay)
        for slow, fast in zip(average.buffers(), network.buffers(), strict=True):
            slow.copy_(fast)


def save_state(state: State, schedule: Schedule, folder: Path) -> None:
    """Write checkpoint and averaged weights, each to a temporary name first."""
    import torch
    from safetensors.torch import save_file

    content: dict[str, Any] = {
        "network": state.network.state_dict(),
        "average": state.average.state_dict(),
        "optimiser": state.optimiser.state_dict(),
        "step": state.step,
        "seconds": state.seconds,
    }
    torch.save(content, folder / "checkpoint.part")
    (folder / "checkpoint.part").replace(folder / "checkpoint.pt")
    weights = {k: v.contiguous() for k, v in unaliased(state.average.state_dict()).items()}
    save_file(weights, folder / "weights.part")
    (folder / "weights.part").replace(folder / "weights.safetensors")


def unaliased(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict without nnU-Net's aliases (``all_modules``, ``decoder.encoder``) and counters."""
    skip = ("all_modules", "decoder.encoder.", "num_batches_tracked")
    return {k: v for k, v in weights.items() if not any(s in k for s in skip)}


def load_state(schedule: Schedule, folder: Path, device: str) -> State:
    """The state a run folder holds, or a new one; RuntimeError when the checkpoint is of another plan."""
    import torch

    state = _new_state(schedule, device)
    path = folder / "checkpoint.pt"
    if path.exists():
        content = torch.load(path, map_location=device, weights_only=True)
        state.network.load_state_dict(content["network"])
        state.average.load_state_dict(content["average"])
        state.optimiser.load_state_dict(content["optimiser"])
        state.step, state.seconds = int(content["step"]), float(content["seconds"])
    return state


def validate(
    network: nn.Module,
    schedule: Schedule,
    folder: Path,
    numbers: range,
    device: str,
    view: tuple[tuple[int, int, int], float],
) -> dict[str, float]:
    """Mean Dice per tooth and of teeth together on fixed samples of cases never trained on; NaN without any tooth.

    ``view`` is patch (z, y, x) and spacing in mm. The network is left in evaluation mode.
    """
    import torch

    teeth: list[float] = []
    tooth: list[float] = []
    network.eval()
    with torch.inference_mode():
        for number in numbers:
            rng = np.random.default_rng([schedule.seed, 3 * 10**6 + number])
            image, classes = draw_sample(load_case(folder, number), rng, *view)
            scores = network(image[None, None].to(device))
            found = (scores[0] if isinstance(scores, list | tuple) else scores)[0].argmax(0).cpu().numpy()
            classes = classes.numpy()
            present = [c for c in np.unique(classes) if 1 <= c <= 32 and (classes == c).sum() > 20]
            teeth += [_overlap(found == c, classes == c) for c in present]
            any_tooth = (classes >= 1) & (classes <= 32)
            if any_tooth.any():
                tooth.append(_overlap((found >= 1) & (found <= 32), any_tooth))
    return {"dice_teeth": _mean(teeth), "dice_any_tooth": _mean(tooth)}


def _overlap(found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """Dice of two masks that are not both empty."""
    return float(2 * (found & truth).sum() / (found.sum() + truth.sum()))


def _mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else float("nan")


LOG_COLUMNS = ("step", "rate", "loss", "dice_teeth", "dice_any_tooth", "seconds")


def _rewind_log(folder: Path, step: int) -> None:
    """Forget the rows after ``step``: an interrupted training logs the steps since its last checkpoint once more."""
    path = folder / "log.csv"
    if not path.exists():
        return
    with path.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if int(row["step"]) <= step]
    staged = folder / "log.part"
    with staged.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, LOG_COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(rows)
    staged.replace(path)


def _log(folder: Path, row: dict[str, Any]) -> None:
    path = folder / "log.csv"
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, LOG_COLUMNS, restval="")
        if new:
            writer.writeheader()
        writer.writerow(row)


def run_training(
    schedule: Schedule,
    folder: Path,
    cases: Path,
    device: str = "cpu",
    workers: int = 1,
    held_out: range = range(0),
    progress: Progress = silent,
) -> dict[str, Any]:
    """Train until ``schedule.steps``, going on from what ``folder`` holds; returns the last measures.

    ``cases`` is the folder of cached cases, ``held_out`` the numbers of those that only :func:`validate` sees.
    ``progress`` may cancel: the training then goes on from its last checkpoint. Raises FileNotFoundError when a case
    is not in the cache.
    """
    import torch

    from ToothTopoSegLib.training.losses.overlap import deep_supervision_loss

    folder.mkdir(parents=True, exist_ok=True)
    state = load_state(schedule, folder, device)
    _rewind_log(folder, state.step)
    losses: list[Tensor] = []
    measures: dict[str, Any] = {}
    began, before = time.monotonic(), state.seconds
    for image, classes in _batches(_Samples(schedule, cases, state.step, device), workers):
        state.network.train()
        if state.step >= schedule.frozen_from:
            _freeze_norm(state.network)
        for group in state.optimiser.param_groups:
            group["lr"] = learning_rate(schedule, state.step)
        with torch.autocast(device, torch.bfloat16, enabled=device != "cpu"):
            outputs = state.network(image.to(device, memory_format=torch.channels_last_3d))
        loss = deep_supervision_loss(outputs, classes.to(device), schedule.numbering_weight(state.step))
        state.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(state.network.parameters(), 12.0)
        state.optimiser.step()
        # Early on the average must not drag the random initial weights along.
        _follow(state.average, state.network, min(schedule.average, state.step / (state.step + 50)))
        state.step += 1
        losses.append(loss.detach())  # reading it here would make a GPU wait
        state.seconds = before + time.monotonic() - began
        if state.step % 25 == 0 or state.step == schedule.steps:
            row = {"step": state.step, "rate": f"{learning_rate(schedule, state.step - 1):.2e}"}
            if len(held_out) and (state.step % schedule.check_every == 0 or state.step == schedule.steps):
                measures = validate(state.average, schedule, cases, held_out, device, schedule.view(state.step - 1))
            mean_loss = float(torch.stack(losses).mean())
            row |= {"loss": f"{mean_loss:.4f}", "seconds": f"{state.seconds:.0f}"}
            _log(folder, row | {k: f"{v:.4f}" for k, v in measures.items()})
            progress(state.step / schedule.steps, f"step {state.step}: loss {mean_loss:.3f}")
            losses, measures = [], {} if state.step < schedule.steps else measures
        if state.step % schedule.save_every == 0 or state.step == schedule.steps:
            save_state(state, schedule, folder)
    return {"steps": state.step, "seconds": state.seconds, **measures, "schedule": asdict(schedule)}
