"""What a file's own header says, checked before ITK reads it.

ITK hides faults that matter here: a NIfTI or GIPL file that was cut short is padded with zeros, a damaged zlib block in
a MetaImage is read as whatever was in memory, NaN in a NIfTI file becomes 0, and a voxel size of zero, not-a-number or
below zero becomes 1 mm or a mirrored axis. So dimensions, spacing and the number of stored bytes are checked here, on
the raw file, and anything wrong is an InputError. In: a path and its format name. Out: nothing, or an InputError of one
sentence.
Sources: nifti1.h and nifti2.h (nifti.nimh.nih.gov), the NRRD format definition (teem.sourceforge.net/nrrd/format.html),
MetaIO's documentation (itk.org/Wiki/MetaIO), the GIPL header as in ITK's itkGiplImageIO.
"""

from __future__ import annotations

import gzip
import math
import re
import struct
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from ToothTopoSegLib.errors import InputError

SPACING_MIN_MM = 0.01
SPACING_MAX_MM = 4.0
_CHUNK = 1 << 20
_HEADER_LIMIT = 1 << 20
_BROKEN = (EOFError, zlib.error, gzip.BadGzipFile)
_GIPL_BITS = {1: 1, 7: 8, 8: 8, 15: 16, 16: 16, 31: 32, 32: 32, 64: 32, 65: 64}
_GIPL_MAGIC = (0xEFFFE9B0, 0x2AE389B8)
_META_BYTES = {
    **{"MET_CHAR": 1, "MET_UCHAR": 1, "MET_SHORT": 2, "MET_USHORT": 2, "MET_INT": 4, "MET_UINT": 4},
    **{"MET_LONG": 4, "MET_ULONG": 4, "MET_LONG_LONG": 8, "MET_ULONG_LONG": 8, "MET_FLOAT": 4, "MET_DOUBLE": 8},
}


def shown(path: Path) -> str:
    """The file's name, short and printable, for a message."""
    name = "".join(c if c.isprintable() else "?" for c in (path.name or str(path)))
    return name if len(name) <= 80 else name[:50] + "..." + name[-27:]


def check_header(path: Path, kind: str) -> None:
    """Raise InputError when the file of format ``kind`` is cut short, damaged, not 3D or has no usable spacing."""
    check = {"NIfTI": _check_nifti, "GIPL": _check_gipl, "MetaImage": _check_meta, "NRRD": _check_nrrd}[kind]
    try:
        check(path)
    except OSError as error:
        if isinstance(error, gzip.BadGzipFile):
            raise damaged(path, kind) from error
        raise InputError(f"{shown(path)} cannot be opened ({error.strerror}); check that you may read it.") from error
    except (*_BROKEN, struct.error, ValueError, KeyError) as error:
        raise damaged(path, kind) from error


def damaged(path: Path, kind: str) -> InputError:
    """The error for a file that is no sound file of its format."""
    return InputError(
        f"{shown(path)} cannot be read as {kind}: it is incomplete, damaged or of another format; "
        "copy or export the file again."
    )


def not_finite(name: str) -> InputError:
    """The error for voxels that are no numbers."""
    return InputError(f"{name} holds values that are not finite numbers (NaN or infinite); export it again.")


def check_spacing(name: str, spacing: Iterable[float]) -> None:
    """Raise InputError unless every spacing (mm) lies within the range that a scan of teeth can have."""
    values = list(spacing)
    if all(math.isfinite(v) and SPACING_MIN_MM <= v <= SPACING_MAX_MM for v in values):
        return
    text = " x ".join(f"{v:.4g}" for v in values)
    raise InputError(
        f"{name} has a voxel size of {text} mm, but {SPACING_MIN_MM:g} to {SPACING_MAX_MM:g} mm are expected in every "
        "direction; correct the spacing in its header or use a finer scan."
    )


def check_dimensions(name: str, size: Sequence[int]) -> None:
    """Raise InputError unless ``size`` (any order) is that of one three-dimensional image."""
    kept = list(size)
    while len(kept) > 3 and kept[-1] <= 1:
        kept.pop()
    if len(kept) > 3:
        raise InputError(
            f"{name} is a {len(kept)}D image (a series over time or of channels), but one 3D image is expected; "
            "export a single volume."
        )
    if len(kept) < 3 or min(kept) <= 1:
        raise InputError(f"{name} is a 2D image, but a 3D scan is expected; give the whole volume or series.")


