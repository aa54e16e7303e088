"""Neuron merging without data (Srinivas & Babu 2015), and the baselines that only delete."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from effml.compression.silencing import Differs, Likeness
from effml.compression.surface import Job, Outcome, compressor

Choice = Callable[..., tuple[torch.Tensor, torch.Tensor]]


@dataclass
class Pair:
    """A layer whose units may go, the one they feed, and whether what lies between is homogeneous: f(c·x) = c·f(x) for c > 0."""

    name: str
    layer: nn.Module
    next_name: str
    after: nn.Module
    homogeneous: bool
    positions: (
        int  # inputs of the next layer per unit: above 1 where a convolution is flattened before it
    )

    def incoming(self) -> torch.Tensor:
        """(n, d + 1) float64: each unit's weights, its bias last."""
        weight = self.layer.weight.detach().double().flatten(1)
        bias = (
            weight.new_zeros(len(weight))
            if self.layer.bias is None
            else self.layer.bias.detach().double()
        )
        return torch.cat([weight, bias[:, None]], 1)

    def outgoing(self) -> torch.Tensor:
        """(n, m) float64: what the next layer multiplies each unit with, over its units (and positions)."""
        weight = self.after.weight.detach().double()
        return weight.unflatten(1, (-1, self.positions)).transpose(0, 1).flatten(1)

    def scale(self) -> torch.Tensor:
        """(n,) the norm α of each unit's weights that moves on through a homogeneous activation; 1 elsewhere and for norm 0."""
        norm = self.incoming()[:, :-1].norm(dim=1)
        return torch.where(norm > 0, norm, 1.0) if self.homogeneous else torch.ones_like(norm)

    def shrink(self, kept: torch.Tensor, outgoing: torch.Tensor) -> None:
        """Leave units `kept` (k,) in place, with `outgoing` (k, m)."""
        layer, after, inputs = self.layer, self.after, len(kept) * self.positions
        layer.weight = nn.Parameter(layer.weight.detach()[kept].clone())
        if layer.bias is not None:
            layer.bias = nn.Parameter(layer.bias.detach()[kept].clone())
        shape = (len(after.weight), inputs, *after.weight.shape[2:])
        moved = outgoing.unflatten(1, (len(after.weight), -1)).transpose(0, 1).reshape(shape)
        after.weight = nn.Parameter(moved.to(after.weight).contiguous())
        setattr(
            layer, "out_features" if isinstance(layer, nn.Linear) else "out_channels", len(kept)
        )
        setattr(after, "in_features" if isinstance(after, nn.Linear) else "in_channels", inputs)


def saliencies(incoming: torch.Tensor, outgoing: torch.Tensor) -> torch.Tensor:
    """(n, n): entry i, j is s_ij = ⟨a_j²⟩ ‖W_i − W_j‖², the price of unit j if i takes over its outgoing weights a_j (Srinivas &
    Babu 2015, eq. 5; ⟨·⟩ is the mean over the next layer); infinite on the diagonal."""
    return squared_distances(incoming) * outgoing.square().mean(1)


def squared_distances(rows: torch.Tensor) -> torch.Tensor:
    """(n, n) of rows (n, d), infinite on the diagonal. By a matrix product: in float64 its round-off is 1e-16 of the squared
    norms."""
    return (
        torch.cdist(rows, rows, compute_mode="use_mm_for_euclid_dist")
        .square()
        .fill_diagonal_(torch.inf)
    )


