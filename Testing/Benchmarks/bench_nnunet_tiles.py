"""What nnU-Net's own predictor takes for a scan with the float twin of the bundled network, from a few of its tiles.

usage: .venv/bin/python Testing/Benchmarks/bench_nnunet_tiles.py SCAN
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from ToothTopoSegLib.imaging.read import read_scan
from ToothTopoSegLib.imaging.volume import Volume
from ToothTopoSegLib.quantization.bundle import Bundle, load_bundle

USUAL_THREADS, NNUNET_TILES = 2, 2


def nnunet_estimate(scan: Volume, model: Path | None = None) -> dict[str, Any]:
    """Seconds that nnU-Net's own predictor takes for a scan with the float twin.

    A few tiles are timed with PyTorch at two threads and multiplied by the number of tiles that its sliding window has
    on the working grid, with its usual half overlap and left and right mirrored.
    """
    from nnunetv2.inference.sliding_window_prediction import compute_steps_for_sliding_window

    bundle = load_bundle(model)
    extent = np.asarray(scan.array.shape) * np.asarray(scan.spacing)
    size = np.maximum(np.rint(extent / bundle.spacing).astype(int), bundle.patch).tolist()
    tiles = int(np.prod([len(s) for s in compute_steps_for_sliding_window(size, bundle.patch, 0.5)]))
    seconds = _seconds_a_tile(bundle)
    return {
        "tiles": tiles,
        "timed_tiles": NNUNET_TILES,
        "seconds_a_tile": round(seconds, 2),
        "seconds": round(tiles * seconds, 1),
        "how": "extrapolated from its tile count",
    }


def _seconds_a_tile(bundle: Bundle) -> float:
    """Median seconds of a tile of nnU-Net's predictor, PyTorch with ``USUAL_THREADS`` threads on the processor."""
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    from ToothTopoSegLib.quantization.export import float_weights_path
    from ToothTopoSegLib.quantization.fold import read_weights
    from ToothTopoSegLib.training.network import Plan, build_network

    network = build_network(Plan.from_dict(bundle.card["plan"]), deep_supervision=False).eval()
    weights = read_weights(float_weights_path(bundle.path))
    network.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()}, strict=False)
    predictor = nnUNetPredictor(device=torch.device("cpu"), use_mirroring=True, perform_everything_on_device=False)
    predictor.network, predictor.allowed_mirroring_axes = network, (2,)
    before, tile, times = torch.get_num_threads(), torch.zeros(1, 1, *bundle.patch), []
    torch.set_num_threads(USUAL_THREADS)
    try:
        with torch.no_grad():
            for _ in range(NNUNET_TILES + 1):
                began = time.perf_counter()
                predictor._internal_maybe_mirror_and_predict(tile)
                times.append(time.perf_counter() - began)
    finally:
        torch.set_num_threads(before)
    return float(np.median(times[1:]))


if __name__ == "__main__":
    print(json.dumps(nnunet_estimate(read_scan(Path(sys.argv[1]))), indent=1))
