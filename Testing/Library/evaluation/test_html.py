"""The report page: complete, self-contained, and no text from the data becomes markup."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from ToothTopoSegLib.errors import InputError, OutputError
from ToothTopoSegLib.evaluation import teeth_3d
from ToothTopoSegLib.evaluation.html import write_check_page, write_html
from ToothTopoSegLib.surfaces.mesh import TriangleMesh
from ToothTopoSegLib.topology.check import check_volume
from ToothTopoSegLib.topology.report import make_report

PNG = b"\x89PNG\r\n\x1a\n not really a picture"
VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """What a browser would see: tags in balance, their attributes, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & {*self.open}:
            self.text += data

    def images(self) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.seen if tag == "img"]


def a_report(**changes) -> dict:
    report = {
        "schema": "toothtoposeg.report/1",
        "teeth": [
            {
                "fdi": 11,
                "present": True,
                "voxels": 4321,
                "volume_mm3": 432.1,
                "betti": [2, 0, 1],
                "centroid_lps_mm": [1.25, -20.0, 3.0],
            },
            {"fdi": 18, "present": False, "voxels": 0, "volume_mm3": 0.0, "betti": [0, 0, 0], "centroid_lps_mm": None},
        ],
        "findings": [
            {
                "id": 2,
                "kind": "missing",
                "severity": "warning",
                "teeth": [12],
                "position_lps_mm": [1, 2, 3],
                "size_mm3": 0.0,
                "evidence": "gone",
                "repair": None,
            },
            {
                "id": 1,
                "kind": "fragment",
                "severity": "error",
                "teeth": [11],
                "position_lps_mm": [4, 5, 6.26],
                "size_mm3": 12.34,
                "evidence": "a loose piece",
                "repair": "drop",
            },
        ],
        "summary": {"teeth_found": 1, "by_kind": {"fragment": 1}},
        "timing_s": {"network": 12.5},
        "peak_rss_mb": 812.0,
        "model": {"name": "bundled", "limits": "trained on phantoms only", "sha256": "abc"},
        "input": {"path": "/some/where/patient ü.nii.gz"},
    }
    return report | changes


# a tetrahedron in place of a tooth
MESHES = {
    11: TriangleMesh(
        np.array([[0, 0, 0], [10, 0, 0], [0, 10, 0], [0, 0, 20]], np.float32),
        np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]], np.int32),
    )
}


@pytest.fixture
def page(tmp_path):
    def write(report: dict, png=PNG, pictures=None, **more) -> Page:
        write_html(report, png, tmp_path / "report.html", pictures, **more)
        assert [p.name for p in tmp_path.iterdir() if p.suffix != ".png"] == ["report.html"]
        return Page((tmp_path / "report.html").read_text(encoding="utf-8"))

    return write


def test_the_page_is_balanced_and_begins_with_the_case(page) -> None:
    seen = page(a_report())
    assert seen.open == []
    assert "patient ü.nii.gz" in seen.text and "/some/where" not in seen.text.split("Tooth chart")[0]


def test_nothing_is_fetched_and_nothing_runs(page) -> None:
    seen = page(a_report(), pictures={1: PNG})
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in seen.seen}
    sources = [a[key] or "" for _, a in seen.seen for key in ("src", "href") if key in a]
    assert sources and all(source.startswith(("data:image/png;base64,", "#")) for source in sources)
    assert not any(name.startswith("on") for _, a in seen.seen for name in a)
    assert any("default-src 'none'" in (a.get("content") or "") for _, a in seen.seen)


def test_only_the_scripts_of_the_3d_view_run_each_named_by_its_digest(page, tmp_path) -> None:
    seen = page(a_report(), meshes=MESHES)
    assert seen.open == [] and sum(tag == "script" for tag, _ in seen.seen) == 3
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    policy = next(a["content"] or "" for _, a in seen.seen if a.get("http-equiv") == "Content-Security-Policy")
    assert len(scripts) == 2 and policy.endswith(f"script-src 'sha256-{digests[0]}' 'sha256-{digests[1]}'")
    assert "default-src 'none'" in policy and not any("src" in a for tag, a in seen.seen if tag == "script")


