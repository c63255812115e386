"""The way of a scan, and the only place that knows its order.

read -> canonical axes, unseen corners -> resample -> normalise -> dental region -> tiles -> integer network -> blend ->
surfaces on a finer grid -> labels on the scan's own grid -> findings -> files. Every step is a function from value to
value defined elsewhere.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.imaging.canonical import from_canonical, to_canonical
from ToothTopoSegLib.imaging.volume import Volume
from ToothTopoSegLib.progress import Milestone, Progress, part, silent
from ToothTopoSegLib.quantization.bundle import Bundle, load_bundle, surface_bundle
from ToothTopoSegLib.segmentation.classes import MIRRORED, TEETH, class_to_label

if TYPE_CHECKING:
    from ToothTopoSegLib.imaging.dicom_source import Source
    from ToothTopoSegLib.segmentation.locate import Locate
    from ToothTopoSegLib.segmentation.nnunet_way import OwnLabels
    from ToothTopoSegLib.segmentation.runner import Runner
    from ToothTopoSegLib.topology.mouth import Mouth
    from ToothTopoSegLib.topology.robust import ToothScores

OVERLAP = 0.5
SLIVER_MM3 = 1.0
"""No root that noise has cut off is smaller."""
OnFirst = Callable[[Volume], None]


@dataclass
class Clock:
    """Seconds spent per step, in the order the steps ended."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Add the time the block takes to ``name``."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began

    def rounded(self) -> dict[str, float]:
        """Seconds to two decimals, with their total."""
        rows = {name: round(value, 2) for name, value in self.seconds.items()}
        return rows | {"total": round(sum(self.seconds.values()), 2)}


class Segmented(NamedTuple):
    """A label map on the grid of its scan, and the scores it was made from; None when the scan shows no teeth."""

    labels: Volume
    scores: ToothScores | None
    own: OwnLabels | None = None
    """What an imported model says in its own label values."""


def segment_volume(
    scan: Volume,
    bundle: Bundle,
    runner: Runner,
    progress: Progress = silent,
    clock: Clock | None = None,
    on_first: OnFirst | None = None,
) -> Volume:
    """Label map uint8 (FDI numbers, jaws, 0) on the grid of ``scan``; all zero when the scan shows no teeth.

    ``on_first`` gets such a label map as soon as there is one: the teeth as the first network draws and numbers them,
    before the second draws their surfaces. It is not called where nothing better follows: without a second network, or
    where the scan shows no teeth.
    """
    return segmented(scan, bundle, runner, progress, clock, on_first=on_first).labels


def segmented(
    scan: Volume,
    bundle: Bundle,
    runner: Runner,
    progress: Progress = silent,
    clock: Clock | None = None,
    locate: Locate | None = None,
    on_first: OnFirst | None = None,
) -> Segmented:
    """The same with its scores. ``locate`` is another way to find the dental region than the usual one."""
    from ToothTopoSegLib.imaging.resample import crop, resample_linear
    from ToothTopoSegLib.segmentation.arch_prior import follow_arch
    from ToothTopoSegLib.segmentation.decide import drop_specks, gather_teeth
    from ToothTopoSegLib.segmentation.locate import find_region
    from ToothTopoSegLib.segmentation.normalise import grey_scale
    from ToothTopoSegLib.segmentation.occlusion import strike_out
    from ToothTopoSegLib.segmentation.tiling import blend

    clock = clock or Clock()
    if bundle.is_nnunet:
        with clock.step("network"):
            return _segmented_by_nnunet(scan, bundle, runner, progress)
    surface = surface_bundle(bundle)
    with clock.step("resample"):
        progress(0.0, "resampling the scan")
        canonical, unseen = _continued(to_canonical(scan), bundle)
        work = resample_linear(canonical, (bundle.spacing,) * 3)
    with clock.step("locate"):
        box = (locate or find_region)(canonical, work, bundle.patch, runner, part(progress, 0.05, 0.25))
    if box is None:
        return Segmented(from_canonical(np.zeros(canonical.array.shape, np.uint8), scan), None)
    z, y, x = box
    region = crop(work, (z.start, y.start, x.start), (z.stop, y.stop, x.stop))
    with clock.step("network"):
        image = grey_scale(region.array).apply(region.array)
        scores = blend(image, bundle.patch, runner, MIRRORED, OVERLAP, part(progress, 0.45, 0.75))
    with clock.step("labels"):
        strike_out(scores, bundle.spacing)
        gather_teeth(scores, runner.score_scale, bundle.spacing)
        follow_arch(scores, region, runner.score_scale)
        drop_specks(scores, bundle.spacing)
    if surface is None:
        labels, kept = _as_found(scores, region, canonical, runner, clock, part(progress, 0.75, 1.0))
    else:
        if on_first is not None:
            with clock.step("first labels"):
                first = _first_labels(scores, region, canonical)
                first[:, unseen] = 0
                on_first(from_canonical(first, scan))
        progress(0.75, Milestone(f"first labels after {clock.rounded()['total']:.0f} s"))
        labels, kept = _with_surfaces(scores, region, canonical, surface, runner, clock, part(progress, 0.75, 1.0))
    labels[:, unseen] = 0
    return Segmented(from_canonical(labels, scan), kept)


