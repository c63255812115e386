"""Fine-tuning: a bundle that has learnt from the user's own labelled scans, in a given time.

The cases are checked, split into those to learn from and those held out, and cached; the network goes on learning in
fake quantization with the topological loss, the best state on the held-out cases, or the one half way back from it, is
kept, and in the end the whole way of a scan is measured on them before and after. Where the bundle has a second
network, which draws the surfaces of the teeth, that one learns in the rest of the time, and is taken over where
held-out cases say so. The folder ``<bundle>.run`` beside the bundle lets the same command go on after an interruption
at any moment. Under ``torchrun`` several processes learn as one; that folder must then be one that all of them see.
Nothing is sent anywhere, and no name, path or header of a scan enters what is written.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np

from ToothTopoSegLib.errors import Cancelled, InputError, ModelError, TrainingError, UsageError
from ToothTopoSegLib.progress import Progress, part, silent
from ToothTopoSegLib.training.user_cases import (
    CheckedCase,
    UserCase,
    check_cases,
    find_cases,
    read_user_case,
    refuse_unusable,
)

if TYPE_CHECKING:
    from ToothTopoSegLib.quantization.bundle import Bundle
    from ToothTopoSegLib.training.finetune_run import Best, State
    from ToothTopoSegLib.training.finetune_steps import Task
    from ToothTopoSegLib.training.parallel import Group

VALIDATIONS = 5
"""How often a training is validated, evenly spread over its time."""
POINT_EVERY, SAVE_SECONDS = 5, 60.0
"""Steps from one point of the curves to the next, and seconds from one checkpoint to the next."""
LEAST_SHARE = 0.5
"""Share of the time that is left for learning, however long reading, measuring and writing take."""
FIRST_SHARE = 0.5
"""Part of the time for learning after which a second network, which draws the surfaces of teeth, learns instead."""
TIME_IS_UP, NO_BETTER, ENDED = "the time is up", "no validation was better for a while", "ended early on request"
Point = Callable[[dict[str, float]], None]


@dataclass(frozen=True)
class Choices:
    """What an expert may choose.

    ``rate`` is the peak of the learning rate, ``topology`` the weight of each topological term, ``held_out`` the share
    of cases that are never learnt from (at least one), ``patience`` how many validations in a row may bring nothing
    better, ``batch`` how many samples a step learns from, over all processes. The share ``rehearsal`` of the samples is
    of synthetic heads that the bundled model has learnt from, so that it does not forget them. With ``steps`` each
    network learns for so many instead of until the time is up, and the training is then the same each time.
    """

    rate: float = 2e-4
    topology: float = 0.15
    held_out: float = 0.2
    patience: int = 3
    seed: int = 0
    batch: int = 1
    rehearsal: float = 0.0
    steps: int | None = None

    def complaint(self) -> str | None:
        """What is wrong with the choices, as one sentence; None where nothing is."""
        if not (math.isfinite(self.rate) and self.rate > 0):
            return f"The learning rate {self.rate:g} was given, but one above 0 is expected."
        if not (math.isfinite(self.topology) and self.topology >= 0):
            return (
                f"The weight {self.topology:g} of the topological terms was given, but one of at least 0 is expected."
            )
        if not 0 < self.held_out < 1:
            return f"The held-out share {self.held_out:g} was given, but one between 0 and 1 is expected."
        if not 0 <= self.rehearsal < 1:
            return f"The rehearsed share {self.rehearsal:g} was given, but one of at least 0 and below 1 is expected."
        if min(self.patience, self.batch, 1 if self.steps is None else self.steps) < 1 or self.seed < 0:
            return "Patience, batch and steps must be at least 1 and the seed at least 0."
        return None


def finetune(
    cases: Sequence[Path],
    out: Path,
    minutes: float,
    device: str = "auto",
    model: Path | None = None,
    choices: Choices = Choices(),
    on_point: Point | None = None,
    go_on: Callable[[], bool] | None = None,
    on_checked: Callable[[Sequence[CheckedCase]], None] | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Fine-tune the bundle ``model`` on ``cases`` for about ``minutes`` and write the bundle ``out`` (.onnx).

    ``on_point`` gets the terms of the objective at intervals and the measures of every validation. ``go_on`` is asked
    between steps: it may block, and what it takes does not count as time; False ends the training early. ``on_checked``
    gets what was found in the labels, before anything is refused or learnt. When ``progress`` cancels, the same call
    goes on later. Returns what became of it; a bundle that is not better than what it started from is written all the
    same, and its card says so. Under ``torchrun`` only the first process returns a report.

    Raises UsageError for choices that make no sense, InputError for cases that cannot be learnt from, ModelError for a
    model that cannot be fine-tuned, TrainingError when the loss is no number, OutputError when the run folder or the
    bundle cannot be written, Cancelled.

    Once the second network learns the first one is ready: a later call with more time gives all of it to the second.
    """
    from ToothTopoSegLib.training.finetune_run import run_folder, said_plainly
    from ToothTopoSegLib.training.parallel import group as processes
    from ToothTopoSegLib.training.recipe import device_of, keep_memory

    began = monotonic()
    _check_arguments(out, minutes, choices)
    base = _starting_bundle(model)
    keep_memory()
    with said_plainly(run_folder(out)), processes(device_of(device)) as group:
        if choices.batch % group.size:
            choices = _with_batch(choices, group.size)
        heard = progress if group.first else silent
        prepared = _prepare(cases, out, base, choices, group, on_checked or _unread, part(heard, 0.0, 0.1))
        outlook = _Outlook(minutes * 60, choices, began, prepared.before_seconds)
        telling = on_point or _unseen, go_on or _always, part(heard, 0.1, 0.9)
        runs, stopped = _learn(prepared, outlook, group, *telling)
        if not group.first:
            return {}
        return _finish(prepared, runs, out, outlook, stopped, part(heard, 0.9, 1.0))


