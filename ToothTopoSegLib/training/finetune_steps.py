"""How a model learns from a user's cases: the start, one step, one validation.

A network learns in float first, its norms folded, which takes a fraction of the time, and then in fake quantization
with the topological loss; the ranges of its activations are observed on the user's own scans. What is validated, kept
and handed over is always the integer model itself.
The network that numbers teeth and the one that draws their surfaces learn in the same way, each as its :class:`Task`.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ToothTopoSegLib.errors import ModelError, TrainingError
from ToothTopoSegLib.quantization.config import QuantConfig
from ToothTopoSegLib.training.finetune_card import base_card, compared
from ToothTopoSegLib.training.finetune_run import Best, State
from ToothTopoSegLib.training.loop import bfloat16_pays, follow, named_weights
from ToothTopoSegLib.training.losses.objective import Objective, ObjectiveTerms
from ToothTopoSegLib.training.losses.partial import IGNORED, partly_labelled
from ToothTopoSegLib.training.losses.topology import TopologyConfig
from ToothTopoSegLib.training.network import Plan
from ToothTopoSegLib.training.parallel import Group
from ToothTopoSegLib.training.rehearsal import draw_head_sample
from ToothTopoSegLib.training.surface_samples import core_and_border
from ToothTopoSegLib.training.user_cache import UserSamples, merged_classes
from ToothTopoSegLib.training.user_samples import (
    draw_user_sample,
    draw_user_surface_sample,
    plain_sample,
    plain_surface_sample,
    surface_patch,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ToothTopoSegLib.quantization.bundle import Bundle

CALIBRATION = 12
"""Images on which the ranges of the activations are observed."""
NUMBERING, GRID = 0.5, 0.01
"""Weights of the numbering loss and of the quantization regulariser."""
FLOAT_UNTIL = 0.6
"""Up to which part of the training nothing is rounded: such a step takes a half to a tenth of the time."""
TOPOLOGY_EVERY = 2
"""At every which step in fake quantization the topological terms are looked at: they cost as much as the rest of a step
where everything is still wrong, and mend what overlap alone leaves."""
AVERAGE, WARM = 0.98, 0.03
"""Decay of the moving average of the weights, and the part of a training in which the rate rises."""
VALIDATED = 3
"""Held-out cases, at most, that a validation looks at; all of them are measured in the end."""
POINT_NAMES = {"cross_entropy": "cross-entropy", "class_dice": "Dice", "tooth_dice": "tooth Dice", "total": "loss"}
"""What the terms of the objective are called in a plot, where not by their own names."""
SURFACE = "surface "
"""How the names of the terms begin in a plot that are those of the network that draws surfaces."""


@dataclass(frozen=True, eq=False)
class Task:
    """What is learnt: from which bundle, on which cases, validated on which, and how.

    With ``of_surfaces`` the network draws the surfaces of teeth, else it tells them by their numbers. Of its samples
    ``rehearsal`` (a share) are of the synthetic heads in the folder ``heads``.
    """

    base: Bundle
    name: str
    cases: Mapping[int, UserSamples]
    trained: tuple[int, ...]
    held_out: tuple[int, ...]
    rate: float
    topology: float
    seed: int
    batch: int
    of_surfaces: bool = False
    rehearsal: float = 0.0
    heads: Path = Path()

    @property
    def plan(self) -> Plan:
        """The plan of the network."""
        return Plan.from_dict(self.base.card["plan"])

    @property
    def quantization(self) -> QuantConfig:
        """The quantization of the model to start from."""
        known = {f.name for f in fields(QuantConfig)}
        stated = self.base.card.get("quantization", {})
        return QuantConfig(**{name: value for name, value in stated.items() if name in known})

    def objective(self, part: float) -> Objective:
        """What is minimised at a part (0..1) of the training."""
        weight = 0.0 if in_float(part) else self.topology
        return Objective(topology=TopologyConfig(weight, weight, weight, every=TOPOLOGY_EVERY) if weight else None)

    @property
    def numbering(self) -> float:
        """Weight of the numbering loss."""
        return 0.0 if self.of_surfaces else NUMBERING

    def learnt(self, classes: Tensor) -> Tensor:
        """What the network is to say of the classes (b, z, y, x) of samples; ``IGNORED`` stays."""
        if not self.of_surfaces:
            return classes
        return core_and_border(classes).masked_fill(classes == IGNORED, IGNORED)

    def sample(self, rng: np.random.Generator) -> tuple[Tensor, Tensor, list[int]]:
        """A random sample: image (z, y, x), classes (z, y, x), and the classes of the network that are background."""
        plan = self.plan
        if self.rehearsal and rng.random() < self.rehearsal:
            patch = surface_patch(plan.patch) if self.of_surfaces else plan.patch
            return *draw_head_sample(self.heads, rng, patch, plan.spacing, self.of_surfaces), []
        case = self.cases[self.trained[int(rng.integers(len(self.trained)))]]
        draw = draw_user_surface_sample if self.of_surfaces else draw_user_sample
        return *draw(case, rng, plan.patch, plan.spacing), self.merged(case)

    def merged(self, case: UserSamples) -> list[int]:
        """The classes of the network that count as background in a case."""
        return [] if self.of_surfaces else merged_classes(case.jaws)


def in_float(part: float) -> bool:
    """Whether nothing is rounded yet at a part (0..1) of the training."""
    return part < FLOAT_UNTIL


def starting_state(task: Task, weights: Mapping[str, Any], device: str) -> State:
    """The state before the first step, from float weights by nnU-Net's names.

    Raises ModelError where the weights are not those of the card's plan.
    """
    import torch

    from ToothTopoSegLib.quantization.fake_quant import quantized_network

    torch.manual_seed(task.seed)
    try:
        network = quantized_network(weights, task.plan, task.quantization, _calibration(task))
    except KeyError as error:
        raise ModelError(f"The float weights beside the model lack {error}; copy the whole bundle again.") from error
    network.freeze_ranges()
    network = network.to(device=device, memory_format=torch.channels_last_3d)
    optimiser = torch.optim.AdamW(network.parameters(), lr=task.rate, weight_decay=1e-2, fused=True)
    return State(network, copy.deepcopy(network).eval(), optimiser)


def in_integers(task: Task, network: Any) -> None:
    """Let a :class:`~ToothTopoSegLib.quantization.fake_quant.QatNetwork` round again, in ranges of its own."""
    network.observe_anew(_calibration(task))
    network.in_float = False


def _calibration(task: Task) -> list[Any]:
    """Images (1, 1, z, y, x) from all over the trained cases."""
    places = np.linspace(0, 1, CALIBRATION)
    chosen = [task.cases[task.trained[i % len(task.trained)]] for i in range(CALIBRATION)]
    plan, plain = task.plan, plain_surface_sample if task.of_surfaces else plain_sample
    return [
        plain(case, float(place), plan.patch, plan.spacing)[None, None].numpy()
        for case, place in zip(chosen, places, strict=True)
    ]


# ---- samples


@dataclass(frozen=True, eq=False)
class Lesson:
    """Images (b, 1, z, y, x), classes (b, z, y, x) of teeth and jaws and, for each sample, the classes of the network
    that count as background."""

    images: Tensor
    classes: Tensor
    merged: Sequence[Sequence[int]]


class Lessons:
    """What this process learns from at each step, drawn ahead by one thread; it depends on seed and step alone."""

    def __init__(self, task: Task, group: Group) -> None:
        share = task.batch // group.size
        self._task, self._places = task, range(group.rank * share, (group.rank + 1) * share)
        self._pool = ThreadPoolExecutor(1, "samples")
        self._ahead: tuple[int, Future[Lesson]] | None = None

    def __call__(self, step: int) -> Lesson:
        """The lesson of a step; that of the next one is begun."""
        step_ahead, drawn = self._ahead or (-1, None)
        lesson = drawn.result() if drawn is not None and step_ahead == step else self._draw(step)
        self._ahead = step + 1, self._pool.submit(self._draw, step + 1)
        return lesson

    def close(self) -> None:
        """Let go of the thread."""
        self._pool.shutdown(cancel_futures=True)

    def _draw(self, step: int) -> Lesson:
        import torch

        task, drawn = self._task, []
        for place in self._places:
            drawn.append(task.sample(np.random.default_rng([task.seed, step, place])))
        images, classes, merged = zip(*drawn, strict=True)
        return Lesson(torch.stack(images)[:, None], torch.stack(classes), merged)


# ---- one step


def learning_rate(peak: float, part: float) -> float:
    """The rate at a part (0..1) of the training: a linear rise, then half a cosine to 1 % of the peak."""
    if part < WARM:
        return peak * (0.1 + 0.9 * part / WARM)
    gone = min((part - WARM) / (1 - WARM), 1.0)
    return peak * (0.01 + 0.99 * 0.5 * (1 + float(np.cos(np.pi * gone))))


def learn(task: Task, state: State, joined: nn.Module, lesson: Lesson, part: float, device: str) -> ObjectiveTerms:
    """One step at a part of the training; ``joined`` is the state's network as all processes call it together.

    Raises TrainingError, before anything changes, when loss or gradient are no numbers.
    """
    import torch

    from ToothTopoSegLib.quantization.regulariser import QuantRegulariser

    network: Any = state.network.train()
    if in_float(part):
        network.in_float = state.average.in_float = True
    elif network.in_float:
        for rounding in (network, state.average):
            in_integers(task, rounding)
    for group in state.optimiser.param_groups:
        group["lr"] = learning_rate(task.rate, part)
    with torch.autocast(device, torch.bfloat16, enabled=network.in_float and bfloat16_pays(device)):
        outputs = joined(lesson.images.to(device, memory_format=torch.channels_last_3d))
    classes = lesson.classes.to(device)
    seen, target = partly_labelled(outputs, task.learnt(classes), lesson.merged)
    regulariser, teeth = QuantRegulariser(GRID), classes if task.of_surfaces else None
    grid = None if network.in_float else lambda: regulariser(network.weights_in_steps())
    terms = task.objective(part)(seen, target, state.step, task.numbering, grid, teeth)
    state.optimiser.zero_grad(set_to_none=True)
    terms.total.backward()  # also when it is no number: all processes have to hear of it
    steepness = torch.nn.utils.clip_grad_norm_(network.parameters(), 12.0)
    if not bool(torch.isfinite(terms.total)) or not bool(torch.isfinite(steepness)):
        raise TrainingError(
            f"The loss was no number at step {state.step + 1}, so the training stopped; what it had learnt by step "
            f"{state.step} is kept in the checkpoint. Look at the labels, or start anew with a smaller learning rate."
        )
    state.optimiser.step()
    follow(state.average, network, min(AVERAGE, state.step / (state.step + 10)))
    state.step += 1
    return terms


def point(task: Task, terms: ObjectiveTerms) -> dict[str, float]:
    """The terms of a step by the names a plot shows."""
    row = {POINT_NAMES.get(name, name): value for name, value in terms.row().items()}
    if not task.of_surfaces:
        return row
    return {f"{SURFACE}{name}": value for name, value in row.items() if name != "numbering"}


# ---- one validation


def halfway(task: Task, start: Any, learnt: Any) -> Any:
    """A network half way, in its weights, from the one a training starts from to what it has learnt.

    It forgets less of what the user's few scans do not show, and often knows them as well (M. Wortsman and others,
    *Robust fine-tuning of zero-shot models*, CVPR 2022, arXiv 2109.01903).
    """
    import torch

    middle = copy.deepcopy(learnt)
    with torch.no_grad():
        for own, first in zip(middle.parameters(), start.parameters(), strict=True):
            own.lerp_(first, 0.5)
    in_integers(task, middle)
    return middle


def integer_bundle(task: Task, network: Any) -> tuple[Bundle, bytes]:
    """A network as an audited integer bundle (nothing is written), and its float weights as a file.

    Raises ModelError when the graph is not all integer or the weights are no numbers.
    """
    from safetensors.numpy import save

    from ToothTopoSegLib.quantization.audit import audit_graph, optimised_graph
    from ToothTopoSegLib.quantization.bundle import Bundle
    from ToothTopoSegLib.quantization.export import half_precision, model_card, trained_in_integers

    if network.in_float:
        in_integers(task, network)
        network.in_float = True
    weights = half_precision({name: value.numpy() for name, value in named_weights(network, task.plan).items()})
    model, scores = trained_in_integers(network, task.plan)
    if problems := audit_graph(optimised_graph(model).graph):
        raise ModelError(f"The exported graph is not all integer: {problems[0]}.")
    made = model_card(task.name, model, task.plan, scores, task.quantization)
    made["quantization"]["calibration_patches"] = CALIBRATION
    return Bundle(Path(f"{task.name}.onnx"), model, base_card(task.base, made)), save(weights)


def validate(task: Task, bundle: Bundle) -> dict[str, float]:
    """Measures of a bundle on the dental regions of held-out cases, at most :data:`VALIDATED`, by a plot's names."""
    import torch

    from ToothTopoSegLib.segmentation.runner import Runner

    runner = Runner(bundle, threads=torch.get_num_threads())
    rows = [_validated(task.cases[number], bundle, runner) for number in task.held_out[:VALIDATED]]
    mean = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    return {
        "validation Dice": mean["dice"],
        "validation wrong teeth": mean["teeth_wrong"],
        "validation score": mean["score"],
    }


