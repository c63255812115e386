"""Phantoms as files: the same seed gives the same bytes, scan and labels share a grid, wrong wishes are refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ToothTopoSegLib.anatomy import fdi
from ToothTopoSegLib.errors import Cancelled, OutputError, UsageError
from ToothTopoSegLib.imaging import itk
from ToothTopoSegLib.imaging.read import read_label_map, read_scan
from ToothTopoSegLib.phantom import arch, head, scanner, write
from ToothTopoSegLib.phantom.write import make_hard_view, make_phantom, write_phantoms

SMALL = 40_000


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Phantoms of a few ten thousand voxels; spacing becomes as coarse as that takes."""
    monkeypatch.setattr(write, "LARGEST_VOXELS", SMALL)


@pytest.fixture
def unrendered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Phantoms whose view and spacing are drawn, with next to nothing in them."""
    nothing = np.zeros((1, 1, 1), np.uint8)
    monkeypatch.setattr(head, "render", lambda *args, **kwargs: (nothing, nothing))
    monkeypatch.setattr(scanner, "expose", lambda tissue, *args: tissue.astype(np.float32))
    monkeypatch.setattr(scanner, "add_noise", lambda grey, *args: grey)


@pytest.fixture
def one_tooth(monkeypatch: pytest.MonkeyPatch) -> None:
    """Heads that are soft tissue with one block of a tooth in the middle, on any grid."""

    def render(dentition: object, shape: tuple[int, ...], *args: object, **options: object):
        tissue, labels = np.full(shape, head.SOFT, np.uint8), np.zeros(shape, np.uint8)
        middle = tuple(slice(n // 3, 2 * n // 3) for n in shape)
        tissue[middle], labels[middle] = head.DENTINE, 11
        return tissue, labels

    monkeypatch.setattr(arch, "draw_dentition", lambda *args, **options: None)
    monkeypatch.setattr(head, "render", render)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the small phantoms 3 and 4."""
    folder = tmp_path_factory.mktemp("phantoms") / "new"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(write, "LARGEST_VOXELS", SMALL)
        write_phantoms(folder, count=2, seed=3)
    return folder


def test_each_phantom_is_a_scan_its_labels_and_how_it_was_made(written):
    names = {p.name for p in written.iterdir()}
    assert names == {f"phantom_0000{n}{end}" for n in (3, 4) for end in (".nii.gz", "_labels.nii.gz", ".json")}


def test_scan_and_labels_read_back_on_one_grid(written):
    scan, labels = read_scan(written / "phantom_00003.nii.gz"), read_label_map(written / "phantom_00003_labels.nii.gz")
    assert scan.array.shape == labels.array.shape
    assert scan.spacing == pytest.approx(labels.spacing, rel=1e-6)
    assert scan.origin == pytest.approx(labels.origin, abs=1e-4)
    assert np.asarray(scan.direction) == pytest.approx(np.asarray(labels.direction), abs=1e-6)


def test_files_hold_the_very_arrays_of_the_phantom(written, small):
    phantom = make_phantom(3)
    assert (read_scan(written / "phantom_00003.nii.gz").array == phantom.scan.array).all()
    assert (read_label_map(written / "phantom_00003_labels.nii.gz").array == phantom.labels.array).all()
    assert read_scan(written / "phantom_00003.nii.gz").origin == pytest.approx(phantom.scan.origin, abs=1e-4)


def test_labels_are_teeth_and_jaws_and_the_note_lists_the_teeth(written):
    labels = read_label_map(written / "phantom_00004_labels.nii.gz").array
    note = json.loads((written / "phantom_00004.json").read_text(encoding="utf-8"))
    assert set(np.unique(labels)) <= {0, *fdi.PERMANENT, *fdi.JAWS}
    assert note["teeth"] == [v for v in np.unique(labels) if fdi.is_tooth(v)]
    assert note["seed"] == 4
    assert note["shape_zyx"] == list(labels.shape)


def test_labels_lie_on_the_right_side_of_the_patient(written):
    labels = read_label_map(written / "phantom_00003_labels.nii.gz")
    present = [int(v) for v in np.unique(labels.array) if fdi.is_tooth(v)]
    centroids = {v: labels.index_to_lps(np.argwhere(labels.array == v).mean(axis=0)) for v in present}
    back = [v for v in present if fdi.position(v) >= 4]
    assert back
    for tooth in back:
        assert (centroids[tooth][0] > 0) == fdi.is_left(tooth)