def test_without_the_library_of_the_3d_view_the_page_has_all_the_rest(page, monkeypatch) -> None:
    monkeypatch.setattr(teeth_3d, "three_js", lambda: None)
    seen = page(a_report(), meshes=MESHES)
    assert seen.open == [] and "Teeth in 3D" not in seen.text and "Measurements" in seen.text
    assert "script" not in {tag for tag, _ in seen.seen}


def test_the_3d_view_holds_each_tooth_where_it_is(page, tmp_path) -> None:
    page(a_report(), meshes=MESHES)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    data = json.loads(re.findall(r'id="teeth-3d-data">(.*?)</script>', text)[0])
    (tooth,) = data["teeth"]
    places = np.frombuffer(base64.b64decode(tooth["vertices"]), "<u2").reshape(-1, 3) * data["step"] + data["low"]
    np.testing.assert_allclose(places, MESHES[11].vertices, atol=0.001)
    faces = np.frombuffer(base64.b64decode(tooth["triangles"]), "<u2").reshape(-1, 3)
    assert np.array_equal(faces, MESHES[11].faces)
    assert tooth["words"] == "11 upper right central incisor: present, error" and tooth["link"] == "finding-1"


def test_what_was_measured_stands_beside_the_volume(page) -> None:
    row = {"fdi": 11, "length_mm": 21.37, "crown_root_ratio": 0.666, "tip_deg": -3.26, "torque_deg": None}
    text = page(a_report(), measures=[row]).text
    assert all(figure in text for figure in ("Length (mm)", "21.4", "0.67", "−3.3", "–"))
    assert "Length (mm)" not in page(a_report()).text


def test_distances_are_told_with_the_tooth_they_lead_to(page) -> None:
    row = {"fdi": 11, "mesial_neighbour": 21, "mesial_distance_mm": 0.0, "distal_neighbour": 13}
    text = page(a_report(), measures=[row | {"distal_distance_mm": 7.16}]).text
    assert all(words in text for words in ("Mesial distance (mm)", "0.0 (21)", "7.2 (13)"))
    lonely = page(a_report(), measures=[{"fdi": 11, "mesial_neighbour": None, "mesial_distance_mm": None}]).text
    assert "(None)" not in lonely and "–" in lonely


def test_it_fits_a_phone(page) -> None:
    assert any(
        a.get("name") == "viewport" and "width=device-width" in (a.get("content") or "")
        for _, a in page(a_report()).seen
    )


def test_every_figure_of_the_report_is_on_the_page(page) -> None:
    text = page(a_report()).text
    for figure in ("432.1", "4321", "2, 0, 1", "1.2, -20.0, 3.0", "12.3", "4.0, 5.0, 6.3", "a loose piece", "drop"):
        assert figure in text, figure
    for figure in ("812", "12.5", "bundled", "trained on phantoms only", "abc", "not a medical device"):
        assert figure in text, figure


def test_every_link_leads_to_a_place_on_the_page(page) -> None:
    seen = page(a_report())
    links = {(a.get("href") or "")[1:] for tag, a in seen.seen if tag == "a"}
    assert {"finding-1", "finding-2"} <= links <= {a.get("id") for _, a in seen.seen}


def test_the_verdict_is_one_sentence_about_the_gravest(page) -> None:
    assert "1 tooth was found, with 1 anatomical error at tooth 11 to correct" in page(a_report()).text
    warning, error = a_report()["findings"]
    assert "without anatomical errors; look at 1 warning at tooth 12." in page(a_report(findings=[warning])).text
    assert "nothing about them is anatomically impossible" in page(a_report(findings=[])).text
    assert "there is nothing to judge" in page(a_report(findings=[], teeth=[])).text
    many = [error | {"id": n, "teeth": [n]} for n in (11, 12, 13, 14, 15, 16, 17, 21, 22, 23, 24)]
    assert "11 anatomical errors at 11 teeth to" in page(a_report(findings=many)).text


