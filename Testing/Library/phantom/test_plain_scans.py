"""Plain scans stay what they were: published figures rest on them, and the bundled model learned from such scans.

Voxels spread over each scan are compared within one grey value, because processors round sums differently; any other
order of random numbers would change all of them.
"""

from __future__ import annotations

import numpy as np
import pytest

from ToothTopoSegLib.phantom import write
from ToothTopoSegLib.phantom.write import Phantom, make_hard_view, make_phantom

PLAIN = {
    (3, False): ([450, 615, 750, 728, 697, 779, 807, 616, 863, 763, 613, 589, 742, 450, 932, 839], 662981),
    (4, True): ([-752, 954, 275, 735, -752, 748, 331, 718, -752, 1093, 314, 395, -743, 460, 282, 326], 811480),
}
PLAIN_VIEW = ([1982, 958, 1033, 297, 2097, 16, 168, 745, 1231, 809, 899, 960, 1247, 827, 911, 928], 194429)


def assert_shows(phantom: Phantom, voxels: list[int], labels: int) -> None:
    scan = phantom.scan.array.ravel()
    assert scan[:: scan.size // 16 + 1] == pytest.approx(np.array(voxels), abs=1)
    assert phantom.labels.array.sum(dtype=np.int64) == pytest.approx(labels, rel=1e-3)


@pytest.mark.parametrize(("seed", "hard"), PLAIN)
def test_plain_phantoms_show_what_they_showed(monkeypatch, seed, hard):
    monkeypatch.setattr(write, "LARGEST_VOXELS", 40_000)
    assert_shows(make_phantom(seed, hard), *PLAIN[seed, hard])
    assert_shows(make_phantom(seed, hard, "plain"), *PLAIN[seed, hard])


def test_plain_views_of_both_jaws_show_what_they_showed():
    assert_shows(make_hard_view(5, (20, 40, 40), 1.0), *PLAIN_VIEW)
