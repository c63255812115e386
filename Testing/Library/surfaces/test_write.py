"""Mesh files: what is in them, where it lies, that readers of others understand it, and that nothing half is left."""

from __future__ import annotations

import json

import numpy as np
import pytest
import trimesh

from ToothTopoSegLib.anatomy.colours import colour_of
from ToothTopoSegLib.cli import main
from ToothTopoSegLib.errors import InputError, OutputError, UsageError
from ToothTopoSegLib.imaging.volume import Volume
from ToothTopoSegLib.imaging.write import write_label_map
from ToothTopoSegLib.surfaces import write
from ToothTopoSegLib.surfaces.write import FORMATS, mesh_file

TEETH = (11, 21, 36)
ORIGIN = (-5.0, 20.0, 40.0)


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    """Three blocks, two of which touch, in a file whose path has spaces and umlauts."""
    array = np.zeros((16, 16, 24), np.uint8)
    array[8:14, 2:8, 2:8], array[8:14, 2:8, 8:14], array[1:6, 9:15, 15:22] = TEETH
    path = tmp_path_factory.mktemp("Zähne von oben") / "Müller teeth_teeth.nii.gz"
    write_label_map(Volume(array, (0.5, 0.4, 0.3), ORIGIN), path)
    return path


def loaded(path):
    return trimesh.load(path, force="mesh" if path.suffix != ".glb" else "scene")


@pytest.mark.parametrize("file_format", FORMATS)
def test_every_format_is_read_back_watertight_with_the_volume_of_the_labels(labels, tmp_path, file_format):
    report = mesh_file(labels, tmp_path, file_format)
    assert [entry["file"] for entry in report["files"]] == [f"Müller teeth_tooth_{n}.{file_format}" for n in TEETH]
    for entry, tooth in zip(report["files"], report["teeth"], strict=True):
        mesh = loaded(tmp_path / entry["file"])
        mesh = mesh.to_geometry() if file_format == "glb" else mesh
        scale = 1000.0 if file_format == "glb" else 1.0  # glTF has metres
        mesh.merge_vertices()
        assert mesh.is_watertight and mesh.volume * scale**3 == pytest.approx(tooth["label_volume_mm3"], rel=0.01)
        assert tooth["watertight"] and len(mesh.faces) == tooth["triangles"]


def test_coordinates_are_lps_unless_ras_is_asked_for_and_the_file_says_which(labels, tmp_path):
    where = {}
    for space in ("lps", "ras"):
        mesh_file(labels, tmp_path / space, "stl", space, wanted=[11])
        path = tmp_path / space / "Müller teeth_tooth_11.stl"
        assert path.read_bytes()[:80].startswith(f"ToothTopoSeg SPACE={space.upper()} mm".encode())
        where[space] = loaded(path)
    # six voxels from the third on, half a voxel before the first centre
    middle = np.array(ORIGIN) + (np.array([2, 2, 8]) + 2.5) * (0.3, 0.4, 0.5)
    assert where["lps"].center_mass == pytest.approx(middle, abs=0.02)
    assert where["ras"].center_mass == pytest.approx(middle * (-1, -1, 1), abs=0.02)
    assert where["ras"].volume > 0


@pytest.mark.parametrize("space", ["lps", "ras"])
def test_glb_shows_up_as_up_and_the_face_ahead_whatever_the_space(labels, tmp_path, space):
    mesh_file(labels, tmp_path, "glb", space, wanted=[11])
    mesh = loaded(tmp_path / "Müller teeth_tooth_11.glb").to_geometry()
    left, back, up = np.array(ORIGIN) + (np.array([2, 2, 8]) + 2.5) * (0.3, 0.4, 0.5)
    assert mesh.center_mass * 1000 == pytest.approx([left, up, -back], abs=0.02)


def test_a_jaw_is_one_file_with_its_teeth_as_bodies(labels, tmp_path):
    report = mesh_file(labels, tmp_path, "stl", per="jaw")
    names = {entry["file"]: entry["teeth"] for entry in report["files"]}
    assert names == {"Müller teeth_upper_teeth.stl": [11, 21], "Müller teeth_lower_teeth.stl": [36]}
    upper = loaded(tmp_path / "Müller teeth_upper_teeth.stl")
    assert upper.body_count == 2 and upper.is_watertight


@pytest.mark.parametrize("file_format", ["obj", "ply", "glb"])
def test_teeth_in_one_file_keep_their_colours(labels, tmp_path, file_format):
    mesh_file(labels, tmp_path, file_format, per="all")
    scene = trimesh.load_scene(tmp_path / f"Müller teeth_all_teeth.{file_format}")
    seen = {tuple(c) for mesh in scene.geometry.values() for c in mesh.visual.vertex_colors[:, :3].tolist()}
    assert seen == {tuple(round(255 * channel) for channel in colour_of(fdi)) for fdi in TEETH}


@pytest.mark.parametrize("file_format", ["obj", "glb"])
def test_teeth_in_one_file_keep_their_names(labels, tmp_path, file_format):
    mesh_file(labels, tmp_path, file_format, per="all")
    content = (tmp_path / f"Müller teeth_all_teeth.{file_format}").read_bytes()
    assert all(f"tooth_{fdi}".encode() in content for fdi in TEETH)


def test_the_command_line_writes_chosen_teeth_and_prints_json(labels, tmp_path, capsys):
    folder = tmp_path / "für den Drucker"
    command = ["mesh", labels, "-o", folder, "--format", "ply", "--teeth", "36", "11", "--triangles", "200", "--json"]
    assert main([str(word) for word in command]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [tooth["fdi"] for tooth in report["teeth"]] == [11, 36]
    assert all(tooth["triangles"] <= 200 and abs(tooth["volume_error_percent"]) < 1 for tooth in report["teeth"])
    assert sorted(path.name for path in folder.iterdir()) == [entry["file"] for entry in report["files"]]


def test_the_command_line_tells_a_person_what_was_written(labels, tmp_path, capsys):
    assert main(["mesh", str(labels), "-o", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "tooth     11:" in out and "watertight" in out and "Müller teeth_tooth_36.stl" in out


def test_a_wanted_tooth_that_is_not_there_is_said_so_and_nothing_is_written(labels, tmp_path):
    with pytest.raises(InputError, match="no tooth 48: it has 11 21 36"):
        mesh_file(labels, tmp_path / "out", wanted=[48])
    assert not (tmp_path / "out").exists()


def test_jaws_alone_are_nothing_to_make_a_mesh_of(tmp_path):
    write_label_map(Volume(np.full((8, 8, 8), 101, np.uint8)), tmp_path / "jaw.nii.gz")
    with pytest.raises(InputError, match="no tooth at all"):
        mesh_file(tmp_path / "jaw.nii.gz", tmp_path / "out")


@pytest.mark.parametrize(("name", "choice"), [("file_format", "vtk"), ("space", "ijk"), ("per", "root")])
def test_an_unknown_choice_names_the_known_ones(labels, tmp_path, name, choice):
    with pytest.raises(UsageError, match=f"{choice}.*choose one of"):
        mesh_file(labels, tmp_path, **{name: choice})


def test_a_full_disk_leaves_nothing_behind(labels, tmp_path, monkeypatch):
    def full(meshes, file_format, space):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(write, "encoded", full)
    with pytest.raises(OutputError, match="disk is full"):
        mesh_file(labels, tmp_path / "out")
    assert not (tmp_path / "out").exists()
