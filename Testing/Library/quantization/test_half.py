"""Half precision changes next to nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from Testing.Library.quantization.tiny import TINY, tiny_network, write_bundle
from ToothTopoSegLib.evaluation.overlap import dice
from ToothTopoSegLib.quantization.bundle import load_bundle
from ToothTopoSegLib.quantization.export import float_bundle
from ToothTopoSegLib.quantization.half import half_bundle
from ToothTopoSegLib.segmentation.runner import Runner


def test_classes_in_half_precision_are_those_in_single_precision(tmp_path: Path) -> None:
    bundle = load_bundle(write_bundle(tmp_path, tiny_network()))
    patch = np.random.default_rng(0).normal(size=TINY.patch).astype(np.float32)
    half, single = Runner(half_bundle(bundle), threads=1), Runner(float_bundle(bundle), threads=1)
    assert half.score_scale == 1.0 and half(patch).dtype == np.float32
    ours, theirs = half(patch).argmax(0), single(patch).argmax(0)
    assert len(np.unique(theirs)) > 10
    assert (ours == theirs).mean() > 0.99
    teeth = [((classes > 0) & (classes < 33)).astype(np.uint8) for classes in (ours, theirs)]
    assert dice(*teeth, 1) > 0.999
