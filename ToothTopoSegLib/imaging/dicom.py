"""DICOM series as volumes: a folder, one file of a series, or a zip archive.

Pixels come from GDCM through SimpleITK. The geometry is worked out here from ImagePositionPatient and
ImageOrientationPatient (DICOM PS3.3 C.7.6.2), never from file names, instance numbers or slice thickness: slices are
sorted along the normal of the image plane, and a series that no regular grid can hold (tilted gantry, missing, doubled
or unevenly spaced slices) is refused instead of bent. In: a path. Out: a Volume, not yet checked for its values.
"""

from __future__ import annotations

import mmap
import re
import stat
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.errors import InputError, OutputError
from ToothTopoSegLib.imaging.headers import check_spacing, damaged, shown
from ToothTopoSegLib.imaging.itk import array_of, import_sitk, matrix3
from ToothTopoSegLib.imaging.volume import Volume

ZIP_BYTES_MAX = 8 << 30
ZIP_ENTRIES_MAX = 50_000
GAP_TOLERANCE = 0.05
SUFFIXES = (".dcm", ".dicom", ".ima")
_STORAGE = "1.2.840.10008.5.1.4.1.1."
# Objects that travel beside the images: directories, presentation states, structured reports, waveforms, documents,
# registrations, segmentations, radiotherapy objects.
_DIRECTORY = "1.2.840.10008.1.3.10"
_NO_SCAN = (
    _DIRECTORY,
    *(_STORAGE + tail for tail in ("9.", "11.", "66", "67", "68", "88.", "104.", "481.")),
)


def _decimal_element(tag: bytes, count: int) -> re.Pattern[bytes]:
    """An element of ``count`` decimal strings as it stands in a little endian file, its type written out or implied."""
    number = rb" *[-+]?[0-9.]+(?:[eE][-+]?[0-9]+)? *"
    return re.compile(re.escape(tag) + rb"(?:DS..|..\x00\x00)(" + rb"\\".join([number] * count) + rb")", re.DOTALL)


_POSITION = _decimal_element(b"\x20\x00\x32\x00", 3)
_ORIENTATION = _decimal_element(b"\x20\x00\x37\x00", 6)
_PIXEL_SPACING = _decimal_element(b"\x28\x00\x30\x00", 2)
_LENGTH_IN_32_BITS = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"UC", b"UN", b"UR", b"UT")


@dataclass(frozen=True)
class Slice:
    """One DICOM image file: where its pixels lie (LPS mm) and what it belongs to."""

    path: Path
    series: str
    description: str
    instance: str
    size: tuple[int, ...]
    pixel_type: int
    components: int
    frames: int
    position: tuple[float, ...]
    orientation: tuple[float, ...]
    pixel_spacing: tuple[float, ...]
    frame_distance: float | None
    frame: int = 1


@dataclass(frozen=True)
class Stack:
    """The slices of one scan in the order of its grid, and that grid around an empty array; ``name`` for messages.

    The slices of a multi-frame file are its frames, numbered from 1 by ``frame``.
    """

    slices: tuple[Slice, ...]
    grid: Volume
    name: str

    @property
    def shape(self) -> tuple[int, int, int]:
        """How many voxels the scan has along (z, y, x)."""
        across, down = self.slices[0].size[:2]
        return len(self.slices), down, across

    def read(self) -> Volume:
        """The scan with its voxels (z, y, x) in the files' own type; InputError where they are damaged."""
        frames = self.slices[0].frames > 1
        return replace(self.grid, array=_frame_pixels(self.slices) if frames else _pixels(self.slices, self.name))


def has_dicom_magic(path: Path) -> bool:
    """Whether the file carries DICOM's mark after its 128-byte preamble."""
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def is_dicom(path: Path) -> bool:
    """Whether a file bears DICOM's mark or a name ending by which scanners and viewers name DICOM files."""
    return path.suffix.lower() in SUFFIXES or has_dicom_magic(path)


def read_dicom(path: Path) -> Volume:
    """The one scan in a folder, file or zip archive of DICOM; InputError as :func:`dicom_stack`, or where damaged."""
    with dicom_stack(path) as stack:
        return stack.read()


@contextmanager
def dicom_stack(path: Path) -> Iterator[Stack]:
    """The one scan in the folder (with the folders in it) or zip archive ``path``, or the one a file belongs to.

    A file stands for its series within its own folder, or for itself when it holds many frames. What a zip archive
    holds lies in a temporary folder until the block ends. Raises InputError where there is no scan, more than one, or
    one that lies on no regular grid, OutputError where there is no room to unpack it.
    """
    if path.is_dir():
        yield _stack_of_folder(path)
    elif path.suffix.lower() == ".zip":
        with tempfile.TemporaryDirectory(prefix="toothtopo-") as folder:
            yield _stack_among(_unpack(path, Path(folder)), shown(path), shown(path))
    else:
        yield _stack_of_file(path)


