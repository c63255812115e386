"""What fine-tuning gives on five labelled scans of a kind the bundled model has not seen.

usage: .venv/bin/python Testing/Benchmarks/bench_finetune.py -o DIR [--minutes M | --steps N] [--evidence finetune.md]

Renders 5 phantoms of the setting "foreign" (seeds 21000 to 21004) as one scanner shows them (seed 21000), as in one
clinic, fine-tunes the bundled model on them, and holds it and the result against 10 others by that scanner (seeds 21100
to 21109) that neither has seen, through the whole way of a scan. With --mixed each phantom is by a scanner of its own,
which says what fine-tuning gives for scanners it has not seen either. Nothing of the program was chosen on these seeds.
Goes on in DIR where it was interrupted; times are those of the machine as busy as it is, which the page says by the
processor time the process got.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from ToothTopoSegLib.cli import ProgressBar
from ToothTopoSegLib.phantom.write import write_phantoms
from ToothTopoSegLib.quantization.bundle import load_bundle
from ToothTopoSegLib.training.finetune import Choices, finetune
from ToothTopoSegLib.training.finetune_card import MEASURES, measure
from ToothTopoSegLib.training.user_cases import UserCase, find_cases

TRAINED, HELD_OUT = range(21000, 21005), range(21100, 21110)
DEVELOPMENT = range(20000, 20005), range(20100, 20110)


def rendered(folder: Path, seeds: range, scanner: int | None) -> list[UserCase]:
    """The phantoms of the seeds as cases; those that are there are not made again."""
    for seed in seeds:
        if not (folder / f"phantom_{seed:05d}.json").exists():
            print(f"rendering phantom {seed}", file=sys.stderr, flush=True)
            write_phantoms(folder, 1, seed, setting="foreign", scanner=scanner)
    return find_cases([folder])


def measured(folder: Path, name: str, model: Path | None, cases: list[UserCase]) -> list[dict[str, float]]:
    """Measures of each case; each is kept as soon as it is known."""
    rows = []
    for case in cases:
        kept = folder / name / f"{case.name}.json"
        if not kept.exists():
            print(f"measuring {name}: {case.name}", file=sys.stderr, flush=True)
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_text(json.dumps(measure(load_bundle(model), [case])["each"][0]), encoding="utf-8")
        rows.append(json.loads(kept.read_text(encoding="utf-8")))
    return rows


def trained(folder: Path, cases: Path, minutes: float, choices: Choices) -> dict[str, Any]:
    """The report of the fine-tuning, with the processor time of the call that ended it."""
    kept = folder / "report.json"
    if not kept.exists():
        began, wall = time.process_time(), time.monotonic()
        report = finetune(
            [cases], folder / "tuned.onnx", minutes, "cpu", None, choices, progress=ProgressBar(sys.stderr)
        )
        cores = (time.process_time() - began) / (time.monotonic() - wall)
        kept.write_text(json.dumps({**report, "bundle": str(report["bundle"]), "cores": cores}), encoding="utf-8")
    return dict(json.loads(kept.read_text(encoding="utf-8")))


def page(
    report: dict[str, Any],
    choices: Choices,
    scanners: str,
    before: list[dict[str, float]],
    after: list[dict[str, float]],
) -> str:
    """The evidence in Markdown."""
    means = {name: [float(np.mean([row[name] for row in rows])) for rows in (before, after)] for name in MEASURES}
    (dice, tuned), (wrong, wrong_tuned) = means["dice"], means["teeth_wrong"]
    lines = [f"| {name} | {first:.4f} | {second:.4f} |" for name, (first, second) in means.items()]
    stated = ", ".join(f"{name} {value}" for name, value in asdict(choices).items())
    less = 100 * (1 - (1 - tuned) / (1 - dice))
    change = f"{abs(less):.0f} % {'less' if less >= 0 else 'more'}"
    fewer = "fewer" if wrong_tuned < wrong else "not fewer"
    return f"""# Fine-tuning on five scans of another kind

`Testing/Benchmarks/bench_finetune.py -o DIR`

The bundled model, fine-tuned on 5 phantoms of the setting *foreign* (contrast law and artefacts it has not seen; 4 to
learn from, 1 held out), before and after on {len(before)} others, whole scans, {scanners}.
{report["steps"]} steps in {report["minutes"]:.0f} minutes, in which the process got {report["cores"]:.2f} of
{os.cpu_count()} processor cores; {report["stopped"]}. Best state at step {report["best_step"]}. Choices: {stated}.

| mean over {len(before)} scans | before | after |
|---|---|---|
{chr(10).join(lines)}

Error (1 - Dice) {1 - dice:.3f} before and {1 - tuned:.3f} after: {change}.
Teeth with a wrong Betti number {100 * wrong:.1f} % before and {100 * wrong_tuned:.1f} % after: {fewer}.
"""


def main() -> None:
    """Render, train, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder to work in")
    parser.add_argument("--minutes", type=float, default=20.0, help="time for the training (default: 20)")
    parser.add_argument("--steps", type=int, help="so many steps instead of a time")
    parser.add_argument("--rate", type=float, help="another learning rate than the program's own")
    parser.add_argument("--topology", type=float, help="another weight of the topological terms")
    parser.add_argument("--rehearsal", type=float, help="share of samples of heads the model has learnt from before")
    parser.add_argument("--mixed", action="store_true", help="each phantom by a scanner of its own")
    parser.add_argument("--development", action="store_true", help="the seeds on which choices may be made")
    parser.add_argument("--evidence", type=Path, help="file for the page")
    args = parser.parse_args()
    given = {name: getattr(args, name) for name in ("steps", "rate", "topology", "rehearsal")}
    choices = Choices(**{name: value for name, value in given.items() if value is not None})
    seeds = DEVELOPMENT if args.development else (TRAINED, HELD_OUT)
    scanner = None if args.mixed else seeds[0].start
    rendered(args.output / "cases", seeds[0], scanner)
    held_out = rendered(args.output / "held out", seeds[1], scanner)
    report = trained(args.output, args.output / "cases", args.minutes, choices)
    before = measured(args.output, "before", None, held_out)
    after = measured(args.output, "after", args.output / "tuned.onnx", held_out)
    text = page(report, choices, "each by a scanner of its own" if args.mixed else "all by one scanner", before, after)
    print(text)
    if args.evidence is not None:
        args.evidence.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
