"""The experiment: what quantization does to the topology of teeth, and what each remedy gives.

In: a trained bundle with its float weights. From these weights every training starts anew and learns for the same
number of steps from the same samples: with the usual loss, with SCNP, with the topological loss, and with each of its
terms alone, for several training seeds. Each goes through a long part in float and a short one in fake quantization,
both with its own loss: a step in float takes a fraction of the time, and quantization-aware training starts from float
weights anyway. The usual loss gives three models: FP32 and PTQ after the first part, QAT after the second. All models
are then held against the truth of the same held-out hard scans, see :mod:`ToothTopoSegLib.evaluation.comparison`.

Out: a folder that an interrupted experiment goes on in, with ``evidence/``: all rows as CSV, what they were measured
with as JSON, a Markdown page, a plot. From CSV and JSON another folder, or another machine, goes on (``known``).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from concurrent.futures import as_completed
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ToothTopoSegLib.errors import ModelError, UsageError
from ToothTopoSegLib.evaluation.comparison import HELD_OUT_SEED, Row
from ToothTopoSegLib.processes import one_thread_each
from ToothTopoSegLib.progress import Progress, part, silent
from ToothTopoSegLib.quantization.config import QuantConfig
from ToothTopoSegLib.training.loop import Schedule
from ToothTopoSegLib.training.losses.objective import Objective
from ToothTopoSegLib.training.losses.topology import TopologyConfig

if TYPE_CHECKING:
    from ToothTopoSegLib.phantom.write import Phantom
    from ToothTopoSegLib.quantization.bundle import Bundle

TITLES = {
    "fp32": "FP32",
    "ptq": "PTQ INT8",
    "qat": "QAT INT8",
    "qat_scnp": "QAT INT8 + SCNP",
    "qat_topology": "QAT INT8 + topology",
    "qat_components": "QAT INT8 + components alone",
    "qat_adjacency": "QAT INT8 + adjacency alone",
    "qat_holes": "QAT INT8 + holes alone",
}
"""The models in the order of the table."""
LATENCY_RUNS = 7
NOTE = "experiment.json"
"""The file in a folder that says whose it is."""
PAGE = "quantization"
"""The name of the files of the evidence."""


@dataclass(frozen=True)
class Settings:
    """What the experiment is made of; a folder belongs to one value of it.

    Every training draws patches of ``patch`` voxels from the heads 0 to ``cases`` - 1, for ``steps`` steps in float at
    ``rate`` in ``cycles`` cycles, then for ``integer_steps`` in fake quantization at ``integer_rate``.
    """

    steps: int = 4000
    cycles: int = 2
    integer_steps: int = 100
    seeds: tuple[int, ...] = (1, 2, 3)
    scans: int = 20
    cases: int = 60
    patch: tuple[int, int, int] = (48, 64, 64)
    batch: int = 1
    rate: float = 3e-4
    integer_rate: float = 2e-6
    quantization: QuantConfig = field(default_factory=QuantConfig)
    topology: TopologyConfig = field(
        default_factory=lambda: TopologyConfig(1.0, 0.5, 2.0, ramp_steps=400, persistence_power=0.5)
    )
    grid: float = 0.0

    @property
    def scan_seeds(self) -> range:
        """The seeds of the held-out scans."""
        return range(HELD_OUT_SEED, HELD_OUT_SEED + self.scans)

    def trainings(self) -> dict[str, tuple[Schedule, Schedule]]:
        """By the name of each quantization-aware model its part in float and that in fake quantization, for the plan
        of no network in particular and training seed 0."""
        whole = self.topology
        objectives = {
            "qat": Objective(),
            "qat_topology": Objective(whole),
            "qat_scnp": Objective(scnp=3),
            "qat_components": Objective(replace(whole, adjacency=0.0, holes=0.0)),
            "qat_adjacency": Objective(replace(whole, components=0.0, holes=0.0)),
            "qat_holes": Objective(replace(whole, components=0.0, adjacency=0.0)),
        }
        return {name: self._parts(objective) for name, objective in objectives.items()}

    def _parts(self, objective: Objective) -> tuple[Schedule, Schedule]:
        in_float = Schedule(
            steps=self.steps,
            cycles=self.cycles,
            batch=self.batch,
            warmup=min(50, self.steps),
            frozen_from=0,
            rate=self.rate,
            average=0.995,
            cases=self.cases,
            crania=0,
            cranium_share=0.0,
            coarse_until=self.steps + 1,
            coarse_patch=self.patch,
            numbering_from=0,
            save_every=20,
            objective=objective,
        )
        topology = objective.topology
        in_integers = replace(
            in_float,
            steps=self.integer_steps,
            cycles=1,
            warmup=min(10, self.integer_steps),
            rate=self.integer_rate,
            average=0.99,
            coarse_until=self.integer_steps + 1,
            # the loss has faded in by then
            objective=replace(objective, topology=topology and replace(topology, ramp_steps=0)),
            quantization=self.quantization,
            # ranges that go on moving with single patches cost more teeth than these steps mend
            ranges_frozen_from=0,
            grid=self.grid,
        )
        return in_float, in_integers


SIZES = {
    "cpu": Settings(),
    "gpu": Settings(steps=8000, cycles=1, integer_steps=1000, cases=110, patch=(48, 80, 80), batch=4),
}
"""What some hours of a processor are enough for, and what the same of a GPU are."""


def run(
    folder: Path,
    model: Path | None = None,
    settings: Settings | None = None,
    workers: int = 1,
    scan: Path | None = None,
    device: str = "auto",
    so_far: bool = False,
    known: Path | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Do what is left of the experiment in ``folder`` and sum up; returns the summary and the page of the evidence.

    ``so_far`` sums up what is measured already and trains nothing. ``known`` is a folder of evidence of this very
    experiment, begun elsewhere: what it tells of a model is taken over, and that model is not trained again.

    ``model`` is the bundle whose float weights all trainings start from, ``workers`` how many trainings run at a time,
    each on one core or all on the GPU, ``scan`` a real scan without truth on which findings are counted, ``device``
    "auto", "cpu" or "cuda". Raises UsageError for a folder or evidence of another experiment, a folder where nothing
    can be compared so far, or a missing device, ModelError when the bundle has no float weights, InputError for the
    scan.
    """
    from ToothTopoSegLib.quantization.bundle import load_bundle
    from ToothTopoSegLib.quantization.export import float_weights_path
    from ToothTopoSegLib.training.recipe import device_of

    settings, device = settings or Settings(), device_of(device)
    bundle = load_bundle(model)
    if not float_weights_path(bundle.path).is_file():
        raise ModelError(f"The model {bundle.path.name} has no float weights beside it; copy the whole bundle.")
    if so_far and not (folder / NOTE).exists():
        raise UsageError(f"There is no experiment in {folder}; run the experiment without --so-far.")
    identity = {"sha256": bundle.card["sha256"], **asdict(settings)}
    taken = {} if known is None else _known(known, identity)
    _claim(folder, identity)
    for path, content in taken.items():
        if not (folder / path).exists():
            _write(folder / path, content)
    if not so_far:
        _train_all(folder, settings, bundle, workers, device, progress)
    rows = [row for path in sorted((folder / "rows").glob("*.json")) for row in _read(path)]
    if missing := {"ptq", "qat", "qat_topology"} - {row["model"] for row in rows}:
        raise UsageError(
            f"In {folder} {TITLES[min(missing)]} is not measured yet; run the experiment without --so-far."
        )
    real = _on_a_real_scan(folder, settings, scan, part(progress, 0.95, 0.99)) if scan is not None else {}
    return _evidence(folder, settings, bundle, identity, rows, real)