def _unseen(values: dict[str, float]) -> None:
    """For those who draw no curves."""


def _unread(checked: Sequence[CheckedCase]) -> None:
    """For those who show no check."""


def _always() -> bool:
    return True


def _with_batch(choices: Choices, size: int) -> Choices:
    """The choices with the next larger batch that all processes share evenly."""
    return replace(choices, batch=math.ceil(choices.batch / size) * size)


def _check_arguments(out: Path, minutes: float, choices: Choices) -> None:
    if out.suffix != ".onnx":
        raise UsageError(f"The bundle {out.name} must end in .onnx; its card and float weights get the same name.")
    if not (math.isfinite(minutes) and minutes > 0):
        raise UsageError(f"{minutes:g} minutes were given, but a time above 0 is expected.")
    if (complaint := choices.complaint()) is not None:
        raise UsageError(complaint)


def _starting_bundle(model: Path | None) -> Bundle:
    """The bundle to start from, its second network at hand.

    Raises ModelError where one of them has no float weights or is none of this program's networks.
    """
    from ToothTopoSegLib.quantization.bundle import load_bundle, surface_bundle
    from ToothTopoSegLib.segmentation.classes import CLASSES
    from ToothTopoSegLib.segmentation.surface import BORDER

    base = load_bundle(model)
    _check_network(base, CLASSES)
    second = surface_bundle(base)
    if second is not None:
        _check_network(second, BORDER + 1)
    return replace(base, second=second)


def _check_network(base: Bundle, classes: int) -> None:
    from ToothTopoSegLib.quantization.export import float_weights_path
    from ToothTopoSegLib.training.network import Plan

    try:
        own = Plan.from_dict(base.card["plan"]).classes == classes
    except TypeError:
        own = False
    if not own:
        raise ModelError(
            f"The model {base.path.name} is no network of this program (imported ones cannot be fine-tuned); start "
            "from the bundled model or one made of it."
        )
    if not float_weights_path(base.path).is_file():
        raise ModelError(f"The model {base.path.name} has no float weights beside it; copy the whole bundle.")


