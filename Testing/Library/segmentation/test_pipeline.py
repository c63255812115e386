"""The whole way of a scan, with a network small enough to run in a blink."""

from __future__ import annotations

import errno
import json
import re
import zipfile
from itertools import pairwise, permutations, product
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from Testing.Library.imaging.dicom_series import write_series
from ToothTopoSegLib.errors import Cancelled, InputError, ModelError, OutputError
from ToothTopoSegLib.evaluation import html, preview
from ToothTopoSegLib.imaging import dicom_seg, segments, write
from ToothTopoSegLib.imaging.read import read_label_map
from ToothTopoSegLib.imaging.volume import IDENTITY, Volume
from ToothTopoSegLib.progress import Milestone
from ToothTopoSegLib.quantization.bundle import load_bundle
from ToothTopoSegLib.segmentation import arch_prior, decide, pipeline, tiling
from ToothTopoSegLib.segmentation.classes import LABELS
from ToothTopoSegLib.segmentation.pipeline import Clock, segment_to_folder, segment_volume, segmented
from ToothTopoSegLib.segmentation.region import LARGEST_MM
from ToothTopoSegLib.segmentation.runner import Runner
from ToothTopoSegLib.topology import report
from ToothTopoSegLib.topology.check import check_same_grid

OBLIQUE = tuple(map(tuple, Rotation.from_euler("xyz", (8, -5, 12), degrees=True).as_matrix().tolist()))
SPACING = (0.5, 0.9, 1.1)
FILES = {
    "head_teeth.nii.gz",
    "head_teeth.seg.nrrd",
    "head_report.json",
    "head_report.html",
    "head_preview.png",
}


def _scan(shape=(31, 18, 15), seed=0, direction=IDENTITY, spacing=SPACING) -> Volume:
    """A smooth random scan (z, y, x) away from the origin."""
    grey = gaussian_filter(np.random.default_rng(seed).normal(size=shape), 2.0)
    return Volume((grey / grey.std() * 500 + 400).astype(np.int16), spacing, (-30.0, 12.5, 7.0), direction)


def _stored(volume: Volume, order: tuple[int, ...], flipped: tuple[int, ...]) -> Volume:
    """The same voxels at the same places in the world, stored along other axes."""
    corner = [0, 0, 0]
    for axis in flipped:
        corner[order[axis]] = volume.array.shape[order[axis]] - 1
    columns = np.asarray(volume.direction)[:, ::-1][:, list(order)]
    columns[:, list(flipped)] *= -1
    return Volume(
        np.ascontiguousarray(np.flip(volume.array.transpose(order), flipped)),
        tuple(volume.spacing[axis] for axis in order),
        tuple(volume.index_to_lps(np.array(corner)).tolist()),
        tuple(map(tuple, columns[:, ::-1].tolist())),
    )


def _written(folder: Path, volume: Volume, name: str = "head.nrrd") -> Path:
    image = SimpleITK.GetImageFromArray(volume.array)
    image.SetSpacing([float(s) for s in volume.spacing[::-1]])
    image.SetOrigin(volume.origin)
    image.SetDirection(np.asarray(volume.direction).ravel().tolist())
    SimpleITK.WriteImage(image, str(folder / name))
    return folder / name


@pytest.fixture
def no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """A blank picture in place of the preview, whose drawing takes most of a second."""

    def blank(scan: Volume, labels: Volume, findings: list[object], path: Path, title: str) -> None:
        Image.new("RGB", (4, 4)).save(path)

    monkeypatch.setattr(preview, "draw_preview", blank)


def _runner(bundle: Path) -> Runner:
    return Runner(load_bundle(bundle), threads=1)


@pytest.mark.parametrize("direction", [IDENTITY, OBLIQUE], ids=["straight", "oblique"])
def test_labels_do_not_depend_on_how_the_scan_is_stored(tiny_bundle: Path, direction) -> None:
    bundle, runner = load_bundle(tiny_bundle), _runner(tiny_bundle)
    scan = _scan(direction=direction)
    expected = segment_volume(scan, bundle, runner).array
    assert len(np.unique(expected)) > 4
    flips = [tuple(np.flatnonzero(f)) for f in product((0, 1), repeat=3)]
    for number, order in enumerate(permutations(range(3))):
        for flipped in (flips[number], flips[7 - number]):
            found = segment_volume(_stored(scan, order, flipped), bundle, runner).array
            back = np.flip(found, flipped).transpose(np.argsort(order))
            np.testing.assert_array_equal(back, expected)


