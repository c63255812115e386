"""Label maps and Slicer segmentations as files, whole or not at all.

In: an integer label Volume (and for a segmentation the names, colours and codes of its segments). Out: a label map on
the very grid of the scan it came from (NIfTI-1 keeps geometry in 32-bit floats; NRRD in text of full precision), or
Slicer's .seg.nrrd with one layer. Everything is written under a temporary name and renamed when complete; what cannot
be written raises OutputError. Sources: nifti1.h; Slicer's developer guide, "Segmentations: labelmap file format", and
the behaviour of vtkMRMLSegmentationStorageNode.
"""

from __future__ import annotations

import errno
import gzip
import itertools
import os
import platform
import re
import shutil
import struct
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ToothTopoSegLib.errors import InputError, OutputError, UsageError
from ToothTopoSegLib.imaging.headers import check_header, shown
from ToothTopoSegLib.imaging.itk import image_from_volume, import_sitk
from ToothTopoSegLib.imaging.volume import Array, Volume

LABEL_MAP_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha")
_NIFTI_DATA_OFFSET = 352
_LEVEL = 6
_GZIP_START = bytes([0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 255])  # deflate, no flags, no time, unknown system
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EIO)


@dataclass(frozen=True)
class Segment:
    """One segment of a Slicer segmentation.

    ``value`` is its label, ``colour`` red, green, blue in 0..1, ``terminology`` Slicer's serialised terminology entry
    (may be ""), ``identifier`` its unique ID within the segmentation.
    """

    value: int
    name: str
    colour: tuple[float, float, float]
    terminology: str
    identifier: str


@dataclass(frozen=True)
class Packed:
    """The voxels of a label map, compressed once for all files that hold them: a raw deflate stream (RFC 1951)."""

    labels: Array
    stream: bytes


def pack(volume: Volume) -> Packed:
    """The labels 0..65535 (z, y, x) of a volume as uint8 or uint16, and compressed.

    Raises ValueError when the array does not hold labels.
    """
    labels = _labels(volume.array)
    packer = _packer()
    return Packed(labels, b"".join([*map(packer.compress, _planes(labels)), packer.flush()]))


def write_label_map(volume: Volume, path: str | Path, packed: Packed | None = None) -> None:
    """Write labels 0..65535 (z, y, x) as uint8 or uint16, compressed; .nii.gz, .nii, .nrrd or .mha by the name.

    A NIfTI file reads back with the very geometry of the NIfTI scan the volume came from. ``packed`` is ``pack`` of
    the volume where that is at hand. Raises ValueError when the array does not hold labels, UsageError for another
    suffix, OutputError when the file cannot be written.
    """
    path = Path(path)
    suffix = next((s for s in LABEL_MAP_SUFFIXES if path.name.lower().endswith(s)), None)
    if suffix is None:
        raise UsageError(f"{shown(path)} is no name for a label map; end it in one of {', '.join(LABEL_MAP_SUFFIXES)}.")
    with replacing(path, suffix) as temporary:
        if suffix == ".nii.gz":
            packed = packed or pack(volume)
            _write_gzip(temporary, b"", _nifti_header(volume, packed.labels), packed)
        elif suffix == ".nii":
            labels = _labels(volume.array)
            _write_parts(temporary, itertools.chain([_nifti_header(volume, labels)], _planes(labels)))
        else:
            import_sitk().WriteImage(image_from_volume(volume, _labels(volume.array)), str(temporary), True)
            check_header(temporary, "NRRD" if suffix == ".nrrd" else "MetaImage")


def write_nifti(volume: Volume, path: str | Path) -> None:
    """Write the voxels (z, y, x) of any number type that NIfTI has as .nii.gz, with nothing but their geometry.

    Raises OutputError when the file cannot be written.
    """
    header = _nifti_header(volume, volume.array)
    with (
        replacing(Path(path), ".nii.gz") as temporary,
        temporary.open("wb") as file,
        gzip.GzipFile(filename="", mode="wb", compresslevel=_LEVEL, fileobj=file, mtime=0) as packed,
    ):
        packed.writelines(itertools.chain([header], _planes(volume.array)))


def write_segmentation(
    volume: Volume, path: str | Path, segments: Sequence[Segment], packed: Packed | None = None
) -> None:
    """Write labels (z, y, x) as a Slicer segmentation (.seg.nrrd) of one layer with the given segments.

    ``packed`` is ``pack`` of the volume where that is at hand. Raises ValueError when a label has no segment (Slicer
    would drop it) or a segment cannot be stored, UsageError for another suffix, OutputError when the file cannot be
    written.
    """
    path = Path(path)
    if not path.name.lower().endswith(".seg.nrrd"):
        raise UsageError(f"{shown(path)} is no name for a segmentation; end it in .seg.nrrd.")
    packed = packed or pack(volume)
    _check_segments(packed.labels, segments)
    with replacing(path, ".seg.nrrd") as temporary:
        _write_gzip(temporary, _nrrd_header(volume, packed.labels, segments), b"", packed)


