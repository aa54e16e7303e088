"""What a block of code took: the window, the joules in it, CPU seconds, memory, and a thread which samples."""

import _thread
import math
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

IDLE_SHARE = 0.5
"""Most of the power that may be idle power where that was never measured. A busy server's idle power is about half of
its full power (Barroso & Hölzle, IEEE Computer 40(12):33, 2007); a laptop's is less."""


class Unavailable(Exception):
    """A source cannot be read here; the text says why, and what to do about it."""


def why(error: Exception) -> str:
    """What a source lacks, in words. What it did not foresee is named as what it is: an error in
    it."""
    known = isinstance(error, Unavailable)
    return str(error) if known else f"an error stopped it ({type(error).__name__}: {error})"


@dataclass(frozen=True)
class Window:
    seconds: float
    own: float = math.nan  # CPU seconds of this process and of its children that have ended
    busy: float = math.nan  # CPU seconds of all programs; NaN where the system does not tell

    @property
    def share(self) -> float:
        """The part of the busy CPU seconds that is ours, 0 … 1; 1 where nothing is known of others."""
        return self.own / max(self.own, self.busy, 1e-9) if self.busy == self.busy else 1.0


@dataclass
class Energy:
    """Joules of a window; NaN is unknown, and `reason` says why. `effml.metering` defines net, gross and range."""

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
        return Energy(
            self.energy_j + other.energy_j,
            self.energy_low_j + other.energy_low_j,
            self.energy_high_j + other.energy_high_j,
            self.gross_energy_j + other.gross_energy_j,
            self.idle_w + other.idle_w,
            self.measured and other.measured,
            f"{self.energy_source} + {other.energy_source}",
            "; ".join(filter(None, (self.reason, other.reason))),
        )


Finish = Callable[[Window], Energy]
"""Stops a source and gives what it saw. Raises Unavailable if it lost track."""


def counted(
    source: str,
    joules: Callable[[], float],
    *,
    shared: bool,
    most_w: float,
    idle_w: float,
    error: float,
    step_s: float,
) -> Finish:
    """What stops a counter that has begun: `joules` says what it counted since (gross), net = share
    × (gross − idle × seconds).

    Our share is that of the CPU seconds where others are counted too (`shared`), else 1. Low takes
    `error` off our share, high adds it to all that was drawn above idle, since a share by CPU time
    cannot know who made the chip leave its sleep. Both widen by the counter's step of `step_s`
    seconds. Without `idle_w` the idle power stays in energy_j, and the low end takes IDLE_SHARE
    off. Unavailable for what cannot be: no joule at all, more than `most_w` W, a sleep in the
    meantime.
    """
    slept, known = slept_seconds(), idle_w == idle_w
    idle = f"{idle_w:.3g} W idle subtracted" if known else "idle power not subtracted"
    lacking = "" if known else "idle power unknown: python -m effml energy calibrate"

    def finish(window: Window) -> Energy:
        gross_j, asleep = joules(), slept_seconds() - slept
        if window.seconds < step_s:
            raise Unavailable(
                f"{window.seconds:.2g} s is shorter than its step of {step_s:g} s, repeat the work in the block"
            )
        if asleep > 0.1:
            raise Unavailable(f"the computer slept for {asleep:.3g} s in the meantime")
        if gross_j == 0:
            raise Unavailable(stood_still(window))
        if not 0 < gross_j <= most_w * (window.seconds + step_s):
            raise Unavailable(
                f"it moved by {gross_j:.3g} J in {window.seconds:.3g} s, and at most {most_w:.3g} W can be drawn here"
            )
        share, off = window.share if shared else 1, min(error + step_s / window.seconds, 1)
        above = max(gross_j - (idle_w if known else 0) * window.seconds, 0.0)
        low = share * above * (1 - off) * (1 if known else 1 - IDLE_SHARE)
        text = f"{source}, measured ({idle})"
        return Energy(share * above, low, above * (1 + off), gross_j, idle_w, True, text, lacking)

    return finish


