"""Fine-tuning under torchrun: two processes learn what one learns from the same batch, and one of them speaks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from Testing.Library.training.user_data import write_pair, write_two_networks
from ToothTopoSegLib.training.finetune_run import CHECKPOINT, SURFACE_CHECKPOINT, run_folder
from ToothTopoSegLib.training.parallel import Group, group, rank

ROOT = Path(__file__).resolve().parents[3]


def command(launcher: list[str], cases: Path, out: Path, model: Path) -> subprocess.CompletedProcess[str]:
    words = ["-m", "ToothTopoSegLib.cli", "finetune", str(cases), "-o", str(out), "--model", str(model), "--json"]
    words += ["--device", "cpu", "--steps", "3", "--batch", "2", "--rate", "0.003", "--held-out", "0.3"]
    # In bfloat16 the sums of two processes differ by more than what is compared here.
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "ATEN_CPU_CAPABILITY": "avx2"}
    return subprocess.run([sys.executable, *launcher, *words], env=environment, capture_output=True, text=True)


def weights(out: Path, checkpoint: str) -> dict[str, Any]:
    kept = torch.load(run_folder(out) / checkpoint, weights_only=True)["network"]
    return {name: value for name, value in kept.items() if torch.is_tensor(value)}


@pytest.fixture(scope="module")
def both(tmp_path_factory) -> list[tuple[Path, subprocess.CompletedProcess[str]]]:
    """Bundle and ended command of one process, and of two."""
    folder = tmp_path_factory.mktemp("parallel")
    model = write_two_networks(folder / "model")
    for number, name in enumerate("abc"):
        write_pair(folder / "cases", name, number)
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    outs = [folder / "one.onnx", folder / "two.onnx"]
    launchers = [[], torchrun]
    return [
        (out, command(launcher, folder / "cases", out, model)) for out, launcher in zip(outs, launchers, strict=True)
    ]


@pytest.mark.parametrize("checkpoint", [CHECKPOINT, SURFACE_CHECKPOINT])
def test_two_processes_learn_what_one_learns_from_the_same_batch(checkpoint, both):
    assert [ended.returncode for _, ended in both] == [0, 0], both[1][1].stderr
    one, two = (weights(out, checkpoint) for out, _ in both)
    for name, value in one.items():
        # Where a gradient vanishes Adam makes steps of its rounding: a hundredth of what three steps move a weight.
        assert torch.allclose(value, two[name], rtol=1e-3, atol=1e-4), name


def test_the_first_process_alone_speaks_and_writes(both):
    out, ended = both[1]
    report = json.loads(ended.stdout)
    assert report["steps"] == report["surface"]["steps"] == 3 and Path(report["bundle"]) == out
    assert ended.stderr.count("case      a:") == 1


def test_without_torchrun_there_is_one_process_and_no_connection(monkeypatch):
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    with group("cpu") as alone:
        assert alone == Group() and alone.first and rank() == 0 and alone.agree(3.5) == 3.5
        assert not torch.distributed.is_initialized()
        network = torch.nn.Linear(1, 1)
        assert alone.joined(network) is network