def test_the_same_seed_gives_the_same_bytes(written, small, tmp_path):
    write_phantoms(tmp_path, seed=4)
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (written / path.name).read_bytes(), path.name


def test_another_seed_and_a_hard_phantom_are_other_phantoms(small):
    easy, other, hard = make_phantom(3), make_phantom(5), make_phantom(3, hard=True)
    assert easy.made["imaging"] != other.made["imaging"]
    assert easy.made["imaging"] != hard.made["imaging"]
    assert hard.made["hard"]
    assert easy.scan.array.shape != hard.scan.array.shape or (easy.scan.array != hard.scan.array).any()


def test_the_report_names_the_folder_and_every_phantom(small, tmp_path):
    heard = []
    report = write_phantoms(tmp_path, seed=6, progress=lambda fraction, message: heard.append(fraction))
    assert report["folder"] == str(tmp_path)
    assert [p["seed"] for p in report["phantoms"]] == [6]
    assert (tmp_path / report["phantoms"][0]["scan"]).is_file()
    assert (tmp_path / report["phantoms"][0]["labels"]).is_file()
    assert heard == [0.0, 1.0]
    json.dumps(report)


@pytest.mark.parametrize("hard", (False, True))
def test_spacing_lies_between_a_fifth_and_half_a_millimetre_within_the_size_limit(unrendered, hard):
    made = [make_phantom(seed, hard).made for seed in range(25)]
    assert all(0.2 <= m["spacing_mm"] <= 0.5 for m in made)
    assert max(np.prod(m["shape_zyx"]) for m in made) <= write.LARGEST_VOXELS * 1.01
    assert max(m["spacing_mm"] for m in made) > 0.45
    assert hard or min(m["spacing_mm"] for m in made) < 0.3


def test_views_of_both_jaws_one_jaw_and_one_side_occur(unrendered):
    views = {make_phantom(seed).made["view"] for seed in range(25)}
    assert views == {"both jaws", "upper jaw", "lower jaw", "half"}


def test_a_size_limit_makes_the_voxels_coarser(unrendered, monkeypatch):
    monkeypatch.setattr(write, "LARGEST_VOXELS", SMALL)
    made = make_phantom(0).made
    assert made["spacing_mm"] > 0.5
    assert np.prod(made["shape_zyx"]) <= SMALL


def test_no_voxel_of_a_tooth_is_left_within_the_one_it_overlaps(unrendered, monkeypatch):
    labels = np.zeros((12, 12, 24), np.uint8)
    labels[2:10, 2:10, 2:12], labels[2:10, 2:10, 12:22] = 38, 37
    labels[5, 5, 5] = 37
    monkeypatch.setattr(head, "render", lambda *args, **kwargs: (np.zeros_like(labels), labels.copy()))
    made = make_phantom(3).labels.array
    labels[5, 5, 5] = 38
    np.testing.assert_array_equal(made, labels)


def test_a_natural_phantom_is_written_as_a_plain_one_is(small, tmp_path):
    report = write_phantoms(tmp_path, seed=2, setting="natural")
    note = json.loads((tmp_path / "phantom_00002.json").read_text(encoding="utf-8"))
    scan = read_scan(tmp_path / "phantom_00002.nii.gz")
    labels = read_label_map(tmp_path / "phantom_00002_labels.nii.gz")
    assert note["setting"] == report["phantoms"][0]["setting"] == "natural"
    assert scan.array.dtype == np.int16
    assert list(scan.array.shape) == list(labels.array.shape) == note["shape_zyx"]
    assert note["teeth"] == [v for v in np.unique(labels.array) if fdi.is_tooth(v)]
    assert (make_phantom(2, setting="natural").scan.array == scan.array).all()


@pytest.mark.parametrize("setting", ("natural", "foreign"))
def test_other_settings_decide_scan_and_labels_by_seed_and_keep_to_the_size_limit(small, one_tooth, setting):
    for seed in range(6):
        phantom, again = (make_phantom(seed, setting=setting) for _ in range(2))
        assert (phantom.scan.array == again.scan.array).all()
        assert np.prod(phantom.scan.array.shape) <= SMALL * 1.01
        assert phantom.made["teeth"] == [11]
        assert set(np.unique(phantom.labels.array)) == {0, 11}