def _train_all(folder: Path, settings: Settings, bundle: Bundle, workers: int, device: str, progress: Progress) -> None:
    from ToothTopoSegLib.training.cases import cache_case

    # what the experiment is about first, with all of its seeds; then all others; always one seed after the other, so
    # that what is there when it is interrupted can be compared
    first = [(name, seed) for seed in settings.seeds for name in ("qat", "qat_topology")]
    rest = [(name, seed) for seed in settings.seeds for name in settings.trainings() if (name, seed) not in first]
    jobs = [(folder, bundle.path, settings, name, seed, device) for name, seed in (*first, *rest)]
    with one_thread_each(workers, _one_core) as pool:
        cases = [pool.submit(cache_case, folder / "cases", n) for n in range(settings.cases)]
        _wait(cases, part(progress, 0.0, 0.1), "training heads")
        scans = [pool.submit(_cache_scan, folder, seed, bundle.path) for seed in settings.scan_seeds]
        _wait(scans, part(progress, 0.1, 0.15), "held-out scans")
        _wait([pool.submit(_train_and_measure, *job) for job in jobs], part(progress, 0.15, 0.95), "trainings")


def _as_text(identity: Mapping[str, Any]) -> str:
    return json.dumps(identity, indent=2) + "\n"


def _claim(folder: Path, identity: Mapping[str, Any]) -> None:
    """Note whose the folder is; UsageError where it is another experiment's."""
    folder.mkdir(parents=True, exist_ok=True)
    note, text = folder / NOTE, _as_text(identity)
    if note.exists() and note.read_text(encoding="utf-8") != text:
        raise UsageError(f"The folder {folder} holds an experiment with another model or settings; choose a new one.")
    note.write_text(text, encoding="utf-8")


