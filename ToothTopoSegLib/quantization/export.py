"""From a training run to a bundle: fold, calibrate, write the integer graph, audit it, and write its card.

In: a run folder of :mod:`ToothTopoSegLib.training.loop`. Out: ``<bundle>.onnx`` (integer model), ``<bundle>.json``
(card) and ``<bundle>_float16.safetensors`` (weights for fine-tuning, in a format that cannot carry code).
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.errors import ModelError, UsageError
from ToothTopoSegLib.progress import Progress, part, silent
from ToothTopoSegLib.quantization.bundle import CARD_SCHEMA, Bundle, load_bundle
from ToothTopoSegLib.quantization.config import QuantConfig

if TYPE_CHECKING:
    from ToothTopoSegLib.quantization.fake_quant import QatNetwork
    from ToothTopoSegLib.quantization.graph import Graph
    from ToothTopoSegLib.training.network import Plan

LICENCE = "Apache-2.0"
INTEGERS = "integers"
"""The folder within a run folder in which its training goes on in fake quantization."""
LIMITS = (
    "Trained on synthetic scans only; no patient's scan was used. Tested on few real scans. Permanent teeth only: "
    "deciduous teeth, implants and bridges have no class of their own. Not a medical device; every result needs the "
    "eyes of a dentist."
)


def float_weights_path(model: Path) -> Path:
    """Where a bundle keeps its weights for fine-tuning."""
    return model.with_name(f"{model.stem}_float16.safetensors")


def _calibration_patches(
    cases: Path, schedule: dict[str, Any], plan: Plan, progress: Progress
) -> Iterator[NDArray[Any]]:
    """The patches (1, 1, z, y, x) of a training's schedule; UsageError where a case is not in the cache any more."""
    from ToothTopoSegLib.training.loop import Schedule, calibration_patches

    # Whatever of the schedule is no configuration of its own: a list of what the patches need would fall behind.
    known = {f.name: schedule[f.name] for f in fields(Schedule) if isinstance(schedule.get(f.name), int | float | str)}
    try:
        yield from calibration_patches(Schedule(plan, **known), cases, progress)
    except FileNotFoundError as error:
        missing = Path(str(error.filename)).name
        raise UsageError(f"The training case {missing} is not in {cases}; run the training there again.") from error