def _continued(scan: Volume, bundle: Bundle) -> tuple[Volume, NDArray[np.bool_]]:
    """A canonical scan, and which of its columns (y, x) it does not show.

    If the network sees all of it at once, those go on as what is beside them. In 17 development phantoms of a quadrant
    the numbers are right in 71 % of the teeth then, and in 58 % with the corners as the file has them; of larger ones
    it makes nothing better.
    """
    from ToothTopoSegLib.imaging.field import continued, unseen_columns

    shape, spacing, patch = scan.array.shape[1:], scan.spacing[1:], bundle.patch[1:]
    small = all(n * s <= p * bundle.spacing for n, s, p in zip(shape, spacing, patch, strict=True))
    unseen = unseen_columns(scan.array) if small else None
    if unseen is None:
        return scan, np.zeros(shape, bool)
    return scan.with_array(continued(scan.array, unseen)), unseen


def _first_labels(
    scores: NDArray[np.float32], region: Volume, canonical: Volume, progress: Progress = silent
) -> NDArray[np.uint8]:
    """Labels on the grid of a scan from the scores of the first network, which stay as they are."""
    from ToothTopoSegLib.segmentation.regrid import labels_on_grid

    return labels_on_grid(scores, region, canonical, class_to_label(), progress)


def _as_found(
    scores: NDArray[np.float32], region: Volume, canonical: Volume, runner: Runner, clock: Clock, progress: Progress
) -> tuple[NDArray[np.uint8], ToothScores]:
    """Labels on the grid of a scan from the scores of the one network, and what is kept of them."""
    from ToothTopoSegLib.segmentation.decide import scores_kept

    with clock.step("labels"):
        labels = _first_labels(scores, region, canonical, progress)
        return labels, scores_kept(scores, runner.score_scale, region)


def _with_surfaces(
    scores: NDArray[np.float32],
    region: Volume,
    canonical: Volume,
    surface: Bundle,
    runner: Runner,
    clock: Clock,
    progress: Progress,
) -> tuple[NDArray[np.uint8], ToothScores]:
    """The same with the surfaces of teeth as a second network draws them."""
    from ToothTopoSegLib.imaging.pieces import give_away_slivers
    from ToothTopoSegLib.segmentation.regrid import close_slits, labels_on_grid, teeth_on_grid
    from ToothTopoSegLib.segmentation.surface import surfaces

    with clock.step("surface"):
        closer = runner.beside(surface)
        nats = scores * np.float32(runner.score_scale)
        found = surfaces(canonical, region, nats, closer, surface.patch, surface.spacing, part(progress, 0.0, 0.6))
    with clock.step("labels"):
        rest = [0, *range(len(TEETH) + 1, len(scores))]
        labels = labels_on_grid(scores[rest], region, canonical, class_to_label()[rest], part(progress, 0.6, 0.8))
        teeth_on_grid(labels, found.tooth, found.number, canonical, part(progress, 0.8, 1.0))
        # interpolation leaves slivers at the seams between teeth
        give_away_slivers(labels, SLIVER_MM3 / canonical.voxel_volume)
        close_slits(labels, canonical.spacing)
        return labels, found.kept()


def _segmented_by_nnunet(scan: Volume, bundle: Bundle, runner: Runner, progress: Progress) -> Segmented:
    from ToothTopoSegLib.segmentation.nnunet_way import fdi_labels, own_labels, preprocessing, segment_nnunet

    values = segment_nnunet(scan, preprocessing(bundle), runner.real_scores, progress)
    return Segmented(scan.with_array(fdi_labels(values, bundle)), None, own_labels(scan.with_array(values), bundle))


