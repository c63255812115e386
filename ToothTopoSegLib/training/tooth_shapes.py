"""What teeth look like, learnt: means and covariance by which :mod:`ToothTopoSegLib.segmentation.shapes` knows types.

In: seeds of natural heads. Out: ``tooth_shapes.json``, and a table of how well it tells the types of other teeth. How
teeth of one type differ is measured on the teeth of many heads alone, which are drawn in a second each. What
segmentation adds to that, a root not drawn to its end or a crown a little too wide, is measured on fewer heads that are
scanned and segmented: its mean goes to the means, its covariance to the covariance.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from concurrent.futures import as_completed
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.anatomy.fdi import is_upper, kind, position
from ToothTopoSegLib.imaging.volume import Volume
from ToothTopoSegLib.processes import one_thread_each
from ToothTopoSegLib.progress import Progress, silent
from ToothTopoSegLib.segmentation.classes import TEETH
from ToothTopoSegLib.segmentation.shapes import FILE, POSITIONS, Forms, covariance_of, form, learnt

Array = NDArray[Any]
Measured = list[tuple[int, list[float]]]

TEETH_SEED, SCANNED_SEED, CHECKED_SEED = 42_000, 43_000, 44_000
"""The first seeds of the heads whose teeth are drawn alone, of those that are segmented, and of those of the table."""
SPACING_MM = 0.5
"""Of the grid of the second network, on which teeth are told apart."""
SHRINK = 0.15
LEAST_MM3 = 40.0
SAME_SHARE = 0.7
"""A tooth that is found bears most of the true one, and little else."""


def run(heads: int, scanned: int, workers: int = 1, progress: Progress = silent) -> dict[str, Any]:
    """Learn from ``heads`` heads and ``scanned`` that are segmented, then try it on a third as many others.

    Returns "forms" (what the file holds), "page" (Markdown) and the figures of the page. Raises ValueError where heads
    are too few to have each type of tooth.
    """
    checked = max(1, scanned // 3)
    jobs: list[tuple[Callable[[int], Any], int]] = [(_teeth_alone, TEETH_SEED + n) for n in range(heads)]
    jobs += [(_teeth_found, SCANNED_SEED + n) for n in range(scanned)]
    jobs += [(_teeth_found, CHECKED_SEED + n) for n in range(checked)]
    found: dict[int, Any] = {}
    with one_thread_each(workers) as pool:
        running = {pool.submit(what, seed): seed for what, seed in jobs}
        for done, job in enumerate(as_completed(running), 1):
            found[running[job]] = job.result()
            progress(done / len(jobs), f"head {done} of {len(jobs)}")
    alone = [tooth for n in range(heads) for tooth in found[TEETH_SEED + n]]
    both = [tooth for n in range(scanned) for tooth in found[SCANNED_SEED + n]]
    forms = with_errors(of_teeth(alone), both)
    others = [(fdi, drawn) for n in range(checked) for fdi, _, drawn in found[CHECKED_SEED + n]]
    figures = {"teeth": len(alone), "segmented": len(both), "checked": len(others), **shares(forms, others)}
    content = {"means": forms.means.round(4).tolist(), "covariance": forms.covariance.round(6).tolist()}
    return {"forms": content, "page": _page(forms, others, heads, scanned, figures), **figures}


def write(result: dict[str, Any], folder: Path) -> None:
    """Write the file and the page of a result into a folder."""
    from ToothTopoSegLib.imaging.write import output_folder

    with output_folder(folder) as staged:
        (staged / FILE).write_text(json.dumps(result["forms"]) + "\n", encoding="utf-8")
        (staged / "tooth_shapes.md").write_text(result["page"], encoding="utf-8")


def of_teeth(teeth: Measured) -> Forms:
    """The forms of teeth, each given by its FDI number and its features."""
    features = np.array([features for _, features in teeth])
    places = np.array([position(fdi) - 1 for fdi, _ in teeth])
    return learnt(features, places, np.array([is_upper(fdi) for fdi, _ in teeth]), SHRINK)


def with_errors(forms: Forms, both: Iterable[tuple[int, list[float], list[float]]]) -> Forms:
    """The forms of teeth as they are segmented, from teeth (number, true features, features as found)."""
    errors = np.array([np.subtract(found, true) for _, true, found in both])
    mean = np.nanmean(errors, axis=0)
    return Forms(forms.means + mean, forms.covariance + covariance_of(errors - mean))


def shares(forms: Forms, teeth: Measured) -> dict[str, float]:
    """How many teeth (number, features) are told right by their form alone, in their jaw: type, and kind of tooth."""
    guessed = [int(forms.nats(np.array(features), is_upper(fdi)).argmax()) for fdi, features in teeth]
    true = [position(fdi) - 1 for fdi, _ in teeth]
    kinds = np.array([kind(fdi).split()[-1] for fdi in range(11, 11 + POSITIONS)])
    right = np.array(guessed) == np.array(true)
    return {"types_right": float(right.mean()), "kinds_right": float((kinds[guessed] == kinds[true]).mean())}


# ---- teeth of heads


def _teeth_alone(seed: int) -> Measured:
    from ToothTopoSegLib.phantom.write import make_teeth

    return [(fdi, _features(mask, fdi)) for fdi, mask in _whole(make_teeth(seed, SPACING_MM).array)]


def _teeth_found(seed: int) -> list[tuple[int, list[float], list[float]]]:
    """Number, true features and those of the segmentation of the teeth that it found at all."""
    from ToothTopoSegLib.phantom.write import make_phantom
    from ToothTopoSegLib.quantization.bundle import load_bundle
    from ToothTopoSegLib.segmentation.pipeline import segment_volume
    from ToothTopoSegLib.segmentation.runner import Runner

    phantom, bundle = make_phantom(seed, setting="natural"), load_bundle()
    segmented = segment_volume(phantom.scan, bundle, Runner(bundle, threads=1))
    true, found = _on_cubes(phantom.labels), _on_cubes(segmented)
    teeth = []
    for fdi, mask in _whole(true):
        inside = np.bincount(found[true == fdi], minlength=256)
        number = int(inside[1:].argmax()) + 1
        drawn = found == number
        if inside[number] >= SAME_SHARE * mask.sum() >= SAME_SHARE**2 * drawn.sum():
            teeth.append((fdi, _features(mask, fdi), _features(drawn, fdi)))
    return teeth


def _features(mask: NDArray[np.bool_], fdi: int) -> list[float]:
    return [float(value) for value in form(mask, SPACING_MM, is_upper(fdi))]


def _on_cubes(labels: Volume) -> NDArray[np.uint8]:
    """Labels on a grid of cubes, in canonical direction."""
    from ToothTopoSegLib.imaging.canonical import to_canonical
    from ToothTopoSegLib.imaging.resample import onto

    volume = to_canonical(labels)
    z, y, x = (max(1, int(n * s / SPACING_MM)) for n, s in zip(volume.array.shape, volume.spacing, strict=True))
    cubes = Volume(np.zeros((z, y, x), np.uint8), (SPACING_MM,) * 3, volume.origin, volume.direction)
    return np.asarray(onto(volume.array.astype(np.uint8), volume, cubes, 0))


def _whole(labels: NDArray[np.uint8]) -> list[tuple[int, NDArray[np.bool_]]]:
    """The teeth that the border of the grid does not cut, each as a mask (z, y, x) of its own."""
    from scipy import ndimage

    teeth = []
    for fdi, box in enumerate(ndimage.find_objects(labels), 1):
        if box is None or fdi not in TEETH:
            continue
        cut = any(s.start <= 1 or s.stop >= n - 1 for s, n in zip(box, labels.shape, strict=True))
        mask = labels[box] == fdi
        if not cut and mask.sum() * SPACING_MM**3 >= LEAST_MM3:
            teeth.append((fdi, mask))
    return teeth


# ---- the page


def _page(forms: Forms, teeth: Measured, heads: int, scanned: int, figures: dict[str, Any]) -> str:
    counts = np.zeros((2, POSITIONS, POSITIONS), int)
    for fdi, features in teeth:
        upper = is_upper(fdi)
        counts[0 if upper else 1, position(fdi) - 1, forms.nats(np.array(features), upper).argmax()] += 1
    tables = []
    for jaw, name in enumerate(("upper", "lower")):
        lines = [f"| {name} | {' | '.join(str(n) for n in range(1, POSITIONS + 1))} |", "|---" * (POSITIONS + 1) + "|"]
        lines += [f"| {n} | {' | '.join(map(str, row))} |" for n, row in enumerate(counts[jaw].tolist(), 1)]
        tables.append("\n".join(lines))
    return f"""# What the form of a tooth tells of its type

`./toothtopo experiment shapes -o DIR`

Learnt from {figures["teeth"]} teeth of {heads} natural heads, and from {figures["segmented"]} teeth of {scanned} others
as they are segmented. Of {figures["checked"]} segmented teeth of further heads {100 * figures["types_right"]:.0f} % are
told right by their form alone; {100 * figures["kinds_right"]:.0f} % are rightly taken for incisors, canines, premolars
or molars. Rows: true positions in the quadrant; columns: what they were taken for.

{tables[0]}

{tables[1]}
"""
