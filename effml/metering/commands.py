"""`python -m effml energy`: which sources of energy this machine has, and telling effml what a plug meter shows."""

import argparse
import datetime
import json
import math
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from effml import machine
from effml.metering import METERS, sources
from effml.metering.declared import calibration, calibration_file
from effml.metering.window import (
    Energy,
    Finish,
    Window,
    machine_cpu_seconds,
    own_cpu_seconds,
    why,
)

_CALIBRATE = """Close other programs. Without numbers this measures, for 10 s, what the counters show when nothing runs.
With a plug meter: read it when nothing runs (--idle-w), then with all CPUs busy (--load-w), as with this in another window:
  python -c "import multiprocessing as m; m.Pool().map(sum, [range(10**10)] * m.cpu_count())"
On a laptop wait until the battery is full."""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the actions to the parser of `energy`; without one it shows."""
    actions = parser.add_subparsers(dest="action", metavar="action")
    parser.set_defaults(action="show")
    text = "the sources of energy, which one is used, and why not the others"
    actions.add_parser("show", help=text, description=text)
    text = "measure or tell the idle power of this machine"
    sub = actions.add_parser(
        "calibrate",
        help=text,
        description=text,
        epilog=_CALIBRATE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    sub.add_argument(
        "--idle-w", type=float, metavar="W", help="what a plug meter shows when nothing runs"
    )
    sub.add_argument("--load-w", type=float, metavar="W", help="what it shows with all CPUs busy")
    sub.add_argument("--cpus", type=int, help="logical CPUs which were busy (default: all)")
    sub.add_argument(
        "--seconds", type=float, default=10.0, help="of measuring, without numbers (default 10)"
    )


def main(given: argparse.Namespace) -> int:
    """Do what a parser with `add` was given. ValueError for nonsense."""
    try:
        return globals()[f"_{given.action}"](given)
    except RuntimeError as error:  # a setting that measure() would refuse as well
        raise ValueError(str(error)) from None


def facts() -> dict[str, str]:
    """What doctor prints: the source in use, the others and what they lack, the calibration."""
    found = _started()
    for finish in found.values():
        if callable(finish):
            with suppress(Exception):  # it only has to stop
                finish(Window(0, 0, 0))
    lacking = "; ".join(f"{name}: {text}" for name, text in found.items() if isinstance(text, str))
    return {
        "energy from": _used(found),
        "energy not from": lacking or "none",
        "energy calibration": _calibrated(),
    }


def _show(given: argparse.Namespace) -> int:
    found, window = _watch(1.1)
    for name, reading in found.items():
        if isinstance(reading, str):
            text = f"not here: {reading}"
        elif reading.measured:
            idle = f"{reading.idle_w:.3g} W" if reading.idle_w == reading.idle_w else "unknown"
            text = f"here: measured, {reading.gross_energy_j / window.seconds:.3g} W now, idle power {idle}"
        else:
            text = f"here: {reading.energy_source.partition(', ')[2]}"
        print(f"{name:16}{text}")
    print(f"{'in use':16}{_used(found)}\n{'calibration':16}{_calibrated()}")
    return 0


def _calibrate(given: argparse.Namespace) -> int:
    before = calibration()
    if given.idle_w is None and given.load_w is None:
        new = {"idle_w": {**before.get("idle_w", {}), **_idle(given.seconds)}}
    else:
        new = {"wattmeter": _plug(given.idle_w, given.load_w, given.cpus)}
    path = calibration_file()
    text = json.dumps(
        {
            **before,
            **new,
            "device_name": machine.cpu()[0],
            "date": datetime.date.today().isoformat(),
        },
        indent=1,
    )
    with machine.whole_file(path) as partial:
        partial.write_text(text + "\n", encoding="utf-8")
    print(
        f"Written to {path}: {_calibrated()}. Runs from now on use it; those in a store stay as they are."
    )
    return 0


def _plug(idle_w: float | None, load_w: float | None, cpus: int | None) -> dict[str, float]:
    there = os.cpu_count() or 1
    cpus = there if cpus is None else cpus
    if idle_w is None or load_w is None:
        raise ValueError(
            "Give both --idle-w and --load-w, as the plug meter showed them, or neither to measure the counters."
        )
    if not 0 < idle_w < load_w < math.inf:
        raise ValueError(
            f"--idle-w {idle_w:g} --load-w {load_w:g} cannot be: give watts above 0, and more under load than idle."
        )
    if not 1 <= cpus <= there:
        raise ValueError(f"--cpus {cpus} cannot be: this machine has {there}.")
    return {"idle_w": idle_w, "load_w": load_w, "cpus": cpus}


def _idle(seconds: float) -> dict[str, float]:
    """Idle watts of every counter at hand."""
    if not 1 < seconds <= 600:
        raise ValueError(f"--seconds {seconds:g} is not allowed: give more than 1 and at most 600.")
    found, window = _watch(seconds)
    idle = {
        name: round(reading.gross_energy_j / window.seconds, 3)
        for name, reading in found.items()
        if isinstance(reading, Energy) and reading.measured
    }
    if not idle:
        raise ValueError(
            "No counter to calibrate here (python -m effml energy says why). With a plug meter: python -m effml "
            "energy calibrate --idle-w 9 --load-w 31"
        )
    if (busy := window.busy / (window.seconds * (os.cpu_count() or 1))) > 0.1:
        raise ValueError(
            f"Other programs used {busy:.0%} of the CPUs, so this is not idle power. Close them and try again."
        )
    return idle


def _watch(seconds: float) -> tuple[dict[str, Energy | str], Window]:
    """What every source saw while this process slept, or what it lacks."""
    started, found = _started(), {}
    busy, own, start = machine_cpu_seconds(), own_cpu_seconds(), time.perf_counter()
    time.sleep(seconds)
    window = Window(
        time.perf_counter() - start, own_cpu_seconds() - own, machine_cpu_seconds() - busy
    )
    for name, finish in started.items():
        try:
            found[name] = finish(window) if callable(finish) else finish
        except Exception as error:
            found[name] = why(error)
    return found, window


def _started() -> dict[str, Finish | str]:
    """Every source, started; a text is what it lacks. RuntimeError for a wrong setting, before a
    thread starts."""
    sources("cpu")
    started: dict[str, Finish | str] = {}
    for name in METERS:
        try:
            started[name] = METERS[name]("cuda" if name == "nvml" else "cpu")
        except Exception as error:
            started[name] = why(error)
    del started["none"]
    return started


def _used(found: Mapping[str, Any]) -> str:
    names = [
        name for name in sources("cpu") if name in found and not isinstance(found[name], str)
    ] or ["none"]
    return names[0] + (
        ", with nvml for work on a GPU" if not isinstance(found["nvml"], str) else ""
    )


def _calibrated() -> str:
    found = calibration()
    plug, idle = found.get("wattmeter"), found.get("idle_w", {})
    parts = (
        [
            f"plug meter {plug['idle_w']:g} W idle, {plug['load_w']:g} W with {plug['cpus']} CPUs busy"
        ]
        if plug
        else []
    )
    parts += [f"{name} {watts:g} W idle" for name, watts in idle.items()]
    return (
        f"{'; '.join(parts)} ({found['date']})"
        if parts
        else "none: python -m effml energy calibrate"
    )
