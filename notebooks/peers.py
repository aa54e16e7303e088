"""Other meters beside ours on one and the same work: codecarbon, carbontracker, zeus.

For comparison only: no run uses them.

Each is a generator with three steps, so that each can be timed: start up (import, set up), start,
stop. The last step yields what the meter says. `metered` runs one of them in a process of its own,
because they start threads and keep state. No host name is resolved there: a class without a network
must not wait, and a measurement must tell nobody that it took place.
"""

import importlib.util
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from effml.machine import choose

Steps = Iterator[dict[str, Any]]


def _effml() -> Steps:
    from effml.metering import measure

    yield {}
    with measure() as cost:
        yield {}
    yield {
        "energy_j": cost.energy_j,
        "energy_low_j": cost.energy_low_j,
        "energy_high_j": cost.energy_high_j,
        "pue": 1.0,
        "source": cost.energy_source,
    }


def codecarbon_in(tracking_mode: str) -> Steps:
    """Without a counter: thermal design power (where the processor is unknown 4 W a thread) by
    load, and a constant for RAM."""
    from codecarbon import OfflineEmissionsTracker

    tracker = OfflineEmissionsTracker(
        country_iso_code="DNK",
        measure_power_secs=1,
        save_to_file=False,
        log_level="critical",
        allow_multiple_runs=True,
        tracking_mode=tracking_mode,
    )
    yield {}
    tracker.start()
    yield {}
    tracker.stop()
    said = tracker.final_emissions_data
    yield {
        "energy_j": said.energy_consumed * 3.6e6,
        "cpu_j": said.cpu_energy * 3.6e6,
        "ram_j": said.ram_energy * 3.6e6,
        "pue": float(said.pue),
        "source": f"codecarbon {version('codecarbon')}, {tracking_mode} mode",
    }


def _codecarbon() -> Steps:
    return codecarbon_in("machine")


def _codecarbon_process() -> Steps:
    return codecarbon_in("process")


def _carbontracker() -> Steps:
    """Without a counter: half the thermal design power of the processor whose name fits best,
    whatever its load; × PUE."""
    from carbontracker import constants
    from carbontracker.tracker import CarbonTracker

    tracker = CarbonTracker(epochs=1, epochs_before_pred=0, update_interval=1, verbose=0)
    thread = tracker.tracker  # the tracker forgets it when its last epoch ends
    yield {}
    tracker.epoch_start()
    yield {}
    tracker.epoch_end()
    joules, pue = float(thread.total_energy_per_epoch().sum()) * 3.6e6, constants.PUE_2023
    yield {
        "energy_j": joules,
        "cpu_j": joules / pue,
        "pue": pue,
        "source": f"carbontracker {version('carbontracker')}",
    }


def _zeus() -> Steps:
    """Counters only (RAPL, NVML and others); where there is none it says nothing, which is NaN
    here."""
    from zeus.monitor import ZeusMonitor

    monitor = ZeusMonitor()
    yield {}
    monitor.begin_window("work", sync_execution=False)
    yield {}
    said = monitor.end_window("work", sync_execution=False)
    joules = [
        *(said.cpu_energy or {}).values(),
        *(said.dram_energy or {}).values(),
        *said.gpu_energy.values(),
    ]
    yield {
        "energy_j": sum(joules) if joules else float("nan"),
        "pue": 1.0,
        "source": f"zeus {version('zeus')}" + ("" if joules else ", no counter here"),
    }


PEERS: dict[str, Callable[[], Steps]] = {
    "effml": _effml,
    "codecarbon": _codecarbon,
    "codecarbon process": _codecarbon_process,
    "carbontracker": _carbontracker,
    "zeus": _zeus,
}
"""Meters by name, ours among them."""


def lacking(name: str) -> str:
    """What to do about a meter that is not installed; empty if it is.

    ValueError for an unknown name.
    """
    package = choose("meter", name, PEERS).split()[0]
    return (
        ""
        if importlib.util.find_spec(package)
        else f"{package} is not installed: pip install -e '.[compare]'"
    )


def metered(
    name: str, work: str, *, setup: str = "", repeats: int = 1, rivals: int = 0, **environment: str
) -> list[dict[str, Any]]:
    """A row per repeat of the statement `work` under meter `name`, in a fresh process, after
    `setup` and one warm-up.

    With `rivals` each repeat is done twice in turn, alone and beside that many processes which are
    always busy. Beside what the meter says and how long its steps took, a row has `ours_j`: effml
    around exactly the same work, inside the other meter. RuntimeError if the process fails.
    """
    if lacking(name):
        raise RuntimeError(lacking(name))
    begin = (
        "import sys, time; t = time.perf_counter(); "
        f"sys.path.insert(0, {str(Path(__file__).parent)!r}); "
        "import peers; peers._child(time.perf_counter() - t)"
    )
    rows: list[dict[str, Any]] = []
    busy: list[subprocess.Popen] = []
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(
            [sys.executable, "-c", begin],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, **environment},
        ) as child,
    ):

        def tell(line: str) -> None:
            with suppress(BrokenPipeError):  # its exit status will say
                os.write(child.stdin.fileno(), f"{line}\n".encode())

        try:
            tell(json.dumps([name, setup, work, repeats, bool(rivals)]))
            for line in child.stdout:
                told = json.loads(line)
                if "rivals" not in told:
                    rows.append(told)
                    continue
                _end(busy)
                busy = [
                    subprocess.Popen([sys.executable, "-c", _RIVAL])
                    for _ in range(rivals * told["rivals"])
                ]
                tell("ready")
            if child.wait():
                errors.seek(0)
                raise RuntimeError(
                    f"The process of meter {name!r} failed:\n{errors.read()[-2000:]}"
                )
        finally:
            _end([*busy, child])
    return rows


_RIVAL = "import os; parent = os.getppid()\nwhile os.getppid() == parent: sum(range(10000))"


def _end(processes: list[subprocess.Popen]) -> None:
    for process in processes:
        process.kill()
        process.wait()


def _child(import_s: float) -> None:
    """The process of `metered`.

    Rivals are started by the parent: as children of this one they would count as its work.
    """
    from effml.metering import measure

    name, setup, work, repeats, loads = json.loads(sys.stdin.readline())
    out, names, asked = os.fdopen(os.dup(1), "w"), {}, []
    os.dup2(2, 1)  # whatever a meter prints

    def refuse(host: Any, *_: Any, **__: Any) -> None:
        asked.append(str(host))
        raise OSError(f"kept offline, {host} was not asked")

    socket.getaddrinfo = refuse
    exec(setup, names)
    run = compile(work, "work", "exec")
    exec(run, names)  # warm-up
    for repeat in range(repeats):
        for load in (False, True)[: 1 + loads]:
            if loads:
                print(json.dumps({"rivals": load}), file=out, flush=True)
                sys.stdin.readline()
                time.sleep(0.5)  # until they have started
            steps, times = PEERS[name](), []
            for step in ("startup", "start", "stop"):
                begun = time.perf_counter()
                said = next(steps)
                times.append((f"{step}_s", time.perf_counter() - begun))
                if step == "start":
                    with measure() as cost:
                        exec(run, names)
            row = {
                "meter": name,
                "load": load,
                "repeat": repeat,
                **dict(times),
                "seconds": cost.seconds,
                "ours_j": cost.energy_j,
                "others_cpu": cost.others_cpu,
                **said,
                "asked": ", ".join(sorted(set(asked))),
            }
            if name == "effml":
                row["startup_s"] += import_s if repeat == load == 0 else 0
            print(json.dumps(row), file=out, flush=True)