# ---- before the first step


@dataclass(frozen=True)
class _Prepared:
    """What the training and the report need of the cases.

    ``surface`` is the task of the second network, if there is one, and ``kept_surface`` that network as it was, where
    it has to go with the bundle because it is not the program's own.
    """

    folder: Path
    task: Task
    surface: Task | None
    kept_surface: Best | None
    cases: tuple[UserCase, ...]
    checked: tuple[CheckedCase, ...]
    before: dict[str, Any]
    before_seconds: float

    def names(self, numbers: Sequence[int]) -> list[str]:
        """The names of cases."""
        return [self.cases[number].name for number in numbers]

    @property
    def held_out(self) -> list[UserCase]:
        """The cases that are never learnt from."""
        return [self.cases[number] for number in self.task.held_out]


def split(count: int, choices: Choices) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The numbers of the cases to learn from and of those held out: the same for the same count, share and seed."""
    held = min(max(1, round(count * choices.held_out)), count - 1)
    order = np.random.default_rng(choices.seed).permutation(count).tolist()
    return tuple(sorted(order[held:])), tuple(sorted(order[:held]))


def _prepare(
    sources: Sequence[Path],
    out: Path,
    base: Bundle,
    choices: Choices,
    group: Group,
    on_checked: Callable[[Sequence[CheckedCase]], None],
    progress: Progress,
) -> _Prepared:
    """Check, claim, cache and measure, in the first process; the others take it from the run folder."""
    from ToothTopoSegLib.quantization.bundle import SECOND
    from ToothTopoSegLib.training import finetune_run
    from ToothTopoSegLib.training.finetune_steps import Task
    from ToothTopoSegLib.training.rehearsal import render_heads
    from ToothTopoSegLib.training.user_cache import has_case, read_case

    cases, folder = find_cases(sources), finetune_run.run_folder(out)
    heads = folder / "heads"
    if len(cases) < 2:
        raise InputError(
            "Only one case was found, but at least two are needed: one to learn from and one to measure on; label more."
        )
    trained, held_out = split(len(cases), choices)
    checked: tuple[CheckedCase, ...] = ()
    if group.first:
        marks = finetune_run.fingerprints(cases)
        wanted = {"model": base.card["sha256"], "surface": base.card.get("surface"), "cases": marks, **asdict(choices)}
        known = finetune_run.is_claimed(folder, wanted)
        if not known or not all(has_case(folder / "cases", number) for number in range(len(cases))):
            checked = tuple(check_cases(cases, part(progress, 0.0, 0.5)))
            on_checked(checked)
            refuse_unusable(checked)
            finetune_run.claim(folder, wanted)
            _fill(cases, folder, base.spacing, part(progress, 0.5, 0.7))
        if choices.rehearsal:
            render_heads(heads, part(progress, 0.7, 0.8))
    group.agree(0.0)  # the others wait until the cache is whole
    read = {number: read_case(folder / "cases", number) for number in range(len(cases))}
    task = Task(
        base,
        out.stem,
        read,
        trained,
        held_out,
        choices.rate,
        choices.topology,
        choices.seed,
        choices.batch,
        rehearsal=choices.rehearsal,
        heads=heads,
    )
    held = [cases[number] for number in held_out]
    before, seconds = _before(folder, base, held, part(progress, 0.8, 1.0)) if group.first else ({}, 0.0)
    second = base.second
    surface = None
    if second is not None:
        surface = replace(task, base=second, name=f"{out.stem}{SECOND}", of_surfaces=True)
    return _Prepared(folder, task, surface, _kept_surface(second), tuple(cases), checked, before, seconds)


def _kept_surface(second: Bundle | None) -> Best | None:
    """A second network that is not the program's own, which every bundle finds."""
    from ToothTopoSegLib.quantization.bundle import model_path
    from ToothTopoSegLib.training.finetune_run import kept

    if second is None or second.path.parent.resolve() == model_path(None).parent.resolve():
        return None
    return kept(second)


