"""The measures of teeth as a table: CSV, JSON, and rows for other doors.

In goes a label map file, out comes one row a tooth. The columns carry their units in their names; a thing that cannot
be measured is an empty field in CSV and null in JSON.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ToothTopoSegLib.anatomy import fdi as teeth
from ToothTopoSegLib.anatomy import schemes
from ToothTopoSegLib.errors import InputError, UsageError
from ToothTopoSegLib.imaging.volume import Volume
from ToothTopoSegLib.measurements.teeth import ToothMeasures, measured
from ToothTopoSegLib.progress import Progress, part, silent

SCHEMA = "toothtoposeg.measurements/1"
SUFFIXES = (".csv", ".json")
_CANAL = "inferior alveolar canal"


@dataclass(frozen=True)
class Column:
    """One column: its name with the unit, what a person reads at its head, its unit, its digits, what it means."""

    name: str
    title: str
    unit: str
    digits: int
    meaning: str


COLUMNS = (
    Column("fdi", "Tooth", "", 0, "FDI number (ISO 3950)"),
    Column("name", "Name", "", 0, "name of the tooth"),
    Column("volume_mm3", "Volume", "mm³", 1, "volume of the label"),
    Column("length_mm", "Length", "mm", 2, "from the longest root's tip to the highest point, along the long axis"),
    Column("crown_length_mm", "Crown", "mm", 2, "part of the length above the estimated cervix"),
    Column("root_length_mm", "Root", "mm", 2, "part of the length below the estimated cervix"),
    Column("crown_root_ratio", "Crown/root", "", 2, "length of the crown by that of the root"),
    Column("cervix_from", "Cervix from", "", 0, "what the cervix was estimated from: enamel in the scan, or shape"),
    Column("axis_left", "Axis L", "", 4, "long axis towards the crown, unit vector: to the patient's left"),
    Column("axis_posterior", "Axis P", "", 4, "the same: to the back"),
    Column("axis_superior", "Axis S", "", 4, "the same: upwards"),
    Column("tip_deg", "Tip", "°", 1, "mesiodistal angle to the normal of the occlusal plane, crown to mesial positive"),
    Column("torque_deg", "Torque", "°", 1, "buccolingual angle to it, crown to the lips or cheek positive"),
    Column("mesial_neighbour", "Mesial", "", 0, "FDI number of the next tooth that is there to mesial"),
    Column("mesial_distance_mm", "Mesial distance", "mm", 2, "to it, surface to surface; 0 where they touch"),
    Column("distal_neighbour", "Distal", "", 0, "FDI number of the next tooth that is there to distal"),
    Column("distal_distance_mm", "Distal distance", "mm", 2, "to it, surface to surface; 0 where they touch"),
    Column("canal_distance_mm", "Canal distance", "mm", 2, "to the mandibular canal, where that is labelled"),
    Column("cut", "Cut", "", 0, "whether the border of the scan cuts the tooth"),
)


def rows_of(measures: Iterable[ToothMeasures]) -> list[dict[str, Any]]:
    """Measures as one dict a tooth with the names of :data:`COLUMNS`, rounded to their digits."""
    digits = {column.name: column.digits for column in COLUMNS}
    return [
        {name: round(value, digits[name]) if isinstance(value, float) else value for name, value in _row(tooth).items()}
        for tooth in measures
    ]


def _row(tooth: ToothMeasures) -> dict[str, Any]:
    left, posterior, superior = tooth.axis or (None, None, None)
    return {
        "fdi": tooth.fdi,
        "name": teeth.name(tooth.fdi),
        "volume_mm3": tooth.volume,
        "length_mm": tooth.length,
        "crown_length_mm": tooth.crown_length,
        "root_length_mm": tooth.root_length,
        "crown_root_ratio": tooth.crown_root_ratio,
        "cervix_from": tooth.cervix_from,
        "axis_left": left,
        "axis_posterior": posterior,
        "axis_superior": superior,
        "tip_deg": tooth.tip,
        "torque_deg": tooth.torque,
        "mesial_neighbour": tooth.mesial,
        "mesial_distance_mm": tooth.mesial_distance,
        "distal_neighbour": tooth.distal,
        "distal_distance_mm": tooth.distal_distance,
        "canal_distance_mm": tooth.canal_distance,
        "cut": tooth.cut,
    }


def csv_text(rows: Iterable[dict[str, Any]]) -> str:
    """Rows as CSV with a head of column names; empty fields for None."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [column.name for column in COLUMNS], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def measure_file(
    labels: Path, image: Path | None = None, scheme: str | None = None, progress: Progress = silent
) -> dict[str, Any]:
    """The measures of a label map file as a report: ``schema``, ``columns`` (unit and meaning), ``teeth`` (rows).

    The mandibular canal is taken from schemes that have it, such as toothfairy2. Raises UsageError for an unknown
    scheme, InputError for a file that cannot be read or holds no tooth, or a scan on another grid.
    """
    from ToothTopoSegLib.topology.check import read_labels

    progress(0.0, "Reading the labels")
    volume, scan = read_labels(labels, image, scheme)
    if not any(teeth.is_tooth(value) for value in schemes.label_values(volume.array)):
        raise InputError(f"'{labels.name}' holds no tooth, so there is nothing to measure; give a label map of teeth.")
    measures = measured(volume, scan, canal_of(labels, scheme), part(progress, 0.1, 1.0))
    meanings = {column.name: {"unit": column.unit, "meaning": column.meaning} for column in COLUMNS}
    return {"schema": SCHEMA, "input": labels.name, "columns": meanings, "teeth": rows_of(measures)}


def canal_of(labels: Path, scheme: str | None) -> Volume | None:
    """Where the mandibular canals are in a label map file (boolean); None if its scheme has no label for them."""
    from ToothTopoSegLib.imaging.read import read_label_map

    others = schemes.scheme(scheme or "fdi").others
    values = [value for value, name in others.items() if _CANAL in name]
    if not values:
        return None
    volume = read_label_map(labels)
    return volume.with_array(np.isin(volume.array, values))


def check_suffix(path: Path) -> str:
    """The suffix of a table's file in small letters; UsageError unless it is .csv or .json."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(f"'{path.name}' is no name for a table of measures; end it in {' or '.join(SUFFIXES)}.")
    return suffix


def write_csv(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write rows as a CSV file in UTF-8, whole or not at all; OutputError when it cannot be written."""
    from ToothTopoSegLib.imaging.write import output_folder

    with output_folder(path.absolute().parent) as staged:
        (staged / path.name).write_text(csv_text(rows), encoding="utf-8")
