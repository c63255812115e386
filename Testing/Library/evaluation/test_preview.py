"""The preview picture: that it is there, readable, the right way round, and marks what it should mark."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from ToothTopoSegLib.anatomy import fdi
from ToothTopoSegLib.errors import OutputError
from ToothTopoSegLib.evaluation import preview
from ToothTopoSegLib.evaluation.preview import draw_preview, worst_severity
from ToothTopoSegLib.imaging.volume import Volume
from ToothTopoSegLib.topology.findings import Finding


def finding(severity: str, tooth: int, number: int = 1, position=(0.0, 0.0, 0.0), evidence: str = "a piece") -> Finding:
    return Finding(number, "fragment", severity, (tooth,), tuple(map(float, position)), 7.5, evidence)


def pixels(path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


def inside(image: np.ndarray, frame: preview.Frame) -> np.ndarray:
    return image[frame.y : frame.y + frame.height, frame.x : frame.x + frame.width]


@pytest.fixture(scope="module")
def drawn(full_mouth, tmp_path_factory, true_centre):
    """The preview without and with one error at tooth 36."""
    folder = tmp_path_factory.mktemp("preview")
    draw_preview(*full_mouth, [], folder / "plain.png", "case")
    draw_preview(*full_mouth, [finding("error", 36, 1, true_centre(36))], folder / "marked.png", "case")
    return folder


def test_the_picture_is_a_png_of_the_promised_size_and_weight(drawn) -> None:
    with Image.open(drawn / "plain.png") as picture:
        assert (picture.format, picture.size) == ("PNG", preview.SIZE)
    assert (drawn / "plain.png").stat().st_size < 1_500_000
    assert sorted(p.name for p in drawn.iterdir()) == ["marked.png", "plain.png"]


def test_an_error_is_marked_in_red_where_it_is_and_nowhere_without_one(drawn) -> None:
    red = np.array(preview._SEVERITY["error"])
    for name, expected in (("plain.png", 0), ("marked.png", 1)):
        panel = inside(pixels(drawn / name), preview._PANORAMIC)
        marked = np.argwhere((panel == red).all(axis=2))
        assert bool(len(marked)) == bool(expected)
    # Tooth 36 is lower left: in the picture's right lower quarter.
    row, column = marked.mean(axis=0)
    assert row > panel.shape[0] / 2 and column > panel.shape[1] / 2


def test_axial_slices_have_the_right_side_at_the_left_and_the_front_on_top(full_mouth) -> None:
    scan, labels = full_mouth
    boxes = preview.tooth_boxes(labels)
    upper, lower, coronal = preview._cuts(scan, labels, boxes, preview.tooth_centres(labels, boxes))
    for cut in (upper, lower):
        assert cut.right.tolist() == [1.0, 0.0, 0.0] and cut.down.tolist() == [0.0, 1.0, 0.0]
        assert cut.letters == ("R", "L", "A", "P")
    assert upper.centre[2] > 0 > lower.centre[2]
    assert coronal.down.tolist() == [0.0, 0.0, -1.0] and coronal.letters == ("R", "L", "S", "I")


def test_slices_are_drawn_where_the_teeth_are(drawn) -> None:
    for frame in preview._SLICES:
        panel = inside(pixels(drawn / "plain.png"), frame)
        colourful = (panel.max(axis=2) - panel.min(axis=2)) > 25
        assert colourful.mean() > 0.02


def test_the_chart_fills_present_teeth_with_their_colour_and_leaves_absent_ones_hollow(drawn) -> None:
    chart = inside(pixels(drawn / "plain.png"), preview._CHART).reshape(-1, 3)
    for tooth, there in ((11, True), (46, True), (18, False), (38, False)):
        assert (chart == preview._colour(tooth)).all(axis=1).any() == there


def test_milk_teeth_get_rows_of_their_own(crude_scan, tmp_path) -> None:
    scan, labels = crude_scan((11, 21, 16, 26, 36, 46))
    array = labels.array.copy()
    array[array == 16] = 55
    draw_preview(scan, labels.with_array(array), [], tmp_path / "milk.png", "mixed")
    chart = inside(pixels(tmp_path / "milk.png"), preview._CHART).reshape(-1, 3)
    assert (chart == preview._colour(55)).all(axis=1).any()


def test_a_scan_without_teeth_says_so_and_shows_slices(crude_scan, tmp_path, monkeypatch) -> None:
    said = []
    text = preview._text
    monkeypatch.setattr(
        preview, "_text", lambda draw, at, what, *rest, **more: (said.append(what), text(draw, at, what, *rest, **more))
    )
    draw_preview(*crude_scan(()), [], tmp_path / "none.png", "none")
    assert "No teeth found" in said and "0 teeth found,  0 errors,  0 warnings" in said
    for frame in preview._SLICES:
        assert inside(pixels(tmp_path / "none.png"), frame).std() > 10


def test_errors_come_before_warnings_and_notes_are_left_out(full_mouth, tmp_path, monkeypatch) -> None:
    said = []
    monkeypatch.setattr(preview, "_text", lambda draw, at, what, *rest, **more: said.append(what))
    found = [finding("info", 11, 3), finding("warning", 12, 2), finding("error", 13, 1)]
    draw_preview(*full_mouth, found, tmp_path / "list.png", "list")
    assert [line for line in said if line.startswith("fragment")] == ["fragment 13: a piece", "fragment 12: a piece"]
    assert "28 teeth found,  1 error,  1 warning" in said


def test_more_findings_than_fit_are_counted(full_mouth, tmp_path, monkeypatch) -> None:
    said = []
    monkeypatch.setattr(preview, "_text", lambda draw, at, what, *rest, **more: said.append(what))
    draw_preview(*full_mouth, [finding("error", 11, i + 1) for i in range(40)], tmp_path / "many.png", "many")
    assert sum(line.startswith("fragment") for line in said) == 16
    assert any(line.startswith("and 24 more in the report.") for line in said)


def test_a_finding_far_outside_the_scan_is_still_marked_inside_the_picture(full_mouth, tmp_path) -> None:
    draw_preview(*full_mouth, [finding("error", 11, 1, (900.0, -900.0, 900.0))], tmp_path / "far.png", "far")
    assert (inside(pixels(tmp_path / "far.png"), preview._PANORAMIC) == preview._SEVERITY["error"]).all(axis=2).any()


@pytest.mark.parametrize("title", ["Zähne Größe 中", "a" * 400, "<b>", ""], ids=["unicode", "long", "markup", "empty"])
def test_any_title_is_drawn(crude_scan, tmp_path, title) -> None:
    draw_preview(*crude_scan((), 2.0), [], tmp_path / "title.png", title)
    assert (tmp_path / "title.png").stat().st_size > 0


def test_without_a_system_font_accents_are_left_out_rather_than_drawn_as_boxes(monkeypatch) -> None:
    monkeypatch.setattr(preview, "_system_font", lambda size: None)
    assert preview._drawable("Zähne 中") == "Zahne ?"


def test_float_scans_and_signed_labels_are_drawn_too(crude_scan, tmp_path) -> None:
    scan, labels = crude_scan((11, 21, 31, 41, 36), 1.5)
    floats, signed = scan.with_array(scan.array.astype(np.float32)), labels.with_array(labels.array.astype(np.int16))
    draw_preview(floats, signed, [], tmp_path / "types.png", "types")
    assert (tmp_path / "types.png").exists()


def test_a_folder_that_does_not_exist_is_one_sentence(crude_scan, tmp_path) -> None:
    with pytest.raises(OutputError, match="cannot be written") as raised:
        draw_preview(*crude_scan((), 3.0), [], tmp_path / "nowhere" / "a.png", "title")
    assert "\n" not in str(raised.value)


def test_grids_that_differ_are_refused(full_mouth, tmp_path) -> None:
    with pytest.raises(ValueError, match="one grid"):
        draw_preview(full_mouth[0], Volume(np.zeros((2, 2, 2), np.uint8)), [], tmp_path / "a.png", "title")


def test_the_gravest_finding_colours_a_tooth() -> None:
    found = [finding("warning", 11), finding("error", 11), finding("warning", 12), finding("info", 13)]
    assert worst_severity(found) == {11: "error", 12: "warning"}


def test_jaws_are_outlined_only() -> None:
    grey, labels = np.full((60, 60), 0.2), np.zeros((60, 60), np.int32)
    labels[10:50, 10:50] = fdi.LOWER_JAW
    drawn = preview._overlaid(grey, labels, sigma=1.0)
    assert drawn[30, 30] == pytest.approx([0.2] * 3)
    assert drawn[10, 30].max() > 0.3


@pytest.mark.parametrize("text", ["", "short", "T. A. Yo, VAV " * 12, "Zähne im Oberkiefer " * 9])
def test_a_line_too_long_is_cut_as_late_as_it_fits(text: str) -> None:
    font = preview._font(text, 17)
    for room in (0, 8, 30, 77, 200, 401, 5000):
        shown = preview._shortened(text, 17, room)
        whole = " ".join(text.split())
        cuts = (whole[:n] for n in range(len(whole), -1, -1))
        fits = (c for c in cuts if not c or font.getlength(preview._drawable(c) + "...") <= room)
        assert shown == (whole if font.getlength(preview._drawable(whole)) <= room else next(fits).rstrip() + "...")