def _fill(cases: Sequence[UserCase], folder: Path, spacing: float, progress: Progress) -> None:
    """Cache the cases that are not there."""
    from ToothTopoSegLib.training.user_cache import has_case, prepare, write_case

    for number, case in enumerate(cases):
        progress(number / len(cases), f"reading case {number + 1} of {len(cases)}")
        if not has_case(folder / "cases", number):
            write_case(prepare(*read_user_case(case), spacing), folder / "cases", number)


def _before(
    folder: Path, base: Bundle, held_out: Sequence[UserCase], progress: Progress
) -> tuple[dict[str, Any], float]:
    """What the model to start from reaches on the held-out cases, and the seconds it took to find out."""
    from ToothTopoSegLib.training.finetune_card import measure
    from ToothTopoSegLib.training.finetune_run import write_whole

    path = folder / "before.json"
    if not path.exists():
        began = monotonic()
        progress(0.0, "measuring the model to start from")
        measures = measure(base, held_out, progress)
        note = {"measures": measures, "seconds": monotonic() - began}
        write_whole(path, json.dumps(note, indent=2).encode())
    note = json.loads(path.read_text(encoding="utf-8"))
    return note["measures"], float(note["seconds"])


# ---- the training


@dataclass
class _Outlook:
    """How much of the time is gone; what the end will take is kept free for it."""

    seconds: float
    choices: Choices
    began: float
    end_seconds: float
    used_before: float = 0.0
    paused: float = 0.0

    @property
    def used(self) -> float:
        """Seconds used so far, those of earlier calls included, pauses left out."""
        return self.used_before + monotonic() - self.began - self.paused

    def gone(self, state: State, until: float) -> float:
        """Which part (0..1) of the training of a network is over; ``until`` is its end as a part of all learning."""
        if self.choices.steps is not None:
            return state.step / self.choices.steps
        end = until * max(self.seconds - self.end_seconds, self.seconds * LEAST_SHARE)
        return 1.0 if end <= state.since else min(1.0, (self.used - state.since) / (end - state.since))


def _learn(
    prepared: _Prepared,
    outlook: _Outlook,
    group: Group,
    on_point: Point,
    go_on: Callable[[], bool],
    progress: Progress,
) -> tuple[list[_Run], str]:
    """Let one network learn after the other; returns their runs, and why the last one ended."""
    from ToothTopoSegLib.training.finetune_run import SURFACE_CHECKPOINT

    until = 1.0 if prepared.surface is None else FIRST_SHARE
    telling = group, on_point, go_on
    first = _Run(prepared, prepared.task, outlook, until, *telling, part(progress, 0.0, until))
    if prepared.surface is None:
        return [first], first.learn()
    ready = group.agree(float((prepared.folder / SURFACE_CHECKPOINT).exists()))
    if not ready and (stopped := first.learn()) == ENDED:
        return [first], stopped
    rest = part(progress, until, 1.0)
    second = _Run(prepared, prepared.surface, outlook, 1.0, *telling, rest, first.state.best)
    return [first, second], second.learn()


