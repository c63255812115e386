"""Teeth as mesh files for printing, planning and viewing: STL, OBJ, PLY and GLB.

In goes a label map file of teeth, out come files with one tooth, one jaw or all teeth each, in LPS or RAS mm. STL, OBJ
and PLY say in their header which of the two it is (``SPACE=LPS``), as 3D Slicer writes and reads it. A GLB file has
metres and its y axis upwards (glTF 2.0 specification, section 3.4), so that it carries, beside the vertices in mm, the
transform to there. PLY, OBJ and GLB carry the colours of :mod:`ToothTopoSegLib.anatomy.colours`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ToothTopoSegLib.anatomy import fdi as teeth
from ToothTopoSegLib.anatomy.colours import colour_of
from ToothTopoSegLib.anatomy.schemes import listed
from ToothTopoSegLib.errors import InputError, UsageError
from ToothTopoSegLib.imaging.boxes import label_boxes
from ToothTopoSegLib.imaging.volume import Volume
from ToothTopoSegLib.progress import Progress, part, silent
from ToothTopoSegLib.surfaces.mesh import TriangleMesh, tooth_surface

FORMATS = ("stl", "obj", "ply", "glb")
SPACES = ("lps", "ras")
PER = ("tooth", "jaw", "all")
Meshes = Mapping[int, TriangleMesh]

_TO_GLTF = {
    "lps": ((1, 0, 0), (0, 0, 1), (0, -1, 0)),
    "ras": ((-1, 0, 0), (0, 0, 1), (0, 1, 0)),
}
"""Rows of the axes of glTF, whose x is the left of who looks out of the scene, y up and z ahead."""


def mesh_file(
    labels: Path,
    folder: Path,
    file_format: str = "stl",
    space: str = "lps",
    per: str = "tooth",
    wanted: Sequence[int] | None = None,
    triangles: int | None = None,
    scheme: str | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Write the teeth of a label map file into ``folder`` and return what was written.

    ``per`` is "tooth", "jaw" (its teeth are bodies of one file) or "all"; ``wanted`` are FDI numbers (default: all that
    are there); ``triangles`` is the most that each tooth should have. The report lists the files, and of each tooth its
    triangles, volume and that of its label in mm3, and whether the mesh is watertight. Raises UsageError for another
    choice, InputError for a file that is no label map of teeth or lacks a wanted one, OutputError when nothing can be
    written; nothing is left behind then.
    """
    from ToothTopoSegLib.imaging.read import scan_name
    from ToothTopoSegLib.imaging.write import output_folder
    from ToothTopoSegLib.topology.check import read_labels

    for name, value, known in (("format", file_format, FORMATS), ("space", space, SPACES), ("per", per, PER)):
        if value not in known:
            raise UsageError(f"There is no {name} {value!r} of meshes; choose one of {', '.join(known)}.")
    progress(0.0, "Reading the labels")
    volume, _ = read_labels(labels, None, scheme)
    meshes, entries = tooth_surfaces(volume, wanted, triangles, part(progress, 0.1, 0.9))
    case = scan_name(labels).removesuffix("_teeth")
    files = []
    with output_folder(folder) as staged:
        for name, some in _grouped(meshes, per).items():
            path = f"{case}_{name}.{file_format}"
            (staged / path).write_bytes(encoded(some, file_format, space))
            files.append({"file": path, "teeth": list(some)})
    progress(1.0, "Written")
    return {"folder": str(folder), "format": file_format, "space": space, "files": files, "teeth": entries}


def tooth_surfaces(
    labels: Volume, wanted: Sequence[int] | None = None, triangles: int | None = None, progress: Progress = silent
) -> tuple[dict[int, TriangleMesh], list[dict[str, Any]]]:
    """The surfaces of the teeth of a label map (FDI numbers) by number, ascending, and what is to be told of each.

    Raises InputError when there is no tooth at all or a wanted one is not there.
    """
    boxes = {value: box for value, box in label_boxes(labels.array).items() if teeth.is_tooth(value)}
    chosen = sorted(boxes) if wanted is None else sorted(set(wanted))
    absent = [fdi for fdi in chosen if fdi not in boxes]
    if absent or not boxes:
        there = f"it has {' '.join(map(str, sorted(boxes)))}" if boxes else "it has no tooth at all"
        asked = f"no tooth {listed(absent)}" if absent else "nothing to make a mesh of"
        raise InputError(f"The label map has {asked}: {there}; ask for one that is there.")
    meshes, entries = {}, []
    for step, fdi in enumerate(chosen):
        progress(step / len(chosen), f"Surface of tooth {fdi}")
        mesh = meshes[fdi] = tooth_surface(labels, fdi, triangles, boxes)
        entries.append(_entry(fdi, mesh, int(np.count_nonzero(labels.array[boxes[fdi]] == fdi)) * labels.voxel_volume))
    return meshes, entries


