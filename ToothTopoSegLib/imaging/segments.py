"""Label maps of teeth as files a person can use: every label with its name, colour and terminology."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ToothTopoSegLib.anatomy.colours import colour_of
from ToothTopoSegLib.anatomy.fdi import is_tooth, label_name
from ToothTopoSegLib.anatomy.snomed import terminology_entry
from ToothTopoSegLib.imaging.volume import Volume
from ToothTopoSegLib.imaging.write import Segment, pack, write_label_map, write_segmentation


def segment_name(value: int) -> str:
    """What the segment of a tooth or jaw is called, such as "36 lower left first molar" or "lower jaw"."""
    return f"{value} {label_name(value)}" if is_tooth(value) else label_name(value)


def tooth_segments(labels: Volume) -> list[Segment]:
    """What a .seg.nrrd says about each label present in an FDI label map (teeth and jaws), ascending."""
    # Slice by slice: bincount turns what it counts into 64-bit integers.
    counts = sum(np.bincount(plane.reshape(-1), minlength=256) for plane in labels.array)
    return [
        Segment(
            value,
            segment_name(value),
            colour_of(value),
            terminology_entry(value),
            f"Segment_{value}",
        )
        for value in map(int, np.flatnonzero(counts))
        if value
    ]


def write_teeth(labels: Volume, *paths: Path) -> None:
    """Write an FDI label map as each file name asks: a segmentation (.seg.nrrd) or a label map.

    Raises UsageError for another suffix, OutputError when a file cannot be written.
    """
    packed = pack(labels)
    for path in paths:
        if path.name.lower().endswith(".seg.nrrd"):
            write_segmentation(labels, path, tooth_segments(labels), packed)
        else:
            write_label_map(labels, path, packed)