def _write_all(
    folder: Path,
    case: str,
    labels: Volume,
    mouth: Mouth,
    report: dict[str, Any],
    findings: list[Any],
    dicom: Source | None,
) -> None:
    from ToothTopoSegLib.evaluation.finding_pictures import finding_pictures
    from ToothTopoSegLib.evaluation.html import write_html
    from ToothTopoSegLib.evaluation.preview import draw_preview
    from ToothTopoSegLib.imaging.segments import write_teeth
    from ToothTopoSegLib.surfaces.display import display_surfaces
    from ToothTopoSegLib.topology.report import write_json

    preview = folder / f"{case}_preview.png"
    assert mouth.scan is not None
    # Compressing label maps leaves the interpreter to the pictures.
    with ThreadPoolExecutor(1) as beside:
        written = [
            beside.submit(write_teeth, labels, *(folder / f"{case}_teeth{end}" for end in (".nii.gz", ".seg.nrrd")))
        ]
        if dicom is not None and labels.array.any():
            written.append(beside.submit(_write_dicom, labels, dicom, folder / f"{case}_teeth.dcm", report["model"]))
        draw_preview(mouth.scan, mouth.labels, findings, preview, case)
        pictures = finding_pictures(mouth.labels, mouth.scan, findings)
        meshes = display_surfaces(mouth.labels)
        for one in written:
            one.result()
    write_html(report, preview, folder / f"{case}_report.html", pictures, meshes, report["measurements"])
    write_json(report, folder / f"{case}_report.json")


def _write_dicom(labels: Volume, source: Source, path: Path, model: dict[str, Any]) -> None:
    from ToothTopoSegLib.imaging.dicom_seg import Maker, write_dicom_seg

    write_dicom_seg(labels, source, path, Maker(str(model["name"]), str(model["version"])))


def segment_to_folder(
    scan: Path,
    out: Path,
    model: Path | None = None,
    device: str = "auto",
    threads: int | None = None,
    progress: Progress = silent,
    repair: bool = False,
) -> dict[str, Any]:
    """Segment the scan file or folder ``scan`` and write all outputs of the contract into ``out``; returns the report.

    Teeth in a DICOM scan are written as a DICOM segmentation too. With ``repair`` what can be mended safely is mended,
    and the report tells what was done.

    Raises InputError (scan), ModelError (bundle), OutputError (folder) or Cancelled; then nothing is left in ``out``.
    """
    from ToothTopoSegLib.imaging.dicom_source import read_source
    from ToothTopoSegLib.imaging.read import is_dicom_scan, read_scan, scan_name
    from ToothTopoSegLib.imaging.write import output_folder
    from ToothTopoSegLib.measurements.table import rows_of
    from ToothTopoSegLib.measurements.teeth import mouth_measured
    from ToothTopoSegLib.segmentation.runner import Runner
    from ToothTopoSegLib.topology.check import check_volume
    from ToothTopoSegLib.topology.repair import repair_all
    from ToothTopoSegLib.topology.repair_file import repairs_of
    from ToothTopoSegLib.topology.report import make_report, peak_rss_mb
    from ToothTopoSegLib.topology.robust import with_robustness

    clock = Clock()
    bundle = load_bundle(model)
    with clock.step("read"):
        progress(0.0, f"reading {scan.name}")
        volume = read_scan(scan)
        dicom = read_source(scan) if is_dicom_scan(scan) else None
    with output_folder(out) as folder:
        with clock.step("load model"):
            runner = Runner(bundle, device, threads)
            if runner.note:
                progress(0.03, runner.note)
        labels, scores, own = segmented(volume, bundle, runner, part(progress, 0.03, 0.88), clock)
        repairs: dict[str, Any] = {}
        if repair:
            with clock.step("repair"):
                result = repair_all(labels, volume, part(progress, 0.88, 0.92))
            labels, findings, mouth, repairs = result.labels, result.findings, result.mouth, repairs_of(result)
        else:
            with clock.step("check"):
                findings, mouth = check_volume(labels, volume, part(progress, 0.88, 0.92))
        if scores is not None:
            with clock.step("robustness"):
                findings = with_robustness(findings, mouth.labels, scores)
        with clock.step("measure"):
            measures = rows_of(mouth_measured(mouth))
        case = scan_name(scan)
        source = {"name": scan.name, "shape_zyx": list(volume.array.shape), "spacing_zyx_mm": list(volume.spacing)}
        report = make_report(
            mouth.labels,
            findings,
            timing_s=clock.rounded(),
            peak_rss_mb=peak_rss_mb(),
            model=bundle.identity,
            input=source,
            topology=mouth.teeth,
        )
        report |= {"measurements": measures} | repairs
        with clock.step("write"):
            progress(0.92, "writing the results")
            _write_all(folder, case, labels, mouth, report, findings, dicom)
            if own is not None:
                own.write(folder, case)
        progress(1.0, "done")
    return report | {"timing_s": clock.rounded(), "peak_rss_mb": peak_rss_mb(), "outputs": str(out)}