def _stack_of_folder(folder: Path) -> Stack:
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.stat().st_size)
    return _stack_among(files, f"the folder {shown(folder)}", shown(folder))


def _stack_of_file(path: Path) -> Stack:
    chosen = _slice(path)
    if chosen is None:
        if storage_class(path) == _DIRECTORY:
            return _stack_of_folder(path.parent)
        raise InputError(f"{shown(path)} holds no DICOM image that can be read; give a file or folder of the scan.")
    if chosen.frames > 1:
        return _stack_of_frames(chosen)
    files = sorted(p for p in path.parent.iterdir() if p.is_file() and p.stat().st_size)
    slices = [s for s in _slices(files) if s.series == chosen.series and s.frames == 1]
    return _stack_of_series(slices, f"the series of {shown(path)}")


def _stack_among(files: Sequence[Path], place: str, name: str) -> Stack:
    slices = _slices(files)
    if not slices:
        raise InputError(f"{place} holds no DICOM images; give the folder or zip that the scanner exported.")
    series: dict[str, list[Slice]] = {}
    for item in slices:
        series.setdefault(item.series, []).append(item)
    if len(series) > 1:
        raise _several(place, list(series.values()))
    if any(s.frames > 1 for s in slices):
        if len(slices) > 1:
            raise InputError(f"{place} holds {len(slices)} multi-frame DICOM volumes; give the file of the wanted one.")
        return _stack_of_frames(slices[0])
    return _stack_of_series(slices, f"the series in {name}")


def _several(place: str, series: list[list[Slice]]) -> InputError:
    """Name the series by description and size; nothing that identifies a patient."""
    series.sort(key=len, reverse=True)
    named = [f"'{s[0].description or 'no description'}' ({len(s)} files)" for s in series[:4]]
    more = f" and {len(series) - 4} more" if len(series) > 4 else ""
    return InputError(
        f"{place} holds {len(series)} DICOM series: {', '.join(named)}{more}; "
        "unpack it if it is a zip and give one file of the wanted series instead."
    )


def _slices(files: Iterable[Path]) -> list[Slice]:
    """The images among ``files``; files without DICOM's mark count only where no file has it."""
    files = list(files)
    marked = [p for p in files if has_dicom_magic(p)]
    found = [_slice(p) for p in marked or files]
    return [s for s in found if s is not None]


def _slice(path: Path) -> Slice | None:
    """What GDCM tells of one file; None for what is no image, InputError for an image that cannot be read."""
    marked = has_dicom_magic(path)
    kind = storage_class(path) if marked else ""
    if kind.startswith(_NO_SCAN):
        return None
    sitk = import_sitk()
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        if marked and (not kind or kind.startswith(_STORAGE)):
            raise damaged(path, "DICOM") from error
        return None  # a vendor's private object, or no DICOM at all
    return Slice(
        path=path,
        series=_text(reader, "0020|000e"),
        description=_text(reader, "0008|103e")[:40],
        instance=_text(reader, "0008|0018"),
        size=tuple(reader.GetSize()),
        pixel_type=reader.GetPixelID(),
        components=reader.GetNumberOfComponents(),
        frames=reader.GetSize()[2] if reader.GetDimension() > 2 else 1,
        position=_decimals(reader, "0020|0032"),
        orientation=_decimals(reader, "0020|0037"),
        pixel_spacing=_decimals(reader, "0028|0030"),
        frame_distance=next(iter(_decimals(reader, "0018|0088") or _decimals(reader, "0018|0050")), None),
    )


def _text(reader: Any, key: str) -> str:
    value = str(reader.GetMetaData(key)) if reader.HasMetaDataKey(key) else ""
    return "".join(c for c in value if c.isprintable()).strip()


def _decimals(reader: Any, key: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in _text(reader, key).split("\\"))
    except ValueError:
        return ()


def storage_class(path: Path) -> str:
    """SOP class from the file meta group (always explicit little endian, DICOM PS3.10 7.1); "" where it is cut off."""
    data = path.open("rb").read(4096)
    place = 132
    while place + 8 <= len(data) and data[place : place + 2] == b"\x02\x00":
        element, kind = struct.unpack_from("<H", data, place + 2)[0], data[place + 4 : place + 6]
        if kind in _LENGTH_IN_32_BITS:
            length, start = int.from_bytes(data[place + 8 : place + 12], "little"), place + 12
        else:
            length, start = int.from_bytes(data[place + 6 : place + 8], "little"), place + 8
        if start + length > len(data):
            break
        if element == 2:
            return data[start : start + length].decode("ascii", "replace").rstrip("\0 ")
        place = start + length
    return ""


