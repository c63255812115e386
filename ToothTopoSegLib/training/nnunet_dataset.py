"""A user's scans and corrected labels as an nnU-Net v2 raw dataset, to train nnU-Net or this program's model on.

In: cases as fine-tuning takes them. Out: a folder ``Dataset001_Teeth`` with ``imagesTr``, ``labelsTr`` and
``dataset.json``, in which labels are numbered from 1 without gaps and named so that
:mod:`ToothTopoSegLib.training.user_cases` reads them back as FDI numbers. Cases are numbered, and the files carry
nothing but voxels and geometry: what names a patient stays behind. Source: nnU-Net's documentation,
``dataset_format.md``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ToothTopoSegLib.anatomy import schemes
from ToothTopoSegLib.anatomy.fdi import is_tooth, label_name
from ToothTopoSegLib.errors import UsageError
from ToothTopoSegLib.imaging.headers import shown
from ToothTopoSegLib.imaging.volume import Volume
from ToothTopoSegLib.imaging.write import output_folder, write_label_map, write_nifti
from ToothTopoSegLib.progress import Progress, part, silent
from ToothTopoSegLib.topology.report import write_json
from ToothTopoSegLib.training.user_cases import (
    CheckedCase,
    UserCase,
    check_cases,
    find_cases,
    read_user_case,
    refuse_unusable,
)

ENDING = ".nii.gz"
CHANNEL = "CBCT"


def export_nnunet(
    sources: Sequence[Path], out: Path, number: int = 1, name: str = "Teeth", progress: Progress = silent
) -> tuple[dict[str, Any], list[CheckedCase]]:
    """Write the cases in ``sources`` as a new dataset in the folder ``out``; what was written, and what was checked.

    Labels are checked as before a fine-tuning. Raises UsageError for a number or name that nnU-Net does not take or a
    dataset that exists already, InputError for cases that cannot be found or learnt from, OutputError and Cancelled;
    then nothing is written.
    """
    folder = f"Dataset{number:03d}_{name}"
    if not 1 <= number <= 999 or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
        raise UsageError(
            f"{folder} is no name of an nnU-Net dataset; give an --id of 1 to 999 and a --name of letters."
        )
    if (out / folder).exists():
        raise UsageError(f"There is a dataset {folder} in {shown(out)} already; choose another --id, --name or folder.")
    cases = find_cases(sources)
    checked = check_cases(cases, part(progress, 0.0, 0.5))
    refuse_unusable(checked)
    with output_folder(out) as staging:
        values = _write_cases(cases, staging / folder, part(progress, 0.5, 1.0))
        write_json(dataset_json(values, len(cases)), staging / folder / "dataset.json")
    names = [{"name": _name(k), "scan": case.scan, "labels": case.labels} for k, case in enumerate(cases)]
    return {"dataset": out / folder, "cases": names, "labels": list(values)}, checked


def dataset_json(values: Mapping[int, int], count: int) -> dict[str, Any]:
    """What nnU-Net wants to know of ``count`` cases whose FDI numbers and jaw labels became ``values``."""
    names = {f"tooth_{label}" if is_tooth(label) else label_name(label): value for label, value in values.items()}
    return {
        "channel_names": {"0": CHANNEL},
        "labels": {"background": 0, **names},
        "numTraining": count,
        "file_ending": ENDING,
    }


def _write_cases(cases: Sequence[UserCase], folder: Path, progress: Progress) -> dict[int, int]:
    """Write images and labels; the value in the files of every label that occurs, ascending.

    Labels are read twice, the first time for which of them there are, so that one case at a time is in memory.
    """
    (folder / "imagesTr").mkdir(parents=True)
    (folder / "labelsTr").mkdir()
    present: set[int] = set()
    for k, case in enumerate(cases):
        progress(0.4 * k / len(cases), f"reading case {k + 1} of {len(cases)}")
        present |= set(schemes.label_values(read_user_case(case)[1].array))
    values = {label: value for value, label in enumerate(sorted(present), start=1)}
    for k, case in enumerate(cases):
        progress(0.4 + 0.6 * k / len(cases), f"writing case {k + 1} of {len(cases)}")
        scan, labels = read_user_case(case)
        write_nifti(scan, folder / "imagesTr" / f"{_name(k)}_0000{ENDING}")
        write_label_map(_numbered(labels, values, scan), folder / "labelsTr" / f"{_name(k)}{ENDING}")
    progress(1.0, "done")
    return values


def _numbered(labels: Volume, values: Mapping[int, int], scan: Volume) -> Volume:
    """The labels by their values in the dataset, in the very geometry of the scan, as nnU-Net demands."""
    table = np.zeros(256, np.uint8)
    table[list(values)] = list(values.values())
    return scan.with_array(table[labels.array])


def _name(k: int) -> str:
    return f"case_{k + 1:03d}"