def merge_down(
    incoming: torch.Tensor, outgoing: torch.Tensor, k: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Merge units, incoming (n, d) and outgoing (n, m), until k are left: the cheapest pair at a time, j into i: a_i += a_j.

    Returns the units kept (k,) in their order, their outgoing weights (k, m) and the saliency of each step (n − k,). A step
    changes one factor only, ⟨a_i²⟩; so nearest neighbours among the units left are remembered, and found anew for those whose
    nearest has gone.
    """
    import numpy as np

    distances, moved = (
        squared_distances(incoming).cpu().numpy(),
        outgoing.cpu().numpy().copy(),
    )  # many tiny steps: NumPy
    power = np.square(moved).mean(1)
    near, nearest = (
        distances.min(1),
        distances.argmin(1),
    )  # of each unit j: how far, and which unit i
    left, paid = np.ones(len(power), dtype=bool), []
    for _ in range(len(power) - k):
        price = np.where(left, power * near, np.inf)
        j = int(price.argmin())
        i = int(nearest[j])
        paid.append(float(price[j]))
        moved[i] += moved[j]
        power[i] = np.square(moved[i]).mean()
        left[j], distances[:, j] = False, np.inf  # j is nobody's neighbour from here on
        if len(lost := np.flatnonzero(left & (nearest == j))):
            near[lost], nearest[lost] = distances[lost].min(1), distances[lost].argmin(1)
    kept = torch.from_numpy(np.flatnonzero(left)).to(outgoing.device)
    return (
        kept,
        torch.from_numpy(moved).to(outgoing.device)[kept],
        torch.tensor(paid, dtype=torch.double),
    )


def _merged(pair: Pair, k: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    scale = pair.scale()[:, None]
    kept, outgoing, _ = merge_down(pair.incoming() / scale, pair.outgoing() * scale, k)
    return kept, outgoing / scale[kept]


def _random(pair: Pair, k: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    kept = (
        torch.randperm(len(pair.layer.weight), generator=torch.Generator().manual_seed(seed))[:k]
        .sort()
        .values
    )
    return kept, pair.outgoing()[kept]


def _largest(pair: Pair, k: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    kept = (
        pair.incoming()[:, :-1].norm(dim=1).argsort(descending=True, stable=True)[:k].sort().values
    )
    return kept, pair.outgoing()[kept]


@compressor()
def merge(model: nn.Module, keep: float, job: Job) -> Outcome:
    """Neurons of fully connected hidden layers, the most alike merged, without data (Srinivas & Babu 2015). Each layer keeps
    the fraction `keep` of its neurons, one at least. Needs a plain nn.Sequential; ValueError for what is none."""
    return _remove(model, keep, job, _merged, convolutions=False)


@compressor()
def merge_conv(model: nn.Module, keep: float, job: Job) -> Outcome:
    """`merge` for the channels of convolutions too: a channel's weights are its kernel, its outgoing ones a slice of the next."""
    return _remove(model, keep, job, _merged, convolutions=True)


@compressor()
def merge_random(model: nn.Module, keep: float, job: Job) -> Outcome:
    """Baseline of the paper: random neurons of fully connected hidden layers are deleted, and nothing takes over for them."""
    return _remove(model, keep, job, _random, convolutions=False)


@compressor()
def merge_smallest(model: nn.Module, keep: float, job: Job) -> Outcome:
    """Baseline of the paper: the neurons with the smallest weights (Euclidean norm) are deleted."""
    return _remove(model, keep, job, _largest, convolutions=False)


def _remove(
    model: nn.Module, keep: float, job: Job, choose: Choice, *, convolutions: bool
) -> Outcome:
    layers: dict[str, dict[str, Any]] = {}
    before = after = 0
    if "likeness" not in job.memo:
        job.memo["likeness"] = Likeness(model, job.example)
    likeness: Likeness = job.memo["likeness"]
    trial = deepcopy(likeness.model)  # units are deleted, nothing takes over: is the wiring right?
    both = (pairs(net, convolutions=convolutions) for net in (model, trial))
    for pair, tried in zip(*both):
        n = len(pair.layer.weight)
        k = max(1, round(keep * n))
        kept, outgoing = choose(pair, k, job.seed)
        pair.shrink(kept, outgoing)
        tried.shrink(kept, tried.outgoing()[kept])
        inputs = (kept[:, None] * pair.positions + kept.new_tensor(range(pair.positions))).flatten()
        layers.setdefault(pair.name, {"kind": "cut"})["out"] = kept.tolist()
        layers.setdefault(pair.next_name, {"kind": "cut"})["in"] = inputs.tolist()
        before, after = before + n, after + k
    try:
        likeness.check(trial, layers)
    except Differs as error:
        raise ValueError(
            f"What layer {error.name} reads are not the units of the layer before it, one by one, so none can be merged. Put "
            "nothing between them that mixes units, such as nn.Flatten behind a linear layer on sequences."
        ) from error
    return Outcome(model, after / before, layers)


def data_free_fraction(model: nn.Module, *, share: float = 1.0) -> float:
    """The fraction of neurons to keep that the saliencies themselves propose (Srinivas & Babu 2015), over the fully connected
    hidden layers: merging goes on while a step costs at most `share` times the mode of the histogram of saliencies (for large
    nets the authors take a share of 0.25, 0.5 or 0.75). We take the saliencies of all pairs before the first step, on a log
    axis, as they span decades: on a linear one the fullest bin is the first, wherever it ends."""
    kept = total = 0
    for pair in pairs(model, convolutions=False):
        scale = pair.scale()[:, None]
        incoming, outgoing = pair.incoming() / scale, pair.outgoing() * scale
        costs = merge_down(incoming, outgoing, 1)[2]
        costly = (costs > share * histogram_mode(saliencies(incoming, outgoing))).nonzero()[:, 0]
        removed = int(costly[0]) if len(costly) else len(costs)
        kept, total = kept + len(scale) - removed, total + len(scale)
    return kept / total


def histogram_mode(values: torch.Tensor) -> float:
    """The (geometric) middle of the fullest bin of log values, bins by NumPy's rule "auto"; zeros and infinities are left out."""
    import numpy as np

    usable = values[values.isfinite() & (values > 0)].cpu().numpy()
    if not len(usable):
        return 0.0
    counts, edges = np.histogram(np.log(usable), bins="auto")
    top = int(counts.argmax())
    return float(np.exp(edges[top : top + 2].mean()))


def pairs(model: nn.Module, *, convolutions: bool) -> Iterator[Pair]:
    """The hidden layers of a plain nn.Sequential, front to back, each with the layer it feeds. ValueError for anything else."""
    homogeneous = (
        nn.ReLU,
        nn.LeakyReLU,
        nn.MaxPool2d,
        nn.AvgPool2d,
        nn.AdaptiveAvgPool2d,
        nn.AdaptiveMaxPool2d,
        nn.Flatten,
        nn.Identity,
        nn.Dropout,
        nn.Dropout2d,
    )
    per_unit = (*homogeneous, nn.Tanh, nn.Sigmoid, nn.GELU, nn.SiLU, nn.ELU, nn.ReLU6, nn.Hardswish)
    steps = (
        [(name, layer) for name, layer in model.named_children()]
        if isinstance(model, nn.Sequential)
        else []
    )
    strange = [
        type(layer).__name__
        for _, layer in steps
        if type(layer) not in (*per_unit, nn.Linear, nn.Conv2d)
        or isinstance(layer, nn.Conv2d)
        and layer.groups > 1
    ]
    if not steps or strange:
        why = (
            f"it holds {', '.join(dict.fromkeys(strange))}"
            if strange
            else f"it is a {type(model).__name__}"
        )
        raise ValueError(
            "Neurons are merged in a plain nn.Sequential of linear layers, convolutions, activations and pooling, "
            f"but {why}. Choose lenet5, lenet_srinivas, lenet300_100 or mlp, or prune channels instead."
        )
    where = [
        place for place, (_, layer) in enumerate(steps) if isinstance(layer, (nn.Linear, nn.Conv2d))
    ]
    found = [
        (a, b)
        for a, b in zip(where, where[1:])
        if convolutions or isinstance(steps[a][1], nn.Linear)
    ]
    if not found:
        raise ValueError(
            "This model has no hidden layer to merge neurons in: it needs two linear layers in a row"
            f"{'' if convolutions else ', or merge_conv for convolutions'}."
        )
    for a, b in found:
        (name, layer), (next_name, after) = steps[a], steps[b]
        between = [step for _, step in steps[a + 1 : b]]
        positions = after.weight.shape[1] // len(layer.weight)
        if after.weight.shape[1] != positions * len(layer.weight):
            raise ValueError(
                f"Layer {next_name} takes {after.weight.shape[1]} inputs from {len(layer.weight)} units of layer "
                f"{name}, which is no whole number each. Put nothing between them that mixes units."
            )
        yield Pair(
            name,
            layer,
            next_name,
            after,
            all(isinstance(step, homogeneous) for step in between),
            positions,
        )
