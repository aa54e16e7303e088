"""`python -m effml energy`: the sources of energy here, and telling what a plug meter shows."""

import argparse
import datetime
import json
import math
import os
import time

from effml import machine
from effml.metering import METERS, sources, start
from effml.metering.declared import calibration, calibration_file
from effml.metering.window import Energy, Window, open_window
from effml.printing import entry

_BELOW = """\
Close other programs. Without options this measures, for 10 s, what the counters show when nothing
runs. With a plug meter: read it when nothing runs (--idle-w), then with all CPUs busy (--load-w),
as with this in another window:
  python -c "import multiprocessing as m; m.Pool().map(sum, [range(10**10)] * m.cpu_count())"
On a laptop wait until the battery is full."""


def add(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="action")
    parser.set_defaults(action="show")
    actions.add_parser("show", help="the sources of energy, and which one is used")
    how = {"description": _BELOW, "formatter_class": argparse.RawDescriptionHelpFormatter}
    sub = actions.add_parser("calibrate", help="measure or tell this machine's idle power", **how)
    sub.add_argument("--idle-w", type=float, metavar="W", help="the plug meter's when nothing runs")
    sub.add_argument("--load-w", type=float, metavar="W", help="its with all CPUs busy")


def main(given: argparse.Namespace) -> int:
    try:
        return globals()[f"_{given.action}"](given)
    except RuntimeError as error:  # a setting that measure() would refuse as well
        raise ValueError(str(error)) from None


def facts() -> dict[str, str]:
    """Every source of energy, with what it shows or lacks, the one in use, and the calibration."""
    found, window = _watch(1.1)
    told = {f"energy: {name}": _words(energy, window) for name, energy in found.items()}
    there = [name for name, energy in found.items() if not math.isnan(energy.energy_j)]
    used = next((name for name in sources("cpu") if name in there), "none")
    used += ", with nvml for work on a GPU" if "nvml" in there else ""
    return {**told, "energy in use": used, "energy calibration": _calibrated()}


def _words(energy: Energy, window: Window) -> str:
    if math.isnan(energy.energy_j):
        return f"not here: {energy.reason.partition(': ')[2]}"
    if not energy.measured:
        return f"here: {energy.energy_source.partition(', ')[2]}"
    idle = "unknown" if math.isnan(energy.idle_w) else f"{energy.idle_w:.3g} W"
    return f"here: measured, {energy.gross_energy_j / window.seconds:.3g} W now, idle power {idle}"


def _show(given: argparse.Namespace) -> int:
    for name, text in facts().items():
        print(entry(name, text, 24))
    return 0


def _calibrate(given: argparse.Namespace) -> int:
    known, path = calibration(), calibration_file()
    if given.idle_w is None and given.load_w is None:
        known["idle_w"] = {**known.get("idle_w", {}), **_idle()}
    else:
        known["wattmeter"] = _plug(given.idle_w, given.load_w)
    known |= {"device_name": machine.cpu()[0], "date": datetime.date.today().isoformat()}
    with machine.whole_file(path) as partial:
        partial.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    print(f"Written to {path}: {_calibrated()}.")
    print("Runs from now on use it; those in a store stay as they are.")
    return 0


def _plug(idle_w: float | None, load_w: float | None) -> dict[str, float]:
    if idle_w is None or load_w is None:
        raise ValueError("Give both --idle-w and --load-w, or neither to measure the counters.")
    if not 0 < idle_w < load_w < math.inf:
        raise ValueError(f"0 < {idle_w:g} W idle < {load_w:g} W under load cannot be: read again.")
    return {"idle_w": idle_w, "load_w": load_w, "cpus": os.cpu_count() or 1}


def _idle() -> dict[str, float]:
    """Idle watts of every counter at hand."""
    found, window = _watch(10)
    there = {name: energy for name, energy in found.items() if energy.measured}
    if not there:
        plug = "with a plug meter give its --idle-w 9 --load-w 31"
        raise ValueError(f"No counter to calibrate here (`energy show` says why); {plug}.")
    if (busy := window.busy / (window.seconds * (os.cpu_count() or 1))) > 0.1:
        raise ValueError(f"Other programs used {busy:.0%} of the CPUs. Close them and try again.")
    return {name: round(one.gross_energy_j / window.seconds, 3) for name, one in there.items()}


def _watch(seconds: float) -> tuple[dict[str, Energy], Window]:
    """What every source saw while this process slept. RuntimeError for a wrong setting."""
    sources("cpu")
    devices = {name: "cuda" if name == "nvml" else "cpu" for name in METERS if name != "none"}
    started = {name: start(devices[name], (name, "none"), host=False) for name in devices}
    close = open_window()
    time.sleep(seconds)
    window = close()
    return {name: finish(window) for name, finish in started.items()}, window


def _calibrated() -> str:
    found = calibration()
    parts = [f"{name} {watts:g} W idle" for name, watts in found.get("idle_w", {}).items()]
    if plug := found.get("wattmeter"):
        full = f"{plug['load_w']:g} W with {plug['cpus']} CPUs busy"
        parts.insert(0, f"plug meter {plug['idle_w']:g} W idle, {full}")
    told = f"{'; '.join(parts)} ({found.get('date')})"
    return told if parts else "none: python -m effml energy calibrate"
