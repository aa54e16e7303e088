"""Sources that measure: RAPL, NVML, a discharging battery. Each starts when called and returns what
stops it. Errors are the instrument's, not of what lies outside it (fans, power supply): against the
plug, the part above idle was off by up to 73 % (Fahad et al., Energies 12:2204, 2019).
"""

import os
import time
from functools import lru_cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any

from effml import machine
from effml.metering.counting import Sampler, counted, sampled, stood_still
from effml.metering.window import Energy, Finish, Unavailable, Window, joined, only_cpu, refuse

POWERCAP = Path("/sys/class/powercap")
POWER_SUPPLY = Path("/sys/class/power_supply")
POLL_S = 30.0
"""Seconds between readings of RAPL's counters: the smallest wrap around in 65 s at 1 kW."""
MOST_LAPTOP_W, MOST_GPU_W = 500.0, 2000.0  # USB-C gives 240 W; GPUs of 2025 are sold with 1.4 kW


def rapl(device: str) -> Finish:
    """Package and memory of every socket (Intel, and AMD without the memory), from Linux' powercap;
    not `psys`, which covers what the maker likes. Error ±10 %: Intel measures since Haswell
    (Hackenberg et al., IPDPSW 2015), but memory is off by a constant (Desrochers et al., MEMSYS
    2016), and AMD models (Schöne et al., arXiv 2108.00808). A package that stands still or begins
    anew is Unavailable; memory that stands still is left out."""
    only_cpu(device)
    zones = [Zone(path, wraps_at) for path, wraps_at in _zones(POWERCAP).items()]
    sampler = Sampler(lambda: [zone.read() for zone in zones], POLL_S)

    def joules() -> float:
        sampler.stop()
        return sum(zone.joules for zone in zones)

    most_w = len(zones) * most_watts()
    stop = counted("rapl", joules, shared=True, most_w=most_w, error=0.10, step_s=0.001)

    def finish(window: Window) -> Energy:
        energy = stop(window)
        for zone in [zone for zone in zones if not zone.joules]:
            name, text = zone.path.name, stood_still(window)
            refuse((zone.package, f"{name}: {text}"))
            energy.reason = joined(energy.reason, f"{name} (memory) is left out: {text}")
        return energy

    return finish


class Zone:
    """One counter of RAPL, and the joules it counted from the first reading on. It wraps around at
    `wraps_at` µJ."""

    def __init__(self, path: Path, wraps_at: int) -> None:
        self.path, self.wraps_at, self.joules = path, wraps_at, 0.0
        self.package = _text(path / "name").startswith("package")
        self._last = self._when = None

    def read(self) -> None:
        now, when, name = _number(self.path / "energy_uj"), time.monotonic(), self.path.name
        last, elapsed = (now, 0.0) if self._last is None else (self._last, when - self._when)
        moved, most = (now - last) % self.wraps_at * 1e-6, most_watts() * max(elapsed, 2 * POLL_S)
        end, still = self.wraps_at * 1e-6, self.package and not moved and elapsed > POLL_S / 2
        far = f"{name} went from {last * 1e-6:.6g} J to {now * 1e-6:.6g} J (its end: {end:.6g} J)"
        late = f"{name} was not read for {elapsed:.3g} s, enough to wrap around"
        refuse(
            (elapsed > 2 * POLL_S and most >= end, late),
            (moved > most, f"{far}: at most {most_watts():.3g} W can be drawn"),
            (still, f"{name} did not move in {elapsed:.3g} s"),
        )
        self.joules, self._last, self._when = self.joules + moved, now, when


def most_watts() -> float:
    """More than a package, or its memory, can draw: a desktop of 12 threads is sold with 142 W, a
    server of 16 with 180 W, and none with more than 500 W."""
    return min(200.0 + 15 * (os.cpu_count() or 1), 1000.0)


