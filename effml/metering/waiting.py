"""How threads wait for each other. Spinning is fastest where a run is alone; beside a busy program
it burns the CPU time that the thread waited for needs. Here this is decided while a run goes on."""

import ctypes
import os
import threading
from contextlib import suppress
from typing import Self

from effml.metering.window import open_window

SETTINGS = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "KMP_BLOCKTIME")
"""What a user may have set; it stands."""

STEP_S = 0.1  # clock ticks of 10 ms are fine enough for it
BUSY, QUIET = 0.2, 0.1
"""Shares of the CPU time that others take above and below which threads sleep and spin."""


class Waiting:
    """Inside, threads of a parallel operation sleep soon while others keep the CPUs busy, and else
    spin. What is computed stays the same to the last bit.

    GNU's OpenMP (torch's on Linux) lets threads spin 300 000 times before they sleep, and 100 times
    "if there are more OpenMP threads than available CPUs" (its manual on GOMP_SPINCOUNT). A spare
    team of threads that do nothing makes it so, at any time, until it goes.

    Args:
        threads: those that the work uses; one waits for nobody.

    Example:
        >>> from effml.metering.waiting import Waiting
        >>> with Waiting(2) as waiting:
        ...     total = sum(range(100_000))
        >>> waiting.way in ("spin", "sleep", None)
        True
    """

    def __init__(self, threads: int) -> None:
        self._gomp, self._cpus, self._team = None, {0}, 2
        asked = [f"{name}={os.environ[name]}" for name in SETTINGS if os.environ.get(name)]
        self.way: str | None = " ".join(asked) or None
        if threads > 1 and not asked:
            with suppress(OSError, AttributeError):  # another library, or Windows
                self._gomp = ctypes.CDLL("libgomp.so.1", mode=os.RTLD_NOLOAD)
                self._cpus = os.sched_getaffinity(0)
                # with `threads` one more than there are CPUs
                self._team = max(len(self._cpus) + 2 - threads, 2)
                self.way = "spin"

    def __enter__(self) -> Self:
        self._over = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        if self._gomp:
            self._watcher.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        if self._gomp:
            self._watcher.join()

    def _watch(self) -> None:
        others, spare = 0.0, None
        while not self._over.is_set():
            close = open_window(self._cpus)
            self._over.wait(STEP_S)
            window = close()
            if window.seconds > 1.5 * STEP_S:
                continue  # this process stood still in the meantime: it was another run's turn
            now = (window.busy - window.own) / max(window.seconds * len(self._cpus), 1e-9)
            others += 0.3 * (now - others)
            if spare is None and others > BUSY:
                spare, self.way = threading.Event(), "sleep"
                threading.Thread(target=self._hold, args=(spare,), daemon=True).start()
            elif spare and others < QUIET:
                spare.set()
                spare = None
        if spare:
            spare.set()

    def _hold(self, until: threading.Event) -> None:
        """A team, which lasts as long as the thread that made it: each member frees nothing."""
        nothing = ctypes.cast(ctypes.CDLL(None).free, ctypes.c_void_p)
        self._gomp.GOMP_parallel(nothing, None, ctypes.c_uint(self._team), ctypes.c_uint(0))
        until.wait()