def half_precision(weights: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The weights in half precision; ModelError when one does not fit or is no number."""
    with np.errstate(over="ignore"):
        half = {name: value.astype(np.float16) for name, value in weights.items()}
    for name, value in half.items():
        if not np.isfinite(value).all():
            raise ModelError(f"The weights {name} are no numbers below 65504; the training failed, run it again.")
    return half


def float_bundle(bundle: Bundle) -> Bundle:
    """The float twin of a bundle: the same weights (half precision, as shipped) in a float32 ONNX graph.

    Raises ModelError when the bundle has no float weights beside it.
    """
    from ToothTopoSegLib.quantization.fold import fold, read_weights
    from ToothTopoSegLib.quantization.onnx_graph import float_model
    from ToothTopoSegLib.training.network import Plan

    path = float_weights_path(bundle.path)
    if not path.is_file():
        raise ModelError(f"The float weights {path.name} are missing beside the model; copy the whole bundle.")
    plan = Plan.from_dict(bundle.card["plan"])
    card = bundle.card | {"precision": "float32", "name": f"{bundle.card['name']} (float)"}
    card["scores"] = {"scale": 1.0, "zero_point": 0}
    return Bundle(bundle.path, float_model(fold(read_weights(path), plan), plan.patch), card)


def _training_facts(run_folder: Path) -> dict[str, Any]:
    """What the card says about the training; ``history.txt`` in the run folder may tell what the log cannot."""
    schedule = json.loads((run_folder / "schedule.json").read_text(encoding="utf-8"))
    history = run_folder / "history.txt"
    with (run_folder / "log.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {
        "data": "synthetic phantoms of ToothTopoSegLib.phantom, random contrast, noise, blur, metal and field of view",
        "recipe": schedule["recipe"],
        "setting": schedule.get("setting", "plain"),
        "cases": schedule["cases"],
        "heads without jaws": schedule["crania"],
        "seed": schedule["seed"],
        "steps": int(rows[-1]["step"]),
        "seconds": float(rows[-1]["seconds"]),
        "validation": {k: float(rows[-1][k]) for k in ("dice_teeth", "dice_any_tooth") if rows[-1][k]},
    } | ({"history": history.read_text(encoding="utf-8").strip()} if history.is_file() else {})


def quantized(
    graph: Graph, patches: Iterable[NDArray[Any]], plan: Plan, config: QuantConfig
) -> tuple[bytes, dict[str, Any]]:
    """The integer ONNX model of a folded graph, and what turns its uint8 scores into real ones."""
    from ToothTopoSegLib.quantization.calibrate import calibrate
    from ToothTopoSegLib.quantization.onnx_graph import integer_model

    activations = calibrate(graph, patches, config)
    scores = activations[graph.scores]
    affine = {"scale": scores.scale, "zero_point": scores.zero_point}
    return integer_model(graph, activations, config, plan.patch), affine


def trained_in_integers(network: QatNetwork, plan: Plan) -> tuple[bytes, dict[str, Any]]:
    """The integer ONNX model of a network trained in fake quantization, with its own scales; else as ``quantized``."""
    from ToothTopoSegLib.quantization.onnx_graph import integer_model

    found = network.exported()
    scores = found.activations[found.graph.scores]
    affine = {"scale": scores.scale, "zero_point": scores.zero_point}
    return integer_model(found.graph, found.activations, network.config, plan.patch, found.weight_scales), affine


def export_run(
    run_folder: Path,
    bundle: Path,
    mean_with: Path | None = None,
    progress: Progress = silent,
    config: QuantConfig | None = None,
) -> dict[str, Any]:
    """Write the bundle ``bundle`` (an .onnx path) from a training run; returns the card.

    A run in float is quantized as ``config`` says; a quantization-aware one, or what of a run is in ``INTEGERS``, is
    written as it was trained. ``mean_with`` is the bundle that a run, or its part in integers, began from: the mean of
    both keeps what it knew beside what the run has learnt (Wortsman et al., Robust fine-tuning of zero-shot models,
    CVPR 2022), is quantized as ``config`` says, and its second network goes on.

    Raises UsageError when ``run_folder`` holds no finished run or ``bundle`` is no .onnx path, ModelError when the
    weights are damaged or of another network or the exported graph fails its own audit, OutputError when the bundle
    cannot be written; then nothing is written.
    """
    from safetensors.numpy import save

    from ToothTopoSegLib.imaging.write import output_folder
    from ToothTopoSegLib.quantization.audit import audit_graph, optimised_graph

    if bundle.suffix != ".onnx":
        raise UsageError(f"The bundle {bundle.name} must end in .onnx; its card and float weights get the same name.")
    progress(0.0, "folding the norms")
    whole, run_folder = run_folder, _last_part(run_folder)
    schedule, plan, weights = _read_run(run_folder)
    trained = schedule.get("quantization")
    begun_from: Mapping[str, Any] = {}
    if mean_with is not None:
        weights, begun_from = _mean(weights, load_bundle(mean_with), plan)
    graph = _folded(weights, plan)
    if trained and mean_with is None:
        config = QuantConfig(**trained)
        model, scores = trained_in_integers(_trained_network(run_folder, weights, plan, config), plan)
    else:
        config = config or QuantConfig()
        patches = _calibration_patches(whole / "cases", schedule, plan, part(progress, 0.1, 0.8))
        model, scores = quantized(graph, patches, plan, config)
    progress(0.8, "auditing the integer graph")
    if problems := audit_graph(optimised_graph(model).graph):
        raise ModelError(f"The exported graph is not all integer: {problems[0]}.")
    card = model_card(bundle.stem, model, plan, scores, config) | {
        "training": _training_facts(whole)
        | ({"in integers": _training_facts(run_folder)} if run_folder != whole else {}),
        "limits": LIMITS,
        "licence": LICENCE,
    }
    if mean_with is not None:
        card["training"]["mean with"] = begun_from["training"]
        card |= {key: begun_from[key] for key in ("surface",) if key in begun_from}
    with output_folder(bundle.parent) as staged:
        (staged / bundle.name).write_bytes(model)
        (staged / float_weights_path(bundle).name).write_bytes(save(weights))
        (staged / f"{bundle.stem}.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
        progress(1.0, "done")
    return card


def _mean(
    weights: dict[str, NDArray[Any]], begun_from: Bundle, plan: Plan
) -> tuple[dict[str, NDArray[Any]], Mapping[str, Any]]:
    """The mean of the weights and those of a bundle, in half precision, and the card of that bundle.

    Norms are folded first: a part in integers has none left, and only what convolves is alike in both.
    """
    from ToothTopoSegLib.quantization.fold import fold, read_weights, supervision_heads, unfold
    from ToothTopoSegLib.quantization.graph import Conv

    path = float_weights_path(begun_from.path)
    others = read_weights(path) if path.is_file() else {}
    if {k: v.shape for k, v in others.items()} != {k: v.shape for k, v in weights.items()}:
        raise ModelError(
            f"The bundle {begun_from.path.name} has no float weights of the network that was trained; give the one "
            "that the run began from."
        )

    def between(one: Conv, two: Conv) -> Conv:
        return replace(one, weight=(one.weight + two.weight) / 2, bias=(one.bias + two.bias) / 2)

    mine, theirs = ({k: v.astype(np.float32) for k, v in each.items()} for each in (weights, others))
    graph, other = fold(mine, plan), fold(theirs, plan)
    nodes = [
        between(a, b) if isinstance(a, Conv) and isinstance(b, Conv) else a
        for a, b in zip(graph.nodes, other.nodes, strict=True)
    ]
    heads, other_heads = supervision_heads(mine, plan), supervision_heads(theirs, plan)
    mean = unfold(replace(graph, nodes=tuple(nodes)), {k: between(heads[k], other_heads[k]) for k in heads}, plan)
    return half_precision(mean), begun_from.card


def _last_part(run_folder: Path) -> Path:
    """Where the weights of a run lie in the end."""
    goes_on = (run_folder / INTEGERS / "weights.safetensors").is_file()
    return run_folder / INTEGERS if goes_on else run_folder


def _read_run(run_folder: Path) -> tuple[dict[str, Any], Plan, dict[str, NDArray[Any]]]:
    """Schedule, plan and half-precision weights of a run folder; UsageError when they are not all there."""
    from ToothTopoSegLib.quantization.fold import read_weights
    from ToothTopoSegLib.training.network import Plan

    files = [run_folder / name for name in ("weights.safetensors", "schedule.json", "log.csv")]
    if not all(file.is_file() for file in files):
        raise UsageError(f"The folder {run_folder} holds no weights with their log; run the training there first.")
    try:
        schedule: dict[str, Any] = json.loads(files[1].read_text(encoding="utf-8"))
        plan = Plan.from_dict(schedule["plan"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"The schedule.json in {run_folder} is none of a training; run the training again.") from error
    return schedule, plan, half_precision(read_weights(files[0]))


def _trained_network(run_folder: Path, weights: dict[str, NDArray[Any]], plan: Plan, config: QuantConfig) -> QatNetwork:
    """The averaged network of a quantization-aware run; UsageError where its checkpoint is missing or another's."""
    import torch

    from ToothTopoSegLib.quantization.fake_quant import QatNetwork
    from ToothTopoSegLib.quantization.fold import supervision_heads

    network = QatNetwork(_folded(weights, plan), config, supervision_heads(weights, plan))
    network.freeze_ranges()
    try:
        content = torch.load(run_folder / "checkpoint.pt", map_location="cpu", weights_only=True)
        network.load_state_dict(content["average"])
    except (OSError, KeyError, RuntimeError) as error:
        raise UsageError(f"The checkpoint in {run_folder} is missing or of another run; train there again.") from error
    return network.eval()


def _folded(weights: dict[str, NDArray[Any]], plan: Plan) -> Graph:
    """The folded graph of half-precision weights; UsageError when they are those of another plan."""
    from ToothTopoSegLib.quantization.fold import fold

    try:
        return fold({name: value.astype(np.float32) for name, value in weights.items()}, plan)
    except KeyError as error:
        raise UsageError(f"The weights lack {error} of the plan beside them; run the training again.") from error


def model_card(name: str, model: bytes, plan: Plan, scores: dict[str, Any], config: QuantConfig) -> dict[str, Any]:
    """The part of a card that the model itself determines."""
    from ToothTopoSegLib import __version__
    from ToothTopoSegLib.training.loop import CALIBRATION_PATCHES

    return {
        "schema": CARD_SCHEMA,
        "name": name,
        "version": __version__,
        "precision": f"uint8 activations, int{config.weight_bits} weights in int8",
        "sha256": hashlib.sha256(model).hexdigest(),
        "plan": plan.as_dict(),
        "scores": scores,
        "quantization": config.as_dict() | {"calibration_patches": CALIBRATION_PATCHES},
    }


def record_surface(bundle: Path, surface: Path) -> None:
    """Write into the card of a bundle (.onnx) which second network draws the surfaces of the teeth it finds.

    ``surface`` is that network's bundle; its files belong beside it. ModelError where either is damaged.
    """
    card = load_bundle(bundle).card | {"surface": {"name": surface.stem, "sha256": load_bundle(surface).card["sha256"]}}
    _write_card(bundle, card)


def record_metrics(bundle: Path, measured: dict[str, Any]) -> None:
    """Write the means of :func:`ToothTopoSegLib.evaluation.held_out.measure` into a bundle's card as ``metrics``."""
    card = json.loads(bundle.with_suffix(".json").read_text(encoding="utf-8"))
    kind = ["hard"] * measured["hard"] + [measured["setting"]] * (measured["setting"] != "plain")
    name = " ".join([str(measured["phantoms"]), *kind, f"phantoms from seed {measured['seeds'][0]}"])
    card.setdefault("metrics", {})[name] = measured["mean"]
    _write_card(bundle, card)


def _write_card(bundle: Path, card: dict[str, Any]) -> None:
    path = bundle.with_suffix(".json")
    staged = path.with_suffix(".part")
    staged.write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    staged.replace(path)
