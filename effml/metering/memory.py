"""Peak memory of a block, where other blocks may lie inside it."""

import ctypes
import math
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import ClassVar


def reset_peak() -> None:
    with suppress(OSError):  # not Linux, or not allowed: the mark is that of the process so far
        Path("/proc/self/clear_refs").write_text("5")


def peak_bytes() -> float:
    """The most memory held since the last reset; NaN where unknown (Windows)."""
    try:  # not ru_maxrss, which a forked process inherits
        return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024
    except (OSError, IndexError):
        with suppress(ImportError):
            import resource

            unit = 1 if sys.platform == "darwin" else 1024
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        return math.nan


def resident_bytes() -> float | None:
    """The memory held now; None where unknown."""
    with suppress(OSError, IndexError):
        return int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0]) * 1024
    return None


def held_bytes(*pids: int) -> float:
    """The memory that processes hold together: on Linux a page that several hold counts once (PSS);
    elsewhere what each holds for itself alone. One that has ended holds nothing."""
    import psutil

    total = 0.0
    for pid in pids:
        with suppress(psutil.Error):
            held = psutil.Process(pid).memory_full_info()
            total += getattr(held, "pss", held.uss)
    return total


def give_back_freed_memory() -> bool:
    """From now on tensors above 64 KiB go back to the system when they are freed, where glibc
    allocates; whether it does. Else holes in the heap hide what a method saves: the process keeps
    them. It costs some time for each tensor: compare two runs only where both do it."""
    with suppress(OSError, AttributeError, TypeError):
        mallopt, threshold = ctypes.CDLL(None).mallopt, -3  # M_MMAP_THRESHOLD
        return sys.platform == "linux" and mallopt(threshold, 65536) == 1
    return False


class Peak:
    """Peak bytes between making it and `close`, with others open at the same time: who opens resets
    the one high-water mark, and what it showed until then is kept for those already open."""

    _open: "ClassVar[list[Peak]]" = []
    _lock = threading.Lock()

    def __init__(
        self, read: Callable[[], float] = peak_bytes, reset: Callable[[], None] = reset_peak
    ) -> None:
        self._read, self._bytes = read, 0.0
        with self._lock:
            mark = read()
            for other in self._open:
                if other._read == read:
                    other._bytes = max(mark, other._bytes)
            reset()
            self._open.append(self)

    def close(self) -> float:
        with self._lock:
            self._open.remove(self)
            return max(self._read(), self._bytes)
