"""Findings as a DICOM structured report beside the scan: a measurement group for each.

In: the report of the contract and the scan's headers. Out: a Comprehensive 3D SR after TID 1500 (Measurement Report),
in which each finding has its kind, severity and evidence, the teeth by their SNOMED CT codes, its place as a point in
the frame of reference of the scan, and its size. DICOM has no codes for kinds of topological errors: those are in a
coding scheme of this program. Source: DICOM PS3.16, TID 1500 and TID 1411.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ToothTopoSegLib import __version__
from ToothTopoSegLib.anatomy.snomed import Code, code_of
from ToothTopoSegLib.imaging.dicom_seg import PRODUCT, coded
from ToothTopoSegLib.imaging.dicom_source import Source, lenient
from ToothTopoSegLib.imaging.write import replacing

SCHEME = "99TOOTHTOPOSEG"
_SEVERITY = Code(SCHEME, "severity", "Severity")


def write_structured_report(report: Mapping[str, Any], source: Source, path: Path) -> None:
    """Write the findings of ``report`` (schema toothtoposeg.report/1) on the scan ``source``.

    Raises OutputError when the file cannot be written.
    """
    import highdicom

    with lenient(), replacing(path, ".dcm") as temporary:
        document = highdicom.sr.Comprehensive3DSR(
            evidence=list(source.images),
            content=_content(report, source)[0],
            series_instance_uid=highdicom.UID(),
            series_number=301,
            sop_instance_uid=highdicom.UID(),
            instance_number=1,
            manufacturer=PRODUCT,
            is_complete=True,
            series_description="Findings in the teeth",
        )
        document.save_as(temporary)


def _content(report: Mapping[str, Any], source: Source) -> Any:
    from highdicom import sr
    from pydicom.sr.codedict import codes
    from pydicom.uid import generate_uid

    uid = generate_uid(entropy_srcs=[PRODUCT])
    device = sr.DeviceObserverIdentifyingAttributes(uid=uid, name=PRODUCT, model_name=f"{PRODUCT} {__version__}")
    observer = sr.ObserverContext(observer_type=codes.DCM.Device, observer_identifying_attributes=device)
    return sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=observer),
        procedure_reported=codes.LN.CTUnspecifiedBodyRegion,
        imaging_measurements=[_group(finding, source) for finding in report["findings"]] or None,
        title=codes.DCM.ImagingMeasurementReport,
    )


def _group(finding: Mapping[str, Any], source: Source) -> Any:
    """The measurement group of one finding."""
    import highdicom
    from highdicom import sr
    from pydicom.sr.codedict import codes

    kind, severity = (coded(Code(SCHEME, finding[name], finding[name].capitalize())) for name in ("kind", "severity"))
    size = sr.Measurement(codes.SCT.Volume, float(finding["size_mm3"]), codes.UCUM.CubicMillimeter)
    images = [
        sr.SourceImageForSegmentation(image.SOPClassUID, image.SOPInstanceUID) for image in _nearest(finding, source)
    ]
    surface = sr.VolumeSurface(
        "POINT", np.array([finding["position_lps_mm"]], float), source.frame_of_reference, source_images=images
    )
    return sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(highdicom.UID(), f"{finding['id']}: {finding['evidence']}"[:200]),
        referenced_volume_surface=surface,
        finding_type=kind,
        finding_sites=[sr.FindingSite(coded(code_of(tooth))) for tooth in finding["teeth"]] or None,
        measurements=[size],
        qualitative_evaluations=[sr.QualitativeEvaluation(coded(_SEVERITY), severity)],
    )


def _nearest(finding: Mapping[str, Any], source: Source) -> list[Any]:
    """The image that a finding lies on, or next to where it lies outside."""
    if len(source.images) == 1:
        return list(source.images)
    k = float(source.grid.lps_to_index(np.asarray(finding["position_lps_mm"]))[0])
    return [source.images[int(np.clip(round(k), 0, len(source.images) - 1))]]
