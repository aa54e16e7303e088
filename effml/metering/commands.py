"""`python -m effml energy`: which sources of energy this machine has, and telling effml what a plug
meter shows."""

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

_BELOW = """\
Close other programs. Without options this measures, for 10 s, what the counters show when nothing
runs. With a plug meter: read it when nothing runs (--idle-w), then with all CPUs busy (--load-w),
as with this in another window:
  python -c "import multiprocessing as m; m.Pool().map(sum, [range(10**10)] * m.cpu_count())"
On a laptop wait until the battery is full."""

_ACTIONS = {
    "show": "the sources of energy, which one is used, and why not the others",
    "calibrate": "measure or tell the idle power of this machine",
}
_WATTS = {
    "--idle-w": "what a plug meter shows when nothing runs",
    "--load-w": "what it shows with all CPUs busy",
}


def add(parser: argparse.ArgumentParser) -> None:
    """Add the actions to the parser of `energy`; without one it shows."""
    actions = parser.add_subparsers(dest="action", metavar="action")
    parser.set_defaults(action="show")
    for name, text in _ACTIONS.items():
        sub = actions.add_parser(name, help=text, description=text)
    sub.epilog, sub.formatter_class = _BELOW, argparse.RawDescriptionHelpFormatter
    for name, text in _WATTS.items():
        sub.add_argument(name, type=float, metavar="W", help=text)


def main(given: argparse.Namespace) -> int:
    """Do what a parser with `add` was given. ValueError for nonsense."""
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
        print(f"{name:24}{text}")
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
        both = "Give both --idle-w and --load-w, as the plug meter showed them"
        raise ValueError(f"{both}, or neither to measure the counters.")
    if not 0 < idle_w < load_w < math.inf:
        told = f"--idle-w {idle_w:g} --load-w {load_w:g} cannot be"
        raise ValueError(f"{told}: give watts above 0, and more under load than idle.")
    return {"idle_w": idle_w, "load_w": load_w, "cpus": os.cpu_count() or 1}


def _idle() -> dict[str, float]:
    """Idle watts of every counter at hand."""
    found, window = _watch(10)
    there = {name: energy for name, energy in found.items() if energy.measured}
    if not there:
        raise ValueError(
            "No counter to calibrate here (python -m effml energy says why). With a plug meter: "
            "python -m effml energy calibrate --idle-w 9 --load-w 31"
        )
    if (busy := window.busy / (window.seconds * (os.cpu_count() or 1))) > 0.1:
        others = f"Other programs used {busy:.0%} of the CPUs"
        raise ValueError(f"{others}, so this is not idle power. Close them and try again.")
    return {name: round(one.gross_energy_j / window.seconds, 3) for name, one in there.items()}


def _watch(seconds: float) -> tuple[dict[str, Energy], Window]:
    """What every source saw while this process slept. RuntimeError for a wrong setting, before a
    source starts."""
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
