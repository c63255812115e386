"""The tooth-specific topological loss: components, adjacency and holes, each usable alone.

In go scores before the softmax and the true classes of a batch of patches, out come the three terms with the number of
offences they found. For patch s, offences i with weight w_i and voxels v of which the wrong ones number m_i,

    term = mean over s of  sum_i w_i / m_i sum_v -log softmax(scores_v)[truth_v] / max(teeth_s, sum_i w_i)

so that a term is about the share of teeth that are wrong times their cross-entropy, and never more than the
cross-entropy at the offending places however many there are. Without an offence there is nothing in the sum: loss and
gradient are zero, however unsure the network is.

What offends is seen in the labels (argmax) with labelling and the Euler characteristic. Only there persistent homology
is asked which voxels decide, on crops of the scores of the class against its strongest rival, sigmoid(s_c - max s_k),
which is above a half exactly where c wins. The derivative of a loss on births and deaths touches one voxel for each
(X. Hu et al., NeurIPS 2019); here the surroundings of the critical voxel are drawn towards their true class instead,
with persistence as a weight that is held constant. See the three terms for what they take from whom.

On a GPU the host waits twice at most: for the argmax map and, if anything offends, for all crops together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.training.losses.adjacency import adjacency_offences
from ToothTopoSegLib.training.losses.components import component_offences, pieces_of
from ToothTopoSegLib.training.losses.holes import hole_offences
from ToothTopoSegLib.training.losses.places import Offences, Patch, Place, Region, agreeing

if TYPE_CHECKING:
    from torch import Tensor

TERMS = ("components", "adjacency", "holes")
LARGEST = 1e30
_In = TypeVar("_In")
_Out = TypeVar("_Out")


@dataclass(frozen=True)
class TopologyConfig:
    """How heavy the terms are, when they apply and how much they may cost.

    ``components``, ``adjacency`` and ``holes`` are weights, 0 leaves a term out. The loss fades in over ``ramp_steps``
    steps from ``ramp_start`` on and is computed every ``every``-th step. ``radius`` is that of the neighbourhood of a
    critical voxel in voxels; an offence weighs its persistence to the power ``persistence_power`` (0: all the same). A
    region of more than ``largest_roi`` voxels is seen in blocks of voxels by the search for tunnels, and cavities in it
    count without their persistence. The ``most_regions`` largest offences of a kind in a patch are
    looked at, and a bridge is cut in ``cuts`` places. ``workers`` threads share the homology; 1 uses none but the
    caller's.
    """

    components: float = 1.0
    adjacency: float = 1.0
    holes: float = 1.0
    ramp_start: int = 0
    ramp_steps: int = 0
    every: int = 1
    radius: float = 2.0
    persistence_power: float = 1.0
    largest_roi: int = 60_000
    most_regions: int = 24
    cuts: int = 4
    workers: int = 1

    def __post_init__(self) -> None:
        if min(self.components, self.adjacency, self.holes, self.persistence_power, self.ramp_steps) < 0:
            raise ValueError("weights, the persistence's power and the ramp's length cannot be negative")
        if min(self.every, self.largest_roi, self.most_regions, self.cuts, self.workers) < 1 or self.radius < 0:
            raise ValueError("frequency, sizes, counts and workers are at least 1 and the radius at least 0")

    def ramp(self, step: int) -> float:
        """Factor between 0 and 1 of all terms at a step; 0 at the steps that are left out."""
        if step < self.ramp_start or step % self.every:
            return 0.0
        return min(1.0, (step - self.ramp_start + 1) / (self.ramp_steps + 1))


@dataclass(frozen=True)
class TopologyTerms:
    """The terms as scalar tensors with gradient, without weights; ``total`` is their weighted sum on the ramp.

    ``counts`` says how many fragments, splits, contacts, bridges, cavities and tunnels the batch holds; empty at a step
    that is left out.
    """

    components: Tensor
    adjacency: Tensor
    holes: Tensor
    total: Tensor
    counts: dict[str, int] = field(default_factory=dict)

    def __add__(self, other: TopologyTerms) -> TopologyTerms:
        """The terms of two views of the same patches together."""
        return TopologyTerms(
            self.components + other.components,
            self.adjacency + other.adjacency,
            self.holes + other.holes,
            self.total + other.total,
            dict(Counter(self.counts) + Counter(other.counts)),
        )


def topology_loss(scores: Tensor, classes: Tensor, config: TopologyConfig, step: int) -> TopologyTerms:
    """The topological terms of scores (b, c, z, y, x), any float type, and true classes (b, z, y, x), any integer type.

    Class 0 is background, 1..32 are the teeth in the order of :mod:`ToothTopoSegLib.segmentation.classes`. Scores must
    be finite. Raises ValueError for shapes that do not fit together.
    """
    if scores.ndim != 5 or classes.shape != scores.shape[:1] + scores.shape[2:]:
        found = f"{tuple(scores.shape)} and {tuple(classes.shape)}"
        raise ValueError(f"scores and classes have the shapes {found}; expected (b, c, z, y, x) and (b, z, y, x)")
    ramp = config.ramp(step)
    patches = _patches(scores, classes) if ramp and scores.numel() else []
    offences = _shared(_Search(config), patches, config.workers)
    places = _located(scores, patches, offences, config)
    terms = _terms(scores, classes, patches, places)
    weights = scores.new_tensor([config.components, config.adjacency, config.holes], dtype=terms.dtype)
    counts: Counter[str] = Counter()
    for of_patch in offences:
        for term in of_patch.values():
            counts.update(term.counts)
    return TopologyTerms(terms[0], terms[1], terms[2], ramp * (weights * terms).sum(), dict(counts))


@dataclass(frozen=True)
class _Search:
    """The offences of one patch for every term that has a weight."""

    config: TopologyConfig

    def __call__(self, patch: Patch) -> dict[str, Offences]:
        config = self.config
        found: dict[str, Offences] = {}
        pieces = [pieces_of(patch, tooth) for tooth in patch.boxes] if config.components or config.holes else []
        if config.components:
            found["components"] = component_offences(patch, pieces, config)
        if config.adjacency:
            found["adjacency"] = adjacency_offences(patch, config)
        if config.holes:
            found["holes"] = hole_offences(patch, pieces, config)
        return found


def _patches(scores: Tensor, classes: Tensor) -> list[Patch]:
    """Labels found and true, brought to the host in one go."""
    import torch

    with torch.no_grad():
        # of the ways to the best class this one takes half the time where classes are not the innermost axis
        found = scores.detach().max(1).indices.to(torch.uint8)
        both = torch.stack([found, classes.to(torch.uint8)], dim=1).cpu().numpy()
    return [Patch(found, truth) for found, truth in both]


def _located(
    scores: Tensor, patches: Sequence[Patch], offences: Sequence[dict[str, Offences]], config: TopologyConfig
) -> list[dict[str, list[Place]]]:
    """All places of every patch and term, with homology on the regions."""
    jobs = [
        (sample, term, region)
        for sample, terms in enumerate(offences)
        for term, found in terms.items()
        for region in found.regions
    ]
    values = _values(scores, [(sample, region) for sample, _, region in jobs])

    def locate(job: tuple[tuple[int, str, Region], NDArray[np.float32]]) -> list[Place]:
        (sample, _, region), crop = job
        found = patches[sample].found[region.box]
        return region.locate(agreeing(crop.astype(np.float64), (found >= region.first) & (found <= region.last)))

    places = [{term: list(found.places) for term, found in terms.items()} for terms in offences]
    located = _shared(locate, zip(jobs, values, strict=True), config.workers)
    for (sample, term, _), found in zip(jobs, located, strict=True):
        places[sample][term].extend(found)
    return places


def _values(scores: Tensor, regions: Sequence[tuple[int, Region]]) -> list[NDArray[np.float32]]:
    """Sigmoid of a region's classes against all others, on the host in one go."""
    import torch

    if not regions:
        return []
    with torch.no_grad():
        crops = [_against_rivals(scores[(sample, slice(None), *r.box)].float(), r) for sample, r in regions]
        flat = torch.cat([crop.flatten() for crop in crops]).cpu().numpy()
    ends = np.cumsum([region.voxels for _, region in regions])[:-1]
    return [part.reshape(crop.shape) for part, crop in zip(np.split(flat, ends), crops, strict=True)]


