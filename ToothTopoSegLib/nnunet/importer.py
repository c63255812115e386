"""Bring your own nnU-Net v2 model: ``./toothtopo import-nnunet``.

In: the folder or zip of a trained model. Out: a bundle (``<name>.onnx`` and its card) that ``segment --model`` runs
with nnU-Net's own preprocessing and without torch. The network is first rebuilt as a graph and compared with nnU-Net's
own module; only then it is quantized, on scans of the user's or, where there are none, on phantoms, and compared again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.errors import ModelError, UsageError
from ToothTopoSegLib.nnunet import plans as form
from ToothTopoSegLib.nnunet.architecture import Shape, build_network, network_graph, norm_of, shape_of
from ToothTopoSegLib.nnunet.checkpoint import Checkpoint, read_checkpoint
from ToothTopoSegLib.nnunet.folder import checkpoint_files, model_folder, read_json
from ToothTopoSegLib.nnunet.labels import fdi_of_labels
from ToothTopoSegLib.nnunet.quantize import Exported, agreement, exported, has_instance_norm
from ToothTopoSegLib.progress import Progress, part, silent
from ToothTopoSegLib.quantization.bundle import CARD_SCHEMA

Array = NDArray[Any]
PRECISIONS = ("auto", "integer", "qdq", "float")
NAMES = {
    "integer": "uint8 activations, int7 weights in int8",
    "qdq": "8-bit convolutions but first and last, float norm",
    "float": "float32",
}
LARGEST_ERROR = 1e-4
"""Largest difference from nnU-Net's own network, relative to its largest score, with which a model is imported."""
WANTED_DICE = 0.99
"""What an 8-bit form must agree with the float network for ``auto`` to take it."""
PATCHES = 16
PHANTOM_SEED = 3_000_000
LIMITS = (
    "Trained by others: what is known of its data and limits is in its own documentation. Like nnU-Net it takes the "
    "axes of a scan as they are stored, so that scans stored along other axes than its training data can be labelled "
    "wrongly. Not a medical device; every result needs the eyes of a dentist."
)


@dataclass(frozen=True, eq=False)
class Model:
    """A trained model, read and checked."""

    name: str
    configuration: str
    trainer: str
    labels: form.Labels
    how: form.Preprocessing
    shape: Shape
    folds: dict[str, Checkpoint]


def read_model(path: Path, configuration: str | None = None, folds: Sequence[str] | None = None) -> Model:
    """The model in a folder or zip.

    Raises ModelError when it is damaged or of a kind that cannot be imported, UsageError for a fold it does not have.
    """
    with model_folder(path, configuration) as folder:
        plans, dataset = read_json(folder, "plans.json"), read_json(folder, "dataset.json")
        form.check_channels(dataset)
        labels = form.labels_of(dataset)
        read = {name: read_checkpoint(file) for name, file in checkpoint_files(folder, folds).items()}
    first = next(iter(read.values()))
    found = form.chosen_configuration(plans, configuration, first.configuration)
    norm = norm_of(first.weights)
    shape = shape_of(form.architecture_of(found), norm)
    how = form.preprocessing_of(plans, found, labels, first.mirror_axes)
    if any(side % multiple for side, multiple in zip(how.patch, shape.patch_multiple, strict=True)):
        raise ModelError(f"The patch {how.patch} is no multiple of {shape.patch_multiple}; get the model again.")
    for one in read.values():
        _check_heads(one, labels, shape)
    name = str(plans.get("dataset_name", path.stem))
    return Model(name, first.configuration, first.trainer, labels, how, shape, read)


def _check_heads(checkpoint: Checkpoint, labels: form.Labels, shape: Shape) -> None:
    head = checkpoint.weights.get(f"decoder.seg_layers.{len(shape.blocks_decoder) - 1}.weight")
    if head is None or len(head) != labels.heads:
        count = "no" if head is None else len(head)
        raise ModelError(
            f"The network gives {count} scores, but dataset.json has labels for {labels.heads}; the files are not of "
            "one model, get them again."
        )


