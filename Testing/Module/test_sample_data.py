"""The sample scan as Slicer's module Sample Data gets it."""

from __future__ import annotations

import importlib
import struct
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from Testing.Gui.harness.sample_data import SampleDataLogic


@pytest.fixture
def sample_data(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module under test, with a stand-in for Slicer's translations where they are not installed."""
    translations = ModuleType("slicer.i18n")
    translations.tr = lambda text: text
    monkeypatch.setitem(sys.modules, "slicer.i18n", translations)
    monkeypatch.setitem(sys.modules, "slicer", sys.modules.get("slicer") or ModuleType("slicer"))
    return importlib.import_module("ToothTopoSegGui.sample_data")


@pytest.fixture
def logic(monkeypatch: pytest.MonkeyPatch) -> SampleDataLogic:
    """The stand-in for the logic of Slicer's module Sample Data."""
    logic = SampleDataLogic()
    monkeypatch.setitem(sys.modules, "SampleData", SimpleNamespace(SampleDataLogic=logic))
    return logic


def test_the_sample_is_slicers_dental_cbct_with_its_checksum(sample_data: ModuleType, logic: SampleDataLogic) -> None:
    sample_data.register_sample_data()
    (source,) = logic.sources
    digest = source["checksums"].removeprefix("SHA256:")
    assert len(digest) == 64 and source["uris"].endswith(f"/SHA256/{digest}")
    assert source["uris"].startswith("https://github.com/Slicer/SlicerTestingData/releases/download/")
    assert (source["sampleName"], source["nodeNames"]) == ("DentalCBCT", "PreDentalSurgery")
    assert source["fileNames"] == "PreDentalSurgery.gipl.gz"
    assert set(logic.categories) == {source["category"]}


def test_the_thumbnail_is_a_small_picture_that_ships_with_the_module(
    sample_data: ModuleType, logic: SampleDataLogic
) -> None:
    sample_data.register_sample_data()
    data = Path(str(logic.sources[0]["thumbnailFileName"])).read_bytes()
    assert struct.unpack(">II", data[16:24]) == (260, 280) and len(data) < 100_000


def test_registering_twice_shows_one_sample(sample_data: ModuleType, logic: SampleDataLogic) -> None:
    sample_data.register_sample_data()
    sample_data.register_sample_data()
    assert len(logic.sources) == 1


def test_a_slicer_that_knows_no_titles_of_categories_gets_the_sample(
    sample_data: ModuleType, logic: SampleDataLogic, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = SimpleNamespace(registerCustomSampleDataSource=logic.registerCustomSampleDataSource)
    monkeypatch.setitem(sys.modules, "SampleData", SimpleNamespace(SampleDataLogic=older))
    sample_data.register_sample_data()
    assert len(logic.sources) == 1 and not logic.categories
