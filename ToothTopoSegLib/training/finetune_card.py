"""What a fine-tuning gave: measures of whole scans before and after, whether that is better, and the card that says so.

In: bundles and the user's held-out cases. Out: means over these cases, through the same way of a scan that
``./toothtopo segment`` takes, and a card in which cases have numbers and no names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ToothTopoSegLib.progress import Progress, part, silent
from ToothTopoSegLib.training.user_cases import UserCase, read_user_case

if TYPE_CHECKING:
    from ToothTopoSegLib.imaging.volume import Volume
    from ToothTopoSegLib.quantization.bundle import Bundle

MEASURES = ("dice", "teeth_wrong", "identification", "errors", "warnings", "score")
"""Mean Dice per tooth, share of teeth with a wrong Betti number, share of teeth with the right FDI number, findings of
severity error and warning, and :func:`score`."""
LIMITS = (
    "Fine-tuned on the scans of one user, whose labels it takes for the truth. The held-out scans also chose the "
    "moment to stop, so that figures on them flatter the model a little."
)
Measures = dict[str, Any]


def score(dice: float, teeth_wrong: float) -> float:
    """What models are compared by, 0 to 1: three parts Dice, one part teeth without topological error."""
    return 0.75 * dice + 0.25 * (1 - teeth_wrong)


def compared(found: Volume, truth: Volume) -> dict[str, float]:
    """Dice, topology and numbering of a label map against the truth, FDI label maps on one grid."""
    from ToothTopoSegLib.evaluation.held_out import teeth_wrong
    from ToothTopoSegLib.evaluation.overlap import evaluate_label_maps

    figures = evaluate_label_maps(found, truth)
    dice, share = float(figures["mean_tooth_dice"] or 0.0), float(teeth_wrong(found, truth) or 0.0)
    numbers = float(figures["fdi_identification_rate"] or 0.0)
    return {"dice": dice, "teeth_wrong": share, "identification": numbers, "score": score(dice, share)}


def measure(bundle: Bundle, cases: Sequence[UserCase], progress: Progress = silent) -> Measures:
    """Means of :data:`MEASURES` over cases, and those of each case, through the whole way of a scan."""
    import torch

    from ToothTopoSegLib.segmentation.runner import Runner

    runner = Runner(bundle, threads=torch.get_num_threads())
    rows = [
        _measured(bundle, runner, case, part(progress, i / len(cases), (i + 1) / len(cases)))
        for i, case in enumerate(cases)
    ]
    means = {name: round(float(np.mean([row[name] for row in rows])), 4) for name in MEASURES}
    return means | {"each": [{name: round(row[name], 4) for name in MEASURES} for row in rows]}


def _measured(bundle: Bundle, runner: Any, case: UserCase, progress: Progress) -> dict[str, float]:
    from ToothTopoSegLib.segmentation.pipeline import segment_volume
    from ToothTopoSegLib.topology.check import check_volume

    scan, truth = read_user_case(case)
    found = segment_volume(scan, bundle, runner, progress)
    findings, _ = check_volume(found, scan)
    severities = [finding.severity for finding in findings]
    counts = {"errors": float(severities.count("error")), "warnings": float(severities.count("warning"))}
    return compared(found, truth) | counts


def is_better(before: Measures, after: Measures) -> bool:
    """Whether a model may be called better: a higher Dice, and not more teeth with a topological error."""
    return bool(after["dice"] > before["dice"] and after["teeth_wrong"] <= before["teeth_wrong"])


def verdict(before: Measures, after: Measures) -> str:
    """One sentence on what became of the model on the held-out cases."""
    figures = (
        f"Dice {before['dice']:.3f} before and {after['dice']:.3f} after, teeth with a wrong Betti number "
        f"{before['teeth_wrong']:.1%} before and {after['teeth_wrong']:.1%} after"
    )
    if is_better(before, after):
        return f"Better than the model it started from on the held-out cases: {figures}."
    return f"Not better than the model it started from on the held-out cases: {figures}."


def base_card(base: Bundle, made: Mapping[str, Any]) -> dict[str, Any]:
    """The card of a model while it is fine-tuned; ``made`` is what the model itself determines."""
    start = {key: base.card.get(key) for key in ("name", "version", "sha256")}
    limits = " ".join(text for text in (base.card.get("limits"), LIMITS) if text)
    same = ("licence", "training", "classes", "surface")
    kept: dict[str, Any] = {key: base.card[key] for key in same if key in base.card}
    return {**made, **kept, "fine_tuning": {"fine-tuned from": start}, "limits": limits}


def told_card(card: str, facts: Mapping[str, Any]) -> str:
    """A card that tells of its fine-tuning."""
    whole: dict[str, Any] = json.loads(card)
    whole["fine_tuning"] |= dict(facts)
    return json.dumps(whole, indent=2) + "\n"


def finished_card(card: str, facts: Mapping[str, Any], before: Measures, after: Measures) -> str:
    """The card at the end; cases are numbered, and held-out ones stand with their measures."""
    measured = {
        "before": before,
        "after": after,
        "better": is_better(before, after),
        "verdict": verdict(before, after),
    }
    return told_card(card, dict(facts) | measured)
