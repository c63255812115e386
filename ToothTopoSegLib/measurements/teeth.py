"""What a dentist measures on a tooth: volume, length, crown and root, long axis, inclination, distances.

In goes a label map of FDI numbers, with the scan where there is one and the mandibular canal where it is labelled, out
comes one :class:`ToothMeasures` a tooth. Angles are those of the whole tooth against the arch it stands in (Tong et
al. 2012, see :mod:`ToothTopoSegLib.measurements.axis`): the occlusal plane and the arch curve are fitted to the teeth
of the scan themselves (:mod:`ToothTopoSegLib.measurements.frame`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.anatomy import fdi as teeth
from ToothTopoSegLib.imaging.boxes import label_boxes
from ToothTopoSegLib.imaging.volume import Volume
from ToothTopoSegLib.measurements.axis import LongAxis, long_axis_of
from ToothTopoSegLib.measurements.cervix import cervix_from_enamel, cervix_from_shape
from ToothTopoSegLib.measurements.distances import Surface, apart, nearest, side_neighbours, surface_of
from ToothTopoSegLib.measurements.frame import (
    CrownTop,
    Inclination,
    arch_frame,
    arch_through,
    inclination,
    occlusal_up,
)
from ToothTopoSegLib.progress import Progress, silent
from ToothTopoSegLib.topology.arch import Arches, fit_arches
from ToothTopoSegLib.topology.betti import Body, box_around
from ToothTopoSegLib.topology.mouth import Mouth, mouth_of

Floats = NDArray[np.float64]

_RIM_MM, _SURFACE_MM = 0.45, 1.1
"""How deep the outer voxels of a tooth lie, in which enamel is looked for: beneath those that the gum darkens."""
_LEAST_MM3 = 20.0
"""Of less than this of a tooth nothing but its volume is measured."""


@dataclass(frozen=True)
class ToothMeasures:
    """Measures of one tooth in mm, mm3 and degrees; None where a thing cannot be measured.

    ``cut`` tells that the border of the scan cuts the tooth: then nothing is measured that needs all of it.
    ``cervix_from`` is "enamel" or "shape" (see :mod:`ToothTopoSegLib.measurements.cervix`), ``axis`` the unit vector
    (LPS) from the root to the crown. Neighbours are FDI numbers of the next teeth that are there.
    """

    fdi: int
    volume: float
    cut: bool
    length: float | None = None
    crown_length: float | None = None
    root_length: float | None = None
    cervix_from: str | None = None
    axis: tuple[float, float, float] | None = None
    tip: float | None = None
    torque: float | None = None
    mesial: int | None = None
    mesial_distance: float | None = None
    distal: int | None = None
    distal_distance: float | None = None
    canal_distance: float | None = None

    @property
    def crown_root_ratio(self) -> float | None:
        """Length of the crown by that of the root."""
        return None if not self.root_length or self.crown_length is None else self.crown_length / self.root_length


def measured(
    labels: Volume, scan: Volume | None = None, canal: Volume | None = None, progress: Progress = silent
) -> tuple[ToothMeasures, ...]:
    """The measures of every tooth of a label map (FDI numbers), ascending.

    ``scan`` and ``canal`` (boolean, True in the mandibular canals) lie on the grid of the labels. The shape is that of
    the largest body of a number, the volume that of all its voxels.
    """
    return mouth_measured(mouth_of(labels, scan), canal, progress)


def mouth_measured(mouth: Mouth, canal: Volume | None = None, progress: Progress = silent) -> tuple[ToothMeasures, ...]:
    """The same of a mouth that is there already, as after a check."""
    progress(0.0, "Measuring the teeth")
    labels = mouth.labels
    surfaces = {fdi: surface_of(labels, fdi, box_around(tooth.bodies)) for fdi, tooth in mouth.teeth.items()}
    nerve = None if canal is None else _canal_surface(canal)
    standing = _standing(mouth)
    found, shapes = [], {}
    for step, (fdi, tooth) in enumerate(mouth.teeth.items()):
        progress(step / len(mouth.teeth), f"Measuring tooth {fdi}")
        cut = tooth.bodies[0].reaches_border(labels.array.shape)
        measures = _with_neighbours(ToothMeasures(fdi, tooth.voxels * labels.voxel_volume, cut), surfaces)
        if nerve is not None and not teeth.is_upper(fdi):
            measures = replace(measures, canal_distance=apart(surfaces[fdi], nerve))
        if not cut and measures.volume >= _LEAST_MM3:
            shapes[fdi] = _shape(mouth, fdi, standing.crownwards(fdi))
        found.append(measures)
    turned = _inclinations(shapes, standing)
    progress(1.0, "Measured")
    return tuple(_with_shape(m, shapes[m.fdi], turned.get(m.fdi)) if m.fdi in shapes else m for m in found)


@dataclass(frozen=True, eq=False)
class _Shape:
    """The long axis of a tooth, the height of its cervix over the root's tip in mm and what that was told by."""

    axis: LongAxis
    cervix: float
    cervix_from: str

    @property
    def neck(self) -> Floats:
        """Where the axis passes the cervix (LPS mm)."""
        return self.axis.at(self.cervix)