def test_surfaces_do_not_depend_on_how_the_scan_is_stored(surfaced_bundle: Path) -> None:
    bundle, runner = load_bundle(surfaced_bundle), _runner(surfaced_bundle)
    scan = _scan(direction=OBLIQUE)
    expected = segment_volume(scan, bundle, runner).array
    assert len(np.unique(expected)) > 4
    for order, flipped in (((2, 0, 1), (0, 2)), ((1, 0, 2), (1,)), ((0, 1, 2), (0, 1, 2))):
        found = segment_volume(_stored(scan, order, flipped), bundle, runner).array
        back = np.flip(found, flipped).transpose(np.argsort(order))
        np.testing.assert_array_equal(back, expected)


def test_a_second_network_changes_surfaces_and_reports_name_it(
    tiny_bundle: Path, surfaced_bundle: Path, tmp_path: Path, no_picture: None
) -> None:
    scan = _scan()
    plain, surfaced = (segment_volume(scan, load_bundle(b), _runner(b)).array for b in (tiny_bundle, surfaced_bundle))
    assert set(np.unique(surfaced)) <= set(LABELS) and (plain != surfaced).any()
    written = segment_to_folder(_written(tmp_path, scan), tmp_path / "out", surfaced_bundle, threads=1)
    assert written["model"]["surface"] == load_bundle(surfaced_bundle).card["surface"]
    assert "surface" in written["timing_s"]


@pytest.mark.parametrize("direction", [IDENTITY, OBLIQUE], ids=["straight", "oblique"])
def test_the_first_labels_are_those_without_a_second_network_and_leave_the_last_ones_as_they_are(
    tiny_bundle: Path, surfaced_bundle: Path, direction
) -> None:
    scan = _stored(_scan(direction=direction), (2, 0, 1), (0, 2))
    first: list[Volume] = []
    plain = segment_volume(scan, load_bundle(tiny_bundle), _runner(tiny_bundle))
    alone, watched = (
        segment_volume(scan, load_bundle(surfaced_bundle), _runner(surfaced_bundle), on_first=on_first)
        for on_first in (None, first.append)
    )
    assert len(first) == 1 and first[0].array.dtype == np.uint8
    np.testing.assert_array_equal(first[0].array, plain.array)
    check_same_grid(first[0], scan)
    np.testing.assert_array_equal(watched.array, alone.array)
    assert (first[0].array != watched.array).any()


def test_the_first_labels_come_before_the_second_network_and_may_be_changed(surfaced_bundle: Path) -> None:
    told: list[str] = []

    def spoil(labels: Volume) -> None:
        told.append("first labels")
        labels.array[...] = 0

    bundle, runner, scan = load_bundle(surfaced_bundle), _runner(surfaced_bundle), _scan()
    clock = Clock()
    spoilt = segment_volume(scan, bundle, runner, lambda _, said: told.append(said), clock, spoil)
    assert told.index("segmenting the teeth") < told.index("first labels") < told.index("looking at the surfaces")
    assert "first labels" in clock.seconds
    np.testing.assert_array_equal(spoilt.array, segment_volume(scan, bundle, runner).array)


def test_first_labels_that_nothing_better_follows_are_not_told(tiny_bundle: Path, blind_bundle: Path) -> None:
    for path in (tiny_bundle, blind_bundle):
        segment_volume(
            _scan(), load_bundle(path), _runner(path), on_first=lambda _: pytest.fail("the last labels come at once")
        )


def test_whoever_cancels_at_the_first_labels_gets_no_second_network(surfaced_bundle: Path) -> None:
    told: list[str] = []

    def stop(labels: Volume) -> None:
        raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        segment_volume(
            _scan(),
            load_bundle(surfaced_bundle),
            _runner(surfaced_bundle),
            lambda _, said: told.append(said),
            on_first=stop,
        )
    assert "looking at the surfaces" not in told


