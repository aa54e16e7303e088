"""Two ways of one work, interleaved in one process: ratios of medians. What the machine is, and
whether others use it meanwhile: then the ratios are none."""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import psutil

from effml.machine import cpu
from effml.metering import measure
from effml.metering.window import Window, open_window

BUSY = 0.1
"""Of the CPU time, used by others: more, and a ratio says more of them than of the work."""

EMULATION = ("ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY", "MKL_ENABLE_INSTRUCTIONS")
"""Variables that make the libraries use fewer instructions than this CPU has."""


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
        f"{medians['peer'] / medians['ours']:6.2f}× (aim {target:g}×)",
        flush=True,
    )


def time_of(code: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - start


def machine_in_words() -> str:
    """What the figures of a bench depend on besides the code."""
    import torch

    model, flags = cpu()
    limits = [f"{name}={os.environ[name]}" for name in EMULATION if name in os.environ]
    return (
        f"{model} ({flags}), {os.cpu_count()} CPUs, torch {torch.__version__} with "
        f"{torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()} in force"
        f" ({', '.join(limits) or 'nothing emulated'})"
    )


def watched(work: Callable[[], None], watch: float = 1.0) -> dict[str, float]:
    """Do `work`; the share of the CPU time that others took for `watch` seconds before it, during
    it and after it. Processes that `work` leaves running, such as a sweep's, are no others."""
    shares = {"before": _others_at_rest(watch)}
    _warn(shares, "Close other programs, or take no ratio below for one.")
    close, children = open_window(), _of_children()
    work()
    window, children = close(), _of_children() - children
    shares["during"] = share_of_others(window, children)
    shares["after"] = _others_at_rest(watch)
    _warn(shares, "The ratios above are none: do this bench again on an idle machine.")
    return shares


def share_of_others(window: Window, children: float) -> float:
    """Of the CPU time there was; `children`: CPU seconds of our processes that have not ended."""
    there = window.seconds * (os.cpu_count() or 1)
    return max(window.busy - window.own - children, 0.0) / max(there, 1e-9)


def _others_at_rest(seconds: float) -> float:
    with measure() as cost:
        time.sleep(seconds)
    return cost.others_cpu


def _of_children() -> float:
    """CPU seconds of the processes below this one that run, and of theirs that have ended."""
    total = 0.0
    for child in psutil.Process().children(recursive=True):
        try:
            total += sum(child.cpu_times()[:4])
        except psutil.NoSuchProcess:
            continue
    return total


def _warn(shares: dict[str, float], advice: str) -> None:
    if max(shares.values()) > BUSY:
        told = ", ".join(f"{share:.0%} {when}" for when, share in shares.items())
        print(f"*** BUSY MACHINE: others used the CPU ({told}). {advice} ***", flush=True)