@dataclass
class _Run:
    """The steps of the training of one network, its checkpoints and its validations.

    ``until`` is where it ends, as a part of the time for learning. ``first`` is the network that numbers the teeth
    whose surfaces the one learns to draw; of several processes only the first one needs it. ``start`` is the network as
    it is before the first step.
    """

    prepared: _Prepared
    task: Task
    outlook: _Outlook
    until: float
    group: Group
    on_point: Point
    go_on: Callable[[], bool]
    progress: Progress
    first: Best | None = None
    state: State = field(init=False)
    start: Any = field(init=False)
    saved_at: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        from ToothTopoSegLib.quantization.export import float_weights_path
        from ToothTopoSegLib.quantization.fold import read_weights
        from ToothTopoSegLib.training.finetune_run import load
        from ToothTopoSegLib.training.finetune_steps import starting_state

        task = self.task
        self.state = starting_state(task, read_weights(float_weights_path(task.base.path)), self.group.device)
        self.start = copy.deepcopy(self.state.average)
        found = load(self.state, self._checkpoint, self.group.device)
        self.group.agree(0.0)  # nobody writes while others read
        if found:
            self.outlook.used_before = self.state.seconds
        elif self.group.first and self.first is not None:
            self._begin_from_what_is_there(self.first)

    def _begin_from_what_is_there(self, first: Best) -> None:
        """Let a second network be measured against the one it starts from, together with the best first one."""
        from ToothTopoSegLib.training.finetune_run import kept

        state = self.state
        state.since = self.outlook.used
        state.best = replace(kept(self.task.base), measures=first.measures)
        state.validations.append({"step": 0, **first.measures})
        self._save()

    @property
    def _checkpoint(self) -> Path:
        from ToothTopoSegLib.training.finetune_run import CHECKPOINT, SURFACE_CHECKPOINT

        return self.prepared.folder / (SURFACE_CHECKPOINT if self.task.of_surfaces else CHECKPOINT)

    @property
    def models(self) -> tuple[Best, Best | None]:
        """The best model so far, and the second network that has to go with it."""
        best, kept_surface = self.state.best, self.prepared.kept_surface
        assert best is not None
        if self.first is None:
            return best, kept_surface
        return self.first, best if best.step else kept_surface

    def learn(self) -> str:
        """Train until the end; returns why it ended."""
        from ToothTopoSegLib.training.finetune_steps import Lessons

        joined, lessons = self.group.joined(self.state.network), Lessons(self.task, self.group)
        try:
            if self.group.first:
                self._begin()
            while not (stopped := self._stopped()):
                self._step(joined, lessons)
            if self.group.first and (self.state.best is None or self.state.validations[-1]["step"] < self.state.step):
                self._validate_own()
            return stopped
        except (Cancelled, TrainingError):
            if self.group.first:
                self._save()
            raise
        finally:
            lessons.close()

    def _begin(self) -> None:
        """Show what is there: the best model so far, at first the one to start from."""
        from ToothTopoSegLib.training.finetune_card import base_card
        from ToothTopoSegLib.training.finetune_run import kept

        if not self.state.validations:
            # A few scans can unteach numbers: what the training starts from is kept unless something better comes.
            base = self.task.base
            card = json.dumps(base_card(base, base.card), indent=2) + "\n"
            measures = self._validate(base)
            self._note(measures)
            self.state.best = replace(kept(base), card=card, measures=measures)
        if self.state.best is not None:
            self._publish()

    def _publish(self) -> None:
        from ToothTopoSegLib.training.finetune_run import BEST, publish

        best, surface = self.models
        publish(best, self.prepared.folder / BEST, surface)

    def _gone(self) -> float:
        return self.outlook.gone(self.state, self.until)

    def _stopped(self) -> str:
        """Why the training ends now, the same in all processes; nothing while it goes on."""
        reasons = ("", TIME_IS_UP, NO_BETTER, ENDED)
        return reasons[int(self.group.agree(reasons.index(self._reason()) if self.group.first else 0))]

    def _reason(self) -> str:
        asked = monotonic()
        go_on = self.go_on()
        self.outlook.paused += monotonic() - asked
        if not go_on:
            return ENDED
        if self._gone() >= 1:
            return TIME_IS_UP
        best = self.state.best
        after = [entry for entry in self.state.validations if best is not None and entry["step"] > best.step]
        return NO_BETTER if len(after) >= self.outlook.choices.patience else ""

    def _step(self, joined: Any, lessons: Any) -> None:
        from ToothTopoSegLib.training.finetune_steps import learn, point

        task, state = self.task, self.state
        gone = self.group.agree(self._gone())
        terms = learn(task, state, joined, lessons(state.step), gone, self.group.device)
        if not self.group.first:
            return
        if state.step % POINT_EVERY == 0:
            self.on_point(point(task, terms))
        if self._gone() >= len(state.validations) / VALIDATIONS:
            self._validate_own()
        elif monotonic() - self.saved_at > SAVE_SECONDS:
            self._save()
        self.progress(self._gone(), f"learning{' surfaces' if task.of_surfaces else ''}: step {state.step}")

    def _validate_own(self) -> None:
        """Validate the state as an integer model, and what lies half way to it; keep the better one of both if none was
        better, and write the checkpoint."""
        from ToothTopoSegLib.training.finetune_steps import best_of, halfway, integer_bundle

        task, state = self.task, self.state
        tried = []
        for network in (state.average, halfway(task, self.start, state.average)):
            bundle, weights = integer_bundle(task, network)
            if network is not state.average:
                bundle.card["fine_tuning"]["weights"] = "half way from those before to those learnt"
            tried.append(best_of(state, bundle, weights, self._validate(bundle)))
        better = max(tried, key=lambda one: one.score)
        self._note(better.measures)
        if state.best is None or better.score > state.best.score:
            state.best = better
        self._save()
        self._publish()

    def _validate(self, bundle: Bundle) -> dict[str, float]:
        """Measures of a state of the network, with the other network at its side."""
        from ToothTopoSegLib.training.finetune_steps import bundle_of, validate

        self.progress(self._gone(), "looking at the held-out cases")
        if self.first is None:
            whole = replace(bundle, second=self.task.base.second)
        else:
            whole = bundle_of(self.first, self.prepared.task.name, bundle)
        return validate(self.task, whole)

    def _note(self, measures: dict[str, float]) -> None:
        """Add the measures of a validation to the curves."""
        self.state.validations.append({"step": self.state.step, **measures})
        self.on_point(measures)

    def _save(self) -> None:
        from ToothTopoSegLib.training.finetune_run import save

        self.state.seconds = self.outlook.used
        save(self.state, self._checkpoint)
        self.saved_at = monotonic()