def import_nnunet(
    source: Path,
    bundle: Path,
    calibrate: Sequence[Path] = (),
    configuration: str | None = None,
    folds: Sequence[str] | None = None,
    mapping: Path | None = None,
    precision: str = "auto",
    progress: Progress = silent,
) -> dict[str, Any]:
    """Write the bundle ``bundle`` (an .onnx path) of a trained nnU-Net v2 model; returns the report.

    ``calibrate`` are scans to quantize on, ``mapping`` says which labels are which teeth, ``precision`` is one of
    ``PRECISIONS``: auto takes the most compact form that agrees with the float network to ``WANTED_DICE``.

    Raises UsageError for wrong options, ModelError for a model that cannot be imported, InputError for a scan that
    cannot be read, OutputError when the bundle cannot be written; then nothing is written.
    """
    if bundle.suffix != ".onnx":
        raise UsageError(f"The bundle {bundle.name} must end in .onnx; its card gets the same name.")
    if precision not in PRECISIONS:
        raise UsageError(f"There is no precision {precision!r}; use one of {', '.join(PRECISIONS)}.")
    progress(0.0, f"reading {source.name}")
    model = read_model(source, configuration, folds)
    teeth = fdi_of_labels(model.labels, mapping)
    graphs = [network_graph(model.shape, fold.weights) for fold in model.folds.values()]
    fixed = has_instance_norm(graphs[0])
    if precision == "integer" and fixed and not calibrate:
        raise UsageError("An instance norm becomes integer only with scans to measure it on; give --calibrate SCANS.")
    progress(0.1, "comparing with nnU-Net's own network")
    float_form = exported(graphs, "float", [], model.how.patch)
    parity = _parity(model, float_form)
    patches = [] if precision == "float" else _patches(model.how, calibrate, part(progress, 0.2, 0.4))
    wanted = [precision] if precision != "auto" else _candidates(fixed, bool(calibrate))
    chosen, agreed = _best(graphs, wanted, float_form, patches, model, part(progress, 0.4, 0.95))
    card = _card(bundle.stem, model, chosen, teeth) | {
        "parity": parity,
        "agreement": agreed,
        "calibrated on": _calibrated_on(chosen.precision, calibrate),
    }
    _write(bundle, chosen.model, card)
    progress(1.0, "done")
    return _report(bundle, card, model)


def _candidates(instance_norm: bool, scans: bool) -> list[str]:
    """The forms that ``auto`` tries, the most compact first."""
    if not instance_norm:
        return ["integer", "float"]
    return ["integer", "qdq", "float"] if scans else ["qdq", "float"]


def _calibrated_on(precision: str, scans: Sequence[Path]) -> str:
    if precision == "float":
        return "nothing"
    return f"{len(scans)} scans" if scans else "synthetic phantoms of ToothTopoSegLib.phantom"