def test_the_time_of_the_first_labels_is_told_though_nobody_asks_for_them(
    surfaced_bundle: Path, tiny_bundle: Path, tmp_path: Path, no_picture: None
) -> None:
    scan, told = _written(tmp_path, _scan()), []
    result = segment_to_folder(
        scan, tmp_path / "out", surfaced_bundle, threads=1, progress=lambda _, said: told.append(said)
    )
    milestones = [said for said in told if isinstance(said, Milestone)]
    assert len(milestones) == 1 and re.fullmatch(r"first labels after \d+ s", milestones[0])
    assert "first labels" not in result["timing_s"] and {p.name for p in (tmp_path / "out").iterdir()} == FILES
    told.clear()
    segment_to_folder(scan, tmp_path / "plain", tiny_bundle, threads=1, progress=lambda _, said: told.append(said))
    assert told and not any(isinstance(said, Milestone) for said in told)


@pytest.mark.parametrize("spacing", [(0.2, 0.2, 0.2), (0.4, 0.3, 0.3), (1.0, 1.0, 1.0), (1.7, 0.6, 2.2)])
def test_labels_lie_on_the_scans_own_grid(tiny_bundle: Path, spacing) -> None:
    scan = _scan((20, 25, 22), spacing=spacing)
    found = segment_volume(scan, load_bundle(tiny_bundle), _runner(tiny_bundle))
    assert found.array.shape == scan.array.shape and found.array.dtype == np.uint8
    assert (found.spacing, found.origin, found.direction) == (scan.spacing, scan.origin, scan.direction)
    assert set(np.unique(found.array)) <= set(LABELS)


def test_the_scores_kept_say_tooth_where_the_labels_do(tiny_bundle: Path) -> None:
    scan = _scan(spacing=(1.0, 1.0, 1.0))
    labels, scores, own = segmented(scan, load_bundle(tiny_bundle), _runner(tiny_bundle))
    assert own is None  # only imported models have labels of their own
    assert scores is not None and scores.number.shape == scores.tooth.array.shape
    teeth = np.argwhere((labels.array > 0) & (labels.array < 100))
    index = np.rint(scores.tooth.lps_to_index(labels.index_to_lps(teeth))).astype(int)
    inside = ((index >= 0) & (index < scores.number.shape)).all(axis=1)
    same = scores.number[tuple(index[inside].T)] == labels.array[tuple(teeth[inside].T)]
    assert len(teeth) > 100 and same.mean() > 0.8


def test_findings_of_a_segmentation_are_told_with_the_scores(
    tiny_bundle: Path, tmp_path: Path, no_picture: None
) -> None:
    path = _written(tmp_path, _scan())
    found = segment_to_folder(path, tmp_path / "out", model=tiny_bundle)
    holes = [f for f in found["findings"] if f["kind"] in ("cavity", "tunnel", "fragment")]
    assert holes, "a random network's teeth are full of them"
    known = [f["robustness"] for f in holes if "robustness" in f]
    assert all(0 <= r["death"] < r["birth"] <= 1 and len(r["position_lps_mm"]) == 3 for r in known)
    assert all("robustness" not in f for f in found["findings"] if f not in holes)


_blend = tiling.blend


def _blend_one_view(image, patch, network, mirrored, *rest):
    """Blend without a mirror: the second look at a tile repeats, mirrored, what the first one gave."""
    first: list[np.ndarray] = []

    def looked_at(tile: np.ndarray) -> np.ndarray:
        if first:
            return first.pop()[list(mirrored)][..., ::-1]
        first.append(network(tile))
        return first[0]

    return _blend(image, patch, looked_at, mirrored, *rest)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
