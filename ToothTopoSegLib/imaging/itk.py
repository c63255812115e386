"""The bridge to SimpleITK: images to Volumes and back, without its warnings on stderr.

In and out: SimpleITK images, whose geometry (spacing and index x, y, z; origin and direction in LPS mm) a Volume
states with array and spacing in (z, y, x).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ToothTopoSegLib.errors import InputError
from ToothTopoSegLib.imaging.headers import check_dimensions, check_spacing
from ToothTopoSegLib.imaging.volume import Array, Matrix3, Volume


def import_sitk() -> Any:
    """SimpleITK, imported on first use and told to keep its warnings to itself."""
    import SimpleITK

    SimpleITK.ProcessObject_SetGlobalWarningDisplay(False)
    return SimpleITK


def volume_from_itk(image: Any, name: str) -> Volume:
    """The Volume of a scalar 3D image; InputError (naming ``name``) for anything else or unusable geometry."""
    if image.GetNumberOfComponentsPerPixel() != 1 or "complex" in image.GetPixelIDTypeAsString():
        raise InputError(
            f"{name} has {image.GetNumberOfComponentsPerPixel()} channels or layers a voxel (colour, vectors or "
            "overlapping segments), but one value a voxel is expected; export a single grey-value or label volume."
        )
    check_dimensions(name, image.GetSize())
    if image.GetDimension() == 4:
        image = image[:, :, :, 0]
    check_spacing(name, image.GetSpacing())
    direction = np.reshape(image.GetDirection(), (3, 3))
    _check_placement(name, image.GetOrigin(), direction)
    x, y, z = image.GetSpacing()
    return Volume(array_of(image), (z, y, x), tuple(image.GetOrigin()), matrix3(direction))


def array_of(image: Any) -> Array:
    """The voxels (z, y, x) of a scalar image, not copied and not to be written to; they keep the image alive."""
    return np.asarray(_Voxels(image))


class _Voxels:
    """Tells numpy where the voxels of an image lie: the array holds on to this object, and this to the image.

    SimpleITK's own view of an image is left pointing at freed memory once the image is gone.
    """

    def __init__(self, image: Any) -> None:
        view = import_sitk().GetArrayViewFromImage(image)
        self._image = image
        self.__array_interface__ = view.__array_interface__


def _check_placement(name: str, origin: Any, direction: Array) -> None:
    if not np.isfinite(origin).all() or not np.isfinite(direction).all():
        raise InputError(f"{name} states a position or orientation that is not a number; export it again.")
    if not np.allclose(direction.T @ direction, np.eye(3), atol=1e-3):
        raise InputError(
            f"{name} has image axes that are not at right angles (such as a tilted gantry), but a regular grid is "
            "expected; resample it first."
        )


def matrix3(direction: Array) -> Matrix3:
    """A 3x3 array as the tuple of rows that a Volume holds."""
    a, b, c = ((float(r[0]), float(r[1]), float(r[2])) for r in direction)
    return a, b, c


def image_from_volume(volume: Volume, array: Array | None = None) -> Any:
    """A SimpleITK image of the volume's geometry around its array, or around another ``array`` (z, y, x)."""
    sitk = import_sitk()
    image = sitk.GetImageFromArray(volume.array if array is None else array)
    image.SetSpacing([float(v) for v in reversed(volume.spacing)])
    image.SetOrigin([float(v) for v in volume.origin])
    image.SetDirection([float(v) for row in volume.direction for v in row])
    return image