def stood_still(window: Window) -> str:
    """The reason for a counter that shows the same at both ends, which no machine that is on
    does."""
    busy = max(window.own, window.busy) if window.busy == window.busy else window.own
    return f"it did not move in {window.seconds:.3g} s with {busy:.3g} s of busy CPU"


def slept_seconds() -> float:
    """How long this computer has slept since it started; 0 where the system (not Linux) does not
    tell."""
    try:
        return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)
    except (AttributeError, OSError):
        return 0.0


class Sampler:
    """Calls `sample` now, every `every` seconds, and at `stop`, which raises what `sample` raised in between.

    Neither end waits for the thread to be scheduled: on a busy machine that takes milliseconds.
    """

    def __init__(self, sample: Callable[[], None], every: float) -> None:
        self._sample, self._every, self._error = sample, every, None
        self._done, self._lock = threading.Event(), threading.Lock()
        sample()
        _thread.start_new_thread(self._run, ())

    def _run(self) -> None:
        while not self._done.wait(self._every):
            with self._lock:
                if self._done.is_set():
                    return
                try:
                    self._sample()
                except Exception as error:  # else the thread would die, and the rest go uncounted
                    self._error = error
                    return

    def stop(self) -> None:
        self._done.set()
        with self._lock:
            if self._error:
                raise self._error
            self._sample()


def sampled(watts: Callable[[], float], every: float) -> Callable[[], float]:
    """Start to sample a power, W, every `every` seconds; what is returned stops it and gives joules (trapezoids)."""
    joules, last = 0.0, (0.0, math.nan)

    def add() -> None:
        nonlocal joules, last
        now = (time.perf_counter(), watts())
        joules += 0.0 if math.isnan(last[1]) else (now[0] - last[0]) * (now[1] + last[1]) / 2
        last = now

    sampler = Sampler(add, every)

    def stop() -> float:
        sampler.stop()
        return joules

    return stop


def own_cpu_seconds() -> float:
    """Of this process and of its children that have ended and were waited for."""
    times = os.times()  # its own clock ticks every 10 ms only: too coarse for one prediction
    return time.process_time() + times.children_user + times.children_system


def machine_cpu_seconds() -> float:
    """Busy seconds of all CPUs since boot, time stolen by a hypervisor included; NaN where the system does not tell."""
    try:
        user, nice, system, _, _, irq, softirq, steal = map(
            int, Path("/proc/stat").read_text().split()[1:9]
        )
        return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError):  # not Linux
        try:
            import psutil  # comes with ipykernel
        except ImportError:
            return math.nan
        times = psutil.cpu_times()
        return times.user + times.system + getattr(times, "nice", 0.0)


class Peak:
    """Peak memory, bytes, between making it and `close`, with others open at the same time, in any
    order.

    There is one high-water mark, and who opens resets it: what it showed until then is kept for
    those already open. `read` gives the mark and `reset` sets it to what is in use now: those of
    the process unless given.
    """

    _open: "ClassVar[list[Peak]]" = []
    _lock = threading.Lock()

    def __init__(
        self, read: Callable[[], float] | None = None, reset: Callable[[], None] | None = None
    ) -> None:
        self._read, self._bytes = read or peak_bytes, 0.0
        with self._lock:
            mark = self._read()
            for other in self._open:
                if other._read == self._read:
                    other._bytes = max(mark, other._bytes)
            (reset or reset_peak)()
            self._open.append(self)

    def close(self) -> float:
        with self._lock:
            self._open.remove(self)
            return max(self._read(), self._bytes)


def reset_peak() -> None:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:  # not Linux, or not allowed: the mark is then that of the process so far
        return


def peak_bytes() -> float:
    try:  # not ru_maxrss, which a forked process inherits
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    except (OSError, IndexError):
        try:
            import resource

            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
                1 if os.uname().sysname == "Darwin" else 1024
            )
        except ImportError:  # Windows
            return math.nan
