"""What a run costs in a fresh process of `sweep` over `run` in this one: here, and on a worker of
Dask on this machine."""

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import distributed

from effml import Recipe, grid, run, sweep

RUNS = 19


def overhead(words: str, aim: float, store: Path, executor: Any = None) -> None:
    """The run and the sweep of it in turn; both processes have done one before."""
    recipes = grid(Recipe(model="mlp", epochs=1), seed=range(RUNS + 1))
    sweep(recipes[:1], store, executor=executor)
    run(recipes[0])
    swept, ran = [], []
    for recipe in recipes[1:]:
        for times, work in (
            (swept, lambda: sweep([recipe], store, executor=executor)),
            (ran, lambda: run(recipe)),
        ):
            start = time.perf_counter()
            work()
            times.append(time.perf_counter() - start)
    extra = [a - b for a, b in zip(swept, ran)]
    print(
        f"{words:40} {statistics.median(extra):6.2f} s ({min(extra):.2f}–{max(extra):.2f}; aim "
        f"≤ {aim} s); run {statistics.median(ran):.2f} s",
        flush=True,
    )


def main() -> None:
    how = {"n_workers": 1, "threads_per_worker": 1, "memory_limit": 0, "dashboard_address": None}
    with tempfile.TemporaryDirectory() as folder:
        overhead("sweep over run, per run", 0.4, Path(folder, "here"))
        with distributed.LocalCluster(**how) as cluster, distributed.Client(cluster) as client:
            overhead("sweep by Dask over run, per run", 0.5, Path(folder, "dask"), client)