def _open(path: Path) -> BinaryIO:
    """The file's bytes, through gzip when it is compressed, whatever its name says."""
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return cast(BinaryIO, gzip.open(path, "rb")) if packed else path.open("rb")


def _count_rest(stream: BinaryIO) -> int:
    """Bytes from here to the end; reading all of them also verifies gzip's checksum."""
    total = 0
    while chunk := stream.read(_CHUNK):
        total += len(chunk)
    return total


def _check_nifti(path: Path) -> None:
    ending = "".join(path.suffixes[-2:]) if path.suffix.lower() == ".gz" else path.suffix
    if ending not in (ending.lower(), ending.upper()):  # ITK's NIfTI library takes no other
        raise InputError(f"{shown(path)} ends in {ending}, which is neither lower nor upper case; rename the file.")
    with _open(path) as stream:
        header = stream.read(540)
        order, version = _nifti_kind(header)
        dims, bits, offset, pixdim = _nifti_fields(header, order, version)
        check_dimensions(shown(path), dims)
        check_spacing(shown(path), pixdim)
        if offset < len(header):  # the header was read with the first voxels behind it
            stream.seek(0)
        _take(stream, offset if offset < len(header) else offset - len(header))
        kind = struct.unpack_from(order + "h", header, 70 if version == 1 else 12)[0]
        number = {16: order + "f4", 64: order + "f8"}.get(kind)
        left = (math.prod(dims) * bits + 7) // 8
        while left > 0:
            chunk = _take(stream, min(left, _CHUNK))
            left -= len(chunk)
            if number and not np.isfinite(np.frombuffer(chunk, number)).all():
                raise not_finite(shown(path))
        _count_rest(stream)


def _take(stream: BinaryIO, count: int) -> bytes:
    data = stream.read(count)
    if len(data) < count:
        raise EOFError
    return data


def _nifti_kind(header: bytes) -> tuple[str, int]:
    """Byte order and version of a single-file NIfTI header."""
    for order in "<>":
        size = struct.unpack_from(order + "i", header)[0]
        if size == 348 and header[344:348] == b"n+1\0":
            return order, 1
        if size == 540 and header[4:8] == b"n+2\0":
            return order, 2
    raise ValueError("no single-file NIfTI header")


def _nifti_fields(header: bytes, order: str, version: int) -> tuple[list[int], int, int, list[float]]:
    """Dimensions, bits a voxel, offset of the voxels and the three spacings as stored."""
    if version == 1:
        dim = struct.unpack_from(order + "8h", header, 40)
        bits = struct.unpack_from(order + "h", header, 72)[0]
        pixdim = struct.unpack_from(order + "8f", header, 76)
        offset = int(struct.unpack_from(order + "f", header, 108)[0])
    else:
        bits = struct.unpack_from(order + "h", header, 14)[0]
        dim = struct.unpack_from(order + "8q", header, 16)
        pixdim = struct.unpack_from(order + "8d", header, 104)
        offset = struct.unpack_from(order + "q", header, 168)[0]
    if not 1 <= dim[0] <= 7 or min(dim[1 : dim[0] + 1]) < 1 or bits < 1:
        raise ValueError("impossible NIfTI header")
    # The unit factor (metres, micrometres) is ITK's to apply; here only signs and numbers are judged.
    unit = {1: 1e3, 3: 1e-3}.get(header[123] & 7 if version == 1 else header[500] & 7, 1.0)
    return list(dim[1 : dim[0] + 1]), bits, offset, [p * unit for p in pixdim[1:4]]


def _check_gipl(path: Path) -> None:
    with _open(path) as stream:
        header = stream.read(256)
        size = [max(n, 1) for n in struct.unpack_from(">4H", header)]
        kind, *spacing = struct.unpack_from(">H4f", header, 8)
        if struct.unpack_from(">I", header, 252)[0] not in _GIPL_MAGIC:
            raise ValueError("no GIPL magic number")
        check_dimensions(shown(path), size)
        check_spacing(shown(path), spacing[:3])
        stored = _count_rest(stream)
    if stored < (math.prod(size) * _GIPL_BITS[kind] + 7) // 8:
        raise EOFError


