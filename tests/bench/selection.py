"""Core-sets: k-center greedy against the plain greedy, k-means against scikit-learn's, in one process, interleaved."""

import statistics
import threading
import time
import warnings
from collections.abc import Callable

import torch
from sklearn.cluster import MiniBatchKMeans

from effml.selection import SELECTORS, coverage


def plain_greedy(x: torch.Tensor, k: int, first: int) -> torch.Tensor:
    """One matrix–vector product a step."""
    squares, near, order = x.square().sum(1), torch.full((len(x),), torch.inf), [first]
    while len(order) < k:
        centre = x[order[-1]]
        torch.minimum(near, squares - 2 * (x @ centre) + centre @ centre, out=near)
        order.append(int(near.argmax()))
    return torch.tensor(order)


def products_alone(x: torch.Tensor, chosen: torch.Tensor, block: int = 256) -> None:
    """The distances of all rows to the chosen ones, and nothing else."""
    for part in chosen.split(block):
        for chunk in x.split(coverage.CHUNK):
            chunk @ x[part].T


def extra_memory(work: Callable[[], object]) -> float:
    """Bytes of anonymous memory at the highest, over those before."""

    def resident() -> int:
        with open("/proc/self/status") as status:
            return (
                int(next(line for line in status if line.startswith("RssAnon")).split()[1]) * 1024
            )

    before, highest, done = resident(), [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.002):
            highest[0] = max(highest[0], resident())

    thread = threading.Thread(target=watch)
    thread.start()
    work()
    done.set()
    thread.join()
    return max(0, highest[0] - before)


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    torch.set_num_threads(2)
    draw = torch.Generator().manual_seed(0)
    for n, d, k, repeats, aim in ((10_000, 512, 1_000, 3, 5), (50_000, 512, 5_000, 1, 8)):
        x = torch.relu(
            torch.randn(n, 32, generator=draw) @ torch.randn(32, d, generator=draw) / 5
            + 0.3 * torch.randn(n, d, generator=draw)
        )
        x -= x.mean(0)
        ours = SELECTORS["kcenter"](x, None, k)
        times: dict[str, list[float]] = {"plain": [], "ours": [], "products": []}
        for _ in range(repeats):
            times["ours"].append(seconds(lambda: SELECTORS["kcenter"](x, None, k)))
            times["products"].append(seconds(lambda: products_alone(x, ours)))
            times["plain"].append(seconds(lambda: plain_greedy(x, k, int(ours[0]))))
        same = len(set(plain_greedy(x, k, int(ours[0])).tolist()) & set(ours.tolist())) / k
        own, plain, products = (
            statistics.median(times[name]) for name in ("ours", "plain", "products")
        )
        memory = extra_memory(lambda: SELECTORS["kcenter"](x, None, k)) / (4 * n * d)
        print(
            f"k-center greedy, {n} × {d}, k = {k}: ours {own:.2f} s, plain greedy {plain:.2f} s, {plain / own:.1f}× (aim ≥ {aim}×); "
            f"{own / products:.1f}× the matrix products alone (aim ≤ 3×); same set {same:.2%}; extra memory {memory:.2f} × the "
            "features (aim ≤ 1.2)",
            flush=True,
        )
    for n, d, k, shape in (
        (10_000, 512, 1_000, "one cloud"),
        (20_000, 256, 500, "one cloud"),
        (20_000, 256, 500, "500 clusters"),
    ):
        x = torch.relu(
            torch.randn(n, 32, generator=draw) @ torch.randn(32, d, generator=draw) / 5
            + 0.3 * torch.randn(n, d, generator=draw)
        )
        if shape != "one cloud":
            x += 20 * torch.rand(k, d, generator=draw)[torch.randint(k, (n,), generator=draw)]
        peer = MiniBatchKMeans(k, batch_size=1024, n_init=1, random_state=0)
        times = {"ours": [], "theirs": []}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for _ in range(5):
                times["theirs"].append(seconds(lambda: peer.fit(x.numpy())))
                times["ours"].append(seconds(lambda: SELECTORS["kmeans"](x, None, k)))
        own_s, theirs_s = statistics.median(times["ours"]), statistics.median(times["theirs"])
        own = coverage._lloyd(coverage.Rows(x), k, 0)[1].clamp(min=0).mean().item()
        their = (
            (torch.cdist(x, torch.tensor(peer.cluster_centers_, dtype=x.dtype)).amin(1) ** 2)
            .mean()
            .item()
        )
        memory = extra_memory(lambda: SELECTORS["kmeans"](x, None, k)) / (4 * n * d)
        print(
            f"k-means, {n} × {d}, k = {k}, {shape}: ours {own_s:.2f} s, MiniBatchKMeans {theirs_s:.2f} s, "
            f"{theirs_s / own_s:.1f}× (aim ≥ 3×); mean squared error {own:.4f} against {their:.4f} (aim: no more); "
            f"extra memory {memory:.2f} × the features (aim ≤ 1.2)",
            flush=True,
        )