def encoded(meshes: Meshes, file_format: str, space: str = "lps") -> bytes:
    """The contents of a file with the meshes (by FDI number, LPS mm) in a format and space of this module."""
    placed = {fdi: _trimesh(fdi, mesh, space) for fdi, mesh in meshes.items()}
    return _ENCODERS[file_format](placed, space)


def _grouped(meshes: Meshes, per: str) -> dict[str, dict[int, TriangleMesh]]:
    """Which teeth go into which file, by the end of its name."""
    groups: dict[str, dict[int, TriangleMesh]] = {}
    for fdi, mesh in meshes.items():
        jaw = "upper" if teeth.is_upper(fdi) else "lower"
        name = {"tooth": f"tooth_{fdi}", "jaw": f"{jaw}_teeth", "all": "all_teeth"}[per]
        groups.setdefault(name, {})[fdi] = mesh
    return groups


def _entry(fdi: int, mesh: TriangleMesh, labelled_mm3: float) -> dict[str, Any]:
    volume = mesh.volume
    return {
        "fdi": fdi,
        "triangles": len(mesh.faces),
        "volume_mm3": round(volume, 3),
        "label_volume_mm3": round(labelled_mm3, 3),
        "volume_error_percent": round(100 * (volume / labelled_mm3 - 1), 3),
        "watertight": mesh.watertight,
        "euler_number": mesh.euler_number,
    }


def _trimesh(fdi: int, mesh: TriangleMesh, space: str) -> Any:
    import trimesh

    # both turns mirror nothing: x and y change their sign together
    vertices = mesh.vertices * np.array([1, 1, 1] if space == "lps" else [-1, -1, 1], np.float32)
    colour = np.array([*(round(255 * channel) for channel in colour_of(fdi)), 255], np.uint8)
    made = trimesh.Trimesh(vertices, mesh.faces, process=False)
    made.visual.vertex_colors = np.tile(colour, (len(vertices), 1))
    return made


def _told(meshes: Mapping[int, Any], space: str) -> str:
    return f"ToothTopoSeg SPACE={space.upper()} mm teeth {' '.join(map(str, meshes))}"


def _joined(meshes: Mapping[int, Any]) -> Any:
    import trimesh

    return trimesh.util.concatenate(list(meshes.values()))


def _stl(meshes: Mapping[int, Any], space: str) -> bytes:
    from trimesh.exchange.stl import export_stl

    return _told(meshes, space).encode("ascii")[:80].ljust(80) + bytes(export_stl(_joined(meshes)))[80:]


def _ply(meshes: Mapping[int, Any], space: str) -> bytes:
    from trimesh.exchange.ply import export_ply

    start, kind, rest = bytes(export_ply(_joined(meshes))).split(b"\n", 2)
    return b"\n".join([start, kind, b"comment " + _told(meshes, space).encode("ascii"), rest])


def _obj(meshes: Mapping[int, Any], space: str) -> bytes:
    return f"# {_told(meshes, space)}\n{_scene(meshes).export(file_type='obj')}\n".encode("ascii")


def _glb(meshes: Mapping[int, Any], space: str) -> bytes:
    transform = np.eye(4)
    transform[:3, :3] = 0.001 * np.array(_TO_GLTF[space])
    return bytes(_scene(meshes, transform).export(file_type="glb"))


def _scene(meshes: Mapping[int, Any], transform: Any = None) -> Any:
    import trimesh

    scene = trimesh.Scene()
    for fdi, mesh in meshes.items():
        name = f"tooth_{fdi}"
        scene.add_geometry(mesh, node_name=name, geom_name=name, transform=transform)
    return scene


_ENCODERS: dict[str, Callable[[Mapping[int, Any], str], bytes]] = {"stl": _stl, "obj": _obj, "ply": _ply, "glb": _glb}
