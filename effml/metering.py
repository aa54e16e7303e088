"""What a block of code costs: seconds, joules with a range, peak memory, and where each figure comes from."""
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

WATTS_PER_CPU = (2.0, 5.0, 12.0)
"""Low, middle and high power of one busy logical CPU, W: thermal design power over logical CPUs of common laptops
(15 W / 8), servers (225 W / 64 … 280 W / 48) and desktops (95 W / 8). EFFML_WATTS_PER_CPU replaces all three."""


@dataclass
class Cost:
    """Filled when the block ends. Joules are gross and of this process and its children; NaN means unknown."""

    seconds: float = math.nan
    energy_j: float = math.nan
    energy_low_j: float = math.nan
    energy_high_j: float = math.nan
    energy_source: str = "unknown"
    peak_memory_bytes: float = math.nan
    others_cpu: float = field(default=math.nan)  # fraction of the machine's CPU time that other programs took

    def as_columns(self, window: str) -> dict[str, float]:
        """The columns of a Record for `window` (prepare, train or infer)."""
        names = ("seconds", "energy_j", "energy_low_j", "energy_high_j", "peak_memory_bytes")
        return {f"{window}_{name}": getattr(self, name) for name in names}


@contextmanager
def measure(device: str = "cpu") -> Iterator[Cost]:
    """`with measure() as cost: …` then `cost.seconds`, `cost.energy_j` and so on. An exception passes through; the
    cost up to it stands.

    On Linux the peak is the process's resident high-water mark, reset at the start of the block.
    """
    cost, cuda = Cost(), device.startswith("cuda")
    if cuda:
        import torch
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    _reset_peak()
    busy, own, start = _machine_cpu_seconds(), _own_cpu_seconds(), time.perf_counter()
    try:
        yield cost
    finally:
        if cuda:
            torch.cuda.synchronize()
        cost.seconds = time.perf_counter() - start
        own = _own_cpu_seconds() - own
        cost.others_cpu = max(_machine_cpu_seconds() - busy - own, 0.0) / max(cost.seconds * (os.cpu_count() or 1), 1e-9)
        cost.peak_memory_bytes = torch.cuda.max_memory_allocated() if cuda else _peak_bytes()
        METERS["none" if cuda else "cpu-time × TDP"](cost, own)


def _unknown(cost: Cost, cpu_seconds: float) -> None:
    cost.energy_source = "unknown: the GPU's energy is not read yet"


def _cpu_time(cost: Cost, cpu_seconds: float) -> None:
    """An estimate: busy CPU seconds of this process tree × power of a busy CPU. Other programs do not count in it."""
    given = os.environ.get("EFFML_WATTS_PER_CPU")
    try:
        low, middle, high = (float(given),) * 3 if given else WATTS_PER_CPU
    except ValueError:
        raise RuntimeError(f"EFFML_WATTS_PER_CPU={given!r} is no number: give the watts of one busy logical CPU, such as 4.5.") \
            from None
    cost.energy_low_j, cost.energy_j, cost.energy_high_j = (cpu_seconds * watts for watts in (low, middle, high))
    cost.energy_source = f"cpu-time × TDP, estimated ({middle:g} W a busy CPU{'' if given else f', range {low:g}–{high:g}'})"


METERS = {"cpu-time × TDP": _cpu_time, "none": _unknown}


def _own_cpu_seconds() -> float:
    times = os.times()  # its own clock ticks every 10 ms only: too coarse for one prediction
    return time.process_time() + times.children_user + times.children_system


def _machine_cpu_seconds() -> float:
    """Busy seconds of all CPUs since boot, time stolen by a hypervisor included; NaN where the system does not tell."""
    try:
        user, nice, system, _, _, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    except (OSError, ValueError):
        return math.nan
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _reset_peak() -> None:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:  # not Linux, or not allowed: the mark is then that of the process so far
        return


def _peak_bytes() -> float:
    try:  # not ru_maxrss, which a forked process inherits
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    except (OSError, IndexError):
        try:
            import resource
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if os.uname().sysname == "Darwin" else 1024)
        except ImportError:  # Windows
            return math.nan
