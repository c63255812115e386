"""Procedural teeth beside real ones: sizes, roots, taper and arches, as a Markdown table.

usage: .venv/bin/python Testing/Benchmarks/compare_teeth.py FOLDER [--count N] [-o Resources/Evidence/anatomy.md]

FOLDER holds ``openfulljaw_lower`` (lower teeth with roots of three patients, Open-Full-Jaw) and ``sjtu_crowns``
(mean crowns of a statistical shape model). Every tooth, real or not, is measured in the same way on its surface mesh:
the long axis is the first principal axis, the mesiodistal direction that to its neighbours, and the cervix the kink in
the mesiodistal width between the crown's contacts and the root, because real meshes do not say where enamel ends.
"""

from __future__ import annotations

import argparse
import sys
import tarfile
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from skimage.measure import marching_cubes

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from ToothTopoSegLib.anatomy import fdi
from ToothTopoSegLib.phantom.arch import PlacedTooth, draw_dentition
from ToothTopoSegLib.phantom.tooth import tooth_distance

REMARKS = """\
What lies outside, and the likely reason: lengths of front teeth and premolars follow the tables of extracted teeth, and
these three patients' are shorter, one of them much; widths of lower front teeth follow North American means, which are
smaller than these patients'; the crown of second molars is measured longer on the real meshes, where the kink is found
near the furcation instead of at the cervix. Three patients give a range, not a distribution.
"""
MESH_STEP_MM, LEVELS = 0.4, 64
UNIVERSAL_LOWER = dict(zip(range(18, 32), (37, 36, 35, 34, 33, 32, 31, 41, 42, 43, 44, 45, 46, 47), strict=True))
Mesh = tuple[np.ndarray, np.ndarray]
"""Vertices (n, 3) in mm (LPS) and triangles (m, 3), outward."""


@dataclass(frozen=True)
class Measures:
    """What is measured of a tooth; ``area_*`` is the section at a share of the root beside that at the cervix."""

    length_mm: float
    crown_mm: float
    root_share: float
    md_mm: float
    bl_mm: float
    volume_mm3: float
    roots: float
    area_25: float
    area_50: float
    area_75: float


def read_stl(data: bytes) -> Mesh:
    """A binary STL with equal vertices merged."""
    count = int.from_bytes(data[80:84], "little")
    kind = np.dtype([("normal", "<3f4"), ("points", "<9f4"), ("attribute", "<u2")])
    points = np.frombuffer(data, kind, count, 84)["points"].reshape(-1, 3).astype(float)
    vertices, index = np.unique(points.round(4), axis=0, return_inverse=True)
    return vertices, index.reshape(-1, 3)


def real_dentitions(folder: Path) -> list[dict[int, Mesh]]:
    """Lower teeth of the patients in the archive of Open-Full-Jaw, in LPS."""
    patients: dict[str, dict[int, Mesh]] = defaultdict(dict)
    with tarfile.open(next(folder.glob("*.tar.gz"))) as archive:
        for member in archive:
            if member.name.endswith(".stl"):
                patient, _, number = Path(member.name).stem.split("_")
                file = archive.extractfile(member)
                vertices, triangles = read_stl(file.read() if file else b"")
                patients[patient][UNIVERSAL_LOWER[int(number)]] = (vertices * (-1, -1, 1), triangles)
    return list(patients.values())


def mesh_of(tooth: PlacedTooth) -> Mesh:
    """The surface of a procedural tooth in the head."""
    shape = tooth.shape
    across = np.arange(-shape.reach - 1, shape.reach + 1, MESH_STEP_MM)
    along = np.arange(-shape.depth - 1, shape.crown_height + 1, MESH_STEP_MM)
    distance = tooth_distance(shape, *np.meshgrid(across, across, along, indexing="ij"))[0]
    vertices, triangles, *_ = marching_cubes(np.asarray(distance, float), 0.0, spacing=(MESH_STEP_MM,) * 3)
    local = vertices + np.array([across[0], across[0], along[0]])
    # The frame of a left tooth is left-handed: there the triangles turn over.
    flip = np.linalg.det(tooth.axes) < 0
    return local @ tooth.axes + tooth.cervix, triangles[:, ::-1] if flip else triangles


