"""The joint objective: cross-entropy and Dice, a regulariser of the quantization, and the topological loss.

    total = segmentation + w_q quantization + ramp (w_c components + w_a adjacency + w_h holes)

*Segmentation* is nnU-Net's deep supervision of :mod:`ToothTopoSegLib.training.losses.overlap`, on scores that SCNP may
have penalised first. *Quantization* comes as a function without arguments, because it looks at weights and not at
scores. *Topology* looks at the finest output alone: at half the resolution thin walls and gaps are gone, and the truth
has another topology there. Every term comes back for a log.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ToothTopoSegLib.training.losses.by_tooth import by_tooth
from ToothTopoSegLib.training.losses.overlap import (
    class_dice,
    coarser,
    deep_supervision_loss,
    group_dice,
    numbering_loss,
)
from ToothTopoSegLib.training.losses.places import FIRST_TOOTH, LAST_TOOTH
from ToothTopoSegLib.training.losses.scnp import penalised
from ToothTopoSegLib.training.losses.topology import TopologyConfig, TopologyTerms, topology_loss

if TYPE_CHECKING:
    from torch import Tensor

COUNTS = ("fragments", "splits", "contacts", "bridges", "cavities", "tunnels")
LOG_COLUMNS = (
    *("total", "segmentation", "quantization", "topology", "components", "adjacency", "holes"),
    *("cross_entropy", "class_dice", "tooth_dice", "numbering"),
    *COUNTS,
)
"""Keys of :meth:`ObjectiveTerms.row`."""


@dataclass(frozen=True)
class Objective:
    """Which terms there are and how heavy they are; a value, with nothing in it that learns.

    ``topology`` holds the weights of its terms, None leaves all of them out. ``quantization`` is the weight of the
    regulariser. ``scnp`` is the window of Same-Class Neighbour Penalization in voxels, 1 for none.
    """

    topology: TopologyConfig | None = None
    quantization: float = 1.0
    scnp: int = 1

    def __call__(
        self,
        outputs: Sequence[Tensor],
        classes: Tensor,
        step: int,
        numbering: float = 0.0,
        regulariser: Callable[[], Tensor] | None = None,
        teeth: Tensor | None = None,
    ) -> ObjectiveTerms:
        """The terms of a network's outputs, the finest first, and true classes (b, z, y, x) at a step.

        ``outputs`` and ``numbering`` are as in :func:`~ToothTopoSegLib.training.losses.overlap.deep_supervision_loss`.
        ``teeth`` (b, z, y, x) are the true classes of the teeth where ``classes`` tell only their core and border.
        """
        target = classes.long()
        # the coarsest of several outputs is not used
        used = list(outputs[:-1]) if len(outputs) > 1 else list(outputs)
        seen = [penalised(scores, coarser(target, i), self.scnp) for i, scores in enumerate(used)]
        segmentation = deep_supervision_loss([*seen, *outputs[len(used) :]], target, numbering)
        nothing = segmentation.new_zeros(())
        quantization = regulariser() if regulariser is not None and self.quantization else nothing
        topology = None if self.topology is None else _topology(outputs[0], classes, teeth, self.topology, step)
        total = segmentation + self.quantization * quantization
        if topology is not None:
            total = total + topology.total
        return ObjectiveTerms(total, segmentation, quantization, topology, outputs[0].detach(), target)


def _topology(
    scores: Tensor, classes: Tensor, teeth: Tensor | None, config: TopologyConfig, step: int
) -> TopologyTerms:
    if teeth is None:
        return topology_loss(scores, classes, config, step)
    whole, cores = (topology_loss(*seen, config, step) for seen in by_tooth(scores, classes, teeth))
    return whole + cores


@dataclass(frozen=True)
class ObjectiveTerms:
    """The ``total`` to minimise and what it consists of, each a scalar tensor; ``topology`` is None if left out."""

    total: Tensor
    segmentation: Tensor
    quantization: Tensor
    topology: TopologyTerms | None
    scores: Tensor = field(repr=False)
    classes: Tensor = field(repr=False)

    def row(self) -> dict[str, float]:
        """All terms as numbers by the names of ``LOG_COLUMNS``; waits for the device, so ask now and then only.

        Cross-entropy, Dice of the classes and of all teeth together, and the numbering loss are those of the finest
        output, each as it stands without weight and without SCNP. Topological terms are missing at a step they leave
        out.
        """
        values = {"total": self.total, "segmentation": self.segmentation, "quantization": self.quantization}
        if self.topology is not None and self.topology.counts:
            values |= {name: getattr(self.topology, name) for name in ("components", "adjacency", "holes")}
            values["topology"] = self.topology.total
        row = {name: float(value.detach()) for name, value in values.items()}
        row |= segmentation_terms(self.scores, self.classes)
        row |= self.topology.counts if self.topology is not None else {}
        return {name: row[name] for name in LOG_COLUMNS if name in row}


def segmentation_terms(scores: Tensor, classes: Tensor) -> dict[str, float]:
    """Cross-entropy, class Dice, tooth Dice and numbering loss of scores (b, c, z, y, x), means over the patches."""
    import torch
    from torch.nn import functional

    with torch.no_grad():
        rows = []
        for sample, truth in zip(scores.float().flatten(2), classes.flatten(1), strict=True):
            probability = sample.softmax(0)
            rows.append(
                torch.stack(
                    [
                        functional.cross_entropy(sample.t(), truth),
                        class_dice(probability, truth),
                        group_dice(probability, truth, FIRST_TOOTH, LAST_TOOTH),
                        numbering_loss(sample, truth, FIRST_TOOTH, LAST_TOOTH),
                    ]
                )
            )
        means = torch.stack(rows).mean(0).tolist()
    return dict(zip(("cross_entropy", "class_dice", "tooth_dice", "numbering"), means, strict=True))