def _known(evidence: Path, identity: Mapping[str, Any]) -> dict[Path, Any]:
    """What a folder of evidence tells of each model, by the file in the folder of the experiment that it belongs in.

    Raises UsageError for a folder without evidence, or with that of another experiment.
    """
    from ToothTopoSegLib.training.experiment_table import read_csv

    here = Path()
    if not (evidence / f"{PAGE}.json").is_file() or not (evidence / f"{PAGE}.csv").is_file():
        raise UsageError(f"There is no {PAGE}.json with a {PAGE}.csv in {evidence}; name a folder of such evidence.")
    told = _read(evidence / f"{PAGE}.json")
    if _as_text(told.get("experiment")) != _as_text(identity):
        raise UsageError(f"The evidence in {evidence} is of another model or other settings; leave --known away.")
    rows: dict[Path, Any] = {}
    for row in read_csv(evidence / f"{PAGE}.csv"):
        rows.setdefault(_rows_path(here, row["model"], row["seed"]), []).append(row)
    return rows | {_real_path(here, arm): found for arm, found in told["real_scan"].items()}


def _one_core() -> None:
    import torch

    from ToothTopoSegLib.training.recipe import keep_memory

    keep_memory()
    torch.set_num_threads(1)


def _wait(jobs: Iterable[Any], progress: Progress, what: str) -> None:
    jobs = list(jobs)
    try:
        for done, job in enumerate(as_completed(jobs), 1):
            job.result()
            progress(done / len(jobs), f"{what}: {done} of {len(jobs)}")
    except BaseException:
        for job in jobs:
            job.cancel()
        raise


# ---- one training and what came of it


def _train_and_measure(folder: Path, model: Path, settings: Settings, name: str, seed: int, device: str) -> None:
    """Train both parts unless that is done, and measure the models of either unless that is done."""
    from ToothTopoSegLib.quantization.bundle import load_bundle
    from ToothTopoSegLib.quantization.export import float_weights_path
    from ToothTopoSegLib.quantization.fold import read_weights
    from ToothTopoSegLib.training.loop import run_training
    from ToothTopoSegLib.training.network import Plan

    in_float = ("fp32", "ptq") if name == "qat" else ()
    if all(_rows_path(folder, arm, seed).exists() for arm in (*in_float, name)):
        return
    bundle = load_bundle(model)
    plan, start = Plan.from_dict(bundle.card["plan"]), float_weights_path(bundle.path)
    parts = zip(settings.trainings()[name], (f"{name}_in_float", name), (in_float, (name,)), strict=True)
    for schedule, part_name, arms in parts:
        whole = replace(schedule, plan=plan, coarse_spacing=plan.spacing, seed=seed)
        run_folder = folder / "runs" / f"{part_name}_{seed}"
        run_folder.mkdir(parents=True, exist_ok=True)
        run_training(whole, run_folder, folder / "cases", device, workers=0, start=read_weights(start))
        (run_folder / "schedule.json").write_text(json.dumps({"recipe": name, **asdict(whole)}), encoding="utf-8")
        start = run_folder / "weights.safetensors"
        for arm in arms:
            _measure(folder, settings, arm, seed, _bundle_of(folder, arm, seed))


def _bundle_of(folder: Path, arm: str, seed: int) -> Bundle:
    """The model of an arm as a bundle: the float twin for FP32, else the integer one."""
    from ToothTopoSegLib.quantization.bundle import load_bundle
    from ToothTopoSegLib.quantization.export import export_run, float_bundle

    path = folder / "models" / f"{'ptq' if arm == 'fp32' else arm}_{seed}.onnx"
    if not path.with_suffix(".json").exists():
        run_folder = folder / "runs" / f"{'qat_in_float' if arm in ('fp32', 'ptq') else arm}_{seed}"
        cases = run_folder / "cases"
        if not cases.exists():
            cases.symlink_to(folder.resolve() / "cases", target_is_directory=True)
        export_run(run_folder, path)
    bundle = load_bundle(path)
    return float_bundle(bundle) if arm == "fp32" else bundle


