"""Small cases and one thread: training tests render one coarse head and use it as every case of the cache."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ToothTopoSegLib.training import cases


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Sums over several threads differ from run to run, and a test machine has other things to do."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def case() -> NDArray[np.uint8]:
    """A case (2, z, y, x) of the full size, rendered at four times the spacing; never write to it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cases, "CASE_SHAPE", tuple(n // 4 for n in cases.CASE_SHAPE))
        patch.setattr(cases, "CASE_SPACING", cases.CASE_SPACING * 4)
        coarse = np.stack(cases.make_case(3))
    return coarse.repeat(4, axis=1).repeat(4, axis=2).repeat(4, axis=3)


@pytest.fixture
def cheap_cases(case: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Cases cost nothing in this test; the list holds the numbers of those that were made."""
    made: list[int] = []

    def make(number: int, natural: bool = False, fine: bool = False) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        made.append(number)
        return case[0], case[1]

    monkeypatch.setattr(cases, "make_case", make)
    return made


@pytest.fixture(scope="session")
def cache(case: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the cases 0, 1, 900 and 1000."""
    folder = tmp_path_factory.mktemp("cases")
    for number in (0, 1, 900, 1000):
        np.save(cases.case_path(folder, number), case)
    return folder
