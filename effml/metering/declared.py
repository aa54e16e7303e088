"""Sources that do not measure: what a plug meter showed, or the design power of processors."""

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from effml import machine
from effml.metering.window import Energy, Finish, Window, only_cpu, refuse

WATTS_PER_CPU = (2.0, 5.0, 12.0)
"""Low, middle and high power of one busy logical CPU, W: design power over logical CPUs of laptops
(15 W / 8), servers (225 W / 64 … 280 W / 48), desktops (95 W / 8)."""


def calibration_file() -> Path:
    """EFFML_ENERGY_FILE, or ~/.config/effml/energy.json."""
    return Path(os.environ.get("EFFML_ENERGY_FILE") or "~/.config/effml/energy.json").expanduser()


def calibration() -> dict[str, Any]:
    """What `energy calibrate` wrote: `wattmeter` (idle_w, load_w, cpus), `idle_w` of the counters.
    Empty if there is nothing, or if the CPU is another one (a home folder on many machines)."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        found = json.loads(calibration_file().read_text(encoding="utf-8"))
        if found["device_name"] == machine.cpu()[0]:
            return found
    return {}


def wattmeter(device: str) -> Finish:
    """The readings of a plug meter, idle and with all CPUs busy, shared out by CPU time, ±5 %.

    Power climbs faster at first: the high end is the curve of Fan, Weber & Barroso (ISCA 2007), by
    which a load u of all CPUs takes 2u − u^1.4 of what lies between idle and full."""
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
    """An estimate: busy CPU seconds of this process tree × power of a busy CPU."""
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
    """WATTS_PER_CPU, or EFFML_WATTS_PER_CPU for all three; RuntimeError if that is nonsense."""
    given, watts = os.environ.get("EFFML_WATTS_PER_CPU"), 0.0
    if not given:
        return WATTS_PER_CPU
    with suppress(ValueError):
        watts = float(given)
    if not 0 < watts < float("inf"):
        text = "is no number of watts: give those of one busy logical CPU, such as 4.5, or unset it"
        raise RuntimeError(f"EFFML_WATTS_PER_CPU={given!r} {text}.")
    return watts, watts, watts


def none(device: str) -> Finish:
    """Nothing is read: every figure is NaN."""
    return lambda window: Energy()