def test_grey_values_of_another_type_or_offset_give_nearly_the_same_labels(
    tiny_bundle: Path, dtype: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A random network's teeth lie on no arch, their sizes at every limit, and its mirrored view agrees with nothing:
    # what is decided tooth by tooth or between two views would make hundreds of other voxels of a rounded grey value.
    monkeypatch.setattr(decide, "drop_specks", lambda *args: None)
    monkeypatch.setattr(arch_prior, "follow_arch", lambda *args: None)
    monkeypatch.setattr(tiling, "blend", _blend_one_view)
    bundle, runner = load_bundle(tiny_bundle), _runner(tiny_bundle)
    scan = _scan()
    grey = scan.array.astype(float)
    other = np.rint((grey - grey.min()) / np.ptp(grey) * (255 if dtype == np.uint8 else 3000)).astype(dtype)
    expected, found = (segment_volume(v, bundle, runner).array for v in (scan, scan.with_array(other)))
    assert (expected == found).mean() > (0.85 if dtype == np.uint8 else 0.94)


def test_what_fills_the_corners_around_a_small_field_of_view_does_not_matter(surfaced_bundle: Path) -> None:
    bundle, runner = load_bundle(surfaced_bundle), _runner(surfaced_bundle)
    scan = _scan((14, 24, 24), spacing=(0.6, 0.6, 0.6))
    y, x = np.indices((24, 24)) - 11.5
    seen = np.hypot(y, x) <= 12
    first: list[Volume] = []
    found = [
        segment_volume(
            scan.with_array(np.where(seen, scan.array, np.int16(value))), bundle, runner, on_first=first.append
        ).array
        for value in (-3000, 0, 400)
    ]
    assert len(np.unique(found[0])) > 4 and not found[0][:, ~seen].any()
    np.testing.assert_array_equal(found[1], found[0])
    np.testing.assert_array_equal(found[2], found[0])
    assert first and not any(labels.array[:, ~seen].any() for labels in first)


def test_a_scan_larger_than_a_dentition_is_labelled_in_its_dental_region_alone(tiny_bundle: Path) -> None:
    scan = _scan((16, 18, 140), spacing=(1.0, 1.0, 1.0))
    clock = Clock()
    found = segment_volume(scan, load_bundle(tiny_bundle), _runner(tiny_bundle), clock=clock)
    columns = np.flatnonzero(found.array.any(axis=(0, 1)))
    assert 0 < len(columns) <= LARGEST_MM[2] and np.ptp(columns) < LARGEST_MM[2]
    assert list(clock.seconds) == ["resample", "locate", "network", "labels"]


@pytest.mark.parametrize("shape", [(16, 18, 20), (16, 18, 140)], ids=["small", "large"])
def test_a_scan_without_teeth_gives_labels_of_zero(blind_bundle: Path, shape) -> None:
    scan = _scan(shape, spacing=(1.0, 1.0, 1.0))
    found = segment_volume(scan, load_bundle(blind_bundle), _runner(blind_bundle))
    assert not found.array.any() and found.array.shape == shape and found.array.dtype == np.uint8


@pytest.mark.parametrize("name", ["head.nii.gz", "head.nrrd", "head.mha"])
def test_all_outputs_of_the_contract_are_written_and_nothing_else(
    tiny_bundle: Path, tmp_path: Path, request: pytest.FixtureRequest, name: str
) -> None:
    if name != "head.nii.gz":
        request.getfixturevalue("no_picture")
    path = _written(tmp_path, _scan(direction=OBLIQUE), name)
    out = tmp_path / "out ü" / "deep"
    result = segment_to_folder(path, out, tiny_bundle, threads=1)
    assert {p.name for p in out.iterdir()} == FILES
    labels, scan = SimpleITK.ReadImage(str(out / "head_teeth.nii.gz")), SimpleITK.ReadImage(str(path))
    assert labels.GetSize() == scan.GetSize() and labels.GetPixelID() == SimpleITK.sitkUInt8
    # NIfTI keeps positions in 32 bits; from a NIfTI scan they come back as they were.
    exact = 0.0 if name == "head.nii.gz" else 1e-5
    for field in ("GetSpacing", "GetOrigin", "GetDirection"):
        np.testing.assert_allclose(getattr(labels, field)(), getattr(scan, field)(), rtol=exact, atol=exact)
    assert SimpleITK.GetArrayFromImage(labels).any()
    assert result["outputs"] == str(out)


def test_the_segmentation_says_what_each_label_is(tiny_bundle: Path, tmp_path: Path, no_picture: None) -> None:
    segment_to_folder(_written(tmp_path, _scan()), tmp_path / "out", tiny_bundle, threads=1)
    image = SimpleITK.ReadImage(str(tmp_path / "out" / "head_teeth.seg.nrrd"))
    array = SimpleITK.GetArrayFromImage(image)
    np.testing.assert_array_equal(
        array, SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(tmp_path / "out" / "head_teeth.nii.gz")))
    )
    present = [int(v) for v in np.unique(array) if v]
    assert [int(image.GetMetaData(f"Segment{i}_LabelValue")) for i in range(len(present))] == present
    for i, value in enumerate(present):
        assert image.GetMetaData(f"Segment{i}_Tags").startswith("TerminologyEntry:")
        assert value > 100 or image.GetMetaData(f"Segment{i}_Name").startswith(f"{value} ")


