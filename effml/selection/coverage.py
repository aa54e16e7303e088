"""Core-sets that cover the features: k-means, k-center greedy, herding, facility location.

Features (N, D), a tensor, an array or a memory map, are read in chunks as float32 less their mean
(which spares round-off), so that a million rows on disk need little memory. Distances: Euclidean.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from effml.selection.checks import as_float, checked

CHUNK = 2048  # rows read at a time
BLOCK = 1024  # candidates looked at together, and columns of a matrix product


class Rows:
    """Features (N, D) less their mean, a chunk of float32 at a time."""

    def __init__(self, features: Any) -> None:
        self.features, self.n = features, len(features)
        self.mean = torch.zeros(features.shape[1])
        self.mean = sum(x.sum(0, dtype=torch.float64) for _, x in self.chunks()).div(self.n).float()

    def chunks(self) -> Iterator[tuple[slice, Tensor]]:
        """Each chunk lies in the same memory and is gone when the next is asked for."""
        room = torch.empty(min(CHUNK, self.n), len(self.mean))
        for start in range(0, self.n, CHUNK):
            part = slice(start, min(start + CHUNK, self.n))
            values, x = self.features[part], room[: part.stop - start]
            if isinstance(values, Tensor):
                x.copy_(values.detach())
            else:
                np.copyto(x.numpy(), values, casting="unsafe")
            yield part, x.sub_(self.mean)

    def squares(self) -> Tensor:
        """Squared lengths, (N,)."""
        found = torch.empty(self.n)  # beforehand: kept between chunks, pieces would bloat the heap
        for part, x in self.chunks():
            found[part] = x.square().sum(1)
        return found

    def __getitem__(self, index: Tensor) -> Tensor:
        index = index if isinstance(self.features, Tensor) else index.numpy()
        return as_float(self.features[index]) - self.mean


@checked
def kcenter(features, labels, k: int, *, seed: int = 0, scores=None) -> Tensor:
    """k-center greedy (Gonzalez 1985; Sener & Savarese 2018): a random first row, then always the
    row farthest from all chosen.

    Exact, to round-off, but not a step at a time: among the BLOCK farthest rows the choice is made
    by their distances to each other, while the farthest of them is at least as far as any row
    outside was. Then one matrix product brings all distances up to date."""
    rows = Rows(features)
    squares = rows.squares()
    near = torch.full((rows.n,), torch.inf)  # squared distance to the nearest chosen row
    new = order = torch.randint(rows.n, (1,), generator=torch.Generator().manual_seed(seed))
    while True:
        centres = rows[new]
        for part, x in rows.chunks():
            to_new = torch.addmm(squares[new], x, centres.T, alpha=-2).amin(1).add_(squares[part])
            torch.minimum(near[part], to_new, out=near[part])
        near[new] = -torch.inf  # not chosen again, even where all others are its copies
        if len(order) == k:
            return order
        far, block = near.topk(min(BLOCK + 1, rows.n))
        outside = far[BLOCK].item() if rows.n > BLOCK else -torch.inf
        block, reach = block[:BLOCK], far[:BLOCK].numpy().copy()
        x = rows[block]
        between = torch.addmm(squares[block], x, x.T, alpha=-2).add_(squares[block, None]).numpy()
        taken: list[int] = []
        while len(order) + len(taken) < k:
            if not reach[j := int(reach.argmax())] >= outside or reach[j] == -torch.inf:
                break
            taken.append(j)
            np.minimum(reach, between[j], out=reach)
            reach[j] = -torch.inf
        new = block[taken]
        order = torch.cat([order, new])


@checked
def kmeans(features, labels, k: int, *, seed: int = 0, scores=None) -> Tensor:
    """The row of each cluster of k-means (Lloyd 1982) nearest to its centre, large clusters first:
    representativeness, as in Yuan 2025. Where rows repeat, clusters may be empty, and the rows left
    that are nearest to their own centres take their place."""
    rows = Rows(features)
    assigned, distance = _lloyd(rows, k, seed)
    sizes = assigned.bincount(minlength=k)
    order = torch.argsort(distance)  # the first row seen of a cluster is its nearest
    first = torch.full((k,), rows.n)
    first = first.scatter_reduce(0, assigned[order], torch.arange(rows.n), "amin")
    chosen = order[first[first < rows.n]]
    chosen = chosen[torch.argsort(sizes[assigned[chosen]], descending=True, stable=True)]
    rest = torch.ones(rows.n, dtype=torch.bool)
    rest[chosen] = False
    left = order[rest[order]]
    return torch.cat([chosen, left[: k - len(chosen)]])


def _lloyd(rows: Rows, k: int, seed: int, iterations: int = 3) -> tuple[Tensor, Tensor]:
    """Of each row its cluster and the squared distance to its centre, after a few rounds (the error
    falls by 1 % in the third). An empty cluster begins anew at the row farthest from its centre."""
    assigned, distance = _spread(rows, k, seed)
    for _ in range(iterations):
        centres, counts = torch.zeros(k, len(rows.mean)), assigned.bincount(minlength=k)
        for part, x in rows.chunks():
            centres.index_add_(0, assigned[part], x)
        empty = (counts == 0).nonzero().flatten()
        centres /= counts.clamp(min=1)[:, None]
        centres[empty] = rows[distance.topk(len(empty)).indices]
        for part, x in rows.chunks():
            distance[part], assigned[part] = _nearest(x, centres)
    return assigned, distance


def _nearest(x: Tensor, centres: Tensor) -> tuple[Tensor, Tensor]:
    """Of each row of x its least squared distance to a centre, and the centre's number."""
    least, which = torch.full((len(x),), torch.inf), torch.zeros(len(x), dtype=torch.long)
    for start in range(0, len(centres), BLOCK):
        block = centres[start : start + BLOCK]
        found = torch.addmm(block.square().sum(1), x, block.T, alpha=-2).min(1)
        which = torch.where(found.values < least, found.indices + start, which)
        least = torch.minimum(least, found.values)
    return least.add_(x.square().sum(1)).clamp_(min=0), which