def test_a_finding_stands_beside_its_picture(page) -> None:
    seen = page(a_report(), pictures={1: PNG})
    assert [image["alt"] for image in seen.images()][1:] == ["Cuts through the place of finding 1"]
    assert "1 of 2 findings have a picture, the gravest first" in seen.text
    assert "have a picture" not in page(a_report(), pictures={1: PNG, 2: PNG}).text


def test_a_page_without_any_picture_is_a_valid_page(page) -> None:
    seen = page(a_report(), None)
    assert seen.open == [] and not seen.images() and "Overview" not in seen.text


def test_a_tooth_that_is_not_in_one_piece_stands_out(page) -> None:
    assert any(tag == "b" and "unsound" in (a.get("class") or "") for tag, a in page(a_report()).seen)


@pytest.mark.parametrize("with_scan", [True, False])
def test_a_checked_label_map_becomes_a_page_with_all_its_pictures(full_mouth, tmp_path, with_scan) -> None:
    scan, labels = full_mouth
    array = labels.array.copy()
    array[array == 36] = 0
    broken, tissue = labels.with_array(array), scan if with_scan else None
    findings, mouth = check_volume(broken, tissue)
    report = make_report(broken, findings, timing_s={}, peak_rss_mb=1.0, model=None, input={}, topology=mouth.teeth)
    write_check_page(report, broken, tissue, findings, tmp_path / "new" / "page.html")
    seen = Page((tmp_path / "new" / "page.html").read_text(encoding="utf-8"))
    assert seen.open == [] and len(seen.images()) == 1 + len(findings)
    assert [path.name for path in tmp_path.rglob("*")] == ["new", "page.html"]


def test_errors_come_first(page) -> None:
    text = page(a_report()).text.split("Findings")[1]
    assert text.index("a loose piece") < text.index("gone")


@pytest.mark.parametrize("evil", ["<script>alert(1)</script>", '"><img src=x onerror=y>', "a & b's"])
def test_text_from_the_data_never_becomes_markup(page, evil) -> None:
    finding = a_report()["findings"][0] | {
        "evidence": evil,
        "kind": evil,
        "repair": evil,
        "severity": evil,
        "teeth": [evil[:0] or 11],
    }
    report = a_report(findings=[finding], model={evil: evil}, input={"name": evil}, summary={evil: [evil]}, schema=evil)
    seen = page(report, meshes=MESHES)
    assert seen.open == []
    assert sum(tag == "img" for tag, _ in seen.seen) == 1
    assert sum(tag == "script" for tag, _ in seen.seen) == 3
    assert seen.text.count(evil) >= 6


def test_an_empty_result_is_a_valid_page(page) -> None:
    text = page(a_report(teeth=[], findings=[], summary={}, model=None, timing_s={})).text
    assert "No findings." in text and "No teeth found." in text


def test_the_preview_may_come_as_a_file(page, tmp_path) -> None:
    (tmp_path / "preview.png").write_bytes(PNG)
    assert page(a_report(), tmp_path / "preview.png").seen == page(a_report()).seen


def test_a_missing_preview_is_one_sentence(tmp_path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        write_html(a_report(), tmp_path / "none.png", tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_a_folder_that_does_not_exist_is_one_sentence(tmp_path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        write_html(a_report(), PNG, tmp_path / "nowhere" / "report.html")


def test_an_ignored_finding_is_listed_with_its_note_but_not_counted(page) -> None:
    report = a_report()
    entries = [entry | {"verdict": "ignored", "note": "a <fused> tooth"} for entry in report["findings"]]
    seen = page(a_report(findings=entries))
    assert "nothing about them is anatomically impossible" in seen.text
    assert seen.text.count("Ignored: a <fused> tooth") == len(entries)
