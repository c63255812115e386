"""The training loop: resumable, logged, the same on CPU and GPU, in float or quantization-aware.

In: a :class:`Schedule`, a cache of cases and a run folder. Out: ``checkpoint.pt`` (everything needed to go on),
``weights.safetensors`` (averaged weights by nnU-Net's names) and the log (:mod:`ToothTopoSegLib.training.log`) in that
folder. The last part of a training in float runs with the norm statistics frozen, because that is what folding them
into the convolutions freezes too. A quantization-aware training starts from weights of such a one and learns what the
integer graph computes, see :mod:`ToothTopoSegLib.quantization.fake_quant`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.errors import UsageError
from ToothTopoSegLib.progress import Progress, silent
from ToothTopoSegLib.quantization.config import QuantConfig
from ToothTopoSegLib.training.cases import FIRST_CRANIUM, FIRST_HARD, FIRST_PLAIN, load_case
from ToothTopoSegLib.training.log import TrainingLog
from ToothTopoSegLib.training.losses.objective import Objective, ObjectiveTerms
from ToothTopoSegLib.training.network import Plan, build_network
from ToothTopoSegLib.training.sampling import HARD_SHARE, draw_sample
from ToothTopoSegLib.training.surface_samples import core_and_border, draw_surface_sample

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

Weights = Mapping[str, NDArray[Any]]
HARDER_SHARE = 0.8
"""Share of scanners that are hard where the head is hard too."""
LOG_EVERY = 25
"""Steps from one row of the log to the next."""
CALIBRATION_PATCHES, CALIBRATION_SEED = 24, 2_000_000


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to learn.

    Heads and scanners are drawn as ``setting`` says, one of :data:`ToothTopoSegLib.phantom.acquisition.SETTINGS`. A
    step learns from ``batch`` samples. The rate falls in each of ``cycles`` anew (SGDR, Loshchilov and Hutter, ICLR
    2017), so that a training that has ended can be made longer. ``frozen_from`` is the step from which norm statistics
    stay fixed. Until ``coarse_until`` patches of ``coarse_patch`` voxels at ``coarse_spacing`` mm show the whole
    dentition at half the cost: numbers are learnt there. ``average`` is the decay of the moving average of weights.

    ``target`` is what is learnt: the "teeth" by their numbers, or their "surfaces" around one tooth at a time. Of the
    samples ``hard_share`` are of hard plain heads, of which there are ``hard_cases``, and of the others ``plain_share``
    of plain heads of any kind, of which there are ``plain_cases``, whatever the setting. Heads of each kind are counted
    from ``first_case`` on, so that a training that goes on may see others than the one before. With ``fine_cases`` they
    are kept in smaller voxels, see :data:`ToothTopoSegLib.training.cases.FINE`.

    With ``quantization`` the training is quantization-aware: ranges are observed on :func:`calibration_patches` before
    the first step and on every step until ``ranges_frozen_from``. ``grid`` and ``kurtosis`` are the weights of the
    terms of the quantization regulariser, ``objective`` says what else is minimised.
    """

    plan: Plan = field(default_factory=Plan)
    setting: str = "plain"
    steps: int = 5300
    cycles: int = 1
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
    objective: Objective = field(default_factory=Objective)
    quantization: QuantConfig | None = None
    ranges_frozen_from: int = 0
    grid: float = 0.0
    kurtosis: float = 0.0
    target: str = "teeth"
    plain_share: float = 0.0
    plain_cases: int = 0
    first_case: int = 0
    hard_share: float = 0.0
    hard_cases: int = 0
    fine_cases: bool = False

    def case_number(self, step: int, rng: np.random.Generator) -> int:
        """The case a step draws: a head with jaws or, later in the training, at times a piece of head without."""
        if self.crania and step >= self.cranium_from and rng.random() < self.cranium_share:
            return FIRST_CRANIUM + int(rng.integers(self.crania))
        if self.hard_cases and rng.random() < self.hard_share:
            return FIRST_HARD + self.first_case + int(rng.integers(self.hard_cases))
        if self.plain_cases and rng.random() < self.plain_share:
            return FIRST_PLAIN + self.first_case + int(rng.integers(self.plain_cases))
        return self.first_case + int(rng.integers(self.cases))

    @property
    def of_surfaces(self) -> bool:
        """Whether core and border of teeth are learnt instead of their numbers."""
        return self.target == "surfaces"

    def learnt(self, classes: Tensor) -> Tensor:
        """What the network is to say of class indices (b, z, y, x) of samples."""
        return core_and_border(classes) if self.of_surfaces else classes

    @property
    def natural(self) -> bool:
        """Whether the cases are natural heads."""
        return self.setting != "plain"

    @property
    def case_numbers(self) -> list[int]:
        """All cases the training draws from."""
        crania = range(FIRST_CRANIUM, FIRST_CRANIUM + self.crania)
        kinds = ((0, self.cases), (FIRST_PLAIN, self.plain_cases), (FIRST_HARD, self.hard_cases))
        natural, plain, hard = (range(k + self.first_case, k + self.first_case + n) for k, n in kinds)
        return [*natural, *crania, *plain, *hard]

    def load(self, folder: Path, number: int) -> NDArray[Any]:
        """Case ``number`` of those cached in ``folder``, as ``load_case``."""
        return load_case(folder, number, self.fine_cases)

    def draw(
        self, case: Any, number: int, rng: np.random.Generator, view: tuple[tuple[int, int, int], float]
    ) -> tuple[Tensor, Tensor]:
        """A sample of case ``number``: image (z, y, x) and class indices (z, y, x), see ``draw_sample``."""
        sample = draw_surface_sample if self.of_surfaces else draw_sample
        setting = "plain" if number >= FIRST_PLAIN else self.setting
        return sample(case, rng, *view, setting, hard=HARDER_SHARE if number >= FIRST_HARD else HARD_SHARE)

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
    """Linear warm-up, then half a cosine to 1 % of the peak, in each cycle."""
    cycle = max(1, schedule.steps // schedule.cycles)
    if step < cycle * schedule.cycles:
        step %= cycle
    if step < schedule.warmup:
        return schedule.rate * (step + 1) / schedule.warmup
    part = (step - schedule.warmup) / max(1, cycle - schedule.warmup)
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
        number = self.schedule.case_number(step, rng)
        image, classes = self.schedule.draw(self.case(number), number, rng, self.schedule.view(step))
        return image[None], classes

    def case(self, number: int) -> Any:
        """Case ``number`` where samples are made of it: in the cache's file, or on a GPU, where it stays."""
        import torch

        if self.device == "cpu":
            return self.schedule.load(self.folder, number)
        if number not in self.kept:
            self.kept[number] = torch.from_numpy(np.array(self.schedule.load(self.folder, number))).to(self.device)
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


def _freeze(network: nn.Module, schedule: Schedule, step: int) -> None:
    """From their steps on, let norms use their running statistics and quantizers their ranges without changing them."""
    from torch import nn

    from ToothTopoSegLib.quantization.fake_quant import QatNetwork

    if isinstance(network, QatNetwork):
        if step >= schedule.ranges_frozen_from:
            network.freeze_ranges()
    elif step >= schedule.frozen_from:
        for module in network.modules():
            if isinstance(module, nn.BatchNorm3d):
                module.eval()


def _new_state(schedule: Schedule, device: str, start: Weights | None, cases: Path | None) -> State:
    import copy

    import torch

    torch.manual_seed(schedule.seed)
    network = _float_network(schedule, start) if schedule.quantization is None else _qat(schedule, start, cases)
    network = network.to(device=device, memory_format=torch.channels_last_3d)
    weights, decay = network.parameters(), schedule.weight_decay
    optimiser = torch.optim.AdamW(weights, lr=schedule.rate, weight_decay=decay, fused=True)
    return State(network, copy.deepcopy(network).eval(), optimiser)


def _float_network(schedule: Schedule, start: Weights | None) -> nn.Module:
    """The network of a schedule with random weights or those it starts from; RuntimeError where they do not fit."""
    import torch
    from torch import nn

    network = build_network(schedule.plan)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.momentum = 0.03
    if start is not None:
        known = unaliased(network.state_dict())
        if known.keys() != start.keys():
            odd = sorted(known.keys() ^ start.keys())[0]
            raise RuntimeError(f"The weights to start from are of another network ({odd} is in one of them alone).")
        network.load_state_dict({k: torch.from_numpy(np.array(v)) for k, v in start.items()}, strict=False)
    return network


def _qat(schedule: Schedule, start: Weights | None, cases: Path | None) -> nn.Module:
    """The network of a schedule in fake quantization, its ranges observed on samples of its cases."""
    from ToothTopoSegLib.quantization.fake_quant import quantized_network

    if start is None or cases is None or schedule.quantization is None:
        raise UsageError("Quantization-aware training starts from trained weights, but none were given; name a model.")
    return quantized_network(start, schedule.plan, schedule.quantization, calibration_patches(schedule, cases))


def calibration_patches(schedule: Schedule, cases: Path, progress: Progress = silent) -> Iterator[NDArray[np.float32]]:
    """Patches (1, 1, z, y, x) of heads with jaws, as large as the plan's, on which ranges of activations are observed.

    They are the same before quantization-aware training and for post-training quantization: on smaller patches the
    deepest ranges come out half as wide, and the network clips what it knows teeth by. Raises FileNotFoundError when a
    case is not in the folder ``cases``.
    """
    view = (schedule.plan.patch, schedule.plan.spacing)
    # of five patches two are of plain heads and one of a hard one where there are such
    kinds = ((FIRST_PLAIN, schedule.plain_cases),) * 2 + ((FIRST_HARD, schedule.hard_cases),) + ((0, 0),) * 2
    for i in range(CALIBRATION_PATCHES):
        progress(i / CALIBRATION_PATCHES, "calibrating activations")
        first, count = kinds[i % 5]
        number = schedule.first_case + (first + i % count if count else i % schedule.cases)
        image, _ = schedule.draw(
            schedule.load(cases, number), number, np.random.default_rng(CALIBRATION_SEED + i), view
        )
        yield image[None, None].numpy()


def named_weights(network: nn.Module, plan: Plan) -> dict[str, Tensor]:
    """The weights of a network by nnU-Net's names, also of one in fake quantization."""
    import torch

    from ToothTopoSegLib.quantization.fake_quant import QatNetwork
    from ToothTopoSegLib.quantization.fold import unfold

    if not isinstance(network, QatNetwork):
        return {k: v.contiguous() for k, v in unaliased(network.state_dict()).items()}
    unfolded = unfold(network.exported().graph, network.exported_heads(), plan)
    return {k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in unfolded.items()}


def follow(average: nn.Module, network: nn.Module, decay: float) -> None:
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
    save_file(named_weights(state.average, schedule.plan), folder / "weights.part")
    (folder / "weights.part").replace(folder / "weights.safetensors")


def unaliased(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict without nnU-Net's aliases (``all_modules``, ``decoder.encoder``) and counters."""
    skip = ("all_modules", "decoder.encoder.", "num_batches_tracked")
    return {k: v for k, v in weights.items() if not any(s in k for s in skip)}


def load_state(
    schedule: Schedule, folder: Path, device: str, start: Weights | None = None, cases: Path | None = None
) -> State:
    """The state a run folder holds, or a new one, with random weights or those to ``start`` from.

    Raises RuntimeError when checkpoint or weights are of another plan, UsageError when a quantization-aware schedule is
    to begin without weights and ``cases`` to observe.
    """
    import torch

    state = _new_state(schedule, device, start, cases)
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
            image, classes = schedule.draw(schedule.load(folder, number), number, rng, view)
            scores = network(image[None, None].to(device))
            found = (scores[0] if isinstance(scores, list | tuple) else scores)[0].argmax(0).cpu().numpy()
            classes = schedule.learnt(classes[None])[0].numpy()
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


def run_training(
    schedule: Schedule,
    folder: Path,
    cases: Path,
    device: str = "cpu",
    workers: int = 1,
    held_out: range = range(0),
    progress: Progress = silent,
    start: Weights | None = None,
) -> dict[str, Any]:
    """Train until ``schedule.steps``, going on from what ``folder`` holds; returns the last measures.

    ``cases`` is the folder of cached cases, ``held_out`` the numbers of those that only :func:`validate` sees and
    ``start`` the weights (by nnU-Net's names) that a new run begins with. ``progress`` may cancel: the training then
    goes on from its last checkpoint. Raises FileNotFoundError when a case is not in the cache, and what
    :func:`load_state` raises.
    """
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    state = load_state(schedule, folder, device, start, cases)
    log = TrainingLog(folder, state.step)
    losses: list[Tensor] = []
    measures: dict[str, Any] = {}
    began, before = time.monotonic(), state.seconds
    for image, classes in _batches(_Samples(schedule, cases, state.step, device), workers):
        terms = _learn(state, schedule, image.to(device, memory_format=torch.channels_last_3d), classes.to(device))
        losses.append(terms.total.detach())  # reading it here would make a GPU wait
        state.seconds = before + time.monotonic() - began
        if state.step % LOG_EVERY == 0 or state.step == schedule.steps:
            if len(held_out) and (state.step % schedule.check_every == 0 or state.step == schedule.steps):
                measures = validate(state.average, schedule, cases, held_out, device, schedule.view(state.step - 1))
            loss = float(torch.stack(losses).mean())
            values = {**terms.row(), **measures}
            log.add(state.step, learning_rate(schedule, state.step - 1), loss, state.seconds, values)
            progress(state.step / schedule.steps, f"step {state.step}: loss {loss:.3f}")
            losses, measures = [], {} if state.step < schedule.steps else measures
        if state.step % schedule.save_every == 0 or state.step == schedule.steps:
            save_state(state, schedule, folder)
    log.close()
    return {"steps": state.step, "seconds": state.seconds, **measures, "schedule": asdict(schedule)}


def _learn(state: State, schedule: Schedule, image: Tensor, classes: Tensor) -> ObjectiveTerms:
    """One step: the network changes, its average follows."""
    import torch

    state.network.train()
    _freeze(state.network, schedule, state.step)
    for group in state.optimiser.param_groups:
        group["lr"] = learning_rate(schedule, state.step)
    with torch.autocast(image.device.type, torch.bfloat16, enabled=bfloat16_pays(image.device.type)):
        outputs = state.network(image)
    regulariser = _regulariser(state.network, schedule)
    teeth = classes if schedule.of_surfaces else None
    numbering = schedule.numbering_weight(state.step)
    terms = schedule.objective(outputs, schedule.learnt(classes), state.step, numbering, regulariser, teeth)
    state.optimiser.zero_grad(set_to_none=True)
    terms.total.backward()
    torch.nn.utils.clip_grad_norm_(state.network.parameters(), 12.0)
    state.optimiser.step()
    # Early on the average must not drag the random initial weights along.
    follow(state.average, state.network, min(schedule.average, state.step / (state.step + 50)))
    state.step += 1
    return terms


@cache
def bfloat16_pays(device: str) -> bool:
    """Whether half precision is faster: on a GPU, and on processors that multiply it (2.7 to 3 times, measured with
    AVX512-BF16 of a Zen 5 and with AMX)."""
    import torch

    can = torch.cpu.get_capabilities()
    used = torch.backends.cpu.get_cpu_capability() == "AVX512"  # ATEN_CPU_CAPABILITY=avx2 keeps a training in float32
    return device != "cpu" or (used and bool(can.get("amx_bf16") or can.get("avx512_bf16")))


def _regulariser(network: nn.Module, schedule: Schedule) -> Callable[[], Tensor] | None:
    """The quantization regulariser of a network in fake quantization, if it has any weight."""
    from ToothTopoSegLib.quantization.fake_quant import QatNetwork
    from ToothTopoSegLib.quantization.regulariser import QuantRegulariser

    if not isinstance(network, QatNetwork) or not (schedule.grid or schedule.kurtosis):
        return None
    terms = QuantRegulariser(schedule.grid, schedule.kurtosis)
    return lambda: terms(network.weights_in_steps())
