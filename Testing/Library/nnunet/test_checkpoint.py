"""Checkpoints are read without trusting them."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from Testing.Library.nnunet.models import Variant, checkpoint_of
from ToothTopoSegLib.errors import ModelError
from ToothTopoSegLib.nnunet.checkpoint import read_checkpoint


class Planted:
    """Unpickling this makes a file."""

    def __init__(self, made: Path) -> None:
        self.made = made

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch '{self.made}'",)


def state() -> dict[str, torch.Tensor]:
    return {
        "encoder.a.conv.weight": torch.ones(2, dtype=torch.float16),
        "encoder.a.all_modules.0.weight": torch.ones(2),
    }


@pytest.mark.parametrize("way", ["torch's zip", "torch's old form", "a bare pickle"])
def test_a_program_in_a_checkpoint_is_not_run(way, tmp_path):
    path, made = tmp_path / "checkpoint_final.pth", tmp_path / "made"
    content = checkpoint_of(Variant(), state()) | {"logging": Planted(made)}
    if way == "a bare pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=way == "torch's zip")
    with pytest.raises(ModelError, match="could run a program; it was not read"):
        read_checkpoint(path)
    assert not made.exists()


def test_the_planted_program_would_have_run(tmp_path):
    pickle.loads(pickle.dumps(Planted(tmp_path / "made")))
    assert (tmp_path / "made").exists()


def test_numpy_numbers_in_the_log_are_read(tmp_path):
    content = checkpoint_of(Variant(batch_norm=True, mirror=(0, 2)), state())
    content["logging"]["more"] = [np.int64(1), np.arange(3.0)]
    torch.save(content, tmp_path / "c.pth")
    found = read_checkpoint(tmp_path / "c.pth")
    assert (found.trainer, found.configuration, found.mirror_axes) == ("nnUNetTrainerBN", "3d_fullres", (0, 2))


def test_weights_are_named_once_and_without_what_wrappers_put_before_them(tmp_path):
    wrapped = {f"module._orig_mod.{name}": value for name, value in state().items()}
    wrapped["module.decoder.encoder.a.conv.weight"] = torch.zeros(2)
    torch.save(checkpoint_of(Variant(), wrapped), tmp_path / "c.pth")
    weights = read_checkpoint(tmp_path / "c.pth").weights
    assert list(weights) == ["encoder.a.conv.weight"] and weights["encoder.a.conv.weight"].dtype == np.float32


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 cut off"])
def test_a_damaged_file_is_told(content, tmp_path):
    (tmp_path / "c.pth").write_bytes(content)
    with pytest.raises(ModelError):
        read_checkpoint(tmp_path / "c.pth")


def test_a_checkpoint_of_something_else_is_told(tmp_path):
    torch.save({"state_dict": state()}, tmp_path / "c.pth")
    with pytest.raises(ModelError, match="no checkpoint of nnU-Net v2"):
        read_checkpoint(tmp_path / "c.pth")