def volume(mesh: Mesh) -> float:
    corners = mesh[0][mesh[1]]
    return abs(float(np.einsum("ij,ij->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2]))) / 6)


def long_axis(mesh: Mesh) -> np.ndarray:
    """Unit vector of the first principal axis of the surface, towards the crown of a lower tooth."""
    corners = mesh[0][mesh[1]]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    centres = corners.mean(1)
    middle = np.average(centres, axis=0, weights=area)
    axis = np.linalg.eigh(np.cov((centres - middle).T, aweights=area))[1][:, -1]
    return axis * np.sign(axis[2])


def cut(points: np.ndarray, triangles: np.ndarray, height: float) -> tuple[np.ndarray, int]:
    """Segments (n, 2, 2) in which a plane across the third coordinate cuts a mesh, and the number of closed curves."""
    above = points[:, 2] > height
    crossing = triangles[(above[triangles].sum(1) % 3) != 0]
    edges = np.sort(np.stack([crossing[:, [0, 1]], crossing[:, [1, 2]], crossing[:, [2, 0]]], 1), axis=2)
    hit = edges[above[edges[..., 0]] != above[edges[..., 1]]].reshape(-1, 2, 2)
    low, high = points[hit[..., 0]], points[hit[..., 1]]
    share = (height - low[..., 2]) / (high[..., 2] - low[..., 2])
    ends = low[..., :2] + share[..., None] * (high - low)[..., :2]
    nodes = np.unique(hit.reshape(-1, 2), axis=0, return_inverse=True)[1].reshape(-1, 2)
    size = int(nodes.max(initial=-1)) + 1
    graph = coo_array((np.ones(len(nodes)), (nodes[:, 0], nodes[:, 1])), shape=(size, size))
    return ends, int(connected_components(graph, directed=False)[0]) if size else 0


def area_of(points: np.ndarray, triangles: np.ndarray, height: float) -> float:
    """Area in mm2 of a section: that of the mesh's projections above it, signed."""
    corners = points[triangles]
    step = 0.05
    return (clipped(corners, height - step) - clipped(corners, height + step)) / (2 * step)


def clipped(corners: np.ndarray, height: float) -> float:
    """Volume in mm3 of a mesh above a height: its triangles' columns down to there, clipped at the height."""
    lifted = corners.copy()
    lifted[..., 2] -= height
    lifted[..., 2] = np.maximum(lifted[..., 2], 0)
    one, two = lifted[:, 1] - lifted[:, 0], lifted[:, 2] - lifted[:, 0]
    flat = (one[:, 0] * two[:, 1] - one[:, 1] * two[:, 0]) / 2
    return abs(float((flat * lifted[..., 2].mean(1)).sum()))


def kink(heights: np.ndarray, widths: np.ndarray) -> float:
    """The height at which two straight lines through a falling width profile meet best."""
    best, found = np.inf, float(heights[len(heights) // 2])
    for at in range(4, len(heights) - 4):
        error = sum(
            np.polyfit(heights[part], widths[part], 1, full=True)[1].sum() for part in (slice(0, at), slice(at, None))
        )
        if error < best:
            best, found = error, float(heights[at])
    return found


def measure(mesh: Mesh, mesial: np.ndarray) -> Measures:
    """Measures of a lower tooth; ``mesial`` points along the arch."""
    axis = long_axis(mesh)
    along = mesial - (mesial @ axis) * axis
    along /= np.linalg.norm(along)
    frame = np.stack([along, np.cross(axis, along), axis])
    points = mesh[0] @ frame.T
    bottom, top = points[:, 2].min(), points[:, 2].max()
    heights = np.linspace(top - 0.3, bottom + 0.3, LEVELS)
    cuts = [cut(points, mesh[1], h) for h in heights]
    widths = np.array([np.ptp(ends.reshape(-1, 2), axis=0) if len(ends) else (0.0, 0.0) for ends, _ in cuts])
    widest = int(widths[: LEVELS // 2, 0].argmax())
    neck = kink(heights[widest : int(0.75 * LEVELS)], widths[widest : int(0.75 * LEVELS), 0])
    root = neck - bottom
    at_neck = area_of(points, mesh[1], neck)
    areas = [area_of(points, mesh[1], neck - share * root) / at_neck for share in (0.25, 0.5, 0.75)]
    crown = heights > neck
    tips = [n for h, (_, n) in zip(heights, cuts, strict=True) if neck - 0.85 * root < h < neck - 0.5 * root]
    return Measures(
        top - bottom,
        top - neck,
        root / (top - bottom),
        float(widths[crown, 0].max()),
        float(widths[crown, 1].max()),
        volume(mesh),
        float(np.median(tips)),
        *areas,
    )


def measured(dentition: dict[int, Mesh]) -> dict[int, list[Measures]]:
    """Measures by position 1..7 of the lower teeth of one head."""
    found = defaultdict(list)
    centres = {number: mesh[0].mean(0) for number, mesh in dentition.items()}
    for number, mesh in dentition.items():
        beside = [n for n in (*fdi.neighbours(number),) if n in centres]
        if beside:
            ends = [centres[n] for n in beside] + ([centres[number]] if len(beside) == 1 else [])
            found[fdi.position(number)].append(measure(mesh, ends[0] - ends[1]))
    return found


def procedural(natural: bool, seeds: Iterable[int]) -> dict[int, list[Measures]]:
    """Measures of the lower teeth of random heads."""
    found = defaultdict(list)
    for seed in seeds:
        heads = draw_dentition(np.random.default_rng(seed), natural=natural).teeth
        lower = {t.fdi: mesh_of(t) for t in heads if not fdi.is_upper(t.fdi) and fdi.position(t.fdi) < 8}
        for position, values in measured(lower).items():
            found[position] += values
    return found


def crown_points(tooth: PlacedTooth) -> np.ndarray:
    """Surface points of a procedural crown in the head."""
    vertices, _ = mesh_of(tooth)
    return vertices[(vertices - tooth.cervix) @ tooth.axes[2] > 0.5]


def mean_crowns(folder: Path) -> dict[int, np.ndarray]:
    """The mean crowns of the shape model, in LPS directions."""
    model = np.load(folder / "sjtu_crown_ssm_15modes.npz")
    means = {int(key.split("_")[1]): model[key].astype(float) for key in model if key.startswith("mean_")}
    return {number: points[:, [0, 2, 1]] * (1, -1, 1) for number, points in means.items()}


def crown_widths(crowns: dict[int, np.ndarray]) -> dict[tuple[bool, int], list[tuple[float, float]]]:
    """Mesiodistal and buccolingual width of crowns, by (upper, position)."""
    found = defaultdict(list)
    centres = {number: points.mean(0) for number, points in crowns.items()}
    for number, points in crowns.items():
        beside = [n for n in fdi.neighbours(number) if n in centres]
        if fdi.position(number) > 7 or not beside:
            continue
        ends = [centres[n] for n in beside] + ([centres[number]] if len(beside) == 1 else [])
        along = (ends[0] - ends[1])[:2] / np.linalg.norm((ends[0] - ends[1])[:2])
        flat = (points - points.mean(0))[:, :2]
        across = flat @ np.array([-along[1], along[0]])
        found[fdi.is_upper(number), fdi.position(number)].append((np.ptp(flat @ along), np.ptp(across)))
    return found


def arch_sizes(crowns: dict[int, np.ndarray]) -> dict[str, float]:
    """Widths between canines and first molars, and depth from incisors to first molars, of both arches in mm."""
    centres, found = {n: p.mean(0) for n, p in crowns.items()}, {}
    for jaw, (left, right) in {"upper": (2, 1), "lower": (3, 4)}.items():
        for name, position in (("canines", 3), ("first molars", 6)):
            pair = [centres.get(q * 10 + position) for q in (left, right)]
            if all(p is not None for p in pair):
                found[f"{jaw} {name} apart"] = float(np.linalg.norm(pair[0] - pair[1]))
        needed = [centres.get(q * 10 + p) for p in (1, 6) for q in (left, right)]
        if all(p is not None for p in needed):
            front, back = (needed[0] + needed[1]) / 2, (needed[2] + needed[3]) / 2
            found[f"{jaw} incisors to first molars"] = float(np.linalg.norm((front - back)[:2]))
    return found


def spread(values: Iterable[float], digits: int = 1) -> str:
    """Mean and range of values."""
    all_of = np.array(list(values), float)
    return f"{all_of.mean():.{digits}f} ({all_of.min():.{digits}f}-{all_of.max():.{digits}f})" if len(all_of) else "-"


def tooth_table(
    real: dict[int, list[Measures]], plain: dict[int, list[Measures]], natural: dict[int, list[Measures]]
) -> list[str]:
    """Markdown rows of every measure of every lower tooth type; a mean outside the real range is marked."""
    lines = ["| lower tooth | measure | real | natural | plain |", "|---|---|---|---|---|"]
    for position in range(1, 8):
        for field in fields(Measures):
            digits = 0 if field.name.startswith("volume") else 2 if field.name.startswith(("area", "root_")) else 1
            columns = [[getattr(m, field.name) for m in group[position]] for group in (real, natural, plain)]
            within = min(columns[0]) <= np.mean(columns[1]) <= max(columns[0])
            cells = [spread(column, digits) for column in columns]
            mark = "" if within else " *"
            name = fdi.kind(40 + position)
            lines.append(f"| {name} | {field.name} | {cells[0]} | {cells[1]}{mark} | {cells[2]} |")
    return lines


def crown_table(folder: Path, count: int) -> list[str]:
    """Markdown rows of crown widths and arch sizes beside those of the shape model."""
    real = mean_crowns(folder)
    heads = {}
    for natural in (True, False):
        drawn = (draw_dentition(np.random.default_rng(seed), natural=natural) for seed in range(count))
        heads[natural] = [{t.fdi: crown_points(t) for t in d.teeth if t.erupted} for d in drawn]
    lines = ["| crown | measure | mean of the shape model | natural | plain |", "|---|---|---|---|---|"]
    widths = {key: pooled(crown_widths, heads[key]) for key in heads}
    for (upper, position), values in sorted(crown_widths(real).items(), key=lambda item: (not item[0][0], item[0][1])):
        for side, name in enumerate(("md_mm", "bl_mm")):
            cells = [spread(v[side] for v in widths[key].get((upper, position), [])) for key in (True, False)]
            tooth = f"{'upper' if upper else 'lower'} {fdi.kind(10 + position)}"
            lines.append(f"| {tooth} | {name} | {np.mean([v[side] for v in values]):.1f} | {cells[0]} | {cells[1]} |")
    for name, value in arch_sizes(real).items():
        cells = [spread(a[name] for a in map(arch_sizes, heads[key]) if name in a) for key in (True, False)]
        lines.append(f"| arch | {name} | {value:.1f} | {cells[0]} | {cells[1]} |")
    return lines


def pooled(of: Callable[[dict[int, np.ndarray]], dict], heads: list[dict[int, np.ndarray]]) -> dict:
    """Lists of all heads joined by key."""
    joined = defaultdict(list)
    for head in heads:
        for key, values in of(head).items():
            joined[key] += values
    return joined


def report(folder: Path, count: int) -> str:
    """The whole comparison as Markdown."""
    real: dict[int, list[Measures]] = defaultdict(list)
    for dentition in real_dentitions(folder / "openfulljaw_lower"):
        for position, values in measured(dentition).items():
            real[position] += values
    teeth = tooth_table(real, procedural(False, range(count)), procedural(True, range(count)))
    return "\n".join(
        [
            "# Procedural teeth beside real ones",
            "",
            f"`Testing/Benchmarks/compare_teeth.py FOLDER --count {count}`: mean (range); {count} random heads",
            "of each generator (seeds from 0), three patients of Open-Full-Jaw, mean crowns of the SJTU shape model.",
            "Every tooth is measured in the same way on its surface; `area_50` is the section half way down the root",
            "beside that at the cervix. A star marks a natural mean outside the range of the real teeth.",
            "",
            REMARKS,
            *teeth,
            "",
            *crown_table(folder / "sjtu_crowns", max(4, count // 2)),
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder with openfulljaw_lower and sjtu_crowns")
    parser.add_argument("--count", type=int, default=20, help="random heads of each generator")
    parser.add_argument("-o", "--output", type=Path, help="Markdown file to write")
    arguments = parser.parse_args()
    text = report(arguments.folder, arguments.count)
    print(text)
    if arguments.output:
        staged = arguments.output.with_suffix(".part")
        staged.write_text(text, encoding="utf-8")
        staged.replace(arguments.output)


if __name__ == "__main__":
    main()
