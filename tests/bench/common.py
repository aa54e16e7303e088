"""Two ways of one work, interleaved in one process: ratios of medians."""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable


def compare(
    name: str, peer: Callable[[], None], ours: Callable[[], None], repeats: int, target: float
) -> None:
    peer(), ours()  # warm-up
    times: dict[str, list[float]] = {"peer": [], "ours": []}
    for _ in range(repeats):
        for who, work in (("peer", peer), ("ours", ours)):
            start = time.perf_counter()
            work()
            times[who].append(time.perf_counter() - start)
    medians = {who: statistics.median(values) for who, values in times.items()}
    spread = {who: f"{min(values):.3f}–{max(values):.3f}" for who, values in times.items()}
    print(
        f"{name:44} peer {medians['peer']:7.3f} s ({spread['peer']})  ours {medians['ours']:7.3f} s ({spread['ours']})  "
        f"{medians['peer'] / medians['ours']:6.1f}× (aim {target:g}×)",
        flush=True,
    )


def time_of(code: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - start