def _check_meta(path: Path) -> None:
    with path.open("rb") as stream:
        fields = _meta_fields(stream)
        size = [int(n) for n in fields["DimSize"].split()]
        check_dimensions(shown(path), size)
        spacing = fields.get("ElementSpacing", fields.get("ElementSize"))
        if spacing is None:
            raise _no_spacing(path)
        check_spacing(shown(path), _numbers(spacing))
        place = fields["ElementDataFile"]
        if place == "LOCAL":
            _check_meta_voxels(stream, fields, size)
        elif place.upper() != "LIST" and "%" not in place:
            with _companion(path, place).open("rb") as voxels:
                _check_meta_voxels(voxels, fields, size)


def _meta_fields(stream: BinaryIO) -> dict[str, str]:
    """The ``key = value`` lines up to ElementDataFile; the stream is left at the first byte after them."""
    fields: dict[str, str] = {}
    while line := stream.readline(_HEADER_LIMIT):
        key, found, value = line.decode("utf-8", "replace").partition("=")
        if not found or len(fields) > 1000:
            break
        fields[key.strip()] = value.strip()
        if key.strip() == "ElementDataFile":
            return fields
    raise ValueError("no MetaImage header")


def _check_meta_voxels(stream: BinaryIO, fields: dict[str, str], size: Sequence[int]) -> None:
    if fields.get("BinaryData", "True").upper() != "TRUE":
        return
    width = _META_BYTES[fields["ElementType"].removesuffix("_ARRAY")]
    expected = math.prod(size) * width * int(fields.get("ElementNumberOfChannels", "1"))
    count = _count_inflated if fields.get("CompressedData", "False").upper() == "TRUE" else _count_rest
    if count(stream) < expected:
        raise EOFError


def _count_inflated(stream: BinaryIO) -> int:
    """Bytes behind a zlib or gzip stream that starts here; raises where it is cut short or damaged."""
    inflate = zlib.decompressobj(zlib.MAX_WBITS | 32)
    total = 0
    while not inflate.eof:
        chunk = stream.read(_CHUNK)
        if not chunk:
            raise EOFError
        total += len(inflate.decompress(chunk))
    return total


def _check_nrrd(path: Path) -> None:
    with path.open("rb") as stream:
        fields = _nrrd_fields(stream)
        size = [int(n) for n in fields["sizes"].split()]
        spacing = _nrrd_spacing(path, fields)
        # An axis of channels or layers comes first and has no spacing: it is the reader's to judge.
        check_dimensions(shown(path), size[-len(spacing) :])
        check_spacing(shown(path), spacing)
        place = fields.get("data file", fields.get("datafile"))
        if place is not None and place.upper() != "LIST" and "%" not in place:
            _companion(path, place)
        if place is None and fields.get("encoding", "").lower() in ("gzip", "gz"):
            _count_inflated(stream)


def _nrrd_fields(stream: BinaryIO) -> dict[str, str]:
    """The ``field: value`` lines up to the blank line; the stream is left at the first byte of the voxels."""
    if not stream.readline(64).startswith(b"NRRD000"):
        raise ValueError("no NRRD magic")
    fields: dict[str, str] = {}
    while line := stream.readline(_HEADER_LIMIT).rstrip(b"\r\n"):
        key, found, value = line.decode("utf-8", "replace").partition(": ")
        if found and not line.startswith(b"#") and ":=" not in key:
            fields[key.strip().lower()] = value.strip()
    return fields


def _nrrd_spacing(path: Path, fields: dict[str, str]) -> list[float]:
    """Spacing of each axis that has one; "none" stands on the axis of channels or layers."""
    if "space directions" in fields:
        vectors = re.findall(r"\(([^)]*)\)", fields["space directions"])
        spacing = [math.hypot(*_numbers(vector.replace(",", " "))) for vector in vectors]
    elif "spacings" in fields:
        spacing = _numbers(fields["spacings"])
        if len(spacing) > 3 and not math.isfinite(spacing[0]):
            spacing = spacing[1:]
    else:
        raise _no_spacing(path)
    return spacing


def _numbers(text: str) -> list[float]:
    """Numbers of a header line; a word that is none becomes not-a-number, which no check lets pass."""

    def number(word: str) -> float:
        try:
            return float(word)
        except ValueError:
            return math.nan

    return [number(word) for word in text.split()]


def _no_spacing(path: Path) -> InputError:
    return InputError(f"{shown(path)} states no voxel size, which is needed; export it again with its spacing in mm.")


def _companion(path: Path, name: str) -> Path:
    """The file of voxels that a header names, which must lie where the header says."""
    place = path.parent / name
    if not place.is_file():
        raise InputError(
            f"{shown(path)} keeps its voxels in {shown(Path(name))}, which is missing; keep both files in one folder."
        )
    return place