def test_the_report_holds_what_the_contract_names(tiny_bundle: Path, tmp_path: Path, no_picture: None) -> None:
    scan = _scan()
    result = segment_to_folder(_written(tmp_path, scan), tmp_path / "out", tiny_bundle, threads=1)
    written = json.loads((tmp_path / "out" / "head_report.json").read_text(encoding="utf-8"))
    keys = {"schema", "teeth", "findings", "summary", "measurements", "timing_s", "peak_rss_mb", "model", "input"}
    assert keys == set(written) and keys | {"outputs"} == set(result)
    assert written["schema"] == "toothtoposeg.report/1"
    assert written["input"] == {
        "name": "head.nrrd",
        "shape_zyx": list(scan.array.shape),
        "spacing_zyx_mm": pytest.approx(SPACING),
    }
    assert written["model"] == load_bundle(tiny_bundle).identity
    assert len(written["model"]["sha256"]) == 64
    assert len(written["teeth"]) == 32 and any(t["present"] for t in written["teeth"])
    assert {"read", "load model", "resample", "locate", "network", "labels", "check", "total"} <= set(
        written["timing_s"]
    )
    assert "write" in result["timing_s"] and result["peak_rss_mb"] > 10
    assert json.loads(json.dumps(result)) == result


def test_a_scan_without_teeth_is_a_valid_result_that_says_so(blind_bundle: Path, tmp_path: Path) -> None:
    result = segment_to_folder(_written(tmp_path, _scan()), tmp_path / "out", blind_bundle, threads=1)
    assert {p.name for p in (tmp_path / "out").iterdir()} == FILES
    assert result["summary"]["teeth_found"] == 0 and not any(t["present"] for t in result["teeth"])
    assert [(f["kind"], f["severity"], f["evidence"]) for f in result["findings"]] == [
        ("missing", "info", "No tooth was found in this scan.")
    ]
    assert not SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(tmp_path / "out" / "head_teeth.nii.gz"))).any()
    assert "No tooth was found" in (tmp_path / "out" / "head_report.html").read_text(encoding="utf-8")


