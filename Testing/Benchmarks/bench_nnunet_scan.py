"""A whole scan by ``./toothtopo segment`` and by nnU-Net's own predictor with the same float network.

usage: .venv/bin/python Testing/Benchmarks/bench_nnunet_scan.py SCAN [--threads N] [--axes 2 | --axes 0 1 2]

nnU-Net gets the float weights of the bundled first network as a folder of its own making (``bench_import.py``) and does
what it does for any scan: crop, resample, sliding window with half overlap, mirrored along ``--axes``, class scores
resampled to the scan, labels. Axis 2 alone is left and right, which ours is mirrored along too; all three are what
nnU-Net mirrors along unless a trainer says otherwise. Ours does its second network, the check, the measures and the
report page besides. Each runs in a process of its own on the same threads; times are of whole processes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
from bench_import import ROOT, nnunet_network, write_model


def by_nnunet(model: Path, scan: Path, threads: int, axes: tuple[int, ...]) -> dict[str, Any]:
    """Seconds that the parts of nnU-Net's prediction take, and how many tiles there are."""
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    torch.set_num_threads(threads)
    network, manager, configuration, dataset, state = nnunet_network(model)
    predictor = nnUNetPredictor(device=torch.device("cpu"), perform_everything_on_device=False, allow_tqdm=False)
    predictor.manual_initialization(network, manager, configuration, [state], dataset, "nnUNetTrainerBN", axes)
    spent: dict[str, Any] = {"tiles": 0}
    window, tile = predictor.predict_logits_from_preprocessed_data, predictor._internal_maybe_mirror_and_predict

    def timed(data: Any) -> Any:
        began = time.perf_counter()
        logits = window(data)
        spent["network"] = round(time.perf_counter() - began, 1)
        return logits

    def counted(patch: Any) -> Any:
        spent["tiles"] += 1
        return tile(patch)

    predictor.predict_logits_from_preprocessed_data = timed
    predictor._internal_maybe_mirror_and_predict = counted
    began = time.perf_counter()
    image, properties = manager.image_reader_writer_class().read_images([str(scan)])
    predictor.predict_single_npy_array(image, properties)
    return {"prediction": round(time.perf_counter() - began, 1), **spent}


def measured(command: list[str], threads: int) -> dict[str, Any]:
    """Wall-clock seconds and peak memory of a command, and what it printed last if those are parts of its time."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(threads)}
    with tempfile.TemporaryFile("w+") as said:
        began = time.perf_counter()
        process = subprocess.Popen(command, env=environment, stdout=said)
        _, status, usage = os.wait4(process.pid, 0)  # unlike wait() it tells the memory of this process alone
        seconds = time.perf_counter() - began
        said.seek(0)
        last = said.read().strip().splitlines()[-1:]
    if status:
        raise SystemExit(f"{' '.join(command)} failed.")
    parts = json.loads(last[0]) if last and last[0].startswith('{"prediction"') else {}
    return {"seconds": round(seconds, 1), "megabytes": usage.ru_maxrss // 1024, **parts}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scan", type=Path, metavar="SCAN")
    parser.add_argument("--threads", type=int, default=2, metavar="N")
    parser.add_argument("--axes", type=int, nargs="+", default=[2], metavar="AXIS", help="axes nnU-Net mirrors along")
    parser.add_argument("--model", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.model is not None:
        print(json.dumps(by_nnunet(args.model, args.scan, args.threads, tuple(args.axes))))
        return
    with tempfile.TemporaryDirectory() as folder:
        model = write_model(Path(folder) / "model", batch_norm=True)
        ours = [sys.executable, "-m", "ToothTopoSegLib", "segment", str(args.scan), "-o", f"{folder}/ours"]
        theirs = [sys.executable, __file__, str(args.scan), "--model", str(model), "--threads", str(args.threads)]
        theirs += ["--axes", *map(str, args.axes)]
        found = {"ours": measured(ours, args.threads), "nnunetv2": measured(theirs, args.threads)}
    ratio = found["nnunetv2"]["seconds"] / found["ours"]["seconds"]
    print(json.dumps({**found, "mirrored along": args.axes, "times as fast": round(ratio, 1)}, indent=1))


if __name__ == "__main__":
    main()
