"""The table of measures: its columns, CSV and JSON, the command line, bad input."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest

from ToothTopoSegLib.cli import main
from ToothTopoSegLib.errors import InputError, OutputError, UsageError
from ToothTopoSegLib.imaging.volume import Volume
from ToothTopoSegLib.imaging.write import write_label_map
from ToothTopoSegLib.measurements.table import COLUMNS, check_suffix, csv_text, measure_file, rows_of, write_csv
from ToothTopoSegLib.measurements.teeth import ToothMeasures

WHOLE = ToothMeasures(36, 650.04, False, 21.5, 7.5, 14.0, "shape", (0.0, 0.6, 0.8), 3.04, -12.06, 35, 0.0, 37, 1.234)


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    """Two lower teeth over the left canal, as ToothFairy2 numbers them."""
    array = np.zeros((40, 20, 44), np.uint8)
    array[12:36, 6:14, 4:12], array[12:36, 6:14, 12:20], array[5:8, 8:12, :] = 35, 36, 3
    path = tmp_path_factory.mktemp("Größe messen") / "Zähne.nii.gz"
    write_label_map(Volume(array, (0.5, 0.5, 0.5)), path)
    return path


def test_a_row_has_all_columns_in_their_order_rounded_to_their_digits():
    (row,) = rows_of([WHOLE])
    assert list(row) == [column.name for column in COLUMNS]
    assert (row["volume_mm3"], row["tip_deg"], row["torque_deg"], row["distal_distance_mm"]) == (
        650.0,
        3.0,
        -12.1,
        1.23,
    )
    assert row["name"] == "lower left first molar" and row["crown_root_ratio"] == 0.54


def test_what_is_not_measured_is_an_empty_field_in_csv():
    (row,) = csv.DictReader(io.StringIO(csv_text(rows_of([ToothMeasures(37, 10.0, True)]))))
    assert row["length_mm"] == row["axis_left"] == row["crown_root_ratio"] == row["mesial_neighbour"] == ""
    assert row["volume_mm3"] == "10.0" and row["cut"] == "True"


def test_the_canal_is_taken_from_schemes_that_have_it(labels):
    report = measure_file(labels, scheme="toothfairy2")
    assert [tooth["fdi"] for tooth in report["teeth"]] == [35, 36]
    assert report["teeth"][0]["canal_distance_mm"] == pytest.approx(2.0, abs=0.25)
    assert report["columns"]["length_mm"]["unit"] == "mm"


@pytest.mark.parametrize("name", ["Maße der Zähne.csv", "Maße der Zähne.json"])
def test_the_command_line_writes_csv_or_json_by_the_name(labels, tmp_path, capsys, name):
    path = tmp_path / "für später" / name
    assert main(["measure", str(labels), "--scheme", "toothfairy2", "-o", str(path)]) == 0
    text = path.read_text(encoding="utf-8")
    rows = list(csv.DictReader(io.StringIO(text))) if name.endswith("csv") else json.loads(text)["teeth"]
    assert [int(row["fdi"]) for row in rows] == [35, 36] and float(rows[1]["mesial_distance_mm"]) == 0.0
    assert str(path) in capsys.readouterr().out
    assert [entry.name for entry in path.parent.iterdir()] == [name]


def test_without_a_file_the_table_goes_to_the_terminal(labels, capsys):
    assert main(["measure", str(labels), "--scheme", "toothfairy2"]) == 0
    assert capsys.readouterr().out.startswith("fdi,name,volume_mm3,length_mm")


def test_bad_input_is_told_in_one_sentence(tmp_path, labels):
    write_label_map(Volume(np.full((8, 8, 8), 101, np.uint8)), tmp_path / "jaw.nii.gz")
    with pytest.raises(InputError, match="holds no tooth"):
        measure_file(tmp_path / "jaw.nii.gz")
    with pytest.raises(InputError, match="try --scheme toothfairy2"):
        measure_file(labels)
    with pytest.raises(UsageError, match=r"end it in .csv or .json"):
        check_suffix(tmp_path / "table.xlsx")


def test_a_table_that_cannot_be_written_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="not a folder"):
        write_csv(tmp_path / "file" / "table.csv", rows_of([WHOLE]))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