def test_the_same_scan_gives_the_same_labels_again(tiny_bundle: Path, tmp_path: Path, no_picture: None) -> None:
    path = _written(tmp_path, _scan())
    for out in ("one", "two"):
        segment_to_folder(path, tmp_path / out, tiny_bundle, threads=1)
    for name in ("head_teeth.nii.gz", "head_teeth.seg.nrrd"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


class _Stop:
    """A progress callback that cancels at its n-th call."""

    def __init__(self, at: int = -1) -> None:
        self.at = at
        self.fractions: list[float] = []

    def __call__(self, fraction: float, message: str) -> None:
        self.fractions.append(fraction)
        if len(self.fractions) == self.at:
            raise Cancelled("stopped")


def test_progress_only_ever_grows_and_ends_at_one(tiny_bundle: Path, tmp_path: Path, no_picture: None) -> None:
    watch = _Stop()
    path = _written(tmp_path, _scan((9, 10, 125), spacing=(1.0, 1.0, 1.0)))
    segment_to_folder(path, tmp_path / "out", tiny_bundle, threads=1, progress=watch)
    assert watch.fractions[0] == 0.0 and watch.fractions[-1] == 1.0
    assert all(a <= b for a, b in pairwise(watch.fractions))


def test_cancelling_at_any_step_leaves_the_folder_as_it_was(
    tiny_bundle: Path, tmp_path: Path, no_picture: None
) -> None:
    path = _written(tmp_path, _scan())
    used = tmp_path / "used"
    used.mkdir()
    (used / "head_report.json").write_text("mine", encoding="utf-8")
    watch = _Stop()
    segment_to_folder(path, tmp_path / "count", tiny_bundle, threads=1, progress=watch)
    steps = len(watch.fractions)
    assert steps >= 8
    for at in sorted({1, 2, 3, steps // 2, steps - 2, steps - 1, steps}):
        for out in (used, tmp_path / "new" / "deep"):
            with pytest.raises(Cancelled):
                segment_to_folder(path, out, tiny_bundle, threads=1, progress=_Stop(at))
        assert [p.name for p in used.iterdir()] == ["head_report.json"]
        assert (used / "head_report.json").read_text(encoding="utf-8") == "mine"
        assert not (tmp_path / "new").exists()


def test_results_of_an_earlier_run_are_replaced(
    tiny_bundle: Path, blind_bundle: Path, tmp_path: Path, no_picture: None
) -> None:
    path, out = _written(tmp_path, _scan()), tmp_path / "out"
    segment_to_folder(path, out, tiny_bundle, threads=1)
    (out / "notes.txt").write_text("mine", encoding="utf-8")
    segment_to_folder(path, out, blind_bundle, threads=1)
    assert {p.name for p in out.iterdir()} == {*FILES, "notes.txt"}
    assert json.loads((out / "head_report.json").read_text(encoding="utf-8"))["summary"]["teeth_found"] == 0


def test_a_file_where_the_folder_should_be_is_left_alone(tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine", encoding="utf-8")
    with pytest.raises(OutputError, match="is not a folder"):
        segment_to_folder(_written(tmp_path, _scan()), tmp_path / "out", tiny_bundle, threads=1)
    assert (tmp_path / "out").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize(
    "module, name",
    [
        (write, "_write_parts"),
        (segments, "write_segmentation"),
        (preview, "draw_preview"),
        (html, "write_html"),
        (report, "write_json"),
    ],
    ids=["label map", "segmentation", "picture", "page", "report"],
)
def test_a_full_disk_leaves_nothing_behind(
    tiny_bundle: Path, tmp_path: Path, no_picture: None, monkeypatch: pytest.MonkeyPatch, module, name: str
) -> None:
    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = _written(tmp_path, _scan())
    monkeypatch.setattr(module, name, full)
    with pytest.raises(OutputError, match="disk is full") as caught:
        segment_to_folder(path, tmp_path / "out", tiny_bundle, threads=1)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_scan_or_model_that_is_not_there_leaves_no_folder(tiny_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError):
        segment_to_folder(tmp_path / "nowhere.nii.gz", tmp_path / "out", tiny_bundle)
    with pytest.raises(ModelError):
        segment_to_folder(_written(tmp_path, _scan()), tmp_path / "out", tmp_path / "none.onnx")
    assert not (tmp_path / "out").exists()


def test_the_clock_adds_up_what_a_step_takes_even_when_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 1.0, 5.0, 7.5, 10.0, 10.25])
    monkeypatch.setattr(pipeline.time, "perf_counter", lambda: next(now))
    clock = Clock()
    with clock.step("read"):
        pass
    with clock.step("network"):
        pass
    with pytest.raises(Cancelled), clock.step("read"):
        raise Cancelled("stopped")
    assert clock.rounded() == {"read": 1.25, "network": 2.5, "total": 3.75}


def test_a_dicom_scan_also_gets_a_dicom_segmentation_with_the_same_labels(
    tiny_bundle: Path, blind_bundle: Path, tmp_path: Path, no_picture: None
) -> None:
    scan = write_series(tmp_path / "Köpfe 歯" / "head", _scan().array, FrameOfReferenceUID="1.2.3.99")
    segment_to_folder(scan, tmp_path / "out", tiny_bundle, threads=1)
    assert {p.name for p in (tmp_path / "out").iterdir()} == FILES | {"head_teeth.dcm"}
    labels = [read_label_map(tmp_path / "out" / f"head_teeth{end}") for end in (".dcm", ".nii.gz")]
    np.testing.assert_array_equal(labels[0].array, labels[1].array)
    check_same_grid(*labels)
    with zipfile.ZipFile(tmp_path / "head.zip", "w") as archive:
        for file in scan.iterdir():
            archive.write(file, file.name)
    segment_to_folder(tmp_path / "head.zip", tmp_path / "blind", blind_bundle, threads=1)
    assert {p.name for p in (tmp_path / "blind").iterdir()} == FILES  # a segmentation without segments there is not


def test_a_dicom_segmentation_that_finds_no_room_leaves_nothing(
    tiny_bundle: Path, tmp_path: Path, no_picture: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = write_series(tmp_path / "head", _scan().array)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(dicom_seg, "_add_outer_frames", full)
    with pytest.raises(OutputError, match="disk is full"):
        segment_to_folder(scan, tmp_path / "out", tiny_bundle, threads=1)
    assert not (tmp_path / "out").exists()
