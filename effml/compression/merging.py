"""Neuron merging without data (Srinivas & Babu 2015), and the baselines that only delete."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import nn

from effml.compression.compressor import Job, Layers, Outcome, compressor
from effml.compression.silencing import Differs, Likeness

HOMOGENEOUS = (
    *(nn.ReLU, nn.LeakyReLU, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d),
    *(nn.AdaptiveMaxPool2d, nn.Flatten, nn.Identity, nn.Dropout, nn.Dropout2d),
)
"""f(c·x) = c·f(x) for c > 0."""
PER_UNIT = (nn.Tanh, nn.Sigmoid, nn.GELU, nn.SiLU, nn.ELU, nn.ReLU6, nn.Hardswish)
LAYERS = (nn.Linear, nn.Conv2d)


@dataclass
class Pair:
    """A layer whose units may go, the one they feed, and whether what lies between is homogeneous.
    `positions`: inputs of the next layer per unit, above 1 where a convolution is flattened."""

    name: str
    layer: nn.Module
    next_name: str
    after: nn.Module
    homogeneous: bool
    positions: int

    def incoming(self) -> torch.Tensor:
        """(n, d + 1) float64: each unit's weights, its bias last."""
        weight, bias = self.layer.weight.detach().double().flatten(1), self.layer.bias
        last = weight.new_zeros(len(weight)) if bias is None else bias.detach().double()
        return torch.cat([weight, last[:, None]], 1)

    def outgoing(self) -> torch.Tensor:
        """(n, m) float64: what the next layer multiplies each unit with."""
        weight = self.after.weight.detach().double()
        return weight.unflatten(1, (-1, self.positions)).transpose(0, 1).flatten(1)

    def scale(self) -> torch.Tensor:
        """(n,) the norm of each unit's weights if a homogeneous activation lets it on, else 1."""
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
        for one, way, size in ((layer, "out", len(kept)), (after, "in", inputs)):
            kind = "features" if isinstance(one, nn.Linear) else "channels"
            setattr(one, f"{way}_{kind}", size)


def saliencies(incoming: torch.Tensor, outgoing: torch.Tensor) -> torch.Tensor:
    """(n, n): s_ij = ⟨a_j²⟩ ‖W_i − W_j‖², the price of unit j if i takes over its outgoing weights
    a_j (Srinivas & Babu 2015, eq. 5; ⟨·⟩ is the mean over the next layer)."""
    return squared_distances(incoming) * outgoing.square().mean(1)


def squared_distances(rows: torch.Tensor) -> torch.Tensor:
    """(n, n) of rows (n, d), infinite on the diagonal."""
    distances = torch.cdist(rows, rows, compute_mode="use_mm_for_euclid_dist")
    return distances.square().fill_diagonal_(torch.inf)