@dataclass(frozen=True, eq=False)
class _Standing:
    """How the teeth of a scan stand: upwards (LPS), in the upper jaw or not by FDI number, and the fitted arches."""

    up: Floats
    upper: Mapping[int, bool]
    arches: Arches | None

    def crownwards(self, fdi: int) -> Floats:
        """The unit vector (LPS) from roots to crowns in the jaw of a tooth."""
        return -self.up if self.upper[fdi] else self.up


def _standing(mouth: Mouth) -> _Standing:
    """How the largest body of each tooth stands; from the axes of the scan and the numbers where no arch shows."""
    arches = fit_arches(mouth)
    up = np.array([0.0, 0.0, 1.0]) if arches is None else arches.axes[2]
    seen: Mapping[Body, bool] = {} if arches is None else {s.tooth.body: s.upper for s in arches.standing}
    upper = {fdi: seen.get(tooth.bodies[0], teeth.is_upper(fdi)) for fdi, tooth in mouth.teeth.items()}
    return _Standing(up, upper, arches)


def _shape(mouth: Mouth, fdi: int, crownwards: Floats) -> _Shape:
    """The shape of the largest body of a tooth."""
    body = mouth.teeth[fdi].bodies[0]
    index = body.indices
    points = mouth.labels.index_to_lps(index)
    axis = long_axis_of(index, points, float(np.mean(mouth.labels.spacing)), crownwards)
    return _Shape(axis, *_cervix(mouth, fdi, body, axis, axis.heights(points)))


def _inclinations(shapes: Mapping[int, _Shape], standing: _Standing) -> dict[int, Inclination]:
    """Tip and torque of every tooth beside its own cervix; none where no arch shows."""
    if standing.arches is None:
        return {}
    tops = [CrownTop(fdi, standing.upper[fdi], shape.axis.at(shape.axis.length)) for fdi, shape in shapes.items()]
    up, found = occlusal_up(standing.arches, tops), {}
    for upper, arch in ((True, standing.arches.upper), (False, standing.arches.lower)):
        points = [top.point for top in tops if top.upper == upper]
        if arch is None or not points:
            continue
        near = arch_through(arch, standing.arches.axes[1], np.stack(points))
        for fdi in (top.fdi for top in tops if top.upper == upper):
            found[fdi] = inclination(shapes[fdi].axis.direction, *arch_frame(near, shapes[fdi].neck, up, upper))
    return found


def _with_shape(measures: ToothMeasures, shape: _Shape, turned: Inclination | None) -> ToothMeasures:
    """The measures with length, cervix, axis and inclination."""
    x, y, z = shape.axis.direction.tolist()
    return replace(
        measures,
        length=shape.axis.length,
        crown_length=shape.axis.length - shape.cervix,
        root_length=shape.cervix,
        cervix_from=shape.cervix_from,
        axis=(x, y, z),
        tip=None if turned is None else turned.tip,
        torque=None if turned is None else turned.torque,
    )


def _cervix(mouth: Mouth, fdi: int, body: Body, axis: LongAxis, heights: Floats) -> tuple[float, str]:
    """Height in mm of the cervix, and what it was told by."""
    by_shape = cervix_from_shape(fdi, heights, axis.length, mouth.labels.voxel_volume)
    if mouth.scan is not None:
        from scipy import ndimage

        deep = ndimage.distance_transform_edt(np.pad(body.mask, 1), sampling=mouth.labels.spacing)[1:-1, 1:-1, 1:-1]
        grey, depth = mouth.scan.array[body.box][body.mask], deep[body.mask]
        outer = (depth >= _RIM_MM) & (depth <= _SURFACE_MM)
        found = cervix_from_enamel(by_shape, heights, axis.length, grey, outer) if outer.any() else None
        if found is not None:
            return found, "enamel"
    return by_shape, "shape"


def _with_neighbours(measures: ToothMeasures, surfaces: Mapping[int, Surface]) -> ToothMeasures:
    """The measures with the next teeth to both sides and how far they are."""
    mesial, distal = (nearest(measures.fdi, side, surfaces) for side in side_neighbours(measures.fdi, surfaces))
    if mesial is not None:
        measures = replace(measures, mesial=mesial[0], mesial_distance=mesial[1])
    if distal is not None:
        measures = replace(measures, distal=distal[0], distal_distance=distal[1])
    return measures


def _canal_surface(canal: Volume) -> Surface | None:
    """The surface of a boolean volume; None where nothing in it is set."""
    box = label_boxes(canal.array.astype(np.uint8)).get(1)
    return None if box is None else surface_of(canal, 1, box)
