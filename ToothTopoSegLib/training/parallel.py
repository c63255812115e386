"""Several processes, on one machine or many, that learn as one: what ``torchrun`` starts.

In: the environment variables ``torchrun`` sets. Out: a :class:`Group` that knows which process this is, where it
computes, and how all of them agree. Without ``torchrun`` there is one process and nothing opens a socket. Gradients are
averaged by torch's DistributedDataParallel, over gloo on CPUs and nccl on GPUs.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

PATIENCE = timedelta(hours=6)
"""How long processes wait for each other: the first one reads, validates and writes for all."""


@dataclass(frozen=True)
class Group:
    """This process among all: its ``rank`` of ``size``, and the torch device it computes on."""

    rank: int = 0
    size: int = 1
    device: str = "cpu"

    @property
    def first(self) -> bool:
        """Whether this is the process that reads, writes and speaks."""
        return self.rank == 0

    def agree(self, value: float) -> float:
        """The value of the first process, in all of them; waits until it is told."""
        import torch

        if self.size == 1:
            return value
        told = torch.tensor([value], dtype=torch.float64, device=self.device)
        torch.distributed.broadcast(told, 0)
        return float(told)

    def joined(self, network: nn.Module) -> nn.Module:
        """The network as it is called in training: its gradients become the means over all processes."""
        if self.size == 1:
            return network
        from torch.nn.parallel import DistributedDataParallel

        # The coarsest head of deep supervision is in no loss; ranges and statistics are the same in all processes.
        joined: nn.Module = DistributedDataParallel(network, find_unused_parameters=True, broadcast_buffers=False)
        return joined


def rank() -> int:
    """Which of the processes of ``torchrun`` this is, 0 without it."""
    return int(os.environ.get("RANK", "0"))


@contextlib.contextmanager
def group(device: str) -> Iterator[Group]:
    """The processes that learn together while the block runs; ``device`` is ``cpu`` or ``cuda``."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Group(device=device)
        return
    import torch

    if device == "cuda":
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        torch.cuda.set_device(device)
    torch.distributed.init_process_group("gloo" if device == "cpu" else "nccl", timeout=PATIENCE)
    try:
        yield Group(rank(), size, device)
    finally:
        torch.distributed.destroy_process_group()


def hush() -> None:
    """Let nothing that this process says be seen: the first process speaks for all."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    os.close(nowhere)