@lru_cache
def _zones(powercap: Path) -> dict[Path, int]:
    """The folder of each package and memory, and the µJ at which its counter wraps around. On AMD
    the dies of a package mirror one counter (mlco2/codecarbon#1274), on Intel each has its own."""
    found, amd = {}, "AMD" in machine.cpu()[0]
    for zone in sorted(powercap.glob("intel-rapl:*")):
        name = _text(zone / "name")
        if name.startswith("package"):
            found.setdefault(name.partition("-die-")[0] if amd else name, zone)
        elif name == "dram":
            found[zone.name] = zone
    packages = any(name.startswith("package") for name in found)
    refuse((not packages, f"{powercap} has no package (a virtual machine, or not Linux)"))
    ranges = {zone: _number(zone / "max_energy_range_uj") for zone in found.values()}
    for zone, end in ranges.items():
        refuse((end <= 0, f"{zone}/max_energy_range_uj is {end}, so where it wraps is unknown"))
    return ranges


def nvml(device: str) -> Finish:
    """One NVIDIA GPU with its memory and all programs on it: its counter of millijoules (Volta and
    newer), else its power every 100 ms. Error ±5 % (NVML's manual, which says it of Fermi and
    Kepler alone) and a step of 100 ms; A100 and H100 see a quarter of the time, so bursts may be
    off more (Yang et al., arXiv 2312.02741)."""
    refuse((not device.startswith("cuda"), "the work is not on a GPU"))
    pynvml, gpu = _gpu(device)

    def read(name: str, since: float = 0.0) -> float:
        try:
            return getattr(pynvml, name)(gpu) / 1000 - since
        except pynvml.NVMLError as error:
            raise Unavailable(f"NVML says: {error}") from None

    total = partial(read, "nvmlDeviceGetTotalEnergyConsumption")
    try:
        joules = partial(total, since=total())
    except Unavailable:  # before Volta
        joules = sampled(partial(read, "nvmlDeviceGetPowerUsage"), 0.1)
    return counted("nvml", joules, shared=False, most_w=MOST_GPU_W, error=0.05, step_s=0.1)


@lru_cache
def _gpu(device: str) -> tuple[ModuleType, Any]:
    try:
        import pynvml
    except ImportError:
        raise Unavailable("nvidia-ml-py is not installed: pip install nvidia-ml-py") from None
    try:
        pynvml.nvmlInit()
        import torch

        uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
        return pynvml, pynvml.nvmlDeviceGetHandleByUUID(uuid)
    except (pynvml.NVMLError, AssertionError, RuntimeError, AttributeError) as error:
        raise Unavailable(f"no NVIDIA GPU answers ({error})") from None


def battery(device: str) -> Finish:
    """The whole computer, screen included, while it runs on its battery alone (Linux): its power
    every second. Error ±5 %, assumed, and a step of 1 s."""
    cells = sorted(POWER_SUPPLY.glob("BAT*"))
    refuse((not cells, "none"))

    def watts() -> float:
        states = {_text(cell / "status") for cell in cells}
        refuse(("Discharging" not in states or "Charging" in states, "on the mains"))
        return sum(map(_watts, cells))

    limits = {"most_w": MOST_LAPTOP_W, "error": 0.05, "step_s": 1.0}
    return counted("battery", sampled(watts, 1.0), shared=device == "cpu", **limits)


def _watts(cell: Path) -> float:
    if (cell / "power_now").exists():
        return abs(_number(cell / "power_now")) * 1e-6  # some drivers say minus
    return abs(_number(cell / "current_now")) * _number(cell / "voltage_now") * 1e-12


def _number(path: Path) -> int:
    try:
        return int(_text(path))
    except ValueError:
        raise Unavailable(f"{path} holds no number") from None


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except PermissionError:
        cure = f"sudo chmod a+r {path.parent.parent}/*/{path.name}, after each boot"
        raise Unavailable(f"{path} may not be read: {cure}") from None
    except OSError as error:
        raise Unavailable(f"{path} cannot be read ({error.strerror})") from None