def merge_down(
    incoming: torch.Tensor, outgoing: torch.Tensor, k: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Merge units, incoming (n, d) and outgoing (n, m), until k are left: the cheapest pair at a
    time, j into i: a_i += a_j. Returns the units kept (k,) in their order, their outgoing weights
    (k, m) and the saliency of each step (n − k,). A step changes one factor only, ⟨a_i²⟩; so
    nearest neighbours are found anew only for those whose nearest has gone."""
    import numpy as np

    distances = squared_distances(incoming).cpu().numpy()  # many tiny steps: NumPy
    moved = outgoing.cpu().numpy().copy()
    power = np.square(moved).mean(1)
    near, nearest = distances.min(1), distances.argmin(1)  # of unit j: how far, and which unit i
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
    sums = torch.from_numpy(moved).to(outgoing.device)[kept]
    return kept, sums, torch.tensor(paid, dtype=torch.double)


Choice = Callable[[Pair, int, int], tuple[torch.Tensor, torch.Tensor]]


def _merged(pair: Pair, k: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    scale = pair.scale()[:, None]
    kept, outgoing, _ = merge_down(pair.incoming() / scale, pair.outgoing() * scale, k)
    return kept, outgoing / scale[kept]


def _random(pair: Pair, k: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    order = torch.randperm(len(pair.layer.weight), generator=torch.Generator().manual_seed(seed))
    return (kept := order[:k].sort().values), pair.outgoing()[kept]


def _largest(pair: Pair, k: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    order = pair.incoming()[:, :-1].norm(dim=1).argsort(descending=True, stable=True)
    return (kept := order[:k].sort().values), pair.outgoing()[kept]


@compressor()
def merge(model: nn.Module, keep: float, job: Job) -> Outcome:
    """Neurons of fully connected hidden layers, the most alike merged, without data (Srinivas &
    Babu 2015). Each layer keeps the fraction `keep` of its neurons. Needs a plain nn.Sequential."""
    return _remove(model, keep, job, _merged, convolutions=False)


@compressor()
def merge_conv(model: nn.Module, keep: float, job: Job) -> Outcome:
    """`merge` for the channels of convolutions too: a channel's weights are its kernel, its
    outgoing ones a slice of the next."""
    return _remove(model, keep, job, _merged, convolutions=True)


@compressor()
def merge_random(model: nn.Module, keep: float, job: Job) -> Outcome:
    """Baseline of the paper: random neurons of fully connected hidden layers are deleted, and
    nothing takes over for them."""
    return _remove(model, keep, job, _random, convolutions=False)


@compressor()
def merge_smallest(model: nn.Module, keep: float, job: Job) -> Outcome:
    """Baseline of the paper: the neurons with the smallest weights (Euclidean norm) are deleted."""
    return _remove(model, keep, job, _largest, convolutions=False)


def _remove(
    model: nn.Module, keep: float, job: Job, choose: Choice, *, convolutions: bool
) -> Outcome:
    layers: Layers = {}
    before = after = 0
    likeness = job.once("likeness", lambda: Likeness(model, job.example))
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
            f"What layer {error.name} reads are not the units of the layer before it, one by one. "
            "Put nothing between them that mixes units, such as nn.Flatten on sequences."
        ) from error
    return Outcome(model, after / before, layers)


def data_free_fraction(model: nn.Module, *, share: float = 1.0) -> float:
    """The fraction of neurons to keep that the saliencies themselves propose (Srinivas & Babu
    2015), over the fully connected hidden layers: merging goes on while a step costs at most
    `share` times the mode of the histogram of all saliencies before the first step. We take it on
    a log axis, as they span decades (see `histogram_mode`)."""
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
    """The (geometric) middle of the fullest bin of log values, bins by NumPy's rule "auto"; zeros
    and infinities are left out."""
    import numpy as np

    usable = values[values.isfinite() & (values > 0)].cpu().numpy()
    if not len(usable):
        return 0.0
    counts, edges = np.histogram(np.log(usable), bins="auto")
    top = int(counts.argmax())
    return float(np.exp(edges[top : top + 2].mean()))


def pairs(model: nn.Module, *, convolutions: bool) -> list[Pair]:
    """The hidden layers of a plain nn.Sequential, front to back, each with the layer it feeds.
    ValueError for a model in which more lies between two layers than one function for each unit."""
    steps = [*model.named_children()] if isinstance(model, nn.Sequential) else []
    plain = (*HOMOGENEOUS, *PER_UNIT, *LAYERS)
    strange = [m for _, m in steps if type(m) not in plain or getattr(m, "groups", 1) > 1]
    if strange or not steps:
        kinds = ", ".join(dict.fromkeys(type(m).__name__ for m in strange))
        why = f"it holds {kinds}" if strange else f"it is a {type(model).__name__}"
        raise ValueError(
            "Neurons are merged in a plain nn.Sequential of linear layers, convolutions, "
            f"activations and pooling, but {why}. Choose lenet5, lenet_srinivas, lenet300_100 or "
            "mlp; for a net of your own channels or svd, which follow any forward."
        )
    found, both = [], [n for n, (_, layer) in enumerate(steps) if isinstance(layer, LAYERS)]
    for a, b in pairwise(both):
        (name, layer), (next_name, after) = steps[a], steps[b]
        if not convolutions and not isinstance(layer, nn.Linear):
            continue
        homogeneous = all(isinstance(step, HOMOGENEOUS) for _, step in steps[a + 1 : b])
        positions, rest = divmod(after.weight.shape[1], len(layer.weight))
        if rest or not positions:
            raise ValueError(
                f"Layer {next_name} takes {after.weight.shape[1]} inputs from {len(layer.weight)} "
                f"units of layer {name}. Put nothing between them that mixes units."
            )
        found.append(Pair(name, layer, next_name, after, homogeneous, positions))
    if not found:
        other = "" if convolutions else ", or merge_conv for convolutions"
        raise ValueError(f"The model has no hidden layer: it needs two linear layers{other}.")
    return found