def _validated(case: UserSamples, bundle: Bundle, runner: Any) -> dict[str, float]:
    """A region small enough to be its own dental region goes the way of a whole scan."""
    from ToothTopoSegLib.imaging.volume import Volume
    from ToothTopoSegLib.segmentation.classes import class_to_label
    from ToothTopoSegLib.segmentation.pipeline import segment_volume

    region = Volume(case.image[case.box].astype(np.float32), (case.spacing,) * 3)
    classes = case.classes[case.box]
    ignored = classes == IGNORED
    found = segment_volume(region, bundle, runner).array
    truth = class_to_label()[np.where(ignored, 0, classes)]
    return compared(region.with_array(np.where(ignored, 0, found).astype(np.uint8)), region.with_array(truth))


def bundle_of(best: Best, name: str, second: Bundle | None = None) -> Bundle:
    """What was kept as a bundle again, with a second network at hand."""
    from ToothTopoSegLib.quantization.bundle import Bundle

    return Bundle(Path(f"{name}.onnx"), best.model, json.loads(best.card), second)


def best_of(state: State, bundle: Bundle, weights: bytes, measures: dict[str, float]) -> Best:
    """A validated bundle as what is kept of it."""
    card = bundle.card | {"sha256": hashlib.sha256(bundle.model).hexdigest()}
    return Best(measures, state.step, bundle.model, json.dumps(card, indent=2) + "\n", weights)
