"""The window of a block: seconds, CPU seconds of this process and of all programs, joules."""

import math
import os
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial


@dataclass(frozen=True)
class Window:
    seconds: float
    own: float  # CPU seconds of this process and of its children that have ended
    busy: float  # CPU seconds of all programs

    @property
    def everyone(self) -> float:
        """CPU seconds of all programs, at least ours."""
        return max(self.own, self.busy)

    @property
    def share(self) -> float:
        """Our part of the busy CPU seconds, 0 … 1."""
        return self.own / max(self.everyone, 1e-9)


def open_window(cpus: Collection[int] | None = None) -> Callable[[], Window]:
    """Begin a window; calling what this returns ends it. Other programs count on these CPUs."""
    everyone = partial(machine_cpu_seconds, cpus) if cpus else machine_cpu_seconds
    busy, own, start = everyone(), own_cpu_seconds(), time.perf_counter()
    return lambda: Window(
        seconds=time.perf_counter() - start,
        own=own_cpu_seconds() - own,
        busy=everyone() - busy,
    )


def own_cpu_seconds() -> float:
    times = os.times()  # its own clock ticks every 10 ms only: too coarse for one prediction
    return time.process_time() + times.children_user + times.children_system


def machine_cpu_seconds(cpus: Collection[int] | None = None) -> float:
    """Busy seconds of all CPUs, or of these, since boot, with time that a hypervisor took."""
    import psutil

    busy = ("user", "nice", "system", "irq", "softirq", "steal")  # Windows and macOS have fewer
    each = psutil.cpu_times(percpu=True) if cpus else [psutil.cpu_times()]
    counted = each if cpus is None else [times for cpu, times in enumerate(each) if cpu in cpus]
    return sum(getattr(times, name, 0.0) for times in counted for name in busy)


def slept_seconds() -> float:
    """How long this computer has slept since it started; 0 where unknown (not Linux)."""
    try:
        return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)
    except (AttributeError, OSError):
        return 0.0


class Unavailable(Exception):
    """A source cannot be read here; the text says why."""


def why(error: Exception) -> str:
    if isinstance(error, Unavailable):
        return str(error)
    return f"an error stopped it ({type(error).__name__}: {error})"


def refuse(*doubts: tuple[bool, str]) -> None:
    for wrong, text in doubts:
        if wrong:
            raise Unavailable(text)


def only_cpu(device: str) -> None:
    refuse((device != "cpu", "it does not see the GPU"))


def joined(*reasons: str) -> str:
    return "; ".join(filter(None, reasons))


@dataclass
class Energy:
    """Joules of a window; NaN is unknown. `effml.metering` defines net, gross and range."""

    energy_j: float = math.nan
    energy_low_j: float = math.nan
    energy_high_j: float = math.nan
    gross_energy_j: float = math.nan  # all the source saw: idle power and other programs too
    idle_w: float = math.nan  # what it shows when nothing runs; NaN: never measured
    measured: bool = False  # by a counter or gauge, not declared or estimated
    energy_source: str = "unknown"
    reason: str = ""  # why it is not known, or not known better

    def __add__(self, other: "Energy") -> "Energy":
        """A GPU and its host. One unknown makes the sum unknown."""
        figures = ("energy_j", "energy_low_j", "energy_high_j", "gross_energy_j", "idle_w")
        return Energy(
            **{name: getattr(self, name) + getattr(other, name) for name in figures},
            measured=self.measured and other.measured,
            energy_source=f"{self.energy_source} + {other.energy_source}",
            reason=joined(self.reason, other.reason),
        )


Finish = Callable[[Window], Energy]
"""Stops a source and gives what it saw. Raises Unavailable if it lost track."""