def test_settings_differ_and_hard_ones_too(small, one_tooth):
    made = [make_phantom(7, hard, setting) for setting in ("natural", "foreign") for hard in (False, True)]
    assert len({phantom.scan.array.tobytes() for phantom in made}) == 4


def test_heads_by_one_scanner_differ_in_everything_but_what_the_scanner_does(small, one_tooth):
    first, second = (make_phantom(seed, setting="foreign", scanner=3).made for seed in (0, 1))
    moved = {"moves", "first_angle"}
    own, other = ({k: v for k, v in made["imaging"].items() if k not in moved} for made in (first, second))
    assert own == other and first["scanner"] == 3
    assert first["imaging"]["first_angle"] != second["imaging"]["first_angle"]
    assert first["shape_zyx"] != second["shape_zyx"]
    assert make_phantom(0, setting="foreign").made["imaging"]["grey"] != first["imaging"]["grey"]


def test_plain_phantoms_have_no_scanners_to_choose(tmp_path):
    with pytest.raises(UsageError, match="--setting"):
        write_phantoms(tmp_path / "new", scanner=3)
    assert not (tmp_path / "new").exists()


def test_outside_the_cylinder_of_a_view_there_is_one_grey_value_and_no_label(small, one_tooth):
    made = [make_phantom(seed, setting="natural") for seed in range(12)]
    ended = [phantom for phantom in made if phantom.made["outside"]]
    assert 3 < len(ended) < 12
    for phantom in ended:
        assert len(np.unique(phantom.scan.array[:, 0, [0, -1]])) == 1
        assert not phantom.labels.array[:, 0, [0, -1]].any()


def test_a_hard_view_of_another_setting_has_the_size_and_spacing_asked_for(one_tooth):
    phantom = make_hard_view(1, (24.0, 40.0, 44.0), 2.0, "natural")
    assert phantom.scan.array.shape == phantom.labels.array.shape == (12, 20, 22)
    assert phantom.scan.spacing == (2.0,) * 3
    assert (phantom.made["setting"], phantom.made["hard"]) == ("natural", True)


def test_an_unknown_setting_is_refused_with_the_ones_there_are(tmp_path):
    for make in (lambda: make_phantom(0, setting="real"), lambda: make_hard_view(0, (9.0,) * 3, setting="real")):
        with pytest.raises(UsageError, match="plain, natural, foreign"):
            make()
    with pytest.raises(UsageError, match="'real'"):
        write_phantoms(tmp_path / "new", setting="real")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(("count", "seed"), ((0, 0), (-1, 0), (1, -1)))
def test_no_phantoms_and_negative_seeds_are_refused_before_anything_is_written(tmp_path, count, seed):
    with pytest.raises(UsageError, match="at least"):
        write_phantoms(tmp_path / "new", count=count, seed=seed)
    assert not (tmp_path / "new").exists()


def test_a_cancelled_run_leaves_whole_phantoms_only(small, tmp_path):
    def cancel_after_one(fraction: float, message: str) -> None:
        if fraction > 0:
            raise Cancelled("Cancelled.")

    with pytest.raises(Cancelled):
        write_phantoms(tmp_path, count=2, seed=6, progress=cancel_after_one)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "phantom_00006.json",
        "phantom_00006.nii.gz",
        "phantom_00006_labels.nii.gz",
    ]


def test_a_scan_that_the_writer_refuses_is_one_sentence_and_leaves_nothing(unrendered, monkeypatch, tmp_path):
    class Full:
        def WriteImage(self, *args: object) -> None:  # noqa: N802
            raise RuntimeError("sitk::ERROR: many lines")

    monkeypatch.setattr(itk, "image_from_volume", lambda volume: None)
    monkeypatch.setattr(itk, "import_sitk", Full)
    with pytest.raises(OutputError, match="phantom_00000"):
        write_phantoms(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_file_in_the_place_of_the_folder_is_refused(unrendered, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OutputError):
        write_phantoms(tmp_path / "file")
