"""The sample scan of this module in Slicer's module Sample Data: a real dental CBCT, downloaded when it is asked for.

The scan is the first of Slicer's own pair "CBCTDentalSurgery", from Slicer's store, with its checksum; here it can be
had alone. Sources: Slicer's SampleData and the registration in its template of a scripted module.
"""

from __future__ import annotations

from pathlib import Path

from slicer.i18n import tr as _

CATEGORY = "ToothTopoSeg"
SAMPLE = "DentalCBCT"
NODE = "PreDentalSurgery"
SHA256 = "7bfa16945629c319a439f414cfb7edddd2a97ba97753e12eede3b56a0eb09968"
STORE = "https://github.com/Slicer/SlicerTestingData/releases/download/SHA256/"


def register_sample_data() -> None:
    """Add the sample to the module Sample Data; to be called when Slicer has started, as often as one likes."""
    import SampleData

    logic = SampleData.SampleDataLogic
    if hasattr(logic, "registerCustomSampleDataCategory"):  # newer than Slicer 5.10; before, the name is the title
        logic.registerCustomSampleDataCategory(CATEGORY, title=_("ToothTopoSeg"))
    logic.registerCustomSampleDataSource(
        category=CATEGORY,
        sampleName=SAMPLE,
        uris=f"{STORE}{SHA256}",
        fileNames=f"{NODE}.gipl.gz",
        nodeNames=NODE,
        checksums=f"SHA256:{SHA256}",
        thumbnailFileName=str(Path(__file__).resolve().parent.parent / "Resources" / "Icons" / f"{SAMPLE}.png"),
    )
