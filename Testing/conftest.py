"""Shared fixtures: the folder of real scans, which the repository does not carry."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# No test may depend on how busy the machine is.
settings.register_profile("toothtopo", deadline=None)
settings.load_profile("toothtopo")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real scans beside the checkout; missing is a failure in CI and a skip elsewhere."""
    folder = Path(os.environ.get("TOOTHTOPO_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        message = f"no real scans at {folder}; set TOOTHTOPO_SHARED_DATA to their folder"
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(message)
        pytest.skip(message)
    return folder
