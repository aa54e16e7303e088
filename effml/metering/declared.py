"""Sources that do not measure: the watts a plug meter showed, or the design power of common
processors."""

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from effml import machine
from effml.metering.window import Energy, Finish, Window, only_cpu, refuse

WATTS_PER_CPU = (2.0, 5.0, 12.0)
"""Low, middle and high power of one busy logical CPU, W: thermal design power over logical CPUs of
common laptops (15 W / 8), servers (225 W / 64 … 280 W / 48) and desktops (95 W / 8).
EFFML_WATTS_PER_CPU replaces all three."""


def calibration_file() -> Path:
    """EFFML_ENERGY_FILE, or ~/.config/effml/energy.json."""
    return Path(os.environ.get("EFFML_ENERGY_FILE") or "~/.config/effml/energy.json").expanduser()


def calibration() -> dict[str, Any]:
    """What `python -m effml energy calibrate` wrote on this machine: `wattmeter` (idle_w, load_w,
    cpus) and `idle_w` of the counters. Empty if there is nothing, or if the CPU is another one (a
    home folder on many machines)."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        found = json.loads(calibration_file().read_text(encoding="utf-8"))
        if found["device_name"] == machine.cpu()[0]:
            return found
    return {}


def wattmeter(device: str) -> Finish:
    """The readings of a plug meter, idle and with all CPUs busy, shared out by CPU time.

    Power climbs faster at first than later. The high end is the curve of Fan, Weber & Barroso (ISCA
    2007), by which a load u of all CPUs takes 2u − u^1.4 of what lies between idle and full, and
    5 % for the meter; so is the low end without the curve. These ±5 % are assumed.
    """
    plug = calibration().get("wattmeter")
    refuse((not plug, "not calibrated: python -m effml energy calibrate"))
    only_cpu(device)
    idle_w, load_w, cpus = plug["idle_w"], plug["load_w"], plug["cpus"]
    each = (load_w - idle_w) / cpus

    def finish(window: Window) -> Energy:
        net, load = each * window.own, min(window.own / max(cpus * window.seconds, 1e-9), 1)
        told = f"{idle_w:g} W idle, {load_w:g} W with {cpus} CPUs busy"
        return Energy(
            energy_j=net,
            energy_low_j=net * 0.95,
            energy_high_j=net * (2 - load**0.4) * 1.05,
            gross_energy_j=idle_w * window.seconds + each * window.everyone,
            idle_w=idle_w,
            energy_source=f"wattmeter, declared ({told})",
        )

    return finish


def cpu_time(device: str) -> Finish:
    """An estimate: busy CPU seconds of this process tree × power of a busy CPU. Other programs do
    not count in it."""
    only_cpu(device)
    low, middle, high = watts_per_cpu()
    reach = f", range {low:g}–{high:g}" if low < high else ""
    source = f"cpu-time × TDP, estimated ({middle:g} W a busy CPU{reach})"
    return lambda window: Energy(
        energy_j=middle * window.own,
        energy_low_j=low * window.own,
        energy_high_j=high * window.own,
        energy_source=source,
    )


def watts_per_cpu() -> tuple[float, float, float]:
    """WATTS_PER_CPU, or three times what EFFML_WATTS_PER_CPU says. RuntimeError if that is no
    number above 0."""
    given, watts = os.environ.get("EFFML_WATTS_PER_CPU"), 0.0
    if not given:
        return WATTS_PER_CPU
    with suppress(ValueError):
        watts = float(given)
    if not 0 < watts < float("inf"):
        raise RuntimeError(
            f"EFFML_WATTS_PER_CPU={given!r} is no number of watts: give those of one busy logical "
            "CPU, such as 4.5, or unset it."
        )
    return watts, watts, watts


def none(device: str) -> Finish:
    """Nothing is read: every figure is NaN."""
    return lambda window: Energy()
