"""Label maps of teeth as DICOM segmentation objects (SEG), written and read.

Out: a binary segmentation of one segment for each tooth and jaw, with its name, SNOMED CT code and colour, in the frame
of reference of the scan and with references to its instances. Frames that hold nothing of a segment are left out, as
the standard allows, but for the first and the last slice of the scan, by which every reader finds the whole grid. In:
a segmentation of any program as a label map. highdicom does both. Source: DICOM PS3.3, A.51 and C.8.20.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ToothTopoSegLib import __version__
from ToothTopoSegLib.anatomy.label_names import meaning
from ToothTopoSegLib.anatomy.snomed import ANATOMICAL_STRUCTURE, Code, code_of, label_of_code
from ToothTopoSegLib.errors import InputError
from ToothTopoSegLib.imaging.dicom_source import Source, lenient
from ToothTopoSegLib.imaging.headers import check_spacing, shown
from ToothTopoSegLib.imaging.itk import matrix3
from ToothTopoSegLib.imaging.segments import tooth_segments
from ToothTopoSegLib.imaging.volume import Array, Volume
from ToothTopoSegLib.imaging.write import Segment, replacing

if TYPE_CHECKING:
    import highdicom
    from pydicom import Dataset

PRODUCT = "ToothTopoSeg"


@dataclass(frozen=True)
class Maker:
    """What made the labels: the name and version of an algorithm; ``corrected`` where a person went over them."""

    name: str = PRODUCT
    version: str = __version__
    corrected: bool = False


@dataclass(frozen=True)
class DicomLabels:
    """A DICOM segmentation as a label map.

    ``named`` says whether its labels are FDI numbers and jaw labels, taken from codes or names of segments; else they
    are segment numbers. ``study`` and ``frame_of_reference`` are UIDs, "" where they are missing.
    """

    labels: Volume
    named: bool
    study: str
    frame_of_reference: str


def write_dicom_seg(labels: Volume, source: Source, path: Path, maker: Maker | None = None) -> None:
    """Write FDI numbers and jaw labels (z, y, x) on the grid of ``source`` as a DICOM segmentation.

    Raises ValueError when there is no label or the array has another shape than the scan, OutputError when the file
    cannot be written.
    """
    segments = tooth_segments(labels)
    if not segments or labels.array.shape != source.grid.array.shape:
        raise ValueError("a DICOM segmentation needs at least one segment, and labels of the shape of its scan")
    with lenient():
        dataset = _segmentation(_numbered(labels.array, segments), segments, source, maker or Maker())
        _add_outer_frames(dataset, source)
        with replacing(path, ".dcm") as temporary:
            dataset.save_as(temporary)


def _numbered(array: Array, segments: list[Segment]) -> Array:
    """Labels as segment numbers, which DICOM counts from 1."""
    table = np.zeros(max(int(array.max()), *(s.value for s in segments)) + 1, np.uint8)
    table[[s.value for s in segments]] = np.arange(1, len(segments) + 1)
    numbered: Array = table[array]
    return numbered


def _segmentation(numbers: Array, segments: list[Segment], source: Source, maker: Maker) -> highdicom.seg.Segmentation:
    import highdicom

    return highdicom.seg.Segmentation(
        source_images=list(source.images),
        pixel_array=highdicom.Volume(numbers, _affine(source.grid), "PATIENT", source.frame_of_reference),
        segmentation_type="BINARY",
        segment_descriptions=[_description(k, s, maker) for k, s in enumerate(segments, start=1)],
        series_instance_uid=highdicom.UID(),
        series_number=300,
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
        manufacturer=PRODUCT,
        manufacturer_model_name=PRODUCT,
        software_versions=__version__,
        device_serial_number="none",
        content_label="TEETH",
        content_description="Teeth by FDI number",
        series_description="Teeth" + (", corrected" if maker.corrected else ""),
    )


def _description(number: int, segment: Segment, maker: Maker) -> highdicom.seg.SegmentDescription:
    import highdicom
    from pydicom.sr.codedict import codes

    return highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=segment.name,
        segmented_property_category=coded(ANATOMICAL_STRUCTURE),
        segmented_property_type=coded(code_of(segment.value)),
        algorithm_type="SEMIAUTOMATIC" if maker.corrected else "AUTOMATIC",
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name=maker.name, family=codes.cid7162.ArtificialIntelligence, version=maker.version
        ),
        display_color=highdicom.color.CIELabColor(*cielab(segment.colour)),
    )


def cielab(colour: tuple[float, float, float]) -> tuple[float, float, float]:
    """sRGB in 0..1 as CIE L*, a*, b* under the white point D65, in which DICOM states colours."""
    rgb = np.asarray(colour)
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    to_xyz = ((0.4124564, 0.3575761, 0.1804375), (0.2126729, 0.7151522, 0.0721750), (0.0193339, 0.1191920, 0.9503041))
    share = to_xyz @ linear / (0.95047, 1.0, 1.08883)
    x, y, z = np.where(share > 216 / 24389, np.cbrt(share), (24389 / 27 * share + 16) / 116)
    return float(116 * y - 16), float(500 * (x - y)), float(200 * (y - z))


def coded(code: Code) -> Any:
    """A concept as highdicom has it."""
    from highdicom.sr.coding import CodedConcept

    return CodedConcept(value=code.value, scheme_designator=code.scheme, meaning=code.meaning)


def _affine(grid: Volume) -> Array:
    """Indices (z, y, x, 1) to LPS mm, as highdicom has it."""
    affine = np.eye(4)
    affine[:3, :3] = (np.asarray(grid.direction) * np.asarray(grid.spacing)[::-1])[:, ::-1]
    affine[:3, 3] = grid.origin
    return affine


def _add_outer_frames(dataset: Dataset, source: Source) -> None:
    """Add an empty frame of the first segment for the first and the last slice of the scan where nothing lies there.

    Readers make their grid from the frames that there are; without these it would end where the teeth end.
    """
    frames = list(dataset.PerFrameFunctionalGroupsSequence)
    places = _slice_indices(frames, source.grid)
    added = [k for k in (0, source.grid.array.shape[0] - 1) if k not in places]
    frames += [_empty_frame(frames[0], source, k) for k in added]
    ranks = np.unique(np.concatenate([places, added]), return_inverse=True)[1]
    for frame, rank in zip(frames, ranks.tolist(), strict=True):
        content = frame.FrameContentSequence[0]
        content.DimensionIndexValues = [content.DimensionIndexValues[0], rank + 1]
    dataset.PerFrameFunctionalGroupsSequence = frames
    dataset.NumberOfFrames = len(frames)
    voxels = int(dataset.Rows) * int(dataset.Columns)
    stored, wanted = (-(-count * voxels // 8) for count in (len(frames) - len(added), len(frames)))
    dataset.PixelData = dataset.PixelData[:stored].ljust(wanted + wanted % 2, b"\0")


def _slice_indices(frames: Sequence[Dataset], grid: Volume) -> Array:
    """The slice of the grid on which each frame lies."""
    positions = [[float(v) for v in frame.PlanePositionSequence[0].ImagePositionPatient] for frame in frames]
    indices: Array = np.rint(grid.lps_to_index(np.array(positions))[:, 0]).astype(int)
    return indices


def _empty_frame(like: Dataset, source: Source, k: int) -> Dataset:
    """What is to be said of a frame of the first segment at slice ``k``."""
    from pydicom.valuerep import DSfloat

    frame = copy.deepcopy(like)
    place = source.grid.index_to_lps(np.array([k, 0, 0]))
    frame.PlanePositionSequence[0].ImagePositionPatient = [DSfloat(float(v), auto_format=True) for v in place]
    frame.FrameContentSequence[0].DimensionIndexValues = [1, 1]
    if "SegmentIdentificationSequence" in frame:  # of a single segment it stands with what all frames share
        frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber = 1
    if frame.get(
        "DerivationImageSequence"
    ):  # empty where the class of a multi-frame file has no frames by the standard
        image = frame.DerivationImageSequence[0].SourceImageSequence[0]
        if "ReferencedFrameNumber" in image:
            places = _slice_indices(source.images[0].PerFrameFunctionalGroupsSequence, source.grid)
            image.ReferencedFrameNumber = places.tolist().index(k) + 1
        elif len(source.images) > 1:
            image.ReferencedSOPInstanceUID = source.images[k].SOPInstanceUID
    return frame


# ---- reading


def read_dicom_seg(path: Path) -> DicomLabels:
    """The segmentation in a DICOM file of any program, as labels (z, y, x) of uint8 or uint16.

    A segment is the tooth or jaw that its SNOMED CT code names, else the one its label names; where there is any,
    segments that are neither become background. Raises InputError for a file that cannot be read, for segments that
    overlap, and for frames that lie on no regular grid.
    """
    import highdicom

    with lenient():
        try:
            found = highdicom.seg.segread(path)
            numbers = found.get_volume(combine_segments=True, relabel=False)
        except (ValueError, TypeError, AttributeError, KeyError, IndexError, RuntimeError, OSError, EOFError) as error:
            raise _unreadable(path, error) from error
        values = {int(d.SegmentNumber): value_of(d) for d in found.SegmentSequence}
        identity = str(found.get("StudyInstanceUID", "")), str(found.get("FrameOfReferenceUID", ""))
    labels = _upright(numbers, shown(path))
    named = any(values.values())
    if named:
        table = np.zeros(max(values) + 1, np.uint8)
        table[list(values)] = list(values.values())
        labels = labels.with_array(table[labels.array])
    return DicomLabels(labels, named, *identity)


def value_of(description: Dataset) -> int:
    """The FDI number or jaw label of a segment by its code, else by its label; 0 where neither names one."""
    kind = description.SegmentedPropertyTypeCodeSequence[0]
    known = label_of_code(str(kind.get("CodingSchemeDesignator", "")), str(kind.get("CodeValue", "")))
    return known or meaning(_without_number(str(description.get("SegmentLabel", ""))))


def _without_number(label: str) -> str:
    """The number alone of a label such as "36 lower left first molar", as this program writes it."""
    first = label.split(" ", 1)[0]
    return first if len(first) == 2 and first.isdigit() else label


def _unreadable(path: Path, error: Exception) -> InputError:
    if "overlap" in str(error).lower():
        return InputError(
            f"{shown(path)} has segments that overlap, but each voxel can belong to one tooth only; remove the overlap."
        )
    return InputError(
        f"{shown(path)} cannot be read as a DICOM segmentation on one regular grid: it is incomplete, damaged or has "
        "frames that are turned or unevenly spaced; export it again."
    )


def _upright(numbers: highdicom.Volume, name: str) -> Volume:
    """A volume of highdicom with its slices in the order that scans have here: along the normal of their planes."""
    affine, array = numbers.affine, numbers.array
    steps = affine[:3, :3]
    spacing = np.linalg.norm(steps, axis=0)
    check_spacing(name, spacing)
    direction, origin = (steps / spacing)[:, ::-1], affine[:3, 3]
    if np.linalg.det(direction) < 0:
        origin = origin + (array.shape[0] - 1) * steps[:, 0]
        direction = direction * (1, 1, -1)
        array = array[::-1]
    gap, down, across = map(float, spacing)
    x, y, z = map(float, origin)
    return Volume(np.ascontiguousarray(array), (gap, down, across), (x, y, z), matrix3(direction))


def on_grid_of(labels: Volume, other: Volume) -> Volume:
    """The labels on the grid of another volume, where theirs is a part of the same lattice; else as they are.

    Other programs keep only the slices of a segmentation that hold something.
    """
    first = other.lps_to_index(np.asarray(labels.origin))
    alike = np.allclose(labels.spacing, other.spacing, rtol=1e-3) and np.allclose(
        labels.direction, other.direction, atol=1e-3
    )
    present = [np.flatnonzero(labels.array.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
    if not alike or np.abs(first - np.rint(first)).max() > 0.1 or not len(present[0]):
        return labels
    offset = np.rint(first).astype(int)
    box = [slice(int(p[0]), int(p[-1]) + 1) for p in present]
    target = [slice(s.start + int(n), s.stop + int(n)) for s, n in zip(box, offset, strict=True)]
    if any(t.start < 0 or t.stop > n for t, n in zip(target, other.array.shape, strict=True)):
        return labels
    array = np.zeros(other.array.shape, labels.array.dtype)
    array[tuple(target)] = labels.array[tuple(box)]
    return replace(other, array=array)
