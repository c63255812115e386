"""A user's own cases for fine-tuning: which scan belongs to which labels, and whether a model can learn from them.

In: folders and files. Out: pairs of scan and label map, and for each what a person should know before a training is
spent on it: files that cannot be read, labels that do not lie on their scan, numbers that are no FDI numbers, left and
right or upper and lower exchanged, and the topological findings in the labels themselves, since a network learns the
errors of its labels too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ToothTopoSegLib.anatomy import fdi as teeth
from ToothTopoSegLib.anatomy import schemes
from ToothTopoSegLib.anatomy.label_names import meaning
from ToothTopoSegLib.errors import InputError, ToothTopoSegError
from ToothTopoSegLib.imaging.headers import shown
from ToothTopoSegLib.imaging.read import FORMATS, read_label_map, read_scan, scan_name
from ToothTopoSegLib.imaging.volume import Volume
from ToothTopoSegLib.progress import Progress, part, silent
from ToothTopoSegLib.topology.check import check_same_grid, check_volume, in_fdi
from ToothTopoSegLib.topology.findings import Finding

ENDINGS = tuple(f"_{what}{suffix}" for what in ("labels", "teeth") for suffix in FORMATS)
"""What follows a scan's name in the name of its labels; of several label maps the first in this order is taken."""
PAIRS = (
    "expected are scans NAME with labels NAME_labels or NAME_teeth beside them, or an nnU-Net dataset with imagesTr, "
    "labelsTr and dataset.json"
)


@dataclass(frozen=True)
class UserCase:
    """A scan and its labels; ``meanings`` are pairs of label value and FDI number where the values are others."""

    name: str
    scan: Path
    labels: Path
    meanings: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class CheckedCase:
    """What was found about a case: its ``teeth``, ``problems`` that keep it out of a training, ``warnings``."""

    case: UserCase
    teeth: tuple[int, ...]
    problems: tuple[str, ...]
    warnings: tuple[str, ...]
    findings: tuple[Finding, ...]

    @property
    def usable(self) -> bool:
        """Whether a model can learn from the case."""
        return not self.problems

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        findings = [{"kind": f.kind, "severity": f.severity, "teeth": list(f.teeth)} for f in self.findings]
        return {
            "name": self.case.name,
            "scan": str(self.case.scan),
            "labels": str(self.case.labels),
            "teeth": list(self.teeth),
            "usable": self.usable,
            "problems": list(self.problems),
            "warnings": list(self.warnings),
            "findings": findings,
        }


# ---- which scan belongs to which labels


def find_cases(sources: Sequence[Path]) -> list[UserCase]:
    """The cases in the sources, each once: folders of pairs, nnU-Net raw datasets, or scans with labels.

    The labels of a scan lie beside it or, for an image of an nnU-Net dataset, in that dataset.

    Raises InputError for a source that does not exist or holds no pair, and for a dataset.json that does not fit.
    """
    found: dict[Path, UserCase] = {}
    for source in sources:
        for case in _cases_of(Path(source)):
            found.setdefault(case.scan.resolve(), case)
    return list(found.values())


def _cases_of(source: Path) -> list[UserCase]:
    if not source.exists():
        raise InputError(f"There is no file or folder {shown(source)} at the given place; check the path.")
    if _is_dataset(source):
        return list(_dataset_cases(source))
    if source.is_file() and source.parent.name == "imagesTr" and _is_dataset(source.parent.parent):
        return [case for case in _dataset_cases(source.parent.parent) if case.scan.name == source.name]
    pairs = list(_pairs_in(source)) if source.is_dir() else []
    beside = _labels_of(source) if not pairs else None
    if beside is not None:
        return [UserCase(scan_name(source), source, beside)]
    if not pairs:
        raise InputError(f"{shown(source)} has no labels that belong to a scan; {PAIRS}.")
    return pairs


def _is_dataset(folder: Path) -> bool:
    return (folder / "dataset.json").is_file() and (folder / "labelsTr").is_dir()


def _labels_of(scan: Path) -> Path | None:
    """The labels beside a scan, if any."""
    place = scan.resolve()
    paths = (place.with_name(scan_name(place) + ending) for ending in ENDINGS)
    return next((path for path in paths if path.is_file() and path != place), None)


def _pairs_in(folder: Path) -> Iterator[UserCase]:
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or any(path.name.endswith(ending) for ending in ENDINGS):
            continue
        if path.is_dir() or any(path.name.lower().endswith(suffix) for suffix in (*FORMATS, ".zip", ".dcm")):
            labels = _labels_of(path)
            if labels is not None:
                yield UserCase(scan_name(path), path, labels)


def _dataset_cases(folder: Path) -> Iterator[UserCase]:
    """The training cases of an nnU-Net raw dataset."""
    meanings = _dataset_meanings(folder / "dataset.json")
    for labels in sorted((folder / "labelsTr").iterdir()):
        suffix = next((s for s in FORMATS if labels.name.lower().endswith(s)), None)
        if suffix is None or labels.name.startswith("."):
            continue
        name = labels.name[: -len(suffix)]
        channels = sorted((folder / "imagesTr").glob(f"{name}_[0-9][0-9][0-9][0-9].*"))
        if len(channels) != 1:
            found = f"{len(channels)} images" if channels else "no image"
            raise InputError(
                f"The case {name} of {shown(folder)} has {found} in imagesTr, but a CBCT has one channel, {name}_0000; "
                "remove or complete the case."
            )
        yield UserCase(name, channels[0], labels, meanings)