def _measure(folder: Path, settings: Settings, arm: str, seed: int, bundle: Bundle) -> None:
    from ToothTopoSegLib.evaluation.comparison import compare
    from ToothTopoSegLib.segmentation.runner import Runner

    runner = Runner(bundle, threads=1)
    rows = compare(arm, seed, bundle, runner, ((n, _scan(folder, n)) for n in settings.scan_seeds))
    _write(_rows_path(folder, arm, seed), rows)


def _rows_path(folder: Path, arm: str, seed: int) -> Path:
    return folder / "rows" / f"{arm}_{seed}.json"


def _write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_suffix(".part")
    staged.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    staged.replace(path)


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


# ---- the held-out scans


def _cache_scan(folder: Path, seed: int, model: Path) -> None:
    import numpy as np

    from ToothTopoSegLib.evaluation.comparison import held_out_scan
    from ToothTopoSegLib.quantization.bundle import load_bundle

    path = _scan_path(folder, seed)
    if path.exists():
        return
    phantom = held_out_scan(seed, load_bundle(model))
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(f".{path.name}")
    grid = [*phantom.scan.spacing, *phantom.scan.origin]
    np.savez_compressed(staged, scan=phantom.scan.array, labels=phantom.labels.array, grid=grid)
    staged.replace(path)


def _scan_path(folder: Path, seed: int) -> Path:
    return folder / "scans" / f"{seed}.npz"


def _scan(folder: Path, seed: int) -> Phantom:
    import numpy as np

    from ToothTopoSegLib.imaging.volume import Volume
    from ToothTopoSegLib.phantom.write import Phantom

    with np.load(_scan_path(folder, seed)) as kept:
        z, y, x, *origin = (float(value) for value in kept["grid"])
        scan = Volume(kept["scan"], (z, y, x), (origin[0], origin[1], origin[2]))
        return Phantom(scan, scan.with_array(kept["labels"]), {"seed": seed})


# ---- a real scan


def _on_a_real_scan(folder: Path, settings: Settings, scan: Path, progress: Progress) -> dict[str, dict[str, int]]:
    """How many errors and warnings of each kind the whole way of a scan ends with, for the first training seed."""
    from ToothTopoSegLib.imaging.read import read_scan
    from ToothTopoSegLib.segmentation.pipeline import segment_volume
    from ToothTopoSegLib.segmentation.runner import Runner
    from ToothTopoSegLib.topology.check import check_volume

    volume, seed = read_scan(scan), settings.seeds[0]
    found = {}
    measured = [arm for arm in TITLES if _rows_path(folder, arm, seed).exists()]
    for place, arm in enumerate(measured):
        path = _real_path(folder, arm)
        if not path.exists():
            progress(place / len(measured), f"the real scan with {TITLES[arm]}")
            bundle = _bundle_of(folder, arm, seed)
            findings, _ = check_volume(segment_volume(volume, bundle, Runner(bundle)), volume)
            kinds = [f.kind for f in findings if f.severity != "info"]
            _write(path, {kind: kinds.count(kind) for kind in sorted(set(kinds))})
        found[arm] = _read(path)
    return found


def _real_path(folder: Path, arm: str) -> Path:
    return folder / "real" / f"{arm}.json"


# ---- the evidence


def _evidence(
    folder: Path,
    settings: Settings,
    bundle: Bundle,
    identity: Mapping[str, Any],
    rows: list[Row],
    real: Mapping[str, Mapping[str, int]],
) -> dict[str, Any]:
    from ToothTopoSegLib.imaging.write import output_folder
    from ToothTopoSegLib.training.experiment_table import draw, fewer_wrong, write_csv

    fewer = {
        than: {t: fewer_wrong(rows, "qat_topology", than, t) for t in ("raw", "tidied")} for than in ("ptq", "qat")
    }
    costs = _costs(bundle)
    measured = {row["model"] for row in rows}
    titles = {arm: title for arm, title in TITLES.items() if arm in measured}
    page = _page(settings, bundle, rows, titles, fewer, costs, real)
    with output_folder(folder / "evidence") as staged:
        write_csv(rows, staged / f"{PAGE}.csv")
        _write(staged / f"{PAGE}.json", {"experiment": identity, "real_scan": real})
        draw(rows, titles, staged / f"{PAGE}.png")
        (staged / f"{PAGE}.md").write_text(page, encoding="utf-8")
    return {
        "rows": len(rows),
        "fewer_teeth_wrong": {than: {t: asdict(e) for t, e in by.items()} for than, by in fewer.items()},
        "costs": costs,
        "real_scan": {arm: dict(kinds) for arm, kinds in real.items()},
        "page": page,
    }