@contextmanager
def output_folder(path: str | Path) -> Iterator[Path]:
    """A staging folder whose files move into the folder ``path`` together when the block ends well.

    When the block raises (also Cancelled or KeyboardInterrupt), nothing of it stays behind, and a folder that did not
    exist before is removed again. What is moved replaces files and folders of the same name. Raises OutputError when
    the folder or its files cannot be written.
    """
    target = Path(path)
    created: list[Path] = []
    try:
        _make_folders(target, created)
        work = Path(tempfile.mkdtemp(prefix=_staging_prefix(os.getpid()), dir=target))
        staging, replaced = work / "new", work / "old"
        staging.mkdir()
        replaced.mkdir()
    except OSError as error:
        _remove_folders(created)
        raise _cannot_write(target, error) from error
    try:
        yield staging
        _move_all(staging, target, replaced)
    except BaseException as error:
        shutil.rmtree(work, ignore_errors=True)
        _remove_folders(created)
        if isinstance(error, OSError) and _is_about(error, target):
            raise _cannot_write(target, error) from error
        raise
    shutil.rmtree(work, ignore_errors=True)


def remove_abandoned(folder: Path) -> None:
    """Remove what :func:`output_folder` staged in ``folder`` for processes of this computer that have died since.

    Windows does not tell simply whether a process lives: there nothing is removed.
    """
    if os.name == "nt":
        return
    for staged in folder.glob(_staging_prefix("*") + "*"):
        number = staged.name.split("-")[-2]
        if number.isdigit() and staged.name.startswith(_staging_prefix(number)) and not _is_running(int(number)):
            shutil.rmtree(staged, ignore_errors=True)


def _staging_prefix(process: int | str) -> str:
    """Names of staging folders tell computer and process, because results may lie where several computers write."""
    computer = re.sub(r"[^A-Za-z0-9]", "_", platform.node())
    return f".toothtopo-{computer}-{process}-"


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is another user's
        return True
    return True


def _make_folders(target: Path, created: list[Path]) -> None:
    """Make ``target`` and its missing parents, noting each one made, innermost last."""
    missing = []
    place = target
    while not place.exists():
        missing.append(place)
        place = place.parent
    for folder in reversed(missing):
        with suppress(FileExistsError):  # another process needs it too
            folder.mkdir()
            created.append(folder)
    if not target.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(target))


def _remove_folders(created: Sequence[Path]) -> None:
    for folder in reversed(created):
        with suppress(OSError):  # something else was put there meanwhile: not ours to remove
            folder.rmdir()


def _move_all(staging: Path, target: Path, replaced: Path) -> None:
    """Move everything staged; where something cannot be moved, put back all that stood there before."""
    begun: list[str] = []
    try:
        for name in sorted(p.name for p in staging.iterdir()):
            begun.append(name)
            if (target / name).exists():
                os.replace(target / name, replaced / name)
            os.replace(staging / name, target / name)
    except BaseException:
        for name in begun:
            if not (staging / name).exists():
                os.replace(target / name, staging / name)
            if (replaced / name).exists():
                os.replace(replaced / name, target / name)
        raise


def _is_about(error: OSError, target: Path) -> bool:
    """Whether an error met inside the block concerns writing here, not reading something else."""
    if error.errno in _NO_ROOM or error.errno == errno.EROFS:
        return True
    names = [str(n) for n in (error.filename, error.filename2) if n is not None]
    return any(Path(n).absolute().is_relative_to(target.absolute()) for n in names)


def _cannot_write(place: Path, error: OSError | RuntimeError) -> OutputError:
    code = error.errno if isinstance(error, OSError) else None
    if code in _NO_ROOM:
        return OutputError(
            f"The disk is full at {shown(place)}, so nothing was written; free space or choose another place."
        )
    if code in _NOT_WRITABLE or code == errno.EEXIST:
        why = "is not a folder" if code in (errno.ENOTDIR, errno.EEXIST) else "may not be written"
        return OutputError(f"{shown(place)} {why} ({os.strerror(code)}); choose another place for the results.")
    why = os.strerror(code) if code else "the writer failed"
    return OutputError(f"{shown(place)} could not be written ({why}); check the place and its free space.")