def _dataset_meanings(path: Path) -> tuple[tuple[int, int], ...]:
    """Label values and FDI numbers of a dataset.json, by the labels' names or else by a known scheme of values."""
    try:
        labels = {
            str(name): int(value) for name, value in json.loads(path.read_text(encoding="utf-8"))["labels"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{shown(path)} has no labels that each have a name and one whole number (regions cannot be learnt); "
            "correct it."
        ) from error
    meanings = {value: meaning(name) for name, value in labels.items() if value}
    if any(map(teeth.is_tooth, meanings.values())):
        return tuple(sorted(meanings.items()))
    for scheme in map(schemes.scheme, schemes.guess_schemes(meanings)):
        return tuple((value, scheme.labels.get(value, scheme.pulps.get(value, 0))) for value in sorted(meanings))
    raise InputError(
        f"The labels of {shown(path)} are no teeth that are known ({', '.join(list(labels)[:5])}); name them by FDI "
        "numbers, such as tooth_36."
    )


# ---- whether a model can learn from them


def read_user_case(case: UserCase) -> tuple[Volume, Volume]:
    """Scan and labels in FDI numbers (uint8), on one grid; InputError where they are not usable together."""
    labels = read_label_map(case.labels)
    if case.meanings:
        labels = labels.with_array(_translated(labels.array, dict(case.meanings), shown(case.labels)))
    truth = _in_fdi(labels, shown(case.labels))
    scan = read_scan(case.scan)
    check_same_grid(truth, scan)
    return scan, truth


def _in_fdi(labels: Volume, name: str) -> Volume:
    try:
        return in_fdi(labels, name)
    except InputError as error:
        if not isinstance(error.__cause__, schemes.UnknownLabelsError):
            raise
        found = schemes.listed(error.__cause__.values)
        raise InputError(
            f"{name} holds the label values {found}, which are no FDI tooth numbers; renumber its labels to FDI."
        ) from error


def _translated(array: Any, meanings: dict[int, int], name: str) -> Any:
    unknown = [value for value in schemes.label_values(array) if value not in meanings]
    if unknown:
        raise InputError(f"{name} holds the label values {schemes.listed(unknown)}, which dataset.json does not name.")
    table = np.zeros(max(meanings) + 1, np.uint8)
    table[list(meanings)] = list(meanings.values())
    return table[array]


def check_cases(cases: Sequence[UserCase], progress: Progress = silent) -> list[CheckedCase]:
    """What is wrong with each case, in the order of ``cases``; a case that cannot be read is a problem, no exception.

    ``progress`` may cancel.
    """
    found = []
    for number, case in enumerate(cases):
        share = part(progress, number / len(cases), (number + 1) / len(cases))
        share(0.0, f"checking the labels of case {number + 1} of {len(cases)}")
        found.append(_checked(case, share))
    return found


def refuse_unusable(checked: Sequence[CheckedCase]) -> None:
    """InputError that names the first case nothing can be learnt from, and how many more there are."""
    bad = [case for case in checked if not case.usable]
    if bad:
        rest = f" ({len(bad) - 1} more cases cannot be used either)" if len(bad) > 1 else ""
        raise InputError(f"The case {bad[0].case.name} cannot be learnt from: {bad[0].problems[0]}{rest}")


def _checked(case: UserCase, progress: Progress) -> CheckedCase:
    try:
        _, truth = read_user_case(case)
    except ToothTopoSegError as error:
        return CheckedCase(case, (), (str(error),), (), ())
    numbers = tuple(value for value in schemes.label_values(truth.array) if teeth.is_tooth(value))
    if not any(not teeth.is_deciduous(number) for number in numbers):
        text = f"{shown(case.labels)} holds no permanent tooth, so there is nothing to learn; label the teeth first."
        return CheckedCase(case, numbers, (text,), (), ())
    findings, _ = check_volume(truth, None, lambda fraction, text: progress(fraction, "checking the labels"))
    problems = [f.evidence for f in findings if _turns_the_mouth(f, numbers)]
    warnings = [f.evidence for f in findings if f.severity != "info" and f.evidence not in problems]
    return CheckedCase(case, numbers, tuple(problems), (*_on_milk_teeth(numbers), *warnings), tuple(findings))


def _turns_the_mouth(finding: Finding, numbers: Sequence[int]) -> bool:
    """Whether it says that most teeth of a case bear the numbers of the other side or jaw."""
    return finding.kind == "mirrored" and 2 * len(finding.teeth) > len(numbers)


def _on_milk_teeth(numbers: Sequence[int]) -> tuple[str, ...]:
    milk = [number for number in numbers if teeth.is_deciduous(number)]
    if not milk:
        return ()
    return (f"The model has no class for the deciduous teeth {schemes.listed(milk)}; what they cover is left out.",)
