"""The main job on a built-in scan: ``./toothtopo demo``.

The scan is a phantom made on the spot (no patient data, nothing downloaded), so that the truth is known and the result
can be measured. Out: the scan, all outputs of ``segment``, and how well they agree with the truth.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ToothTopoSegLib.progress import Progress, part, silent

DEMO_SEED = 12
DEMO_FOLDER = "toothtopo-demo"


def run_demo(folder: Path | None = None, progress: Progress = silent) -> dict[str, Any]:
    """Make a phantom, segment it, compare; returns what was found and where the pictures lie.

    Writes into ``folder``, by default ``toothtopo-demo`` in the current folder. Raises OutputError or ModelError.
    """
    from ToothTopoSegLib.evaluation.overlap import evaluate_files
    from ToothTopoSegLib.phantom.write import write_phantoms
    from ToothTopoSegLib.segmentation.pipeline import segment_to_folder

    folder = folder or Path.cwd() / DEMO_FOLDER
    made = write_phantoms(folder, 1, DEMO_SEED, progress=part(progress, 0.0, 0.3))["phantoms"][0]
    report = segment_to_folder(folder / made["scan"], folder, progress=part(progress, 0.3, 0.97))
    case = made["scan"].removesuffix(".nii.gz")
    metrics = evaluate_files(folder / f"{case}_teeth.nii.gz", folder / made["labels"])
    progress(1.0, "done")
    return {
        "scan": str(folder / made["scan"]),
        "teeth in the scan": len(made["teeth"]),
        "teeth found": report["summary"]["teeth_found"],
        "mean Dice of a tooth": metrics["mean_tooth_dice"],
        "right FDI numbers": metrics["fdi_identification_rate"],
        "findings": len(report["findings"]),
        "seconds": report["timing_s"]["total"],
        "peak memory MB": report["peak_rss_mb"],
        "picture": str(folder / f"{case}_preview.png"),
        "report": str(folder / f"{case}_report.html"),
    }