def _costs(bundle: Bundle) -> dict[str, dict[str, float]]:
    """Size of the model in MB and median seconds of one tile on all cores, of FP32 and of the integer model.

    They are those of the network all trainings start from: none changes its shape.
    """
    import statistics
    import time

    import numpy as np

    from ToothTopoSegLib.quantization.export import float_bundle
    from ToothTopoSegLib.segmentation.runner import Runner

    costs = {}
    for arm, model in {"fp32": float_bundle(bundle), "ptq": bundle}.items():
        runner, times = Runner(model), []
        for _ in range(LATENCY_RUNS):
            began = time.perf_counter()
            runner(np.zeros(model.patch, np.float32))
            times.append(time.perf_counter() - began)
        costs[arm] = {"megabytes": len(model.model) / 1e6, "seconds": statistics.median(times)}
    return costs


def _page(
    settings: Settings,
    bundle: Bundle,
    rows: list[Row],
    titles: Mapping[str, str],
    fewer: Mapping[str, Mapping[str, Any]],
    costs: Mapping[str, Mapping[str, float]],
    real: Mapping[str, Mapping[str, int]],
) -> str:
    from ToothTopoSegLib.training.experiment_table import markdown

    z, y, x = (round(n * bundle.spacing) for n in bundle.patch)
    lines = [
        f"- {by[t].text(0, 100)} % fewer teeth with a wrong Betti number than {TITLES[than]} ({t})"
        for than, by in fewer.items()
        for t in ("raw", "tidied")
    ]
    missing = _missing(settings, rows)
    integer, real_scores = costs["ptq"], costs["fp32"]
    return f"""# What quantization does to the topology of teeth

`./toothtopo experiment quantization -o DIR`

{len(settings.scan_seeds)} held-out hard phantoms (crowding, touching crowns, metal, blur, noise; one tile of
{z} x {y} x {x} mm in voxels of 0.45 mm), {len(settings.seeds)} training seeds. Every model starts from the float
weights of {bundle.card["name"]} {bundle.card["version"]} and learns {settings.steps} steps in float, in which its rate
falls {settings.cycles} times, a QAT model then {settings.integer_steps} more in fake quantization, with its own loss in
both; of {settings.batch} patch of {" x ".join(map(str, settings.patch))} voxels on {settings.cases} heads a step.
Compute bounds this experiment, and longer trainings may differ. Mean and 95 % confidence interval (bootstrap over
training seeds and scans). A tooth is wrong if any of its Betti numbers differs from the reference's own, also if it is
missed or invented. *Raw* is the best class of the network's scores; *tidied* keeps the largest piece of each tooth and
fills its voids.{missing}

![Teeth with a wrong Betti number, and Dice]({PAGE}.png)

QAT + topology has

{chr(10).join(lines)}

{markdown(rows, titles)}

Model: {integer["megabytes"]:.1f} MB in integers, {real_scores["megabytes"]:.1f} MB in float32; one tile takes
{integer["seconds"]:.2f} s and {real_scores["seconds"]:.2f} s (median of {LATENCY_RUNS}, ONNX Runtime, all cores).

## The same with a 6-connected foreground

{markdown(rows, titles, "_6")}
{_real_table(real)}"""


def _missing(settings: Settings, rows: list[Row]) -> str:
    """A paragraph on what is not measured of an experiment that goes on; nothing of a finished one."""
    there = {(row["model"], row["seed"]) for row in rows}
    counts = {title: sum((arm, seed) in there for seed in settings.seeds) for arm, title in TITLES.items()}
    short = [f"{title} {count}" for title, count in counts.items() if count < len(settings.seeds)]
    if not short:
        return ""
    return f"\n\n**Not finished.** Of {len(settings.seeds)} training seeds are measured so far: {', '.join(short)}."


def _real_table(real: Mapping[str, Mapping[str, int]]) -> str:
    if not real:
        return ""
    kinds = sorted({kind for found in real.values() for kind in found})
    lines = [f"| {' | '.join(['model', *kinds])} |", "|" + " --- |" * (len(kinds) + 1)]
    lines += [f"| {' | '.join([TITLES[a], *(str(f.get(k, 0)) for k in kinds)])} |" for a, f in real.items()]
    return "\n## Errors and warnings on a real scan without truth\n\n" + "\n".join(lines) + "\n"