def _session(model: bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _parity(model: Model, float_form: Exported) -> float:
    """Largest difference from nnU-Net's own modules on a random patch, relative to their largest score.

    Raises ModelError when it exceeds ``LARGEST_ERROR``.
    """
    import torch

    session, worst = _session(float_form.model), 0.0
    image = np.random.default_rng(0).normal(size=(1, 1, *model.how.patch)).astype(np.float32)
    found = session.run(None, {session.get_inputs()[0].name: image})
    for scores, fold in zip(found, model.folds.values(), strict=True):
        with torch.inference_mode():
            expected = build_network(model.shape, model.labels.heads, fold.weights)(torch.from_numpy(image)).numpy()
        worst = max(worst, float(np.abs(scores - expected).max() / np.abs(expected).max()))
    if not worst <= LARGEST_ERROR:
        raise ModelError(
            f"The exported network differs from nnU-Net's by {worst:.1e} of its largest score, at most "
            f"{LARGEST_ERROR:.0e} is allowed; please report the model."
        )
    return worst


def _patches(how: form.Preprocessing, scans: Sequence[Path], progress: Progress) -> list[Array]:
    """Prepared patches (1, 1, z, y, x) of the scans, or of phantoms where there are none: those brightest inside."""
    from ToothTopoSegLib.imaging.read import read_scan
    from ToothTopoSegLib.nnunet.prepare import brightest_patches
    from ToothTopoSegLib.phantom.write import make_small_phantom

    count = len(scans) or PATCHES // 2
    each = max(2, -(-PATCHES // count))
    found = []
    for i in range(count):
        progress(i / count, "preparing scans to calibrate on")
        scan = read_scan(scans[i]) if scans else make_small_phantom(PHANTOM_SEED + i).scan
        found += brightest_patches(scan, how, each)
    return found


def _best(
    graphs: Sequence[Any],
    wanted: Sequence[str],
    float_form: Exported,
    patches: Sequence[Array],
    model: Model,
    progress: Progress,
) -> tuple[Exported, dict[str, Any]]:
    """The first wanted form that agrees, or the last one; and what each that was tried agrees."""
    measured: dict[str, Any] = {}
    chosen = float_form
    for i, name in enumerate(wanted):
        progress(i / len(wanted), f"quantizing ({NAMES[name]})")
        if name == "float":
            return float_form, measured
        # Ranges come from most of the patches; every fourth one judges.
        judged = patches[1::4] or patches
        seen = [patch for i, patch in enumerate(patches) if i % 4 != 1]
        chosen = exported(graphs, name, seen, model.how.patch)
        found, expected = (_labels(form_, judged, model.how.regions) for form_ in (chosen, float_form))
        measured[name] = agreement(found, expected) | {"patches": len(judged)}
        if measured[name]["Dice"] >= WANTED_DICE:
            break
    return chosen, measured


def _labels(form_: Exported, patches: Sequence[Array], regions: tuple[int, ...] | None) -> list[Array]:
    """Labels (z, y, x) of each patch."""
    session = _session(form_.model)
    found = []
    for patch in patches:
        outputs = session.run(None, {session.get_inputs()[0].name: patch})
        pairs = zip(outputs, form_.scores, strict=True)
        mean = np.mean([s["scale"] * (o[0].astype(np.float32) - s["zero_point"]) for o, s in pairs], axis=0)
        labels = mean.argmax(0)
        if regions is not None:
            labels = np.zeros_like(labels)
            for scores, label in zip(mean, regions, strict=True):
                labels[scores > 0] = label
        found.append(labels)
    return found


def _card(name: str, model: Model, chosen: Exported, teeth: dict[int, int]) -> dict[str, Any]:
    from ToothTopoSegLib import __version__

    return {
        "schema": CARD_SCHEMA,
        "name": name,
        "version": __version__,
        "precision": NAMES[chosen.precision],
        "sha256": hashlib.sha256(chosen.model).hexdigest(),
        "pipeline": "nnunet",
        "plan": {"patch": list(model.how.patch), "spacing": list(model.how.spacing)},
        "scores": chosen.scores,
        "nnunet": model.how.as_dict(),
        "labels": [
            {"value": value, "name": label, "fdi": teeth.get(value, 0)} for value, label in model.labels.written.items()
        ],
        "imported": {
            "dataset": model.name,
            "configuration": model.configuration,
            "trainer": model.trainer,
            "folds": list(model.folds),
            "architecture": "ResidualEncoderUNet" if model.shape.residual else "PlainConvUNet",
            "norm": model.shape.norm,
            "features": list(model.shape.features),
        },
        "limits": LIMITS,
        "licence": "that of the imported model",
    }


def _write(bundle: Path, model: bytes, card: dict[str, Any]) -> None:
    from ToothTopoSegLib.imaging.write import output_folder

    with output_folder(bundle.parent) as staged:
        (staged / bundle.name).write_bytes(model)
        (staged / f"{bundle.stem}.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")


def _report(bundle: Path, card: dict[str, Any], model: Model) -> dict[str, Any]:
    """What was imported, for a person."""
    mapped = [label for label in card["labels"] if label["fdi"]]
    return {
        "bundle": bundle,
        **card["imported"],
        "relative difference from nnU-Net": card["parity"],
        "precision": card["precision"],
        "agreement with float": card["agreement"],
        "calibrated on": card["calibrated on"],
        "labels": {label["name"]: label["fdi"] for label in mapped},
        "labels without a tooth or jaw": [label["name"] for label in card["labels"] if not label["fdi"]],
    }