def _spread(rows: Rows, k: int, seed: int, rounds: int = 5) -> tuple[Tensor, Tensor]:
    """Of each row the nearest of k rows to begin from, and the squared distance: greedy k-means++
    (Arthur & Vassilvitskii 2007), each drawn in proportion to its squared distance to those before,
    of 2 + ln k the one that lowers their sum most. The sum is that of BLOCK rows drawn likewise;
    all distances are brought up to date some `rounds` times (k-means||, Bahmani et al. 2012)."""
    draw, trial = torch.Generator().manual_seed(seed), np.random.default_rng(seed % 2**64)
    near, owner = torch.full((rows.n,), torch.inf), torch.zeros(rows.n, dtype=torch.long)
    new, known = torch.randint(rows.n, (1,), generator=draw), 0
    while True:
        centres = rows[new]
        for part, x in rows.chunks():
            reach, closest = _nearest(x, centres)
            owner[part] = torch.where(reach < near[part], closest + known, owner[part])
            torch.minimum(near[part], reach, out=near[part])
        near[new], owner[new], known = 0, torch.arange(known, known + len(new)), known + len(new)
        if known == k or not near.any():  # no more rows differ: the other clusters stay empty
            return owner, near
        block = torch.multinomial(near, BLOCK, replacement=True, generator=draw)
        x = rows[block]
        squares = x.square().sum(1)
        between = torch.addmm(squares, x, x.T, alpha=-2).add_(squares[:, None]).clamp_(min=0)
        between, number, taken = between.div_(near[block]).numpy(), block.numpy(), []
        left = np.ones(BLOCK, np.float32)  # the share of each drawn row's distance
        while len(taken) < min(-(-k // rounds), k - known) and left.any():
            chance = left.cumsum()
            drawn = chance.searchsorted(trial.random(2 + int(np.log(k))) * chance[-1], side="right")
            after = np.minimum(left, between[drawn])
            best = int(after.sum(1).argmin())
            taken.append(drawn[best])
            left = after[best]
            left[number == number[drawn[best]]] = 0
        new = block[taken]


@checked
def herding(features, labels, k: int, *, seed: int = 0, scores=None) -> Tensor:
    """Herding (Welling 2009, in the form of Rebuffi et al. 2017, algorithm 4): each row brings the
    mean of the chosen as near as it can to the mean of all. One matrix–vector product a row chosen;
    `seed` is not used. Memory: 2 numbers a row."""
    rows = Rows(features)
    squares = rows.squares()
    order, total, cost = [], torch.zeros_like(rows.mean), squares.clone()
    for _ in range(k):  # cost: |total + x|² less |total|², the same for all; the mean is zero
        order.append(int(cost.argmin()))
        squares[order[-1]] = torch.inf
        total += rows[torch.tensor(order[-1:])][0]
        for part, x in rows.chunks():
            torch.addmv(squares[part], x, total, alpha=2, out=cost[part])
    return torch.tensor(order)


@checked
def facility_location(features, labels, k: int, *, seed: int = 0, scores=None) -> Tensor:
    """Facility location (Wei et al. 2015): greedily the rows that raise most the sum over all rows
    of the likeness, (1 + cosine) / 2, to their nearest chosen row; `seed` is not used.

    Exact by lazy evaluation (Minoux 1978): a gain never grows, so an old one bounds it from above,
    and only rows whose bound is above the best gain found are computed anew."""
    rows = Rows(features)
    best, bound, order = torch.zeros(rows.n), torch.full((rows.n,), torch.inf), []

    def gain(index: Tensor) -> Tensor:
        columns, total = _unit(rows[index]), torch.zeros(len(index), dtype=torch.float64)
        for part, x in rows.chunks():
            more = (_unit(x) @ columns.T).add_(1).div_(2).sub_(best[part, None]).clamp_(min=0)
            total += more.sum(0, dtype=torch.float64)
        return total.float()

    for start in range(0, rows.n, 256):
        index = torch.arange(start, min(start + 256, rows.n))
        bound[index] = gain(index)
    while len(order) < k:
        known, size = torch.full((rows.n,), not order), 16
        while not known[top := int(bound.argmax())]:
            index = bound.topk(min(size, rows.n)).indices
            known[top] = True  # of many equal ones topk may leave it out
            fresh = ~known[index] & (bound[index] > -torch.inf)  # not chosen either
            index = torch.cat([torch.tensor([top]), index[fresh]])
            bound[index] = gain(index)
            known[index], size = True, min(2 * size, 256)
        order.append(top)
        bound[top] = -torch.inf
        column = _unit(rows[torch.tensor([top])])[0]
        for part, x in rows.chunks():
            torch.maximum(best[part], (_unit(x) @ column).add_(1).div_(2), out=best[part])
    return torch.tensor(order)


def _unit(x: Tensor) -> Tensor:
    return x / x.norm(dim=1, keepdim=True).clamp(min=1e-12)