@contextmanager
def replacing(path: Path, suffix: str) -> Iterator[Path]:
    """A temporary file name beside ``path`` that takes its place when the block ends well; OutputError if it cannot."""
    temporary = path.with_name(f".toothtopo-{os.getpid()}-{os.urandom(4).hex()}{suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:
        raise _cannot_write(path, error) from error
    except InputError as error:  # reading back what was just written found it incomplete
        raise OutputError(
            f"{shown(path)} could not be written completely; check the free space and try again."
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _labels(array: Array) -> Array:
    low, high = int(array.min()), int(array.max())
    if not np.issubdtype(array.dtype, np.integer) or low < 0 or high > 65535:
        raise ValueError(f"labels must be integers of 0..65535, not {array.dtype} from {low} to {high}")
    return array.astype(np.uint8 if high <= 255 else np.uint16, copy=False)


def _planes(labels: Array) -> Iterator[bytes]:
    """The voxels as files hold them, slice by slice, which spares a copy of the whole."""
    for plane in labels:
        yield plane.astype(plane.dtype.newbyteorder("<"), copy=False).tobytes()


def _packer() -> Any:
    return zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)  # a raw stream, without a frame around it


def _write_gzip(path: Path, before: bytes, start: bytes, packed: Packed) -> None:
    """A file of ``before`` as it is and one gzip member (RFC 1952) that holds ``start`` and the packed voxels.

    A stream that was fully flushed ends at a whole byte and is not looked back on: the packed one follows as it is.
    No name and no time in the member: equal label maps are equal files.
    """
    packer = _packer()
    first = packer.compress(start) + packer.flush(zlib.Z_FULL_FLUSH) if start else b""
    check = zlib.crc32(start)
    for plane in _planes(packed.labels):
        check = zlib.crc32(plane, check)
    end = struct.pack("<2L", check, (len(start) + packed.labels.nbytes) & 0xFFFFFFFF)
    _write_parts(path, [before, _GZIP_START, first, packed.stream, end])


def _write_parts(path: Path, parts: Iterable[bytes]) -> None:
    """ITK's own writers do not notice a full disk; this raises OSError."""
    with path.open("wb") as file:
        file.writelines(parts)


def _nrrd_header(volume: Volume, labels: Array, segments: Sequence[Segment]) -> bytes:
    """Everything before the voxels: ITK's own header of a small image of this geometry, with the true size."""
    image = image_from_volume(volume, np.zeros((2, 2, 2), labels.dtype))
    for key, value in _segmentation_fields(volume, labels, segments).items():
        image.SetMetaData(key, value)
    with tempfile.TemporaryDirectory(prefix="toothtopo-") as folder:
        probe = Path(folder) / "probe.nrrd"
        import_sitk().WriteImage(image, str(probe), True)
        header, _, _ = probe.read_bytes().partition(b"\n\n")
    size = " ".join(map(str, reversed(labels.shape)))
    return header.replace(b"\nsizes: 2 2 2\n", f"\nsizes: {size}\n".encode()) + b"\n\n"


def _nifti_header(volume: Volume, labels: Array) -> bytes:
    """The 352 bytes before the voxels: ITK's own header for this geometry, made to read back exactly where it can.

    ITK reads the direction by normalising the columns of the sform, which it wrote rounded to 32 bits: a second
    round trip through a file would turn the axes by about 1e-8. So the sform, or the qform alone, is chosen such that
    ITK gives the volume's own direction again; a scan of another format may have one that 32 bits cannot hold.
    """
    with tempfile.TemporaryDirectory(prefix="toothtopo-") as folder:
        probe = Path(folder) / "probe.nii"
        import_sitk().WriteImage(image_from_volume(volume, np.zeros((2, 2, 2), labels.dtype)), str(probe))
        plain = bytearray(probe.read_bytes()[:_NIFTI_DATA_OFFSET])
        header = next(
            (h for h in (plain, _exact_sform(plain, volume), _qform_only(plain)) if _reads_as(probe, bytes(h), volume)),
            plain,
        )
    struct.pack_into("<3h", header, 42, *reversed(labels.shape))
    return bytes(header)


def _reads_as(probe: Path, header: bytes, volume: Volume) -> bool:
    probe.write_bytes(header + bytes(16))
    reader = import_sitk().ImageFileReader()
    reader.SetFileName(str(probe))
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        return False
    direction: Sequence[float] = reader.GetDirection()
    return tuple(direction) == tuple(v for row in volume.direction for v in row)


def _qform_only(header: bytearray) -> bytearray:
    changed = bytearray(header)
    struct.pack_into("<h", changed, 254, 0)
    return changed


def _exact_sform(header: bytearray, volume: Volume) -> bytearray:
    """The header with sform columns of 32-bit floats whose normalised doubles are the volume's direction."""
    changed = bytearray(header)
    direction = np.diag([-1.0, -1.0, 1.0]) @ np.asarray(volume.direction)  # NIfTI's world is RAS
    for axis, spacing in enumerate(reversed(volume.spacing)):
        column = _exact_column(direction[:, axis], spacing)
        if column is not None:
            for row in range(3):
                struct.pack_into("<f", changed, 280 + 16 * row + 4 * axis, column[row])
    return changed


def _exact_column(unit: Array, spacing: float) -> Array | None:
    """32-bit multiples of ``unit`` near ``spacing`` that normalise to exactly ``unit``, if there are any."""
    largest = int(np.argmax(np.abs(unit)))
    start = np.float32(unit[largest] * spacing)
    for step in (0, 1, -1, 2, -2, 3, -3, 4, -4):
        value = float(start) + step * float(np.spacing(start))
        column = (unit * (value / unit[largest])).astype(np.float32)
        wide = column.astype(np.float64)
        if np.array_equal(wide / np.sqrt(np.sum(wide * wide)), unit):
            exact: Array = column
            return exact
    return None


def _check_segments(labels: Array, segments: Sequence[Segment]) -> None:
    counts = sum(np.bincount(plane.ravel(), minlength=1 << 16) for plane in labels)
    present = set(np.flatnonzero(counts).tolist()) - {0}
    values = [s.value for s in segments]
    if present - set(values):
        raise ValueError(f"labels {sorted(present - set(values))} have no segment")
    if len(set(values)) < len(values) or len({s.identifier for s in segments}) < len(values):
        raise ValueError("two segments share a label value or an identifier")
    for s in segments:
        if s.value < 1 or "|" in s.terminology or any("\n" in t for t in (s.name, s.terminology, s.identifier)):
            raise ValueError(f"segment {s.identifier} cannot be stored: value below 1, a line break or a '|'")


def _segmentation_fields(volume: Volume, labels: Array, segments: Sequence[Segment]) -> dict[str, str]:
    """Slicer's header fields for a segmentation of one layer.

    Segments of one layer share one voxel array in Slicer, and Slicer up to 5.4 cuts it to the extent of the layer's
    first segment when it reads the file: so each segment carries the extent of all of them together.
    """
    extent = _extent(labels)
    fields = {
        "Segmentation_MasterRepresentation": "Binary labelmap",
        "Segmentation_SourceRepresentation": "Binary labelmap",
        "Segmentation_ContainedRepresentationNames": "Binary labelmap|Closed surface|",
        "Segmentation_ConversionParameters": f"Reference image geometry|{_reference(volume)}|Grid of the scan&",
        "Segmentation_ReferenceImageExtentOffset": "0 0 0",
    }
    for i, s in enumerate(segments):
        one = {
            "ID": s.identifier,
            "Name": s.name,
            "NameAutoGenerated": "0",
            "Color": " ".join(f"{c:.6g}" for c in s.colour),
            "ColorAutoGenerated": "0",
            "Extent": extent,
            "LabelValue": str(s.value),
            "Layer": "0",
            "Tags": f"TerminologyEntry:{s.terminology}|" if s.terminology else "",
        }
        fields.update({f"Segment{i}_{key}": value for key, value in one.items()})
    return fields


def _reference(volume: Volume) -> str:
    """The scan's grid as Slicer notes it (voxel-to-RAS matrix, then extent), so that Slicer saves all of it."""
    step = np.asarray(volume.direction) * np.asarray(volume.spacing)[::-1]
    matrix = np.eye(4)
    matrix[:3] = np.diag([-1.0, -1.0, 1.0]) @ np.column_stack([step, volume.origin]) + 0.0
    extent = [bound for n in reversed(volume.array.shape) for bound in (0, n - 1)]
    return "".join(f"{v:.17g};" for v in matrix.ravel()) + "".join(f"{v};" for v in extent)


def _extent(labels: Array) -> str:
    """First and last index along i, j, k of all labelled voxels; "0 -1 0 -1 0 -1" when there are none."""
    bounds = []
    for axis in (2, 1, 0):
        others = tuple(a for a in range(3) if a != axis)
        hit = np.flatnonzero(labels.any(axis=others))
        bounds += [int(hit[0]), int(hit[-1])] if hit.size else [0, -1]
    return " ".join(str(b) for b in bounds)
