"""Measures of teeth as a table node on real MRML: units, numbers, one table a segmentation."""

from __future__ import annotations

import importlib
import math

import pytest

from ToothTopoSegLib.errors import InputError
from ToothTopoSegLib.measurements.table import COLUMNS, rows_of
from ToothTopoSegLib.measurements.teeth import ToothMeasures

TOOTH = ToothMeasures(36, 650.0, False, 21.5, 7.5, 14.0, "shape", (0.0, 0.6, 0.8), 3.0, -12.0, 35, 0.0)


@pytest.fixture
def measure_nodes(slicer_core):
    return importlib.import_module("ToothTopoSegGui.measure_nodes")


def column(table, name):
    values = table.GetTable().GetColumnByName(name)
    return [values.GetValue(row) for row in range(table.GetNumberOfRows())]


def test_a_table_has_a_row_for_each_tooth_and_its_columns_carry_units(measure_nodes, scene):
    table = measure_nodes.measures_table(rows_of([TOOTH, ToothMeasures(37, 10.0, True)]), scene=scene)
    assert table.GetNumberOfRows() == 2 and table.GetNumberOfColumns() == len(COLUMNS)
    assert column(table, "fdi") == [36, 37] and column(table, "cut") == ["no", "yes"]
    assert column(table, "length_mm")[0] == 21.5 and math.isnan(column(table, "length_mm")[1])
    assert column(table, "mesial_neighbour") == ["35", ""]
    assert table.GetColumnUnitLabel("length_mm") == "mm" and table.GetColumnUnitLabel("volume_mm3") == "mm³"
    assert table.GetColumnLongName("torque_deg") == "Torque"


def test_the_logic_measures_a_segmentation_into_one_table_tied_to_it(check_logic, faulty, scene):
    table = check_logic.measure(faulty, scene.GetFirstNodeByName("CBCT"))
    assert column(table, "fdi") == [36, 46]
    # half axes of 9 mm along z, and a crumb of 36 that counts for the volume alone
    assert column(table, "length_mm") == pytest.approx([18.0, 18.0], abs=0.6)
    assert column(table, "cervix_from") == ["shape", "shape"]  # the scan is empty
    assert check_logic.measure(faulty) is table and scene.GetNumberOfNodesByClass("vtkMRMLTableNode") == 1
    assert check_logic.findingsTable(faulty) is None


def test_what_cannot_be_measured_is_told_and_makes_no_table(check_logic, make_segmentation, teeth_array, scene):
    node = make_segmentation((teeth_array, {"Airway": 36}))
    with pytest.raises(InputError, match="name the segments"):
        check_logic.measure(node)
    assert scene.GetNumberOfNodesByClass("vtkMRMLTableNode") == 0
