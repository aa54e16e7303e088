"""What a block of code costs: seconds, joules with a range, peak memory, and the source of each.

Joules are *net*, without what is drawn anyway: of a counter that all programs share we take
    energy_j = own / busy CPU seconds × (gross_energy_j − idle_w × seconds).
The ends hold the instrument's error, the high one also all that was drawn above idle: CPU time
cannot tell whose work woke the chip. Threads that wait for each other beside another program burn
more CPU time (1.4 to 2.5 times on two CPUs; notebook 93): `others_cpu` says when to doubt a figure.
"""

import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from effml.machine import choose
from effml.metering.carbon import co2e_g
from effml.metering.counters import battery, nvml, rapl
from effml.metering.declared import WATTS_PER_CPU, cpu_time, none, wattmeter, watts_per_cpu
from effml.metering.memory import Peak
from effml.metering.window import Energy, Finish, Window, joined, open_window, why

__all__ = ["METERS", "WATTS_PER_CPU", "Cost", "Energy", "co2e_g", "measure"]

METERS: dict[str, Callable[[str], Finish]] = {
    "rapl": rapl,
    "nvml": nvml,
    "battery": battery,
    "wattmeter": wattmeter,
    "cpu-time × TDP": cpu_time,
    "none": none,
}
"""Each is started by calling it with a device, and returns what stops it, or is Unavailable."""

ORDER = {
    "cpu": ("rapl", "battery", "wattmeter", "cpu-time × TDP"),
    "cuda": ("nvml", "battery", "none"),
    "host": ("rapl", "wattmeter", "cpu-time × TDP"),
}
"""What is tried, best first, for work on the CPU, on a GPU, and for that GPU's host."""

AFTERWARDS = ("wattmeter", "cpu-time × TDP", "none")
"""What needs only the window, and so can step in for a source that lost track."""


@dataclass
class Cost(Energy):
    """What `measure` fills when the block ends; NaN is unknown."""

    seconds: float = math.nan
    peak_memory_bytes: float = math.nan
    others_cpu: float = math.nan  # fraction of the machine's CPU time that other programs took

    def as_columns(self, window: str) -> dict[str, float]:
        """The columns of a Record for `window` (prepare, train or infer)."""
        names = ("seconds", "energy_j", "energy_low_j", "energy_high_j", "peak_memory_bytes")
        return {f"{window}_{name}": getattr(self, name) for name in names}


@contextmanager
def measure(device: str = "cpu") -> Iterator[Cost]:
    """Measure time, energy and peak memory of any block of code; no recipe is needed.

    An exception passes through, and the cost up to it stands. Blocks may lie inside one another.

    Args:
        device: where the work is done: "cpu", or "cuda" for one GPU together with its host.

    Returns:
        A context manager that gives a `Cost`, filled when the block ends: `seconds`; `energy_j`
        with `energy_low_j` and `energy_high_j` (net joules; NaN where unknown), `energy_source`,
        `reason`; `peak_memory_bytes`; `others_cpu`, the share of CPU time that others took.

    Raises:
        ValueError: before the block, for a device that is not there.
        RuntimeError: before the block, if EFFML_METER or EFFML_WATTS_PER_CPU is wrong.

    Example:
        >>> with effml.measure() as cost:
        ...     total = sum(range(100_000))
        >>> cost.energy_low_j <= cost.energy_j <= cost.energy_high_j
        True
    """
    choose("device", f"{device}".partition(":")[0], ("cpu", "cuda"))
    cost, cuda, marks = Cost(), device != "cpu", ()
    if cuda:
        import torch

        try:
            torch.cuda.synchronize()
        except (AssertionError, RuntimeError) as error:  # torch's, without CUDA or without a GPU
            if torch.cuda.is_available():
                raise
            here = f"device={device!r}: torch has no CUDA here"
            raise ValueError(f"{here}. Give device='cpu'.") from error
        index = torch.device(device).index
        if index is not None and index != torch.cuda.current_device():
            raise ValueError(
                f"device={device!r} is not the current GPU, of which time and memory are taken: "
                f"call torch.cuda.set_device({index}) first."
            )
        marks = (torch.cuda.max_memory_allocated, torch.cuda.reset_peak_memory_stats)
    finish, peak, close = start(device, sources(device)), Peak(*marks), open_window()
    try:
        yield cost
    finally:
        try:
            if cuda:
                torch.cuda.synchronize()
        finally:
            window = close()
            vars(cost).update(vars(finish(window)), seconds=window.seconds)
            there = window.seconds * (os.cpu_count() or 1)
            cost.others_cpu = min(max(window.busy - window.own, 0.0) / max(there, 1e-9), 1.0)
            cost.peak_memory_bytes = peak.close()


def sources(device: str) -> Sequence[str]:
    """What to try for `device`, best first; if EFFML_METER asks for one, that alone. RuntimeError
    for a wrong setting, before the work begins."""
    watts_per_cpu()
    asked = os.environ.get("EFFML_METER", "")
    if not asked:
        return ORDER["cpu" if device == "cpu" else "cuda"]
    names = [name for name in METERS if name.startswith(asked)]
    if len(names) != 1:
        menu = f"{', '.join(METERS)} (the first letters will do)"
        raise RuntimeError(f"Unknown EFFML_METER={asked!r}. Choose from: {menu}")
    return names[0], "none"


def start(device: str, names: Sequence[str], host: bool = True) -> Finish:
    """Start the first of `names` that is to be had, and beside a GPU's the best of the `host`; the
    next steps in for one that lost track. What was lacking becomes the reason."""
    lacking, started = [], {}
    for name in names:
        if started and name not in AFTERWARDS:
            continue
        try:
            started[name] = METERS[name](device)
        except Exception as error:
            if not started:
                lacking.append(f"{name}: {why(error)}")
    beside = start("cpu", ORDER["host"]) if host and "nvml" in started else None

    def finish(window: Window) -> Energy:
        energy = Energy()
        for name, stop in started.items():
            try:
                energy = stop(window)
                break
            except Exception as error:
                lacking.append(f"{name}: {why(error)}")
        energy.reason = joined(energy.reason, *lacking)
        if math.isnan(energy.energy_j):
            energy.energy_source = f"unknown ({energy.reason or 'no source asked for'})"
        return energy + beside(window) if beside else energy

    return finish