def _against_rivals(scores: Tensor, region: Region) -> Tensor:
    import torch

    last = min(region.last, len(scores) - 1)
    own, rivals = scores[region.first : last + 1].amax(0), scores[: region.first].amax(0)
    if last + 1 < len(scores):
        rivals = torch.maximum(rivals, scores[last + 1 :].amax(0))
    return torch.sigmoid(own - rivals)


def _terms(
    scores: Tensor, classes: Tensor, patches: Sequence[Patch], places: Sequence[dict[str, list[Place]]]
) -> Tensor:
    """The three terms (3,) in the precision that is at least float32."""
    import torch
    from torch.nn import functional

    term, sample, voxels, weight = _flattened(patches, places)
    device = scores.device
    z, y, x = (torch.from_numpy(axis).to(device, non_blocking=True) for axis in voxels)
    at = torch.from_numpy(sample).to(device, non_blocking=True)
    picked = scores.movedim(1, -1)[at, z, y, x]
    picked = picked if picked.dtype == torch.float64 else picked.float()
    # the difference of the largest scores of bfloat16 is infinite in float32
    picked = picked.clamp(-LARGEST, LARGEST)
    entropy = functional.cross_entropy(picked, classes[at, z, y, x].long(), reduction="none")
    shares = entropy * torch.from_numpy(weight).to(device, entropy.dtype, non_blocking=True)
    into = torch.from_numpy(term).to(device, non_blocking=True)
    return entropy.new_zeros(len(TERMS)).index_add(0, into, shares) / max(len(scores), 1)


def _flattened(
    patches: Sequence[Patch], places: Sequence[dict[str, list[Place]]]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Term, sample, voxel (3, n) and weight of every voxel that is drawn."""
    rows: list[tuple[int, int, Place, float]] = []
    for sample, (patch, of_terms) in enumerate(zip(patches, places, strict=True)):
        for name, found in of_terms.items():
            share = max(float(len(patch.boxes)), sum(place.weight for place in found))
            rows.extend((TERMS.index(name), sample, place, place.weight / place.wrong / share) for place in found)
    lengths = [len(place.voxels) for _, _, place, _ in rows]
    every = np.concatenate([np.empty((0, 3), dtype=np.int64), *(place.voxels for _, _, place, _ in rows)])
    terms_of, samples = (np.repeat(np.array([row[i] for row in rows], dtype=np.int64), lengths) for i in (0, 1))
    weights = np.repeat(np.array([row[3] for row in rows], dtype=np.float64), lengths)
    return terms_of, samples, np.ascontiguousarray(every.T), weights


def _shared(work: Callable[[_In], _Out], items: Iterable[_In], workers: int) -> list[_Out]:
    """The results in the order of the items, from as many threads."""
    return list(map(work, items) if workers == 1 else _pool(workers).map(work, items))


@lru_cache(maxsize=4)
def _pool(workers: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(workers, "topology")