def _stack_of_frames(item: Slice) -> Stack:
    """The frames of a multi-frame file, which are held to the same rules as the slices of a series.

    GDCM gives the pixels only: it keeps frames in file order, wherever they lie, and invents 1 mm voxels for classes
    whose geometry it does not know.
    """
    return _stack(_frames(item), shown(item.path))


def _frame_pixels(frames: Sequence[Slice]) -> NDArray[Any]:
    """Voxels (z, y, x) of the frames of one file, which are already in order, in the file's own type."""
    sitk = import_sitk()
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(frames[0].path))
    try:
        array: NDArray[Any] = array_of(reader.Execute())
    except RuntimeError as error:
        raise damaged(frames[0].path, "DICOM") from error
    order = [frame.frame - 1 for frame in frames]
    return array if order == sorted(order) else array[order]


def _frames(item: Slice) -> list[Slice]:
    """One Slice a frame, with its place from the per-frame functional groups or from the distance between frames."""
    with item.path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        positions, orientations, spacings = (_stored(data, tag) for tag in (_POSITION, _ORIENTATION, _PIXEL_SPACING))
    if len(positions) <= 1:
        return _plain_frames(item)
    if len(positions) != item.frames or len(set(orientations)) != 1 or len(set(spacings)) != 1:
        raise InputError(
            f"{shown(item.path)} has {item.frames} frames, but no one place for each, or several orientations or pixel "
            "sizes; export it as NIfTI or as a series of single slices."
        )
    alike = replace(item, orientation=orientations[0], pixel_spacing=spacings[0])
    return [replace(alike, position=p, frame=k) for k, p in enumerate(positions, start=1)]


def _stored(data: mmap.mmap, tag: re.Pattern[bytes]) -> list[tuple[float, ...]]:
    """The values of every occurrence of an element, also inside sequences, which SimpleITK does not hand on."""
    return [tuple(float(v) for v in match.group(1).split(b"\\")) for match in tag.finditer(data)]


