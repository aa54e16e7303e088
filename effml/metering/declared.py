"""Sources which do not measure: the watts a plug meter showed, or the design power of common processors."""

import json
import math
import os
from pathlib import Path
from typing import Any

from effml import machine
from effml.metering.window import Energy, Finish, Unavailable, Window

WATTS_PER_CPU = (2.0, 5.0, 12.0)
"""Low, middle and high power of one busy logical CPU, W: thermal design power over logical CPUs of common laptops
(15 W / 8), servers (225 W / 64 … 280 W / 48) and desktops (95 W / 8). EFFML_WATTS_PER_CPU replaces all three."""


def calibration_file() -> Path:
    """EFFML_ENERGY_FILE, or ~/.config/effml/energy.json."""
    return Path(
        os.environ.get("EFFML_ENERGY_FILE") or os.path.expanduser("~/.config/effml/energy.json")
    )


def calibration() -> dict[str, Any]:
    """What `python -m effml energy calibrate` wrote on this machine: `wattmeter` (idle_w, load_w, cpus) and `idle_w` of
    the counters. Empty if there is nothing, or if the CPU is another one (a home folder on many machines)."""
    try:
        found = json.loads(calibration_file().read_text(encoding="utf-8"))
        return found if found["device_name"] == machine.cpu()[0] else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def wattmeter(device: str) -> Finish:
    """The readings of a plug meter, idle and with all CPUs busy, shared out by CPU time.

    Power climbs faster at first than later. High is the curve of Fan, Weber & Barroso (ISCA 2007), by which a load u of
    all CPUs takes 2u − u^1.4 of what lies between idle and full, and ±5 %, assumed, for the meter.
    """
    plug = calibration().get("wattmeter")
    if device != "cpu" or not plug:
        raise Unavailable(
            "it does not see the GPU"
            if plug
            else "not calibrated: python -m effml energy calibrate"
        )
    idle_w, load_w, cpus = plug["idle_w"], plug["load_w"], plug["cpus"]

    def finish(window: Window) -> Energy:
        each, load = (load_w - idle_w) / cpus, min(window.own / max(cpus * window.seconds, 1e-9), 1)
        net = each * window.own
        gross = idle_w * window.seconds + each * (
            max(window.busy, window.own) if window.busy == window.busy else window.own
        )
        return Energy(
            net,
            net * 0.95,
            net * (2 - load**0.4) * 1.05,
            gross,
            idle_w,
            False,
            f"wattmeter, declared ({idle_w:g} W idle, {load_w:g} W with {cpus} CPUs busy)",
        )

    return finish


def cpu_time(device: str) -> Finish:
    """An estimate: busy CPU seconds of this process tree × power of a busy CPU. Other programs do not count in it."""
    if device != "cpu":
        raise Unavailable("it does not see the GPU")
    low, middle, high = watts_per_cpu()
    reach = f", range {low:g}–{high:g}" if low < high else ""
    source = f"cpu-time × TDP, estimated ({middle:g} W a busy CPU{reach})"
    return lambda window: Energy(
        middle * window.own, low * window.own, high * window.own, energy_source=source
    )


def watts_per_cpu() -> tuple[float, float, float]:
    """WATTS_PER_CPU, or three times what EFFML_WATTS_PER_CPU says. RuntimeError if that is no
    number above 0."""
    given = os.environ.get("EFFML_WATTS_PER_CPU")
    if not given:
        return WATTS_PER_CPU
    try:
        watts = float(given)
    except ValueError:
        watts = math.nan
    if not 0 < watts < math.inf:
        raise RuntimeError(
            f"EFFML_WATTS_PER_CPU={given!r} is no number of watts: give those of one busy logical CPU, such as "
            "4.5, or unset it."
        )
    return watts, watts, watts


def none(device: str) -> Finish:
    """Nothing is read: every figure is NaN."""
    return lambda window: Energy()