# ---- after the last step


def _finish(
    prepared: _Prepared, runs: Sequence[_Run], out: Path, outlook: _Outlook, stopped: str, progress: Progress
) -> dict[str, Any]:
    """Measure the best model on the held-out cases, write the bundle, and report."""
    from ToothTopoSegLib.quantization.bundle import load_bundle
    from ToothTopoSegLib.training.finetune_card import finished_card, is_better, measure, told_card, verdict
    from ToothTopoSegLib.training.finetune_run import BEST, publish

    (best, surface), before, state = runs[-1].models, prepared.before, runs[0].state
    after = measure(load_bundle(prepared.folder / BEST), prepared.held_out, progress)
    facts = {
        "cases": len(prepared.cases),
        "trained on": [f"case {number + 1}" for number in prepared.task.trained],
        "held out": [f"case {number + 1}" for number in prepared.task.held_out],
        "steps": best.step,
        "choices": asdict(outlook.choices),
    }
    if surface is not None and surface.step:
        surface = replace(surface, card=told_card(surface.card, facts | {"steps": surface.step}))
    drawn = [_about_surfaces(run) for run in runs[1:]]
    told = facts | {"surface": drawn[0]} if drawn else facts
    publish(replace(best, card=finished_card(best.card, told, before, after)), out, surface)
    progress(1.0, "done")
    return {
        "bundle": out,
        "better": is_better(before, after),
        "verdict": verdict(before, after),
        "before": before,
        "after": after,
        "held_out": prepared.names(prepared.task.held_out),
        "trained_on": prepared.names(prepared.task.trained),
        "steps": state.step,
        "best_step": best.step,
        **({"surface": drawn[0]} if drawn else {}),
        "minutes": round(outlook.used / 60, 2),
        "stopped": stopped,
        "validations": [entry for run in runs for entry in run.state.validations],
        "labels": [case.as_dict() for case in prepared.checked],
    }


def _about_surfaces(run: _Run) -> dict[str, Any]:
    """What card and report say of the second network: without a step that was better it is the one from before."""
    best = run.state.best
    assert best is not None
    return {"steps": run.state.step, "best_step": best.step, "taken over": best.step > 0}