def _plain_frames(item: Slice) -> list[Slice]:
    """Frames at the stated distance from the first one, as other multi-frame files have it."""
    if item.frame_distance is None or len(item.pixel_spacing) != 2:
        raise InputError(
            f"{shown(item.path)} states no distance between its frames or no pixel size, which is needed; export it as "
            "NIfTI or as a series of single slices."
        )
    orientation = item.orientation if len(item.orientation) == 6 else (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    start = np.asarray(item.position if len(item.position) == 3 else (0.0, 0.0, 0.0))
    step = np.cross(orientation[:3], orientation[3:]) * item.frame_distance
    return [
        replace(item, position=tuple(float(v) for v in start + k * step), orientation=orientation, frame=k + 1)
        for k in range(item.frames)
    ]


def _stack_of_series(slices: list[Slice], name: str) -> Stack:
    return _stack(list({s.instance or str(s.path): s for s in slices}.values()), name)


def _stack(slices: list[Slice], name: str) -> Stack:
    """The slices in order on the regular grid on which they lie."""
    _check_alike(slices, name)
    slices, normal = _in_order(slices)
    gap = _check_positions(slices, normal, name)
    down, across = slices[0].pixel_spacing  # DICOM states the distance of rows first
    check_spacing(name, (across, down, gap))
    direction = np.column_stack([*np.reshape(slices[0].orientation, (2, 3)), normal])
    x, y, z = slices[0].position
    return Stack(tuple(slices), Volume(np.empty(0), (gap, down, across), (x, y, z), matrix3(direction)), name)


def _check_alike(slices: Sequence[Slice], name: str) -> None:
    """Every slice must have a place, and all must share one size, pixel spacing and orientation."""
    first = slices[0]
    if len(slices) < 2:
        raise InputError(f"{name} is a single 2D slice, but a 3D scan is expected; give the whole series.")
    for s in slices:
        if len(s.position) != 3 or len(s.orientation) != 6 or len(s.pixel_spacing) != 2:
            raise InputError(f"{name} has slices without position or voxel size; export it again as a CT series.")
        if s.components != 1:
            raise InputError(f"{name} is in colour, but grey values are expected; give the original scan.")
        alike = s.size == first.size and np.allclose(s.pixel_spacing, first.pixel_spacing, rtol=1e-3)
        if not alike or not np.allclose(s.orientation, first.orientation, atol=1e-3):
            raise InputError(
                f"{name} mixes slices of different size or orientation (such as overview images with the scan); "
                "export only the scan's slices."
            )


def _in_order(slices: list[Slice]) -> tuple[list[Slice], NDArray[np.float64]]:
    """The slices sorted along the normal of their plane, and that normal (LPS)."""
    row, column = np.reshape(slices[0].orientation, (2, 3))
    normal = np.cross(row, column)
    return sorted(slices, key=lambda s: float(normal @ np.asarray(s.position))), normal


def _check_positions(slices: Sequence[Slice], normal: NDArray[np.float64], name: str) -> float:
    """Distance of the slices in mm, or InputError where they do not stand in one regular stack."""
    places = np.array([s.position for s in slices])
    heights = (places - places[0]) @ normal
    gaps = np.diff(heights)
    usual = float(np.median(gaps))
    allowed = GAP_TOLERANCE * usual + 0.01
    if gaps.min() < 0.01:
        raise InputError(f"{name} has several slices at the same place; export one image a slice.")
    aside = places - places[0] - heights[:, None] * normal
    if np.linalg.norm(aside, axis=1).max() > 0.5 * min(slices[0].pixel_spacing):
        raise InputError(
            f"{name} was taken with a tilted gantry, but slices straight above each other are expected; "
            "correct the tilt first (3D Slicer does so when it loads DICOM) and save the result as NRRD."
        )
    missing = int(np.sum(np.round(gaps[gaps > 1.5 * usual] / usual) - 1))
    if missing and np.all(np.abs(gaps - np.round(gaps / usual) * usual) <= allowed):
        after = heights[int(np.argmax(gaps > 1.5 * usual))]
        raise InputError(
            f"{name} lacks {missing} slice{'s' if missing > 1 else ''}, the first after {after:.1f} mm of "
            f"{heights[-1]:.1f} mm; copy or export the whole series again."
        )
    if np.any(np.abs(gaps - usual) > allowed):
        raise InputError(
            f"{name} has unevenly spaced slices ({gaps.min():.3g} to {gaps.max():.3g} mm apart), but one distance is "
            "expected; export or resample it with even spacing."
        )
    return float(heights[-1] / (len(slices) - 1))


def _pixels(slices: Sequence[Slice], name: str) -> NDArray[Any]:
    """Voxels (z, y, x) of slices already in order, in the files' own type."""
    sitk = import_sitk()
    reader = sitk.ImageSeriesReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileNames([str(s.path) for s in slices])
    if len({s.pixel_type for s in slices}) > 1:
        reader.SetOutputPixelType(sitk.sitkFloat32)  # the reader would squeeze all slices into the first one's type
    try:
        array: NDArray[Any] = array_of(reader.Execute())
    except RuntimeError as error:
        raise InputError(f"{name} has a slice that is damaged or incomplete; copy or export it again.") from error
    return array


def _unpack(path: Path, folder: Path) -> list[Path]:
    """The archive's files in ``folder`` under names of our own, so that no name in it can lead anywhere else."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = [m for m in archive.infolist() if not m.is_dir()]
            for member in members:
                _check_member(member, path)
            if len(members) > ZIP_ENTRIES_MAX or sum(m.file_size for m in members) > ZIP_BYTES_MAX:
                raise InputError(f"{shown(path)} unpacks to far more than a scan; zip only the DICOM series.")
            return [_unpack_member(archive, m, folder / f"{i:06d}") for i, m in enumerate(members) if m.file_size]
    except (zipfile.BadZipFile, EOFError, zlib.error, NotImplementedError, struct.error) as error:
        raise damaged(path, "zip archive") from error
    except OSError as error:
        raise OutputError(
            f"{shown(path)} cannot be unpacked ({error.strerror}); free space in the folder for temporary files, "
            "or unpack it yourself and give the folder."
        ) from error


def _check_member(member: zipfile.ZipInfo, path: Path) -> None:
    name = member.filename
    windows, posix = PureWindowsPath(name), PurePosixPath(name)
    unsafe = posix.is_absolute() or windows.drive or windows.root or ".." in windows.parts
    if unsafe or stat.S_ISLNK(member.external_attr >> 16):
        raise InputError(
            f"{shown(path)} holds a name that leads outside its folder ({shown(Path(posix.name))}), which is not safe; "
            "make a new zip of the DICOM files."
        )
    if member.flag_bits & 1:
        raise InputError(f"{shown(path)} is protected by a password; unpack it yourself and give the folder.")


def _unpack_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path) -> Path:
    with archive.open(member) as source, target.open("wb") as sink:
        while chunk := source.read(1 << 20):
            sink.write(chunk)
    return target
