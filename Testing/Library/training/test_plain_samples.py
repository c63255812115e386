"""Plain samples stay what they were, because the bundled model was trained on them; see test_plain_scans."""

from __future__ import annotations

import numpy as np
import pytest

from ToothTopoSegLib.training.sampling import draw_sample

PLAIN = {
    0: ([-0.479, 0.29, 0.222, -1.71, 0.558, -1.746, -0.108, -1.467, -1.746], 108216),
    1: ([1.507, -0.922, -0.71, 1.722, -0.366, -0.289, 0.766, -0.284, 0.386], 117051),
    2: ([-1.261, -1.261, -1.261, -1.261, -1.261, -0.26, -1.232, 0.085, 1.159], 51502),
    5: ([0.554, 0.013, 2.007, -0.3, -0.65, 0.606, 0.73, 0.282, 1.297], 183349),
}


@pytest.mark.parametrize("seed", PLAIN)
@pytest.mark.parametrize("named", (False, True))
def test_plain_samples_show_what_they_showed(case, seed, named):
    image, classes = draw_sample(case, np.random.default_rng(seed), (24, 32, 40), 1.25, *(("plain",) if named else ()))
    voxels = image.numpy().ravel()
    assert voxels[:: voxels.size // 9 + 1] == pytest.approx(np.array(PLAIN[seed][0]), abs=0.02)
    assert int(classes.sum()) == pytest.approx(PLAIN[seed][1], rel=1e-3)
