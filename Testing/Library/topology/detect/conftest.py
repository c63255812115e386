"""Fixtures shared by the tests of the detectors: a clean phantom."""

from __future__ import annotations

import pytest

from Testing.Library.topology.drawings import phantom_teeth
from ToothTopoSegLib.imaging.volume import Volume
from ToothTopoSegLib.topology.mouth import Mouth
from ToothTopoSegLib.topology.shape import whole


@pytest.fixture(scope="session")
def clean() -> Volume:
    return phantom_teeth(314, (0.5, 0.5, 0.5))


@pytest.fixture(scope="session")
def present(clean: Volume) -> set[int]:
    """The teeth that stand in the view as a whole."""
    return set(whole(Mouth(clean)))
