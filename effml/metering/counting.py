"""What sources that measure have in common: net joules from a count, a thread that samples."""

import _thread
import math
import threading
import time
from collections.abc import Callable

from effml.metering.declared import calibration
from effml.metering.window import Energy, Finish, Window, refuse, slept_seconds

Reading = Callable[[], float]

IDLE_SHARE = 0.5
"""Most of the power that may be idle power where that was never measured: that of a server is about
half of its full power (Barroso & Hölzle, IEEE Computer 40(12):33, 2007), a laptop's less."""


def counted(
    source: str, joules: Reading, *, shared: bool, most_w: float, error: float, step_s: float
) -> Finish:
    """What stops a counter that has begun: `joules` says what it counted since (gross), net = share
    × (gross − idle × seconds), with our share of the CPU seconds where it is `shared`.

    Low takes `error` off our share, high adds it to all above idle; both widen by the counter's
    step of `step_s` seconds. Idle power not calibrated stays in, and low takes IDLE_SHARE off.
    Unavailable for what cannot be: no joule, more than `most_w` W, a sleep in the meantime."""
    slept, idle_w = slept_seconds(), calibration().get("idle_w", {}).get(source, math.nan)
    known = not math.isnan(idle_w)
    idle = f"{idle_w:.3g} W idle subtracted" if known else "idle power not subtracted"

    def finish(window: Window) -> Energy:
        gross_j, seconds, asleep = joules(), window.seconds, slept_seconds() - slept
        short = f"{seconds:.2g} s is shorter than its step of {step_s:g} s: repeat the work in it"
        far = f"it moved by {gross_j:.3g} J in {seconds:.3g} s; at most {most_w:.3g} W can be drawn"
        refuse(
            (seconds < step_s, short),
            (asleep > 0.1, f"the computer slept for {asleep:.3g} s in the meantime"),
            (gross_j == 0, stood_still(window)),
            (not 0 < gross_j <= most_w * (seconds + step_s), far),
        )
        share, off = window.share if shared else 1, min(error + step_s / seconds, 1)
        above = max(gross_j - (idle_w if known else 0) * seconds, 0.0)
        return Energy(
            energy_j=share * above,
            energy_low_j=share * above * (1 - off) * (1 if known else 1 - IDLE_SHARE),
            energy_high_j=above * (1 + off),
            gross_energy_j=gross_j,
            idle_w=idle_w,
            measured=True,
            energy_source=f"{source}, measured ({idle})",
            reason="" if known else "idle power unknown: python -m effml energy calibrate",
        )

    return finish


def stood_still(window: Window) -> str:
    return f"it did not move in {window.seconds:.3g} s with {window.everyone:.3g} s of busy CPU"


class Sampler:
    """Calls `sample` now, every `every` seconds, and at `stop`, which raises what `sample` raised
    in between. Neither end waits for the thread to be scheduled, as threading.Thread does."""

    def __init__(self, sample: Callable[[], object], every: float) -> None:
        self._sample, self._every, self._error = sample, every, None
        self._done, self._lock = threading.Event(), threading.Lock()
        sample()
        _thread.start_new_thread(self._run, ())

    def _run(self) -> None:
        while not (self._done.wait(self._every) or self._error):
            with self._lock:
                try:
                    if not self._done.is_set():
                        self._sample()
                except Exception as error:  # else the thread would die, and the rest go uncounted
                    self._error = error

    def stop(self) -> None:
        self._done.set()
        with self._lock:
            if self._error:
                raise self._error
            self._sample()


def sampled(watts: Reading, every: float) -> Reading:
    """Start to sample a power, W; what is returned stops it and gives joules (trapezoids)."""
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
